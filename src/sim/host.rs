//! One host: its clock, its disk, its database, its guard, and the agent's own machine.

use super::database::{Database, Disk};
use super::guard::Guard;
use super::world::Event;
use crate::agent::machine::{Goal, Machine, Resource};
use crate::lease::VoterRecord;
use crate::model::loss::Suspicion;
use crate::model::observation::{Found, ResourceState, Setback, WriteProof};
use crate::model::topology::Node;
use crate::model::{Lsn, NodeId, Span, Timestamp};

/// The agent's process.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) machine: Machine,
    /// Names this process.
    pub(super) born: u64,
    /// A flush is under way; inputs wait.
    pub(super) busy_until: Timestamp,
    /// When its next wake-up is queued (world time).
    pub(super) wake: Option<Timestamp>,
    pub(super) sequence: u64,
    pub(super) report_due: bool,
    /// Per place: last answer (host's clock), round trip, whether its resource runs.
    pub(super) seen: Vec<Option<(Timestamp, Span, Option<bool>)>>,
    pub(super) goal: (u64, Goal),
    /// Rises with every goal: steps for an older one are void.
    pub(super) generation: u64,
    pub(super) task: Task,
    pub(super) resource: Resource,
    pub(super) state: ResourceState,
    pub(super) since: Timestamp,
    pub(super) trouble: String,
    pub(super) setback: Option<Setback>,
    pub(super) proof: Option<WriteProof>,
    pub(super) following: Option<NodeId>,
    pub(super) looks: u64,
    /// When its own thread kills, by the host's clock.
    pub(super) fence: Option<Timestamp>,
    /// A goal that waits for a guard.
    pub(super) withheld: Option<(u64, Goal)>,
    /// What could not be saved yet: nothing that rests on it is said.
    pub(super) unsaved: Option<VoterRecord>,
    /// Its store was written whole since it started.
    pub(super) whole: bool,
    /// Since when no guard has confirmed the end of its lease, by the host's clock.
    pub(super) unconfirmed: Option<Timestamp>,
    /// Rebuilds that its database had seen when it started.
    pub(super) rebuilt: u64,
    /// What it found and nobody had ordered.
    pub(super) found: Vec<Found>,
}

impl Agent {
    /// What it says is on its disk.
    pub(super) fn is_saved(&self) -> bool {
        self.unsaved.is_none() && self.whole
    }
}

/// What the adapter is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Looks at its goal next.
    Begin,
    /// A graceful stop runs since then.
    Stopping(Timestamp),
    /// The server is starting.
    Starting,
    /// Waits until no receiver remains.
    Cutting,
    /// Rewinds to, or clones from, its upstream.
    Rebuilding,
    /// Promotes.
    Promoting,
    /// Waits until the log up to here is confirmed under a changed synchronous set.
    Confirming(crate::model::Lsn),
    /// The goal is reached.
    Settled,
}

/// A machine with everything on it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) node: Node,
    /// What its clock showed at time zero.
    offset: u64,
    /// How much faster than the world's its clock runs, in millionths.
    drift: i64,
    pub(super) up: bool,
    /// Everything on it stands still (a suspended virtual machine).
    pub(super) paused: bool,
    /// What arrived meanwhile.
    pub(super) backlog: Vec<Event>,
    pub(super) agent: Option<Agent>,
    /// The command that its agent carries out.
    pub(super) asked: String,
    /// The agent's process stands still.
    pub(super) frozen: bool,
    pub(super) inbox: Vec<Event>,
    /// On disk.
    pub(super) record: VoterRecord,
    /// What a power cut would leave of it, where the disk lies.
    pub(super) durable_record: VoterRecord,
    /// The guard's process, while it runs.
    pub(super) guard: Option<Guard>,
    /// A guard can be started.
    pub(super) can_guard: bool,
    /// Since when no guard guards this volume.
    /// By its own clock.
    pub(super) bare_since: Option<Timestamp>,
    /// Names the volume that the data is on.
    pub(super) volume: u64,
    /// Its clock stands still while the host is paused, since then.
    pub(super) clock_stopped: Option<Timestamp>,
    /// Until when its agent may acknowledge, as its agent last knew (world time).
    pub(super) lease_end: Timestamp,
    /// When it last went on after a pause, by its own clock.
    pub(super) resumed_at: Timestamp,
    /// Nothing here can end its database in time.
    pub(super) loose: bool,
    /// When a person last made its database writable behind the agent's back, or an agent that could
    /// end that came back.
    pub(super) by_hand_at: Timestamp,
    /// Why commits here were not confirmed as ordered, and up to where the log has to be confirmed
    /// before that is over.
    pub(super) doubt: Option<(Suspicion, Option<Lsn>)>,
    /// When its agent last reported.
    pub(super) reported_at: Timestamp,
    /// Its database was found writable without a lease, and was not rebuilt since.
    pub(super) stray: bool,
    /// Its log was not proved to be this node's when its database was started last.
    pub(super) unknown_log: bool,
    /// The start of its database after which its log was compared.
    pub(super) compared: u64,
    pub(super) db: Database,
    /// Where several nodes accept writes.
    pub(super) store: super::sharing::Store,
    /// What a power cut would leave of the log.
    pub(super) durable_log: crate::model::Lsn,
    pub(super) disk: Disk,
}

