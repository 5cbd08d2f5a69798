//! Answering peers: promise, grant, note a release; and the first voter set.

use super::membership::ANSWERS;
use super::{
    Attempt, Effect, FIRST_VERSION, FOUND_INTERVAL, Goal, Machine, Met, Reason, Resource, Tenure,
    Turn, Upstream,
};
use crate::lease::{Refusal, ReleaseNotice, Renew};
use crate::model::{Epoch, NodeId, Timestamp, VoterSet};
use crate::wire::message::{Hello, PeerMessage, PeerReply};

impl Machine {
    /// A peer's message. The answer is said only after the turn's record is durable.
    pub fn message(
        &mut self,
        now: Timestamp,
        message: PeerMessage,
        approved: Result<(), String>,
    ) -> (Turn, PeerReply) {
        let mut reply = PeerReply::Noted;
        let turn =
            self.turn(now, |machine, turn| reply = machine.answer(now, message, approved, turn));
        (turn, reply)
    }

    fn answer(
        &mut self,
        now: Timestamp,
        message: PeerMessage,
        approved: Result<(), String>,
        turn: &mut Turn,
    ) -> PeerReply {
        let me = self.setup.me.clone();
        if self.setup.declared_shares.is_some() {
            // Nobody votes and nobody holds a lease here; peers only see each other.
            let why = Refusal::Stranger {
                why: "several nodes accept writes in this cluster: nobody votes".into(),
            };
            return if matches!(message, PeerMessage::Hello) {
                PeerReply::Hello(self.hello(&self.resource))
            } else {
                PeerReply::Refused { by: me, why }
            };
        }
        let refused = |why| PeerReply::Refused { by: me.clone(), why };
        match message {
            PeerMessage::Renew(renew) => {
                let said = self.voter.renew(now, &renew);
                Self::persist(turn, said.persist);
                match said.reply {
                    Ok(ack) => {
                        self.hear_holder(now, &renew, turn);
                        self.follow(&renew, turn);
                        PeerReply::Ack(ack)
                    }
                    Err(refusal) => {
                        if matches!(refusal, Refusal::Promised { .. }) {
                            self.hear_winner(renew.won(), turn);
                        }
                        refused(refusal)
                    }
                }
            }
            PeerMessage::Ask(request) => {
                PeerReply::Answer(self.voter.ask(now, &request, self.local()))
            }
            PeerMessage::Claim(request) => {
                if let Err(why) = approved {
                    return refused(Refusal::NotApproved { why });
                }
                let said = self.voter.claim(now, &request, self.local());
                Self::persist(turn, said.persist);
                match said.reply {
                    Ok(grant) => {
                        // The promise holds after a restart of the database too.
                        let helps = matches!(&self.goal, Goal::Standby { upstream: Some(u), .. } if u.node != grant.candidate.node);
                        if helps {
                            self.cut(turn);
                        }
                        turn.effects.push(Effect::Report);
                        PeerReply::Grant(grant)
                    }
                    Err(Refusal::Cutting) => {
                        self.cut(turn);
                        refused(Refusal::Cutting)
                    }
                    Err(refusal) => refused(refusal),
                }
            }
            PeerMessage::Release(notice) => {
                self.released(&notice, turn);
                PeerReply::Noted
            }
            PeerMessage::Hello => PeerReply::Hello(self.hello(&self.resource)),
            PeerMessage::Change(change) => {
                let said = self.voter.change(now, &change);
                Self::persist(turn, said.persist);
                match said.reply {
                    Ok(()) => PeerReply::Changed { voter: me, version: change.set.version },
                    Err(refusal) => refused(refusal),
                }
            }
            PeerMessage::Install(set) => {
                let said = self.voter.install(set);
                Self::persist(turn, said.persist);
                match said.reply {
                    Ok(()) => PeerReply::Noted,
                    Err(refusal) => refused(refusal),
                }
            }
        }
    }

    fn released(&mut self, notice: &ReleaseNotice, turn: &mut Turn) {
        let said = self.voter.release(self.now, notice);
        if said.persist.is_none() {
            return;
        }
        Self::persist(turn, said.persist);
        let follows = matches!(self.goal, Goal::Standby { upstream: Some(_), .. });
        if said.reply && follows && self.attempt.as_ref().is_none_or(Attempt::is_waiting) {
            // Nothing more comes from there; cutting now makes the end of this log certain, and a
            // grant quick.
            self.cut(turn);
        }
        turn.effects.push(Effect::Report);
    }

