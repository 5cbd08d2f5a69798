//! Every interleaving of three voters, bounded: crashes, restarts, paused hosts, a reinstalled node, lost, late, doubled and
//! reordered messages, a release, a climb. The rooms under test are the production ones; only time, network and
//! the database are the model's.
//!
//! Checked in every state: at most one node holds the lease; no acknowledged write is missing at a primary whose loss
//! account said "none"; a voter's epoch only rises. And reached in some state: a stranded voter is back. Every check is
//! shown able to fail by a mutant.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::collections::{BTreeMap, BTreeSet};

use quorate::lease::{
    Ack, Claim, ClaimRequest, Cut, EpochSync, Grant, Holder, Local, Refusal, ReleaseNotice, Renew, Standing, Terms, Voter, VoterRecord,
};
use quorate::model::loss::LossAccount;
use quorate::model::{Epoch, Lsn, Member, Position, Span, SyncSet, TimelineHistory, Timestamp, VoterSet};
use stateright::{Checker, HasDiscoveries, Model, Property};

const NODES: usize = 3;
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
}

/// What may happen, and how often.
#[derive(Clone, Debug)]
struct Bounds {
    mutant: Mutant,
    time: u64,
    claims: u8,
    renewals: u8,
    writes: u8,
    crashes: u8,
    pauses: u8,
    releases: u8,
    reinstalls: u8,
    doubles: u8,
    /// Ask for a climb.
    strands: bool,
}

