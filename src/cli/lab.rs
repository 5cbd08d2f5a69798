//! `quorate lab`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use clap::{Args, Subcommand};
use color_eyre::Result;

use super::{Outcome, output::say};
use crate::agent::adapter::postgres::{ProgramError, Programs};
use crate::lab::load;
use crate::lab::{Lab, Options, What, measure, net};
use crate::model::topology::Strategy;
use crate::picture::SIMULATED;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The lab's folder.
    #[arg(long, global = true, default_value = "/tmp/quorate-lab")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a lab and wait until it takes writes.
    Up {
        /// How many nodes.
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        /// Regions that the nodes are spread over.
        #[arg(long, default_value_t = 1)]
        regions: usize,
        /// Commits wait for one standby (the default).
        #[arg(long, conflicts_with = "asynchronous")]
        sync: bool,
        /// Commits wait for no standby.
        #[arg(long = "async", id = "asynchronous")]
        asynchronous: bool,
        /// The write lease.
        #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
        lease: Duration,
        /// A person decides.
        #[arg(long)]
        manual: bool,
        /// Without a plane.
        #[arg(long)]
        no_plane: bool,
        /// Simulated databases, as where no PostgreSQL is.
        #[arg(long)]
        simulated: bool,
        /// The folder with PostgreSQL's programs (`…/bin`).
        #[arg(long, value_name = "DIR", conflicts_with = "simulated")]
        postgres: Option<PathBuf>,
    },
    /// Show every node.
    Status {
        /// `json` for tools.
        #[arg(long, default_value = "table")]
        output: String,
    },
    /// Insert numbered rows and count what is lost.
    Load {
        /// For how long.
        #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
        time: Duration,
        /// `json` for tools.
        #[arg(long, default_value = "table")]
        output: String,
    },
    /// Do the same thing to the primary again and again under load, and report the write outages.
    Measure {
        /// What.
        #[arg(value_enum)]
        event: measure::Event,
        /// How often.
        #[arg(long, default_value_t = 20)]
        runs: usize,
        /// The same in turn on two servers without any manager, and the ratio.
        #[arg(long)]
        floor: bool,
        /// `json` for tools.
        #[arg(long, default_value = "table")]
        output: String,
    },
    /// Kill (SIGKILL) a part of a node.
    Kill {
        /// Which node, or `plane`.
        node: String,
        /// Which part.
        #[arg(long, value_enum, default_value = "postgres")]
        what: What,
    },
    /// Freeze (SIGSTOP) a part of a node.
    Freeze {
        /// Which node.
        node: String,
        /// Which part.
        #[arg(long, value_enum, default_value = "agent")]
        what: What,
    },
    /// Stop all traffic of the agents and of replication to and from a node.
    Cut {
        /// Which node.
        node: String,
    },
    /// Mend a node: its network, a frozen process, a dead agent.
    Heal {
        /// Which node, or `plane`.
        node: String,
    },
    /// End every process of the lab and remove its folder.
    Down {
        /// Keep the folder.
        #[arg(long)]
        keep: bool,
    },
    /// The proxy between the nodes (started by `up`).
    #[command(hide = true)]
    Net,
}