    fn hello(&self, resource: &Resource) -> Hello {
        let voters = self.voter.record().voters.clone();
        let version = voters.as_ref().map_or(0, |v| v.version);
        let resource_runs = resource.stopped.is_none() && resource.has_data;
        let releases = self.voter.record().released.clone();
        let won = self.voter.record().last_won().cloned();
        Hello {
            member: self.setup.me.clone(),
            voters_version: version,
            voters,
            won,
            line: self.voter.record().won_line().cloned(),
            resource_runs,
            releases,
            shares: self.shares().cloned(),
            writes: self.voter.record().writes,
            known: self.voter.record().known.clone(),
            contests: self.contests,
            report: None,
        }
    }

    /// A winner renewed here: receive its log.
    fn follow(&mut self, renew: &Renew, turn: &mut Turn) {
        if renew.holder == self.setup.me
            || self.is_witness()
            || !matches!(self.tenure, Tenure::None)
        {
            return;
        }
        if self.attempt.is_some() {
            if self.attempt.as_ref().is_some_and(Attempt::is_waiting)
                && matches!(self.attempt.as_ref().map(|a| &a.reason), Some(Reason::Armed { plan, .. }) if renew.epoch <= plan.epoch)
            {
                // Armed and waiting: it goes on receiving until it claims.
            } else {
                return;
            }
        }
        let before = match &self.goal {
            Goal::Standby { upstream: Some(upstream), .. } => {
                Some((upstream.epoch, upstream.history.is_some()))
            }
            Goal::Standby { upstream: None, .. }
            | Goal::Stopped(_)
            | Goal::Primary { .. }
            | Goal::Sharing { .. } => None,
        };
        // Before the promotion is done there is no history to compare with; a node that was cut for
        // this very claim shares the winner's log and may connect already.
        if renew.promoted.is_none() && before.is_some() {
            return;
        }
        let prepared = matches!(self.goal, Goal::Standby { upstream: None, .. })
            && self.is_settled()
            && self.resource.position.is_some()
            && self.data_fault().is_none();
        if renew.promoted.is_none() && !prepared {
            return;
        }
        let upstream = Upstream {
            node: renew.holder.node.clone(),
            epoch: renew.epoch,
            history: renew.promoted.clone(),
            system: renew.system,
        };
        self.set_goal(Goal::Standby { upstream: Some(upstream), may_init: false }, turn);
    }

    /// A peer's answer.
    pub fn reply(&mut self, now: Timestamp, from: &NodeId, reply: PeerReply) -> Turn {
        self.turn(now, |machine, turn| match reply {
            PeerReply::Ack(ack) => machine.acked(&ack),
            PeerReply::Answer(answer) => machine.answered(answer),
            PeerReply::Grant(grant) => machine.granted(grant, turn),
            PeerReply::Refused { by, why } => {
                if by.node == *from {
                    machine.claim_refused(from, &why);
                    machine.not_acked(now, from, &why);
                }
            }
            PeerReply::Hello(hello) => {
                if let Some(shares) = hello.shares {
                    machine.hear_shares(from, shares, turn);
                }
                // A release is said once; whoever missed it hears it here.
                for notice in &hello.releases {
                    machine.released(notice, turn);
                }
                // So do a newer voter set, and who held the role since.
                let firm =
                    matches!(machine.tenure, Tenure::Holding { .. } | Tenure::Resuming { .. })
                        || machine.contests;
                if let Some(set) = hello.voters.as_ref().filter(|_| !firm) {
                    let said = machine.voter.hear_set(set);
                    Self::persist(turn, said.persist);
                }
                if let Some(line) = hello.line.as_ref().filter(|_| !firm) {
                    let said = machine.voter.learn_line(line);
                    Self::persist(turn, said.persist);
                }
                let version = machine.voter.record().voters.as_ref().map_or(0, |v| v.version);
                if let Some(won) = hello.won.clone() {
                    if !firm {
                        let said = machine.voter.learn(std::slice::from_ref(&won));
                        Self::persist(turn, said.persist);
                    } else if !machine.contests && version == hello.voters_version {
                        machine.hear_winner(won, turn);
                    }
                }
                machine.hear_writes(&hello.member, hello.writes, &hello.known, turn);
                let (version, contests) = (hello.voters_version, hello.contests);
                let met = Met { member: hello.member, version, contests, at: now };
                machine.met.insert(from.clone(), met);
            }
            PeerReply::Changed { voter, version } => machine.voter_changed(now, &voter, version),
            PeerReply::Noted => {}
        })
    }

    /// Whether there is no voter set here, no holder ever, or a peer that has not got the set.
    pub(super) fn founding(&self) -> bool {
        let record = self.voter.record();
        record.voters.is_none() || self.is_unborn() || self.without_set().next().is_some()
    }