const QUIET: Bounds = Bounds {
    mutant: Mutant::None,
    time: 3,
    claims: 1,
    renewals: 1,
    writes: 1,
    crashes: 0,
    pauses: 0,
    releases: 0,
    reinstalls: 0,
    doubles: 0,
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
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    time: u64,
    nodes: Vec<Node>,
    /// By fingerprint: a set whose order is the same in every run.
    net: BTreeMap<u64, Message>,
    acknowledged: BTreeSet<u8>,
    /// claims, renewals, writes, crashes, pauses, releases, reinstalls, doubles
    left: [u8; 8],
    fell: bool,
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
fn voters() -> VoterSet {
    VoterSet { version: 1, members: (0..NODES).map(member).collect() }
}
fn sync_of(holder: usize) -> SyncSet {
    SyncSet { members: (0..NODES).filter(|n| *n != holder).map(member).collect(), k: 1 }
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
    fn send(&mut self, to: usize, body: Body) {
        let message = Message { to, body };
        self.net.insert(fingerprint(&message), message);
    }
    fn broadcast(&mut self, from: usize, body: &Body) {
        for to in (0..NODES).filter(|n| *n != from) {
            self.send(to, body.clone());
        }
    }

    /// The guard and the agent: an awake node stops its database before its lease is over.
    fn fence(&mut self) {
        let now = Timestamp(self.time);
        for i in 0..NODES {
            let node = &mut self.nodes[i];
            if node.acts() && node.writable && !node.holder.as_ref().is_some_and(|h| h.holds(now)) {
                (node.writable, node.stopped) = (false, true);
                let epoch = node.holder.take().map(|h| h.epoch());
                node.claim = None;
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
        let request = ClaimRequest {
            voters: voters(),
            epoch,
            candidate: self.nodes[n].member.clone(),
            duration: TERMS.duration,
            sync: sync_of(n).into(),
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
        node.claim = Some(Claim::new(request.clone(), voters(), Timestamp(self.time), incumbent));
        self.broadcast(n, &Body::Claim(request.clone()));
        self.on_claim(n, &request, bounds);
    }

    fn on_claim(&mut self, at: usize, request: &ClaimRequest, bounds: &Bounds) {
        let now = Timestamp(self.time);
        let node = &mut self.nodes[at];
        let mut local = node.local(bounds.mutant);
        let voter = node.voter.as_mut().unwrap();
        if voter.would_grant(now, request, local).is_ok() && local.cut == Cut::Not && !voter.is_holder(now, &request.candidate) {
            node.upstream = None;
            local = node.local(bounds.mutant);
        }
        let said = node.voter.as_mut().unwrap().claim(now, request, local);
        if let Some(record) = said.persist {
            node.durable = record;
        }
        if let Ok(grant) = said.reply {
            let to = number(&request.candidate);
            if to == at {
                self.on_grant(at, grant, bounds);
            } else {
                self.send(to, Body::Grant(grant));
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
        let mut holder = Holder::new(me, request.epoch, voters(), request.sync.clone(), TERMS, 0);
        for voter in &granted {
            holder.granted(voter, claim.sent());
        }
        node.holder = Some(holder);
        node.claim = None;
        node.clean = true;
        if !node.climbing {
            node.timeline = u32::try_from(request.epoch.0).unwrap();
        }
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
                        self.send(from, Body::Ack(ack));
                    }
                    Err(Refusal::NewerEpoch { epoch }) => self.send(from, Body::NotAcked(epoch)),
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

impl Model for Bounds {
    type State = World;
    type Action = Action;

    /// n0 holds epoch 1, the others follow it.
    fn init_states(&self) -> Vec<World> {
        let entry = EpochSync { epoch: Epoch(1), holder: member(0), sync: sync_of(0).into(), won: true, promoted: true };
        let nodes = (0..NODES)
            .map(|n| {
                let durable = VoterRecord {
                    me: member(n),
                    voters: Some(voters()),
                    epoch: Epoch(1),
                    holder: Some(member(0)),
                    released: vec![],
                    promised_max: Span::ZERO,
                    history: vec![entry.clone()],
                    attested: vec![],
                    shares: None,
                };
                let mut voter = Voter::restore(durable, TERMS, Timestamp(0));
                let renew = Renew {
                    voters_version: 1,
                    epoch: Epoch(1),
                    holder: member(0),
                    round: 0,
                    duration: TERMS.duration,
                    sync: sync_of(0).into(),
                    promoted: Some(TimelineHistory::default()),
                };
                let said = voter.renew(Timestamp(0), &renew);
                assert!(said.reply.is_ok());
                let mut holder = Holder::new(member(0), Epoch(1), voters(), sync_of(0).into(), TERMS, 0);
                (0..NODES).for_each(|v| holder.granted(&member(v), Timestamp(0)));
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
                }
            })
            .collect();
        let left = [self.claims, self.renewals, self.writes, self.crashes, self.pauses, self.releases, self.reinstalls, self.doubles];
        vec![World { time: 0, nodes, net: BTreeMap::new(), acknowledged: BTreeSet::new(), left, fell: false }]
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
            // A host that was paused as a whole wakes with its database writable; only confirmations can stop it.
            if world.left[2] > 0 && node.writable {
                for m in (0..NODES).filter(|m| *m != n) {
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
                let node = &mut world.nodes[n];
                let renew = node.holder.as_mut()?.renew(now, Some(TimelineHistory::default()));
                let own = node.voter.as_mut()?.renew(now, &renew);
                if let Some(record) = own.persist {
                    node.durable = record;
                }
                if let (Ok(ack), Some(holder)) = (own.reply, &mut node.holder) {
                    holder.ack(&ack);
                }
                world.broadcast(n, &Body::Renew(renew));
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
                let confirms = world.nodes[n].holder.as_ref().is_some_and(|h| h.sync_set().members.contains(&world.nodes[m].member));
                if acknowledged && confirms {
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
                    node.durable.voters = Some(voters());
                }
                node.voter = Some(Voter::restore(node.durable.clone(), TERMS, now));
                (node.holder, node.claim, node.writable, node.clean, node.upstream) = (None, None, false, false, None);
                (node.log, node.timeline) = (vec![], 0);
            }
        }
        // A woken node may write once before its agent acts, so waking does not fence; everything else does.
        if !last.nodes.iter().zip(&world.nodes).any(|(a, b)| a.paused && !b.paused) {
            world.fence();
        }
        let reinstalled = |n: usize| last.nodes[n].member != world.nodes[n].member || (last.left[6] != world.left[6]);
        world.fell |= (0..NODES).any(|n| !reinstalled(n) && world.nodes[n].durable.epoch < last.nodes[n].durable.epoch);
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
    let checked = bounds.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    assert!(checked.discovery(property).is_some(), "the check {property:?} did not catch {name}");
}

const ONE_HOLDER: &str = "at most one node holds the lease";
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
