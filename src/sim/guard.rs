//! The guard: a process of its own beside the agent, with its own deadline. It outlives the agent,
//! it may die, it may not start, and it guards what it was started with.

use super::world::{Event, World};
use crate::model::Timestamp;
use crate::model::planted::{Bug, planted};

/// A guard that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    /// When it kills, by the host's clock; `None`: nothing is armed.
    pub(super) until: Option<Timestamp>,
    /// Which volume it guards.
    pub(super) guards: u64,
}

impl World {
    /// The agent tells its guard, and its own thread, when to kill. Without a fence there is
    /// neither.
    pub(super) fn arm(&mut self, host: usize, until: Timestamp) {
        if planted(Bug::NoFence) {
            return;
        }
        let at = self.arm_agent(host, until);
        let now = self.hosts[host].clock(self.now);
        let confirmed = self.has_guard(host);
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.unconfirmed = if confirmed { None } else { agent.unconfirmed.or(Some(now)) };
        }
        if let Some(guard) = self.hosts[host].guard.as_mut().filter(|_| confirmed) {
            guard.until = Some(until);
            self.queue.push(at, Event::Guard { host, until });
        }
        self.note_guarded(host);
    }

    /// The agent's own thread kills then, also for a deadline that it found armed when it started.
    pub(super) fn arm_agent(&mut self, host: usize, until: Timestamp) -> Timestamp {
        let at = self.hosts[host].world(until).max(self.now);
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.fence = Some(until);
            let born = agent.born;
            self.queue.push(at, Event::SelfFence { host, born, until });
        }
        at
    }

    /// A guard has confirmed a deadline that still stands.
    pub(super) fn is_guarded(&self, host: usize) -> bool {
        let here = &self.hosts[host];
        let confirmed = here.agent.as_ref().is_some_and(|a| a.unconfirmed.is_none());
        confirmed && here.guard.is_some_and(|g| g.until.is_some()) || planted(Bug::NoFence)
    }

    pub(super) fn stand_down(&mut self, host: usize) {
        if let Some(guard) = &mut self.hosts[host].guard {
            guard.until = None;
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            (agent.fence, agent.unconfirmed) = (None, None);
        }
    }

    /// A guard that guards this volume runs, or is started now.
    pub(super) fn has_guard(&mut self, host: usize) -> bool {
        let here = &mut self.hosts[host];
        let fits = |guard: &Guard| guard.guards == here.volume || planted(Bug::OldGuard);
        if here.guard.as_ref().is_some_and(fits) {
            return true;
        }
        here.guard = here.can_guard.then_some(Guard { until: None, guards: here.volume });
        here.guard.is_some()
    }

    /// At every beat: a guard that died is replaced and told the newest deadline.
    pub(super) fn mind_guard(&mut self, host: usize) {
        let had = self.hosts[host].guard;
        let has = self.has_guard(host);
        let armed = self.hosts[host].agent.as_ref().and_then(|a| a.fence);
        if let Some(until) = armed.filter(|_| has && had != self.hosts[host].guard) {
            self.arm(host, until);
        }
        self.note_guarded(host);
        self.hand_over_goal(host);
    }

    /// Since when nothing but the agent itself could end its database in time.
    fn note_guarded(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let guarded = here.guard.is_some_and(|g| g.guards == here.volume);
        let now = here.clock(self.now);
        here.bare_since = if guarded { None } else { here.bare_since.or(Some(now)) };
    }

    pub(super) fn guard_dies(&mut self, host: usize) {
        self.hosts[host].guard = None;
        self.note_guarded(host);
        self.note_loose(host);
    }

    /// The guard's deadline: nothing that could write survives it.
    pub(super) fn guard_fires(&mut self, host: usize, until: Timestamp) {
        let here = &self.hosts[host];
        let Some(guard) = here.guard.filter(|g| g.until == Some(until)) else { return };
        if here.clock(self.now) < until {
            let at = here.world(until);
            self.queue.push(at, Event::Guard { host, until });
            return;
        }
        self.hosts[host].guard = Some(Guard { until: None, ..guard });
        if self.hosts[host].db.running {
            let name = self.name(host);
            if guard.guards == self.hosts[host].volume {
                self.fact(name, 0, "the guard kills the database: its deadline passed");
                self.kill_by_identity(host);
            } else {
                self.fact(name, 0, "the guard finds nothing to kill where it looks");
            }
        }
    }

    /// The agent's own thread: it has nothing to do but this, and nothing delays it.
    pub(super) fn self_fence(&mut self, host: usize, born: u64, until: Timestamp) {
        let here = &self.hosts[host];
        let armed = here.agent.as_ref().filter(|a| a.born == born && a.fence == Some(until));
        if armed.is_none() {
            return;
        }
        if here.clock(self.now) < until {
            let at = here.world(until);
            self.queue.push(at, Event::SelfFence { host, born, until });
            return;
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.fence = None;
        }
        if self.hosts[host].db.running && self.hosts[host].db.primary {
            let name = self.name(host);
            self.fact(name, 0, "the agent's own thread kills the database: its deadline passed");
            self.kill_by_identity(host);
        }
    }

    /// Nothing on that host can end its database in time: it was paused as a whole, or neither a
    /// guard nor an agent that acts is there.
    pub(super) fn note_loose(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let acts = here.agent.is_some() && !here.frozen;
        let guarded = here.guard.is_some_and(|g| g.guards == here.volume);
        here.loose |= here.paused || here.db.primary && !(acts || guarded);
    }
}
