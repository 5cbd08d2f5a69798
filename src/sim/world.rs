//! A whole cluster on a virtual clock: hosts with their agents, guards, disks and databases, a
//! network, planes, and clients that number their writes. One seed, one course of events, on every
//! machine.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::database::{Chunk, Entry};
use super::guard::Guard;
use super::host::Host;
use super::net::Net;
use super::oracle::Oracle;
use super::plane::Plane;
use super::queue::Queue;
use super::random::Random;
use crate::access::ApprovalKey;
use crate::agent::machine::Setup;
use crate::config::Allowlist;
use crate::lease::{EpochSync, Terms, VoterRecord};
use crate::model::command::{Command, CommandReply};
use crate::model::observation::NodeReport;
use crate::model::record::Record;
use crate::model::topology::{Cluster, Node, Policy, Role};
use crate::model::{
    Digest, Epoch, Lsn, Member, Members, NodeId, Position, Span, SyncSet, Timestamp, VoterSet,
    WallTime,
};
use crate::wire::message::{PeerMessage, PeerReply};

/// What everybody agrees on about a simulated cluster before anything happens.
#[derive(Clone, Debug)]
pub struct Conditions {
    /// Time between two heartbeats of an agent.
    pub heartbeat: Span,
    /// Typical time of a flush, per node.
    pub flush: BTreeMap<NodeId, Span>,
    /// Typical one-way delay within a site.
    pub delay_near: Span,
    /// Typical one-way delay between regions.
    pub delay_far: Span,
    /// Time between two writes of the clients; zero: none.
    pub write_interval: Span,
    /// How long a promotion takes, least and most.
    pub promotion: (Span, Span),
    /// Clocks run at most so much faster or slower than the world's, in millionths.
    pub drift_ppm: u64,
    /// What people's clocks say when it begins, in milliseconds since 1970: dated rules are judged
    /// by it.
    pub begins: WallTime,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            heartbeat: Span::millis(100),
            flush: BTreeMap::new(),
            delay_near: Span(250_000),
            delay_far: Span::millis(12),
            write_interval: Span::millis(25),
            promotion: (Span::millis(25), Span::millis(90)),
            drift_ppm: 400,
            begins: WallTime(WALL),
        }
    }
}

/// Typical time of a flush where nothing was measured.
const FLUSH: Span = Span::millis(1);
/// Simulated time begins here for people: 2026-01-01 00:00:00 UTC, in milliseconds.
const WALL: i64 = 1_767_225_600_000;
/// The simulated person.
pub(super) const OPERATOR: &str = "operator";
/// The second person, where two are wanted.
pub(super) const SECOND: &str = "second";
/// Their key; it protects nothing.
const OPERATOR_KEY: &str = "5150515051505150515051505150515051505150515051505150515051505150";

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The machine's deadline.
    Wake { host: usize, born: u64 },
    /// Time for a heartbeat.
    Beat { host: usize, born: u64 },
    /// The adapter looks at its database.
    Look { host: usize, born: u64 },
    /// The adapter's next step.
    Step { host: usize, born: u64, generation: u64 },
    /// The adapter learns that the server's processes are gone.
    Died { host: usize, born: u64 },
    /// A peer's message.
    Ask { to: usize, from: usize, born: u64, message: Rc<PeerMessage>, sent: Timestamp },
    /// Its answer.
    Answer { to: usize, from: usize, born: u64, reply: Box<PeerReply>, sent: Timestamp },
    /// A plane's order.
    Command { to: usize, plane: usize, command: Box<Command> },
    /// The agent's process starts.
    AgentStart { host: usize },
    /// The guard's deadline.
    Guard { host: usize, until: Timestamp },
    /// The agent's own deadline, which nothing that it does can delay.
    SelfFence { host: usize, born: u64, until: Timestamp },
    /// A flush is done.
    Flushed { host: usize, starts: u64, end: Lsn },
    /// Log from an upstream.
    Log { to: usize, connection: u64, chunk: Box<Chunk> },
    /// A standby's confirmation.
    LogAck { to: usize, from: usize, connection: u64, flushed: Lsn },
    /// A standby tries to connect.
    Connect { host: usize, starts: u64, tries: u64 },
    /// The upstream hears of it.
    Connected { to: usize, from: usize, connection: u64, at: Position },
    /// A client's write arrives.
    Write { to: usize, write: u64 },
    /// The answer: acknowledged, or not taken.
    Written { write: u64, from: usize, taken: bool },
    /// The client's next write.
    Client,
    /// A writer tells the others what it has.
    Copy { host: usize, starts: u64 },
    /// They hear it.
    Copied { to: usize, from: usize, has: Vec<usize>, sent: Timestamp },
    /// And say what they have.
    CopyConfirmed { to: usize, from: usize, have: usize, sent: Timestamp },
    /// The router asks the nodes.
    Poll,
    /// An agent's report.
    Report { plane: usize, report: Box<NodeReport> },
    /// What became of an order.
    Reply { plane: usize, from: usize, reply: CommandReply },
    /// The plane's deadline.
    PlaneWake { plane: usize, started: u64 },
    /// The person looks at the plan that waits.
    Approve { plane: usize, digest: Digest },
    /// The script's next line.
    Script(usize),
}

