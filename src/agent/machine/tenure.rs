//! Holding the write role: renewing, losing it in time, giving it back.

use super::{Attempt, Effect, Goal, Machine, Manner, Reason, Turn};
use crate::lease::{Ack, EpochSync, Holder, Refusal, Terms, VoterRecord};
use crate::model::planted::{Bug, planted};
use crate::model::{Digest, Epoch, NodeId, Span, TimelineHistory, Timestamp};
use crate::wire::message::PeerMessage;

/// This node's relation to the write role.
#[derive(Clone, Debug)]
pub enum Tenure {
    /// It does not hold it.
    None,
    /// Its agent restarted under a living guard: it finds out whether the voters still keep their
    /// promise.
    Resuming {
        /// Counts the answers.
        holder: Holder,
        /// Next round of renewals.
        renew_at: Timestamp,
        /// Gives up then.
        until: Timestamp,
    },
    /// It holds it.
    Holding {
        /// Counts the promises.
        holder: Holder,
        /// Next round of renewals.
        renew_at: Timestamp,
        /// Since when it holds.
        since: Timestamp,
        /// The history of its log, once promoted.
        promoted: Option<TimelineHistory>,
        /// A plan says to hand it over, and until when the stop may take.
        stopping: Option<(Digest, Timestamp)>,
    },
    /// It stops its resource, and gives the role back once that is proved.
    Ending {
        /// Which epoch.
        epoch: Epoch,
        /// Why, in words.
        why: String,
        /// Whether its database was seen to be promoted in that epoch.
        promoted: bool,
    },
}

/// A promotion, with the fetch of missing log and recovery, may take so long before the lease is
/// let go.
const PROMOTION_MAX: Span = Span::secs(60);
/// A planned stop may take so long before it is forced.
pub(super) const PLANNED_STOP_MAX: Span = Span::secs(20);

impl Tenure {
    pub(super) fn next_wakeup(&self) -> Option<Timestamp> {
        match self {
            Tenure::None | Tenure::Ending { .. } => None,
            Tenure::Resuming { renew_at, until, .. } => Some((*renew_at).min(*until)),
            Tenure::Holding { holder, renew_at, .. } => {
                let end = holder.held_until().map(|until| until - Terms::KILL_TIME);
                Some(end.map_or(*renew_at, |end| end.min(*renew_at)))
            }
        }
    }
    /// The epoch it holds now.
    pub fn held(&self, now: Timestamp) -> Option<&Holder> {
        match self {
            Tenure::Holding { holder, .. } if holder.holds(now) => Some(holder),
            Tenure::None
            | Tenure::Resuming { .. }
            | Tenure::Holding { .. }
            | Tenure::Ending { .. } => None,
        }
    }
}

impl Machine {
    /// Six chances to renew within a lease, at most one in 50 ms.
    pub(super) fn renew_interval(&self) -> Span {
        Span((self.setup.terms.duration.0 / 6).clamp(Span::millis(50).0, Span::secs(2).0))
    }

    pub(super) fn resume(&mut self, now: Timestamp, record: &VoterRecord, turn: &mut Turn) {
        let Some((voters, entry)) = record.voters.clone().zip(record.last_won().cloned()) else {
            return;
        };
        let mut holder = Holder::new(
            self.setup.me.clone(),
            record.epoch,
            voters,
            entry.sync.clone(),
            self.setup.terms,
            self.setup.first_round,
        );
        holder.keep_doubt(entry.doubt.clone());
        // The database is left as it is; the guard ends it if the voters do not answer in time.
        // In a joint stage the first set is always allowed.
        let sync = entry.sync.sets.first().cloned().unwrap_or_default();
        self.set_goal(Goal::Primary { epoch: record.epoch, sync }, turn);
        turn.effects.push(Effect::Note(format!(
            "found the database running under its guard in epoch {}: asking the voters",
            record.epoch
        )));
        self.tenure =
            Tenure::Resuming { holder, renew_at: now, until: now + self.setup.terms.duration };
    }