pub(super) fn run(arguments: Arguments) -> Result<Outcome> {
    let dir = arguments.dir;
    match arguments.command {
        Command::Up {
            nodes,
            regions,
            asynchronous,
            lease,
            manual,
            no_plane,
            simulated,
            postgres,
            sync: _,
        } => {
            let options = Options {
                nodes,
                regions,
                synchronous_standbys: usize::from(!asynchronous),
                lease_ms: u64::try_from(lease.as_millis())?,
                strategy: if manual { Strategy::Manual } else { Strategy::Automatic },
                plane: !no_plane,
                simulated: simulated || (postgres.is_none() && must_simulate()?),
                postgres: postgres.map(|p| p.canonicalize()).transpose()?,
                ..Options::default()
            };
            let lab = Lab::create(&dir, options, &std::env::current_exe()?, |step| {
                eprintln!("  {step}")
            })?;
            eprintln!("  waiting until it takes writes");
            super::runtime()?
                .block_on(lab.target().prepare(Duration::from_secs(60)))
                .map_err(color_eyre::eyre::Error::msg)?;
            say!("The lab in {} takes writes.", lab.dir().display());
            for n in lab.status() {
                let (host, postgres, http) = (n.host, n.postgres_port, n.http_address);
                say!("{:<8} postgres {host}:{postgres}  routers http://{http}/primary", n.node_id);
            }
        }
        Command::Status { output } => status(&Lab::open(&dir)?, &output)?,
        Command::Load { time, output } => {
            let lab = Lab::open(&dir)?;
            let target = lab.target();
            let report = super::runtime()?.block_on(async {
                target.prepare(Duration::from_secs(30)).await?;
                let stop = Arc::new(AtomicBool::new(false));
                let end = Arc::clone(&stop);
                tokio::spawn(async move {
                    tokio::select! {
                        () = tokio::time::sleep(time) => {}
                        _ = tokio::signal::ctrl_c() => {}
                    }
                    end.store(true, std::sync::atomic::Ordering::SeqCst);
                });
                Ok::<_, String>(load::run(&target, stop, Arc::new(AtomicU64::new(0))).await)
            });
            let report = report.map_err(color_eyre::eyre::Error::msg)?;
            if output == "json" {
                say!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                say!("acknowledged    {:>10}", report.acknowledged);
                say!("failed          {:>10}", report.failed);
                say!("unknown         {:>10}", report.unknown);
                match report.unverified.as_str() {
                    "" => say!("lost            {:>10}", report.lost),
                    why => say!("lost               unknown: {why}"),
                }
                say!("longest outage  {:>10.1} ms", report.longest_outage_ms);
                say!("overlaps        {:>10}", report.overlaps);
            }
        }
        Command::Measure { event, runs, floor, output } => {
            let mut lab = Lab::open(&dir)?;
            let said = |i: usize, r: &load::Report| {
                eprintln!(
                    "  run {i}: outage {:.1} ms, lost {}, overlaps {}",
                    r.longest_outage_ms, r.lost, r.overlaps
                )
            };
            let figures =
                super::runtime()?.block_on(measure::run(&mut lab, event, runs, floor, said))?;
            if output == "json" {
                super::output::json(&figures);
            } else {
                let best = figures.outages_ms.first().copied().unwrap_or(0.0);
                say!(
                    "{event:?}: outage median {:.0} ms [{best:.0}–{:.0}] over {} runs; \
                        acknowledged {}, lost {}, failed {}, unknown {}, overlaps {}, not counted \
                        {}",
                    figures.median_ms,
                    figures.worst_ms,
                    figures.outages_ms.len(),
                    figures.acknowledged,
                    figures.lost,
                    figures.failed,
                    figures.unknown,
                    figures.overlaps,
                    figures.unverified
                );
                if !figures.floors_ms.is_empty() {
                    say!(
                        "without any manager: median {:.0} ms over {} runs in turn with these; \
                            {:.2} times the floor",
                        figures.floor_median_ms,
                        figures.floors_ms.len(),
                        figures.median_ms / figures.floor_median_ms
                    );
                }
            }
        }
        Command::Kill { node, .. } if node == "plane" => Lab::open(&dir)?.kill_plane()?,
        Command::Kill { node, what } => say!("killed {:?}", Lab::open(&dir)?.kill(&node, what)?),
        Command::Freeze { node, what } => {
            say!("froze {:?}", Lab::open(&dir)?.freeze(&node, what, true)?)
        }
        Command::Cut { node } => Lab::open(&dir)?.cut(&node)?,
        Command::Heal { node } if node == "plane" => Lab::open(&dir)?.start_plane()?,
        Command::Heal { node } => Lab::open(&dir)?.heal(&node)?,
        Command::Down { keep } => Lab::open(&dir)?.down(keep)?,
        Command::Net => {
            let links = serde_json::from_str(&std::fs::read_to_string(dir.join("links.json"))?)?;
            super::runtime()?.block_on(net::run(&dir, links))?;
        }
    }
    Ok(Outcome::Done)
}

/// Whether a lab here can only have simulated databases; why is said aloud.
pub(super) fn must_simulate() -> Result<bool> {
    match Programs::find(None) {
        Ok(_) => Ok(false),
        Err(error @ (ProgramError::Missing(_) | ProgramError::Unsupported { .. })) => {
            eprintln!("quorate: {error}. Until then the lab's databases are simulated");
            Ok(true)
        }
        Err(error) => Err(error.into()),
    }
}

fn status(lab: &Lab, output: &str) -> Result<()> {
    let nodes = lab.status();
    if output == "json" {
        let plane = serde_json::json!({"address": lab.plane_address(), "pid": lab.plane_pid()});
        let document = serde_json::json!({
            "dir": lab.dir(), "plane": plane, "identity": lab.identity("operator"), "options": lab.state.options, "nodes": nodes,
        });
        say!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    if lab.state.options.simulated {
        say!("{SIMULATED}");
    }
    let plane = lab.plane_pid().map_or("not running".to_owned(), |pid| format!("pid {pid}"));
    say!("plane    {}  {plane}", lab.plane_address());
    for n in nodes {
        let pid = |p: Option<u32>| p.map_or("-".to_owned(), |p| p.to_string());
        say!(
            "{:<8} {:<8} postgres {}:{} (pid {})  agent {} (pid {})  routers http://{}  guard \
                {}{}",
            n.node_id,
            n.role,
            n.host,
            n.postgres_port,
            pid(n.pids.postmaster),
            n.agent_address,
            pid(Some(n.pids.agent).filter(|p| *p > 0)),
            n.http_address,
            pid(n.pids.guard),
            if n.cut { "  CUT" } else { "" }
        );
    }
    Ok(())
}
