//! Input → decision: what moves, what waits, what is refused, what a restart takes up.

use super::moves::COMES_BACK_MAX;
use super::*;
use crate::model::command::{Command, CommandReply, Order};
use crate::model::observation::{
    ArmedFacts, ArmedStage, CheckTimes, HoldingFacts, NodeReport, PeerProbe, Pids, ResourceFacts,
    ResourceState, Room, Setback, StandbyFacts, StopEvidence, VoteFacts,
};
use crate::model::testimony::{EpochSync, ReleaseNotice};
use crate::model::topology::{Detection, Strategy};
use crate::model::view::{Act, Outcome};
use crate::model::{Lsn, Position, SyncSet};

const CLUSTER: &str = "
cluster_id: c
name: C
regions: [r]
nodes:
  - {node_id: n1, hostname: h, role: primary, region: r}
  - {node_id: n2, hostname: h, role: secondary, region: r}
  - {node_id: n3, hostname: h, role: secondary, region: r}
";

struct Receipt(Timestamp);
impl Durable for Receipt {
    fn at(&self) -> Timestamp {
        self.0
    }
}

pub(super) struct World {
    pub(super) engine: Engine,
    now: Timestamp,
    sequence: u64,
    sent: Vec<(NodeId, Command)>,
    rules: Vec<RuleId>,
}

fn topology(strategy: Strategy) -> (Cluster, Policy) {
    let path = std::path::Path::new("test");
    let cluster = crate::config::cluster::parse(path, CLUSTER).unwrap();
    let text = format!("policy_id: p\nname: P\nstrategy: {}\n", strategy.word());
    let policy = crate::config::policy::parse(path, &text, &cluster).unwrap();
    assert!(matches!(policy.detection, Detection::Phi { .. }));
    (cluster, policy)
}

pub(super) fn member(node: &str) -> Member {
    Member::new(node, "a")
}

impl World {
    /// n1 holds epoch 2, the others follow; heard long enough to be judged.
    pub(super) fn calm(strategy: Strategy) -> Self {
        let (cluster, policy) = topology(strategy);
        let engine = Engine::new(cluster, policy, Timestamp(1), WallTime(0));
        let mut world =
            Self { engine, now: Timestamp(1), sequence: 0, sent: vec![], rules: vec![] };
        for _ in 0..40 {
            world.everybody();
        }
        assert_eq!(world.engine.view().state, ClusterState::Healthy, "{}", world.engine.view().why);
        world
    }
    fn everybody(&mut self) {
        for node in ["n1", "n2", "n3"] {
            self.hear(report(node));
        }
        self.pass(100);
    }
    fn take(&mut self, decision: Decision) {
        self.rules.extend(decision.records().iter().map(|r| r.rule));
        let receipt = Receipt(decision.at());
        for Effect::Command { node, command } in decision.release(&receipt) {
            self.sent.push((node, *command));
        }
    }
    fn input(&mut self, input: Input) {
        self.now = self.now + Span(1);
        let decision = self.engine.handle(self.now, WallTime(0), input);
        self.take(decision);
    }
    pub(super) fn hear(&mut self, mut report: NodeReport) {
        self.sequence += 1;
        report.sequence = self.sequence;
        self.input(Input::Report(Box::new(report)));
    }
    pub(super) fn pass(&mut self, ms: u64) {
        let until = self.now + Span::millis(ms);
        while self.now < until {
            self.now = self.now.max(self.engine.next_wakeup().0).min(until);
            self.input(Input::Wakeup);
        }
    }
    /// The order that was sent last, by its id's middle word.
    fn orders(&self) -> Vec<&str> {
        let kind = |c: &Command| match &c.order {
            Order::Arm { .. } => "arm",
            Order::Demote { .. } => "demote",
            Order::Disarm { .. } => "disarm",
            Order::Prove => "prove",
            Order::Restart => "restart",
            Order::Voters { .. } => "voters",
            Order::Override { .. } => "override",
            Order::History { .. } => "history",
            Order::Shift { .. } => "shift",
        };
        self.sent.iter().map(|(_, c)| kind(c)).collect()
    }
    fn restart(&mut self) {
        let (cluster, policy) = (self.engine.cluster.clone(), self.engine.policy.clone());
        let text = serde_json::to_string(self.engine.snapshot()).unwrap();
        let (engine, decision) = Engine::restore(
            cluster,
            policy,
            serde_json::from_str(&text).unwrap(),
            self.now,
            WallTime(0),
        );
        self.engine = engine;
        self.take(decision);
    }
}

