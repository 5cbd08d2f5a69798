//! PostgreSQL 13 to 17: pursues a goal, watches the server, and reports.
//!
//! The server is never writable unless the goal is `Primary`: every start is a start as a standby,
//! and only a promotion makes it writable. The death of the postmaster is noticed at once (pidfd),
//! not at the next look.

mod files;
mod programs;
mod promotion;
mod rebuild;
mod sql;

pub use programs::{ProgramError, Programs};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;
use tokio_postgres::Client;

use super::{ONE_WRITER, Port, Seen};
use crate::agent::host;
use crate::agent::machine::{Goal, Manner, Resource, Upstream};
use crate::config::agent::{PostgresConfig, Route};
use crate::model::observation::{
    CheckTimes, ResourceFacts, ResourceState, StopEvidence, WriteProof,
};
use crate::model::{Epoch, NodeId, Position, Span, SyncSet, Timestamp};
use files::Settings;
use sql::{Look, StandbyLook};

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A fast shutdown may take so long before it is made an immediate one.
const FAST_STOP_MAX: Span = Span::secs(15);
/// An immediate shutdown may take so long before everything is killed.
const IMMEDIATE_STOP_MAX: Span = Span::secs(2);
/// A standby that has not streamed for so long looks for the reason in its log.
const DRY_MAX: Span = Span::secs(3);
/// A promotion that the server has not done by then has failed.
const PROMOTE_MAX: Span = Span::secs(30);

/// What an adapter needs to know.
#[derive(Clone, Debug)]
pub struct Setup {
    /// This node.
    pub me: NodeId,
    /// Its instance.
    pub config: PostgresConfig,
    /// The programs.
    pub programs: Programs,
    /// Ways to the peers' databases.
    pub routes: BTreeMap<NodeId, Route>,
    /// Where forked log is kept.
    pub forks: PathBuf,
    /// Who would confirm commits if this node were primary; written before any promotion.
    pub default_sync: Vec<NodeId>,
    /// How many of them.
    pub synchronous_standbys: usize,
    /// Extra arguments for `initdb`.
    pub initdb_args: Vec<String>,
    /// Time between two write-path checks.
    pub write_check: Span,
}

/// A goal could not be reached, in words.
#[derive(Debug)]
struct Failed(String);

impl<E: std::error::Error> From<E> for Failed {
    fn from(error: E) -> Self {
        Failed(error.to_string())
    }
}
type Done = Result<(), Failed>;

fn failed<T>(why: impl Into<String>) -> Result<T, Failed> {
    Err(Failed(why.into()))
}

struct Driver {
    setup: Setup,
    out: tokio::sync::mpsc::Sender<Seen>,
    client: Option<Client>,
    exit: Option<(u32, watch::Receiver<bool>)>,
    resource: Resource,
    facts: ResourceFacts,
    write_ok: Arc<AtomicU64>,
    /// How long the last write-path check took, in nanoseconds; 0 before the first.
    write_took: Arc<AtomicU64>,
    /// A promotion was begun: its outcome has to be judged before anything is tried again.
    promoting: bool,
    writer: Option<tokio::task::JoinHandle<()>>,
    following: Option<Upstream>,
    log_read: u64,
    cancelled_waits: u32,
    sync: SyncSet,
    /// Since when a standby that should stream does not.
    dry_since: Option<Timestamp>,
    /// Its upstream no longer has the log it needs.
    clone_needed: bool,
}

/// Runs until the runtime goes away. The server goes on: only goals stop it.
pub async fn run(setup: Setup, mut port: Port) {
    let kind = "postgres".to_owned();
    let mut driver = Driver {
        facts: ResourceFacts {
            kind,
            version: setup.programs.version.clone(),
            since: host::wall(),
            ..ResourceFacts::default()
        },
        sync: default_sync(&setup),
        setup,
        out: port.seen,
        client: None,
        exit: None,
        resource: Resource::default(),
        write_ok: Arc::default(),
        write_took: Arc::default(),
        promoting: false,
        writer: None,
        following: None,
        log_read: 0,
        cancelled_waits: 0,
        dry_since: None,
        clone_needed: false,
    };
    loop {
        let (id, goal) = port.goal.borrow_and_update().clone();
        if id == 0 {
            if port.goal.changed().await.is_err() {
                return;
            }
            continue;
        }
        tokio::select! {
            biased;
            changed = port.goal.changed() => if changed.is_err() { return },
            () = driver.pursue(id, &goal, &mut port.prove) => {}
        }
    }
}