    /// The write role begins here: won, durable.
    pub(super) fn begin_holding(
        &mut self,
        now: Timestamp,
        holder: Holder,
        promoted: Option<TimelineHistory>,
        turn: &mut Turn,
    ) {
        self.found_reclaim = None;
        self.tenure =
            Tenure::Holding { holder, renew_at: now, since: now, promoted, stopping: None };
        turn.effects.push(Effect::Report);
    }

    pub(super) fn mind_tenure(&mut self, now: Timestamp, turn: &mut Turn) {
        if let Tenure::Holding { holder, .. } | Tenure::Resuming { holder, .. } = &self.tenure
            && let Some(why) = self.overtaken(holder.epoch())
        {
            let epoch = holder.epoch();
            self.end(epoch, &why, turn);
        }
        match &self.tenure {
            Tenure::None => self.mind_unheld(turn),
            Tenure::Resuming { .. } => self.mind_resuming(now, turn),
            Tenure::Holding { .. } => self.mind_holding(now, turn),
            Tenure::Ending { .. } => self.mind_ending(now, turn),
        }
    }

    /// Epochs in the record that are this node's, without a tenure: unfinished claims, or a role
    /// lost with the host. Once nothing here can write they are given back, so that nobody has to
    /// wait for them or wonder.
    fn mind_unheld(&mut self, turn: &mut Turn) {
        let stopped = self.is_settled()
            && !self.resource.writable
            && !matches!(self.goal, Goal::Primary { .. });
        if !stopped || self.attempt.is_some() {
            return;
        }
        // A claim that an earlier process made and did not live to give up.
        let claimed = self.voter.record().claimed;
        if let Some(epoch) = claimed {
            let text = format!("gives epoch {epoch} back: it was claimed and never won");
            turn.effects.push(Effect::Note(text));
            self.release(epoch, None, false, turn);
            return;
        }
        let record = self.voter.record();
        let me = &self.setup.me;
        let released = |epoch: Epoch| record.released_by(epoch, me).is_some();
        let kept = |h: &crate::lease::EpochSync| {
            planted(Bug::KeepsOldEpochs)
                && (h.epoch, Some(me)) != (record.epoch, record.holder.as_ref())
        };
        // One that somebody's promotion has closed needs no release, and none would be taken down:
        // it would be said for ever.
        let closed =
            record.history.iter().filter(|h| h.promoted).map(|h| h.epoch).max().unwrap_or(Epoch(0));
        let open = record
            .history
            .iter()
            .find(|h| h.holder == *me && h.epoch >= closed && !released(h.epoch) && !kept(h))
            .map(|h| (h.epoch, h.won, h.promoted));
        let Some((epoch, won, was_promoted)) = open else { return };
        // A promotion begins its timeline before the first write, and a log that took another way
        // since would have closed the epoch.
        let timeline = self.resource.position.map(|p| p.timeline).or(self.resource.newest_timeline);
        // An epoch that was climbed to is written on the timeline of the one before.
        let promoted = won && (was_promoted || timeline.is_none_or(|t| u64::from(t) >= epoch.0));
        turn.effects
            .push(Effect::Note(format!("gives epoch {epoch} back: nothing here can write")));
        self.release(epoch, None, promoted, turn);
        if won && self.is_incumbent() {
            self.plan_reclaim(self.now);
        }
    }

    fn mind_resuming(&mut self, now: Timestamp, turn: &mut Turn) {
        let Tenure::Resuming { holder, until, .. } = &self.tenure else { return };
        if holder.holds(now) {
            let holder = holder.clone();
            let history = self.resource.history.clone();
            turn.effects.push(Effect::Note(format!("still holds epoch {}", holder.epoch())));
            let record = self.voter.end_hand_over();
            Self::persist(turn, record);
            self.begin_holding(now, holder, history, turn);
            return;
        }
        if now >= *until || self.resource.stopped.is_some() {
            let epoch = holder.epoch();
            self.end(epoch, "the voters did not confirm the role after a restart", turn);
            return;
        }
        self.renew_due(now, turn);
    }

