//! Who votes and who confirms commits: the holder changes both, one node at a time, while it holds
//! the role.
//!
//! A node that leaves stops confirming commits before it stops voting; one that comes votes before
//! it confirms. The voter set is in force when a majority of both sets has it and a majority of the
//! new one promises, and until then the one before counts; the synchronous set passes through a
//! joint stage, and the database uses the new one only once that stage is durable at a majority. Everything is derived again from what is true, so a message that is lost or said
//! twice does no harm.

use std::collections::BTreeMap;

use super::{Effect, Goal, Machine, Met, Tenure, Turn};
use crate::lease::{Holder, Refusal, VoterChange};
use crate::model::command::{OverrideOrder, VoterOrder};
use crate::model::{Member, NodeId, Span, SyncSet, Timestamp, VoterSet};
use crate::wire::message::PeerMessage;

/// A change that is not in force by then is taken back: who is to have it answers, and does not take
/// it.
const CHANGE_MAX: Span = Span::secs(10);

/// A change is said again after this.
const RESEND: Span = Span::millis(100);

/// A node that answered a hello within this is in reach; one goes out with every heartbeat.
pub(super) const ANSWERS: Span = Span::millis(2_500);

/// What the holder was ordered to change.
#[derive(Clone, Debug, PartialEq)]
pub struct Wish {
    order: VoterOrder,
    resend: Timestamp,
}

impl Machine {
    /// Takes up an order; refused when the world it was made for is gone.
    pub(super) fn wish(&mut self, now: Timestamp, order: VoterOrder) -> Result<(), String> {
        let Tenure::Holding { holder, promoted: Some(_), stopping: None, .. } = &self.tenure else {
            return Err("only the node that holds the role changes the voter set".into());
        };
        if order.cluster != self.setup.cluster {
            return Err(format!("the order is for cluster {}", order.cluster));
        }
        if self.wish.as_ref().is_some_and(|w| w.order == order) {
            return Ok(());
        }
        // One that waits and has changed nothing gives way: the node it waits for may be the one
        // that the next order replaces.
        let joint = |m: &Member| {
            let sets = &holder.sync().sets;
            sets.iter().any(|s| s.members.contains(m))
                && !sets.iter().all(|s| s.members.contains(m))
        };
        // A joint stage may be older than the wish: only one for its own member shows that it has
        // begun.
        let begun = |wish: &Wish| {
            let added = wish.order.add.as_ref().filter(|m| holder.voters().contains(m));
            holder.next_voters().is_some() || wish.order.remove.iter().chain(added).any(joint)
        };
        // Nor is one waited for that would end only with a write that nobody is left to confirm.
        let stuck = |wish: &Wish| {
            let left = |gone| !self.confirmed(now, &without(&holder.sync_set(), gone));
            holder.next_voters().is_none()
                && wish.order.remove.as_ref().is_some_and(|gone| joint(gone) && left(gone))
        };
        if let Some(wish) = self.wish.as_ref().filter(|w| begun(w) && !stuck(w)) {
            return Err(format!("another change is under way: {}", wish.order.words()));
        }
        if holder.voters().version != order.from_version {
            return Err(format!(
                "the world moved: the order is for voter set version {}, here is {}",
                order.from_version,
                holder.voters().version
            ));
        }
        if let Some(remove) = &order.remove {
            if *remove == self.setup.me {
                return Err("the holder does not remove itself: hand the role over first".into());
            }
            if !holder.voters().contains(remove) {
                return Err(format!("{} is not in the voter set", remove.node));
            }
            if order.add.is_none() && holder.voters().members.len() <= 2 {
                let why =
                    "one voter alone could never take in another: add or readmit a node first";
                return Err(format!("{}: {why}", remove.node));
            }
            let sync = holder.sync_set();
            let confirms = sync.members.contains(remove) && order.add.is_none();
            if confirms && sync.members.len() <= sync.k {
                let why = "commits wait for that many standbys, and fewer would be left: lower \
                    synchronous_standbys first";
                return Err(format!("{}: {why}", remove.node));
            }
            if confirms && !self.confirmed(now, &without(&sync, remove)) {
                return Err(format!(
                    "{}: commits wait for {} standbys, and too few of those that would be left \
                     answer: bring one back, readmit or add one first",
                    remove.node, sync.k
                ));
            }
        }
        if let Some(add) = &order.add
            && !self.setup.nodes.contains(&add.node)
        {
            return Err(format!("{} is not in the cluster file", add.node));
        }
        if let (None, Some(add)) = (&order.remove, &order.add)
            && !holder.voters().contains(add)
        {
            let mut next = holder.voters().clone();
            next.members.insert(add.clone());
            if let Some(why) = too_few_promises(&self.met, holder, &next, now) {
                return Err(format!(
                    "{}: {why}; remove or readmit one that is gone first",
                    add.node
                ));
            }
        }
        self.wish = Some(Wish { order, resend: now });
        Ok(())
    }

