//! Planes around the real engine, the clients, and the person who confirms plans.

use super::fault::Membership;
use super::net::Carries;
use super::random::Random;
use super::world::{Event, OPERATOR, SECOND, World};
use crate::engine::{Decision, Durable, Effect, Engine, Input, PersonOrder, Snapshot};
use crate::model::command::{CommandReply, HistoryOrder, OverrideOrder, VoterOrder};
use crate::model::observation::NodeReport;
use crate::model::plan::Proposal;
use crate::model::{Digest, Member, Span, Timestamp, VoterSet, WallTime};

/// An approval of the simulated person is good for so long, in milliseconds.
const APPROVAL_MS: i64 = 600_000;
/// A write that is not answered within this is given up and another node is tried.
const CLIENT_PATIENCE: Span = Span::secs(1);

/// A control plane.
#[derive(Clone, Debug)]
pub(super) struct Plane {
    offset: u64,
    pub(super) engine: Option<Engine>,
    /// On its disk.
    snapshot: Option<Snapshot>,
    pub(super) last: Timestamp,
    started: u64,
    paused: bool,
    wake: Timestamp,
    asked: Option<Digest>,
    /// While it looks, no database accepts writes since then.
    pub(super) writerless_since: Option<Timestamp>,
    /// Its screen names nothing but waiting, since when.
    pub(super) waits_since: Option<Timestamp>,
}

struct Kept(Timestamp);
impl Durable for Kept {
    fn at(&self) -> Timestamp {
        self.0
    }
}

impl Plane {
    pub(super) fn new(random: &mut Random) -> Self {
        let offset = 1_000_000_000_000 + random.below(1_000_000_000_000);
        let last = Timestamp(0);
        Self {
            offset,
            engine: None,
            snapshot: None,
            last,
            started: 0,
            paused: false,
            wake: Timestamp(0),
            asked: None,
            writerless_since: None,
            waits_since: None,
        }
    }
    pub(super) fn is_up(&self) -> bool {
        self.engine.is_some()
    }
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }
    fn clock(&mut self, now: Timestamp) -> Timestamp {
        self.last = Timestamp(self.offset + now.0).max(self.last + Span(1));
        self.last
    }
}

impl World {
    pub(super) fn start_plane(&mut self, plane: usize) {
        let (wall, world_now) = (self.wall(), self.now);
        let here = &mut self.planes[plane];
        let now = here.clock(world_now);
        here.started += 1;
        here.paused = false;
        let (cluster, policy) = ((*self.cluster).clone(), (*self.policy).clone());
        match here.snapshot.clone() {
            Some(snapshot) => {
                let (engine, decision) = Engine::restore(cluster, policy, snapshot, now, wall);
                here.engine = Some(engine);
                self.settle_decision(plane, decision);
            }
            None => here.engine = Some(Engine::new(cluster, policy, now, wall)),
        }
        self.schedule_plane(plane);
    }

    pub(super) fn kill_plane(&mut self, plane: usize) {
        self.planes[plane].engine = None;
    }

    pub(super) fn pause_plane(&mut self, plane: usize, paused: bool) {
        self.planes[plane].paused = paused;
        if !paused {
            self.schedule_plane(plane);
        }
    }

    fn schedule_plane(&mut self, plane: usize) {
        let here = &mut self.planes[plane];
        let Some(engine) = &here.engine else { return };
        let at = Timestamp(engine.next_wakeup().0.0.saturating_sub(here.offset))
            .max(self.now + Span(100_000));
        here.wake = at;
        let started = here.started;
        self.queue.push(at, Event::PlaneWake { plane, started });
    }

    pub(super) fn plane_wakes(&mut self, plane: usize, started: u64) {
        let here = &self.planes[plane];
        if here.started != started || here.paused || here.engine.is_none() || here.wake != self.now
        {
            return;
        }
        self.plane_input(plane, Input::Wakeup);
    }

    pub(super) fn plane_hears(&mut self, plane: usize, report: NodeReport) {
        self.plane_input(plane, Input::Report(Box::new(report)));
    }

