//! What an agent decides, without a clock, a socket or a disk.
//!
//! Inputs: a moment, a peer's message or answer, what the adapter sees, an order from the plane.
//! Output: a [`Turn`] — what must be durable first, then what is done. The resource gets a *level*
//! ("be a standby of b"), never an edge, so a lost or repeated effect does no harm.
//!
//! Laws, each a line of code below: a resource is writable only in `Tenure::Holding`; a release is
//! said only with evidence that the resource is stopped; a node follows only the holder its voter
//! durably knows; an order is refused when the world it was made for is gone.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod attempt;
mod data;
mod membership;
mod orders;
mod sharing;
mod stalemate;
mod tenure;
mod voting;

#[cfg(test)]
mod data_tests;
#[cfg(test)]
mod fetch_tests;
#[cfg(test)]
mod membership_tests;
#[cfg(test)]
mod stalemate_tests;
#[cfg(test)]
mod tests;

use attempt::fine;
pub use attempt::{Attempt, Reason, Stage};
pub use tenure::Tenure;

use std::collections::{BTreeMap, BTreeSet};

use crate::lease::{Cut, Local, ReleaseNotice, Terms, Voter, VoterRecord};
use crate::model::loss::Suspicion;
use crate::model::observation::{ArmedFacts, HoldingFacts, StopEvidence, VoteFacts};
use crate::model::share::Shares;
use crate::model::topology::Strategy;
use crate::model::{
    ClusterId, DataFound, Epoch, Member, NodeId, Position, Span, SyncSet, TimelineHistory,
    Timestamp,
};
use crate::wire::message::PeerMessage;

/// What the resource shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// No process of it.
    Stopped(Manner),
    /// A replica that receives from `upstream`, or from nobody (cut).
    Standby {
        /// From whom.
        upstream: Option<Upstream>,
        /// If the data directory is empty and nobody can be cloned: make a new database.
        may_init: bool,
    },
    /// Accepts writes in this epoch, with this synchronous set.
    Primary {
        /// The epoch, which is also the timeline a promotion makes.
        epoch: Epoch,
        /// Who confirms commits.
        sync: SyncSet,
    },
    /// One of several that accept writes: serves this part of the traffic, none at 0.
    Sharing {
        /// The number of the shares.
        epoch: Epoch,
        /// Units of load.
        units: u64,
    },
}

/// How to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Checkpoint, let standbys have everything, then stop; harder only when the budget runs out.
    Graceful,
    /// Kill: the lease ends.
    Kill,
}

/// Whose log to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Which node.
    pub node: NodeId,
    /// In which epoch.
    pub epoch: Epoch,
    /// Its history, once it is promoted; before that only a node that shares its timeline can
    /// follow.
    pub history: Option<TimelineHistory>,
    /// The system identifier of its data, once known: nothing of another system follows it.
    pub system: Option<u64>,
}

/// What the adapter sees, as far as decisions need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resource {
    /// The goal that is reached.
    pub settled: u64,
    /// Whether it could acknowledge a write.
    pub writable: bool,
    /// No process remains, and the proof.
    pub stopped: Option<StopEvidence>,
    /// There is a database (a data directory that was filled).
    pub has_data: bool,
    /// The end of its log, when that is certain.
    pub position: Option<Position>,
    /// When a write last reached the disk (own clock).
    pub write_ok: Option<Timestamp>,
    /// The history of its log, as primary.
    pub history: Option<TimelineHistory>,
    /// The newest timeline that its log has a segment of, looked at after it stopped.
    pub newest_timeline: Option<u32>,
    /// It was started with no upstream, or does not run: it cannot receive, wherever its log ends.
    pub deaf: bool,
    /// Which data that is.
    pub data: DataFound,
    /// Why the goal cannot be reached; empty while there is hope.
    pub failure: String,
    /// As primary: why what it acknowledged may not be where the account says.
    pub doubt: Option<Suspicion>,
    /// As primary: whose commits wait for nobody, as the policy lists them.
    pub excluded: Vec<String>,
}