    /// The next step of a change, if one is wished for or was left half-way.
    pub(super) fn mind_membership(&mut self, now: Timestamp, turn: &mut Turn) {
        if !matches!(self.tenure, Tenure::Holding { promoted: Some(_), stopping: None, .. }) {
            self.wish = None;
            return;
        }
        if self.attempt.is_some() {
            return;
        }
        self.take_force(now, turn);
        if self.take_back(now, turn) {
            return;
        }
        let Tenure::Holding { holder, .. } = &self.tenure else { return };
        let (voters, sync, stage) =
            (holder.voters().clone(), holder.sync_set(), holder.sync().clone());
        let joint = stage.sets.len() > 1;
        self.mind_stragglers(now, &voters, turn);
        let Some(wish) = &self.wish else {
            // A joint stage that is left over stays: whoever claims satisfies both, and the next
            // change ends it.
            return;
        };
        let order = wish.order.clone();
        if let Some(gone) = &order.remove {
            let confirms = stage.sets.iter().any(|s| s.members.contains(gone));
            let target = without(&sync, gone);
            // Where too few would be left to confirm, who replaces it comes first: nothing waits
            // for one that is gone.
            if confirms && (order.add.is_none() || self.confirmed(now, &target)) {
                self.drive_sync(now, &target, turn);
                return;
            }
            if voters.contains(gone) {
                self.drive_voters(now, |set| _ = set.members.remove(gone), turn);
                return;
            }
        }
        if let Some(new) = &order.add {
            if !voters.contains(new) {
                self.drive_voters(now, |set| _ = set.members.insert(new.clone()), turn);
                return;
            }
            let confirms = !self.setup.witnesses.contains(&new.node) && *new != self.setup.me;
            if confirms && (joint || !sync.members.contains(new)) {
                let mut target = sync.clone();
                target.members.insert(new.clone());
                target.members.retain(|m| order.remove.as_ref() != Some(m));
                target.k = self.setup.synchronous_standbys.min(target.members.len());
                self.drive_sync(now, &target, turn);
                return;
            }
        }
        turn.effects.push(Effect::Note(format!(
            "done: {}; voter set version {}",
            order.words(),
            voters.version
        )));
        turn.effects.push(Effect::Report);
        self.wish = None;
    }

    /// A change that would not come into force, because too few of the new set are left to promise,
    /// is taken back: the set before is said again, under a newer version. Nothing else could be
    /// changed meanwhile. Whoever claims by the set that is given up meets a voter that has this one,
    /// as in every change of one voter.
    fn take_back(&mut self, now: Timestamp, turn: &mut Turn) -> bool {
        let Tenure::Holding { holder, .. } = &mut self.tenure else { return false };
        let Some((next, since)) = holder.next_voters().zip(holder.changing_since()) else {
            return false;
        };
        if next.members == holder.voters().members {
            return false;
        }
        let late = || {
            let why = format!("not enough of the new set have it after {CHANGE_MAX}");
            (now.since(since) > CHANGE_MAX).then_some(why)
        };
        let Some(why) = too_few_promises(&self.met, holder, next, now).or_else(late) else {
            return false;
        };
        let version = next.next_version(holder.epoch());
        let set = VoterSet { version, members: holder.voters().members.clone() };
        holder.begin_change(set.clone(), now);
        self.complaint = format!("the change of voters is taken back: {why}");
        turn.effects.push(Effect::Note(self.complaint.clone()));
        self.wish = None;
        self.say_set(set, turn);
        true
    }

