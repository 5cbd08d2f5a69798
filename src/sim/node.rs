//! The agent's process around its machine: inputs in, the record to disk, and only then effects
//! out. The same order as the real runtime.

use std::rc::Rc;

use super::host::{Agent, Task};
use super::net::Carries;
use super::world::{Event, PLANES, World};
use crate::access;
use crate::agent::machine::{Effect, Found, Goal, Machine, Resource, Tenure, Turn};
use crate::lease::{Ack, Grant};
use crate::model::command::{Command, CommandReply};
use crate::model::observation::{
    CheckTimes, NodeReport, PeerProbe, Pids, ResourceFacts, ResourceState, SIMULATED, STREAMING,
    StandbyFacts,
};
use crate::model::planted::{Bug, planted};
use crate::model::topology::Role;
use crate::model::{DataFound, Position, Span, Timestamp};
use crate::wire::message::{PeerMessage, PeerReply};

/// The adapter looks at its database this often.
const LOOK_INTERVAL: Span = Span::millis(100);
/// The agent's own work on one input, at least.
pub(super) const THINK: Span = Span(50_000);
/// Free disk where nothing is wrong, in bytes.
const DISK_FREE: u64 = 50 << 30;

impl World {
    pub(super) fn start_agent(&mut self, host: usize) {
        self.born += 1;
        let (born, setup, now) = (self.born, self.setup(host), self.hosts[host].clock(self.now));
        let places = self.hosts.len();
        let here = &mut self.hosts[host];
        here.frozen = false;
        here.inbox.clear();
        if self.hosts[host].db.stopping {
            // A stop that was asked for ends without whoever asked.
            self.kill_database(host);
        }
        let here = &mut self.hosts[host];
        // The kernel has dropped what was never written, or not.
        if here.disk.broken && self.random.chance(500) {
            here.record = here.durable_record.clone();
        }
        let record = here.record.clone();
        // Written whole before it votes.
        let whole = !here.disk.broken && !here.disk.full || planted(Bug::TrustsTheCache);
        if !here.disk.broken && !here.disk.full && !here.disk.lies {
            here.durable_record = record.clone();
        }
        self.oracle.remembers(self.now, &record.me, record.epoch);
        let armed = here.guard.and_then(|g| g.until).filter(|until| now < *until);
        // Only a server that it started itself is taken up again.
        let taken_up = armed.filter(|_| here.db.running && !here.db.by_hand);
        let guarded = taken_up.is_some();
        here.by_hand_at =
            here.by_hand_at.max(if here.db.by_hand { self.now } else { Timestamp(0) });
        let (machine, turn) = Machine::start(
            now,
            setup,
            record,
            &Found { running_guarded: guarded, ..Found::default() },
        );
        here.agent = Some(Agent {
            machine,
            born,
            busy_until: Timestamp(0),
            wake: None,
            sequence: 0,
            report_due: true,
            seen: vec![None; places],
            goal: (0, Goal::Standby { upstream: None, may_init: false }),
            generation: 0,
            task: Task::Settled,
            resource: Resource { has_data: here.db.has_data, ..Resource::default() },
            state: if here.node.role == Role::Witness {
                ResourceState::None
            } else {
                ResourceState::Unknown
            },
            since: self.now,
            trouble: String::new(),
            setback: None,
            proof: None,
            following: None,
            looks: 0,
            fence: None,
            withheld: None,
            unsaved: None,
            whole,
            unconfirmed: None,
            rebuilt: here.db.rebuilt,
            found: vec![],
        });
        if let Some(until) = taken_up {
            self.arm_agent(host, until);
        }
        let beat = self.random.span(Span::ZERO, self.conditions.heartbeat);
        self.after(beat, Event::Beat { host, born });
        let look = self.random.span(Span::millis(1), LOOK_INTERVAL);
        self.after(look, Event::Look { host, born });
        self.perform(host, turn);
        self.mind_record(host);
        self.agent_done(host);
    }