fn default_sync(setup: &Setup) -> SyncSet {
    let members: crate::model::Members =
        setup.default_sync.iter().map(|n| crate::model::Member::new(n.clone(), "")).collect();
    let k = setup.synchronous_standbys.min(members.len());
    SyncSet { members, k }
}

impl Driver {
    /// Reaches the goal and then watches, until it is dropped for another goal.
    async fn pursue(&mut self, id: u64, goal: &Goal, prove: &mut watch::Receiver<u64>) {
        self.resource.failure.clear();
        self.resource.deaf = false;
        loop {
            match self.reach(goal).await {
                Ok(()) => {
                    self.resource.settled = id;
                    self.facts.trouble.clear();
                    self.resource.failure.clear();
                }
                Err(failure) => {
                    tracing::warn!(goal = ?goal, "could not reach the goal: {}", failure.0);
                    self.facts.trouble.clone_from(&failure.0);
                    self.resource.failure = failure.0;
                    self.look().await;
                    self.tell().await;
                    // A promotion is not tried twice by itself: its outcome has to be judged first.
                    if matches!(goal, Goal::Primary { .. }) && std::mem::take(&mut self.promoting) {
                        self.exited().await;
                    }
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    continue;
                }
            }
            if matches!(goal, Goal::Standby { .. } | Goal::Primary { .. }) && self.exit.is_some() {
                self.look().await;
            }
            self.tell().await;
            let mut tick = tokio::time::interval(LOOK_INTERVAL);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                tokio::select! {
                    biased;
                    () = exited(self.exit.as_ref()) => {
                        self.note_death(goal).await;
                        self.tell().await;
                        match goal {
                            // A standby is started again; a primary is not: whoever held the role
                            // has to win it anew.
                            Goal::Standby { .. } => { tokio::time::sleep(Duration::from_millis(200)).await; break; }
                            Goal::Primary { .. } | Goal::Sharing { .. } | Goal::Stopped(_) => {}
                        }
                    }
                    changed = prove.changed() => {
                        if changed.is_ok() && let Goal::Primary { epoch, .. } = goal {
                            self.prove(*epoch).await;
                            self.tell().await;
                        }
                    }
                    _ = tick.tick() => {
                        self.look().await;
                        self.tell().await;
                        if self.must_rebuild(goal) { break; }
                    }
                }
            }
        }
    }

    async fn reach(&mut self, goal: &Goal) -> Done {
        match goal {
            Goal::Stopped(Manner::Kill) => self.kill("kill").await,
            Goal::Stopped(Manner::Graceful) => self.stop_gracefully().await,
            Goal::Standby { upstream, may_init } => {
                self.stand_by(upstream.as_ref(), *may_init).await
            }
            Goal::Primary { epoch, sync } => self.promote(*epoch, sync).await,
            Goal::Sharing { .. } => failed(ONE_WRITER),
        }
    }

    async fn tell(&mut self) {
        self.resource.has_data = files::has_data(&self.setup.config.data_dir);
        let ok = self.write_ok.load(Ordering::Relaxed);
        self.resource.write_ok = (ok > 0).then_some(Timestamp(ok));
        let (free, total) = host::disk(&self.setup.config.data_dir);
        (self.facts.disk_free, self.facts.disk_total) = (free, total);
        self.facts.unsynchronised_sessions = self.cancelled_waits;
        let postmaster = self.exit.as_ref().map(|(pid, _)| *pid);
        // The runtime going away ends the whole process.
        let _ = self
            .out
            .send(Seen::Now(Box::new((self.resource.clone(), self.facts.clone(), postmaster))))
            .await;
    }

    fn state(&mut self, state: ResourceState) {
        if self.facts.state.word() != state.word() {
            self.facts.since = host::wall();
        }
        self.facts.state = state;
    }

    /// Finds a running postmaster and watches it.
    fn adopt(&mut self) -> bool {
        if let Some((pid, _)) = &self.exit
            && host::runs(*pid)
        {
            return true;
        }
        self.exit = None;
        let Some(pid) = host::postmaster(&self.setup.config.data_dir) else { return false };
        self.watch(pid)
    }

    fn watch(&mut self, pid: u32) -> bool {
        self.exit = host::watch_exit(pid).map(|gone| (pid, gone));
        self.exit.is_some()
    }

    async fn exited(&self) {
        exited(self.exit.as_ref()).await;
    }

    /// The postmaster is gone: make sure that nothing of it remains, and say so with evidence.
    async fn note_death(&mut self, goal: &Goal) {
        let how = match goal {
            Goal::Stopped(_) => "stopped",
            Goal::Standby { .. } | Goal::Primary { .. } | Goal::Sharing { .. } => "found dead",
        };
        if self.kill(how).await.is_err() {
            self.state(ResourceState::Hung);
        }
    }

    fn forget_server(&mut self) {
        self.client = None;
        self.exit = None;
        if let Some(writer) = self.writer.take() {
            writer.abort();
        }
        self.write_ok.store(0, Ordering::Relaxed);
        self.following = None;
        self.facts.standbys.clear();
        self.facts.receiving_from = None;
        self.facts.check = CheckTimes::default();
        self.facts.sessions = 0;
    }

    /// Kills whatever runs in the data directory. Evidence is that nothing remains.
    async fn kill(&mut self, how: &str) -> Done {
        let folder = self.setup.config.data_dir.clone();
        if self.resource.stopped.is_some() && host::processes_in(&folder).is_empty() {
            return Ok(());
        }
        let postmaster =
            self.exit.as_ref().map(|(pid, _)| *pid).or_else(|| host::postmaster(&folder));
        let until = host::now() + Span::secs(5);
        let (killed, remaining) =
            tokio::task::spawn_blocking(move || host::kill_all_in(&folder, postmaster, until))
                .await?;
        self.forget_server();
        if !remaining.is_empty() {
            return failed(format!(
                "processes {remaining:?} survive SIGKILL (in uninterruptible sleep?)"
            ));
        }
        self.stopped(how, killed, None);
        Ok(())
    }

    fn stopped(&mut self, how: &str, killed: u32, final_position: Option<Position>) {
        let evidence = StopEvidence {
            at: host::wall(),
            how: how.to_owned(),
            killed,
            remaining: 0,
            final_position,
        };
        self.resource.writable = false;
        self.resource.position = final_position;
        self.resource.history = None;
        self.resource.newest_timeline = files::newest_timeline(&self.setup.config.data_dir);
        self.resource.stopped = Some(evidence.clone());
        self.state(ResourceState::Stopped(evidence));
    }

    /// A checkpoint first (the stop is then quick), then fast, immediate, kill. The end of the log
    /// is read when the stop was clean.
    async fn stop_gracefully(&mut self) -> Done {
        if !self.adopt() {
            return self.kill("found dead").await;
        }
        if let Ok(client) = sql::connect(&self.setup.config).await {
            // Only a help: the stop itself makes the checkpoint that counts.
            let _ =
                tokio::time::timeout(Duration::from_secs(5), client.batch_execute("CHECKPOINT"))
                    .await;
        }
        self.client = None;
        let Some(pid) = self.exit.as_ref().map(|(pid, _)| *pid) else {
            return self.kill("kill").await;
        };
        let mut how = "fast";
        for (signal, word, limit) in
            [(Signal::INT, "fast", FAST_STOP_MAX), (Signal::QUIT, "immediate", IMMEDIATE_STOP_MAX)]
        {
            how = word;
            host::signal(pid, signal);
            if tokio::time::timeout(limit.std(), self.exited()).await.is_ok() {
                break;
            }
        }
        let folder = self.setup.config.data_dir.clone();
        let remaining = host::processes_in(&folder);
        if !remaining.is_empty() {
            return self.kill(how).await;
        }
        self.forget_server();
        let control = files::Control::read(&self.setup.programs, &folder).await?;
        let end = control.is_clean_primary().then_some(control.checkpoint);
        self.stopped(how, 0, end);
        Ok(())
    }

    /// A standby of `upstream`, or of nobody.
    async fn stand_by(&mut self, upstream: Option<&Upstream>, may_init: bool) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        let runs = self.adopt();
        if std::mem::take(&mut self.clone_needed)
            && let Some(upstream) = upstream.filter(|u| u.history.is_some())
        {
            self.stop_gracefully().await?;
            return self.reclone(upstream).await;
        }
        if !runs {
            // What is started from here on has no upstream in its settings, however long it takes
            // or if it ever starts.
            self.resource.deaf = upstream.is_none();
            self.tell().await;
            if !files::has_data(&data_dir) {
                match upstream {
                    Some(upstream) if upstream.history.is_some() => {
                        self.clone_from(upstream).await?
                    }
                    _ if may_init => self.init().await?,
                    // Nothing to run yet: waits for somebody to clone.
                    _ => {
                        self.resource.stopped = None;
                        self.resource.writable = false;
                        self.state(ResourceState::Stopped(StopEvidence {
                            at: host::wall(),
                            how: "empty".into(),
                            killed: 0,
                            remaining: 0,
                            final_position: None,
                        }));
                        return Ok(());
                    }
                }
            }
            if let Some(upstream) = upstream
                && let Err(why) = self.make_followable(upstream).await
            {
                self.start(None).await?;
                return Err(why);
            }
            self.start(upstream.filter(|u| u.history.is_some())).await?;
        }
        if let Err(error) = self.client().await {
            // Not consistent yet, perhaps for want of log that only the upstream has.
            if let Some(upstream) = upstream.filter(|u| u.history.is_some()) {
                self.reload(&self.settings(Some(upstream)))?;
            }
            return Err(error);
        }
        let client = self.client().await?;
        let recovery: bool =
            sql::bounded(client.query_one("SELECT pg_is_in_recovery()", &[])).await?.get(0);
        if !recovery {
            // It runs as a primary without a lease: an old role is never trusted.
            self.kill("ran as primary without a lease").await?;
            return failed("it ran as primary without a lease; stopped");
        }
        self.resource.stopped = None;
        self.resource.writable = false;
        self.resource.deaf = false;
        match upstream {
            None => self.cut().await,
            Some(upstream) => self.follow(upstream).await,
        }
    }

    async fn client(&mut self) -> Result<&Client, Failed> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(sql::connect(&self.setup.config).await?);
        }
        self.client.as_ref().ok_or_else(|| Failed("not connected".into()))
    }

    fn settings(&self, upstream: Option<&Upstream>) -> Settings {
        let conninfo = upstream.and_then(|u| self.conninfo(&u.node, self.setup.me.as_str()));
        Settings { upstream: conninfo, sync: self.sync.clone() }
    }

    /// A server counts a connection as a synchronous standby by its name: only the standby itself
    /// may use this node's.
    fn conninfo(&self, node: &NodeId, name: &str) -> Option<String> {
        let route = self.setup.routes.get(node)?;
        let (host, port) = route.postgres.rsplit_once(':')?;
        let config = &self.setup.config;
        let passfile = config
            .replication_passfile
            .as_ref()
            .map(|p| format!(" passfile={}", p.display()))
            .unwrap_or_default();
        Some(format!(
            "host={host} port={port} user={} application_name={name}{passfile} connect_timeout=2 \
                tcp_user_timeout=4000 keepalives_idle=1 keepalives_interval=1 keepalives_count=3",
            config.user
        ))
    }

    fn reload(&self, settings: &Settings) -> Done {
        files::write_settings(&self.setup.config, settings)?;
        if let Some((pid, _)) = &self.exit {
            host::signal(*pid, Signal::HUP);
        }
        Ok(())
    }

    /// Cut off: durably, and then waits until no receiver remains and the end of the log is
    /// certain.
    async fn cut(&mut self) -> Done {
        self.following = None;
        self.facts.receiving_from = None;
        self.reload(&self.settings(None))?;
        let mut quiet_since: Option<Timestamp> = None;
        let began = host::now();
        loop {
            let client = self.client().await?;
            let look = sql::look_standby(client).await?;
            // This session has the empty setting, so the postmaster has told every process. A
            // receiver that was being started meanwhile shows within a moment, and ends.
            let quiet = look.conninfo.is_empty()
                && look.receiver.is_none()
                && (look.received.is_some() || look.exhausted);
            let now = host::now();
            if let Some(receiver) = look
                .receiver
                .filter(|_| look.conninfo.is_empty() && now.since(began) >= Span::millis(10))
            {
                // The startup process may be too busy to end it.
                host::signal(receiver, Signal::TERM);
            }
            if !quiet {
                quiet_since = None;
            } else if now.since(*quiet_since.get_or_insert(now)) >= Span::millis(8) {
                let position = self.note_standby(&look);
                self.resource.position = Some(position);
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn follow(&mut self, upstream: &Upstream) -> Done {
        if let Some(history) = &upstream.history {
            let look = self.certain_look().await?;
            let position = self.note_standby(&look);
            if !history.continues(position) {
                self.rejoin(upstream, position).await?;
                return failed("rebuilt; starting again");
            }
        }
        self.reload(&self.settings(Some(upstream)))?;
        self.following = Some(upstream.clone());
        Ok(())
    }

    /// Where its log ends, once it has replayed what was here when it started.
    async fn certain_look(&mut self) -> Result<StandbyLook, Failed> {
        loop {
            let client = self.client().await?;
            let look = sql::look_standby(client).await?;
            if look.received.is_some() || look.exhausted {
                return Ok(look);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn note_standby(&mut self, look: &StandbyLook) -> Position {
        let lsn = look.received.unwrap_or_default().max(look.replayed);
        let timeline = files::newest_timeline(&self.setup.config.data_dir).unwrap_or(0);
        let position = Position { timeline, lsn };
        self.facts.position = position;
        self.facts.flushed = lsn;
        self.facts.replayed = look.replayed;
        self.facts.upstream_age = look.upstream_age;
        self.facts.sessions = look.sessions;
        self.facts.receiving_from =
            self.following.as_ref().filter(|_| look.streaming).map(|u| u.node.clone());
        self.facts.standbys.clear();
        self.state(ResourceState::Standby);
        position
    }

    fn start_writer(&mut self) {
        if self.writer.as_ref().is_some_and(|w| !w.is_finished()) {
            return;
        }
        let (config, ok, pause) =
            (self.setup.config.clone(), Arc::clone(&self.write_ok), self.setup.write_check.std());
        let write_took = Arc::clone(&self.write_took);
        ok.store(host::now().0, Ordering::Relaxed);
        self.writer = Some(tokio::spawn(async move {
            let mut client: Option<Client> = None;
            loop {
                if client.as_ref().is_none_or(Client::is_closed) {
                    client = sql::connect(&config).await.ok();
                }
                if let Some(c) = &client {
                    let began = host::now();
                    match sql::write_path(c).await {
                        Ok(()) => {
                            write_took.store(host::now().since(began).0, Ordering::Relaxed);
                            ok.store(host::now().0, Ordering::Relaxed);
                        }
                        Err(error) => {
                            tracing::warn!("write-path check: {error}");
                            client = None;
                        }
                    }
                }
                tokio::time::sleep(pause).await;
            }
        }));
    }

    /// How long the last write took; one that does not come back takes as long as it is overdue.
    fn write_latency(&self) -> Option<Span> {
        let (ok, took) =
            (self.write_ok.load(Ordering::Relaxed), self.write_took.load(Ordering::Relaxed));
        let overdue = host::now().since(Timestamp(ok)).0.saturating_sub(self.setup.write_check.0);
        (ok > 0 && took > 0).then(|| Span(took.max(overdue)))
    }

    async fn prove(&mut self, epoch: Epoch) {
        match sql::prove(&self.setup.config, epoch.0).await {
            Ok(took) => self.facts.proof = Some(WriteProof { epoch, took, at: host::wall() }),
            Err(error) => self.facts.trouble = format!("the proving write failed: {error}"),
        }
    }

    async fn look(&mut self) {
        if self.exit.is_none() {
            return;
        }
        let started = host::now();
        let look = match self.client().await {
            Ok(client) => sql::look(client).await,
            Err(failure) => Err(sql::LookError::Said(failure.0)),
        };
        let took = host::now().since(started);
        self.facts.check =
            CheckTimes { live: look.is_ok().then_some(took), ..CheckTimes::default() };
        match look {
            Ok(Look::Standby(look)) => {
                let position = self.note_standby(&look);
                // Whether it receives is the lag's matter; a cut standby that knows where its log
                // ends is ready to be promoted.
                self.facts.check.ready =
                    (look.streaming || look.received.is_some() || look.exhausted).then_some(took);
                self.resource.writable = false;
                if look.received.is_some() || look.exhausted {
                    self.resource.position = Some(position);
                }
            }
            Ok(Look::Primary(look)) => {
                let position = Position { timeline: look.timeline, lsn: look.written };
                self.facts.position = position;
                (self.facts.flushed, self.facts.replayed) = (look.flushed, look.written);
                (self.facts.sync_setting, self.facts.sessions) = (look.sync_setting, look.sessions);
                self.facts.standbys = look.standbys;
                self.facts.receiving_from = None;
                self.facts.upstream_age = None;
                self.facts.check.ready = Some(took);
                self.facts.check.deep = self.write_latency();
                self.resource.writable = true;
                self.resource.position = Some(position);
                self.state(ResourceState::Primary);
                self.count_cancelled_waits();
            }
            Err(error) => {
                self.facts.trouble = error.to_string();
                self.client = None;
                self.state(ResourceState::Hung);
            }
        }
    }

    /// Commits whose wait for a standby was cancelled are visible but may be nowhere else; the
    /// server says so in its log only.
    fn count_cancelled_waits(&mut self) {
        let count = self.new_log().matches("canceling wait for synchronous replication").count();
        self.cancelled_waits += u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// What the server's log has gained since it was last read here.
    fn new_log(&mut self) -> String {
        use std::io::{Read as _, Seek as _, SeekFrom};
        let Ok(mut file) = std::fs::File::open(self.log_path()) else { return String::new() };
        if file.metadata().map_or(0, |m| m.len()) < self.log_read {
            self.log_read = 0;
        }
        let mut fresh = Vec::new();
        if let Ok(n) = file
            .seek(SeekFrom::Start(self.log_read))
            .and_then(|_| file.take(1 << 20).read_to_end(&mut fresh))
        {
            self.log_read += n as u64;
        }
        String::from_utf8_lossy(&fresh).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.setup.config.data_dir.with_extension("log")
    }

    /// A standby that does not stream, and whose log says that its upstream no longer has what it
    /// needs, is cloned anew.
    fn must_rebuild(&mut self, goal: &Goal) -> bool {
        let follows =
            matches!(goal, Goal::Standby { upstream: Some(u), .. } if u.history.is_some());
        if !follows || self.exit.is_none() || self.facts.receiving_from.is_some() {
            self.dry_since = None;
            return follows && self.exit.is_none();
        }
        let now = host::now();
        let since = *self.dry_since.get_or_insert(now);
        if now.since(since) < DRY_MAX {
            return false;
        }
        self.dry_since = None;
        let log = self.new_log();
        self.clone_needed = log.contains("has already been removed")
            || log.contains("could not receive timeline history file");
        self.clone_needed
    }
}

async fn exited(exit: Option<&(u32, watch::Receiver<bool>)>) {
    match exit {
        // An error means that the watching thread is gone, which is taken as "look again".
        Some((_, gone)) => _ = gone.clone().wait_for(|gone| *gone).await,
        None => std::future::pending().await,
    }
}
