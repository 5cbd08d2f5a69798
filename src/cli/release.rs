//! `quorate release`: from a server that quorate owns back to a plain PostgreSQL, without a stop.
//!
//! An agent that is released never votes again. So it is begun with standbys, as many as leave the
//! primary a majority; then the primary: those that are left are too few to elect anybody, whatever
//! they hear; then the rest. On each host the agent is made to stand still before its guard ends,
//! so that neither can end the database.

use std::path::PathBuf;

use clap::Args;
use color_eyre::Result;
use rustix::process::Signal;
use serde::Serialize;

use super::Outcome;
use super::adopt::hello;
use super::output::{self, Format, say};
use crate::agent::adapter::postgres::release::{RELEASED, give_back};
use crate::agent::adapter::postgres::session::Session;
use crate::agent::host::{self, Process};
use crate::config::AgentConfig;
use crate::config::agent::PostgresConfig;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::{Member, NodeId, Span};

/// A process that was killed is gone within this.
const GONE_WITHIN: Span = Span::secs(5);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's agent.yaml.
    #[arg(long)]
    config: PathBuf,
    /// Begin: the name of this node.
    #[arg(long, value_name = "NODE")]
    begin: Option<String>,
    /// Nodes that were released before, as their release says it: NODE=WORD, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NODE=WORD")]
    released: Vec<String>,
    /// Whose standby it is from now on, where its agent does not know.
    #[arg(long, value_name = "NODE")]
    primary: Option<String>,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// What is there.
#[derive(Debug, Serialize)]
struct Look {
    node: NodeId,
    /// `primary`, or `standby`.
    role: &'static str,
    /// Whose log a standby receives from now on.
    primary: Option<NodeId>,
    /// Voters of the newest set, this one included, that are not released.
    owned: Vec<NodeId>,
    /// How many of them elect a primary.
    quorum: usize,
    /// Why it is not begun; empty: nothing is in the way.
    missing: Vec<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let config = AgentConfig::read(&arguments.config)?;
    let Some(postgres) = config.postgres.clone() else {
        eprintln!(
            "quorate: refused (resource): {} has no database: stop its agent last",
            config.node.node_id
        );
        return Ok(Outcome::Refused);
    };
    if let Some(typed) = arguments.begin.as_ref().filter(|n| *n != config.node.node_id.as_str()) {
        eprintln!(
            "quorate: {typed:?} is not this node: it is {}; nothing was done",
            config.node.node_id
        );
        return Ok(Outcome::Usage);
    }
    if let Some(owner) = another_owner(&postgres) {
        eprintln!(
            "quorate: refused (user): run it as the owner of the data directory (id {owner})"
        );
        return Ok(Outcome::Refused);
    }
    super::runtime()?.block_on(async {
        let own = match hello(&config, &config.node.node_id, &config.node.agent_address).await {
            Ok(report) => report,
            Err(_) if arguments.begin.is_some() && config.state_dir.join(RELEASED).exists() => {
                // A release that was interrupted; no agent starts any more.
                let upstream = arguments.primary.as_deref().map(NodeId::from);
                return put_back(&config, &postgres, upstream.as_ref()).await;
            }
            Err(why) => {
                eprintln!("quorate: refused (agent): the agent here has to run: {why}");
                return Ok(Outcome::Refused);
            }
        };
        let look = look(&config, &postgres, arguments, &own).await;
        match Format::or_default(arguments.output) {
            Format::Json => output::json(&look),
            Format::Table => table(&look),
        }
        if !look.missing.is_empty() {
            return Ok(Outcome::Refused);
        }
        if arguments.begin.is_none() {
            return Ok(Outcome::Done);
        }
        begin(&config, &postgres, &own, &look).await
    })
}

/// Whose the data directory is, if not this user's.
fn another_owner(postgres: &PostgresConfig) -> Option<u32> {
    use std::os::unix::fs::MetadataExt as _;
    let owner = std::fs::metadata(&postgres.data_dir).ok()?.uid();
    (owner != rustix::process::geteuid().as_raw()).then_some(owner)
}

/// What a release says, and nobody else knows by heart: of this incarnation.
fn word(member: &Member) -> String {
    member.incarnation.to_string().chars().take(8).collect()
}