    fn agent(&mut self, host: usize, born: u64) -> Option<(&mut Agent, Timestamp)> {
        let now = self.hosts[host].clock(self.now);
        self.hosts[host].agent.as_mut().filter(|a| a.born == born).map(|a| (a, now))
    }

    pub(super) fn agent_wake(&mut self, host: usize, born: u64) {
        let world_now = self.now;
        let Some((agent, now)) = self.agent(host, born) else { return };
        if agent.wake != Some(world_now) {
            // Queued for a deadline that moved; the one that counts is queued too.
            if agent.wake.is_some_and(|w| w > world_now) {
                return;
            }
        }
        agent.wake = None;
        if agent.machine.next_wakeup().is_none_or(|at| at > now) {
            self.schedule_wake(host);
            return;
        }
        let turn = agent.machine.wakeup(now);
        self.perform(host, turn);
        self.agent_done(host);
    }

    pub(super) fn agent_beat(&mut self, host: usize, born: u64) {
        let Some((agent, _)) = self.agent(host, born) else { return };
        agent.report_due = true;
        if !agent.is_saved() && self.save(host).is_err() {
            return;
        }
        self.mind_record(host);
        if self.hosts[host].node.role != Role::Witness {
            self.mind_guard(host);
        }
        for peer in 0..self.hosts.len() {
            if peer != host {
                self.send(host, peer, Rc::new(PeerMessage::Hello), Span::ZERO);
            }
        }
        let jitter = self.random.below(self.conditions.heartbeat.0 / 20 + 1);
        let next = self.conditions.heartbeat + Span(jitter);
        self.after(next, Event::Beat { host, born });
        self.agent_done(host);
    }

    pub(super) fn agent_look(&mut self, host: usize, born: u64) {
        if self.agent(host, born).is_none() {
            return;
        }
        let jitter = self.random.below(2_000_000);
        self.after(LOOK_INTERVAL + Span(jitter), Event::Look { host, born });
        self.keep_alive(host);
        self.mind_stray(host);
        self.observe(host);
        self.agent_done(host);
    }

    /// What the adapter sees goes into the machine.
    pub(super) fn observe(&mut self, host: usize) {
        self.compare_log(host);
        if self.hosts[host].accepts_writes() {
            self.writable_at = self.now;
        }
        let here = &mut self.hosts[host];
        let now = here.clock(self.now);
        let (db, disk) = (&here.db, &here.disk);
        let Some(agent) = &mut here.agent else { return };
        agent.resource.has_data = db.has_data;
        let hidden = db.unlinked && planted(Bug::StoppedByPath);
        let answers = db.running && !db.hung && !hidden;
        agent.resource.data = DataFound {
            system: db.has_data.then_some(db.system),
            line: db.has_data.then(|| db.history.clone()),
            stray: here.stray,
            flushed: answers.then_some(Position { timeline: db.history.timeline, lsn: db.flushed }),
            print: answers.then(|| db.print(db.flushed)).flatten(),
            rebuilt: db.rebuilt - agent.rebuilt,
        };
        let follows = db.running && !db.primary && agent.following.is_some();
        here.doubt = super::laws::doubt(here.doubt.take(), db, follows);
        agent.resource.doubt = here.doubt.as_ref().map(|(what, _)| what.clone());
        if answers {
            // A standby without fsync: its word counts for nothing.
            let counts = db.primary || db.wrong.fsync.is_none();
            agent.resource.position = counts.then(|| db.position());
            agent.resource.writable = db.primary && !db.stopping;
            agent.resource.stopped = None;
            agent.resource.history = db.primary.then(|| db.history.clone());
            if db.primary && !disk.full {
                agent.resource.write_ok = Some(now);
            }
            let state = match (db.primary, agent.task) {
                (_, Task::Rebuilding) => ResourceState::Rebuilding,
                (_, Task::Starting) => ResourceState::Starting,
                (true, _) => ResourceState::Primary,
                (false, _) => ResourceState::Standby,
            };
            if agent.state.word() != state.word() {
                (agent.state, agent.since, agent.report_due) = (state, self.now, true);
            }
        } else if db.running && !hidden && agent.state != ResourceState::Hung {
            (agent.state, agent.since, agent.report_due) = (ResourceState::Hung, self.now, true);
            agent.trouble = "the database does not answer".into();
        }
        let resource = agent.resource.clone();
        let turn = agent.machine.observed(now, resource);
        self.perform(host, turn);
    }