/// The other two; one of them confirms.
fn sync_of(holder: &str) -> SyncSet {
    let others = ["n1", "n2", "n3"].into_iter().filter(|n| *n != holder);
    SyncSet { members: others.map(member).collect(), k: 1 }
}

pub(super) fn won(epoch: u64, holder: &str) -> EpochSync {
    EpochSync {
        epoch: Epoch(epoch),
        holder: member(holder),
        sync: sync_of(holder).into(),
        won: true,
        promoted: true,
        doubt: crate::model::loss::Doubt::default(),
    }
}

pub(super) fn report(node: &str) -> NodeReport {
    let primary = node == "n1";
    let standby = |n: &str| StandbyFacts {
        node: n.into(),
        state: "streaming".into(),
        sync_state: "quorum".into(),
        sent: Lsn(100),
        flushed: Lsn(100),
        replayed: Lsn(100),
        lag_bytes: 0,
        lag: None,
    };
    NodeReport {
        member: member(node),
        process: 1,
        sequence: 0,
        sent: WallTime(0),
        pids: Pids::default(),
        vote: VoteFacts {
            epoch: Epoch(2),
            holder: Some(member("n1")),
            won: true,
            voters_version: 1,
            voters: 3,
            votes: true,
            members: ["n1", "n2", "n3"].map(member).to_vec(),
            history: vec![won(2, "n1")],
            ..VoteFacts::default()
        },
        holding: primary.then(|| HoldingFacts {
            epoch: Epoch(2),
            left: Span::secs(2),
            promised_by: ["n1", "n2", "n3"].map(NodeId::from).to_vec(),
            sync: sync_of("n1"),
            doubt: crate::model::loss::Doubt::default(),
        }),
        resource: ResourceFacts {
            state: if primary { ResourceState::Primary } else { ResourceState::Standby },
            position: Position { timeline: 2, lsn: Lsn(100) },
            receiving_from: (!primary).then(|| "n1".into()),
            upstream_age: (!primary).then_some(Span::millis(1)),
            check: CheckTimes {
                live: Some(Span::millis(1)),
                ready: Some(Span::millis(1)),
                deep: Some(Span::millis(1)),
            },
            standbys: if primary { vec![standby("n2"), standby("n3")] } else { vec![] },
            ..ResourceFacts::default()
        },
        peers: vec![],
        armed: None,
        shares: None,
        rooms: vec![],
        certificates: vec![],
        beside: String::new(),
        copies: vec![],
        activity: String::new(),
        complaint: String::new(),
        data: crate::model::DataFound::default(),
        mark: None,
        data_fault: None,
    }
}

/// n1's database died and it gave the role back.
pub(super) fn gave_back(node: &str) -> NodeReport {
    let mut r = report(node);
    r.holding = None;
    r.vote.released = true;
    r.vote.releases = vec![ReleaseNotice {
        epoch: Epoch(2),
        holder: member("n1"),
        final_position: None,
        promoted: true,
        since: None,
        process: 0,
    }];
    r.resource.receiving_from = None;
    if node == "n1" {
        let evidence = StopEvidence {
            at: WallTime(0),
            how: "found dead".into(),
            killed: 0,
            remaining: 0,
            final_position: None,
            looked: String::new(),
        };
        r.resource.state = ResourceState::Stopped(evidence);
    }
    r
}

fn armed(mut r: NodeReport, world: &World, stage: ArmedStage) -> NodeReport {
    let plan = world.engine.snapshot().run.as_ref().map(|r| r.digest.clone()).unwrap();
    r.armed = Some(ArmedFacts {
        plan,
        stage,
        epoch: None,
        fence: None,
        loss: None,
        granted: vec![],
        why: String::new(),
    });
    r
}

fn fail(world: &mut World) {
    for node in ["n1", "n2", "n3"] {
        world.hear(gave_back(node));
    }
}

#[test]
fn a_clean_word_moves_the_role_at_once_under_an_automatic_policy() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    assert_eq!(world.orders(), ["arm"], "{}", world.engine.refusal());
    assert!(world.rules.contains(&rules::GAVE_BACK) && world.rules.contains(&rules::PLAN_RUNS));
    let (node, _) = &world.sent[0];
    assert_eq!(node.as_str(), "n2");
    // Said again until it is heard, and not faster.
    world.pass(1_000);
    assert!((3..=5).contains(&world.orders().len()), "{:?}", world.orders());
}