    fn mind_holding(&mut self, now: Timestamp, turn: &mut Turn) {
        if let Tenure::Holding { holder, promoted: None, .. } = &self.tenure
            && let Some(fault) = self.data_fault()
        {
            let (epoch, why) = (holder.epoch(), format!("the data changed since it won: {fault}"));
            return self.end(epoch, &why, turn);
        }
        let Tenure::Holding { holder, promoted, stopping, since, .. } = &mut self.tenure else {
            return;
        };
        let epoch = holder.epoch();
        let (planned, since) = (stopping.is_some(), *since);
        if let Some(evidence) =
            self.resource.stopped.clone().filter(|_| promoted.is_some() || planned)
        {
            let why = if planned { "handed over as planned" } else { "its database stopped" };
            turn.effects
                .push(Effect::Note(format!("{why} ({}): gives epoch {epoch} back", evidence.how)));
            let was_promoted = promoted.is_some();
            self.given_back(now, epoch, was_promoted, turn);
            return;
        }
        let end = holder.held_until().unwrap_or(Timestamp(0));
        if now + Terms::KILL_TIME >= end && !planted(Bug::NoFence) {
            self.end(epoch, "the lease ran out", turn);
            return;
        }
        if promoted.is_none() {
            if self.resource.settled == self.goal_id
                && self.resource.writable
                && self.resource.history.is_some()
            {
                promoted.clone_from(&self.resource.history);
                // The others learn at once that there is something to follow.
                if let Tenure::Holding { renew_at, .. } = &mut self.tenure {
                    *renew_at = now;
                }
                turn.effects.push(Effect::Report);
            } else if !self.resource.failure.is_empty() {
                let why = format!("the promotion failed: {}", self.resource.failure);
                self.end(epoch, &why, turn);
                return;
            } else if now.since(since) > PROMOTION_MAX {
                self.end(epoch, "the promotion took too long", turn);
                return;
            }
        }
        self.renew_due(now, turn);
    }

    /// A holder that has reason to doubt its account says so to its voters at once: they keep it
    /// durably. Before its database was looked at it goes on saying what it said before.
    pub(super) fn mind_doubt(&mut self, now: Timestamp, turn: &mut Turn) {
        let looked = self.is_settled() || self.resource.doubt.is_some();
        let (Tenure::Holding { holder, renew_at, .. } | Tenure::Resuming { holder, renew_at, .. }) =
            &mut self.tenure
        else {
            return;
        };
        if looked && holder.doubts(self.resource.doubt.as_ref(), &self.resource.excluded) {
            *renew_at = now;
            turn.effects.push(Effect::Report);
        }
    }

    /// Renew only while the database can write: a hung one must lose the lease.
    fn renew_due(&mut self, now: Timestamp, turn: &mut Turn) {
        let interval = self.renew_interval();
        let patience = self.setup.terms.duration;
        let unguarded = self
            .unguarded
            .filter(|since| now.since(*since) > interval && !planted(Bug::UnguardedForEver));
        let (holder, renew_at, promoted) = match &mut self.tenure {
            Tenure::Holding { holder, renew_at, promoted, stopping, since } => {
                let writes = self.resource.write_ok.map_or(*since, |ok| ok.max(*since));
                let excused =
                    promoted.is_none() || stopping.as_ref().is_some_and(|(_, until)| now < *until);
                if !excused && now.since(writes) > patience {
                    "the database has not completed a write for a whole lease: letting the lease \
                        run out"
                        .clone_into(&mut self.complaint);
                    self.withholds = true;
                    *renew_at = now + interval;
                    return;
                }
                if let Some(since) = unguarded {
                    self.complaint = format!(
                        "no guard has confirmed the end of the lease for {}: letting the lease run \
                         out",
                        now.since(since)
                    );
                    self.withholds = true;
                    *renew_at = now + interval;
                    return;
                }
                (holder, renew_at, promoted.clone())
            }
            Tenure::Resuming { holder, renew_at, .. } => {
                (holder, renew_at, self.resource.history.clone())
            }
            Tenure::None | Tenure::Ending { .. } => return,
        };
        if now < *renew_at {
            return;
        }
        *renew_at = now + interval;
        let mut holder = holder.clone();
        if std::mem::take(&mut self.withholds) {
            // It renews again.
            self.complaint.clear();
        }
        self.send_renewal(now, &mut holder, promoted, turn);
        if let Tenure::Holding { holder: kept, .. } | Tenure::Resuming { holder: kept, .. } =
            &mut self.tenure
        {
            *kept = holder;
        }
    }