async fn look(
    config: &AgentConfig,
    postgres: &PostgresConfig,
    arguments: &Arguments,
    own: &NodeReport,
) -> Look {
    let mut missing = vec![];
    let me = &config.node.node_id;
    let members = &own.vote.members;
    let mut released = vec![];
    for said in &arguments.released {
        let named = |m: &&Member| *said == format!("{}={}", m.node, word(m));
        match members.iter().find(named) {
            Some(member) => released.push(member.node.clone()),
            None => missing.push(format!("{said} is not what the release of a voter says")),
        }
    }
    let (quorum, holds) = (members.len() / 2 + 1, own.holding.is_some());
    let owned: Vec<NodeId> =
        members.iter().map(|m| m.node.clone()).filter(|n| !released.contains(n)).collect();
    // Who answers, and so can go on promising: this one's place is taken by nobody.
    let mut answering = 0;
    for node in config.cluster.nodes.iter().filter(|n| n.node_id != *me) {
        let way = config.routes.get(&node.node_id).map(|route| route.agent.as_str());
        let heard = hello(config, &node.node_id, way.unwrap_or_default()).await;
        let votes = heard.as_ref().is_ok_and(|r| r.vote.votes);
        answering += usize::from(votes);
        if heard.is_ok() && released.contains(&node.node_id) {
            missing.push(format!("{} is not released: its agent answers", node.node_id));
        }
    }
    if own.vote.voters == 0 {
        missing.push("it is in no cluster: stop its agent".into());
    }
    let holder = own.vote.holder.as_ref().map(|m| m.node.clone()).filter(|n| n != me);
    let named = arguments.primary.as_deref().map(NodeId::from);
    let primary = named.or_else(|| own.resource.receiving_from.clone()).or(holder);
    match own.resource.state {
        ResourceState::Primary if holds => {
            if owned.len() > quorum {
                let more = owned.len() - quorum;
                missing.push(format!(
                    "{more} of its standbys have to be released before it, and named with \
                     --released: the others could still elect another primary"
                ));
            }
        }
        // Once the primary is its owner's, nobody needs a majority any more.
        ResourceState::Standby if primary.as_ref().is_some_and(|p| released.contains(p)) => {}
        ResourceState::Standby if answering < quorum => missing.push(format!(
            "the primary is next: without this node {answering} voters answer, and its lease needs \
             {quorum}; once it is released, name it with --released"
        )),
        ResourceState::Standby => {}
        ref other => missing.push(format!("its database is {}: wait", other.word())),
    }
    match &primary {
        _ if holds => {}
        None => missing.push("whose standby it is is not known: name it with --primary".into()),
        Some(p) if !config.routes.contains_key(p) => {
            missing.push(format!("no way to {p} is configured"));
        }
        Some(_) => {}
    }
    if let Err(error) = Session::connect(postgres).await {
        missing.push(format!(
            "its server does not let {} in by the socket in {}: {error}",
            postgres.user,
            postgres.socket_dir.display()
        ));
    }
    let command = host::processes::command_of(own.pids.agent);
    if !command.contains("agent") {
        missing.push(format!(
            "process {} is {command:?} here, and no agent: run it where the agent runs",
            own.pids.agent
        ));
    }
    let role = if holds { "primary" } else { "standby" };
    Look { node: me.clone(), role, primary: primary.filter(|_| !holds), owned, quorum, missing }
}

fn table(look: &Look) {
    let of = look.primary.as_ref().map_or(String::new(), |p| format!(" of {p}"));
    say!("{}  a {}{of}", look.node, look.role);
    let names: Vec<&str> = look.owned.iter().map(NodeId::as_str).collect();
    say!("  not released yet: {} ({} of them elect a primary)", names.join(", "), look.quorum);
    for missing in &look.missing {
        say!("missing: {missing}");
    }
    if look.missing.is_empty() {
        say!(
            "nothing is missing. It begins with: quorate release --config … --begin {}\n  (the \
             server goes on; from then on nothing here fails over, fences or votes)",
            look.node
        );
    }
}

async fn begin(
    config: &AgentConfig,
    postgres: &PostgresConfig,
    own: &NodeReport,
    look: &Look,
) -> Result<Outcome> {
    let mark = config.state_dir.join(RELEASED);
    let refuse = |what: String| {
        eprintln!("quorate: {what}; nothing was released");
        Ok(Outcome::NotDone)
    };
    let Some(agent) = Process::of(own.pids.agent) else {
        return refuse(format!("the agent (process {}) does not run here", own.pids.agent));
    };
    // Before anything ends: whoever starts the agent again must not take the server back.
    let word = word(&own.member);
    let text = format!("{}; its word: {word}\n", host::wall().rfc3339());
    if let Err(error) = host::write_durably(&mark, &text) {
        return refuse(format!("{}: {error}", mark.display()));
    }
    // What stands still neither ends the database nor starts another guard.
    host::signal(agent.pid, Signal::STOP);
    let guard = own.pids.guard.and_then(Process::of);
    for process in guard.iter().chain([&agent]) {
        host::signal(process.pid, Signal::KILL);
        let began = host::now();
        while process.still_runs() && host::now().since(began) < GONE_WITHIN {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        if process.still_runs() {
            host::signal(agent.pid, Signal::CONT);
            let _ = std::fs::remove_file(&mark);
            return refuse(format!("process {} survives SIGKILL (another user's?)", process.pid));
        }
    }
    say!(
        "its agent and its guard have ended; what names it to the next release is kept in {}",
        mark.display()
    );
    if host::postmaster(&postgres.data_dir).is_none() {
        eprintln!(
            "quorate: the server does not run any more. {0} is released (--released {0}={word}); \
             start it as your own",
            look.node
        );
        return Ok(Outcome::NotDone);
    }
    let done = put_back(config, postgres, look.primary.as_ref()).await?;
    say!("to the next release it is named with: --released {}={word}", look.node);
    Ok(done)
}

/// Its settings are its owner's again.
async fn put_back(
    config: &AgentConfig,
    postgres: &PostgresConfig,
    upstream: Option<&NodeId>,
) -> Result<Outcome> {
    let node = &config.node.node_id;
    match give_back(config, postgres, upstream).await {
        Ok(done) => {
            for done in done {
                say!("{done}");
            }
            say!(
                "{node} is released: a plain PostgreSQL in {}, and yours. Disable the agent's unit, \
                 and enable the server's own. To own it again: an empty {}",
                postgres.data_dir.display(),
                config.state_dir.display()
            );
            Ok(Outcome::Done)
        }
        Err(why) => {
            eprintln!(
                "quorate: {node} is released, and its settings are not put back: {why}; the same \
                 command tries again (with --primary, where it is a standby)"
            );
            Ok(Outcome::Unknown)
        }
    }
}
