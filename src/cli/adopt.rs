//! `quorate adopt`: from a PostgreSQL that runs without quorate to one that it owns.
//!
//! Agents that are started on such hosts stand beside their servers and touch nothing. This command,
//! on each host, says what is there and what is missing; on the primary's, with the node's name typed,
//! it begins: the server is stopped cleanly once, and the agents do the rest.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;
use serde::Serialize;

use super::Outcome;
use super::doctor::{self, Finding, Verdict};
use super::output::{self, Format, say};
use crate::agent::adapter::postgres::session::Session;
use crate::agent::adapter::postgres::sql;
use crate::agent::beside::BEGUN;
use crate::agent::host;
use crate::config::AgentConfig;
use crate::config::agent::PostgresConfig;
use crate::model::observation::NodeReport;
use crate::model::topology::Role;
use crate::model::{NodeId, Span};
use crate::wire::Client;
use crate::wire::message::{PeerMessage, PeerReply};

/// The role is here within this time, or somebody looks.
const BEGIN_MAX: Span = Span::secs(120);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's agent.yaml.
    #[arg(long)]
    config: PathBuf,
    /// Begin, on the primary's host: the name of this node. Its server is stopped cleanly once.
    #[arg(long, value_name = "NODE")]
    begin: Option<String>,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// What is there.
#[derive(Debug, Serialize)]
struct Look {
    node: NodeId,
    /// `primary`, `standby`; empty: no server runs.
    server: &'static str,
    /// Who receives its log, and how.
    streams: Vec<String>,
    /// What the cluster's agents say of themselves.
    agents: Vec<String>,
    /// Settings and the like, as `quorate doctor` finds them.
    findings: Vec<Finding>,
    /// What has to be done before it can begin; empty: nothing.
    missing: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let config = AgentConfig::read(&arguments.config)?;
    let Some(postgres) = config.postgres.clone() else {
        eprintln!("quorate: refused (resource): {} has no database to adopt", config.node.node_id);
        return Ok(Outcome::Refused);
    };
    if let Some(typed) = arguments.begin.as_ref().filter(|n| *n != config.node.node_id.as_str()) {
        eprintln!(
            "quorate: {typed:?} is not this node: it is {}; nothing was done",
            config.node.node_id
        );
        return Ok(Outcome::Usage);
    }
    super::runtime()?.block_on(async {
        let look = look(&config, &postgres).await;
        match Format::or_default(arguments.output) {
            Format::Json => output::json(&look),
            Format::Table => table(&config, &look),
        }
        if !look.missing.is_empty() {
            return Ok(Outcome::Refused);
        }
        if arguments.begin.is_some() { begin(&config, &postgres).await } else { Ok(Outcome::Done) }
    })
}

async fn look(config: &AgentConfig, postgres: &PostgresConfig) -> Look {
    let findings = doctor::look(config).await;
    let mut missing = vec![];
    let server = match host::postmaster(&postgres.data_dir) {
        None => "",
        Some(_) if postgres.data_dir.join("standby.signal").exists() => "standby",
        Some(_) => "primary",
    };
    let founder = config.node.role == Role::Primary;
    match (server, founder) {
        ("", _) => missing.push(format!(
            "no PostgreSQL runs in {}: there is nothing to adopt; the agent starts what is there",
            postgres.data_dir.display()
        )),
        ("primary", false) | ("standby", true) => missing.push(format!(
            "it is a {server}, and cluster.yaml says role: {}",
            config.node.role.word()
        )),
        _ => {}
    }
    let streams = match streams(postgres).await {
        Ok(streams) => streams,
        Err(error) => {
            missing.push(format!(
                "{} cannot connect as {} by the socket in {}: {error}",
                whoami(),
                postgres.user,
                postgres.socket_dir.display()
            ));
            vec![]
        }
    };
    for finding in findings.iter().filter(|f| f.about == "starters") {
        if finding.verdict == Verdict::Wrong {
            missing.push(format!("{}: {}", finding.name, finding.advice));
        }
    }
    let mut agents = vec![];
    let mut beside = 0;
    for node in &config.cluster.nodes {
        let own = node.node_id == config.node.node_id;
        let route = config.routes.get(&node.node_id).map(|route| route.agent.as_str());
        let address = if own { node.agent_address.as_str() } else { route.unwrap_or_default() };
        match hello(config, &node.node_id, address).await {
            Ok(report) => {
                let waits = report.beside.as_str();
                beside += usize::from(!own && waits == "standby");
                agents.push(format!("{}: {}", node.node_id, in_words(&report)));
                let fits = match node.role {
                    Role::Primary => waits == "primary",
                    Role::Secondary => {
                        waits == "standby" || waits.is_empty() && report.data.system.is_none()
                    }
                    Role::Witness => true,
                };
                if report.vote.voters > 0 {
                    missing.push(format!("{} is in a cluster already", node.node_id));
                } else if !fits {
                    missing.push(format!(
                        "{} does not stand beside a running {}: {}",
                        node.node_id,
                        if node.role == Role::Primary { "primary" } else { "standby" },
                        in_words(&report)
                    ));
                }
            }
            Err(why) => {
                agents.push(format!("{}: {why}", node.node_id));
                missing.push(format!("the agent of {} has to run: {why}", node.node_id));
            }
        }
    }
    let streaming = streams.iter().filter(|s| s.split(' ').any(|w| w == "streaming")).count();
    let wanted = config.cluster.synchronous_standbys;
    if server == "primary" && streaming < wanted {
        missing.push(format!(
            "commits would wait for {wanted} standbys, and {streaming} stream: make the others \
             copies first (pg_basebackup), or begin with synchronous_standbys: {streaming}"
        ));
    }
    if let Some(other) = another_address(postgres) {
        missing.push(other);
    }
    if server == "primary" && streaming < beside {
        missing.push(format!(
            "{streaming} of {beside} standbys stream from here: a clean stop would leave the others behind"
        ));
    }
    Look { node: config.node.node_id.clone(), server, streams, agents, findings, missing }
}

