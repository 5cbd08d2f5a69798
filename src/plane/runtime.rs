//! The plane's loop: the world into inputs, decisions into the store, and only then effects into
//! the world.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::server;
use crate::access;
use crate::agent::host;
use crate::audit::Verifier;
use crate::config::PlaneConfig;
use crate::engine::journal::Entry;
use crate::engine::{Decision, Effect, Engine, Input, PersonOrder, RefusedRequest, Snapshot};
use crate::model::observation::Certificate;
use crate::model::record::{ChainVerdict, ChainedRecord};
use crate::model::view::{ClusterState, ClusterView, Phase, Verdict};
use crate::model::{Digest, NodeId, Span, Timestamp};
use crate::store::{self, Batch, Sqlite, Store, StoreError};
use crate::wire::feed::Feed;
use crate::wire::message::{CallReply, CallRequest, FromAgent, ToAgent};
use crate::wire::tls::Credentials;

/// Why a plane does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] crate::wire::tls::TlsError),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// What the door hands to the loop.
#[derive(Debug)]
pub(super) enum Request {
    /// An agent's stream began.
    Attached(NodeId, mpsc::Sender<ToAgent>),
    /// An agent said something.
    Said(NodeId, FromAgent),
    /// A person's request; their identity was checked.
    Call { who: String, request: CallRequest, answer: oneshot::Sender<CallReply> },
    /// A request was refused at the door.
    Refused(RefusedRequest),
    /// How much longer the certificates here are good.
    Certificates(Vec<Certificate>),
}

/// Records in the picture.
const RECORDS_SHOWN: usize = 100;
/// While something moves the picture is published at least this often, though nothing is decided.
const MOVING_INTERVAL: Span = Span::millis(150);
/// While nothing does: ages and lags that pass are no news, and each costs every window a wake-up.
const CALM_INTERVAL: Span = Span::secs(1);
/// Inputs that decide nothing are journaled together at least this often.
const JOURNAL_INTERVAL: Span = Span::secs(1);
/// A whole engine is journaled this often, so that a journal whose beginning was dropped still
/// replays.
const CHECKPOINT_EVERY: u32 = 20_000;
/// Certificate files are looked at so often.
const CERTIFICATES_INTERVAL: Duration = Duration::from_secs(1);
const SNAPSHOT: &str = "engine";

/// What is told to windows at once.
type News = (ClusterState, Phase, Option<NodeId>, Vec<Verdict>);

fn news(view: &ClusterView) -> News {
    let verdicts = view.nodes.iter().map(|n| n.verdict).collect();
    (view.state, view.phase.phase, view.primary.clone(), verdicts)
}

struct Plane {
    config: PlaneConfig,
    engine: Engine,
    store: Sqlite,
    last: Timestamp,
    agents: BTreeMap<NodeId, mpsc::Sender<ToAgent>>,
    journal: Vec<String>,
    journaled: Timestamp,
    /// Inputs until the next checkpoint.
    checkpoint_in: u32,
    feed: Feed,
    published: Timestamp,
    told: News,
    records: VecDeque<ChainedRecord>,
    verifier: Verifier,
    chain: ChainVerdict,
    trouble: String,
    /// The disk failed: the process ends.
    broken: Option<StoreError>,
}

