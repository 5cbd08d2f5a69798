//! Which data the positions here belong to, and whether stores say what they said before.

use super::{Effect, Goal, Machine, Tenure, Turn};
use crate::model::command::HistoryOrder;
use crate::model::{DataFault, DataMark, Epoch, Member, Span, Timestamp};

/// The mark of how far the log is flushed is made durable so often while it moves.
const MARK_INTERVAL: Span = Span::secs(1);

impl Machine {
    /// Why what is here has no position: no grant rests on it, and it is no candidate. The vote
    /// stays.
    pub fn data_fault(&self) -> Option<DataFault> {
        if !self.resource.has_data || self.is_witness() {
            return None;
        }
        let record = self.voter.record();
        let may_be_won = |epoch: Epoch| record.history.iter().any(|h| h.epoch == epoch);
        record.data.fault(&self.resource.data, self.resource.position, may_be_won)
    }

    /// On a line that somebody may have won, and neither told by its winner nor its own.
    pub(super) fn line_is_unproved(&self) -> bool {
        let Some(line) = &self.resource.data.line else { return false };
        let record = self.voter.record();
        let epoch = Epoch(u64::from(line.timeline));
        !record.is_opened_by(&self.setup.me, epoch) && !record.data.accepts(line)
    }

    /// Nothing proves who wrote the log here.
    pub(super) fn has_unproved_log(&self) -> bool {
        self.resource.has_data && self.data_fault().is_none() && self.line_is_unproved()
    }

    /// Takes note of the data here: a rebuild makes it another, a winner's log is accepted as soon
    /// as it is received from the winner itself, and the mark follows the flushed log.
    pub(super) fn note_data(&mut self, now: Timestamp, turn: &mut Turn) {
        let found = &self.resource.data;
        let mut mark = self.voter.record().data.clone();
        let mut due = false;
        if found.rebuilt != self.rebuilt {
            self.rebuilt = found.rebuilt;
            (mark.high, mark.print) = (None, None);
            due = true;
        }
        // Its own promotion, which it may not have lived to say to anybody.
        if let Some(line) = &found.line
            && !found.stray
            && !mark.accepts(line)
            && self.voter.record().is_opened_by(&self.setup.me, Epoch(u64::from(line.timeline)))
        {
            mark.line = Some(line.clone());
            due = true;
        }
        let upstream = match &self.goal {
            Goal::Standby { upstream: Some(u), .. } if self.is_settled() => Some(u),
            _ => None,
        };
        if let (Some(upstream), Some(line)) = (upstream, &found.line)
            && u64::from(line.timeline) == upstream.epoch.0
            && !mark.accepts(line)
            && !found.stray
            && upstream.history.as_ref().is_none_or(|h| h == line)
        {
            mark.line = Some(line.clone());
            due = true;
        }
        let sound = self.data_fault().is_none();
        if sound
            && let Some(flushed) = found.flushed
            && mark.high.is_none_or(|high| high < flushed)
            && now.since(self.marked_at) >= MARK_INTERVAL.max(Span(self.mark_took.0 * 10))
        {
            mark.high = Some(flushed);
            mark.print = found.print.or(mark.print);
            due = true;
        }
        if due && mark != self.voter.record().data {
            (self.marked_at, self.marking) = (now, true);
            let record = self.voter.note_data(mark);
            Self::persist(turn, Some(record));
        }
    }

    /// Two persons sign whose data is the history. The caller has checked the signatures. The former
    /// holder among them may take its role back: that is what they accept.
    pub(super) fn take_history(
        &mut self,
        now: Timestamp,
        order: &HistoryOrder,
        turn: &mut Turn,
    ) -> Result<(), String> {
        if order.cluster != self.setup.cluster {
            return Err(format!("the order is for cluster {}", order.cluster));
        }
        if !matches!(self.tenure, Tenure::None) {
            return Err("this node holds the role: its data is the history".into());
        }
        let mine = order.member == self.setup.me;
        if mine && self.resource.data.system != Some(order.system) {
            return Err(format!(
                "here is system {:?}, not {}",
                self.resource.data.system, order.system
            ));
        }
        if self.voter.lease_left(now) > Span::ZERO && !self.voter.record().is_released() {
            return Err("the lease that was promised here runs: a node may hold the role".into());
        }
        let record = self.voter.take_history(DataMark {
            system: Some(order.system),
            own: mine.then_some(order.timeline),
            pardoned: mine,
            ..DataMark::default()
        });
        Self::persist(turn, Some(record));
        turn.effects.push(Effect::Note(format!("HISTORY: {}", order.words())));
        turn.effects.push(Effect::Report);
        Ok(())
    }

    /// Nothing is heard while a mark is written. Where that takes long it is written less often: a
    /// slow disk costs nobody the lease.
    pub(super) fn note_mark_written(&mut self, now: Timestamp) {
        if std::mem::take(&mut self.marking) {
            self.mark_took = now.since(self.marked_at);
        }
    }

    /// Every record that is written says how often that was done.
    pub(super) fn count_write(&mut self, turn: &mut Turn) {
        if turn.persist.is_some() {
            turn.persist = Some(self.voter.count_write());
        }
    }

    /// A peer whose store says less than it did was restored from an older copy. Answers overtake
    /// each other, so only one to what was asked after the greater number had come tells. `asked`
    /// is when that was; `None`: not known.
    pub(super) fn is_restored(
        &mut self,
        peer: &Member,
        writes: u64,
        asked: Option<Timestamp>,
    ) -> bool {
        let learned = self.learned.get(peer).copied();
        let tells = learned.zip(asked).is_some_and(|(learned, asked)| learned < asked);
        if tells && writes < self.voter.record().known_writes(peer) {
            if self.restored.insert(peer.clone()) {
                self.complaint = format!(
                    "the store of {} is older than what it said before: it was restored, and does \
                     not count until it is readmitted",
                    peer.node
                );
            }
            return true;
        }
        self.restored.contains(peer)
    }

    /// A peer says how often it and its peers wrote their stores. If it knows more of this node than
    /// this node does, what is here was restored.
    pub(super) fn hear_writes(
        &mut self,
        peer: &Member,
        writes: u64,
        known: &[(Member, u64)],
        turn: &mut Turn,
    ) {
        if !self.restored.contains(peer) && self.voter.know_writes(peer, writes) {
            self.learned.insert(peer.clone(), self.now);
        }
        let own = self.voter.record().writes;
        let said = known.iter().find(|(m, _)| *m == self.setup.me).map_or(0, |(_, n)| *n);
        if said > own && matches!(self.tenure, Tenure::None) {
            let why = format!(
                "{} heard of {said} writes to this node's store, here are {own}: it was restored \
                 from an older copy. This node votes again once it is readmitted",
                peer.node
            );
            self.complaint.clone_from(&why);
            turn.effects.push(Effect::Renounce(why));
        }
    }
}