    pub(super) fn agent_asked(
        &mut self,
        to: usize,
        from: usize,
        born: u64,
        message: &PeerMessage,
        sent: Timestamp,
    ) {
        let approved = match message {
            PeerMessage::Claim(claim) => access::check_claim(
                claim.plan.as_ref(),
                &claim.approvals,
                self.policy.strategy,
                &self.allowlist,
                self.wall(),
            ),
            _ => Ok(()),
        };
        let here = &mut self.hosts[to];
        let now = here.clock(self.now);
        let Some(agent) = &mut here.agent else { return };
        // A voter that cannot save what it would promise is out of reach: nobody counts on it.
        let votes = matches!(
            message,
            PeerMessage::Renew(_)
                | PeerMessage::Ask(_)
                | PeerMessage::Claim(_)
                | PeerMessage::Change(_)
                | PeerMessage::Install(_)
        );
        if votes && !agent.is_saved() {
            return;
        }
        let (turn, mut reply) = agent.machine.message(now, message.clone(), approved);
        if let PeerReply::Hello(hello) = &mut reply
            && !agent.is_saved()
        {
            hello.rest_on(&here.record);
        }
        let Some(took) = self.perform(to, turn) else { return };
        let (PeerReply::Ack(Ack { epoch, .. }) | PeerReply::Grant(Grant { epoch, .. })) = &reply
        else {
            return self.reply(to, from, born, reply, took, sent);
        };
        let (me, epoch) = (self.hosts[to].record.me.clone(), *epoch);
        self.oracle.spoke(&me, epoch);
        self.reply(to, from, born, reply, took, sent);
    }

    fn reply(
        &mut self,
        to: usize,
        from: usize,
        born: u64,
        reply: PeerReply,
        took: Span,
        sent: Timestamp,
    ) {
        for delay in self.net.send(&mut self.random, to, from).into_iter().flatten() {
            let answer =
                Event::Answer { to: from, from: to, born, reply: Box::new(reply.clone()), sent };
            self.queue.push(self.now + took + delay, answer);
        }
        self.agent_done(to);
    }

    pub(super) fn agent_answered(
        &mut self,
        to: usize,
        from: usize,
        born: u64,
        reply: PeerReply,
        sent: Timestamp,
    ) {
        let peer = self.name(from);
        let world_now = self.now;
        let Some((agent, now)) = self.agent(to, born) else { return };
        let runs = match &reply {
            PeerReply::Hello(hello) => Some(hello.resource_runs),
            _ => agent.seen[from].and_then(|s| s.2),
        };
        agent.seen[from] = Some((now, world_now.since(sent), runs));
        let turn = agent.machine.reply(now, &peer, reply);
        self.perform(to, turn);
        self.agent_done(to);
    }

    pub(super) fn agent_ordered(&mut self, to: usize, plane: usize, command: Command) {
        let authority = access::check_order(
            &command.order,
            (self.policy.strategy, self.policy.max_loss_bytes),
            &self.allowlist,
            self.wall(),
        );
        let here = &mut self.hosts[to];
        let now = here.clock(self.now);
        here.asked.clone_from(&command.id);
        let Some(agent) = &mut here.agent else { return };
        let (turn, outcome) = agent.machine.order(now, command.order, authority);
        let Some(took) = self.perform(to, turn) else { return };
        let place = self.plane_place(plane);
        if let Some(at) = self.net.stream(self.now, &mut self.random, to, place, Carries::Calls) {
            let reply = CommandReply { id: command.id, outcome };
            self.queue.push(at + took, Event::Reply { plane, from: to, reply });
        }
        self.agent_done(to);
    }