#[test]
fn a_manual_policy_waits_and_a_plan_dies_with_its_reason() {
    let mut world = World::calm(Strategy::Manual);
    fail(&mut world);
    assert_eq!(world.orders(), [""; 0]);
    assert_eq!(world.engine.view().phase.phase, Phase::AwaitingApproval);
    let plan = world.engine.snapshot().pending.clone().unwrap();
    assert!(world.engine.would_execute(&plan.digest, "n2").is_err(), "another name was typed");
    assert!(world.engine.would_execute(&plan.digest, "n1").is_ok());
    // It is back in a newer epoch: the plan is void.
    for _ in 0..3 {
        let mut back = report("n1");
        back.vote.epoch = Epoch(3);
        back.holding.as_mut().unwrap().epoch = Epoch(3);
        world.hear(back);
    }
    assert_eq!(world.engine.snapshot().pending, None);
    assert_eq!(world.engine.view().phase.phase, Phase::Steady);
}

/// All hosts lost their power; the primary's came back with a volume that never starts. It is heard,
/// and no failure of it is judged: two standbys that are sound waited for it, for ever.
#[test]
fn a_former_holder_that_is_back_without_the_role_is_not_waited_for() {
    let mut world = World::calm(Strategy::Automatic);
    let back = |world: &mut World, times: usize| {
        for _ in 0..times {
            for node in ["n1", "n2", "n3"] {
                let mut r = gave_back(node);
                (r.vote.released, r.vote.releases) = (false, vec![]);
                if node == "n1" {
                    r.resource.state = ResourceState::Starting;
                }
                world.hear(r);
            }
            world.pass(100);
        }
    };
    back(&mut world, 5);
    assert_eq!(world.orders(), [""; 0], "it may be about to ask for it again");
    back(&mut world, 60);
    assert!(world.orders().contains(&"arm"), "{}", world.engine.refusal());
}

/// What a person reads stays while it is only a moment that differs; what matters is said.
#[test]
fn a_waiting_plan_is_replaced_only_by_what_matters_and_says_so() {
    let mut world = World::calm(Strategy::Manual);
    fail(&mut world);
    let plan = world.engine.snapshot().pending.clone().unwrap();
    assert_eq!(plan.plan.to.node.as_str(), "n2");
    let tick = |world: &mut World, mute: bool| {
        let mut n2 = gave_back("n2");
        if mute {
            let (what, path) = ("data".into(), "/data".into());
            n2.rooms = vec![Room { what, path, free: 1 << 20, total: 1_000 << 20 }];
        }
        world.hear(gave_back("n1"));
        world.hear(n2);
        world.hear(gave_back("n3"));
        world.pass(100);
    };
    // Not eligible for two seconds, again and again.
    for _ in 0..3 {
        (0..20).for_each(|_| tick(&mut world, true));
        (0..3).for_each(|_| tick(&mut world, false));
    }
    let waits = world.engine.snapshot().pending.clone().map(|p| p.digest);
    assert_eq!(waits, Some(plan.digest), "{}", world.engine.refusal());
    (0..40).for_each(|_| tick(&mut world, true));
    let now = world.engine.snapshot().pending.clone().unwrap();
    assert_eq!(now.plan.to.node.as_str(), "n3");
    let news = world.engine.view().outlook.plan_news.clone();
    assert!(news.contains("plan changed: n2 → n3, because") && news.contains("review"), "{news}");
    let timeout = world.engine.policy.approval_timeout.as_millis() / 100;
    (0..timeout + 10).for_each(|_| tick(&mut world, true));
    let news = &world.engine.view().outlook.plan_news;
    assert!(news.contains("expired"), "{news}");
}

/// Unknown is a word, and zero is not a word for it.
#[test]
fn an_empty_node_claims_nothing() {
    let mut world = World::calm(Strategy::Manual);
    let mut empty = report("n2");
    let how = "empty".into();
    empty.resource = ResourceFacts {
        state: ResourceState::Stopped(StopEvidence {
            at: WallTime(0),
            how,
            killed: 0,
            remaining: 0,
            final_position: None,
            looked: String::new(),
        }),
        ..ResourceFacts::default()
    };
    world.hear(empty);
    world.pass(100);
    let view = world.engine.view();
    let n2 = view.outlook.candidates.iter().find(|c| c.node.as_str() == "n2").unwrap();
    let value = |name: &str| n2.checks.iter().find(|c| c.name == name).map(|c| c.value.to_string());
    assert_eq!(n2.checks[0].value, "no: empty, never copied", "said first");
    for name in ["lag", "disk", "version"] {
        assert_eq!(value(name).as_deref(), Some("unknown"), "{name}");
    }
    assert!(value("health").unwrap().starts_with("unknown"));
    assert!(!n2.eligible);
}