    /// As many of that set answer as commits would wait for.
    fn confirmed(&self, now: Timestamp, set: &SyncSet) -> bool {
        let answers = |m: &&Member| {
            let met = self.met.get(&m.node);
            met.is_some_and(|met| met.member == **m && now.since(met.at) <= ANSWERS)
        };
        set.members.iter().filter(answers).count() >= set.k
    }

    /// One step towards `target` as the synchronous set.
    fn drive_sync(&mut self, now: Timestamp, target: &SyncSet, turn: &mut Turn) {
        let settled = self.is_settled() && self.resource.writable;
        let Tenure::Holding { holder, renew_at, .. } = &mut self.tenure else { return };
        let sets = holder.sync().sets.clone();
        if sets.len() == 1 {
            if sets[0] != *target {
                holder.begin_stage(vec![sets[0].clone(), target.clone()]);
                *renew_at = now;
            }
            return;
        }
        if !holder.stage_is_durable() {
            return;
        }
        // A stage that was left half-way is ended first: forward, or back where who is needed for
        // that is gone.
        let epoch = holder.epoch();
        let left = sets.iter().rev().find(|set| self.confirmed(now, set)).or(sets.last());
        let target = if sets.contains(target) { target } else { left.unwrap_or(target) };
        let goal = Goal::Primary { epoch, sync: target.clone() };
        if self.goal != goal {
            self.set_goal(goal, turn);
        } else if let Tenure::Holding { holder, renew_at, .. } = &mut self.tenure
            && settled
        {
            // The database reached its goal: a write waited for the new set, so everything before
            // it is there too.
            holder.begin_stage(vec![target.clone()]);
            *renew_at = now;
        }
    }

    /// One step towards another voter set.
    fn drive_voters(
        &mut self,
        now: Timestamp,
        change: impl FnOnce(&mut VoterSet),
        turn: &mut Turn,
    ) {
        let Tenure::Holding { holder, .. } = &mut self.tenure else { return };
        if holder.next_voters().is_none() {
            let mut next = holder.voters().clone();
            if holder.is_settled() {
                change(&mut next);
            }
            if let Some(why) = too_few_promises(&self.met, holder, &next, now) {
                self.complaint = format!("the change waits: {why}");
                return;
            }
            let newest = self
                .voter
                .record()
                .voters
                .as_ref()
                .filter(|v| v.version > next.version)
                .unwrap_or(holder.voters());
            next.version = newest.next_version(holder.epoch());
            holder.begin_change(next, now);
        } else if self.wish.as_ref().is_some_and(|w| now < w.resend) {
            return;
        }
        let Some(set) = holder.next_voters().cloned() else { return };
        if let Some(wish) = &mut self.wish {
            wish.resend = now + RESEND;
        }
        self.say_set(set, turn);
    }

    /// Tells those who are in it which set it is to be. Who leaves votes for its holder until the
    /// set is in force.
    fn say_set(&mut self, set: VoterSet, turn: &mut Turn) {
        let Tenure::Holding { holder, .. } = &self.tenure else { return };
        let to: Vec<NodeId> = set.members.iter().map(|m| m.node.clone()).collect();
        let message = VoterChange { epoch: holder.epoch(), holder: self.setup.me.clone(), set };
        for peer in to.into_iter().filter(|peer| *peer != self.setup.me.node) {
            turn.effects.push(Effect::Send(peer, PeerMessage::Change(message.clone())));
        }
    }

    /// A set that may come into force: this node's own voter takes it last, so that an agent that
    /// restarts before goes on by the one that counted.
    fn take_force(&mut self, now: Timestamp, turn: &mut Turn) {
        let Tenure::Holding { holder, .. } = &mut self.tenure else { return };
        let Some(set) = holder.due(now).filter(|_| self.saves).cloned() else { return };
        let version = set.version;
        let message = VoterChange { epoch: holder.epoch(), holder: self.setup.me.clone(), set };
        let said = self.voter.change(now, &message);
        Self::persist(turn, said.persist);
        if said.reply.is_err() {
            return;
        }
        holder.take_force();
        turn.effects.push(Effect::Note(format!("voter set version {version} is in force")));
        turn.effects.push(Effect::Report);
        // Who left hears it too, and that it votes no more.
        self.broadcast(&PeerMessage::Change(message), turn);
    }