/// Clients.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) next: u64,
    pub(super) target: usize,
    /// Sent and not answered.
    pub(super) open: BTreeMap<u64, Timestamp>,
    pub(super) interval: Span,
    /// Where several nodes accept writes.
    pub(super) router: super::sharing::Router,
}

/// One fact, for people.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Fact {
    /// Simulated nanoseconds.
    pub at: Timestamp,
    /// Who did or saw it.
    pub who: String,
    /// By which rule; 0 where none.
    pub rule: u16,
    /// What.
    pub text: String,
}

/// A cluster, its clients and its planes, on a virtual clock.
#[derive(Clone, Debug)]
pub struct World {
    pub(super) now: Timestamp,
    pub(super) random: Random,
    pub(super) queue: Queue<Event>,
    pub(super) cluster: Rc<Cluster>,
    pub(super) policy: Rc<Policy>,
    pub(super) conditions: Rc<Conditions>,
    pub(super) terms: Terms,
    pub(super) hosts: Vec<Host>,
    pub(super) net: Net,
    pub(super) planes: Vec<Plane>,
    pub(super) client: Client,
    pub(super) oracle: Oracle,
    pub(super) born: u64,
    pub(super) connections: u64,
    pub(super) allowlist: Rc<Allowlist>,
    pub(super) key: Rc<ApprovalKey>,
    /// How long the person takes to confirm a plan; `None`: nobody is there.
    pub(super) approve_after: Option<Span>,
    /// Whether the course of events is kept; what-if needs only its outcome.
    pub(super) keep_facts: bool,
    pub(super) facts: Vec<Fact>,
    pub(super) records: Vec<(usize, Record)>,
    pub(super) events: u64,
    pub(super) script: Vec<super::fault::Fault>,
    /// Who held the role when it began.
    pub(super) first: Option<usize>,
    /// Events of it that happened to nobody.
    pub(super) unplayed: Vec<String>,
    /// Ways out that were tried.
    pub(super) walked: super::exits::Walked,
    /// When somebody was last seen to accept writes.
    pub(super) writable_at: Timestamp,
    /// When a person asked for a proof, and when the last one was made.
    pub(super) verify_asked_at: Option<Timestamp>,
    pub(super) proved_at: Timestamp,
}

/// Where the planes and the clients are in the network, after the hosts.
pub(super) const PLANES: usize = 2;

impl World {
    /// A cluster that has worked for a while: its first primary holds the role, everybody follows.
    pub fn formed(cluster: &Cluster, policy: &Policy, conditions: &Conditions, seed: u64) -> Self {
        let primary = cluster.nodes.iter().position(|n| n.role == Role::Primary).unwrap_or(0);
        Self::formed_under(cluster, policy, conditions, seed, primary, Epoch(7))
    }