#[test]
fn silence_needs_a_quorum_of_observers_and_received_log_vetoes() {
    let mut world = World::calm(Strategy::Automatic);
    for _ in 0..40 {
        world.hear(report("n2"));
        world.hear(report("n3"));
        world.pass(100);
    }
    // n2 and n3 still receive its log: it is suspect, and nothing moves.
    assert_eq!(
        world.engine.view().nodes[0].verdict,
        Verdict::Suspect,
        "{}",
        world.engine.view().nodes[0].why
    );
    assert_eq!(world.orders(), [""; 0]);
    for _ in 0..20 {
        for node in ["n2", "n3"] {
            let mut r = report(node);
            r.resource.receiving_from = None;
            world.hear(r);
        }
        world.pass(100);
    }
    assert_eq!(world.engine.view().nodes[0].verdict, Verdict::Failed);
    assert!(world.orders().contains(&"arm"));
}

#[test]
fn a_plane_that_starts_again_takes_up_the_run() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    let digest = world.engine.snapshot().run.as_ref().unwrap().digest.clone();
    world.restart();
    world.sent.clear();
    world.pass(100);
    assert_eq!(world.orders(), ["arm"], "the order is derived again");
    assert_eq!(world.engine.snapshot().run.as_ref().unwrap().digest, digest);
    assert!(world.rules.contains(&rules::RESTORED));
}

#[test]
fn a_plane_that_never_heard_the_holder_still_judges_it() {
    let mut world = World::calm(Strategy::Automatic);
    world.restart();
    for _ in 0..80 {
        for node in ["n2", "n3"] {
            let mut r = report(node);
            r.resource.receiving_from = None;
            world.hear(r);
        }
        world.pass(100);
    }
    assert_eq!(
        world.engine.view().nodes[0].verdict,
        Verdict::Failed,
        "{}",
        world.engine.view().nodes[0].why
    );
    assert!(world.orders().contains(&"arm"));
}

#[test]
fn a_candidate_that_waits_with_a_plan_that_ended_is_disarmed() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    let waiting = armed(gave_back("n2"), &world, ArmedStage::Waiting);
    let id = world.sent[0].1.id.clone();
    world.input(Input::Reply {
        node: "n2".into(),
        reply: CommandReply { id, outcome: Err("the world moved".into()) },
    });
    assert_eq!(world.engine.view().run.as_ref().unwrap().outcome, Some(Outcome::Aborted));
    world.sent.clear();
    world.hear(waiting);
    assert!(world.orders().contains(&"disarm"), "{:?}", world.orders());
}

/// Plane and agents had different policies: plan, order and refusal, twice a second, for ever, and
/// nobody was told.
#[test]
fn an_order_that_is_refused_again_and_again_ends_with_a_person() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    let mut refused = 0;
    for _ in 0..100 {
        if let Some((node, command)) = world.sent.pop() {
            world.sent.clear();
            if matches!(command.order, Order::Arm { .. }) {
                let outcome = Err("the plan needs a person's approval".into());
                world.input(Input::Reply { node, reply: CommandReply { id: command.id, outcome } });
                refused += 1;
            }
        }
        world.pass(100);
        fail(&mut world);
    }
    let view = world.engine.view();
    assert_eq!(view.phase.phase, Phase::NeedsPerson, "{refused}");
    assert!((3..7).contains(&refused), "{refused} times in ten seconds");
}

#[test]
fn a_candidate_that_gives_up_ends_the_run_and_another_is_tried() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    let gave_up = armed(gave_back("n2"), &world, ArmedStage::Abandoned);
    world.hear(gave_up);
    assert_eq!(world.engine.view().phase.phase, Phase::Aborted);
    for _ in 0..10 {
        fail(&mut world);
        world.pass(100);
    }
    assert!(world.engine.snapshot().run.is_some(), "a new plan runs");
}

