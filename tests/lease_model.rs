//! Every interleaving of three voters, bounded, and of five, bounded more: crashes, restarts, paused hosts, a reinstalled
//! node, lost, late, doubled and reordered messages, a release, a climb, a voter that comes or goes, a changed synchronous
//! set. The rooms under test are the production ones; only time, network and the database are the model's.
//!
//! Checked in every state: at most one node holds the lease; no acknowledged write is missing at a primary whose loss
//! account said "none"; a voter's epoch only rises. And reached in some state: a stranded voter is back; a changed set is
//! in force. Every check is shown able to fail by a mutant.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use quorate::lease::{
    Ack, Claim, ClaimRequest, Cut, EpochSync, Grant, Holder, Local, Refusal, ReleaseNotice, Renew, Standing, Terms, Voter, VoterChange,
    VoterRecord,
};
use quorate::model::loss::LossAccount;
use quorate::model::{Epoch, Lsn, Member, Position, Span, SyncSet, SyncStage, TimelineHistory, Timestamp, VoterSet};
use stateright::{Checker, HasDiscoveries, Model, Property};

const TERMS: Terms = Terms { duration: Span(2), grace: Span(0) };

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mutant {
    None,
    /// A majority is enough, whoever confirmed commits.
    MajorityIsEnough,
    /// A restarted voter believes that it promised nothing.
    NoBlackout,
    /// The holder counts from when an answer arrives.
    CountsFromAnswer,
    /// A grant leaves the upstream connected.
    NoCut,
    /// A reinstalled node votes under its old identity.
    ReinstalledVotes,
    /// A holder that meets a higher epoch gives up instead of climbing.
    NoClimb,
    /// A voter says what is not on its disk yet.
    SaysBeforeDisk,
    /// A holder counts with a new voter set before a majority of both has it.
    NewVotersAtOnce,
    /// A voter grants whatever voter set the claim carries.
    AnyVoterSet,
    /// The database uses a new synchronous set that voters were not told of.
    NoJointStage,
    /// The joint stage ends before the new set has what the old one confirmed.
    LeavesJointEarly,
}

/// What may happen, and how often.
#[derive(Clone, Debug)]
struct Bounds {
    mutant: Mutant,
    /// Nodes that vote at first.
    voters: usize,
    /// Nodes that may be added.
    strangers: usize,
    /// Voters came before this began, all but the first two and the last; so many (the last, then the second) missed it.
    stale: usize,
    /// The second and the last voter hear nothing from the others, nor they from them.
    parted: bool,
    /// How many voters after the first confirm at first; 0: all of them.
    confirming: usize,
    time: u64,
    claims: u8,
    renewals: u8,
    writes: u8,
    crashes: u8,
    pauses: u8,
    releases: u8,
    reinstalls: u8,
    doubles: u8,
    /// Voters that come or go.
    changes: u8,
    /// Changes of the synchronous set.
    sync_changes: u8,
    /// Ask for a climb.
    strands: bool,
}

