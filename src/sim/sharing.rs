//! Several writers: each node accepts writes on its own and copies them to the others afterwards; a
//! router spreads the clients' writes by the shares that the nodes themselves report. What two
//! nodes wrote to one key without having seen each other is counted: one of the two is gone under
//! last-write-wins.

use std::collections::VecDeque;

use super::host::Task;
use super::net::Carries;
use super::world::{Event, World};
use crate::agent::machine::Goal;
use crate::model::observation::{STREAMING, StandbyFacts};
use crate::model::plan::PlanKind;
use crate::model::topology::Role;
use crate::model::view::Outcome;
use crate::model::{Lsn, Span, Timestamp};

/// Nodes copy to each other this often.
const COPY_INTERVAL: Span = Span::millis(20);
/// The router asks the nodes this often.
const POLL_INTERVAL: Span = Span::millis(100);
/// Load is measured over this window.
const WINDOW: Span = Span::secs(2);
/// Keys that clients write to.
const KEYS: u64 = 64;

/// What one of several writers keeps. A write is (who accepted it, its place there); what a node
/// has of another is a count.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    /// (number, key) of every write it accepted itself.
    own: Vec<(u64, u64)>,
    /// How many of each node's writes are here.
    has: Vec<usize>,
    /// How many of its own each node has confirmed.
    confirmed: Vec<usize>,
    /// How long the last copy to each node took.
    took: Vec<Option<Span>>,
    /// When it accepted writes lately.
    recent: VecDeque<Timestamp>,
}

/// How the clients' router sees the nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Router {
    /// Units that each reports; 0 where it cannot be reached.
    units: Vec<u64>,
    /// Units of the load that the shares in force give to nobody: those clients are refused.
    refused: u64,
    /// The running balance of smooth weighted round robin.
    balance: Vec<i64>,
}

impl Router {
    /// The next node, by weight; the same number of units gives the same order on every machine.
    fn next(&mut self) -> Option<usize> {
        let signed = |units: u64| i64::try_from(units).unwrap_or(i64::MAX);
        // Nobody is one more place, behind the nodes.
        let nobody = self.units.len();
        self.balance.resize(nobody + 1, 0);
        let weight = |i: usize| if i == nobody { self.refused } else { self.units[i] };
        let total: i64 = (0..=nobody).map(|i| signed(weight(i))).sum();
        for i in 0..=nobody {
            self.balance[i] += signed(weight(i));
        }
        let open = (0..=nobody).filter(|i| weight(*i) > 0);
        let best = open.max_by_key(|i| (self.balance[*i], std::cmp::Reverse(*i)))?;
        self.balance[best] -= total;
        (best < nobody).then_some(best)
    }
}

impl World {
    pub(super) fn has_several_writers(&self) -> bool {
        self.cluster.pattern.has_several_writers()
    }

    /// Everybody has everything and serves its declared share.
    pub(super) fn form_sharing(&mut self) {
        let count = self.hosts.len();
        self.client.router = Router { units: vec![0; count], refused: 0, balance: vec![] };
        for host in 0..count {
            let here = &mut self.hosts[host];
            here.store = Store {
                has: vec![0; count],
                confirmed: vec![0; count],
                took: vec![None; count],
                ..Store::default()
            };
            if here.node.role != Role::Witness {
                (here.db.has_data, here.db.running, here.db.starts) = (true, true, 1);
                here.db.primary = here.node.share > 0;
                self.client.router.units[host] = here.node.share;
                self.queue.push(Timestamp(1_000_000), Event::Copy { host, starts: 1 });
            }
        }
        self.queue.push(Timestamp(1_000_000), Event::Poll);
    }

    /// The adapter's way to its part of the traffic.
    pub(super) fn step_sharing(&mut self, host: usize, task: Task, units: u64) {
        let (least, most) = self.conditions.promotion;
        let here = &mut self.hosts[host];
        if here.disk.full && !here.db.running {
            return self.fail(host, "could not start: no space left on device");
        }
        if !here.db.running {
            if task == Task::Starting {
                here.db.start();
                let starts = here.db.starts;
                self.after(COPY_INTERVAL, Event::Copy { host, starts });
                return self.next_step(host, Task::Begin, Span::millis(5));
            }
            let took = self.random.span(Span::millis(50), Span::millis(250));
            return self.next_step(host, Task::Starting, took);
        }
        if here.db.hung {
            return self.fail(host, "the database does not answer");
        }
        if units > 0 && !here.db.primary && task != Task::Promoting {
            let took = self.random.span(least, most);
            return self.next_step(host, Task::Promoting, took);
        }
        here.db.primary = units > 0;
        if let Some(agent) = &mut here.agent {
            agent.resource.stopped = None;
        }
        self.settle(host);
    }

