//! A simulated database, for trying the lab where no PostgreSQL is: a real process that can be
//! killed, frozen and cut, with a log position that grows and is copied by its standbys. It holds
//! no data and proves nothing about any.

pub mod database;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{ONE_WRITER, Port, Seen};
use crate::agent::host;
use crate::agent::machine::{Goal, Resource};
use crate::config::agent::{PostgresConfig, Route};
use crate::model::observation::{
    ResourceFacts, ResourceState, StandbyFacts, StopEvidence, WriteProof,
};
use crate::model::{Lsn, NodeId, Position, Span, TimelineHistory};
use database::Status;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);

struct Driver {
    me: NodeId,
    config: PostgresConfig,
    routes: BTreeMap<NodeId, Route>,
    out: tokio::sync::mpsc::Sender<Seen>,
    exit: Option<(u32, watch::Receiver<bool>)>,
    resource: Resource,
    facts: ResourceFacts,
    following: Option<NodeId>,
}

/// Runs until the runtime goes away.
pub async fn run(
    me: NodeId,
    config: PostgresConfig,
    routes: BTreeMap<NodeId, Route>,
    mut port: Port,
) {
    let facts = ResourceFacts {
        kind: "sim".into(),
        version: "simulated".into(),
        since: host::wall(),
        ..ResourceFacts::default()
    };
    let mut driver = Driver {
        me,
        config,
        routes,
        out: port.seen,
        exit: None,
        resource: Resource::default(),
        facts,
        following: None,
    };
    loop {
        let (id, goal) = port.goal.borrow_and_update().clone();
        tokio::select! {
            biased;
            changed = port.goal.changed() => if changed.is_err() { return },
            () = driver.pursue(id, &goal, &mut port.prove) => {}
        }
    }
}