impl Host {
    pub(super) fn new(
        node: Node,
        record: VoterRecord,
        offset: u64,
        drift: i64,
        flush: Span,
    ) -> Self {
        Self {
            node,
            offset,
            drift,
            up: true,
            paused: false,
            backlog: vec![],
            agent: None,
            frozen: false,
            inbox: vec![],
            durable_record: record.clone(),
            record,
            guard: None,
            can_guard: true,
            bare_since: None,
            volume: 0,
            clock_stopped: None,
            lease_end: Timestamp(0),
            resumed_at: Timestamp(0),
            loose: false,
            by_hand_at: Timestamp(0),
            doubt: None,
            reported_at: Timestamp(0),
            stray: false,
            unknown_log: false,
            compared: 0,
            asked: String::new(),
            db: Database::empty(),
            store: super::sharing::Store::default(),
            durable_log: crate::model::Lsn(0),
            disk: Disk { flush, full: false, lies: false, corrupt: false, broken: false },
        }
    }

    /// Clients could write here, under whatever right.
    pub(super) fn accepts_writes(&self) -> bool {
        let db = &self.db;
        self.up && !self.paused && db.running && db.primary && !db.hung && !db.by_hand
    }

    /// What its clock shows at `now` of the world. It counts while the host is paused, unless it
    /// stands still too.
    #[expect(
        clippy::cast_possible_wrap,
        clippy::cast_sign_loss,
        reason = "a run lasts hours, not centuries"
    )]
    pub(super) fn clock(&self, now: Timestamp) -> Timestamp {
        let drifted = (now.0 as i64 / 1_000_000) * self.drift;
        Timestamp((self.offset + now.0).wrapping_add(drifted as u64))
    }

    /// The first moment of the world at which its clock shows `local`.
    #[expect(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "as above")]
    pub(super) fn world(&self, local: Timestamp) -> Timestamp {
        let apart = local.0.saturating_sub(self.offset) as i64;
        let mut at = Timestamp((apart - apart / 1_000_000 * self.drift).max(0) as u64);
        while self.clock(at) < local {
            at = Timestamp(at.0 + 1_000);
        }
        at
    }

    /// The host goes on after a pause; a clock that stood still has missed it.
    pub(super) fn catch_up(&mut self, now: Timestamp) {
        if let Some(since) = self.clock_stopped.take() {
            self.offset = self.offset.saturating_sub(now.since(since).0);
            // It believes in its lease for as much longer.
            self.lease_end = self.lease_end + now.since(since);
            // What was changed while it stood still, or just before, no look has seen yet.
            let stood = now.since(since);
            let wrong = &mut self.db.wrong;
            for changed in [&mut wrong.commit, &mut wrong.names, &mut wrong.fsync] {
                *changed = changed.map(|at| if at >= since { now } else { at + stood });
            }
        }
        self.resumed_at = self.clock(now);
    }

    /// Reachable over the network at all.
    pub(super) fn answers(&self) -> bool {
        self.up && !self.paused
    }
}