/// What the machine asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Tell a peer; its answer comes back as an input.
    Send(NodeId, PeerMessage),
    /// The resource shall be this. Numbered, so that "reached" can be told apart from "reached
    /// before".
    SetGoal(u64, Goal),
    /// The guard kills at this moment unless told otherwise.
    Guard(Timestamp),
    /// The guard is not needed: nothing runs that could write.
    StandDown,
    /// Something changed that the plane should know now.
    Report,
    /// As primary: commit a real write and read it back.
    Prove,
    /// The server of a standby stops cleanly; it is started again as whatever ends by itself.
    Restart,
    /// The store of this node is older than what its peers heard from it: it was restored. Its
    /// identity is given up; a new incarnation waits to be readmitted.
    Renounce(String),
    /// For the log.
    Note(String),
}

/// What one input caused.
#[derive(Debug, Default)]
#[must_use = "make the record durable, then carry out the effects"]
pub struct Turn {
    /// To be durable before anything else happens.
    pub persist: Option<VoterRecord>,
    /// To be done then, in order.
    pub effects: Vec<Effect>,
}

/// Fixed facts of one agent.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub me: Member,
    /// All nodes of the cluster file.
    pub nodes: BTreeSet<NodeId>,
    /// Nodes without data.
    pub witnesses: BTreeSet<NodeId>,
    /// Declared to start as primary: makes the first voter set and the first claim.
    pub founder: bool,
    /// Lease terms.
    pub terms: Terms,
    /// How many standbys confirm a commit.
    pub synchronous_standbys: usize,
    /// What the cluster file declares, where several nodes accept writes.
    pub declared_shares: Option<Shares>,
    /// Who decides.
    pub strategy: Strategy,
    /// After which a former holder may take the role back.
    pub reclaim_after: Span,
    /// A number no earlier process of this node used.
    pub first_round: u64,
}

/// What was found on the host when the agent started.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// A database process runs, and a guard that is told in time.
    pub running_guarded: bool,
    /// A server that no agent started runs here, on a node that never was in a cluster: it stays
    /// as it is until it is adopted.
    pub beside: bool,
    /// A person had the server that was here before adopted.
    pub adopted: bool,
}

/// The pure agent.
#[derive(Clone, Debug)]
pub struct Machine {
    setup: Setup,
    voter: Voter,
    tenure: Tenure,
    attempt: Option<Attempt>,
    goal: Goal,
    goal_id: u64,
    resource: Resource,
    /// What every peer said of itself last, in its hello.
    met: BTreeMap<NodeId, Met>,
    found_at: Timestamp,
    found_reclaim: Option<Timestamp>,
    /// A stopped former holder that nobody gives an upstream starts by itself then, cut off.
    idle_at: Option<Timestamp>,
    /// Newer shares that peers say they keep.
    kept_elsewhere: BTreeMap<NodeId, Shares>,
    /// A change of who votes and confirms, under way.
    wish: Option<membership::Wish>,
    /// When voters with another version are looked after again.
    straggle_at: Timestamp,
    last_armed: Option<ArmedFacts>,
    /// The end of the lease that the guard was told last.
    guarded_until: Option<Timestamp>,
    /// Since when the guard has not confirmed the newest one.
    unguarded: Option<Timestamp>,
    /// What it promises can be made durable.
    saves: bool,
    complaint: String,
    /// The complaint says why the lease is not renewed.
    withholds: bool,
    /// Peers whose store says less than it did: neither their promises nor their grants count.
    restored: BTreeSet<Member>,
    /// When it heard how often each peer's store was written.
    learned: BTreeMap<Member, Timestamp>,
    /// When the mark of the data here was last made durable.
    marked_at: Timestamp,
    /// Claims in a row that too few voters answered in time.
    unanswered: u32,
    stalemate: stalemate::Stalemate,
    /// It is being written, and how long the last one took.
    marking: bool,
    mark_took: Span,
    /// How many rebuilds of its data it has taken note of.
    rebuilt: u64,
    /// A server that is not owned yet runs here: nothing is known of it, and nothing is claimed.
    beside: bool,
    adopted: bool,
    /// That server takes writes, and somebody else is to found the cluster.
    contests: bool,
    now: Timestamp,
}