    /// The same, with the role at node number `primary` in `epoch`.
    pub fn formed_under(
        cluster: &Cluster,
        policy: &Policy,
        conditions: &Conditions,
        seed: u64,
        primary: usize,
        epoch: Epoch,
    ) -> Self {
        let mut world = Self::blank(cluster, policy, conditions, seed);
        if world.has_several_writers() {
            world.form_sharing();
            return world.begun();
        }
        let members: Members = world.hosts.iter().map(|h| h.record.me.clone()).collect();
        let holder = world.hosts[primary].record.me.clone();
        let standby = |n: &&Node| n.role != Role::Witness && n.node_id != holder.node;
        let sync: Members = members
            .iter()
            .filter(|m| cluster.nodes.iter().filter(standby).any(|n| n.node_id == m.node))
            .cloned()
            .collect();
        let k = cluster.synchronous_standbys.min(sync.len());
        let sync = SyncSet { members: sync, k };
        let end = Lsn(0x0300_0000);
        let timeline = u32::try_from(epoch.0).unwrap_or(u32::MAX);
        for (index, host) in world.hosts.iter_mut().enumerate() {
            host.record = VoterRecord {
                voters: Some(VoterSet { version: 1, members: members.clone() }),
                epoch,
                holder: Some(holder.clone()),
                promised_max: cluster.lease,
                history: vec![EpochSync {
                    epoch,
                    holder: holder.clone(),
                    sync: sync.clone().into(),
                    won: true,
                    promoted: true,
                    doubt: crate::model::loss::Doubt::default(),
                }],
                ..host.record.clone()
            };
            host.durable_record = host.record.clone();
            if host.node.role == Role::Witness {
                continue;
            }
            host.db.has_data = true;
            host.db.running = true;
            host.db.starts = 1;
            host.db.history.timeline = timeline;
            host.db.history.left = vec![(timeline - 1, Lsn(0x0200_0000))];
            host.db.log.push(Entry { end, timeline, write: 0 });
            (host.db.end, host.db.flushed, host.durable_log) = (end, end, end);
            if index == primary {
                host.db.primary = true;
                let index_of = |m: &Member| {
                    cluster.nodes.iter().position(|n| n.node_id == m.node).unwrap_or(0)
                };
                host.db.sync = (sync.members.iter().map(index_of).collect(), k);
                host.db.is_standby = false;
                let until = host.clock(Timestamp(0)) + cluster.lease;
                host.guard = Some(Guard { until: Some(until), guards: host.volume });
                host.lease_end = Timestamp(cluster.lease.0);
            }
        }
        world.client.target = primary;
        world.oracle.wrote(Timestamp(0), holder.node.as_str(), timeline);
        world.begun()
    }

    /// Hosts that never ran anything: the declared primary founds the cluster.
    pub fn unformed(
        cluster: &Cluster,
        policy: &Policy,
        conditions: &Conditions,
        seed: u64,
    ) -> Self {
        Self::blank(cluster, policy, conditions, seed).begun()
    }

    /// Agents, the first plane and the clients start.
    fn begun(mut self) -> Self {
        for host in 0..self.hosts.len() {
            self.start_agent(host);
        }
        self.start_plane(0);
        if self.client.interval > Span::ZERO {
            self.queue.push(Timestamp(1_000_000), Event::Client);
        }
        self
    }