/// The server that runs in the data directory listens where agent.yaml says, by its own file.
fn another_address(postgres: &PostgresConfig) -> Option<String> {
    let text = std::fs::read_to_string(postgres.data_dir.join("postmaster.pid")).ok()?;
    let (port, socket) = (text.lines().nth(3)?.trim(), text.lines().nth(4)?.trim());
    (port != postgres.port.to_string() || !postgres.is_socket_dir(socket)).then(|| {
        format!(
            "the server in {} has port {port} and its socket in {socket}, and cluster.yaml says \
             postgres_port: {}, agent.yaml socket_dir: {}",
            postgres.data_dir.display(),
            postgres.port,
            postgres.socket_dir.display()
        )
    })
}

fn whoami() -> String {
    format!("this user (id {})", rustix::process::geteuid().as_raw())
}

async fn streams(postgres: &PostgresConfig) -> Result<Vec<String>, sql::LookError> {
    let client = Session::connect(postgres).await?;
    let asked = "SELECT concat_ws(' ', application_name, host(client_addr), state, sync_state) \
                 FROM pg_stat_replication WHERE state IS NOT NULL ORDER BY 1";
    let rows = client.query(asked, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

pub(super) async fn hello(
    config: &AgentConfig,
    node: &NodeId,
    address: &str,
) -> Result<NodeReport, String> {
    let client =
        Client::new(address, node.as_str(), &config.tls).map_err(|refused| refused.to_string())?;
    match client.exchange(&PeerMessage::Hello).await {
        Ok(PeerReply::Hello(hello)) => {
            hello.report.map(|report| *report).ok_or_else(|| "it has just started".into())
        }
        Ok(_) => Err("it answered something else".into()),
        Err(refused) => Err(refused.to_string()),
    }
}

fn in_words(report: &NodeReport) -> String {
    match (report.beside.as_str(), report.vote.voters) {
        ("", 0) if report.resource.kind == "none" => "a witness, waits".into(),
        ("", 0) => "waits; no server runs that it does not own".into(),
        ("", _) => "is in a cluster".into(),
        ("stopped", _) => "stands beside a server that its owner stopped".into(),
        (role, _) => format!("stands beside a running {role}, untouched"),
    }
}

fn table(config: &AgentConfig, look: &Look) {
    let server = if look.server.is_empty() { "does not run" } else { look.server };
    say!("{}  PostgreSQL: {server}  (cluster {})", look.node, config.cluster.cluster_id);
    for stream in &look.streams {
        say!("  streams to  {stream}");
    }
    for agent in &look.agents {
        say!("  agent of    {agent}");
    }
    say!("");
    say!("what it would hold and overrule; fixed values change with the server's next start:");
    doctor::table(&look.findings);
    say!("");
    for missing in &look.missing {
        say!("missing: {missing}");
    }
    if look.missing.is_empty() {
        match config.node.role {
            Role::Primary => say!(
                "nothing is missing. It begins with: quorate adopt --config … --begin {}\n  \
                 (a checkpoint, one clean stop and start of every server, the primary's first; \
                 writes wait a moment)",
                look.node
            ),
            Role::Secondary | Role::Witness => {
                say!("nothing is missing here. It begins on the primary's host");
            }
        }
    }
}

/// A clean stop: what was acknowledged is on the standbys that stream, and the agents begin.
async fn begin(config: &AgentConfig, postgres: &PostgresConfig) -> Result<Outcome> {
    if config.node.role != Role::Primary {
        eprintln!("quorate: refused (role): it begins on the host of the primary");
        return Ok(Outcome::Refused);
    }
    let Some(server) = host::postmaster(&postgres.data_dir) else {
        eprintln!("quorate: refused (server): it does not run any more");
        return Ok(Outcome::Refused);
    };
    let client = Session::connect(postgres).await?;
    // What has to be written is written before writes stop.
    client.execute_unbounded("CHECKPOINT").await?;
    drop(client);
    // From here on its end is not its owner's any more, however it ends.
    let mark = config.state_dir.join(BEGUN);
    host::write_durably(&mark, "").map_err(|e| eyre!("{}: {e}", mark.display()))?;
    let began = host::now();
    host::signal(server, rustix::process::Signal::INT);
    while host::now().since(began) < BEGIN_MAX {
        if host::postmaster(&postgres.data_dir).is_some_and(|pid| pid != server)
            && takes_writes(postgres).await
        {
            let took = host::now().since(began);
            eprintln!(
                "{} is owned: its agent holds the write role; it took no writes for {took}",
                config.node.node_id
            );
            return Ok(Outcome::Done);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    eprintln!(
        "quorate: the server was told to stop, and after {BEGIN_MAX} it takes no writes: look at \
         `quorate status`, and at the agents' logs"
    );
    Ok(Outcome::Unknown)
}

async fn takes_writes(postgres: &PostgresConfig) -> bool {
    let Ok(client) = Session::connect(postgres).await else { return false };
    let asked = client.query_one("SELECT pg_is_in_recovery()", &[]).await;
    asked.is_ok_and(|row| !row.get::<_, bool>(0))
}