/// What a peer said of itself last.
#[derive(Clone, Debug)]
struct Met {
    member: Member,
    /// Of its voter set; 0: it has none.
    version: u64,
    /// A server that takes writes runs there, and is not its founder's.
    contests: bool,
    at: Timestamp,
}

/// The version of the set that a founder makes.
const FIRST_VERSION: u64 = 1;
/// How often a founder looks for peers before there is a voter set.
const FOUND_INTERVAL: Span = Span::millis(100);

impl Machine {
    /// Starts with the record read from disk. Nothing of an old role is trusted: the resource is
    /// cut off, unless it runs under a living guard and the voters still hold the promise.
    pub fn start(now: Timestamp, setup: Setup, record: VoterRecord, found: &Found) -> (Self, Turn) {
        assert_eq!(setup.me, record.me, "a record belongs to the incarnation that wrote it");
        let voter = Voter::restore(record, setup.terms, now);
        let cut = Goal::Standby { upstream: None, may_init: false };
        let mut machine = Self {
            setup,
            voter,
            tenure: Tenure::None,
            attempt: None,
            goal: cut.clone(),
            goal_id: 0,
            resource: Resource::default(),
            met: BTreeMap::new(),
            found_at: now,
            found_reclaim: None,
            idle_at: None,
            kept_elsewhere: BTreeMap::new(),
            wish: None,
            straggle_at: now,
            last_armed: None,
            guarded_until: None,
            unguarded: None,
            saves: true,
            complaint: String::new(),
            withholds: false,
            restored: BTreeSet::new(),
            learned: BTreeMap::new(),
            marked_at: now,
            unanswered: 0,
            stalemate: stalemate::Stalemate::default(),
            marking: false,
            mark_took: Span::ZERO,
            rebuilt: 0,
            beside: found.beside,
            adopted: found.adopted,
            contests: false,
            now,
        };
        for (peer, _) in &machine.voter.record().known {
            machine.learned.insert(peer.clone(), now);
        }
        let mut turn = Turn::default();
        if machine.setup.declared_shares.is_some() {
            if let Some(goal) = machine.sharing_goal() {
                machine.set_goal(goal, &mut turn);
            }
            return (machine, turn);
        }
        let record = machine.voter.record().clone();
        let mine = record.holder.as_ref() == Some(&machine.setup.me) && !record.is_released();
        // One that was claimed and never written in has no database to take up.
        let unused = record.claimed == Some(record.epoch);
        if mine && record.is_won() && !unused && found.running_guarded {
            machine.resume(now, &record, &mut turn);
        } else {
            machine.set_goal(cut, &mut turn);
            // What an earlier process meant to take back is not forgotten with it.
            if record.last_won().is_some_and(|won| won.holder == machine.setup.me) {
                machine.plan_reclaim(now);
            }
        }
        (machine, turn)
    }

    /// The durable part.
    pub fn record(&self) -> &VoterRecord {
        self.voter.record()
    }
    /// What it has promised.
    pub fn voter(&self) -> &Voter {
        &self.voter
    }
    /// Its relation to the write role.
    pub fn tenure(&self) -> &Tenure {
        &self.tenure
    }
    /// What the resource shall be.
    pub fn goal(&self) -> &Goal {
        &self.goal
    }
    /// Which data is here.
    pub fn data(&self) -> &DataFound {
        &self.resource.data
    }
    /// Why it last refused or gave up something.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }
    /// The plan it was armed with, and how far it is.
    pub fn armed(&self) -> Option<ArmedFacts> {
        self.attempt
            .as_ref()
            .and_then(|a| a.facts(&self.voter, self.now))
            .or_else(|| self.last_armed.clone())
    }
    /// In words, what it is doing; empty when nothing moves.
    pub fn activity(&self) -> String {
        if self.beside {
            return "waits beside a PostgreSQL that it does not own yet".into();
        }
        match (&self.tenure, &self.attempt) {
            (Tenure::Resuming { .. }, _) => "asks whether it still holds the role".into(),
            (Tenure::Holding { stopping: Some(_), .. }, _) => "hands the role over".into(),
            (Tenure::Ending { why, .. }, _) => format!("stops its database: {why}"),
            (_, Some(attempt)) => attempt.words(),
            (Tenure::Holding { promoted: None, .. }, None) => "promotes".into(),
            (Tenure::Holding { .. }, None) if self.wish.is_some() => {
                "changes who votes and confirms commits".into()
            }
            (Tenure::Holding { .. } | Tenure::None, None) => String::new(),
        }
    }