    pub(super) fn plane_told(&mut self, plane: usize, from: usize, reply: CommandReply) {
        let node = self.name(from);
        self.plane_input(plane, Input::Reply { node, reply });
    }

    pub(super) fn plane_input(&mut self, plane: usize, input: Input) {
        let (wall, world_now) = (self.wall(), self.now);
        let here = &mut self.planes[plane];
        if here.paused || here.engine.is_none() {
            return;
        }
        let now = here.clock(world_now);
        let Some(engine) = &mut here.engine else { return };
        let before = engine.next_wakeup().0;
        let decision = engine.handle(now, wall, input);
        assert!(engine.next_wakeup().0 > now, "a wake-up moves its deadline");
        let moved = engine.next_wakeup().0 != before;
        self.settle_decision(plane, decision);
        if moved {
            self.schedule_plane(plane);
        }
    }

    /// Recorded, then done.
    fn settle_decision(&mut self, plane: usize, decision: Decision) {
        if decision.is_empty() {
            return;
        }
        let here = &mut self.planes[plane];
        here.snapshot = here.engine.as_ref().map(|e| e.snapshot().clone());
        if self.keep_facts {
            for record in decision.records() {
                self.fact(
                    if plane == 0 { "plane" } else { "plane 2" },
                    record.rule,
                    record.text.clone(),
                );
            }
        }
        self.records.extend(decision.records().iter().map(|r| (plane, r.clone())));
        let kept = Kept(decision.at());
        for Effect::Command { node, command } in decision.release(&kept) {
            let Some(to) = self.index(&node) else { continue };
            let place = self.plane_place(plane);
            if let Some(at) = self.net.stream(self.now, &mut self.random, place, to, Carries::Calls)
            {
                // A millisecond for the plane's own disk.
                self.queue.push(at + Span::millis(1), Event::Command { to, plane, command });
            }
        }
        self.mind_pending(plane);
    }

    /// Somebody looks at a plan that waits.
    fn mind_pending(&mut self, plane: usize) {
        let Some(after) = self.approve_after else { return };
        let here = &mut self.planes[plane];
        let pending = here
            .engine
            .as_ref()
            .and_then(|e| e.snapshot().pending.as_ref())
            .map(|p| p.digest.clone());
        if pending.is_some() && pending != here.asked {
            here.asked.clone_from(&pending);
            if let Some(digest) = pending {
                self.after(after, Event::Approve { plane, digest });
            }
        }
    }

    pub(super) fn person_approves(&mut self, plane: usize, digest: &Digest) {
        let nonce = u128::from(self.now.0).to_be_bytes();
        let expires = WallTime(self.wall().0 + APPROVAL_MS);
        let Some(engine) = &self.planes[plane].engine else { return };
        let Some(pending) = engine.snapshot().pending.as_ref().filter(|p| p.digest == *digest)
        else {
            return;
        };
        let demoted = pending.plan.demoted().map_or(String::new(), |n| n.as_str().to_owned());
        let approval = self.key.approve_with(digest.clone(), OPERATOR, "simulated", expires, nonce);
        let order = PersonOrder::Execute { plan: digest.clone(), demoted, approval };
        self.plane_input(plane, Input::Person { who: OPERATOR.into(), order });
    }

    /// A person asks for a plan, and confirms it a second later.
    pub(super) fn person_proposes(&mut self, proposal: Proposal) {
        let Some(plane) = (0..self.planes.len()).find(|p| self.planes[*p].is_up()) else { return };
        let before = self.approve_after;
        self.approve_after = Some(before.unwrap_or(Span::secs(1)));
        let order = PersonOrder::Propose(Proposal { reason: "simulated".into(), ..proposal });
        self.plane_input(plane, Input::Person { who: OPERATOR.into(), order });
        self.approve_after = before;
        let refusal =
            self.planes[plane].engine.as_ref().map(|e| e.refusal().to_owned()).unwrap_or_default();
        if !refusal.is_empty() {
            self.fact(OPERATOR, 0, format!("refused: {refusal}"));
        }
    }