    /// Durable first, then done; how long that takes. While something is not durable only what does
    /// not rest on it is done. `None`: what the turn answers may not be said.
    pub(super) fn perform(&mut self, host: usize, turn: Turn) -> Option<Span> {
        let mut took = THINK;
        let rests = turn.persist.is_some();
        if let Some(record) = turn.persist {
            if let Some(agent) = &mut self.hosts[host].agent {
                agent.unsaved = Some(record);
            }
            took = took + self.save(host).ok()?;
        }
        for effect in turn.effects {
            self.act(host, effect, took);
        }
        let agent = self.hosts[host].agent.as_mut()?;
        agent.machine.note_done();
        (agent.is_saved() || !rests).then_some(took)
    }

    /// Makes durable what is not. Where there is no room it is kept for another try.
    ///
    /// # Errors
    /// The disk failed, and the process has ended.
    fn save(&mut self, host: usize) -> Result<Span, ()> {
        let here = &mut self.hosts[host];
        let Some(agent) = &mut here.agent else { return Err(()) };
        if here.disk.broken && agent.whole {
            self.store_breaks(host);
            return Err(());
        }
        if here.disk.full || here.disk.broken {
            return Ok(Span::ZERO);
        }
        agent.whole = true;
        let record = agent.unsaved.take().unwrap_or_else(|| here.record.clone());
        if record.epoch < here.record.epoch {
            let seen = format!("{}: {} → {}", here.node.node_id, here.record.epoch, record.epoch);
            self.oracle.epoch_fell(self.now, seen);
        }
        let here = &mut self.hosts[host];
        if !here.disk.lies {
            here.durable_record = record.clone();
        }
        here.record = record;
        let took = self.random.delay(here.disk.flush);
        if let Some(agent) = &mut here.agent {
            agent.busy_until = self.now + THINK + took;
        }
        Ok(took)
    }

    /// A flush failed: what is read back afterwards may never have been written. The process ends;
    /// its successor writes everything anew before it votes.
    fn store_breaks(&mut self, host: usize) {
        let name = self.name(host);
        self.fact(name, 0, "the agent's store fails: input/output error");
        let here = &mut self.hosts[host];
        // It stays readable for a while.
        if let Some(record) = here.agent.as_mut().and_then(|a| a.unsaved.take()) {
            here.record = record;
        }
        if planted(Bug::TrustsTheCache) {
            return self.restart_machine(host);
        }
        here.agent = None;
        here.inbox.clear();
        self.note_loose(host);
        self.after(super::fault::SUPERVISOR, Event::AgentStart { host });
    }

    /// The machine learns whether what it says can be made durable.
    fn mind_record(&mut self, host: usize) {
        let now = self.hosts[host].clock(self.now);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let saves = agent.is_saved();
        if saves != agent.machine.saves() {
            let turn = agent.machine.saved(now, saves);
            self.perform(host, turn);
        }
        self.hand_over_goal(host);
    }

    /// The machine learns since when no guard has confirmed the end of its lease.
    fn mind_guarded(&mut self, host: usize) {
        let now = self.hosts[host].clock(self.now);
        let Some(agent) = &mut self.hosts[host].agent else { return };
        if agent.unconfirmed != agent.machine.unguarded() {
            let turn = agent.machine.guarded(now, agent.unconfirmed);
            self.perform(host, turn);
        }
    }

    /// What rests on a record that is not durable is not said. A holder goes on renewing the epoch
    /// that a restarted process would find as won.
    fn may_send(&self, host: usize, message: &PeerMessage) -> bool {
        let here = &self.hosts[host];
        here.agent.as_ref().is_some_and(Agent::is_saved)
            || match message {
                PeerMessage::Hello => true,
                PeerMessage::Renew(renew) => {
                    renew.epoch == here.record.epoch
                        && here.record.holder.as_ref() == Some(&renew.holder)
                        && here.record.is_won()
                }
                _ => false,
            }
    }

