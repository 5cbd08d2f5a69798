//! PostgreSQL 13 to 18: pursues a goal, watches the server, and reports.
//!
//! The server is never writable unless the goal is `Primary`: every start is a start as a standby,
//! and only a promotion makes it writable. The death of the postmaster is noticed at once (pidfd),
//! not at the next look.

pub mod archive;
mod clone;
mod configuration;
mod data;
mod doubt;
mod files;
mod guarded;
mod look;
mod mending;
mod pace;
mod print;
mod programs;
mod promotion;
mod pulse;
mod rebuild;
mod receivers;
mod records;
pub mod release;
mod reset;
mod rewinding;
mod serving;
pub mod session;
pub mod settings;
pub mod sql;
mod standby;
mod start;
mod stop;
mod unfinished;
mod upstream;
mod waits;

pub(in crate::agent) use data::is_in_production;
pub use data::system_identifier;
pub use files::{begins, begins_fork};
pub use programs::{ProgramError, Programs};
pub(in crate::agent) use stop::end_for_restart;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;

use self::archive::Archive;
use self::mending::Watch;
use self::pace::{LOOK_INTERVAL, Pace};
use self::print::Prints;
use self::pulse::Pulse;
use self::receivers::Receivers;
use self::rewinding::Rewinding;
use self::serving::{Holding, Reaches};
use self::session::Session;
use self::start::Starting;
use self::upstream::Thirst;
use super::proving::Proving;
use super::{ONE_WRITER, Port, Seen, Words};
use crate::agent::host;
use crate::agent::machine::{Goal, Manner, Resource, Upstream};
use crate::agent::ours::Ours;
use crate::config::agent::{PostgresConfig, Route};
use crate::model::observation::{Blocked, ResourceFacts, ResourceState, Setback};
use crate::model::serving::{ArchiveFails, Slot};
use crate::model::topology::Unsynchronised;
use crate::model::{DataMark, NodeId, Position, Span, SyncSet, Timestamp};

/// The first pause after a try that failed.
const RETRY: Duration = Duration::from_millis(300);
/// A fast shutdown may take so long before it is made an immediate one.
const FAST_STOP_MAX: Span = Span::secs(15);
/// An immediate shutdown may take so long before everything is killed.
const IMMEDIATE_STOP_MAX: Span = Span::secs(2);
/// A standby that has not streamed for so long asks its upstream whether it still has the log.
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
    /// Where what the adapter has to remember is kept.
    pub state_dir: PathBuf,
    /// Whose commits need not wait, by the policy.
    pub unsynchronised: Unsynchronised,
    /// Who would confirm commits if this node were primary; written before any promotion.
    pub default_sync: Vec<NodeId>,
    /// How many of them.
    pub synchronous_standbys: usize,
    /// Which server is this node's.
    pub ours: Ours,
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
    client: Option<Session>,
    exit: Option<(u32, watch::Receiver<bool>)>,
    resource: Resource,
    facts: ResourceFacts,
    /// What the server was when it last let a look in.
    seen: ResourceState,
    /// Whether it lives, as a new client finds it.
    pulse: Pulse,
    /// How often it is asked.
    pace: Pace,
    /// A promotion was begun: its outcome has to be judged before anything is tried again.
    promoting: bool,
    following: Option<Upstream>,
    sync: SyncSet,
    /// Which data the voter answers for.
    expected: watch::Receiver<DataMark>,
    /// A rewind that has begun to touch what is here.
    rewinding: Option<Rewinding>,
    /// Whether a server that starts gets on.
    starting: Starting,
    /// The server that was last seen to be in recovery.
    recovering: Option<u32>,
    /// What the peers' agents say of their receivers.
    words: watch::Receiver<Words>,
    /// Who receives from here under whose name.
    receivers: Receivers,
    /// Where a primary inserted at the last look.
    inserted: Option<Position>,
    /// What was done about prints of the log.
    prints: Prints,
    /// What of the server is watched against what was ordered.
    watch: Watch,
    /// The user's archive, and whether log is fetched from it.
    archive: Archive,
    /// Why a standby does not stream, and what is done about it.
    thirst: Thirst,
    /// What holds replay up.
    holding: Holding,
    /// Replication slots, and when they were looked at.
    slots: (Option<Timestamp>, Vec<Slot>),
    /// That the archive failed at its last try, and when that was looked at.
    archive_fails: Option<(Timestamp, ArchiveFails)>,
    /// What in the configuration files keeps every reload from working.
    unreadable: String,
    /// What a start would run, looked at now and then; empty: not known.
    installed: watch::Receiver<String>,
    /// Replication connections to the peers, as tried.
    reaches: Reaches,
}