const QUIET: Bounds = Bounds {
    mutant: Mutant::None,
    voters: 3,
    strangers: 0,
    stale: 0,
    parted: false,
    confirming: 0,
    time: 3,
    claims: 1,
    renewals: 1,
    writes: 1,
    crashes: 0,
    pauses: 0,
    releases: 0,
    reinstalls: 0,
    doubles: 0,
    changes: 0,
    sync_changes: 0,
    strands: false,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Body {
    Renew(Renew),
    Ack(Ack),
    NotAcked(Epoch),
    Claim(ClaimRequest),
    Grant(Grant),
    Release(ReleaseNotice),
    Change(VoterChange),
    Changed(Member, u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Message {
    to: usize,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Node {
    member: Member,
    durable: VoterRecord,
    /// `None` while crashed.
    voter: Option<Voter>,
    holder: Option<Holder>,
    claim: Option<Claim>,
    climbing: bool,
    log: Vec<u8>,
    timeline: u32,
    upstream: Option<usize>,
    writable: bool,
    /// The last win's account was "none".
    clean: bool,
    paused: bool,
    /// A former holder whose database does not run: where its log ends is not known.
    stopped: bool,
    /// Whose confirmations its database waits for, as primary.
    confirms: SyncSet,
    /// A change of that: the set it is to be.
    target: Option<SyncSet>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    time: u64,
    nodes: Vec<Node>,
    /// By fingerprint: a set whose order is the same in every run.
    net: BTreeMap<u64, Message>,
    acknowledged: BTreeSet<u8>,
    /// claims, renewals, writes, crashes, pauses, releases, reinstalls, doubles, changes, sync_changes
    left: [u8; 10],
    fell: bool,
    /// A change of the voters came into force.
    changed: bool,
    /// Who is on the other side of a parted network.
    apart: Vec<usize>,
    /// A change of the synchronous set came to its end.
    resynced: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Action {
    Tick,
    Claim(usize),
    Renew(usize),
    Deliver(Message, bool),
    Write(usize, usize, bool),
    Crash(usize),
    Restart(usize),
    Pause(usize),
    Wake(usize),
    Release(usize),
    Reinstall(usize),
    Add(usize, usize),
    Remove(usize, usize),
    Resync(usize, SyncSet),
    UseSync(usize),
    EndSync(usize),
}

fn fingerprint(message: &Message) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}
fn member(n: usize) -> Member {
    Member::new(format!("n{n}").as_str(), "a")
}
fn voters(count: usize) -> VoterSet {
    VoterSet { version: 1, members: (0..count).map(member).collect() }
}
/// Every voter but the holder confirms.
fn sync_of(holder: usize, voters: &VoterSet) -> SyncSet {
    SyncSet { members: voters.members.iter().filter(|m| number(m) != holder).cloned().collect(), k: 1 }
}
fn number(m: &Member) -> usize {
    m.node.as_str()[1..].parse().unwrap()
}

impl Node {
    fn position(&self) -> Position {
        Position { timeline: self.timeline, lsn: Lsn(self.log.len() as u64) }
    }
    fn local(&self, mutant: Mutant) -> Local {
        let cut = if self.stopped {
            Cut::Nothing
        } else if self.upstream.is_none() || mutant == Mutant::NoCut {
            Cut::At(self.position())
        } else {
            Cut::Not
        };
        Local { not_writable: !self.writable, cut }
    }
    fn acts(&self) -> bool {
        self.voter.is_some() && !self.paused
    }
}

impl World {
    fn send(&mut self, from: usize, to: usize, body: Body) {
        if self.apart.contains(&from) != self.apart.contains(&to) {
            return;
        }
        let message = Message { to, body };
        self.net.insert(fingerprint(&message), message);
    }
    fn broadcast(&mut self, from: usize, body: &Body) {
        for to in (0..self.nodes.len()).filter(|n| *n != from) {
            self.send(from, to, body.clone());
        }
    }

    /// The guard and the agent: an awake node stops its database before its lease is over.
    fn fence(&mut self) {
        let now = Timestamp(self.time);
        for i in 0..self.nodes.len() {
            let node = &mut self.nodes[i];
            if node.acts() && node.writable && !node.holder.as_ref().is_some_and(|h| h.holds(now)) {
                (node.writable, node.stopped) = (false, true);
                let epoch = node.holder.take().map(|h| h.epoch());
                (node.claim, node.target) = (None, None);
                if let Some(epoch) = epoch {
                    self.release(i, epoch, true);
                }
            }
        }
    }

    fn release(&mut self, n: usize, epoch: Epoch, promoted: bool) {
        let notice = ReleaseNotice { epoch, holder: self.nodes[n].member.clone(), final_position: None, promoted };
        let node = &mut self.nodes[n];
        if let Some(record) = node.voter.as_mut().and_then(|v| v.release(&notice).persist) {
            node.durable = record;
        }
        self.broadcast(n, &Body::Release(notice));
    }

    fn claim(&mut self, n: usize, epoch: Epoch, climbing: bool, bounds: &Bounds) {
        let Some(set) = self.nodes[n].durable.voters.clone() else { return };
        // A climb keeps both what its database uses and what it is to use.
        let sync = match &self.nodes[n].holder {
            Some(holder) if climbing => SyncStage { number: 0, sets: holder.sync().sets.clone() },
            _ => sync_of(n, &set).into(),
        };
        let request = ClaimRequest {
            voters: set.clone(),
            epoch,
            candidate: self.nodes[n].member.clone(),
            duration: TERMS.duration,
            sync,
            plan: None,
            approvals: vec![],
            released: self.nodes[n].durable.released.clone(),
        };
        let node = &mut self.nodes[n];
        if !climbing {
            (node.upstream, node.stopped) = (None, false);
        }
        let incumbent = node.durable.last_won().is_some_and(|w| w.holder == node.member);
        node.climbing = climbing;
        node.claim = Some(Claim::new(request.clone(), set, Timestamp(self.time), incumbent));
        self.broadcast(n, &Body::Claim(request.clone()));
        self.on_claim(n, &request, bounds);
    }

    fn on_claim(&mut self, at: usize, request: &ClaimRequest, bounds: &Bounds) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[at];
        let mut local = node.local(bounds.mutant);
        let mine = node.voter.as_ref().and_then(|v| v.record().voters.clone());
        let newer = mine.filter(|mine| bounds.mutant == Mutant::AnyVoterSet && mine.version > request.voters.version);
        let request = &newer.map_or_else(|| request.clone(), |voters| ClaimRequest { voters, ..request.clone() });
        let voter = node.voter.as_mut().unwrap();
        if voter.would_grant(now, request, local).is_ok() && local.cut == Cut::Not && !voter.is_holder(now, &request.candidate) {
            node.upstream = None;
            local = node.local(bounds.mutant);
        }
        let said = node.voter.as_mut().unwrap().claim(now, request, local);
        if let Some(record) = said.persist.filter(|_| bounds.mutant != Mutant::SaysBeforeDisk) {
            node.durable = record;
        }
        if let Ok(grant) = said.reply {
            let to = number(&request.candidate);
            if to == at {
                self.on_grant(at, grant, bounds);
            } else {
                self.send(at, to, Body::Grant(grant));
            }
        }
    }

    fn on_grant(&mut self, at: usize, grant: Grant, bounds: &Bounds) {
        let now = Timestamp(self.time);
        let Some(claim) = &mut self.nodes[at].claim else { return };
        claim.grant(grant);
        let claim = claim.clone();
        let me = self.nodes[at].member.clone();
        let granted: Vec<Member> = claim.granted_by().cloned().collect();
        if !granted.contains(&me) {
            return;
        }
        let (fetch, clean) = match claim.standing(&[], false) {
            Standing::Won(win) => (win.fetch, matches!(win.loss, LossAccount::None { .. }) || bounds.mutant == Mutant::MajorityIsEnough),
            // The mutant believes that any majority has every acknowledged write.
            Standing::Unfenced { .. } if bounds.mutant == Mutant::MajorityIsEnough => (None, true),
            Standing::Unfenced { .. } | Standing::Waiting { .. } => return,
        };
        // An account that is not "none" is beyond every plan's limit here.
        if !clean {
            return;
        }
        // A climb counts only while the old lease is valid.
        if self.nodes[at].climbing && !self.nodes[at].holder.as_ref().is_some_and(|h| h.holds(now)) {
            self.nodes[at].claim = None;
            return;
        }
        if let Some((from, target)) = fetch {
            let from = &self.nodes[from.as_str()[1..].parse::<usize>().unwrap()];
            // A granter that was lost meanwhile has nothing to give: the claim is given up.
            if from.position() < target {
                self.nodes[at].claim = None;
                return;
            }
            self.nodes[at].log = from.log.clone();
        }
        let request = claim.request().clone();
        let node = &mut self.nodes[at];
        if let Some(record) = node.voter.as_mut().unwrap().mark_won(request.epoch).persist {
            node.durable = record;
        }
        let mut holder = Holder::new(me, request.epoch, request.voters.clone(), request.sync.clone(), TERMS, 0);
        for voter in &granted {
            holder.granted(voter, claim.sent());
        }
        if !node.climbing {
            node.confirms = holder.sync_set();
            node.timeline = u32::try_from(request.epoch.0).unwrap();
        }
        node.holder = Some(holder);
        (node.claim, node.target) = (None, None);
        node.clean = true;
        node.writable = true;
        self.fence();
    }

    fn deliver(&mut self, message: Message, bounds: &Bounds) {
        let (now, at) = (Timestamp(self.time), message.to);
        if !self.nodes[at].acts() {
            return;
        }
        match message.body {
            Body::Renew(renew) => {
                let node = &mut self.nodes[at];
                let said = node.voter.as_mut().unwrap().renew(now, &renew);
                if let Some(record) = said.persist {
                    node.durable = record;
                }
                let from = number(&renew.holder);
                match said.reply {
                    Ok(ack) => {
                        if node.holder.is_none() && node.claim.is_none() {
                            (node.upstream, node.stopped) = (Some(from), false);
                        }
                        self.send(at, from, Body::Ack(ack));
                    }
                    Err(Refusal::NewerEpoch { epoch }) => self.send(at, from, Body::NotAcked(epoch)),
                    Err(_) => {}
                }
            }
            Body::Ack(ack) => {
                let node = &mut self.nodes[at];
                if let Some(holder) = &mut node.holder {
                    if bounds.mutant == Mutant::CountsFromAnswer {
                        holder.granted(&ack.voter, now);
                    } else {
                        holder.ack(&ack);
                    }
                }
            }
            Body::NotAcked(epoch) => {
                let node = &self.nodes[at];
                let holds = node.holder.as_ref().is_some_and(|h| h.holds(now) && epoch >= h.epoch());
                if holds && node.claim.is_none() && bounds.mutant != Mutant::NoClimb {
                    self.claim(at, epoch.next(), true, bounds);
                }
            }
            Body::Change(change) => {
                let node = &mut self.nodes[at];
                let said = node.voter.as_mut().unwrap().change(now, &change);
                if let Some(record) = said.persist {
                    node.durable = record;
                }
                if said.reply.is_ok() {
                    let (me, to) = (node.member.clone(), number(&change.holder));
                    self.send(at, to, Body::Changed(me, change.set.version));
                }
            }
            Body::Changed(voter, version) => {
                if let Some(holder) = &mut self.nodes[at].holder
                    && holder.next_voters().is_some_and(|next| next.version == version)
                {
                    self.changed |= holder.changed(&voter);
                }
            }
            Body::Claim(request) => self.on_claim(at, &request, bounds),
            Body::Grant(grant) => self.on_grant(at, grant, bounds),
            Body::Release(notice) => {
                let node = &mut self.nodes[at];
                if let Some(record) = node.voter.as_mut().unwrap().release(&notice).persist {
                    node.durable = record;
                }
            }
        }
    }

    /// The holder asks everybody, its own voter first, for another lease; it carries the stage of its synchronous sets.
    fn renew(&mut self, n: usize) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[n];
        let Some(holder) = &mut node.holder else { return };
        let renew = holder.renew(now, Some(TimelineHistory::default()));
        let own = node.voter.as_mut().unwrap().renew(now, &renew);
        if let Some(record) = own.persist {
            node.durable = record;
        }
        if let Ok(ack) = own.reply {
            holder.ack(&ack);
        }
        self.broadcast(n, &Body::Renew(renew));
    }

    /// The holder changes who votes, as the agent's machine does: its own voter first, then everybody.
    fn change_voters(&mut self, n: usize, change: impl FnOnce(&mut VoterSet), bounds: &Bounds) {
        self.left[8] -= 1;
        let now = Timestamp(self.time);
        let node = &mut self.nodes[n];
        let Some(holder) = &mut node.holder else { return };
        let mut set = holder.voters().clone();
        change(&mut set);
        set.version = holder.voters().next_version(holder.epoch());
        holder.begin_change(set.clone());
        if bounds.mutant == Mutant::NewVotersAtOnce {
            // Its word alone is taken for everybody's.
            let everybody: Vec<Member> = holder.voters().members.iter().chain(set.members.iter()).cloned().collect();
            everybody.iter().for_each(|m| _ = holder.changed(m));
        }
        let message = VoterChange { epoch: holder.epoch(), holder: node.member.clone(), set };
        let said = node.voter.as_mut().unwrap().change(now, &message);
        if let Some(record) = said.persist {
            node.durable = record;
        }
        if said.reply.is_ok() {
            let me = node.member.clone();
            if let Some(holder) = &mut node.holder {
                self.changed |= holder.changed(&me);
            }
        }
        self.broadcast(n, &Body::Change(message));
    }

    fn restart(&mut self, n: usize, mutant: Mutant) {
        let mut record = self.nodes[n].durable.clone();
        if mutant == Mutant::NoBlackout {
            record.promised_max = Span::ZERO;
        }
        let node = &mut self.nodes[n];
        node.voter = Some(Voter::restore(record.clone(), TERMS, Timestamp(self.time)));
        node.upstream = None;
        // What the agent finds on a host whose database is down: it gives back what was its own.
        if record.holder.as_ref() == Some(&node.member) && !record.is_released() && record.epoch > Epoch(0) {
            self.release(n, record.epoch, record.is_won());
        }
    }
}

impl Bounds {
    /// What a holder may change, under the conditions under which the agent's machine would.
    fn holder_actions(&self, world: &World, n: usize, holder: &Holder, actions: &mut Vec<Action>) {
        let now = Timestamp(world.time);
        let node = &world.nodes[n];
        if world.left[8] > 0 && holder.next_voters().is_none() && node.target.is_none() {
            let here = holder.promised_by(now);
            let in_reach = |set: &VoterSet| set.members.iter().filter(|m| here.contains(&m.node)).count() >= set.majority();
            for (m, other) in world.nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                let mut set = holder.voters().clone();
                if set.contains(&other.member) {
                    // A voter stops confirming before it stops voting.
                    let confirms = holder.sync().sets.iter().any(|s| s.members.contains(&other.member));
                    set.members.remove(&other.member);
                    if !confirms && set.members.len() > 1 && in_reach(&set) {
                        actions.push(Action::Remove(n, m));
                    }
                } else {
                    set.members.insert(other.member.clone());
                    if in_reach(&set) {
                        actions.push(Action::Add(n, m));
                    }
                }
            }
        }
        if world.left[9] > 0 && node.target.is_none() && holder.next_voters().is_none() {
            let sync = holder.sync_set();
            for (m, other) in world.nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                let mut target = sync.clone();
                if !target.members.remove(&other.member) && holder.voters().contains(&other.member) {
                    target.members.insert(member(m));
                }
                if target != sync && target.members.len() >= target.k {
                    actions.push(Action::Resync(n, target));
                }
            }
        }
        if let Some(target) = &node.target {
            if node.confirms != *target && holder.stage_is_durable() {
                actions.push(Action::UseSync(n));
            }
            // A write that waited for the new set: everything before it is there.
            let has_all = |m: &Member| world.nodes[number(m)].log == node.log && world.nodes[number(m)].upstream == Some(n);
            let settled = node.confirms == *target && target.members.iter().filter(|m| has_all(m)).count() >= target.k;
            if settled || (self.mutant == Mutant::LeavesJointEarly && node.confirms == *target) {
                actions.push(Action::EndSync(n));
            }
        }
    }
}

