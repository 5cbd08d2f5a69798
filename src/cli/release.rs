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
use crate::agent::host::{self, Process};
use crate::config::AgentConfig;
use crate::config::agent::PostgresConfig;
use crate::model::observation::{NodeReport, ResourceState};
use crate::model::{NodeId, Span};

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
    /// Nodes that were released before, separated by commas.
    #[arg(long, value_delimiter = ',', value_name = "NODE")]
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
    super::runtime()?.block_on(async {
        let own = match hello(&config, &config.node.node_id, &config.node.agent_address).await {
            Ok(report) => report,
            Err(why) => {
                eprintln!("quorate: refused (agent): the agent here has to run: {why}");
                return Ok(Outcome::Refused);
            }
        };
        let look = look(&config, arguments, &own).await;
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

async fn look(config: &AgentConfig, arguments: &Arguments, own: &NodeReport) -> Look {
    let mut missing = vec![];
    let me = &config.node.node_id;
    let members: Vec<NodeId> = own.vote.members.iter().map(|m| m.node.clone()).collect();
    let released = |n: &NodeId| arguments.released.iter().any(|r| r == n.as_str());
    for name in arguments.released.iter().filter(|r| !members.iter().any(|m| m.as_str() == **r)) {
        missing.push(format!("{name} is not one of the voters"));
    }
    let (quorum, holds) = (members.len() / 2 + 1, own.holding.is_some());
    let owned: Vec<NodeId> = members.into_iter().filter(|n| !released(n)).collect();
    for node in config.cluster.nodes.iter().filter(|n| released(&n.node_id)) {
        let way = config.routes.get(&node.node_id).map(|route| route.agent.as_str());
        if hello(config, &node.node_id, way.unwrap_or_default()).await.is_ok() {
            missing.push(format!("{} is not released: its agent answers", node.node_id));
        }
    }
    if own.vote.voters == 0 {
        missing.push("it is in no cluster: stop its agent".into());
    }
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
        ResourceState::Standby
            if owned.len() <= quorum && !primary_is_released(config, arguments) =>
        {
            missing.push(format!(
                "the primary is next: {} voters are left, and it needs {quorum}; then name it with \
                 --released",
                owned.len()
            ));
        }
        ResourceState::Standby => {}
        ref other => missing.push(format!("its database is {}: wait", other.word())),
    }
    let holder = own.vote.holder.as_ref().map(|m| m.node.clone()).filter(|n| n != me);
    let primary = arguments.primary.as_deref().map(NodeId::from);
    let primary = primary.or_else(|| own.resource.receiving_from.clone()).or(holder);
    if !holds && primary.is_none() {
        missing.push("whose standby it is is not known: name it with --primary".into());
    }
    let role = if holds { "primary" } else { "standby" };
    Look { node: me.clone(), role, primary: primary.filter(|_| !holds), owned, quorum, missing }
}

/// Of those that are named as released, one that is no standby.
fn primary_is_released(config: &AgentConfig, arguments: &Arguments) -> bool {
    let primary = arguments.primary.as_deref();
    primary.is_some_and(|p| {
        arguments.released.iter().any(|r| r == p) && config.routes.contains_key(&NodeId::from(p))
    })
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
    let text = format!("released {}\n", host::wall().rfc3339());
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
    say!("its agent and its guard have ended");
    if host::postmaster(&postgres.data_dir).is_none() {
        eprintln!(
            "quorate: the server does not run any more: its lease ran out before. It is released; \
             start it as your own"
        );
        return Ok(Outcome::Critical);
    }
    match give_back(config, postgres, look.primary.as_ref()).await {
        Ok(done) => {
            for done in done {
                say!("{done}");
            }
            say!(
                "{} is released: a plain PostgreSQL in {}, and yours. Disable the agent's unit, \
                 and enable the server's own. To own it again: an empty {}",
                look.node,
                postgres.data_dir.display(),
                config.state_dir.display()
            );
            Ok(Outcome::Done)
        }
        Err(why) => {
            eprintln!(
                "quorate: {} is released, and its settings are not put back: {why}",
                look.node
            );
            Ok(Outcome::Unknown)
        }
    }
}