#[test]
fn the_same_inputs_give_the_same_decisions_byte_for_byte() {
    let run = || {
        let mut world = World::calm(Strategy::Automatic);
        fail(&mut world);
        world.pass(500);
        (
            serde_json::to_string(world.engine.snapshot()).unwrap(),
            world.rules,
            format!("{:?}", world.sent),
        )
    };
    assert_eq!(run(), run());
}

/// No phase without a way out: each but steady shows a deadline or what ends it, and somebody who
/// has to act.
#[test]
fn no_phase_is_without_a_way_out() {
    let mut world = World::calm(Strategy::Manual);
    let exits = [Phase::Aborted, Phase::RolledBack, Phase::NeedsPerson];
    for phase in Phase::LADDER.into_iter().chain(exits).filter(|p| *p != Phase::Steady) {
        world.engine.durable.phase = phase;
        world.engine.view.take();
        let view = world.engine.view().phase.clone();
        assert!(view.deadline.is_some() || !view.ways_out.is_empty(), "{phase:?}");
    }
}

/// A winner's host died 50 ms after it won: its run went by what it had said last, for 31 s.
/// Nobody is sent to mend what mends itself, nor told how many clients end where there are none.
#[test]
fn a_node_that_comes_back_by_itself_is_waited_for() {
    let mut world = World::calm(Strategy::Automatic);
    for (state, failed, act) in [
        (ResourceState::Rebuilding, false, Act::Wait),
        (ResourceState::Rebuilding, true, Act::Mend { node: Some("n3".into()) }),
        (ResourceState::Starting, true, Act::Mend { node: Some("n3".into()) }),
        (ResourceState::Standby, false, Act::Mend { node: Some("n3".into()) }),
    ] {
        for _ in 0..5 {
            let mut back = report("n3");
            back.resource.state = state.clone();
            back.resource.receiving_from = None;
            back.resource.trouble = "rewinding to follow n1".into();
            let why = "the source of the rebuild is not reachable";
            back.resource.setback = failed.then(|| Setback::after(None, why, WallTime(0)));
            world.hear(report("n1"));
            world.hear(report("n2"));
            world.hear(back);
            world.pass(100);
        }
        let ways = &world.engine.view().phase.ways_out;
        assert!(ways.iter().any(|w| w.act == act), "{state:?}: {ways:?}");
        assert_eq!(ways.len(), 1, "{state:?}: {ways:?}");
    }
}

/// "Is the host dead, or cut off?" was on no screen, though a peer's own connection tells the one
/// from an agent that does not run.
#[test]
fn a_host_that_answers_is_not_said_to_be_down() {
    let mut world = World::calm(Strategy::Automatic);
    for closed in [false, true] {
        for _ in 0..60 {
            let mut sees = report("n2");
            sees.peers.retain(|p| p.node.as_str() != "n3");
            sees.peers.push(PeerProbe {
                node: "n3".into(),
                answered: None,
                round_trip: None,
                resource_runs: None,
                closed,
            });
            world.hear(report("n1"));
            world.hear(sees);
            world.pass(100);
        }
        let view = world.engine.view();
        let says = |words: &str| view.phase.ways_out.iter().any(|w| w.text.contains(words));
        assert!(says(if closed { "start the agent of n3" } else { "start the host or the agent" }));
        let node = view.nodes.iter().find(|n| n.node.as_str() == "n3").unwrap();
        assert_eq!(!node.closed.is_empty(), closed);
    }
}

#[test]
fn a_run_ends_as_soon_as_its_winner_is_known_to_have_failed() {
    let mut world = World::calm(Strategy::Automatic);
    fail(&mut world);
    let mut won = armed(gave_back("n2"), &world, ArmedStage::Promoting);
    won.vote.epoch = Epoch(3);
    let holding = report("n1").holding.unwrap();
    won.holding = Some(HoldingFacts { epoch: Epoch(3), ..holding });
    world.hear(won);
    assert_eq!(world.engine.view().phase.phase, Phase::Promoting);
    let mut since_failed = 0;
    for _ in 0..100 {
        for node in ["n1", "n3"] {
            let mut r = gave_back(node);
            (r.vote.epoch, r.vote.holder, r.vote.won) = (Epoch(3), Some(member("n2")), true);
            world.hear(r);
        }
        world.pass(50);
        since_failed += u32::from(world.engine.nodes[&"n2".into()].verdict == Verdict::Failed);
        if world.engine.snapshot().run.is_none() {
            break;
        }
    }
    let last = world.engine.view().run.clone().unwrap();
    assert_eq!(last.outcome, Some(Outcome::Unknown), "{last:?}");
    assert!(since_failed <= 1, "it was known for {since_failed} judgements");
    assert!(world.rules.contains(&rules::STEP_LATE));
}

