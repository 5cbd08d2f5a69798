//! The state machine that is explored: what may happen next, what comes of it, what has to hold.

use std::collections::{BTreeMap, BTreeSet};

use quorate::lease::{EpochSync, Holder, Renew, Voter, VoterRecord};
use quorate::model::{Epoch, Member, SyncSet, TimelineHistory, Timestamp, VoterSet};
use stateright::{Model, Property};

use super::bounds::{Bounds, Mutant};
use super::world::{Message, Node, TERMS, World, fingerprint, member, number, sync_of, voters};

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::large_enum_variant, reason = "a few thousand live at once")]
pub enum Action {
    Tick,
    Claim(usize),
    Renew(usize),
    Deliver(Message, bool),
    Write(usize, usize, bool),
    Crash(usize),
    Restart(usize, bool),
    AgentCrash(usize),
    GuardDies(usize),
    StoreFails(usize),
    Pause(usize),
    Wake(usize),
    Release(usize),
    Reinstall(usize),
    Add(usize, usize),
    Remove(usize, usize),
    /// The holder takes a change of voters back that is not in force.
    TakeBack(usize),
    /// The holder puts the voters as they are into a set of its own making.
    Settle(usize),
    Resync(usize, SyncSet),
    UseSync(usize),
    EndSync(usize),
    Hear(usize, usize),
    Lose,
    Override(usize),
}

impl Bounds {
    fn is_gone(&self, n: usize) -> bool {
        n < self.voters && n + self.gone >= self.voters
    }

    /// The set that an override leaves, and whom it removes.
    fn overridden(&self) -> (VoterSet, Vec<Member>) {
        let all = voters(self.voters);
        let gone: Vec<Member> =
            all.members.iter().filter(|m| self.is_gone(number(m))).cloned().collect();
        let members = all.members.iter().filter(|m| !gone.contains(m)).cloned().collect();
        (VoterSet { version: all.override_version(Epoch(1)), members }, gone)
    }

    /// A host that was paused as a whole wakes with its database writable; only confirmations can
    /// stop it.
    fn write_actions(&self, world: &World, n: usize, actions: &mut Vec<Action>) {
        if world.left[2] > 0 && world.nodes[n].writable {
            for m in world.receivers(n) {
                actions.push(Action::Write(n, m, true));
                actions.push(Action::Write(n, m, false));
            }
        }
    }

