//! The nodes, the network and the database around the production voter, claim and holder.

use std::collections::{BTreeMap, BTreeSet};

use quorate::lease::{
    Ack, Claim, ClaimRequest, Cut, Grant, Holder, Local, Refusal, ReleaseNotice, Renew, Standing,
    Terms, Voter, VoterChange, VoterRecord,
};
use quorate::model::loss::LossAccount;
use quorate::model::{
    Epoch, Lsn, Member, Position, Span, SyncSet, SyncStage, TimelineHistory, Timestamp, VoterSet,
};

use super::bounds::{Bounds, Mutant};

pub const TERMS: Terms = Terms { duration: Span(2), grace: Span(0) };

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Body {
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
pub struct Message {
    pub to: usize,
    pub body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Node {
    pub member: Member,
    pub durable: VoterRecord,
    /// `None` while crashed.
    pub voter: Option<Voter>,
    pub holder: Option<Holder>,
    pub claim: Option<Claim>,
    pub climbing: bool,
    pub log: Vec<u8>,
    pub timeline: u32,
    pub upstream: Option<usize>,
    pub writable: bool,
    /// The last win's account was "none".
    pub clean: bool,
    pub paused: bool,
    /// A former holder whose database does not run: where its log ends is not known.
    pub stopped: bool,
    /// Whose confirmations its database waits for, as primary.
    pub confirms: SyncSet,
    /// A change of that: the set it is to be.
    pub target: Option<SyncSet>,
    /// When its guard kills its database; a process apart from the agent.
    pub guard: Option<u64>,
    /// Since when it has no guard, and none can be started.
    pub bare: Option<u64>,
    /// Its agent was restarted under the running database, and asks the voters.
    pub resuming: bool,
    /// It was paused as a whole, and nothing on it has run since.
    pub woken: bool,
    /// The next write to its store fails.
    pub failing: bool,
    /// What a failed write may have left.
    pub cached: Option<VoterRecord>,
    /// How many agents ran here.
    pub process: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub time: u64,
    pub nodes: Vec<Node>,
    /// By fingerprint: a set whose order is the same in every run.
    pub net: BTreeMap<u64, Message>,
    pub acknowledged: BTreeSet<u8>,
    /// claims, renewals, writes, crashes, pauses, releases, reinstalls, doubles, changes,
    /// sync_changes, hears, agent_crashes, guard_deaths, store_failures
    pub left: [u8; 14],
    pub fell: bool,
    /// A change of the voters came into force.
    pub changed: bool,
    /// Who is on the other side of a parted network.
    pub apart: Vec<usize>,
    /// Those who may be gone are gone.
    pub lost: bool,
    /// A change of the synchronous set came to its end.
    pub resynced: bool,
}

pub fn fingerprint(message: &Message) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    message.hash(&mut hasher);
    hasher.finish()
}
pub fn member(n: usize) -> Member {
    Member::new(format!("n{n}").as_str(), "a")
}
pub fn voters(count: usize) -> VoterSet {
    VoterSet { version: 1, members: (0..count).map(member).collect() }
}
/// Every voter but the holder confirms.
pub fn sync_of(holder: usize, voters: &VoterSet) -> SyncSet {
    SyncSet {
        members: voters.members.iter().filter(|m| number(m) != holder).cloned().collect(),
        k: 1,
    }
}
pub fn number(m: &Member) -> usize {
    m.node.as_str()[1..].parse().unwrap()
}

impl Node {
    pub fn position(&self) -> Position {
        Position { timeline: self.timeline, lsn: Lsn(self.log.len() as u64) }
    }
    pub fn local(&self, mutant: Mutant) -> Local {
        let cut = if self.stopped {
            Cut::Nothing
        } else if self.upstream.is_none() || mutant == Mutant::NoCut {
            Cut::At(self.position())
        } else {
            Cut::Not
        };
        Local { not_writable: !self.writable, cut, unproved_line: false }
    }
    pub fn acts(&self) -> bool {
        self.voter.is_some() && !self.paused
    }
}

impl World {
    pub fn send(&mut self, from: usize, to: usize, body: Body) {
        if self.apart.contains(&from) != self.apart.contains(&to) {
            return;
        }
        let message = Message { to, body };
        self.net.insert(fingerprint(&message), message);
    }
    pub fn broadcast(&mut self, from: usize, body: &Body) {
        for to in (0..self.nodes.len()).filter(|n| *n != from) {
            self.send(from, to, body.clone());
        }
    }

    /// An awake agent stops its database before its lease is over, and tells its guard when that
    /// is; the guard stops it then, whatever became of the agent.
    pub fn fence(&mut self, mutant: Mutant) {
        let now = Timestamp(self.time);
        for i in 0..self.nodes.len() {
            let node = &mut self.nodes[i];
            if node.paused {
                continue;
            }
            node.woken = false;
            let held = node.holder.as_ref().and_then(Holder::held_until);
            if node.acts() && node.bare.is_none() {
                let told = held.map(|until| until.0);
                node.guard = match mutant {
                    // What an earlier process armed stands until the voters have answered.
                    _ if node.resuming => told.filter(|until| *until > self.time).or(node.guard),
                    _ => told.filter(|_| node.writable),
                };
            }
            let holds = node.holder.as_ref().is_some_and(|h| h.holds(now));
            node.resuming &= !holds;
            if node.writable && node.guard.is_some_and(|until| until <= self.time) {
                (node.writable, node.stopped, node.guard) = (false, true, None);
            }
            let ends = node.writable && !holds && !node.resuming;
            let found_dead = !node.writable && node.holder.is_some();
            if node.acts() && (ends || found_dead) {
                node.stopped |= node.writable;
                (node.writable, node.resuming, node.guard) = (false, false, None);
                let epoch = node.holder.take().map(|h| h.epoch());
                (node.claim, node.target) = (None, None);
                if let Some(epoch) = epoch {
                    self.release(i, epoch, true);
                }
            }
        }
    }

    /// Who receives that node's log and can continue it.
    pub fn receivers(&self, n: usize) -> impl Iterator<Item = usize> {
        let log = &self.nodes[n].log;
        let receives = move |o: &Node| o.upstream == Some(n) && o.acts() && log.starts_with(&o.log);
        self.nodes.iter().enumerate().filter(move |(m, o)| *m != n && receives(o)).map(|(m, _)| m)
    }

    pub fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        node.stopped |= node.writable;
        (node.voter, node.holder, node.claim, node.writable, node.upstream) =
            (None, None, None, false, None);
        (node.guard, node.resuming) = (None, false);
    }

    /// The agent's process is gone; its database and its guard go on.
    pub fn agent_crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        (node.voter, node.holder, node.claim, node.target) = (None, None, None, None);
        node.resuming = false;
    }

    /// Something is to be durable. False: it is not, and nothing that rests on it may be said. After
    /// a failed write the process ends, and nobody knows what its successor will find.
    fn store(&mut self, n: usize, record: Option<VoterRecord>, bounds: &Bounds) -> bool {
        let Some(record) = record else { return true };
        let node = &mut self.nodes[n];
        if !node.failing {
            node.durable = record;
            return true;
        }
        node.failing = false;
        if bounds.mutant != Mutant::TrustsTheCache {
            node.cached = Some(record);
            self.agent_crash(n);
        }
        false
    }

    /// Something that a node's voter keeps on its disk.
    pub fn keep(&mut self, n: usize, change: impl FnOnce(&mut Voter) -> Option<VoterRecord>) {
        let node = &mut self.nodes[n];
        if let Some(record) = node.voter.as_mut().and_then(change) {
            node.durable = record;
        }
    }

    pub fn release(&mut self, n: usize, epoch: Epoch, promoted: bool) {
        let notice = ReleaseNotice {
            epoch,
            holder: self.nodes[n].member.clone(),
            final_position: None,
            promoted,
            since: (!promoted).then(|| self.nodes[n].durable.written_last()),
            process: 0,
        };
        self.keep(n, |voter| voter.release(Timestamp(0), &notice).persist);
        self.broadcast(n, &Body::Release(notice));
    }

    pub fn claim(&mut self, n: usize, epoch: Epoch, climbing: bool, bounds: &Bounds) {
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
            process: 0,
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

    pub fn on_claim(&mut self, at: usize, request: &ClaimRequest, bounds: &Bounds) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[at];
        let mut local = node.local(bounds.mutant);
        let mine = node.voter.as_ref().and_then(|v| v.record().voters.clone());
        let newer = mine.filter(|mine| {
            bounds.mutant == Mutant::AnyVoterSet && mine.version > request.voters.version
        });
        let request = &newer
            .map_or_else(|| request.clone(), |voters| ClaimRequest { voters, ..request.clone() });
        let voter = node.voter.as_mut().unwrap();
        if voter.would_grant(now, request, local).is_ok()
            && local.cut == Cut::Not
            && !voter.is_holder(now, &request.candidate)
        {
            node.upstream = None;
            local = node.local(bounds.mutant);
        }
        let said = node.voter.as_mut().unwrap().claim(now, request, local);
        let persist = said.persist.filter(|_| bounds.mutant != Mutant::SaysBeforeDisk);
        if !self.store(at, persist, bounds) {
            return;
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

    pub fn on_grant(&mut self, at: usize, grant: Grant, bounds: &Bounds) {
        let now = Timestamp(self.time);
        let Some(claim) = &mut self.nodes[at].claim else { return };
        claim.grant(grant);
        let claim = claim.clone();
        let me = self.nodes[at].member.clone();
        let granted: Vec<Member> = claim.granted_by().cloned().collect();
        if !granted.contains(&me) {
            return;
        }
        let attested = self.nodes[at].durable.attested.clone();
        let (fetch, clean) = match claim.standing(&attested, false) {
            Standing::Won(win) => {
                let loss = if bounds.mutant == Mutant::OverrideKnowsAll {
                    claim.account().known_loss()
                } else {
                    win.loss
                };
                (
                    win.fetch,
                    matches!(loss, LossAccount::None { .. })
                        || bounds.mutant == Mutant::MajorityIsEnough,
                )
            }
            // The mutant believes that any majority has every acknowledged write.
            Standing::Unfenced { .. } if bounds.mutant == Mutant::MajorityIsEnough => (None, true),
            Standing::Unfenced { .. } | Standing::Waiting { .. } => return,
        };
        // An account that is not "none" is beyond every plan's limit here; who overrides accepts
        // what it may cost.
        if !clean && attested.is_empty() {
            return;
        }
        // A climb counts only while the old lease is valid.
        if self.nodes[at].climbing && !self.nodes[at].holder.as_ref().is_some_and(|h| h.holds(now))
        {
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
        if let Some(record) = node.voter.as_mut().unwrap().mark_won(request.epoch, false).persist {
            node.durable = record;
        }
        let mut holder =
            Holder::new(me, request.epoch, request.voters.clone(), request.sync.clone(), TERMS, 0);
        for voter in &granted {
            holder.granted(voter, claim.sent());
        }
        if !node.climbing {
            node.confirms = holder.sync_set();
            node.timeline = u32::try_from(request.epoch.0).unwrap();
        }
        node.holder = Some(holder);
        (node.claim, node.target) = (None, None);
        node.clean = clean;
        // Nothing is made writable before a guard guards it.
        node.writable = node.bare.is_none();
        self.fence(bounds.mutant);
    }

    pub fn deliver(&mut self, message: Message, bounds: &Bounds) {
        let (now, at) = (Timestamp(self.time), message.to);
        if !self.nodes[at].acts() {
            return;
        }
        match message.body {
            Body::Renew(renew) => {
                let said = self.nodes[at].voter.as_mut().unwrap().renew(now, &renew);
                if !self.store(at, said.persist, bounds) {
                    return;
                }
                let node = &mut self.nodes[at];
                let from = number(&renew.holder);
                match said.reply {
                    Ok(ack) => {
                        if node.holder.is_none() && node.claim.is_none() {
                            (node.upstream, node.stopped) = (Some(from), false);
                        }
                        self.send(at, from, Body::Ack(ack));
                    }
                    Err(Refusal::NewerEpoch { epoch, .. }) => {
                        self.send(at, from, Body::NotAcked(epoch))
                    }
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
                self.take_force(at);
            }
            Body::NotAcked(epoch) => {
                let node = &self.nodes[at];
                let holds =
                    node.holder.as_ref().is_some_and(|h| h.holds(now) && epoch >= h.epoch());
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
                    holder.changed(&voter);
                }
                self.take_force(at);
            }
            Body::Claim(request) => self.on_claim(at, &request, bounds),
            Body::Grant(grant) => self.on_grant(at, grant, bounds),
            Body::Release(notice) => {
                let node = &mut self.nodes[at];
                if let Some(record) = node.voter.as_mut().unwrap().release(now, &notice).persist {
                    node.durable = record;
                }
            }
        }
    }

    /// The holder asks everybody, its own voter first, for another lease; it carries the stage of
    /// its synchronous sets.
    pub fn renew(&mut self, n: usize) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[n];
        let Some(holder) = &mut node.holder else { return };
        let renew = holder.renew(now, Some(TimelineHistory::default()), None, 0);
        let own = node.voter.as_mut().unwrap().renew(now, &renew);
        if let Some(record) = own.persist {
            node.durable = record;
        }
        if let Ok(ack) = own.reply {
            holder.ack(&ack);
        }
        self.take_force(n);
        self.broadcast(n, &Body::Renew(renew));
    }

    /// The holder changes who votes, as the agent's machine does: those who are to be in it hear of
    /// it, and its own voter takes it last.
    pub fn change_voters(&mut self, n: usize, change: impl FnOnce(&mut VoterSet), bounds: &Bounds) {
        self.left[8] -= 1;
        let now = Timestamp(self.time);
        let node = &mut self.nodes[n];
        let Some(holder) = &mut node.holder else { return };
        let mut set = holder.voters().clone();
        change(&mut set);
        let own = node.voter.as_ref().unwrap().record().voters.clone();
        let newest = holder.next_voters().or(own.as_ref()).unwrap_or(holder.voters());
        set.version = newest.next_version(holder.epoch());
        holder.begin_change(set.clone(), now);
        let message = VoterChange { epoch: holder.epoch(), holder: node.member.clone(), set };
        if bounds.mutant == Mutant::NewVotersAtOnce {
            self.put_in_force(n, &message);
        }
        self.broadcast_within(n, &message);
    }

    fn broadcast_within(&mut self, n: usize, message: &VoterChange) {
        let to: Vec<usize> = message.set.members.iter().map(number).filter(|m| *m != n).collect();
        for m in to {
            self.send(n, m, Body::Change(message.clone()));
        }
    }

    /// A set that may come into force.
    fn take_force(&mut self, n: usize) {
        let node = &self.nodes[n];
        let Some(holder) = &node.holder else { return };
        let Some(set) = holder.due(Timestamp(self.time)).cloned() else { return };
        let message = VoterChange { epoch: holder.epoch(), holder: node.member.clone(), set };
        self.put_in_force(n, &message);
        self.broadcast(n, &Body::Change(message));
    }

    fn put_in_force(&mut self, n: usize, message: &VoterChange) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[n];
        let said = node.voter.as_mut().unwrap().change(now, message);
        if let Some(record) = said.persist {
            node.durable = record;
        }
        if let Some(holder) = node.holder.as_mut().filter(|_| said.reply.is_ok()) {
            let others = holder.voters().members != message.set.members;
            holder.take_force();
            self.changed |= others;
        }
    }

    /// `kept`: what a failed write was to keep turns out to be there.
    pub fn restart(&mut self, n: usize, kept: bool, mutant: Mutant) {
        let node = &mut self.nodes[n];
        let cached = node.cached.take().filter(|_| kept);
        if let Some(record) = cached {
            node.durable = record;
        }
        let mut record = node.durable.clone();
        if mutant == Mutant::NoBlackout {
            record.promised_max = Span::ZERO;
        }
        node.process += 1;
        node.voter = Some(Voter::restore(record.clone(), TERMS, Timestamp(self.time)));
        let mine = record.holder.as_ref() == Some(&node.member) && !record.is_released();
        if node.writable && mine && record.is_won() && node.guard.is_some() {
            // The database is left as it is; the guard ends it if the voters do not answer in time.
            let (Some(set), Some(entry)) = (record.voters.clone(), record.last_won()) else {
                return;
            };
            node.holder = Some(Holder::new(
                node.member.clone(),
                record.epoch,
                set,
                entry.sync.clone(),
                TERMS,
                node.process * 1_000,
            ));
            node.resuming = true;
            node.guard = node.guard.filter(|_| mutant != Mutant::ForgetsItsGuard);
            return;
        }
        node.stopped |= node.writable;
        (node.writable, node.guard, node.upstream) = (false, None, None);
        // What the agent finds on a host whose database is down: it gives back what was its own.
        if mine && record.epoch > Epoch(0) {
            self.release(n, record.epoch, record.is_won());
        }
    }
}
