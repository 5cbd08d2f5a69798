//! A simulated database, for trying the lab where no PostgreSQL is: a real process that can be
//! killed, frozen and cut, with a log that its standbys copy and confirm. It holds numbered rows and
//! proves nothing about PostgreSQL.

pub mod database;
pub mod log;

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::proving::Proving;
use super::{ONE_WRITER, Port, Seen};
use crate::agent::host;
use crate::agent::machine::{Goal, Manner, Resource, Upstream};
use crate::config::agent::{PostgresConfig, Route};
use crate::model::observation::{
    CheckTimes, Found, ResourceFacts, ResourceState, SIMULATED, STREAMING, Setback, StandbyFacts,
    StopEvidence,
};
use crate::model::{Lsn, NodeId, Span, SyncSet, Timestamp};
use database::{Answer, Request, Status};
use log::Write;

const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// An order or a look that is not answered within this is not answered.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// A graceful stop waits so long until every standby has everything.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// The row that proves that a write comes back; nobody counts it.
const PROOF: Write = Write::Row(0);

struct Driver {
    me: NodeId,
    config: PostgresConfig,
    routes: BTreeMap<NodeId, Route>,
    out: tokio::sync::mpsc::Sender<Seen>,
    exit: Option<(u32, watch::Receiver<bool>)>,
    resource: Resource,
    facts: ResourceFacts,
    following: Option<NodeId>,
    /// What it was ordered last as primary: it confirms every write by this set.
    sync: SyncSet,
    discarded: usize,
}

/// Runs until the runtime goes away.
pub async fn run(
    me: NodeId,
    config: PostgresConfig,
    routes: BTreeMap<NodeId, Route>,
    mut port: Port,
) {
    let facts = ResourceFacts {
        kind: SIMULATED.into(),
        version: "simulated".into(),
        since: host::wall(),
        unsynchronised_sessions: Some(0),
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
        sync: SyncSet::default(),
        discarded: 0,
    };
    // An agent that was restarted finds its database running under its guard.
    driver.exit = host::postmaster(&driver.config.data_dir)
        .and_then(|pid| Some((pid, host::watch_exit(pid)?)));
    loop {
        let (id, goal) = port.goal.borrow_and_update().clone();
        tokio::select! {
            biased;
            changed = port.goal.changed() => if changed.is_err() { return },
            () = driver.pursue(id, &goal, &mut port.prove) => {}
        }
    }
}

async fn say(port: u16, request: &Request, limit: Duration) -> Result<Answer, String> {
    let text = serde_json::to_string(request).map_err(|e| e.to_string())? + "\n";
    let talk = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(limit, talk).await {
        Ok(Ok(answer)) => serde_json::from_str(&answer)
            .map_err(|_| "the simulated database said nothing".to_owned()),
        Ok(Err(error)) => Err(format!("the simulated database: {error}")),
        Err(_) => Err("the simulated database does not answer".into()),
    }
}

/// A real write, confirmed as every other.
async fn prove_on(port: u16) -> Result<Span, String> {
    let began = host::now();
    match say(port, &Request::Write(PROOF), ANSWER_MAX * 5).await? {
        Answer::Wrote(_) => Ok(host::now().since(began)),
        other => Err(format!("it answered {other:?}")),
    }
}

