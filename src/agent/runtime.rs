//! The agent's loop: the world into inputs, effects into the world. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::adapter::{self, Seen};
use super::guard::Guard;
use super::machine::{Effect, Found, Goal, Machine, Setup, Tenure, Turn};
use super::peers::{Answered, Peers};
use super::{host, server};
use crate::access;
use crate::config::AgentConfig;
use crate::config::agent::ResourceKind;
use crate::lease::{Terms, VoterRecord};
use crate::model::command::{Command, CommandReply, Order};
use crate::model::observation::{NodeReport, Pids, ResourceFacts};
use crate::model::topology::Role;
use crate::model::{Incarnation, Member, NodeId, Timestamp};
use crate::store::{Batch, Sqlite, Store};
use crate::wire::message::{PeerMessage, PeerReply};

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// PostgreSQL is missing or not supported.
    #[error(transparent)]
    Program(#[from] adapter::postgres::ProgramError),
    /// An address or certificate.
    #[error(transparent)]
    Wire(#[from] crate::wire::Refused),
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] crate::wire::tls::TlsError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// What the server hands to the loop.
#[derive(Debug)]
pub enum Request {
    /// A peer's message.
    Peer(PeerMessage, oneshot::Sender<PeerReply>),
    /// An order from the plane.
    Order(Command, oneshot::Sender<CommandReply>),
}

/// What the loop shows to others in this process.
#[derive(Clone, Debug, Default)]
pub struct Shown {
    /// Its newest report.
    pub report: Option<NodeReport>,
    /// Its peers' reports, and when they came.
    pub peers: BTreeMap<NodeId, (NodeReport, Timestamp)>,
    /// Whether a plane is attached.
    pub attached: bool,
}

struct Agent {
    config: AgentConfig,
    machine: Machine,
    setup: Setup,
    store: Sqlite,
    guard: Option<Guard>,
    peers: Peers,
    adapter: adapter::Handle,
    facts: ResourceFacts,
    postmaster: Option<u32>,
    process: u64,
    sequence: u64,
    /// A goal that waits for a guard.
    withheld: Option<(u64, Goal)>,
    report_due: bool,
    proves: u64,
    shown: watch::Sender<Shown>,
    trouble: String,
}

const RECORD: &str = "voter";

/// Runs an agent until a signal ends it. Its database goes on under the guard until the lease it
/// holds runs out; a restarted agent takes it up again.
///
/// # Errors
/// [`StartError`], before anything was touched.
pub async fn run(config: AgentConfig) -> Result<(), StartError> {
    let postgres = config.resource == ResourceKind::Postgres;
    if postgres && rustix::process::geteuid().is_root() {
        let why = "PostgreSQL refuses to run as root: start the agent as the user that owns the \
            data directory (postgres)";
        return Err(StartError::Other(why.into()));
    }
    let programs = match (&config.postgres, postgres) {
        (Some(p), true) => Some(adapter::postgres::Programs::find(p.bin_dir.as_deref())?),
        _ => None,
    };
    let other = |what: &str, e: std::io::Error| StartError::Other(format!("{what}: {e}"));
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|e| other(&config.state_dir.display().to_string(), e))?;
    let listener = std::net::TcpListener::bind(&config.listen).map_err(|e| {
        StartError::Other(format!(
            "cannot listen on {}: {e}; is another agent running, or is the port taken?",
            config.listen
        ))
    })?;
    let mut store = Sqlite::open(&config.state_dir.join("agent.sqlite"))?;
    let record = load(&mut store, &config)?;
    let data_dir = config.postgres.as_ref().map(|p| p.data_dir.clone());
    let never_managed = record.voters.is_none() && record.epoch == crate::model::Epoch(0);
    if let Some((dir, pid)) =
        data_dir.as_ref().filter(|_| never_managed).and_then(|d| Some((d, host::postmaster(d)?)))
    {
        let why = format!(
            "{} is in use by process {pid}, a PostgreSQL that no agent started. Nothing was \
                touched. Stop it and keep it from \
             starting by itself (systemctl disable --now postgresql), then start the agent again",
            dir.display()
        );
        return Err(StartError::Other(why));
    }
    let (guard, armed) = match &data_dir {
        Some(data_dir) => {
            let (guard, armed) = Guard::adopt_or_start(&config.state_dir, data_dir)
                .map_err(|e| other("the guard does not start", e))?;
            (Some(guard), armed)
        }
        None => (None, None),
    };
    let found = Found {
        running_guarded: armed.is_some()
            && data_dir.as_deref().and_then(host::postmaster).is_some(),
    };
    let setup = setup(&config, &record);
    let (machine, turn) = Machine::start(host::now(), setup.clone(), record, &found);
    let (answers_in, mut answers) = mpsc::channel(64);
    let peers = Peers::start(&config, &answers_in)?;
    let (adapter, port) = adapter::pair();
    start_adapter(&config, programs, port);
    let (requests_in, mut requests) = mpsc::channel(64);
    let (shown, shown_out) = watch::channel(Shown::default());
    server::start(&config, listener, requests_in.clone(), shown_out.clone())?;
    if let Some(plane) = &config.plane {
        server::attach(&config, plane, requests_in, shown_out)?;
    }
    let heartbeat = config.heartbeat.std();
    let mut agent = Agent {
        config,
        machine,
        setup,
        store,
        guard,
        peers,
        adapter,
        facts: ResourceFacts::default(),
        postmaster: None,
        process: host::now().0,
        sequence: 0,
        withheld: None,
        report_due: true,
        proves: 0,
        shown,
        trouble: String::new(),
    };
    tracing::info!(node = %agent.config.node.node_id, incarnation = %agent.setup.me.incarnation, "agent started");
    agent.perform(turn);
    let mut beat = tokio::time::interval(heartbeat);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| other("signals", e))?;
    loop {
        if agent.report_due {
            agent.report();
        }
        // Recomputed after every input, and never fed back as the present.
        let wakeup = agent.machine.next_wakeup();
        tokio::select! {
            biased;
            _ = end.recv() => return Ok(()),
            Some(request) = requests.recv() => agent.request(request),
            Some(seen) = agent.adapter.seen.recv() => agent.seen(seen),
            Some(answered) = answers.recv() => agent.answered(answered),
            () = wait(wakeup) => {
                let turn = agent.machine.wakeup(host::now());
                agent.perform(turn);
            }
            _ = beat.tick() => { agent.mind_guard(); agent.peers.probe(); agent.report_due = true; }
        }
    }
}