    fn blank(cluster: &Cluster, policy: &Policy, conditions: &Conditions, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let hosts: Vec<Host> = cluster
            .nodes
            .iter()
            .map(|node| {
                let me = Member::new(
                    node.node_id.clone(),
                    crate::model::Incarnation::new(format!("{}-1", node.node_id)),
                );
                let offset = 1_000_000_000_000 + random.below(1_000_000_000_000);
                let range = conditions.drift_ppm * 2 + 1;
                let drift = i64::try_from(random.below(range)).unwrap_or(0)
                    - i64::try_from(conditions.drift_ppm).unwrap_or(0);
                let flush = conditions.flush.get(&node.node_id).copied().unwrap_or(FLUSH);
                Host::new(node.clone(), VoterRecord::new(me), offset, drift, flush)
            })
            .collect();
        let places = hosts.len() + PLANES + 1;
        let region = |place: usize| hosts.get(place).map(|h| h.node.region.as_str());
        let net = Net::new(places, |from, to| match (region(from), region(to)) {
            (Some(a), Some(b)) if a != b => conditions.delay_far,
            _ => conditions.delay_near,
        });
        let key = ApprovalKey::from_hex(OPERATOR_KEY)
            .unwrap_or_else(|_| unreachable!("the constant has 64 hex digits"));
        let person = |who: &str| {
            format!(
                "  - {{name: {who}, roles: [operator, approver], approval_key: \"{}\"}}\n",
                key.public_hex()
            )
        };
        let text = format!("identities:\n{}{}", person(OPERATOR), person(SECOND));
        let allowlist = Allowlist::parse(std::path::Path::new("simulation"), &text)
            .unwrap_or_else(|_| unreachable!("the text above is a valid allowlist"));
        let planes = (0..PLANES).map(|_| Plane::new(&mut random)).collect();
        Self {
            now: Timestamp(0),
            random,
            queue: Queue::new(),
            terms: Terms::for_duration(cluster.lease),
            client: Client {
                next: 1,
                target: 0,
                open: BTreeMap::new(),
                interval: conditions.write_interval,
                router: super::sharing::Router::default(),
            },
            cluster: Rc::new(cluster.clone()),
            policy: Rc::new(policy.clone()),
            conditions: Rc::new(conditions.clone()),
            hosts,
            net,
            planes,
            oracle: Oracle::default(),
            born: 0,
            connections: 0,
            allowlist: Rc::new(allowlist),
            key: Rc::new(key),
            approve_after: None,
            keep_facts: true,
            facts: vec![],
            records: vec![],
            events: 0,
            script: vec![],
            walked: super::exits::Walked::default(),
            writable_at: Timestamp(0),
            verify_asked_at: None,
            proved_at: Timestamp(0),
            first: None,
            unplayed: vec![],
        }
    }

    pub(super) fn wall(&self) -> WallTime {
        WallTime(
            self.conditions.begins.0 + i64::try_from(self.now.0 / 1_000_000).unwrap_or(i64::MAX),
        )
    }
    pub(super) fn index(&self, node: &NodeId) -> Option<usize> {
        self.hosts.iter().position(|h| h.node.node_id == *node)
    }
    pub(super) fn name(&self, host: usize) -> NodeId {
        self.hosts[host].node.node_id.clone()
    }
    pub(super) fn plane_place(&self, plane: usize) -> usize {
        self.hosts.len() + plane
    }
    pub(super) fn client_place(&self) -> usize {
        self.hosts.len() + PLANES
    }
    pub(super) fn after(&mut self, span: Span, event: Event) {
        self.queue.push(self.now + span, event);
    }
    pub(super) fn fact(&mut self, who: impl ToString, rule: u16, text: impl Into<String>) {
        if self.keep_facts {
            self.facts.push(Fact { at: self.now, who: who.to_string(), rule, text: text.into() });
        }
    }

    pub(super) fn setup(&self, host: usize) -> Setup {
        Setup {
            cluster: self.cluster.cluster_id.clone(),
            me: self.hosts[host].record.me.clone(),
            nodes: self.cluster.nodes.iter().map(|n| n.node_id.clone()).collect(),
            witnesses: self
                .cluster
                .nodes
                .iter()
                .filter(|n| n.role == Role::Witness)
                .map(|n| n.node_id.clone())
                .collect(),
            founder: self.hosts[host].node.role == Role::Primary,
            terms: self.terms,
            synchronous_standbys: self.cluster.synchronous_standbys,
            declared_shares: self.cluster.declared_shares(),
            strategy: self.policy.strategy,
            reclaim_after: self.policy.reclaim_after,
            first_round: self.hosts[host].clock(self.now).0,
        }
    }