/// Runs until the runtime goes away. The server goes on: only goals stop it.
pub async fn run(setup: Setup, mut port: Port) {
    let kind = "postgres".to_owned();
    let setup_programs = setup.programs.clone();
    let mut driver = Driver {
        facts: ResourceFacts { kind, since: host::wall(), ..ResourceFacts::default() },
        sync: default_sync(&setup),
        setup,
        out: port.seen,
        client: None,
        exit: None,
        resource: Resource::default(),
        seen: ResourceState::default(),
        pulse: Pulse::default(),
        pace: Pace::default(),
        promoting: false,
        following: None,
        expected: port.data,
        rewinding: None,
        starting: Starting::default(),
        recovering: None,
        words: port.words,
        receivers: Receivers::default(),
        inserted: None,
        prints: Prints::default(),
        watch: Watch::default(),
        archive: Archive::default(),
        thirst: Thirst::default(),
        holding: Holding::default(),
        slots: (None, vec![]),
        archive_fails: None,
        unreadable: String::new(),
        installed: serving::watch_installed(&setup_programs),
        reaches: Reaches::default(),
    };
    driver.recall();
    driver.reaches = driver.start_reaching();
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
    async fn pursue(&mut self, id: u64, goal: &Goal, prove: &mut watch::Receiver<String>) {
        let mut proving: Option<Proving> = None;
        self.resource.failure.clear();
        self.facts.setback = None;
        self.resource.deaf = false;
        loop {
            match self.reach(goal).await {
                Ok(()) => {
                    self.resource.settled = id;
                    self.facts.trouble.clear();
                    self.facts.setback = None;
                    self.resource.failure.clear();
                    // What it was reached with was seen a moment ago; a failover waits for it.
                    self.tell().await;
                }
                Err(failure) => {
                    tracing::warn!(goal = ?goal, "could not reach the goal: {}", failure.0);
                    self.facts.trouble.clone_from(&failure.0);
                    let before = self.facts.setback.take();
                    if failure.0 != standby::REBUILT {
                        self.facts.setback = Some(Setback::after(before, &failure.0, host::wall()));
                    }
                    let pauses = self.facts.setback.as_ref().map_or(1, Setback::pauses);
                    self.resource.failure = failure.0;
                    self.look_closely();
                    self.look_while_it_fails(goal).await;
                    // A promotion is not tried twice by itself: its outcome has to be judged first.
                    if matches!(goal, Goal::Primary { .. }) && std::mem::take(&mut self.promoting) {
                        self.exited().await;
                    }
                    tokio::time::sleep(RETRY).await;
                    for _ in 1..pauses {
                        self.look_while_it_fails(goal).await;
                        tokio::time::sleep(RETRY).await;
                    }
                    continue;
                }
            }
            if matches!(goal, Goal::Standby { .. } | Goal::Primary { .. }) && self.exit.is_some() {
                self.look().await;
            }
            self.tell().await;
            self.look_closely();
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
                    changed = prove.changed(), if proving.is_none() => {
                        if changed.is_ok() && let Goal::Primary { epoch, .. } = goal {
                            let asked = prove.borrow_and_update().clone();
                            let (config, epoch) = (self.setup.config.clone(), *epoch);
                            let write = async move {
                                sql::prove(&config, epoch.0).await.map_err(|e| e.to_string())
                            };
                            proving = Some(Proving::begin(&mut self.facts, epoch, asked, write));
                        }
                    }
                    said = Proving::end(&mut proving) => {
                        if let Some(proof) = proving.take() {
                            if let Err(why) = &said {
                                self.note(format!("the proving write failed: {why}"));
                            }
                            proof.note(&mut self.facts, said);
                            self.tell().await;
                        }
                    }
                    () = self.until_due() => {
                        self.note_due();
                        if self.end_if_moved_away().await {
                            self.tell().await;
                            if matches!(goal, Goal::Standby { .. }) { break; }
                        }
                        self.look().await;
                        let again = self.keep_order(goal).await || self.keep_replaying(goal).await;
                        self.tell().await;
                        if again || self.must_rebuild(goal).await { break; }
                        self.note_pace(goal);
                    }
                }
            }
        }
    }

    /// What was ordered is not reached: what is here is looked at all the same.
    async fn look_while_it_fails(&mut self, goal: &Goal) {
        self.look().await;
        if matches!(goal, Goal::Standby { .. }) && self.resource.writable {
            self.keep_order(goal).await;
        }
        self.tell().await;
    }

    async fn reach(&mut self, goal: &Goal) -> Done {
        match goal {
            Goal::Stopped(Manner::Kill) => self.kill("kill").await,
            Goal::Stopped(Manner::Graceful) => self.stop_gracefully().await,
            Goal::Standby { upstream, may_init } => {
                self.stand_by(upstream.as_ref(), *may_init).await
            }
            Goal::Primary { epoch, sync } => {
                self.recorded()?;
                self.promote(*epoch, sync).await
            }
            Goal::Sharing { .. } => failed(ONE_WRITER),
        }
    }

    async fn tell(&mut self) {
        self.resource.has_data = files::has_data(&self.setup.config.data_dir);
        self.resource.write_ok = self.pulse.write_ok();
        let (free, total) = host::disk(&self.setup.config.data_dir);
        (self.facts.disk_free, self.facts.disk_total) = (free, total);
        self.facts.unsynchronised_sessions = self.watch.cancelled;
        // What waits for standbys is a primary's matter; who refuses writes would do so promoted.
        let (writes, runs) = (self.resource.writable, self.exit.is_some());
        let told = |b: &Blocked| writes || runs && *b == Blocked::ReadOnly;
        self.facts.blocked = self.watch.blocked.clone().filter(told);
        self.facts.serving = Some(self.serving());
        let postmaster = self.exit.as_ref().map(|(pid, _)| *pid);
        // The runtime going away ends the whole process.
        let _ = self
            .out
            .send(Seen::Now(Box::new((self.resource.clone(), self.facts.clone(), postmaster))))
            .await;
    }

    fn state(&mut self, state: ResourceState) {
        let runs = matches!(state, ResourceState::Standby | ResourceState::Primary);
        if state != ResourceState::Hung {
            self.seen = state.clone();
        }
        let hangs = runs && self.pulse.signs().silent_since.is_some();
        let state = if hangs { ResourceState::Hung } else { state };
        if self.facts.state.word() != state.word() {
            self.facts.since = host::wall();
        }
        self.facts.state = state;
    }

    async fn client(&mut self) -> Result<&Session, Failed> {
        if self.client.as_ref().is_none_or(Session::is_closed) {
            self.client = Some(Session::connect(&self.setup.config).await?);
        }
        self.client.as_ref().ok_or_else(|| Failed("not connected".into()))
    }
}

async fn exited(exit: Option<&(u32, watch::Receiver<bool>)>) {
    match exit {
        // An error means that the watching thread is gone, which is taken as "look again".
        Some((_, gone)) => _ = gone.clone().wait_for(|gone| *gone).await,
        None => std::future::pending().await,
    }
}