/// A loss stood there to be accepted while the node with everything was starting.
#[test]
fn nobody_is_asked_while_the_last_holder_comes_back_by_itself() {
    let mut world = World::calm(Strategy::Automatic);
    let tick = |world: &mut World, why: &str| {
        for node in ["n1", "n2", "n3"] {
            let mut r = gave_back(node);
            r.resource.version = "15".into();
            if node == "n1" {
                r.resource.state = ResourceState::Starting;
                let setback = || Setback::after(None, why, WallTime(0));
                r.resource.setback = (!why.is_empty()).then(setback);
            } else {
                // No candidate.
                r.resource.version = "14".into();
            }
            world.hear(r);
        }
        world.pass(100);
    };
    let wait = COMES_BACK_MAX.as_millis() / 100;
    for _ in 0..wait - 20 {
        tick(&mut world, "");
        let view = world.engine.view();
        let words = (world.engine.refusal(), &world.rules);
        assert_ne!(view.phase.phase, Phase::NeedsPerson, "{words:?}");
    }
    let first = &world.engine.view().phase.ways_out[0];
    assert!(first.act == Act::Wait && first.text.contains("n1 comes back by itself"), "{first:?}");
    // For ever it is not waited for: a passphrase may be asked for that nobody gives.
    (0..100).for_each(|_| tick(&mut world, ""));
    assert_eq!(world.engine.view().phase.phase, Phase::NeedsPerson);
    let mut world = World::calm(Strategy::Automatic);
    (0..200).for_each(|_| tick(&mut world, "no space left on device"));
    assert_eq!(world.engine.view().phase.phase, Phase::NeedsPerson, "it says that it cannot");
}

/// It had been promoted long ago, and was said to be "not promoted yet", and to come back by itself.
#[test]
fn a_holder_that_shuts_down_is_no_candidate_that_starts() {
    let mut world = World::calm(Strategy::Manual);
    for _ in 0..20 {
        let mut r = report("n1");
        r.resource.state = ResourceState::Starting;
        r.resource.trouble = "the database system is shutting down".into();
        world.hear(r);
        world.hear(report("n2"));
        world.hear(report("n3"));
        world.pass(100);
    }
    let view = world.engine.view();
    assert!(view.why.contains("lets nobody in"), "{}", view.why);
    let ways: Vec<&str> = view.phase.ways_out.iter().map(|w| w.text.as_str()).collect();
    assert!(ways.iter().all(|w| !w.contains("comes back by itself")), "{ways:#?}");
    assert!(ways.iter().any(|w| w.contains("archive_command")), "{ways:#?}");
}

/// A gate that closed gave the end of an earlier plan as the reason.
#[test]
fn what_is_said_of_one_plan_is_not_said_of_the_next() {
    let mut world = World::calm(Strategy::Manual);
    fail(&mut world);
    let first = world.engine.snapshot().pending.clone().unwrap().digest;
    let drop = PersonOrder::Dismiss { plan: first.clone(), reason: "not now".into() };
    world.input(Input::Person { who: "alice".into(), order: drop });
    let news = world.engine.view().outlook.plan_news.clone();
    assert!(news.contains(first.short()) && news.contains("by alice"), "{news}");
    let timeout = world.engine.policy.approval_timeout.as_millis() / 100;
    (0..timeout + 20).for_each(|_| {
        fail(&mut world);
        world.pass(100);
    });
    let second = world.engine.snapshot().pending.clone().unwrap().digest;
    assert_eq!(world.engine.view().outlook.plan_news, "", "{}", second.short());
    (0..20).for_each(|_| world.everybody());
    let news = world.engine.view().outlook.plan_news.clone();
    assert!(news.contains(second.short()) && news.contains("heard again"), "{news}");
}

