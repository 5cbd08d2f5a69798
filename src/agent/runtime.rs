//! The agent's loop: the world into inputs, effects into the world. It decides nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::adapter::{self, Receiver, Seen};
use super::beside::{BESIDE_INTERVAL, Beside};
use super::fence::Fence;
use super::guard::Guard;
use super::http::{self, RouterFacts};
use super::keeper::{Keeper, Kept};
use super::machine::{Effect, Found, Goal, Machine, Setup, Turn};
use super::ours::Ours;
use super::peers::{Answered, Peers};
use super::record::Record;
use super::rooms::Rooms;
use super::{host, server};
use crate::access;
use crate::config::AgentConfig;
use crate::config::agent::{PostgresConfig, ResourceKind};
use crate::lease::{Terms, VoterRecord};
use crate::model::command::{Command, CommandReply, Order};
use crate::model::observation::{NodeReport, Pids, ResourceFacts};
use crate::model::topology::Role;
use crate::model::{NodeId, Span, Timestamp};
use crate::wire::message::{PeerMessage, PeerReply};
use crate::wire::tls::Credentials;

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
    /// It was released: never again, whatever starts it.
    #[error("{0}")]
    Released(String),
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
    record: Record,
    /// The guard's keeper and the self-fence; a witness has nothing to fence.
    keeper: Option<Keeper>,
    fence: Fence,
    rooms: Rooms,
    credentials: Credentials,
    peers: Peers,
    adapter: adapter::Handle,
    facts: ResourceFacts,
    postmaster: Option<u32>,
    guard: Option<u32>,
    process: u64,
    sequence: u64,
    /// The newest goal, while the adapter may not have it: it waits for the guard, or for the disk.
    withheld: Option<(u64, Goal)>,
    report_due: bool,
    /// The command that is carried out.
    asked: String,
    shown: watch::Sender<Shown>,
    /// What routers are told.
    routers: watch::Sender<RouterFacts>,
    /// Why there is no guard; empty when there is.
    unguarded: String,
    /// A server that is not owned yet.
    beside: Option<Beside>,
    /// The disk failed: the process ends.
    broken: Option<crate::store::StoreError>,
}

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
    let released = config.state_dir.join(adapter::postgres::release::RELEASED);
    match std::fs::read_to_string(&released) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(other(&released.display().to_string(), error)),
        Ok(text) => {
            let why = format!(
                "this node was given back ({}): its PostgreSQL is its owner's, and nothing was \
                 touched. Disable this unit; to own the server again, start with an empty {}",
                text.trim(),
                config.state_dir.display()
            );
            return Err(StartError::Released(why));
        }
    }
    let bind = |address: &String| {
        std::net::TcpListener::bind(address).map_err(|e| {
            StartError::Other(format!(
                "cannot listen on {address}: {e}; is another agent running, or is the port taken?"
            ))
        })
    };
    let listener = bind(&config.listen)?;
    let door = config.http.as_ref().map(bind).transpose()?;
    let credentials = Credentials::read(&config.tls)?;
    let record = Record::open(&config)?;
    let data_dir = config.postgres.as_ref().map(|p| p.data_dir.clone());
    let saved = record.saved();
    let never_managed = saved.voters.is_none() && saved.epoch == crate::model::Epoch(0);
    let beside = match data_dir.as_ref().filter(|_| never_managed) {
        Some(dir) => {
            Beside::find(&config.state_dir, dir, config.node.role).map_err(StartError::Other)?
        }
        None => None,
    };
    let ours = config.postgres.as_ref().map(|p| own_server(&config, p)).transpose()?;
    let (found, adopted, armed) = match &ours {
        Some(ours) => adopt(&config.state_dir, ours),
        None => (Found::default(), None, None),
    };
    let begun = config.state_dir.join(super::beside::BEGUN).exists();
    let found = Found { beside: beside.is_some(), adopted: begun, ..found };
    let (mut keeper, mut fence) = (None, Fence::default());
    if let Some(ours) = &ours {
        let threads = |e| other("the agent's threads", e);
        fence = Fence::start(ours.clone()).map_err(threads)?;
        if let Some(until) = armed.filter(|_| found.running_guarded) {
            fence.arm(until);
        }
        keeper =
            Some(Keeper::start(&config.state_dir, ours.clone(), adopted, armed).map_err(threads)?);
    }
    let rooms =
        Rooms::start(&config, credentials.clone()).map_err(|e| other("the agent's threads", e))?;
    let setup = setup(&config, record.saved());
    let (machine, turn) =
        Machine::start(host::now(), setup.clone(), record.saved().clone(), &found);
    let (answers_in, mut answers) = mpsc::channel(64);
    let peers = Peers::start(&config, &credentials, &answers_in)?;
    let (adapter, port) = adapter::pair();
    let leftovers = programs.clone().map(|programs| programs.of_agent(&config.state_dir));
    start_adapter(&config, programs, ours, port).map_err(|e| other("the agent's threads", e))?;
    let (requests_in, mut requests) = mpsc::channel(64);
    let (shown, shown_out) = watch::channel(Shown::default());
    server::start(&config, listener, &credentials, requests_in.clone(), shown_out.clone())?;
    let routers = watch::Sender::new(RouterFacts::new(&config));
    if let Some(door) = door {
        http::start(door, routers.subscribe()).map_err(|e| other("the routers' door", e))?;
    }
    if let Some(plane) = &config.plane {
        server::attach(plane, &credentials, requests_in, shown_out)?;
    }
    let heartbeat = config.heartbeat.std();
    let mut agent = Agent {
        config,
        machine,
        setup,
        record,
        keeper,
        fence,
        rooms,
        credentials,
        peers,
        adapter,
        facts: ResourceFacts::default(),
        postmaster: None,
        guard: None,
        process: host::now().0,
        sequence: 0,
        withheld: None,
        report_due: true,
        asked: String::new(),
        shown,
        routers,
        unguarded: String::new(),
        beside,
        broken: None,
    };
    tracing::info!(node = %agent.config.node.node_id, incarnation = %agent.setup.me.incarnation, "agent started");
    agent.perform(turn);
    agent.mind_record();
    let mut beat_at = tokio::time::Instant::now();
    let mut beside = tokio::time::interval(BESIDE_INTERVAL);
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| other("signals", e))?;
    loop {
        if let Some(broken) = agent.broken.take() {
            return Err(broken.into());
        }
        if agent.report_due {
            agent.report();
        }
        let (machine, found) = (&agent.machine, &agent.facts);
        agent.routers.send_modify(|facts| facts.turned(host::now(), machine, found));
        // Recomputed after every input, and never fed back as the present.
        let wakeup = agent.machine.next_wakeup();
        tokio::select! {
            biased;
            _ = end.recv() => {
                // What rebuilds goes with it; the database stays.
                if let Some(programs) = &leftovers
                    && let Err(error) = programs.end_leftovers().await
                {
                    tracing::error!("{error}");
                }
                return Ok(());
            }
            Some(request) = requests.recv() => agent.request(request),
            Some(kept) = kept(&mut agent.keeper) => agent.kept(&kept),
            Some(seen) = agent.adapter.seen.recv() => agent.seen(seen),
            Some(answered) = answers.recv() => agent.answered(answered),
            () = wait(wakeup) => {
                let turn = agent.machine.wakeup(host::now());
                agent.perform(turn);
            }
            () = tokio::time::sleep_until(beat_at) => {
                agent.beat();
                beat_at = tokio::time::Instant::now() + around(heartbeat, random());
            }
            _ = beside.tick(), if agent.beside.is_some() => agent.mind_beside(),
        }
    }
}