impl Driver {
    async fn pursue(&mut self, id: u64, goal: &Goal, prove: &mut watch::Receiver<String>) {
        let mut proving: Option<Proving> = None;
        loop {
            if id > 0 {
                match self.reach(goal).await {
                    Ok(()) => {
                        self.resource.settled = id;
                        (self.resource.failure, self.facts.trouble) =
                            (String::new(), String::new());
                        self.facts.setback = None;
                    }
                    Err(why) => {
                        self.facts.trouble.clone_from(&why);
                        let before = self.facts.setback.take();
                        self.facts.setback = Some(Setback::after(before, &why, host::wall()));
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
                changed = prove.changed(), if proving.is_none() => if changed.is_ok()
                    && let Goal::Primary { epoch, .. } = goal
                {
                    let asked = prove.borrow_and_update().clone();
                    let write = prove_on(self.config.port);
                    proving = Some(Proving::begin(&mut self.facts, *epoch, asked, write));
                },
                said = Proving::end(&mut proving) => if let Some(proof) = proving.take() {
                    proof.note(&mut self.facts, said);
                },
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    async fn reach(&mut self, goal: &Goal) -> Result<(), String> {
        match goal {
            Goal::Stopped(Manner::Kill) => {
                self.stop("kill");
                Ok(())
            }
            Goal::Stopped(Manner::Graceful) => {
                self.drain().await;
                self.stop("after its standbys had everything");
                Ok(())
            }
            Goal::Standby { upstream, may_init } => {
                self.stand_by(upstream.as_ref(), *may_init).await
            }
            Goal::Sharing { .. } => Err(ONE_WRITER.into()),
            Goal::Primary { epoch, sync } => {
                if self.exit.is_none() {
                    return Err("the simulated database is not running".into());
                }
                self.following = None;
                self.sync = sync.clone();
                let members = sync.members.iter().map(|m| m.node.as_str().to_owned()).collect();
                let timeline = u32::try_from(epoch.0).map_err(|e| e.to_string())?;
                self.order(&Request::Primary(timeline, sync.k, members)).await.map(|_| ())
            }
        }
    }

    async fn stand_by(
        &mut self,
        upstream: Option<&Upstream>,
        may_init: bool,
    ) -> Result<(), String> {
        let has_data = log::has_data(&self.config.data_dir);
        let clonable = upstream.is_some_and(|u| u.history.is_some());
        if !has_data && !may_init && !clonable {
            return Ok(());
        }
        // What could write is no standby: it begins again as one.
        if self.exit.is_some() && self.order(&Request::Status).await.is_ok_and(|s| s.primary) {
            self.stop("kill");
        }
        self.start().await?;
        if !has_data && !clonable {
            self.order(&Request::Found(system()?)).await?;
        }
        self.resource.stopped = None;
        let Some(upstream) = upstream else {
            self.order(&Request::Cut).await?;
            (self.following, self.resource.deaf) = (None, true);
            return Ok(());
        };
        if let (Some(theirs), Some(mine)) = (upstream.system, self.resource.data.system)
            && theirs != mine
        {
            return Err(format!("here is system {mine}, not {theirs}"));
        }
        let route = self.routes.get(&upstream.node).ok_or("no way to it is configured")?;
        let request = Request::Follow(
            route.postgres.clone(),
            self.me.as_str().to_owned(),
            upstream.history.clone(),
        );
        let status = self.order(&request).await?;
        if status.discarded > self.discarded {
            let rows = status.discarded - self.discarded;
            self.facts.found.push(Found {
                at: host::wall(),
                what: format!("its log had gone another way than {}'s", upstream.node),
                done: format!("gave up {rows} writes of its own, and follows it"),
            });
            self.resource.data.rebuilt += 1;
        }
        self.discarded = status.discarded;
        (self.following, self.resource.deaf) = (Some(upstream.node.clone()), false);
        Ok(())
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
        self.discarded = 0;
        let until = host::now() + Span::secs(5);
        while self.order(&Request::Status).await.is_err() {
            if host::now() > until {
                return Err("the simulated database does not answer".into());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// No new writes, and everything that was written is with whoever still asks for it.
    async fn drain(&self) {
        let drained = async {
            while let Ok(status) = self.order(&Request::Close).await {
                if status.standbys.values().all(|at| *at >= status.position.lsn) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // In vain or not, it is stopped.
        let _ = tokio::time::timeout(DRAIN_MAX, drained).await;
    }

    fn stop(&mut self, how: &str) {
        let server = self.exit.take().and_then(|(pid, _)| host::Process::of(pid));
        let (killed, left) =
            host::kill_all_in(&self.folders(), server, host::now() + Span::secs(5));
        if !left.is_empty() || (self.resource.stopped.is_some() && killed == 0) {
            return;
        }
        self.find_data();
        let evidence = StopEvidence {
            at: host::wall(),
            how: if log::has_data(&self.config.data_dir) { how } else { StopEvidence::NOTHING }
                .into(),
            killed,
            remaining: 0,
            final_position: self.resource.position,
            looked: String::new(),
        };
        (self.resource.writable, self.resource.history) = (false, None);
        self.resource.write_ok = None;
        self.resource.newest_timeline = self.resource.position.map(|p| p.timeline);
        self.resource.stopped = Some(evidence.clone());
        self.state(ResourceState::Stopped(evidence));
        (self.facts.standbys, self.facts.receiving_from) = (vec![], None);
    }

    /// What lies in its folder while nothing runs there.
    fn find_data(&mut self) {
        let found = log::at_rest(&self.config.data_dir);
        self.resource.position = found.as_ref().map(|(_, position)| *position);
        if let Some((origin, position)) = found {
            self.resource.data.system = origin.system;
            self.resource.data.line = Some(origin.history);
            self.resource.data.flushed = Some(position);
            self.facts.position = position;
        }
    }

    async fn order(&self, request: &Request) -> Result<Status, String> {
        match say(self.config.port, request, ANSWER_MAX).await? {
            Answer::Status(status) => Ok(status),
            Answer::Failed(why) => Err(format!("the simulated database: {why}")),
            other => Err(format!("the simulated database answered {other:?}")),
        }
    }

    fn state(&mut self, state: ResourceState) {
        if self.facts.state.word() != state.word() {
            self.facts.since = host::wall();
        }
        self.facts.state = state;
    }

    async fn look(&mut self) {
        self.resource.has_data = log::has_data(&self.config.data_dir);
        (self.facts.disk_free, self.facts.disk_total) = host::disk(&self.config.data_dir);
        self.facts.check = CheckTimes::default();
        if self.exit.is_some() {
            let began = host::now();
            match self.order(&Request::Status).await {
                Ok(status) => self.note(&status, began),
                Err(why) => {
                    self.facts.trouble = why;
                    self.state(ResourceState::Hung);
                }
            }
        } else if self.resource.stopped.is_none() {
            // Nothing runs that could be asked: what is there is what lies there.
            self.stop("found dead");
        }
        let postmaster = self.exit.as_ref().map(|(pid, _)| *pid);
        // The runtime going away ends the whole process.
        let _ = self
            .out
            .send(Seen::Now(Box::new((self.resource.clone(), self.facts.clone(), postmaster))))
            .await;
    }

    fn note(&mut self, status: &Status, began: Timestamp) {
        let took = host::now().since(began);
        let position = status.position;
        (self.resource.position, self.facts.position) = (Some(position), position);
        (self.facts.flushed, self.facts.replayed) = (position.lsn, position.lsn);
        self.resource.data.system = status.origin.system;
        self.resource.data.line = Some(status.origin.history.clone());
        self.resource.data.flushed = Some(position);
        self.resource.writable = status.primary;
        self.resource.stopped = None;
        self.resource.history = status.primary.then(|| status.origin.history.clone());
        self.resource.newest_timeline = Some(position.timeline);
        self.resource.write_ok = status.primary.then_some(began);
        self.state(if status.primary { ResourceState::Primary } else { ResourceState::Standby });
        self.facts.check = CheckTimes {
            live: Some(took),
            ready: Some(took),
            deep: status.primary.then_some(took),
        };
        self.facts.sessions = status.sessions;
        self.facts.upstream_age = status.heard_ms.map(Span::millis);
        self.facts.receiving_from = self.following.clone().filter(|_| status.heard_ms.is_some());
        let names: Vec<&str> = self.sync.members.iter().map(|m| m.node.as_str()).collect();
        self.facts.sync_setting = if status.primary && self.sync.k > 0 {
            format!("ANY {} ({})", self.sync.k, names.join(", "))
        } else {
            String::new()
        };
        let standby = |(node, at): (&String, &Lsn)| StandbyFacts {
            node: NodeId::new(node),
            state: STREAMING.into(),
            sync_state: if names.contains(&node.as_str()) { "quorum" } else { "async" }.into(),
            sent: position.lsn,
            flushed: *at,
            replayed: *at,
            lag_bytes: position.lsn.bytes_since(*at),
            lag: None,
        };
        self.facts.standbys = status.standbys.iter().map(standby).collect();
    }
}

/// An identifier for a new system.
fn system() -> Result<u64, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(u64::from_ne_bytes(bytes))
}

async fn gone(exit: Option<&(u32, watch::Receiver<bool>)>) {
    match exit {
        Some((_, gone)) => _ = gone.clone().wait_for(|gone| *gone).await,
        None => std::future::pending().await,
    }
}