    /// Nothing is made writable before a guard has confirmed when it kills, nor on the strength of a
    /// record that is not durable; nor is anybody followed on it.
    fn may_pursue(&self, host: usize, goal: &Goal) -> bool {
        let here = &self.hosts[host];
        let Some(agent) = &here.agent else { return false };
        match goal {
            Goal::Primary { epoch, .. } => {
                let record = &here.record;
                // A restarted process would find the same epoch as won.
                let mine = record.holder.as_ref() == Some(&record.me) && record.epoch == *epoch;
                (agent.is_saved() || mine && record.is_won()) && self.is_guarded(host)
            }
            Goal::Standby { upstream: Some(upstream), .. } => {
                let followed = here.record.holder.as_ref().is_some_and(|h| h.node == upstream.node);
                agent.is_saved() || here.record.epoch == upstream.epoch && followed
            }
            Goal::Sharing { .. } => agent.is_saved(),
            Goal::Standby { upstream: None, .. } | Goal::Stopped(_) => true,
        }
    }

    /// The newest goal, as soon as the adapter may have it.
    pub(super) fn hand_over_goal(&mut self, host: usize) {
        let waits = self.hosts[host].agent.as_ref().and_then(|a| a.withheld.clone());
        let Some((id, goal)) = waits.filter(|(_, goal)| self.may_pursue(host, goal)) else {
            return;
        };
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.withheld = None;
        if agent.goal.0 == id && agent.goal.1 == goal {
            return;
        }
        let text = goal_words(&goal);
        agent.goal = (id, goal);
        agent.generation += 1;
        agent.task = Task::Begin;
        agent.resource.failure.clear();
        agent.resource.deaf = false;
        let (born, generation) = (agent.born, agent.generation);
        let at = agent.busy_until.max(self.now + THINK);
        self.queue.push(at, Event::Step { host, born, generation });
        let name = self.name(host);
        self.fact(name, 0, text);
    }

    /// In memory the machine is ahead of what is on disk: it starts again from there.
    fn restart_machine(&mut self, host: usize) {
        let (setup, record) = (self.setup(host), self.hosts[host].record.clone());
        let now = self.hosts[host].clock(self.now);
        let running = self.hosts[host].db.running;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let found = Found {
            running_guarded: matches!(agent.machine.tenure(), Tenure::Holding { .. }) && running,
            ..Found::default()
        };
        let (machine, turn) = Machine::start(now, setup, record, &found);
        agent.machine = machine;
        for effect in turn.effects {
            self.act(host, effect, THINK);
        }
    }