    /// Nobody ever held the role, as far as is known here; whoever votes by a set that was changed
    /// came later and knows nothing.
    pub(super) fn is_unborn(&self) -> bool {
        let record = self.voter.record();
        // A first claim of its own that it gave up and gave back does not end the founding.
        let own = |h: &crate::lease::EpochSync| {
            h.holder == self.setup.me
                && record
                    .released
                    .iter()
                    .any(|r| (r.epoch, &r.holder, r.promoted) == (h.epoch, &h.holder, false))
        };
        record.last_won().is_none()
            && (record.epoch == Epoch(0)
                || !record.history.is_empty() && record.history.iter().all(own))
            && record.voters.as_ref().is_none_or(|set| set.version == FIRST_VERSION)
    }

    fn without_set(&self) -> impl Iterator<Item = &NodeId> {
        let record = self.voter.record();
        let missing = |met: &Met| {
            met.version == 0 && record.voters.as_ref().is_some_and(|set| set.contains(&met.member))
        };
        self.met.iter().filter(move |(_, met)| missing(met)).map(|(node, _)| node)
    }

    /// The data here was written in an epoch, and no voter remembers one: the state folders were
    /// lost, and with them who may have acknowledged what.
    fn data_without_an_epoch(&self) -> Option<String> {
        let written = self.resource.data.line.as_ref().map(|l| l.timeline).filter(|t| *t > 1)?;
        (self.is_unborn() && self.resource.has_data && !self.adopted).then(|| {
            format!(
                "nothing is founded: the data here was written in epoch {written}, and no voter \
                 remembers an epoch, so the state folders were lost. Bring one of them back, or have \
                 persons choose whose data is the history (docs/operating.md, \"When every state \
                 folder is lost\")"
            )
        })
    }

    /// The founder makes the first voter set when it has met every node of the file, none of which
    /// has one; then it claims the first epoch.
    pub(super) fn found(&mut self, now: Timestamp, turn: &mut Turn) {
        if !self.setup.founder || !self.founding() || now < self.found_at {
            return;
        }
        self.found_at = now + FOUND_INTERVAL;
        let belongs = "this node is new, but its peers belong to a cluster already: it has to be \
                       readmitted";
        let contested = self.met.iter().find(|(_, met)| met.contests).map(|(node, _)| {
            format!(
                "nothing is founded: the PostgreSQL of {node} takes writes, and it is to be a \
                 standby; stop it, or make it one again"
            )
        });
        if let Some(why) = &contested {
            self.complaint.clone_from(why);
        }
        if self.beside {
            if self.met.values().any(|met| met.version > 0) {
                belongs.clone_into(&mut self.complaint);
            }
            // Whoever is there is met already, so that it is quick afterwards.
            return self.broadcast(&PeerMessage::Hello, turn);
        }
        if let Some(why) = self.data_without_an_epoch() {
            self.complaint = why;
            return self.broadcast(&PeerMessage::Hello, turn);
        }
        if self.voter.record().voters.is_none() {
            let all_blank = self.met.values().all(|met| met.version == 0);
            // An old word is none: somebody may have been promoted since, and be cut off.
            let here = |met: &Met| now.since(met.at) <= ANSWERS;
            let everybody =
                self.met.values().filter(|met| here(met)).count() + 1 == self.setup.nodes.len();
            if everybody && all_blank && contested.is_none() {
                let mut members: crate::model::Members =
                    self.met.values().map(|met| met.member.clone()).collect();
                members.insert(self.setup.me.clone());
                let said = self.voter.install(VoterSet { version: FIRST_VERSION, members });
                Self::persist(turn, said.persist);
            } else if !all_blank {
                belongs.clone_into(&mut self.complaint);
            }
        }
        if let Some(set) = self.voter.record().voters.clone() {
            for node in self.without_set().cloned().collect::<Vec<_>>() {
                turn.effects.push(Effect::Send(node, PeerMessage::Install(set.clone())));
            }
            // Only now is it certain that there is no cluster whose data it should have.
            if self.is_unborn() && self.attempt.is_none() && !self.resource.has_data {
                self.set_goal(Goal::Standby { upstream: None, may_init: true }, turn);
            }
            let ready =
                self.is_settled() && self.resource.has_data && self.resource.position.is_some();
            if self.is_unborn()
                && self.attempt.is_none()
                && ready
                && self.without_set().next().is_none()
            {
                self.attempt = Some(Attempt::new(now, Reason::Found, Epoch(0)));
            }
        }
        self.broadcast(&PeerMessage::Hello, turn);
    }
}