/// Runs a plane until a signal ends it.
///
/// # Errors
/// [`StartError`], before anything was touched; or when the disk failed under its store.
pub async fn run(config: PlaneConfig) -> Result<(), StartError> {
    let other = |what: String, e: std::io::Error| StartError::Other(format!("{what}: {e}"));
    std::fs::create_dir_all(&config.state_dir)
        .map_err(|e| other(config.state_dir.display().to_string(), e))?;
    let listener = std::net::TcpListener::bind(&config.listen).map_err(|e| {
        StartError::Other(format!(
            "cannot listen on {}: {e}; is another plane running, or is the port taken?",
            config.listen
        ))
    })?;
    let store = Sqlite::open(&config.state_dir.join("plane.sqlite"))?;
    let now = host::now();
    let (engine, first) = begin(&config, &store, now)?;
    let feed = Feed::new(format!("plane-{}", now.0), engine.view());
    let mut plane = Plane {
        engine,
        store,
        last: now,
        agents: BTreeMap::new(),
        journal: vec![],
        journaled: now,
        checkpoint_in: 0,
        feed: feed.clone(),
        published: now,
        told: News::default(),
        records: VecDeque::new(),
        verifier: Verifier::default(),
        chain: ChainVerdict::NotChecked,
        trouble: String::new(),
        broken: None,
        config,
    };
    plane.read_chain()?;
    let (requests_in, mut requests) = mpsc::channel(256);
    let credentials = Credentials::read(&plane.config.tls)?;
    tokio::spawn(look_at_certificates(credentials.clone(), requests_in.clone()));
    server::start(&plane.config, listener, &credentials, requests_in, feed)?;
    tracing::info!(cluster = %plane.config.cluster.cluster_id, listen = %plane.config.listen, "plane started");
    if let Some(decision) = first {
        plane.settle(decision);
    }
    let (forecasts, mut forecast) = mpsc::channel(1);
    let stage = (plane.config.cluster.clone(), plane.config.policy.clone());
    let (pictures, pictures_out) = watch::channel(None);
    std::thread::spawn(move || super::whatif::run(&stage.0, &stage.1, &pictures_out, &forecasts));
    let mut look = tokio::time::interval(super::whatif::LOOK_INTERVAL);
    let mut end = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .map_err(|e| other("signals".into(), e))?;
    loop {
        if let Some(broken) = plane.broken.take() {
            return Err(broken.into());
        }
        // Recomputed after every input; the wake-up carries no time, the present is read at the
        // call.
        let (wakeup, _reason) = plane.engine.next_wakeup();
        tokio::select! {
            biased;
            _ = end.recv() => return Ok(()),
            Some(request) = requests.recv() => plane.take(request),
            Some(made) = forecast.recv() => plane.engine.show_forecast(made),
            _ = look.tick() => { pictures.send_replace(Some(plane.engine.view().clone())); }
            () = host::sleep_until(wakeup) => {
                plane.input(Input::Wakeup);
                assert!(plane.engine.next_wakeup().0 > wakeup, "a wake-up moves its deadline");
            }
        }
    }
}

/// Tells the loop whenever what is left of them is told differently.
async fn look_at_certificates(credentials: Credentials, requests: mpsc::Sender<Request>) {
    let mut told = vec![];
    let mut look = tokio::time::interval(CERTIFICATES_INTERVAL);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        credentials.refresh().await;
        let found = credentials.certificates(host::wall());
        if found == told {
            continue;
        }
        told.clone_from(&found);
        if requests.send(Request::Certificates(found)).await.is_err() {
            return;
        }
    }
}

fn begin(
    config: &PlaneConfig,
    store: &Sqlite,
    now: Timestamp,
) -> Result<(Engine, Option<Decision>), StartError> {
    let Some(text) = store.document(SNAPSHOT)? else {
        return Ok((
            Engine::new(config.cluster.clone(), config.policy.clone(), now, host::wall()),
            None,
        ));
    };
    let snapshot: Snapshot = serde_json::from_str(&text).map_err(|e| {
        StartError::Other(format!(
            "the snapshot in {} is unreadable: {e}",
            config.state_dir.display()
        ))
    })?;
    let (engine, decision) =
        Engine::restore(config.cluster.clone(), config.policy.clone(), snapshot, now, host::wall());
    Ok((engine, Some(decision)))
}

impl Plane {
    fn take(&mut self, request: Request) {
        match request {
            Request::Attached(node, sender) => {
                tracing::info!(%node, "attached");
                self.agents.insert(node, sender);
            }
            Request::Said(node, FromAgent::Report(report)) => {
                if report.member.node == node {
                    self.input(Input::Report(report));
                }
            }
            Request::Said(node, FromAgent::Reply(reply)) => {
                self.input(Input::Reply { node, reply })
            }
            Request::Refused(refused) => self.input(Input::Refused(refused)),
            Request::Certificates(found) => self.input(Input::Certificates(found)),
            Request::Call { who, request, answer } => {
                let reply = self.call(&who, request);
                // The person may have gone.
                let _ = answer.send(reply);
            }
        }
    }

    /// One input: decide, record, act.
    fn input(&mut self, input: Input) {
        let now = host::now().max(self.last + Span(1));
        self.last = now;
        let wall = host::wall();
        if self.checkpoint_in == 0 {
            self.checkpoint_in = CHECKPOINT_EVERY;
            self.journal.push(Entry::Checkpoint(Box::new(self.engine.clone())).line());
        }
        self.checkpoint_in -= 1;
        let entry = Entry::Input { at: now, wall, input: Box::new(input.clone()) };
        self.journal.push(entry.line());
        let decision = self.engine.handle(now, wall, input);
        if !decision.is_empty() {
            self.journal.push(Entry::decided(&decision).line());
        }
        self.settle(decision);
    }