/// An interval up to a tenth shorter or longer, so that agents that were started together do not go
/// on speaking together.
fn around(interval: Duration, random: u8) -> Duration {
    let span = interval / 5;
    interval - span / 2 + span * u32::from(random) / u32::from(u8::MAX)
}

/// Anything; where the host has no randomness, the middle.
fn random() -> u8 {
    let mut byte = [u8::MAX / 2];
    let _ = getrandom::fill(&mut byte);
    byte[0]
}

async fn wait(until: Option<Timestamp>) {
    match until {
        Some(until) => host::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

async fn kept(keeper: &mut Option<Keeper>) -> Option<Kept> {
    match keeper {
        Some(keeper) => keeper.kept.recv().await,
        None => std::future::pending().await,
    }
}

/// This node's server as recorded. One that runs in another folder than the configured one (it was
/// renamed, or `data_dir` was edited) is ended before anything else; its guard stays armed until
/// then.
fn own_server(config: &AgentConfig, postgres: &PostgresConfig) -> Result<Ours, StartError> {
    let ours =
        Ours::open(&config.state_dir, &postgres.data_dir, &postgres.socket_dir, postgres.port)
            .map_err(StartError::Other)?;
    if let Some(server) = ours.server()
        && ours.moved_away()
        && !ours.remaining().is_empty()
    {
        tracing::error!(
            pid = server.process.pid,
            "this node's server runs in another folder than {}: ending it",
            postgres.data_dir.display()
        );
        let ended = ours.kill(host::now() + Span::secs(10)).map_err(|why| {
            StartError::Other(format!(
                "this node's server (process {}) runs in another folder than {} and could not be \
                 ended: {why}. Nothing else was touched",
                server.process.pid,
                postgres.data_dir.display()
            ))
        })?;
        tracing::info!("ended: {}", ended.looked);
    }
    Ok(ours)
}

/// A living guard; the database goes on only when that guard guards it, and it is the server that
/// was recorded.
fn adopt(state_dir: &std::path::Path, ours: &Ours) -> (Found, Option<Guard>, Option<Timestamp>) {
    let Ok((guard, armed)) = Guard::adopt(state_dir) else { return (Found::default(), None, None) };
    let guarded = ours.server().is_some_and(|server| {
        server.process.still_runs()
            && armed.as_ref().is_some_and(|a| a.folders.contains(&server.folder))
    });
    let until = armed.map(|a| a.until);
    (Found { running_guarded: guarded, ..Found::default() }, Some(guard), until)
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
    ours: Option<Ours>,
    port: adapter::Port,
) -> std::io::Result<()> {
    match (config.resource, &config.postgres, programs.zip(ours)) {
        (ResourceKind::Postgres, Some(postgres), Some((programs, ours))) => {
            let others = config.cluster.data_nodes().filter(|n| n.node_id != config.node.node_id);
            let setup = adapter::postgres::Setup {
                me: config.node.node_id.clone(),
                config: postgres.clone(),
                programs: programs.of_agent(&config.state_dir),
                routes: config.routes.clone(),
                forks: config.state_dir.join("forks"),
                state_dir: config.state_dir.clone(),
                unsynchronised: config.policy.unsynchronised.clone(),
                default_sync: others.map(|n| n.node_id.clone()).collect(),
                synchronous_standbys: config.cluster.synchronous_standbys,
                ours,
                initdb_args: postgres.initdb_args.clone(),
                write_check: Span((config.cluster.lease.0 / 4).min(1_000_000_000)),
            };
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            std::thread::Builder::new()
                .name("database".into())
                .spawn(move || runtime.block_on(adapter::postgres::run(setup, port)))?;
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
    Ok(())
}

impl Agent {
    /// Durable first, then done. While something is not durable only what does not rest on it is
    /// done. False: what the turn answers may not be said.
    fn perform(&mut self, turn: Turn) -> bool {
        let rests = turn.persist.is_some();
        if let Some(record) = turn.persist {
            let kept = self.record.keep(record);
            self.note_broken(kept);
            if self.broken.is_some() {
                return false;
            }
        }
        self.adapter.data.send_if_modified(|known| {
            let mark = &self.machine.record().data;
            let news = (known.system, known.own, known.pardoned, &known.line)
                != (mark.system, mark.own, mark.pardoned, &mark.line);
            if news {
                known.clone_from(mark);
            }
            news
        });
        for effect in turn.effects {
            let ends = matches!(effect, Effect::Renounce(_));
            self.act(effect);
            // What else that turn wanted was another identity's.
            if ends {
                break;
            }
        }
        self.machine.note_done();
        self.record.is_saved() || !rests
    }

    fn note_broken(&mut self, kept: Result<(), crate::store::StoreError>) {
        if let Err(error) = kept {
            tracing::error!("{error}");
            self.broken = Some(error);
        }
    }

    fn act(&mut self, effect: Effect) {
        match effect {
            Effect::Send(to, message) => {
                if self.may_send(&message) {
                    self.peers.send(&to, message);
                }
            }
            Effect::SetGoal(id, goal) => {
                self.withheld = Some((id, goal));
                self.hand_over_goal();
            }
            Effect::Guard(until) => {
                self.fence.arm(until);
                if let Some(keeper) = &mut self.keeper {
                    keeper.order(Some(until));
                }
            }
            Effect::StandDown => {
                self.fence.stand_down();
                if let Some(keeper) = &mut self.keeper {
                    keeper.order(None);
                }
            }
            Effect::Report => self.report_due = true,
            Effect::Prove => {
                self.adapter.prove.send_replace(self.asked.clone());
            }
            Effect::Restart => {
                if let Some(postmaster) = self.postmaster {
                    tracing::info!(postmaster, "a person has the server restarted");
                    tokio::spawn(adapter::postgres::end_for_restart(postmaster));
                }
            }
            Effect::Renounce(why) => self.renounce(&why),
            Effect::Note(text) => tracing::info!("{text}"),
        }
    }

    /// A new incarnation, a stranger to everybody: what the old one promised is not known here any
    /// more.
    fn renounce(&mut self, why: &str) {
        tracing::error!("{why}");
        let fresh = match self.record.renounce(&self.config.node.node_id) {
            Ok(fresh) => fresh,
            Err(error) => return self.note_broken(Err(error)),
        };
        self.setup.me = fresh.me.clone();
        self.setup.first_round = host::now().0;
        let (machine, turn) =
            Machine::start(host::now(), self.setup.clone(), fresh, &Found::default());
        self.machine = machine;
        self.perform(turn);
    }

    /// What rests on a record that is not durable is not said. A holder goes on renewing the epoch
    /// that a restarted process would find as won.
    fn may_send(&self, message: &PeerMessage) -> bool {
        let saved = self.record.saved();
        self.record.is_saved()
            || match message {
                PeerMessage::Hello => true,
                PeerMessage::Renew(renew) => {
                    renew.epoch == saved.epoch
                        && saved.holder.as_ref() == Some(&renew.holder)
                        && saved.is_won()
                }
                _ => false,
            }
    }

    /// Nothing is made writable before a guard has confirmed when it kills, nor on the strength of
    /// a record that is not durable; nor is anybody followed on it. Stopping and cutting off wait
    /// for nothing.
    fn may_pursue(&self, goal: &Goal) -> bool {
        let saved = self.record.saved();
        match goal {
            Goal::Primary { epoch, sync } => {
                // A restarted process would find the same epoch as won, with this set.
                let would_find = saved.epoch == *epoch
                    && saved.holder.as_ref() == Some(&self.setup.me)
                    && saved.is_won()
                    && saved.last_won().is_some_and(|won| won.sync.sets.contains(sync));
                (self.record.is_saved() || would_find)
                    && self.keeper.as_ref().is_none_or(Keeper::is_guarded)
            }
            Goal::Standby { upstream: Some(upstream), .. } => {
                self.record.is_saved()
                    || saved.epoch == upstream.epoch
                        && saved.holder.as_ref().is_some_and(|h| h.node == upstream.node)
            }
            Goal::Sharing { .. } => self.record.is_saved(),
            Goal::Standby { upstream: None, .. } | Goal::Stopped(_) => true,
        }
    }

    /// A server that is not owned yet is left alone until it is time.
    fn mind_beside(&mut self) {
        let Some(beside) = &mut self.beside else { return };
        self.machine.contest(beside.forbids_founding());
        if !beside.is_gone(self.machine.record().voters.is_some()) {
            return;
        }
        tracing::info!(
            "the server that was here before is stopped: from now on this agent starts it"
        );
        self.beside = None;
        let turn = self.machine.alone(host::now());
        self.perform(turn);
        self.hand_over_goal();
    }

    fn hand_over_goal(&mut self) {
        if self.beside.is_some() {
            return;
        }
        if self.withheld.as_ref().is_some_and(|(_, goal)| self.may_pursue(goal))
            && let Some((id, goal)) = self.withheld.take()
        {
            tracing::info!(id, goal = ?goal, "goal");
            self.adapter.goal.send_replace((id, goal));
        }
    }

    /// The guard's keeper told something.
    fn kept(&mut self, kept: &Kept) {
        if !kept.trouble.is_empty() && kept.trouble != self.unguarded {
            tracing::error!("the guard: {}", kept.trouble);
        }
        self.report_due |= self.guard != kept.pid;
        (self.guard, self.unguarded) = (kept.pid, kept.trouble.clone());
        if let Some(keeper) = &mut self.keeper {
            keeper.note(kept);
        }
        self.mind_guarded();
        self.hand_over_goal();
    }

    /// The machine learns since when the newest deadline is not confirmed.
    fn mind_guarded(&mut self) {
        let unconfirmed = self.keeper.as_ref().and_then(Keeper::unconfirmed);
        if unconfirmed != self.machine.unguarded() {
            let turn = self.machine.guarded(host::now(), unconfirmed);
            self.perform(turn);
        }
    }

    /// The machine learns whether what it says can be made durable.
    fn mind_record(&mut self) {
        let saves = self.record.is_saved();
        if saves != self.machine.saves() {
            self.report_due = true;
            let turn = self.machine.saved(host::now(), saves);
            self.perform(turn);
        }
        self.hand_over_goal();
    }

    fn beat(&mut self) {
        let kept = self.record.beat();
        self.note_broken(kept);
        self.mind_record();
        self.mind_guarded();
        self.peers.probe();
        self.report_due = true;
    }

    fn request(&mut self, request: Request) {
        let now = host::now();
        match request {
            // A voter that cannot save what it would promise is out of reach: nobody counts on it.
            Request::Peer(
                PeerMessage::Renew(_)
                | PeerMessage::Ask(_)
                | PeerMessage::Claim(_)
                | PeerMessage::Change(_)
                | PeerMessage::Install(_),
                _,
            ) if !self.record.is_saved() => {}
            Request::Peer(PeerMessage::Install(_), _)
                if self.beside.as_ref().is_some_and(Beside::forbids_founding) => {}
            Request::Peer(message, answer) => {
                let approved = self.approved(&message);
                let (turn, mut reply) = self.machine.message(now, message, approved);
                if let PeerReply::Hello(hello) = &mut reply {
                    hello.report = self.shown.borrow().report.clone().map(Box::new);
                    if !self.record.is_saved() {
                        hello.rest_on(self.record.saved());
                    }
                }
                if self.perform(turn) {
                    // The peer may have given up waiting.
                    let _ = answer.send(reply);
                }
            }
            Request::Order(command, answer) => {
                self.asked.clone_from(&command.id);
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
        let policy = &self.config.policy;
        access::check_order(
            order,
            (policy.strategy, policy.max_loss_bytes),
            &self.config.allowlist,
            host::wall(),
        )
    }

    fn seen(&mut self, seen: Seen) {
        let (resource, facts, postmaster) = match seen {
            Seen::Now(now) => *now,
            Seen::Asks(peer) => return self.peers.send(&peer, PeerMessage::Hello),
        };
        let changed = facts.state.word() != self.facts.state.word()
            || facts.receiving_from != self.facts.receiving_from
            || facts.standbys.len() != self.facts.standbys.len()
            || facts.proof != self.facts.proof
            || facts.unproved != self.facts.unproved
            || facts.trouble != self.facts.trouble;
        self.report_due |= changed;
        self.facts = facts;
        self.postmaster = postmaster;
        let now = host::now();
        self.routers.send_modify(|facts| facts.looked = now);
        let turn = self.machine.observed(now, resource);
        self.perform(turn);
    }

    fn answered(&mut self, answered: Answered) {
        self.peers.note(&answered);
        let now = host::now();
        if let PeerReply::Hello(hello) = &answered.reply
            && let Some(report) = &hello.report
        {
            let report = (**report).clone();
            let asked = Timestamp(now.0.saturating_sub(answered.took.0));
            let word = (asked, Receiver::of(&report, &self.setup.me.node));
            self.adapter.words.send_modify(|words| _ = words.insert(answered.from.clone(), word));
            self.routers.send_modify(|facts| facts.hear(now, &report));
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
        let complaint = [
            self.record.complaint(holding.is_some()),
            if self.unguarded.is_empty() {
                String::new()
            } else {
                format!("no guard: {}", self.unguarded)
            },
        ]
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_else(|| self.machine.complaint().to_owned());
        let report = NodeReport {
            member: self.setup.me.clone(),
            process: self.process,
            sequence: self.sequence,
            sent: host::wall(),
            pids: Pids {
                agent: std::process::id(),
                guard: self.guard,
                postmaster: self.postmaster,
            },
            vote,
            holding,
            resource: self.facts.clone(),
            peers: self.peers.probes(),
            armed: self.machine.armed(),
            shares: self.machine.shares().cloned(),
            rooms: self.rooms.found(),
            copies: self.rooms.copies(),
            certificates: self.credentials.certificates(host::wall()),
            beside: self.beside.as_ref().map_or(String::new(), |b| b.role().to_owned()),
            activity: self.machine.activity(),
            complaint,
            data: self.machine.data().clone(),
            mark: self.record.saved().data.high,
            data_fault: self.machine.data_fault(),
        };
        self.shown.send_modify(|s| s.report = Some(report));
    }
}

/// Longest wait between two tries to reach a plane.
pub const ATTACH_RETRY: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    /// The phase was random, the interval not: two agents that met once met at every beat.
    #[test]
    fn every_interval_is_another_within_a_tenth() {
        let all = |random| around(Duration::from_secs(5), random);
        assert_eq!(
            (all(0), all(255)),
            (Duration::from_millis(4_500), Duration::from_millis(5_500))
        );
        assert!((0..255).all(|r| all(r) < all(r + 1)));
    }
}