    /// What a holder may change, under the conditions under which the agent's machine would.
    fn holder_actions(&self, world: &World, n: usize, holder: &Holder, actions: &mut Vec<Action>) {
        let now = Timestamp(world.time);
        let node = &world.nodes[n];
        let free = world.left[8] > 0 && holder.next_voters().is_none() && node.target.is_none();
        if free && !holder.is_settled() {
            actions.push(Action::Settle(n));
        }
        if free && (holder.is_settled()) {
            let here = holder.promised_by(now);
            // Who comes has promised nothing yet: it answers.
            let counts = |m: &&Member| here.contains(&m.node) || !holder.voters().contains(m);
            let in_reach =
                |set: &VoterSet| set.members.iter().filter(counts).count() >= set.majority();
            for (m, other) in world.nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                let mut set = holder.voters().clone();
                // Whoever was reinstalled votes again once its former self was removed and its new
                // one added.
                if let Some(voter) = set.on(&other.member.node).cloned() {
                    // A voter stops confirming before it stops voting.
                    let confirms = holder.sync().sets.iter().any(|s| s.members.contains(&voter));
                    set.members.remove(&voter);
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
        if world.left[8] > 0
            && holder.next_voters().is_some_and(|next| next.members != holder.voters().members)
        {
            actions.push(Action::TakeBack(n));
        }
        if world.left[9] > 0 && node.target.is_none() && holder.next_voters().is_none() {
            let sync = holder.sync_set();
            for (m, other) in world.nodes.iter().enumerate().filter(|(m, _)| *m != n) {
                let mut target = sync.clone();
                let confirmed = target.members.iter().find(|c| number(c) == m).cloned();
                if !confirmed.is_some_and(|c| target.members.remove(&c))
                    && holder.voters().contains(&other.member)
                {
                    target.members.insert(other.member.clone());
                }
                if target != sync && target.members.len() >= target.k {
                    actions.push(Action::Resync(n, target));
                }
            }
            for k in (1..=sync.members.len()).filter(|k| self.resizes && *k != sync.k) {
                actions.push(Action::Resync(n, SyncSet { k, ..sync.clone() }));
            }
        }
        if let Some(target) = &node.target {
            if node.confirms != *target && holder.stage_is_durable() {
                actions.push(Action::UseSync(n));
            }
            // A write that waited for the new set: everything before it is there.
            let has_all = |m: &Member| {
                world.nodes[number(m)].log == node.log && world.nodes[number(m)].upstream == Some(n)
            };
            let settled = node.confirms == *target
                && target.members.iter().filter(|m| has_all(m)).count() >= target.k;
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
        let entry = EpochSync {
            epoch: Epoch(1),
            holder: member(0),
            sync: sync.clone().into(),
            won: true,
            promoted: true,
            doubt: quorate::model::loss::Doubt::default(),
        };
        let nodes = (0..self.voters + self.strangers)
            .map(|n| {
                let votes = n < self.voters;
                let former = VoterSet {
                    version: 1,
                    members: [0, 1, self.voters - 1].into_iter().map(member).collect(),
                };
                let missed = self.stale > 0 && n + 1 == self.voters || self.stale > 1 && n == 1;
                let mut known = if missed { former } else { set.clone() };
                if self.resumed && n == 0 {
                    known.version += 1;
                    known.members.retain(|v| number(v) + 1 < self.voters);
                }
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
                    next_version: None,
                    epoch: Epoch(1),
                    holder: member(0),
                    round: 0,
                    duration: TERMS.duration,
                    sync: sync.clone().into(),
                    promoted: Some(TimelineHistory::default()),
                    system: None,
                    process: 0,
                    doubt: quorate::model::loss::Doubt::default(),
                };
                assert_eq!(voter.renew(Timestamp(0), &renew).reply.is_ok(), votes);
                let counted = voter.record().voters.clone().unwrap_or(set.clone());
                let mine = counted.clone();
                let mut holder =
                    Holder::new(member(0), Epoch(1), counted, sync.clone().into(), TERMS, 0);
                if self.changes > 0 && !self.resumed {
                    holder.begin_change(mine, Timestamp(0));
                    holder.take_force();
                }
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
                    guard: (n == 0).then_some(TERMS.duration.0),
                    bare: None,
                    resuming: false,
                    woken: false,
                    failing: false,
                    cached: None,
                    process: 0,
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
            self.hears,
            self.agent_crashes,
            self.guard_deaths,
            self.store_failures,
        ];
        let apart = if self.parted { vec![1, self.voters - 1] } else { vec![] };
        let (net, acknowledged) = (BTreeMap::new(), BTreeSet::new());
        vec![World {
            time: 0,
            nodes,
            net,
            acknowledged,
            left,
            fell: false,
            changed: false,
            lost: false,
            apart,
            resynced: false,
        }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        let now = Timestamp(world.time);
        if world.time < self.time {
            actions.push(Action::Tick);
        }
        if self.gone > 0 && !world.lost {
            actions.push(Action::Lose);
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
                if !(world.lost && self.is_gone(n)) {
                    actions.push(Action::Restart(n, false));
                    if node.cached.is_some() {
                        actions.push(Action::Restart(n, true));
                    }
                }
                self.write_actions(world, n, actions);
                continue;
            }
            if world.lost
                && !self.is_gone(n)
                && node.durable.voters.as_ref() != Some(&self.overridden().0)
            {
                actions.push(Action::Override(n));
            }
            if node.paused {
                actions.push(Action::Wake(n));
                continue;
            }
            if world.left[10] > 0 && node.holder.is_none() {
                let news = |other: &Node| {
                    let set = other.durable.voters.as_ref().filter(|_| other.acts());
                    set.is_some_and(|set| {
                        node.voter.clone().is_some_and(|mut v| v.hear_set(set).persist.is_some())
                    })
                };
                actions.extend(
                    (0..world.nodes.len())
                        .filter(|m| news(&world.nodes[*m]))
                        .map(|m| Action::Hear(n, m)),
                );
            }
            if world.left[0] > 0 && node.holder.is_none() && node.claim.is_none() {
                actions.push(Action::Claim(n));
            }
            let guarded = node.bare.is_none() || self.mutant == Mutant::UnguardedForEver;
            let renews = node.resuming || node.holder.as_ref().is_some_and(|h| h.holds(now));
            if world.left[1] > 0 && renews && guarded {
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
            if let Some(holder) =
                node.holder.as_ref().filter(|h| node.claim.is_none() && h.holds(now))
            {
                self.holder_actions(world, n, holder, actions);
            }
            if world.left[11] > 0 && node.bare.is_none() {
                actions.push(Action::AgentCrash(n));
            }
            if world.left[12] > 0 && node.writable && node.bare.is_none() {
                actions.push(Action::GuardDies(n));
            }
            if world.left[13] > 0 && !node.failing {
                actions.push(Action::StoreFails(n));
            }
            self.write_actions(world, n, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let mut world = last.clone();
        let now = Timestamp(world.time);
        match action {
            Action::Tick => world.time += 1,
            Action::Claim(n) => {
                world.left[0] -= 1;
                let floor = world.nodes[n]
                    .durable
                    .voters
                    .as_ref()
                    .and_then(VoterSet::override_floor)
                    .unwrap_or_default();
                let epoch = world.nodes[n].durable.epoch.max(floor).next();
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
                let confirms = world.nodes[n].confirms.clone();
                // The one that the action names, and as many more as a commit waits for.
                let more = world
                    .receivers(n)
                    .filter(|o| *o != m && confirms.members.contains(&world.nodes[*o].member));
                let to: Vec<usize> = std::iter::once(m)
                    .chain(more.take(if acknowledged { confirms.k - 1 } else { 0 }))
                    .collect();
                world.nodes[n].log.push(id);
                let (log, timeline) = (world.nodes[n].log.clone(), world.nodes[n].timeline);
                for o in &to {
                    (world.nodes[*o].log, world.nodes[*o].timeline) = (log.clone(), timeline);
                }
                let confirmed = to
                    .iter()
                    .filter(|o| confirms.members.contains(&world.nodes[**o].member))
                    .count();
                if acknowledged && confirmed >= confirms.k {
                    world.acknowledged.insert(id);
                }
            }
            Action::Crash(n) => {
                world.left[3] -= 1;
                world.crash(n);
            }
            Action::Restart(n, kept) => world.restart(n, kept, self.mutant),
            Action::AgentCrash(n) => {
                world.left[11] -= 1;
                world.agent_crash(n);
            }
            Action::GuardDies(n) => {
                world.left[12] -= 1;
                let node = &mut world.nodes[n];
                (node.guard, node.bare) = (None, Some(world.time));
            }
            Action::StoreFails(n) => {
                world.left[13] -= 1;
                world.nodes[n].failing = true;
            }
            Action::Pause(n) => {
                world.left[4] -= 1;
                world.nodes[n].paused = true;
            }
            // Its agent runs a moment later: until the next event of its own the database is as it
            // was.
            Action::Wake(n) => {
                (world.nodes[n].paused, world.nodes[n].woken) = (false, true);
            }
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
                (node.holder, node.claim, node.writable, node.clean, node.upstream) =
                    (None, None, false, false, None);
                (node.log, node.timeline) = (vec![], 0);
            }
            Action::Add(n, m) => {
                let new = world.nodes[m].member.clone();
                world.change_voters(n, |set| _ = set.members.insert(new), self);
            }
            Action::Remove(n, m) => {
                world.change_voters(n, |set| set.members.retain(|v| number(v) != m), self)
            }
            Action::TakeBack(n) => world.change_voters(n, |_| {}, self),
            Action::Settle(n) => {
                world.left[8] += 1;
                world.change_voters(n, |_| {}, self);
            }
            Action::Hear(n, m) => {
                world.left[10] -= 1;
                let set = world.nodes[m].durable.voters.clone()?;
                world.keep(n, |voter| voter.hear_set(&set).persist);
            }
            Action::Lose => {
                world.lost = true;
                let gone = (0..world.nodes.len()).filter(|n| self.is_gone(*n));
                if self.mutant == Mutant::AttestedLives {
                    world.apart = gone.collect();
                } else {
                    gone.for_each(|n| world.crash(n));
                }
            }
            Action::Override(n) => {
                let (left, gone) = self.overridden();
                world.keep(n, |voter| voter.remove_attested(now, &left, &gone, false).persist);
            }
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
        // A woken node may write once before its agent acts, so waking does not fence; everything
        // else does.
        if !last.nodes.iter().zip(&world.nodes).any(|(a, b)| a.paused && !b.paused) {
            world.fence(self.mutant);
        }
        let reinstalled = |n: usize| {
            last.nodes[n].member != world.nodes[n].member || (last.left[6] != world.left[6])
        };
        // What it said last counts, whether or not that was on its disk.
        let said =
            |node: &Node| node.voter.as_ref().map_or(node.durable.epoch, |v| v.record().epoch);
        world.fell |= (0..world.nodes.len())
            .any(|n| !reinstalled(n) && said(&world.nodes[n]) < said(&last.nodes[n]));
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("at most one node holds the lease", |_, world: &World| {
                let now = Timestamp(world.time);
                world
                    .nodes
                    .iter()
                    .filter(|n| n.acts() && n.holder.as_ref().is_some_and(|h| h.holds(now)))
                    .count()
                    <= 1
            }),
            Property::always(
                "no acknowledged write is missing where the account said none",
                |_, world: &World| {
                    let newest = world
                        .nodes
                        .iter()
                        .filter(|n| n.writable && n.clean)
                        .max_by_key(|n| n.holder.as_ref().map(Holder::epoch));
                    newest.is_none_or(|n| world.acknowledged.iter().all(|id| n.log.contains(id)))
                },
            ),
            // Not of hosts that were paused as a whole: there only confirmations protect.
            Property::always("at most one database accepts writes", |_, world: &World| {
                let writes = |n: &&Node| n.writable && !n.paused && !n.woken;
                world.nodes.iter().filter(writes).count() <= 1
            }),
            Property::always("the guard kills before the lease ends", |_, world: &World| {
                world.nodes.iter().filter(|n| n.acts() && n.writable && !n.woken).all(|n| {
                    let held = n.holder.as_ref().and_then(Holder::held_until);
                    held.zip(n.guard).is_none_or(|(held, kills)| kills <= held.0 || n.resuming)
                })
            }),
            Property::always("at most one lease is held unguarded", |_, world: &World| {
                world.nodes.iter().all(|n| {
                    let bare = n.bare.filter(|_| n.writable);
                    bare.is_none_or(|since| world.time - since <= TERMS.duration.0)
                })
            }),
            Property::always("epochs only rise", |_, world: &World| !world.fell),
            Property::sometimes("a write is acknowledged", |bounds: &Bounds, world: &World| {
                bounds.writes == 0 || !world.acknowledged.is_empty()
            }),
            Property::sometimes(
                "a restarted agent goes on with its database",
                |bounds: &Bounds, world: &World| {
                    let now = Timestamp(world.time);
                    let resumed = |n: &Node| {
                        n.process > 0
                            && n.writable
                            && n.holder.as_ref().is_some_and(|h| h.holds(now))
                    };
                    bounds.agent_crashes == 0
                        || bounds.renewals == 0
                        || world.nodes.iter().any(resumed)
                },
            ),
            Property::sometimes(
                "another voter set is in force",
                |bounds: &Bounds, world: &World| {
                    bounds.changes == 0 || bounds.renewals == 0 || bounds.resumed || world.changed
                },
            ),
            Property::sometimes(
                "another synchronous set is in use",
                |bounds: &Bounds, world: &World| bounds.sync_changes == 0 || world.resynced,
            ),
            Property::sometimes(
                "a reinstalled node votes again",
                |bounds: &Bounds, world: &World| {
                    let again = |n: &Node| {
                        n.member.incarnation.as_str() == "b"
                            && n.durable.voters.as_ref().is_some_and(|v| v.contains(&n.member))
                    };
                    bounds.reinstalls == 0
                        || bounds.changes < 2
                        || bounds.renewals == 0
                        || world.nodes.iter().any(again)
                },
            ),
            Property::sometimes("those who are left serve", |bounds: &Bounds, world: &World| {
                let serves = |n: &Node| {
                    n.writable && n.holder.as_ref().is_some_and(|h| h.epoch() > Epoch(100))
                };
                bounds.gone == 0 || world.nodes.iter().any(serves)
            }),
            Property::sometimes(
                "a stranded voter serves the living holder again",
                |bounds: &Bounds, world: &World| {
                    let climbed = world.nodes[0].climbing
                        && world.nodes[0].holder.as_ref().is_some_and(|h| {
                            h.epoch() > Epoch(1) && h.holds(Timestamp(world.time))
                        });
                    !bounds.strands || climbed
                },
            ),
        ]
    }
}