/// Its page was empty, and nobody had said why.
#[test]
fn a_waiting_plan_that_a_failover_makes_void_is_named() {
    let mut world = World::calm(Strategy::Automatic);
    let what = crate::model::plan::Proposal { to: Some("n3".into()), ..Default::default() };
    let asked = PersonOrder::Propose(what);
    world.input(Input::Person { who: "alice".into(), order: asked });
    let waits = world.engine.view().plan.as_ref().expect("it waits").digest();
    fail(&mut world);
    (0..50).for_each(|_| fail(&mut world));
    let news = &world.engine.view().outlook.plan_news;
    assert!(world.engine.view().run.is_some(), "{}", world.engine.refusal());
    assert!(news.contains(waits.short()) && news.contains("began instead"), "{news}");
}

/// 290 epochs in five minutes: the plane said "none (proved)", the candidate "unknown", every 0.6 s.
#[test]
fn equal_refusals_end_until_the_evidence_changes_and_a_person_is_asked() {
    let mut world = World::calm(Strategy::Automatic);
    let refuses = |world: &mut World, plans: &mut BTreeSet<String>| {
        for _ in 0..100 {
            for node in ["n1", "n2", "n3"] {
                let mut r = gave_back(node);
                // n3 is no candidate.
                r.resource.version = if node == "n3" { "14" } else { "15" }.into();
                if node == "n2" && world.engine.snapshot().run.is_some() {
                    r = armed(r, world, ArmedStage::Abandoned);
                    let facts = r.armed.as_mut().unwrap();
                    plans.insert(facts.plan.as_str().to_owned());
                    facts.loss = Some(crate::model::loss::LossAccount::Unknown { why: "w".into() });
                    facts.granted = ["n1", "n2", "n3"].map(NodeId::from).to_vec();
                    facts.why = "the loss would be unknown".into();
                }
                world.hear(r);
            }
            world.pass(100);
        }
    };
    let mut plans = BTreeSet::new();
    refuses(&mut world, &mut plans);
    assert_eq!(plans.len(), 3, "{}", world.engine.refusal());
    assert_eq!(world.engine.view().phase.phase, Phase::NeedsPerson);
    assert!(
        world.engine.refusal().contains("won and refused 3 times"),
        "{}",
        world.engine.refusal()
    );
    // A person may accept what cannot be proved.
    let what = crate::model::plan::Proposal {
        accept_unknown_loss: true,
        reason: "it has to go on".into(),
        ..Default::default()
    };
    let wish = plans::Wish::of("alice", what);
    assert!(world.engine.make_plan(&wish).is_ok());
    // Somebody else is heard: it is tried again.
    world.engine.nodes.get_mut(&"n3".into()).unwrap().report.as_mut().unwrap().member.incarnation =
        "b".into();
    assert!(world.engine.candidates(Some(&"n1".into())).iter().any(|c| c.eligible));
}

/// Two of three nodes had crashed three times each, and the guard against that kept the cluster
/// down.
#[test]
fn where_nobody_else_is_left_the_one_that_fell_least_often_is_taken() {
    let mut world = World::calm(Strategy::Automatic);
    let fell = |world: &mut World, node: &str, times: i64| {
        for n in 0..times {
            let fallen = Fallen { at: WallTime(1 + n), node: node.into() };
            world.engine.durable.fallen.push(fallen);
        }
    };
    fell(&mut world, "n2", 4);
    let target = |world: &World| world.sent.first().map(|(node, _)| node.as_str().to_owned());
    let mut other = World::calm(Strategy::Automatic);
    fell(&mut other, "n2", 4);
    fail(&mut other);
    assert_eq!(target(&other).as_deref(), Some("n3"), "there is another");
    fell(&mut world, "n3", 3);
    fail(&mut world);
    assert_eq!(target(&world).as_deref(), Some("n3"), "{}", world.engine.refusal());
}

/// After the plane had stood still for two seconds: "failed → healthy · every node is healthy",
/// about a node that nobody had heard.
#[test]
fn a_stall_of_the_plane_makes_nobody_healthy() {
    let mut world = World::calm(Strategy::Automatic);
    let verdict = |world: &World| world.engine.nodes[&"n3".into()].verdict;
    let others = |world: &mut World| {
        for node in ["n1", "n2"] {
            world.hear(report(node));
        }
    };
    while verdict(&world) == Verdict::Healthy {
        others(&mut world);
        world.pass(50);
    }
    let before = verdict(&world);
    assert!(before >= Verdict::Suspect);
    world.now = world.now + Span::millis(1_500);
    // What it said before it died lay in this plane's own queue.
    world.hear(report("n3"));
    for _ in 0..10 {
        others(&mut world);
        world.pass(50);
        assert!(verdict(&world) >= before, "{:?}", world.engine.nodes[&"n3".into()].why);
        assert_ne!(world.engine.view().state, ClusterState::Healthy, "{}", world.engine.view().why);
    }
    assert_eq!(world.orders(), [""; 0], "and nothing moves on what was known before");
    world.hear(report("n3"));
    world.pass(100);
    assert_eq!(verdict(&world), Verdict::Healthy);
}