    fn act(&mut self, host: usize, effect: Effect, took: Span) {
        match effect {
            Effect::Send(to, message) => {
                if matches!(message, PeerMessage::Release(_)) {
                    self.check_stopped(host);
                }
                if let Some(to) = self.index(&to).filter(|_| self.may_send(host, &message)) {
                    self.send(host, to, Rc::new(message), took);
                }
            }
            Effect::SetGoal(id, goal) => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.withheld = Some((id, goal));
                }
                self.hand_over_goal(host);
            }
            Effect::Guard(until) => self.arm(host, until),
            Effect::StandDown => self.stand_down(host),
            Effect::Report => {
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.report_due = true;
                }
            }
            Effect::Prove => {
                let asked = self.hosts[host].asked.clone();
                self.prove(host, asked);
            }
            Effect::Restart => self.kill_database(host),
            Effect::Renounce(why) => {
                let name = self.name(host);
                self.fact(name, 0, why);
                self.forget_votes(host);
                self.restart_machine(host);
            }
            Effect::Note(text) => {
                let name = self.name(host);
                self.fact(name, 0, text);
            }
        }
    }

    fn send(&mut self, from: usize, to: usize, message: Rc<PeerMessage>, took: Span) {
        let Some(born) = self.hosts[from].agent.as_ref().map(|a| a.born) else { return };
        for delay in self.net.send(&mut self.random, from, to).into_iter().flatten() {
            let at = self.now + took + delay;
            self.queue.push(
                at,
                Event::Ask { to, from, born, message: Rc::clone(&message), sent: self.now },
            );
        }
    }

    /// After every input: what the oracle has to know, the next wake-up, the report.
    pub(super) fn agent_done(&mut self, host: usize) {
        self.mind_guarded(host);
        self.schedule_wake(host);
        self.note_lease(host);
        if self.hosts[host].agent.as_ref().is_some_and(|a| a.report_due) {
            self.report(host);
        }
    }

    fn schedule_wake(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let Some(next) = here.agent.as_ref().and_then(|a| a.machine.next_wakeup()) else { return };
        let at = here.world(next).max(self.now + THINK);
        let Some(agent) = &mut here.agent else { return };
        if agent.wake.is_some_and(|w| w <= at && w >= self.now) {
            return;
        }
        agent.wake = Some(at);
        let born = agent.born;
        self.queue.push(at, Event::Wake { host, born });
    }

    fn report(&mut self, host: usize) {
        let report = self.make_report(host);
        self.check_report(host, &report.resource.state);
        for plane in 0..PLANES {
            if !self.planes[plane].is_up() {
                continue;
            }
            let place = self.plane_place(plane);
            if let Some(at) =
                self.net.stream(self.now, &mut self.random, host, place, Carries::Calls)
            {
                self.queue.push(at, Event::Report { plane, report: Box::new(report.clone()) });
            }
        }
    }

    fn make_report(&mut self, host: usize) -> NodeReport {
        let wall = self.wall();
        let world_now = self.now;
        let several = self.has_several_writers().then(|| (self.copies(host), self.load(host)));
        let names: Vec<_> = (0..self.hosts.len()).map(|i| self.name(i)).collect();
        let closed: Vec<bool> = (0..self.hosts.len())
            .map(|peer| {
                let there = &self.hosts[peer];
                let passes = self.net.passes(host, peer) && self.net.passes(peer, host);
                passes && there.up && !there.frozen && there.agent.is_none()
            })
            .collect();
        let here = &mut self.hosts[host];
        let now = here.clock(world_now);
        let flush = here.disk.flush;
        let Some(agent) = &mut here.agent else { unreachable!("only a living agent reports") };
        agent.report_due = false;
        agent.sequence += 1;
        let db = &here.db;
        let probe = |peer: usize| {
            let seen = agent.seen[peer];
            PeerProbe {
                node: names[peer].clone(),
                answered: seen.map(|(at, ..)| now.since(at)),
                round_trip: seen.map(|(_, took, _)| took),
                resource_runs: seen.and_then(|s| s.2),
                closed: closed[peer],
            }
        };
        let alive = db.running && !db.hung;
        let fresh = db.receiver.filter(|r| r.streaming && alive);
        let standbys = db.senders.iter().filter(|_| alive).map(|(i, s)| StandbyFacts {
            node: names[*i].clone(),
            state: STREAMING.into(),
            sync_state: "quorum".into(),
            sent: s.sent,
            flushed: s.flushed,
            replayed: s.flushed,
            lag_bytes: db.end.bytes_since(s.flushed),
            lag: None,
        });
        let witness = here.node.role == Role::Witness;
        let resource = ResourceFacts {
            kind: SIMULATED.into(),
            version: "simulated".into(),
            state: agent.state.clone(),
            since: wall,
            position: db.position(),
            flushed: db.flushed,
            replayed: db.flushed,
            receiving_from: fresh.map(|r| names[r.from].clone()),
            upstream_age: fresh.map(|r| world_now.since(r.heard)),
            standbys: several
                .as_ref()
                .map_or_else(|| standbys.collect(), |(copies, _)| copies.clone()),
            load: several.map(|(_, load)| load),
            sync_setting: String::new(),
            sessions: u32::from(db.primary),
            unsynchronised_sessions: Some(db.cancelled),
            blocked: None,
            disk_free: if here.disk.full { 0 } else { DISK_FREE },
            disk_total: if witness { 0 } else { DISK_FREE * 2 },
            check: CheckTimes {
                live: alive.then_some(Span::millis(1)),
                ready: alive.then_some(Span::millis(2)),
                deep: (alive && !here.disk.full).then_some(flush + Span::millis(1)),
            },
            proof: agent.proof.clone(),
            unproved: None,
            trouble: agent.trouble.clone(),
            setback: agent.setback.clone(),
            refuses: String::new(),
            serving: None,
            found: agent.found.clone(),
        };
        NodeReport {
            member: here.record.me.clone(),
            process: agent.born,
            sequence: agent.sequence,
            sent: wall,
            pids: Pids { agent: 0, guard: None, postmaster: None },
            vote: agent.machine.vote_facts(now),
            holding: agent.machine.holding_facts(now),
            resource,
            peers: (0..names.len()).filter(|i| *i != host).map(probe).collect(),
            armed: agent.machine.armed(),
            shares: agent.machine.shares().cloned(),
            rooms: vec![],
            certificates: vec![],
            beside: String::new(),
            copies: vec![],
            activity: agent.machine.activity(),
            complaint: agent.machine.complaint().to_owned(),
            data: agent.machine.data().clone(),
            mark: agent.machine.mark(),
            data_fault: agent.machine.data_fault(),
        }
    }

    /// Until when it may acknowledge, as its agent knows now.
    fn note_lease(&mut self, host: usize) {
        let now = self.hosts[host].clock(self.now);
        let here = &mut self.hosts[host];
        let Some(agent) = &here.agent else { return };
        let held = agent.machine.tenure().held(now).and_then(crate::lease::Holder::held_until);
        if let Some(until) = held {
            let kills = here.guard.filter(|g| g.guards == here.volume).and_then(|g| g.until);
            if let Some(kills) = kills.filter(|kills| *kills > until) {
                let seen = format!(
                    "the guard of {} kills {} after the end of the lease",
                    here.node.node_id,
                    kills.since(until)
                );
                self.oracle.broken(self.now, "the guard kills before the lease ends", seen);
            }
            let end = here.world(until);
            // Asked for since the host went on: no promise from before its clock stood still.
            let news = until - self.cluster.lease >= here.resumed_at;
            here.loose &= !news || end <= here.lease_end + super::laws::ROUNDING;
            here.lease_end = end;
        }
    }

    /// A lease that begins while another's right to acknowledge has not ended.
    pub(super) fn check_overlap(&mut self, host: usize) {
        let holds = |world: &World, i: usize| {
            let here = &world.hosts[i];
            // One whose clock stood still believes what it believes: only confirmations protect.
            let agent = here
                .agent
                .as_ref()
                .filter(|_| here.up && !here.loose && here.db.running && here.db.primary)?;
            agent.machine.tenure().held(here.clock(world.now)).map(crate::lease::Holder::epoch)
        };
        let Some(mine) = holds(self, host) else { return };
        let other = (0..self.hosts.len())
            .filter(|i| *i != host)
            .find_map(|i| holds(self, i).map(|e| (i, e)));
        if let Some((i, epoch)) = other {
            let seen = format!(
                "{} holds epoch {epoch} and {} holds epoch {mine}",
                self.name(i),
                self.name(host)
            );
            self.oracle.overlap(self.now, seen);
        }
    }
}

fn goal_words(goal: &Goal) -> String {
    match goal {
        Goal::Stopped(_) => "goal: stopped".into(),
        Goal::Standby { upstream: None, .. } => "goal: standby of nobody (cut)".into(),
        Goal::Standby { upstream: Some(u), .. } => {
            format!("goal: standby of {} in epoch {}", u.node, u.epoch)
        }
        Goal::Primary { epoch, .. } => format!("goal: primary in epoch {epoch}"),
        Goal::Sharing { epoch, units } => {
            format!("goal: {units} units of the traffic, shares of epoch {epoch}")
        }
    }
}