    /// One round of renewals, to itself first.
    pub(super) fn send_renewal(
        &mut self,
        now: Timestamp,
        holder: &mut Holder,
        promoted: Option<TimelineHistory>,
        turn: &mut Turn,
    ) {
        let system = self.voter.record().data.system.or(self.resource.data.system);
        let renew = holder.renew(now, promoted, system, self.setup.first_round);
        let own = self.voter.renew(now, &renew);
        Self::persist(turn, own.persist);
        // A voter that cannot save anything counts for nobody, and not for itself.
        if let Ok(ack) = own.reply.as_ref()
            && self.saves
        {
            holder.ack(ack);
        }
        self.broadcast(&PeerMessage::Renew(renew), turn);
    }

    /// A voter promised.
    pub(super) fn acked(&mut self, ack: &Ack) {
        let asked = self.counting().and_then(|holder| holder.sent(ack.round));
        if self.is_restored(&ack.voter, ack.writes, asked) {
            return;
        }
        if let Some(holder) = self.counting() {
            holder.ack(ack);
        }
    }

    /// Who counts promises now.
    fn counting(&mut self) -> Option<&mut Holder> {
        match &mut self.tenure {
            Tenure::Holding { holder, .. } | Tenure::Resuming { holder, .. } => Some(holder),
            Tenure::None | Tenure::Ending { .. } => None,
        }
        .map_or_else(|| Self::fetching_holder(&mut self.attempt), Some)
    }

    /// The guard and the self-fence follow the end of the lease, up and down: a change of voters
    /// may lower it. Said before anything else of the turn.
    pub(super) fn mind_guard(&mut self, now: Timestamp, turn: &mut Turn) {
        let until = match &self.tenure {
            Tenure::Holding { holder, .. } => holder.held_until(),
            // What an earlier process armed stands until the voters have answered.
            Tenure::Resuming { holder, .. } => holder.held_until().filter(|_| holder.holds(now)),
            Tenure::None | Tenure::Ending { .. } => None,
        };
        let kept = planted(Bug::GuardOnlyRises) && until < self.guarded_until;
        if let Some(until) = until.filter(|_| until != self.guarded_until && !kept) {
            turn.effects.insert(0, Effect::Guard(until - Terms::KILL_TIME));
        }
        self.guarded_until = until;
    }

    /// Since when the guard has not confirmed the newest deadline; `None`: it has.
    pub fn guarded(&mut self, now: Timestamp, unconfirmed: Option<Timestamp>) -> Turn {
        self.turn(now, |machine, _| machine.unguarded = unconfirmed)
    }

    /// A voter did not promise. One that knows a higher epoch is stranded: the holder climbs above
    /// it.
    pub(super) fn not_acked(&mut self, now: Timestamp, by: &NodeId, why: &Refusal) {
        let Refusal::NewerEpoch { epoch, of } = why else { return };
        let Tenure::Holding { holder, stopping: None, promoted: Some(_), .. } = &self.tenure else {
            return;
        };
        // A voter that voted for this holder, up to the epoch that it holds, answered a renewal of
        // before a climb: another climb would only leave the next such answer under way.
        let mine = of.as_ref() == Some(&self.setup.me) && *epoch <= holder.epoch();
        if !mine && *epoch >= holder.epoch() && holder.holds(now) && self.attempt.is_none() {
            self.complaint = format!("{by} knows epoch {epoch}: climbing above it");
            self.attempt = Some(Attempt::new(now, Reason::Climb, *epoch));
        }
    }