/// Everything was dead, and the plane went by the last words: "DEGRADED node-1 takes writes, votes 3
/// of 3".
#[test]
fn a_cluster_that_nobody_hears_is_not_said_to_take_writes() {
    let mut world = World::calm(Strategy::Manual);
    world.pass(60_000);
    let view = world.engine.view();
    assert_eq!(view.state, ClusterState::Unknown, "{}", view.why);
    assert!(view.why.contains("is not known"), "{}", view.why);
    assert_eq!((view.primary.clone(), view.votes), (None, 0));
    assert!(view.phase.ways_out.iter().any(|w| w.text.contains("start the host")));
}

/// "policy ✗: 2 min 30 s against 1 min 00 s" after a clean failover of 0.6 s: the rest was a person
/// reading.
#[test]
fn the_policy_judges_what_the_machine_took_and_not_how_long_a_person_read() {
    let mut world = World::calm(Strategy::Manual);
    fail(&mut world);
    for _ in 0..700 {
        fail(&mut world);
        world.pass(100);
    }
    let plan = world.engine.snapshot().pending.clone().unwrap().plan;
    let begun = world.now;
    let mut making = Making::new(world.now, WallTime(0), "test");
    world.engine.begin(&mut making, plan.clone(), vec![], None);
    drop(world.engine.finish(making));
    world.pass(600);
    let run = world.engine.durable.run.take().unwrap();
    let times = world.engine.times(&run);
    assert_eq!(times.act, world.now.since(begun));
    assert!(times.decide > Span::secs(69) && times.detect < Span::secs(1), "{times}");
    let mut report = report("n2");
    report.holding =
        super::tests::report("n1").holding.map(|h| HoldingFacts { epoch: Epoch(3), ..h });
    let mut making = Making::new(world.now, WallTime(0), "test");
    let decided = world.engine.nodes.get_mut(&"n2".into()).unwrap();
    decided.report = Some(report);
    world.engine.conclude(&mut making, run);
    let last = world.engine.snapshot().last_run.clone().unwrap();
    let policy = last.verification.iter().find(|(name, ..)| name == "policy").unwrap();
    assert!(policy.1, "{policy:?}");
    assert!(last.rto.unwrap() > Span::secs(69), "the outage is told as it was");
}

/// A host that is to be stopped: only where the others are enough without it.
#[test]
fn a_node_is_drained_only_where_the_others_are_enough() {
    let mut world = World::calm(Strategy::Automatic);
    let why = |world: &World, node: &str| world.engine.would_drain(&node.into(), true).unwrap_err();
    assert_eq!(why(&world, "n1").0, "role");
    assert_eq!(why(&world, "n9").0, "cluster file");
    let drain = |world: &mut World, node: &str, reason: Option<&str>| {
        let order = PersonOrder::Drain { node: node.into(), reason: reason.map(Into::into) };
        world.input(Input::Person { who: "alice".into(), order });
    };
    drain(&mut world, "n3", Some("a new kernel"));
    assert_eq!(world.rules.last(), Some(&rules::DRAINED));
    let view = world.engine.view();
    let drained = view.nodes.iter().find(|n| n.node.as_str() == "n3").unwrap();
    assert!(drained.why.contains("drained by alice") && drained.why.contains("a new kernel"));
    let table = world.engine.candidates(Some(&"n1".into()));
    let check = |node: &str| {
        let candidate = table.iter().find(|c| c.node.as_str() == node).unwrap();
        candidate.checks.iter().any(|k| k.name == "drained" && !k.passed)
    };
    assert!(check("n3") && !check("n2"));
    // With both away nobody could vote with the primary.
    assert_eq!(why(&world, "n2").0, "quorum");
    drain(&mut world, "n3", None);
    assert_eq!(world.rules.last(), Some(&rules::UNDRAINED));
    assert!(world.engine.would_drain(&"n2".into(), true).is_ok());
    assert_eq!(world.engine.would_drain(&"n3".into(), false).unwrap_err().0, "drained");
}