    fn settle(&mut self, decision: Decision) {
        let now = self.last;
        if decision.is_empty() {
            if now.since(self.journaled) >= JOURNAL_INTERVAL && !self.journal.is_empty() {
                self.journaled = now;
                let journal = std::mem::take(&mut self.journal);
                if let Err(error) =
                    self.store.append(&Batch { at: now, journal: &journal, ..Batch::default() })
                {
                    self.store_failed(error);
                    // Inputs are missing from here on: a replay begins anew.
                    self.checkpoint_in = 0;
                } else {
                    self.trouble.clear();
                }
            }
            let moves = self.engine.view().phase.phase != Phase::Steady;
            let interval = if moves { MOVING_INTERVAL } else { CALM_INTERVAL };
            if now.since(self.published) >= interval || news(self.engine.view()) != self.told {
                self.publish();
            }
            return;
        }
        let journal = std::mem::take(&mut self.journal);
        let snapshot = serde_json::to_string(self.engine.snapshot()).unwrap_or_default();
        let documents = [(SNAPSHOT, snapshot)];
        let batch = Batch {
            at: decision.at(),
            records: decision.records(),
            journal: &journal,
            documents: &documents,
        };
        match self.store.append(&batch) {
            Ok(receipt) => {
                for record in decision.records() {
                    tracing::info!(rule = record.rule, "{}", record.text);
                }
                for effect in decision.release(&receipt) {
                    self.act(effect);
                }
                self.trouble.clear();
                if let Err(error) = self.read_chain() {
                    tracing::error!("{error}");
                }
                self.publish();
            }
            Err(error) => {
                // No receipt, no effect. In memory the engine is ahead of what is durable, so it
                // starts again from there.
                self.store_failed(error);
                if self.broken.is_none()
                    && let Ok((engine, _)) = begin(&self.config, &self.store, now)
                {
                    self.engine = engine;
                    self.checkpoint_in = 0;
                }
                self.publish();
            }
        }
    }

    fn store_failed(&mut self, error: StoreError) {
        tracing::error!("{error}");
        self.trouble = format!("nothing can be decided: {error}");
        if error.is_broken() {
            self.broken = Some(error);
        }
    }

    fn act(&mut self, effect: Effect) {
        let Effect::Command { node, command } = effect;
        match self.agents.get(&node) {
            // A full or broken queue is as a lost message: the engine sends again.
            Some(sender) => _ = sender.try_send(ToAgent::Command(*command)),
            None => tracing::warn!(%node, "not attached; an order waits"),
        }
    }

    /// Reads and checks what was added to the chain.
    fn read_chain(&mut self) -> Result<(), StoreError> {
        loop {
            let page = self.store.records(self.verifier.so_far().0 + 1, 1_000)?;
            if page.is_empty() {
                return Ok(());
            }
            for record in page {
                if let Err(broken) = self.verifier.check(&record) {
                    self.chain = ChainVerdict::Broken { how: broken.to_string() };
                    return Ok(());
                }
                self.records.push_back(record);
                if self.records.len() > RECORDS_SHOWN {
                    self.records.pop_front();
                }
            }
            self.chain = ChainVerdict::Verified { to: self.verifier.so_far().0 };
        }
    }

    fn picture(&self) -> ClusterView {
        let mut view = self.engine.view().clone();
        view.simulated |= self.config.simulated;
        view.records = self.records.iter().cloned().collect();
        view.record_count = self.verifier.so_far().0;
        view.chain.clone_from(&self.chain);
        if !self.trouble.is_empty() {
            view.why = self.trouble.clone();
        }
        view
    }

    fn publish(&mut self) {
        self.published = self.last;
        self.told = news(self.engine.view());
        self.feed.publish(&self.picture());
    }

    fn call(&mut self, who: &str, request: CallRequest) -> CallReply {
        match request {
            CallRequest::View => CallReply::View(Box::new(self.picture())),
            CallRequest::Order(order) => {
                let asked = order.words();
                let reply = self.order(who, order);
                if let CallReply::Refused { check, why } = &reply {
                    self.input(Input::Refused(RefusedRequest {
                        who: who.to_owned(),
                        stranger: false,
                        asked,
                        why: format!("{check}: {why}"),
                    }));
                }
                reply
            }
            CallRequest::Why { within } => {
                let mut explanation = self.engine.explain();
                let since = host::wall().0 - i64::try_from(within.as_millis()).unwrap_or(i64::MAX);
                let lately =
                    |r: &&ChainedRecord| r.record.wall.0 >= since && r.record.kind != "command";
                explanation.recent = self.records.iter().filter(lately).cloned().collect();
                CallReply::Why(Box::new(explanation))
            }
            CallRequest::DryRun { plan } => {
                match self
                    .engine
                    .snapshot()
                    .pending
                    .as_ref()
                    .filter(|p| p.digest.as_str().starts_with(&plan))
                {
                    None => CallReply::Refused {
                        check: "plan".into(),
                        why: format!("no plan {plan} waits; make one with `quorate plan`"),
                    },
                    Some(pending) => {
                        let demoted = pending.plan.demoted().map_or("", |n| n.as_str());
                        match self.engine.would_execute(&pending.digest, demoted) {
                            Ok(()) => CallReply::Plan {
                                plan: Box::new(pending.plan.clone()),
                                digest: pending.digest.clone(),
                            },
                            Err((check, why)) => CallReply::Refused { check, why },
                        }
                    }
                }
            }
            CallRequest::Verify => {
                let (parts, confidence) = self.engine.verify();
                CallReply::Verified { parts, confidence }
            }
            CallRequest::Audit { first, limit } => {
                let verdict = match store::verify(&self.store) {
                    Ok(Ok(count)) => ChainVerdict::Verified { to: count },
                    Ok(Err(broken)) => ChainVerdict::Broken { how: broken.to_string() },
                    Err(error) => ChainVerdict::Unreadable { why: error.to_string() },
                };
                match self.store.records(first, limit.min(10_000)) {
                    Ok(records) => CallReply::Audit { records, chain: verdict },
                    Err(error) => {
                        CallReply::Refused { check: "store".into(), why: error.to_string() }
                    }
                }
            }
        }
    }