impl Model for Bounds {
    type State = World;
    type Action = Action;

    /// n0 holds epoch 1, the others follow it.
    fn init_states(&self) -> Vec<World> {
        let set = VoterSet { version: 1 + u64::from(self.stale > 0), ..voters(self.voters) };
        let mut sync = sync_of(0, &set);
        if self.confirming > 0 {
            sync.members.retain(|m| number(m) <= self.confirming);
        }
        let entry = EpochSync { epoch: Epoch(1), holder: member(0), sync: sync.clone().into(), won: true, promoted: true };
        let nodes = (0..self.voters + self.strangers)
            .map(|n| {
                let votes = n < self.voters;
                let former = VoterSet { version: 1, members: [0, 1, self.voters - 1].into_iter().map(member).collect() };
                let missed = self.stale > 0 && n + 1 == self.voters || self.stale > 1 && n == 1;
                let known = if missed { former } else { set.clone() };
                let durable = VoterRecord {
                    voters: votes.then_some(known),
                    epoch: Epoch(u64::from(votes)),
                    holder: votes.then(|| member(0)),
                    history: if votes { vec![entry.clone()] } else { vec![] },
                    ..VoterRecord::new(member(n))
                };
                let mut voter = Voter::restore(durable, TERMS, Timestamp(0));
                let renew = Renew {
                    voters_version: set.version,
                    epoch: Epoch(1),
                    holder: member(0),
                    round: 0,
                    duration: TERMS.duration,
                    sync: sync.clone().into(),
                    promoted: Some(TimelineHistory::default()),
                };
                assert_eq!(voter.renew(Timestamp(0), &renew).reply.is_ok(), votes);
                let mut holder = Holder::new(member(0), Epoch(1), set.clone(), sync.clone().into(), TERMS, 0);
                (0..self.voters).for_each(|v| holder.granted(&member(v), Timestamp(0)));
                Node {
                    member: member(n),
                    durable: voter.record().clone(),
                    voter: Some(voter),
                    holder: (n == 0).then_some(holder),
                    claim: None,
                    climbing: false,
                    log: vec![],
                    timeline: 1,
                    upstream: (n != 0).then_some(0),
                    writable: n == 0,
                    clean: n == 0,
                    paused: false,
                    stopped: false,
                    confirms: sync.clone(),
                    target: None,
                }
            })
            .collect();
        let left = [
            self.claims,
            self.renewals,
            self.writes,
            self.crashes,
            self.pauses,
            self.releases,
            self.reinstalls,
            self.doubles,
            self.changes,
            self.sync_changes,
        ];
        let apart = if self.parted { vec![1, self.voters - 1] } else { vec![] };
        let (net, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        vec![World { time: 0, nodes, net, acknowledged, left, fell: false, changed: false, apart, resynced: false }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let now = Timestamp(world.time);
        if world.time < self.time {
            actions.push(Action::Tick);
        }
        for message in world.net.values() {
            if world.nodes[message.to].acts() {
                actions.push(Action::Deliver(message.clone(), false));
                if world.left[7] > 0 {
                    actions.push(Action::Deliver(message.clone(), true));
                }
            }
        }
        for (n, node) in world.nodes.iter().enumerate() {
            if node.voter.is_none() {
                actions.push(Action::Restart(n));
                continue;
            }
            if node.paused {
                actions.push(Action::Wake(n));
                continue;
            }
            if world.left[0] > 0 && node.holder.is_none() && node.claim.is_none() {
                actions.push(Action::Claim(n));
            }
            if world.left[1] > 0 && node.holder.as_ref().is_some_and(|h| h.holds(now)) {
                actions.push(Action::Renew(n));
            }
            if world.left[5] > 0 && node.writable {
                actions.push(Action::Release(n));
            }
            if world.left[3] > 0 {
                actions.push(Action::Crash(n));
            }
            if world.left[4] > 0 && node.writable {
                actions.push(Action::Pause(n));
            }
            if world.left[6] > 0 && !node.writable {
                actions.push(Action::Reinstall(n));
            }
            if let Some(holder) = node.holder.as_ref().filter(|h| node.claim.is_none() && h.holds(now)) {
                self.holder_actions(world, n, holder, actions);
            }
            // A host that was paused as a whole wakes with its database writable; only confirmations can stop it.
            if world.left[2] > 0 && node.writable {
                for m in (0..world.nodes.len()).filter(|m| *m != n) {
                    let standby = &world.nodes[m];
                    if standby.upstream == Some(n) && standby.acts() && node.log.starts_with(&standby.log) {
                        actions.push(Action::Write(n, m, true));
                        actions.push(Action::Write(n, m, false));
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = Timestamp(world.time);
        match action {
            Action::Tick => world.time += 1,
            Action::Claim(n) => {
                world.left[0] -= 1;
                let epoch = world.nodes[n].durable.epoch.next();
                world.claim(n, epoch, false, self);
            }
            Action::Renew(n) => {
                world.left[1] -= 1;
                world.renew(n);
            }
            Action::Deliver(message, keep) => {
                if keep {
                    world.left[7] -= 1;
                } else {
                    world.net.remove(&fingerprint(&message));
                }
                world.deliver(message, self);
            }
            Action::Write(n, m, acknowledged) => {
                world.left[2] -= 1;
                let id = self.writes - world.left[2];
                world.nodes[n].log.push(id);
                let (log, timeline) = (world.nodes[n].log.clone(), world.nodes[n].timeline);
                (world.nodes[m].log, world.nodes[m].timeline) = (log, timeline);
                if acknowledged && world.nodes[n].confirms.members.contains(&world.nodes[m].member) {
                    world.acknowledged.insert(id);
                }
            }
            Action::Crash(n) => {
                world.left[3] -= 1;
                let node = &mut world.nodes[n];
                node.stopped |= node.writable;
                (node.voter, node.holder, node.claim, node.writable, node.upstream) = (None, None, None, false, None);
            }
            Action::Restart(n) => world.restart(n, self.mutant),
            Action::Pause(n) => {
                world.left[4] -= 1;
                world.nodes[n].paused = true;
            }
            // Its agent runs a moment later: until the next event of its own the database is as it was.
            Action::Wake(n) => world.nodes[n].paused = false,
            Action::Release(n) => {
                world.left[5] -= 1;
                let node = &mut world.nodes[n];
                (node.writable, node.stopped) = (false, true);
                node.claim = None;
                let epoch = node.holder.take()?.epoch();
                world.release(n, epoch, true);
            }
            Action::Reinstall(n) => {
                world.left[6] -= 1;
                let node = &mut world.nodes[n];
                let incarnation = if self.mutant == Mutant::ReinstalledVotes { "a" } else { "b" };
                node.member = Member::new(format!("n{n}").as_str(), incarnation);
                node.durable = VoterRecord::new(node.member.clone());
                if self.mutant == Mutant::ReinstalledVotes {
                    node.durable.voters = Some(voters(self.voters));
                }
                node.voter = Some(Voter::restore(node.durable.clone(), TERMS, now));
                (node.holder, node.claim, node.writable, node.clean, node.upstream) = (None, None, false, false, None);
                (node.log, node.timeline) = (vec![], 0);
            }
            Action::Add(n, m) => world.change_voters(n, |set| _ = set.members.insert(member(m)), self),
            Action::Remove(n, m) => world.change_voters(n, |set| _ = set.members.remove(&member(m)), self),
            Action::Resync(n, target) => {
                world.left[9] -= 1;
                let node = &mut world.nodes[n];
                let old = node.holder.as_ref()?.sync_set();
                if self.mutant == Mutant::NoJointStage {
                    node.confirms = target;
                } else {
                    node.holder.as_mut()?.begin_stage(vec![old, target.clone()]);
                    node.target = Some(target);
                    world.renew(n);
                }
            }
            Action::UseSync(n) => {
                let node = &mut world.nodes[n];
                node.confirms = node.target.clone()?;
            }
            Action::EndSync(n) => {
                let node = &mut world.nodes[n];
                let target = node.target.take()?;
                node.holder.as_mut()?.begin_stage(vec![target]);
                world.renew(n);
                world.resynced = true;
            }
        }
        // A woken node may write once before its agent acts, so waking does not fence; everything else does.
        if !last.nodes.iter().zip(&world.nodes).any(|(a, b)| a.paused && !b.paused) {
            world.fence();
        }
        let reinstalled = |n: usize| last.nodes[n].member != world.nodes[n].member || (last.left[6] != world.left[6]);
        // What it said last counts, whether or not that was on its disk.
        let said = |node: &Node| node.voter.as_ref().map_or(node.durable.epoch, |v| v.record().epoch);
        world.fell |= (0..world.nodes.len()).any(|n| !reinstalled(n) && said(&world.nodes[n]) < said(&last.nodes[n]));
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one node holds the lease", |_, world: &World| {
                let now = Timestamp(world.time);
                world.nodes.iter().filter(|n| n.acts() && n.holder.as_ref().is_some_and(|h| h.holds(now))).count() <= 1
            }),
            Property::always("no acknowledged write is missing where the account said none", |_, world: &World| {
                let newest = world.nodes.iter().filter(|n| n.writable && n.clean).max_by_key(|n| n.holder.as_ref().map(Holder::epoch));
                newest.is_none_or(|n| world.acknowledged.iter().all(|id| n.log.contains(id)))
            }),
            Property::always("epochs only rise", |_, world: &World| !world.fell),
            Property::sometimes("a write is acknowledged", |bounds: &Bounds, world: &World| {
                bounds.writes == 0 || !world.acknowledged.is_empty()
            }),
            Property::sometimes("another voter set is in force", |bounds: &Bounds, world: &World| bounds.changes == 0 || world.changed),
            Property::sometimes("another synchronous set is in use", |bounds: &Bounds, world: &World| {
                bounds.sync_changes == 0 || world.resynced
            }),
            Property::sometimes("a stranded voter serves the living holder again", |bounds: &Bounds, world: &World| {
                let climbed = world.nodes[0].climbing
                    && world.nodes[0].holder.as_ref().is_some_and(|h| h.epoch() > Epoch(1) && h.holds(Timestamp(world.time)));
                !bounds.strands || climbed
            }),
        ]
    }
}

fn explore(bounds: Bounds) -> impl Checker<Bounds> {
    bounds.checker().threads(2).spawn_bfs().join()
}

fn holds(bounds: Bounds) {
    let name = format!("{bounds:?}");
    let checked = explore(bounds);
    println!("{} states, {} unique: {name}", checked.state_count(), checked.unique_state_count());
    checked.assert_properties();
}

fn fails(bounds: Bounds, property: &'static str) {
    let name = format!("{bounds:?}");
    let checked = bounds.checker().threads(2).finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
    assert!(checked.discovery(property).is_some(), "the check {property:?} did not catch {name}");
}

/// Two voters came, which the last of five missed; then the network parts.
const MISSED: Bounds = Bounds { voters: 5, stale: 1, parted: true, confirming: 1, time: 3, writes: 0, ..QUIET };
const ONE_HOLDER: &str = "at most one node holds the lease";
const EPOCHS_RISE: &str = "epochs only rise";
const NO_LOSS: &str = "no acknowledged write is missing where the account said none";

#[test]
fn lost_late_doubled_and_reordered_messages() {
    holds(Bounds { time: 2, doubles: 1, ..QUIET });
}

#[test]
fn two_claims_at_once() {
    holds(Bounds { claims: 2, renewals: 0, ..QUIET });
}

#[test]
fn crashes_and_restarts() {
    holds(Bounds { crashes: 1, writes: 0, ..QUIET });
}

#[test]
fn a_host_paused_as_a_whole() {
    holds(Bounds { pauses: 1, writes: 2, renewals: 0, ..QUIET });
}

#[test]
fn a_release_and_what_is_late_behind_it() {
    holds(Bounds { releases: 1, renewals: 0, doubles: 1, ..QUIET });
}

#[test]
fn a_reinstalled_node_is_a_stranger() {
    holds(Bounds { reinstalls: 1, renewals: 0, ..QUIET });
    holds(Bounds { reinstalls: 1, writes: 0, ..QUIET });
}

#[test]
fn a_stranded_voter_finds_its_way_back() {
    holds(Bounds { time: 2, writes: 0, strands: true, ..QUIET });
}

#[test]
fn mutant_majority_is_enough_is_caught() {
    fails(Bounds { mutant: Mutant::MajorityIsEnough, renewals: 0, ..QUIET }, NO_LOSS);
}

#[test]
fn mutant_no_blackout_is_caught() {
    fails(Bounds { mutant: Mutant::NoBlackout, crashes: 1, writes: 0, ..QUIET }, ONE_HOLDER);
}

#[test]
fn mutant_counts_from_the_answer_is_caught() {
    fails(Bounds { mutant: Mutant::CountsFromAnswer, ..QUIET }, ONE_HOLDER);
}

#[test]
fn mutant_no_cut_is_caught() {
    fails(Bounds { mutant: Mutant::NoCut, pauses: 1, writes: 1, renewals: 0, ..QUIET }, NO_LOSS);
}

#[test]
fn mutant_reinstalled_votes_is_caught() {
    fails(Bounds { mutant: Mutant::ReinstalledVotes, reinstalls: 1, writes: 0, ..QUIET }, ONE_HOLDER);
}

#[test]
fn mutant_no_climb_is_caught() {
    let bounds = Bounds { mutant: Mutant::NoClimb, time: 2, writes: 0, strands: true, ..QUIET };
    assert!(explore(bounds).discovery("a stranded voter serves the living holder again").is_none());
}

/// Any bounds by hand: `BOUNDS=time=2,sync_changes=1 cargo nextest run --test lease_model --run-ignored all by_hand`.
#[test]
#[ignore = "bounds come from the environment"]
fn by_hand() {
    let mut bounds = QUIET;
    for (key, value) in std::env::var("BOUNDS").unwrap_or_default().split(',').filter_map(|pair| pair.split_once('=')) {
        let number: u8 = value.parse().unwrap();
        match key {
            "voters" => bounds.voters = number.into(),
            "strangers" => bounds.strangers = number.into(),
            "stale" => bounds.stale = number.into(),
            "parted" => bounds.parted = number > 0,
            "confirming" => bounds.confirming = number.into(),
            "time" => bounds.time = number.into(),
            "claims" => bounds.claims = number,
            "renewals" => bounds.renewals = number,
            "writes" => bounds.writes = number,
            "crashes" => bounds.crashes = number,
            "pauses" => bounds.pauses = number,
            "releases" => bounds.releases = number,
            "reinstalls" => bounds.reinstalls = number,
            "doubles" => bounds.doubles = number,
            "changes" => bounds.changes = number,
            "sync_changes" => bounds.sync_changes = number,
            _ => panic!("{key:?} is no bound"),
        }
    }
    holds(bounds);
}

#[test]
fn a_voter_is_added() {
    holds(Bounds { strangers: 1, changes: 1, time: 2, renewals: 0, writes: 0, ..QUIET });
}

#[test]
fn a_voter_is_removed() {
    holds(Bounds { voters: 4, confirming: 2, changes: 1, time: 2, renewals: 0, writes: 0, ..QUIET });
}

#[test]
fn the_synchronous_set_changes() {
    holds(Bounds { sync_changes: 1, releases: 1, time: 0, renewals: 0, ..QUIET });
    holds(Bounds { confirming: 1, sync_changes: 1, releases: 1, time: 0, renewals: 0, ..QUIET });
}

#[test]
fn five_voters() {
    holds(Bounds { voters: 5, time: 2, renewals: 0, writes: 0, ..QUIET });
    holds(Bounds { voters: 5, time: 1, claims: 2, renewals: 0, writes: 0, ..QUIET });
    holds(Bounds { voters: 5, time: 0, releases: 1, renewals: 0, ..QUIET });
}

#[test]
fn mutant_no_joint_stage_is_caught() {
    let bounds = Bounds { mutant: Mutant::NoJointStage, confirming: 1, sync_changes: 1, releases: 1, time: 0, renewals: 0, ..QUIET };
    fails(bounds, NO_LOSS);
}

#[test]
fn mutant_leaves_the_joint_stage_early_is_caught() {
    fails(Bounds { mutant: Mutant::LeavesJointEarly, sync_changes: 1, releases: 1, time: 0, renewals: 0, ..QUIET }, NO_LOSS);
}

#[test]
fn a_voter_missed_two_changes() {
    holds(Bounds { parted: false, renewals: 0, time: 2, ..MISSED });
    holds(MISSED);
}

#[test]
fn mutant_any_voter_set_is_caught() {
    fails(Bounds { mutant: Mutant::AnyVoterSet, ..MISSED }, ONE_HOLDER);
}

#[test]
fn mutant_new_voters_at_once_is_caught() {
    // The change before this one came at once too: only its maker and the newcomer know of it.
    let bounds = Bounds { mutant: Mutant::NewVotersAtOnce, voters: 4, stale: 2, strangers: 1, changes: 1, ..MISSED };
    fails(bounds, ONE_HOLDER);
}

#[test]
fn mutant_says_before_disk_is_caught() {
    fails(Bounds { mutant: Mutant::SaysBeforeDisk, crashes: 1, writes: 0, renewals: 0, ..QUIET }, EPOCHS_RISE);
}