impl Driver {
    async fn pursue(&mut self, id: u64, goal: &Goal, prove: &mut watch::Receiver<String>) {
        loop {
            if id > 0 {
                match self.reach(goal).await {
                    Ok(()) => {
                        self.resource.settled = id;
                        (self.resource.failure, self.facts.trouble) =
                            (String::new(), String::new());
                    }
                    Err(why) => {
                        self.facts.trouble.clone_from(&why);
                        self.resource.failure = why;
                    }
                }
            }
            self.look().await;
            tokio::select! {
                biased;
                () = gone(self.exit.as_ref()) => {
                    self.stop("found dead");
                    self.look().await;
                    if matches!(goal, Goal::Primary { .. } | Goal::Stopped(_)) {
                        std::future::pending::<()>().await;
                    }
                }
                changed = prove.changed() => if changed.is_ok() && let Goal::Primary { epoch, .. } = goal {
                    self.facts.proof = Some(WriteProof {
                        epoch: *epoch, took: Span::millis(1), at: host::wall(),
                        asked: prove.borrow_and_update().clone(),
                    });
                },
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn reach(&mut self, goal: &Goal) -> Result<(), String> {
        match goal {
            Goal::Stopped(_) => {
                self.stop("kill");
                Ok(())
            }
            Goal::Standby { upstream, may_init } => {
                let clonable = upstream.as_ref().is_some_and(|u| u.history.is_some());
                if !database::has_data(&self.config.data_dir) && !may_init && !clonable {
                    return Ok(());
                }
                self.start().await?;
                self.say("standby").await?;
                self.following = None;
                if let Some(upstream) = upstream {
                    let status = self.status().await?;
                    let position = Position { timeline: status.timeline, lsn: Lsn(status.lsn) };
                    if let Some(history) =
                        upstream.history.as_ref().filter(|h| !h.continues(position))
                    {
                        let (timeline, at) =
                            history.left.last().copied().unwrap_or((history.timeline, Lsn(0)));
                        self.say(&format!("set {timeline} {}", at.0)).await?;
                    }
                    let route =
                        self.routes.get(&upstream.node).ok_or("no way to it is configured")?;
                    self.say(&format!("follow {} {}", route.postgres, self.me)).await?;
                    self.following = Some(upstream.node.clone());
                } else {
                    self.say("cut").await?;
                }
                self.resource.stopped = None;
                Ok(())
            }
            Goal::Sharing { .. } => Err(ONE_WRITER.into()),
            Goal::Primary { epoch, .. } => {
                if self.exit.is_none() {
                    return Err("the simulated database is not running".into());
                }
                self.following = None;
                self.say(&format!("primary {epoch}")).await.map(|_| ())
            }
        }
    }

    fn folders(&self) -> host::Folders {
        host::FolderId::of(&self.config.data_dir).into_iter().collect()
    }

    async fn start(&mut self) -> Result<(), String> {
        if self.exit.as_ref().is_some_and(|(pid, _)| host::runs(*pid)) {
            return Ok(());
        }
        std::fs::create_dir_all(&self.config.data_dir).map_err(|e| e.to_string())?;
        host::kill_all_in(&self.folders(), None, host::now() + Span::secs(2));
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = std::process::Command::new(program);
        command
            .arg("sim-database")
            .arg("--port")
            .arg(self.config.port.to_string())
            .current_dir(&self.config.data_dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| e.to_string())?;
        let pid = child.id();
        std::thread::spawn(move || child.wait());
        self.exit = host::watch_exit(pid).map(|gone| (pid, gone));
        let until = host::now() + Span::secs(5);
        while self.status().await.is_err() {
            if host::now() > until {
                return Err("the simulated database does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn stop(&mut self, how: &str) {
        let server = self.exit.take().and_then(|(pid, _)| host::Process::of(pid));
        let (killed, left) =
            host::kill_all_in(&self.folders(), server, host::now() + Span::secs(5));
        if !left.is_empty() || (self.resource.stopped.is_some() && killed == 0) {
            return;
        }
        let evidence = StopEvidence {
            at: host::wall(),
            how: how.into(),
            killed,
            remaining: 0,
            final_position: None,
            looked: String::new(),
        };
        self.resource = Resource {
            settled: self.resource.settled,
            stopped: Some(evidence.clone()),
            ..Resource::default()
        };
        self.facts.state = ResourceState::Stopped(evidence);
        (self.facts.standbys, self.facts.receiving_from) = (vec![], None);
    }

    async fn say(&self, line: &str) -> Result<String, String> {
        let talk = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.config.port)).await?;
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            let mut answer = String::new();
            BufReader::new(stream).read_line(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        match tokio::time::timeout(Duration::from_secs(1), talk).await {
            Ok(result) => result.map_err(|e| format!("the simulated database: {e}")),
            Err(_) => Err("the simulated database does not answer".into()),
        }
    }

    async fn status(&self) -> Result<Status, String> {
        serde_json::from_str(&self.say("status").await?).map_err(|e| e.to_string())
    }

    async fn look(&mut self) {
        self.resource.has_data = database::has_data(&self.config.data_dir);
        if self.exit.is_some() {
            match self.status().await {
                Ok(status) => self.note(&status),
                Err(why) => (self.facts.trouble, self.facts.state) = (why, ResourceState::Hung),
            }
        }
        let postmaster = self.exit.as_ref().map(|(pid, _)| *pid);
        // The runtime going away ends the whole process.
        let _ = self
            .out
            .send(Seen::Now(Box::new((self.resource.clone(), self.facts.clone(), postmaster))))
            .await;
    }

    fn note(&mut self, status: &Status) {
        let position = Position { timeline: status.timeline, lsn: Lsn(status.lsn) };
        (self.resource.position, self.facts.position) = (Some(position), position);
        (self.facts.flushed, self.facts.replayed) = (position.lsn, position.lsn);
        self.resource.writable = status.primary;
        self.resource.stopped = None;
        let left = status.left.iter().map(|(t, at)| (*t, Lsn(*at))).collect();
        self.resource.history =
            status.primary.then_some(TimelineHistory { timeline: status.timeline, left });
        self.resource.write_ok = status.primary.then(host::now);
        self.facts.state =
            if status.primary { ResourceState::Primary } else { ResourceState::Standby };
        self.facts.check.live = Some(Span::millis(1));
        let fresh = status.heard_ms.map(Span::millis);
        self.facts.upstream_age = fresh;
        self.facts.receiving_from =
            self.following.clone().filter(|_| fresh.is_some_and(|age| age < Span::millis(500)));
        self.facts.standbys = status
            .standbys
            .iter()
            .map(|(node, at)| StandbyFacts {
                node: NodeId::new(node),
                state: "streaming".into(),
                sync_state: "quorum".into(),
                sent: position.lsn,
                flushed: Lsn(*at),
                replayed: Lsn(*at),
                lag_bytes: position.lsn.bytes_since(Lsn(*at)),
                lag: None,
            })
            .collect();
    }
}

async fn gone(exit: Option<&(u32, watch::Receiver<bool>)>) {
    match exit {
        Some((_, gone)) => _ = gone.clone().wait_for(|gone| *gone).await,
        None => std::future::pending().await,
    }
}