    /// Somebody won a newer epoch than the one that is held here. No lease that is right allows
    /// that: the clock of this host stood still, or what a voter kept was lost. Taken down, it ends
    /// this one's at once.
    pub(super) fn hear_winner(&mut self, won: EpochSync, turn: &mut Turn) {
        let (Tenure::Holding { holder, .. } | Tenure::Resuming { holder, .. }) = &self.tenure
        else {
            return;
        };
        if won.epoch > holder.epoch() && won.holder != self.setup.me {
            let said = self.voter.learn(&[won]);
            Self::persist(turn, said.persist);
        }
    }

    /// Whoever won an epoch above the one that is held here.
    fn overtaken(&self, held: Epoch) -> Option<String> {
        let record = self.voter.record();
        let newer = |h: &&EpochSync| h.won && h.epoch > held && h.holder != self.setup.me;
        let newer = record.history.iter().find(newer)?;
        (!planted(Bug::HoldsOnOvertaken)).then(|| {
            format!(
                "{} won epoch {}: this host stood still, or a voter forgot its promise",
                newer.holder.node, newer.epoch
            )
        })
    }

    /// Stops the resource now; the role is given back once it is proved.
    pub(super) fn end(&mut self, epoch: Epoch, why: &str, turn: &mut Turn) {
        turn.effects.push(Effect::Note(format!("epoch {epoch}: {why}; stopping the database")));
        why.clone_into(&mut self.complaint);
        self.attempt = None;
        let promoted = match &self.tenure {
            Tenure::Holding { promoted, .. } => promoted.is_some(),
            Tenure::Resuming { .. } => true,
            Tenure::None | Tenure::Ending { .. } => false,
        };
        self.tenure = Tenure::Ending { epoch, why: why.to_owned(), promoted };
        self.set_goal(Goal::Stopped(Manner::Kill), turn);
        turn.effects.push(Effect::Report);
    }

    fn mind_ending(&mut self, now: Timestamp, turn: &mut Turn) {
        let Tenure::Ending { epoch, promoted, .. } = self.tenure else { return };
        if self.resource.stopped.is_some() && self.is_settled() {
            self.given_back(now, epoch, promoted, turn);
        }
    }

    fn given_back(&mut self, now: Timestamp, epoch: Epoch, was_promoted: bool, turn: &mut Turn) {
        let final_position = self.resource.stopped.as_ref().and_then(|s| s.final_position);
        // A promotion begins its timeline before the first write: without that timeline nothing was
        // written.
        let promoted =
            was_promoted || self.resource.newest_timeline.is_none_or(|t| u64::from(t) >= epoch.0);
        self.attempt = None;
        self.tenure = Tenure::None;
        self.set_goal(Goal::Stopped(Manner::Kill), turn);
        self.release(epoch, final_position, promoted, turn);
        turn.effects.push(Effect::StandDown);
        self.idle_at = Some(now + self.setup.reclaim_after);
        self.plan_reclaim(now);
    }

    /// A person who wants to decide is not overtaken; a planned move that nobody completes is
    /// undone, also by the process that comes after the one that began it.
    pub(super) fn plan_reclaim(&mut self, now: Timestamp) {
        let record = self.voter.record();
        let handed = record.last_won().is_some_and(|won| record.handing == Some(won.epoch));
        let by_itself = handed || self.setup.strategy != crate::model::topology::Strategy::Manual;
        self.found_reclaim = by_itself.then(|| now + self.setup.reclaim_after);
    }
}