    /// When something will have to be decided without an input, at the earliest.
    pub fn next_wakeup(&self) -> Option<Timestamp> {
        if self.setup.declared_shares.is_some() {
            return None;
        }
        let founding = (self.setup.founder && self.founding()).then_some(self.found_at);
        let reclaim = self.found_reclaim.filter(|_| self.attempt.is_none());
        let attempt = self.attempt.as_ref().and_then(|a| a.next_wakeup(&self.voter));
        [founding, reclaim, attempt, self.idle_at, self.tenure.next_wakeup()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A moment passed.
    pub fn wakeup(&mut self, now: Timestamp) -> Turn {
        self.turn(now, |_, _| {})
    }

    /// The adapter sees this now.
    pub fn observed(&mut self, now: Timestamp, resource: Resource) -> Turn {
        self.turn(now, |machine, turn| {
            let before = std::mem::replace(&mut machine.resource, resource);
            machine.note_data(now, turn);
            if before.settled != machine.resource.settled
                || before.stopped.is_some() != machine.resource.stopped.is_some()
            {
                turn.effects.push(Effect::Report);
            }
            machine.mind_doubt(now, turn);
        })
    }

    /// Whether what it promises can be made durable: while it cannot, it is no voter, not even its
    /// own, and claims nothing.
    pub fn saved(&mut self, now: Timestamp, saves: bool) -> Turn {
        self.turn(now, |machine, turn| {
            machine.saves = saves;
            turn.effects.push(Effect::Report);
        })
    }
    /// What it was told of that last.
    pub fn saves(&self) -> bool {
        self.saves
    }
    /// Since when the guard has not confirmed the newest deadline, as it was told last.
    pub fn unguarded(&self) -> Option<Timestamp> {
        self.unguarded
    }

    fn turn(&mut self, now: Timestamp, input: impl FnOnce(&mut Self, &mut Turn)) -> Turn {
        self.now = now;
        self.note_mark_written(now);
        let mut turn = Turn::default();
        input(self, &mut turn);
        if self.setup.declared_shares.is_some() {
            return turn;
        }
        self.found(now, &mut turn);
        self.mind_tenure(now, &mut turn);
        self.mind_attempt(now, &mut turn);
        self.mind_reclaim(now, &mut turn);
        self.mind_membership(now, &mut turn);
        self.mind_guard(now, &mut turn);
        self.count_write(&mut turn);
        turn
    }

    fn set_goal(&mut self, goal: Goal, turn: &mut Turn) {
        if self.goal == goal && self.goal_id > 0 {
            return;
        }
        self.goal_id += 1;
        self.goal = goal.clone();
        turn.effects.push(Effect::SetGoal(self.goal_id, goal));
    }

    /// Cuts a replica off. A node that is stopping its database finishes that first: it cannot
    /// receive then either.
    fn cut(&mut self, turn: &mut Turn) {
        if !matches!(self.tenure, Tenure::None) {
            return;
        }
        self.set_goal(Goal::Standby { upstream: None, may_init: false }, turn);
    }

    fn is_settled(&self) -> bool {
        self.resource.settled == self.goal_id
    }

    fn is_witness(&self) -> bool {
        self.setup.witnesses.contains(&self.setup.me.node)
    }

    /// What only this host knows at the moment of a claim.
    fn local(&self) -> Local {
        let no_position = self.data_fault().is_some();
        let cut = if self.is_witness() || (self.resource.stopped.is_some() && self.is_settled()) {
            Cut::Nothing
        } else if no_position
            && self.is_settled()
            && matches!(self.goal, Goal::Standby { upstream: None, .. })
        {
            // Cut off, and of no use: a vote, and no more.
            Cut::Nothing
        } else if self.is_settled() && matches!(self.goal, Goal::Standby { upstream: None, .. }) {
            match self.resource.position {
                Some(position) => Cut::At(position),
                None if !self.resource.has_data => Cut::Nothing,
                None => Cut::Not,
            }
        } else if self.resource.deaf && matches!(self.goal, Goal::Standby { upstream: None, .. }) {
            // It may take long to start, or never: it does not help its old holder meanwhile.
            Cut::Nothing
        } else {
            Cut::Not
        };
        Local {
            not_writable: !self.beside
                && !self.resource.writable
                && !matches!(self.tenure, Tenure::Holding { .. }),
            cut,
            unproved_line: self.line_is_unproved(),
        }
    }

    /// How far the log here was flushed, as its voter remembers durably.
    pub fn mark(&self) -> Option<Position> {
        self.voter.record().data.high
    }

    /// That server takes writes although this node's is to be a standby: nothing is founded.
    pub fn contest(&mut self, contests: bool) {
        self.contests = contests;
    }

    /// It does not run any more: from now on only this agent starts one here.
    pub fn alone(&mut self, now: Timestamp) -> Turn {
        self.turn(now, |machine, turn| {
            (machine.beside, machine.contests, machine.adopted) = (false, false, true);
            turn.effects.push(Effect::Report);
        })
    }

    /// What its voter has promised, for reports.
    pub fn vote_facts(&self, now: Timestamp) -> VoteFacts {
        let record = self.voter.record();
        VoteFacts {
            epoch: record.epoch,
            holder: record.holder.clone(),
            released: record.is_released(),
            releases: record.released.clone(),
            history: record.history.clone(),
            unproved_line: self.has_unproved_log(),
            history_signed: record.history_signed,
            won: record.is_won(),
            lease_left: self.voter.lease_left(now),
            voters_version: record.voters.as_ref().map_or(0, |v| v.version),
            voters: record.voters.as_ref().map_or(0, |v| v.members.len()),
            votes: self.saves && record.voters.as_ref().is_some_and(|v| v.contains(&self.setup.me)),
            members: record.voters.as_ref().map_or(vec![], |v| v.members.iter().cloned().collect()),
            writes: record.writes,
        }
    }

    /// The lease it holds, for reports.
    pub fn holding_facts(&self, now: Timestamp) -> Option<HoldingFacts> {
        self.tenure.held(now).map(|holder| HoldingFacts {
            epoch: holder.epoch(),
            left: holder.held_until().map_or(Span::ZERO, |until| now.until(until)),
            promised_by: holder.promised_by(now),
            sync: holder.sync_set(),
            doubt: holder.doubt().clone(),
        })
    }

    fn peers(&self) -> Vec<NodeId> {
        self.setup.nodes.iter().filter(|n| **n != self.setup.me.node).cloned().collect()
    }

    fn broadcast(&self, message: &PeerMessage, turn: &mut Turn) {
        for peer in self.peers() {
            turn.effects.push(Effect::Send(peer, message.clone()));
        }
    }

    fn persist(turn: &mut Turn, record: Option<VoterRecord>) {
        if record.is_some() {
            turn.persist = record;
        }
    }

    /// Gives an epoch back: durable first, then said to everybody. Only with the resource stopped,
    /// or never promoted.
    fn release(
        &mut self,
        epoch: Epoch,
        final_position: Option<Position>,
        promoted: bool,
        turn: &mut Turn,
    ) {
        assert!(!self.resource.writable, "a release needs evidence that the resource is stopped");
        let notice = ReleaseNotice {
            epoch,
            holder: self.setup.me.clone(),
            final_position,
            promoted,
            since: (!promoted).then(|| self.voter.record().written_last()),
            process: self.setup.first_round,
        };
        let said = self.voter.release(self.now, &notice);
        Self::persist(turn, said.persist);
        self.broadcast(&PeerMessage::Release(notice), turn);
        turn.effects.push(Effect::Report);
    }

    fn sync_set(&self) -> SyncSet {
        let Some(voters) = &self.voter.record().voters else { return SyncSet::default() };
        let others =
            |m: &&Member| m.node != self.setup.me.node && !self.setup.witnesses.contains(&m.node);
        let members: crate::model::Members =
            voters.members.iter().filter(others).cloned().collect();
        let k = self.setup.synchronous_standbys.min(members.len());
        SyncSet { members, k }
    }
}