    /// The last run that any plane saw to its end.
    pub(super) fn last_run(&self) -> Option<crate::model::view::RunView> {
        self.planes
            .iter()
            .find_map(|p| p.engine.as_ref())
            .and_then(|e| e.snapshot().last_run.clone())
    }

    /// A person asks for a move and confirms it at once; the number of its plan.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn person_moves(
        &mut self,
        shown: &crate::engine::evacuation::Move,
    ) -> Result<u64, String> {
        let order = shown.order("rehearsal");
        let plane =
            (0..self.planes.len()).find(|p| self.planes[*p].is_up()).ok_or("no plane runs")?;
        self.plane_input(plane, Input::Person { who: OPERATOR.into(), order });
        let engine = self.planes[plane].engine.as_ref().ok_or("no plane runs")?;
        let pending = engine.snapshot().pending.as_ref().filter(|_| engine.refusal().is_empty());
        let plan = pending.map(|p| &p.plan).ok_or_else(|| engine.refusal().to_owned())?;
        crate::engine::evacuation::still_fits(shown, plan)?;
        let (number, digest) = (plan.number, plan.digest());
        self.person_approves(plane, &digest);
        Ok(number)
    }

    pub(super) fn person_orders(&mut self, order: PersonOrder) {
        if let Some(plane) = (0..self.planes.len()).find(|p| self.planes[*p].is_up()) {
            self.plane_input(plane, Input::Person { who: OPERATOR.into(), order });
        }
    }

    pub(super) fn person_dismisses(&mut self) {
        let pending = self
            .planes
            .iter()
            .filter_map(|p| p.engine.as_ref())
            .find_map(|e| e.snapshot().pending.as_ref());
        if let Some(plan) = pending.map(|p| p.digest.clone()) {
            self.person_orders(PersonOrder::Dismiss { plan, reason: "simulated".into() });
        }
    }

    /// Two persons attest that these hosts are powered off.
    pub(super) fn persons_override(&mut self, gone: &[usize]) {
        let newest = self
            .hosts
            .iter()
            .filter(|h| h.up)
            .filter_map(|h| h.record.voters.as_ref())
            .max_by_key(|v| v.version)
            .cloned();
        let Some(voters) = newest else { return };
        let named = |m: &&Member| gone.iter().any(|h| self.hosts[*h].node.node_id == m.node);
        let remove: Vec<Member> = voters.members.iter().filter(named).cloned().collect();
        let cluster = self.cluster.cluster_id.clone();
        let members = voters.members.iter().filter(|m| !remove.contains(m)).cloned().collect();
        let Some(engine) = self.planes.iter().find_map(|p| p.engine.as_ref()) else { return };
        let view = engine.view();
        let newest = view
            .nodes
            .iter()
            .filter_map(|n| n.report.as_ref())
            .map(|r| r.vote.epoch)
            .fold(view.epoch, std::cmp::max);
        let left = VoterSet { version: voters.override_version(newest), members };
        let order = OverrideOrder {
            cluster,
            left,
            remove,
            accept_unknown_loss: true,
            reason: "simulated".into(),
        };
        if let Err((check, why)) = engine.would_override(&order) {
            self.fact(OPERATOR, 0, format!("refused ({check}): {why}"));
            return;
        }
        let (nonce, expires) =
            (u128::from(self.now.0).to_be_bytes(), WallTime(self.wall().0 + APPROVAL_MS));
        let sign =
            |who: &str| self.key.approve_with(order.digest(), who, "simulated", expires, nonce);
        let approvals = vec![sign(OPERATOR), sign(SECOND)];
        self.person_orders(PersonOrder::Override { order, approvals });
    }

    /// Two persons sign that what this node has is the cluster's history.
    pub(super) fn persons_sign_history(&mut self, host: usize) {
        let here = &self.hosts[host];
        let order = HistoryOrder {
            cluster: self.cluster.cluster_id.clone(),
            member: here.record.me.clone(),
            system: here.db.system,
            timeline: here.db.history.timeline,
            reason: "simulated".into(),
        };
        let Some(engine) = self.planes.iter().find_map(|p| p.engine.as_ref()) else { return };
        if let Err((check, why)) = engine.would_take_history(&order) {
            self.fact(OPERATOR, 0, format!("refused ({check}): {why}"));
            return;
        }
        let (nonce, expires) =
            (u128::from(self.now.0).to_be_bytes(), WallTime(self.wall().0 + APPROVAL_MS));
        let sign =
            |who: &str| self.key.approve_with(order.digest(), who, "simulated", expires, nonce);
        let approvals = vec![sign(OPERATOR), sign(SECOND)];
        self.person_orders(PersonOrder::History { order, approvals });
    }

    /// A person changes who votes, by way of the plane.
    pub(super) fn person_changes_voters(&mut self, what: Membership, host: usize) {
        let Some(plane) = (0..self.planes.len()).find(|p| self.planes[*p].is_up()) else { return };
        let Some(engine) = &self.planes[plane].engine else { return };
        let view = engine.view();
        let node = view.nodes.iter().find(|n| Some(&n.node) == view.primary.as_ref());
        let Some(holder) = node.and_then(|n| n.report.as_ref()) else { return };
        let now = self.hosts[host].record.me.clone();
        let former = holder.vote.members.iter().find(|m| m.node == now.node).cloned();
        let (remove, add) = match what {
            Membership::Add => (None, Some(now)),
            Membership::Remove => (former, None),
            Membership::Readmit => (former.filter(|f| *f != now), Some(now)),
        };
        let from_version = holder.vote.voters_version;
        let order = VoterOrder {
            cluster: self.cluster.cluster_id.clone(),
            from_version,
            remove,
            add,
            reason: "simulated".into(),
        };
        if let Err((check, why)) = engine.would_change_voters(&order) {
            self.fact(OPERATOR, 0, format!("refused ({check}): {why}"));
            return;
        }
        let (nonce, expires) =
            (u128::from(self.now.0).to_be_bytes(), WallTime(self.wall().0 + APPROVAL_MS));
        let approval = self.key.approve_with(order.digest(), OPERATOR, "simulated", expires, nonce);
        self.plane_input(
            plane,
            Input::Person { who: OPERATOR.into(), order: PersonOrder::Voters { order, approval } },
        );
    }

    pub(super) fn client_writes(&mut self) {
        let interval = self.client.interval;
        if interval == Span::ZERO {
            return;
        }
        let write = self.client.next;
        self.client.next += 1;
        let late = self
            .client
            .open
            .values()
            .next()
            .is_some_and(|sent| self.now.since(*sent) > CLIENT_PATIENCE);
        if late {
            self.client.open.clear();
            if !self.has_several_writers() {
                self.next_target();
            }
        }
        let several = self.has_several_writers();
        let to = if several { self.routed() } else { Some(self.client.target) };
        let Some(to) = to else { return self.after(interval, Event::Client) };
        self.client.open.insert(write, self.now);
        let place = self.client_place();
        if let Some(at) = self.net.stream(self.now, &mut self.random, place, to, Carries::Calls)
            && self.hosts[to].up
        {
            self.queue.push(at, Event::Write { to, write });
        }
        self.after(interval, Event::Client);
    }

    fn next_target(&mut self) {
        let hosts = self.hosts.len();
        let data = |i: &usize| self.hosts[*i].node.role != crate::model::topology::Role::Witness;
        let next = (1..=hosts).map(|step| (self.client.target + step) % hosts).find(data);
        self.client.target = next.unwrap_or(0);
    }

    pub(super) fn tell_client(&mut self, from: usize, write: u64, taken: bool) {
        let place = self.client_place();
        if let Some(at) = self.net.stream(self.now, &mut self.random, from, place, Carries::Calls) {
            self.queue.push(at, Event::Written { write, from, taken });
        }
    }

    pub(super) fn client_told(&mut self, write: u64, from: usize, taken: bool) {
        self.client.open.remove(&write);
        if !taken && from == self.client.target {
            self.next_target();
        }
    }
}