    /// Runs until `until`, or until nothing is left to happen.
    pub(super) fn run_until(&mut self, until: Timestamp) {
        while self.queue.next_at().is_some_and(|at| at <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// The next event.
    pub(super) fn step(&mut self) {
        let Some((at, event)) = self.queue.pop() else { return };
        self.now = self.now.max(at);
        self.events += 1;
        self.dispatch(event);
    }

    /// What stands still keeps what arrives; what is gone drops it.
    fn dispatch(&mut self, event: Event) {
        let (host, of_agent) = match &event {
            Event::Wake { host, .. }
            | Event::Beat { host, .. }
            | Event::Look { host, .. }
            | Event::Step { host, .. }
            | Event::Died { host, .. } => (Some(*host), true),
            Event::Ask { to, .. } | Event::Answer { to, .. } | Event::Command { to, .. } => {
                (Some(*to), true)
            }
            Event::SelfFence { host, .. } if self.hosts[*host].frozen => (Some(*host), true),
            Event::Guard { host, .. }
            | Event::SelfFence { host, .. }
            | Event::Flushed { host, .. }
            | Event::Copy { host, .. }
            | Event::Connect { host, .. }
            | Event::AgentStart { host } => (Some(*host), false),
            Event::Copied { to, .. }
            | Event::CopyConfirmed { to, .. }
            | Event::Log { to, .. }
            | Event::LogAck { to, .. }
            | Event::Connected { to, .. }
            | Event::Write { to, .. } => (Some(*to), false),
            Event::Written { .. }
            | Event::Client
            | Event::Poll
            | Event::Report { .. }
            | Event::Reply { .. }
            | Event::PlaneWake { .. }
            | Event::Approve { .. }
            | Event::Script(_) => (None, false),
        };
        if let Some(index) = host {
            let host = &mut self.hosts[index];
            if !host.up {
                return;
            }
            if host.paused {
                host.backlog.push(event);
                return;
            }
            if of_agent {
                if host.frozen {
                    host.inbox.push(event);
                    return;
                }
                let Some(agent) = &host.agent else { return };
                if agent.busy_until > self.now {
                    let at = agent.busy_until;
                    self.queue.push(at, event);
                    return;
                }
            }
        }
        match event {
            Event::Wake { host, born } => self.agent_wake(host, born),
            Event::Beat { host, born } => self.agent_beat(host, born),
            Event::Look { host, born } => self.agent_look(host, born),
            Event::Step { host, born, generation } => self.adapter_step(host, born, generation),
            Event::Died { host, born } => self.adapter_died(host, born),
            Event::Ask { to, from, born, message, sent } => {
                self.agent_asked(to, from, born, &message, sent)
            }
            Event::Answer { to, from, born, reply, sent } => {
                self.agent_answered(to, from, born, *reply, sent)
            }
            Event::Command { to, plane, command } => self.agent_ordered(to, plane, *command),
            Event::AgentStart { host } => self.start_agent(host),
            Event::Guard { host, until } => self.guard_fires(host, until),
            Event::SelfFence { host, born, until } => self.self_fence(host, born, until),
            Event::Flushed { host, starts, end } => self.flushed(host, starts, end),
            Event::Log { to, connection, chunk } => self.log_arrives(to, connection, &chunk),
            Event::LogAck { to, from, connection, flushed } => {
                self.log_confirmed(to, from, connection, flushed)
            }
            Event::Connect { host, starts, tries } => self.connect(host, starts, tries),
            Event::Connected { to, from, connection, at } => {
                self.connected(to, from, connection, at)
            }
            Event::Write { to, write } if self.has_several_writers() => {
                self.shared_write(to, write)
            }
            Event::Copy { host, starts } => self.copy(host, starts),
            Event::Copied { to, from, has, sent } => self.copied(to, from, &has, sent),
            Event::CopyConfirmed { to, from, have, sent } => {
                self.copy_confirmed(to, from, have, sent)
            }
            Event::Poll => self.poll(),
            Event::Write { to, write } => self.write_arrives(to, write),
            Event::Written { write, from, taken } => self.client_told(write, from, taken),
            Event::Client => self.client_writes(),
            Event::Report { plane, report } => self.plane_hears(plane, *report),
            Event::Reply { plane, from, reply } => self.plane_told(plane, from, reply),
            Event::PlaneWake { plane, started } => self.plane_wakes(plane, started),
            Event::Approve { plane, digest } => self.person_approves(plane, &digest),
            Event::Script(line) => self.perform_script(line),
        }
    }
}