    fn order(&mut self, who: &str, order: PersonOrder) -> CallReply {
        let refused = |check: &str, why: String| CallReply::Refused { check: check.into(), why };
        let plan = match &order {
            PersonOrder::Propose(_) => {
                let before = self.engine.snapshot().plans;
                self.input(Input::Person { who: who.to_owned(), order });
                return match &self.engine.snapshot().pending {
                    Some(pending) if self.engine.snapshot().plans > before => CallReply::Plan {
                        plan: Box::new(pending.plan.clone()),
                        digest: pending.digest.clone(),
                    },
                    _ => refused("plan", self.why_refused()),
                };
            }
            PersonOrder::Execute { plan, demoted, approval } => {
                if approval.by != who {
                    return refused(
                        "identity",
                        format!("{who} cannot hand in {}'s approval", approval.by),
                    );
                }
                if let Err(why) =
                    access::check_approval(approval, plan, &self.config.allowlist, host::wall())
                {
                    return refused("approval", why);
                }
                if let Err((check, why)) = self.engine.would_execute(plan, demoted) {
                    return refused(&check, why);
                }
                plan.clone()
            }
            PersonOrder::Dismiss { plan, .. } => {
                if self.engine.snapshot().pending.as_ref().is_none_or(|p| p.digest != *plan) {
                    return refused("plan", format!("no plan {} waits", plan.short()));
                }
                plan.clone()
            }
            PersonOrder::Voters { order, approval } => {
                if let Err(why) = access::check_signed(
                    &order.digest(),
                    std::slice::from_ref(approval),
                    1,
                    &self.config.allowlist,
                    host::wall(),
                ) {
                    return refused("approval", why);
                }
                if let Err((check, why)) = self.engine.would_change_voters(order) {
                    return refused(&check, why);
                }
                order.digest()
            }
            PersonOrder::Override { order, approvals } => {
                if let Err(why) = access::check_signed(
                    &order.digest(),
                    approvals,
                    2,
                    &self.config.allowlist,
                    host::wall(),
                ) {
                    return refused("approval", why);
                }
                if let Err((check, why)) = self.engine.would_override(order) {
                    return refused(&check, why);
                }
                order.digest()
            }
            PersonOrder::History { order, approvals } => {
                if let Err(why) = access::check_signed(
                    &order.digest(),
                    approvals,
                    2,
                    &self.config.allowlist,
                    host::wall(),
                ) {
                    return refused("approval", why);
                }
                let would = self.engine.would_take_history(order);
                if let Err((check, why)) = would.and_then(|()| self.engine.no_lease_runs()) {
                    return refused(&check, why);
                }
                order.digest()
            }
            PersonOrder::Drain { node, reason } => {
                if let Err((check, why)) = self.engine.would_drain(node, reason.is_some()) {
                    return refused(&check, why);
                }
                Digest::new("")
            }
            PersonOrder::Restart { node, .. } => {
                if let Err((check, why)) = self.engine.would_drain(node, true) {
                    return refused(&check, why);
                }
                Digest::new("")
            }
            PersonOrder::Acknowledge { .. } | PersonOrder::Verify { .. } => Digest::new(""),
        };
        self.input(Input::Person { who: who.to_owned(), order });
        if self.trouble.is_empty() {
            CallReply::Accepted { plan }
        } else {
            refused("store", self.trouble.clone())
        }
    }

    fn why_refused(&self) -> String {
        if !self.trouble.is_empty() {
            return self.trouble.clone();
        }
        self.engine.refusal().to_owned()
    }
}

/// How long an agent's stream may be silent before it is closed.
pub(super) const AGENT_SILENCE_MAX: Duration = Duration::from_secs(30);