async fn wait(until: Option<Timestamp>) {
    match until {
        Some(until) => host::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

fn load(store: &mut Sqlite, config: &AgentConfig) -> Result<VoterRecord, StartError> {
    if let Some(text) = store.document(RECORD)? {
        let record: VoterRecord = serde_json::from_str(&text).map_err(|e| {
            StartError::Other(format!(
                "the voter record in {} is unreadable: {e}",
                config.state_dir.display()
            ))
        })?;
        if record.me.node != config.node.node_id {
            let why = format!(
                "{} belongs to {}, this is {}",
                config.state_dir.display(),
                record.me.node,
                config.node.node_id
            );
            return Err(StartError::Other(why));
        }
        return Ok(record);
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|e| StartError::Other(format!("no randomness: {e}")))?;
    let me = Member {
        node: config.node.node_id.clone(),
        incarnation: Incarnation::new(hex::encode(random)),
    };
    let record = VoterRecord::new(me);
    keep(store, &record)?;
    Ok(record)
}

fn keep(store: &mut Sqlite, record: &VoterRecord) -> Result<(), crate::store::StoreError> {
    // A voter record serialises without failing: strings, numbers and lists.
    let text = serde_json::to_string(record).unwrap_or_default();
    store.append(&Batch { documents: &[(RECORD, text)], ..Batch::default() }).map(|_| ())
}

fn setup(config: &AgentConfig, record: &VoterRecord) -> Setup {
    let cluster = &config.cluster;
    Setup {
        cluster: cluster.cluster_id.clone(),
        me: record.me.clone(),
        nodes: cluster.nodes.iter().map(|n| n.node_id.clone()).collect(),
        witnesses: cluster
            .nodes
            .iter()
            .filter(|n| n.role == Role::Witness)
            .map(|n| n.node_id.clone())
            .collect(),
        founder: config.node.role == Role::Primary,
        terms: Terms::for_duration(cluster.lease),
        synchronous_standbys: cluster.synchronous_standbys,
        declared_shares: cluster.declared_shares(),
        strategy: config.policy.strategy,
        reclaim_after: config.policy.reclaim_after,
        first_round: host::now().0,
    }
}

fn start_adapter(
    config: &AgentConfig,
    programs: Option<adapter::postgres::Programs>,
    port: adapter::Port,
) {
    match (config.resource, &config.postgres, programs) {
        (ResourceKind::Postgres, Some(postgres), Some(programs)) => {
            let others = config.cluster.data_nodes().filter(|n| n.node_id != config.node.node_id);
            let setup = adapter::postgres::Setup {
                me: config.node.node_id.clone(),
                config: postgres.clone(),
                programs,
                routes: config.routes.clone(),
                forks: config.state_dir.join("forks"),
                state_dir: config.state_dir.clone(),
                unsynchronised: config.policy.unsynchronised.clone(),
                default_sync: others.map(|n| n.node_id.clone()).collect(),
                synchronous_standbys: config.cluster.synchronous_standbys,
                initdb_args: postgres.initdb_args.clone(),
                write_check: crate::model::Span((config.cluster.lease.0 / 4).min(1_000_000_000)),
            };
            tokio::spawn(adapter::postgres::run(setup, port));
        }
        (ResourceKind::Sim, Some(postgres), _) => {
            let routes = config.routes.clone();
            tokio::spawn(adapter::sim::run(
                config.node.node_id.clone(),
                postgres.clone(),
                routes,
                port,
            ));
        }
        _ => {
            tokio::spawn(adapter::none::run(port));
        }
    }
}

impl Agent {
    /// Durable first, then done. When it cannot be made durable nothing is done, and the machine
    /// starts again from what is on disk: in memory it is ahead of what anybody may rely on.
    fn perform(&mut self, turn: Turn) -> bool {
        if let Some(record) = &turn.persist
            && let Err(error) = keep(&mut self.store, record)
        {
            tracing::error!("{error}");
            self.trouble = error.to_string();
            self.restart();
            return false;
        }
        for effect in turn.effects {
            self.act(effect);
        }
        self.machine.note_done();
        true
    }

    fn restart(&mut self) {
        let Ok(record) = load(&mut self.store, &self.config) else { return };
        self.setup.first_round = host::now().0;
        let found = Found {
            running_guarded: matches!(self.machine.tenure(), Tenure::Holding { .. })
                && self.postmaster.is_some(),
        };
        let (machine, turn) = Machine::start(host::now(), self.setup.clone(), record, &found);
        self.machine = machine;
        // What the new machine wants done now is done; what it wants durable is what failed before
        // and is tried again with the next input.
        for effect in turn.effects {
            self.act(effect);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send(to, message) => self.peers.send(&to, message),
            Effect::SetGoal(id, goal) => {
                if matches!(goal, Goal::Primary { .. })
                    && self.config.resource != ResourceKind::None
                    && self.guard.is_none()
                {
                    "no guard answers: the database is not made writable"
                        .clone_into(&mut self.trouble);
                    tracing::error!("{}", self.trouble);
                    self.withheld = Some((id, goal));
                    return;
                }
                self.withheld = None;
                tracing::info!(id, goal = ?goal, "goal");
                self.adapter.goal.send_replace((id, goal));
            }
            Effect::Guard(until) => {
                if let Some(guard) = &mut self.guard
                    && let Err(error) = guard.arm(until)
                {
                    tracing::error!("the guard: {error}");
                    self.guard = None;
                    self.mind_guard();
                }
            }
            Effect::StandDown => {
                if let Some(guard) = &mut self.guard {
                    // A guard that is not told only kills what is stopped already.
                    let _ = guard.stand_down();
                }
            }
            Effect::Report => self.report_due = true,
            Effect::Prove => {
                self.proves += 1;
                self.adapter.prove.send_replace(self.proves);
            }
            Effect::Note(text) => tracing::info!("{text}"),
        }
    }

    /// A guard that died is replaced at once.
    fn mind_guard(&mut self) {
        let Some(postgres) = &self.config.postgres else { return };
        if self.guard.as_ref().is_some_and(|g| host::runs(g.pid)) {
            return;
        }
        match Guard::adopt_or_start(&self.config.state_dir, &postgres.data_dir) {
            Ok((mut guard, _)) => {
                if let Some(until) = self
                    .machine
                    .tenure()
                    .held(host::now())
                    .and_then(crate::lease::Holder::held_until)
                {
                    // Told again with the next renewal in any case.
                    let _ = guard.arm(until - Terms::KILL_TIME);
                }
                self.guard = Some(guard);
                if let Some((id, goal)) = self.withheld.take() {
                    self.trouble.clear();
                    self.act(Effect::SetGoal(id, goal));
                }
            }
            Err(error) => {
                self.trouble = format!("the guard does not start: {error}");
                self.guard = None;
            }
        }
    }

    fn request(&mut self, request: Request) {
        let now = host::now();
        match request {
            Request::Peer(message, answer) => {
                let approved = self.approved(&message);
                let (turn, mut reply) = self.machine.message(now, message, approved);
                if let PeerReply::Hello(hello) = &mut reply {
                    hello.report = self.shown.borrow().report.clone().map(Box::new);
                }
                if self.perform(turn) {
                    // The peer may have given up waiting.
                    let _ = answer.send(reply);
                }
            }
            Request::Order(command, answer) => {
                let authority = self.authority(&command.order);
                let (turn, outcome) = self.machine.order(now, command.order, authority);
                if self.perform(turn) {
                    let _ = answer.send(CommandReply { id: command.id, outcome });
                }
            }
        }
    }

    /// A voter checks a person's approval itself where the policy wants one.
    fn approved(&self, message: &PeerMessage) -> Result<(), String> {
        let PeerMessage::Claim(claim) = message else { return Ok(()) };
        access::check_claim(
            claim.plan.as_ref(),
            &claim.approvals,
            self.config.policy.strategy,
            &self.config.allowlist,
            host::wall(),
        )
    }

    fn authority(&self, order: &Order) -> Result<(), String> {
        access::check_order(
            order,
            self.config.policy.strategy,
            &self.config.allowlist,
            host::wall(),
        )
    }

    fn seen(&mut self, Seen::Now(seen): Seen) {
        let (resource, facts, postmaster) = *seen;
        let changed = facts.state.word() != self.facts.state.word()
            || facts.receiving_from != self.facts.receiving_from
            || facts.standbys.len() != self.facts.standbys.len()
            || facts.proof != self.facts.proof
            || facts.trouble != self.facts.trouble;
        self.report_due |= changed;
        self.facts = facts;
        self.postmaster = postmaster;
        let turn = self.machine.observed(host::now(), resource);
        self.perform(turn);
    }

    fn answered(&mut self, answered: Answered) {
        self.peers.note(&answered);
        let now = host::now();
        if let PeerReply::Hello(hello) = &answered.reply
            && let Some(report) = &hello.report
        {
            let report = (**report).clone();
            self.shown.send_modify(|s| _ = s.peers.insert(answered.from.clone(), (report, now)));
        }
        let turn = self.machine.reply(now, &answered.from, answered.reply);
        self.perform(turn);
    }

    fn report(&mut self) {
        self.report_due = false;
        self.sequence += 1;
        let now = host::now();
        let (vote, holding) = (self.machine.vote_facts(now), self.machine.holding_facts(now));
        let complaint = if self.trouble.is_empty() {
            self.machine.complaint().to_owned()
        } else {
            self.trouble.clone()
        };
        let report = NodeReport {
            member: self.setup.me.clone(),
            process: self.process,
            sequence: self.sequence,
            sent: host::wall(),
            pids: Pids {
                agent: std::process::id(),
                guard: self.guard.as_ref().map(|g| g.pid),
                postmaster: self.postmaster,
            },
            vote,
            holding,
            resource: self.facts.clone(),
            peers: self.peers.probes(),
            armed: self.machine.armed(),
            shares: self.machine.shares().cloned(),
            activity: self.machine.activity(),
            complaint,
        };
        self.shown.send_modify(|s| s.report = Some(report));
    }
}

/// Longest wait between two tries to reach a plane.
pub const ATTACH_RETRY: Duration = Duration::from_millis(500);