    /// A voter that missed a change hears it again; one that kept a change which never came into
    /// force is brought back by a newer version of the set that is.
    fn mind_stragglers(&mut self, now: Timestamp, voters: &VoterSet, turn: &mut Turn) {
        if now < self.straggle_at || self.wish.is_some() {
            return;
        }
        self.straggle_at = now + Span(RESEND.0 * 5);
        let behind = |met: &&Met| {
            voters.contains(&met.member) && met.version > 0 && met.version != voters.version
        };
        let newest = self.met.values().filter(behind).map(|met| met.version).max();
        let Tenure::Holding { holder, .. } = &mut self.tenure else { return };
        // One that was away when it left hears so from its holder.
        let left = |met: &&Met| met.version > 0 && met.version < voters.version;
        if holder.is_settled() && holder.next_voters().is_none() {
            let set = holder.voters().clone();
            let message = VoterChange { epoch: holder.epoch(), holder: self.setup.me.clone(), set };
            let to = self.met.iter().filter(|(_, met)| left(met));
            turn.effects.extend(
                to.map(|(n, _)| Effect::Send(n.clone(), PeerMessage::Change(message.clone()))),
            );
        }
        // What is under way is said until it is in force: a word may be lost.
        let under_way = holder.next_voters().map(|set| set.version);
        let Some(newest) = newest.or(under_way) else { return };
        if newest > voters.version && holder.next_voters().is_none() {
            let seen = VoterSet { version: newest, members: voters.members.clone() };
            let set = VoterSet { version: seen.next_version(holder.epoch()), ..seen };
            holder.begin_change(set, now);
        }
        let set = holder.next_voters().unwrap_or(voters).clone();
        self.say_set(set, turn);
    }

    /// A voter has a new set: it is asked to promise, without waiting for the next round.
    pub(super) fn voter_changed(&mut self, now: Timestamp, voter: &Member, version: u64) {
        if let Tenure::Holding { holder, renew_at, .. } = &mut self.tenure
            && holder.next_voters().is_some_and(|next| next.version == version)
        {
            holder.changed(voter);
            *renew_at = now;
        }
    }

    /// Removes voters that two persons attested as powered off. The caller has checked the
    /// signatures.
    pub(super) fn remove_attested(
        &mut self,
        now: Timestamp,
        order: &OverrideOrder,
        turn: &mut Turn,
    ) -> Result<(), String> {
        if order.cluster != self.setup.cluster {
            return Err(format!("the override is for cluster {}", order.cluster));
        }
        let said =
            self.voter.remove_attested(now, &order.left, &order.remove, order.accept_unknown_loss);
        Self::persist(turn, said.persist);
        said.reply.map_err(|refusal: Refusal| refusal.to_string())?;
        turn.effects.push(Effect::Note(format!("OVERRIDE: {}", order.words())));
        turn.effects.push(Effect::Report);
        Ok(())
    }
}

/// That set when one of it confirms no more.
fn without(set: &SyncSet, gone: &Member) -> SyncSet {
    let members = set.members.iter().filter(|m| *m != gone).cloned();
    let mut left = SyncSet { members: members.collect(), k: set.k };
    left.k = left.k.min(left.members.len());
    left
}

/// A changed set is in force when a majority of it promises, and the next change waits for that:
/// none is begun that would not come so far. Who comes has promised nothing yet, and has to answer.
fn too_few_promises(
    all_met: &BTreeMap<NodeId, Met>,
    holder: &Holder,
    next: &VoterSet,
    now: Timestamp,
) -> Option<String> {
    let counts = |m: &&Member| {
        let met = all_met.get(&m.node).filter(|_| !holder.voters().contains(m));
        holder.is_promised_by(m, now)
            || met.is_some_and(|met| met.member == **m && now.since(met.at) <= ANSWERS)
    };
    let promised = next.members.iter().filter(counts).count();
    (promised < next.majority()).then(|| {
        format!(
            "{} of the {} voters that there would be have to promise, and {promised} do or answer",
            next.majority(),
            next.members.len()
        )
    })
}