    /// Writes within the window that the declared load stands for.
    fn writes_per_window(&self) -> u128 {
        u128::from(WINDOW.0 / self.client.interval.0.max(1)).max(1)
    }
    fn demand(&self) -> u128 {
        self.cluster.data_nodes().map(|n| u128::from(n.share)).sum()
    }

    /// The load that a node carries, in units.
    pub(super) fn load(&mut self, host: usize) -> u64 {
        let (now, whole, demand) = (self.now, self.writes_per_window(), self.demand());
        let recent = &mut self.hosts[host].store.recent;
        while recent.front().is_some_and(|at| now.since(*at) > WINDOW) {
            recent.pop_front();
        }
        u64::try_from(recent.len() as u128 * demand / whole).unwrap_or(u64::MAX)
    }

    pub(super) fn shared_write(&mut self, to: usize, write: u64) {
        let here = &self.hosts[to];
        if here.db.running && here.db.hung {
            return;
        }
        if !here.db.running || !here.db.primary || here.disk.full || self.is_at_capacity(to) {
            self.tell_client(to, write, false);
            return;
        }
        let key = write % KEYS;
        let unseen = |other: usize| {
            let (theirs, seen) = (&self.hosts[other].store.own, self.hosts[to].store.has[other]);
            theirs.get(seen..).is_some_and(|new| new.iter().any(|(_, k)| *k == key))
        };
        let meets = (0..self.hosts.len()).any(|other| other != to && unseen(other));
        let now = self.now;
        let store = &mut self.hosts[to].store;
        store.own.push((write, key));
        store.has[to] = store.own.len();
        store.recent.push_back(now);
        self.oracle.took(now, meets);
        self.tell_client(to, write, true);
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a capacity is a bounded positive number"
    )]
    fn is_at_capacity(&mut self, host: usize) -> bool {
        self.load(host);
        let most = self.hosts[host].node.capacity as u128 * self.writes_per_window()
            / self.demand().max(1);
        self.hosts[host].store.recent.len() as u128 >= most
    }

    /// Tells every peer what is here, of all origins.
    pub(super) fn copy(&mut self, host: usize, starts: u64) {
        if !self.hosts[host].db.running || self.hosts[host].db.starts != starts {
            return;
        }
        self.after(COPY_INTERVAL, Event::Copy { host, starts });
        if self.hosts[host].db.hung {
            return;
        }
        for peer in 0..self.hosts.len() {
            if peer == host || self.hosts[peer].node.role == Role::Witness {
                continue;
            }
            if let Some(at) = self.net.stream(self.now, &mut self.random, host, peer, Carries::Log)
            {
                let has = self.hosts[host].store.has.clone();
                self.queue.push(at, Event::Copied { to: peer, from: host, has, sent: self.now });
            }
        }
    }

    pub(super) fn copied(&mut self, to: usize, from: usize, has: &[usize], sent: Timestamp) {
        if !self.hosts[to].db.running || self.hosts[to].db.hung || self.hosts[to].disk.full {
            return;
        }
        let store = &mut self.hosts[to].store;
        for (mine, theirs) in store.has.iter_mut().zip(has) {
            *mine = (*mine).max(*theirs);
        }
        let have = store.has[from];
        if let Some(at) = self.net.stream(self.now, &mut self.random, to, from, Carries::Log) {
            self.queue.push(at, Event::CopyConfirmed { to: from, from: to, have, sent });
        }
    }

    pub(super) fn copy_confirmed(&mut self, to: usize, from: usize, have: usize, sent: Timestamp) {
        let took = self.now.since(sent);
        let store = &mut self.hosts[to].store;
        store.confirmed[from] = store.confirmed[from].max(have);
        store.took[from] = Some(took);
    }

    /// What a node says of the others' copies of its writes.
    pub(super) fn copies(&self, host: usize) -> Vec<StandbyFacts> {
        let store = &self.hosts[host].store;
        let peers = (0..self.hosts.len())
            .filter(|p| *p != host && store.took.get(*p).is_some_and(Option::is_some));
        peers
            .map(|peer| {
                let at = |writes: usize| Lsn(writes as u64 * super::database::WRITE_BYTES);
                let (end, there) = (at(store.own.len()), at(store.confirmed[peer]));
                StandbyFacts {
                    node: self.name(peer),
                    state: STREAMING.into(),
                    sync_state: "async".into(),
                    sent: there,
                    flushed: there,
                    replayed: there,
                    lag_bytes: end.bytes_since(there),
                    lag: store.took[peer],
                }
            })
            .collect()
    }

    /// The router asks every node what it is to carry, as a load balancer's agent check does.
    pub(super) fn poll(&mut self) {
        self.after(POLL_INTERVAL, Event::Poll);
        let place = self.client_place();
        for host in 0..self.hosts.len() {
            let here = &self.hosts[host];
            let reached =
                self.net.passes(place, host) && self.net.passes(host, place) && here.answers();
            let works = reached && here.db.running && !here.db.hung && here.db.primary;
            let said =
                here.agent.as_ref().filter(|_| !here.frozen).map(|a| match a.machine.goal() {
                    Goal::Sharing { units, .. } => *units,
                    _ => 0,
                });
            let router = &mut self.client.router;
            // Without its agent a node that works keeps the weight it had.
            router.units[host] = if works { said.unwrap_or(router.units[host]) } else { 0 };
        }
        let shares = self
            .hosts
            .iter()
            .filter(|h| h.answers())
            .filter_map(|h| h.record.shares.as_ref())
            .max_by_key(|s| s.epoch);
        let given: Option<u64> = shares.map(|s| s.of.values().sum());
        let demand: u64 = self.cluster.data_nodes().map(|n| n.share).sum();
        self.client.router.refused = given.map_or(0, |given| demand.saturating_sub(given));
    }

    /// Where the next write goes.
    pub(super) fn routed(&mut self) -> Option<usize> {
        self.client.router.next()
    }

    /// At the end: acknowledged writes that no node which serves has.
    pub(super) fn missing_writes(&self) -> Vec<u64> {
        let serving: Vec<usize> = (0..self.hosts.len())
            .filter(|h| self.hosts[*h].answers() && self.hosts[*h].db.primary)
            .collect();
        let mut missing = vec![];
        for (origin, host) in self.hosts.iter().enumerate() {
            let most = serving.iter().map(|s| self.hosts[*s].store.has[origin]).max().unwrap_or(0);
            missing
                .extend(host.store.own.get(most..).into_iter().flatten().map(|(write, _)| *write));
        }
        missing
    }

    /// Every node that runs has the same writes.
    pub(super) fn is_converged(&self) -> bool {
        let mut counts =
            self.hosts.iter().filter(|h| h.answers() && h.db.running).map(|h| &h.store.has);
        let Some(first) = counts.next() else { return true };
        // Writes of the last two seconds may be under way.
        let most = usize::try_from(self.writes_per_window()).unwrap_or(usize::MAX);
        counts.all(|has| has.iter().zip(first).all(|(a, b)| a.abs_diff(*b) <= most))
    }

    /// The last run, if it drained a node, was proved, and set the shares that are the newest
    /// still: later ones may have given the node something again.
    pub(super) fn check_last_drain(&mut self) {
        let Some(run) = self.last_run().filter(|r| {
            r.outcome == Some(Outcome::Verified) && r.body.kind == PlanKind::Switchover
        }) else {
            return;
        };
        if run.body.epoch.next() != self.epoch() {
            return;
        }
        for s in run.body.shares.iter().filter(|s| s.before > 0 && s.after == 0) {
            if let Some(host) = self.index(&s.node) {
                self.check_drained(host);
            }
        }
    }

    /// What a node that was drained accepted must be on everybody who serves.
    fn check_drained(&mut self, drained: usize) {
        let count = self.hosts[drained].store.own.len();
        let serving =
            |h: &usize| *h != drained && self.hosts[*h].answers() && self.hosts[*h].db.primary;
        let lacking = (0..self.hosts.len())
            .filter(serving)
            .find(|h| self.hosts[*h].store.has[drained] < count);
        if let Some(lacking) = lacking {
            let left = count - self.hosts[lacking].store.has[drained];
            let seen = format!(
                "{} lacks {left} writes that {} accepted before it was drained",
                self.name(lacking),
                self.name(drained)
            );
            self.oracle.left_behind(self.now, seen);
        }
    }
}
