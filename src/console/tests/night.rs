//! One night as data: at 03:12 `pay-ledger` fails over by itself, `orders-eu` needs a person,
//! `ledger-us` has a plan that waits. The same names and numbers as in the drawings.

use crate::audit;
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::observation::{
    HoldingFacts, NodeReport, Pids, ResourceFacts, ResourceState, VoteFacts,
};
use crate::model::outlook::{Answer, Death, ForecastView, IfDied, Next, Outlook, Then};
use crate::model::plan::{Candidate, Check, Plan, PlanKind, Proposal, Step, StepKind};
use crate::model::record::{ChainVerdict, ChainedRecord, Record};
use crate::model::topology::{Role, Strategy};
use crate::model::view::{
    Act, ClusterState, ClusterView, HealthPart, HealthView, LayerView, Maker, NodeView, Outcome,
    Owner, Phase, PhaseView, RunView, StepState, StepView, Verdict, WayOut,
};
use crate::model::{
    Digest, Epoch, Lsn, Member, NodeId, Position, Span, SyncSet, Timestamp, WallTime,
};

/// 2026-11-26 03:12:49Z.
pub(super) const NOW: WallTime = WallTime(1_795_662_769_000);

fn wall(seconds_ago: i64) -> WallTime {
    WallTime(NOW.0 - seconds_ago * 1_000)
}

type Fact = (i64, u16, &'static str, &'static str, &'static str);

fn record(cluster: &str, number: u64, previous: &str, fact: Fact) -> ChainedRecord {
    let (ago, rule, actor, kind, text) = fact;
    audit::seal(
        number,
        previous,
        Record {
            cluster: cluster.into(),
            at: Timestamp(number),
            wall: wall(ago),
            epoch: Epoch(41),
            rule,
            actor: actor.into(),
            kind: kind.into(),
            text: text.into(),
            data: serde_json::json!({"n": number, "why": "as measured"}),
        },
    )
}

fn records(cluster: &str, first: u64, facts: &[Fact]) -> Vec<ChainedRecord> {
    let mut previous = audit::GENESIS.to_owned();
    let mut all = vec![];
    for (number, fact) in (first..).zip(facts) {
        let sealed = record(cluster, number, &previous, *fact);
        previous.clone_from(&sealed.hash);
        all.push(sealed);
    }
    all
}

fn check(name: &'static str, passed: bool, value: &'static str, limit: &'static str) -> Check {
    Check {
        name: name.into(),
        passed,
        value: value.into(),
        limit: limit.into(),
        source: "report".into(),
        age: None,
        would_change: "".into(),
    }
}

fn until(mut check: Check, would_change: &'static str) -> Check {
    check.would_change = would_change.into();
    check
}

fn health() -> HealthView {
    let layer = |name: &str, p50, p99, limit| LayerView {
        name: name.into(),
        p50: Span::millis(p50),
        p95: Span::millis(p50 * 2),
        p99: Span::millis(p99),
        limit: Span::millis(limit),
    };
    HealthView {
        score: 970,
        parts: vec![HealthPart { name: "checks".into(), milli: 980 }],
        layers: vec![
            layer("live", 1, 4, 250),
            layer("ready", 3, 11, 1_000),
            layer("deep", 41, 1_400, 2_000),
        ],
    }
}

pub(super) fn node(name: &str, role: Role, place: &str) -> NodeView {
    let lags: Vec<Option<u64>> =
        [0, 0, 4_096, 0, 0, 98_304, 65_536, 0, 0, 98_304].iter().map(|n| Some(*n)).collect();
    let secondary = role == Role::Secondary;
    NodeView {
        node: name.into(),
        declared: role,
        role,
        place: place.into(),
        verdict: Verdict::Healthy,
        why: String::new(),
        phi_milli: 120,
        heartbeat_age: Some(Span::millis(200)),
        votes: vec![],
        closed: vec![],
        report: Some(report(name, role)),
        lag_bytes: secondary.then_some(98_304),
        replay_lag_bytes: secondary.then_some(98_304),
        lag: secondary.then_some(Span::millis(20)),
        lag_history: if secondary { lags } else { vec![] },
        interval: Some(Span::millis(500)),
        health: Some(health()),
        share: None,
        capacity: None,
        drained: None,
    }
}

fn report(name: &str, role: Role) -> NodeReport {
    let state = match role {
        Role::Primary => ResourceState::Primary,
        Role::Secondary => ResourceState::Standby,
        Role::Witness => ResourceState::None,
    };
    NodeReport {
        member: Member::new(name, "9c41"),
        process: 1,
        sequence: 7,
        sent: NOW,
        pids: Pids { agent: 4_711, guard: Some(4_712), postmaster: Some(4_713) },
        vote: VoteFacts { epoch: Epoch(41), voters: 5, votes: true, ..VoteFacts::default() },
        holding: None,
        resource: ResourceFacts {
            kind: "postgres".into(),
            version: "PostgreSQL 16.4".into(),
            state,
            position: Position { timeline: 41, lsn: Lsn(0x7_3A01_F2C8) },
            sessions: 212,
            disk_free: 290 << 30,
            disk_total: 1_000 << 30,
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

fn seen(nodes: &mut [NodeView]) {
    let names: Vec<NodeId> = nodes.iter().map(|n| n.node.clone()).collect();
    for node in nodes {
        let fine = node.verdict != Verdict::Failed;
        node.votes = names.iter().filter(|n| **n != node.node).map(|n| (n.clone(), fine)).collect();
    }
}

fn way(act: Act, text: &str, loss: Option<LossAccount>) -> WayOut {
    WayOut { act, text: text.into(), loss, needs: String::new() }
}

fn proved() -> LossAccount {
    LossAccount::None {
        proof: "both synchronous members hold 7/39FFFFD8".into(),
        by: vec!["pg-dub-2".into(), "pg-fra-1".into()],
        excluded: vec![],
    }
}

fn forecast() -> ForecastView {
    ForecastView {
        made: NOW,
        runs: 1_040,
        outage_p50: Span::millis(9_200),
        outage_p95: Span::millis(11_000),
        outage_p99: Span::millis(12_800),
        outage_max: Span::millis(14_000),
        host_p50: Span::millis(9_900),
        host_p95: Span::millis(12_000),
        host_p99: Span::millis(13_000),
        losing: 0,
        lost_max: 0,
        read_only: 0,
        host_read_only: 0,
        worst_seed: 7,
    }
}

fn candidate(node: &str, rank: u32, failed: Option<Check>) -> Candidate {
    let mut checks = vec![
        check("heard", true, "0.1 s ago", "2 s"),
        check("data", true, "holds data", "yes"),
        check("lag", true, "0 B", "16 MiB"),
    ];
    checks.extend(failed.clone());
    Candidate { node: node.into(), eligible: failed.is_none(), rank, checks }
}

/// `pay-ledger`, all well.
pub(super) fn pay_ledger() -> ClusterView {
    let mut nodes = vec![
        node("pg-dub-1", Role::Primary, "eu-west/dub-a"),
        node("pg-dub-2", Role::Secondary, "eu-west/dub-b"),
        node("pg-fra-1", Role::Secondary, "eu-central/fra-a"),
        node("pg-fra-2", Role::Secondary, "eu-central/fra-b"),
        node("w-ams-1", Role::Witness, "eu-west/ams-a"),
    ];
    seen(&mut nodes);
    let voters: Vec<NodeId> = nodes.iter().map(|n| n.node.clone()).collect();
    if let Some(report) = &mut nodes[0].report {
        report.holding = Some(HoldingFacts {
            epoch: Epoch(41),
            left: Span::millis(4_300),
            promised_by: voters,
            sync: SyncSet {
                members: [Member::new("pg-dub-2", "9c41"), Member::new("pg-fra-1", "9c41")]
                    .into_iter()
                    .collect(),
                k: 1,
            },
            doubt: crate::model::loss::Doubt::default(),
        });
    }
    ClusterView {
        cluster: "pay-ledger".into(),
        name: "pay-ledger".into(),
        environment: "PROD".into(),
        simulated: false,
        source: Maker::Plane,
        made: NOW,
        state: ClusterState::Healthy,
        why: "every node is healthy and commits are confirmed as configured".into(),
        phase: PhaseView {
            phase: Phase::Steady,
            owner: Owner::Nobody,
            age: Span::secs(11 * 86_400),
            ..PhaseView::default()
        },
        epoch: Epoch(41),
        primary: Some("pg-dub-1".into()),
        last_primary: Some("pg-dub-1".into()),
        votes: 5,
        voters: 5,
        quorum: 3,
        strategy: Some(Strategy::Automatic),
        rpo_bytes: 16 << 20,
        rto: Span::secs(30),
        nodes,
        plan: None,
        run: None,
        outlook: Outlook {
            next: Next::Nothing,
            if_primary_died: IfDied::Judged(Box::new(Death {
                node: "pg-dub-1".into(),
                failed: false,
                then: Then::Promotes {
                    to: "pg-dub-2".into(),
                    asks: false,
                    held_up: String::new(),
                    loss: proved(),
                    measured: None,
                    bound: Span::millis(11_500),
                },
                fatal_host: None,
            })),
            candidates: vec![
                candidate("pg-dub-2", 1, None),
                candidate("pg-fra-1", 2, None),
                candidate("pg-fra-2", 3, None),
            ],
            answer: Answer::Well {
                primary: "pg-dub-1".into(),
                verdict: Verdict::Healthy,
                ready: 3,
            },
            plan_news: String::new(),
            stuck: false,
            constraints: vec![
                check("strategy", true, "automatic", "–"),
                check("cooldown", true, "none runs", "600 s"),
                check("quorum", true, "5 of 5 in reach", "3"),
            ],
            forecast: Some(forecast()),
        },
        records: records(
            "pay-ledger",
            1_204_768,
            &[
                (
                    1_908,
                    102,
                    "plane-1",
                    "verdict",
                    "pg-fra-2: healthy → degraded: receives from nobody",
                ),
                (1_903, 102, "plane-1", "verdict", "pg-fra-2: degraded → healthy"),
                (
                    471,
                    404,
                    "plane-1",
                    "verification",
                    "verification by plan-check: held, write read back in 31 ms",
                ),
            ],
        ),
        record_count: 1_204_771,
        chain: ChainVerdict::Verified { to: 1_204_771 },
    }
}

fn step(
    kind: StepKind,
    node: &str,
    state: StepState,
    took: Option<u64>,
    budget: u64,
    found: &str,
) -> StepView {
    StepView {
        kind,
        node: node.into(),
        action: match kind {
            StepKind::Arm => "give it the signed plan".into(),
            StepKind::Fence => "its lease runs out at the voters".into(),
            StepKind::Claim => "win epoch 42 from 3 of 5 voters".into(),
            StepKind::Promote => "load the synchronous set, open timeline 42".into(),
            StepKind::Follow => "3 nodes follow pg-dub-2".into(),
            _ => "commit a real write and read it back".into(),
        },
        state,
        took: took.map(Span::millis),
        budget: Span::secs(budget),
        found: found.into(),
    }
}

/// The failover's plan.
pub(super) fn failover() -> Plan {
    let of = |kind, node: &str, action: &str, budget| Step {
        kind,
        node: node.into(),
        action: action.into(),
        precondition: String::new(),
        verification: "its voter says so".into(),
        compensation: "nothing has to be undone".into(),
        budget: Span::secs(budget),
    };
    Plan {
        number: 7,
        cluster: "pay-ledger".into(),
        kind: PlanKind::Failover,
        epoch: Epoch(41),
        from: Some(Member::new("pg-dub-1", "9c41")),
        to: Member::new("pg-dub-2", "9c41"),
        made: wall(3),
        requested_by: "policy pay".into(),
        reason: "pg-dub-1 failed".into(),
        least_fence: FenceRung::SyncFenced,
        loss: proved(),
        max_loss_bytes: 0,
        accept_unknown_loss: false,
        budget: Span::secs(60),
        steps: vec![
            of(StepKind::Arm, "pg-dub-2", "give it the signed plan", 3),
            of(StepKind::Fence, "pg-dub-1", "its lease runs out at the voters", 30),
            of(StepKind::Claim, "pg-dub-2", "win epoch 42 from 3 of 5 voters", 15),
            of(StepKind::Promote, "pg-dub-2", "load the synchronous set, open timeline 42", 30),
            of(StepKind::Follow, "pg-fra-1", "3 nodes follow pg-dub-2", 30),
            of(StepKind::Verify, "pg-dub-2", "commit a real write and read it back", 15),
        ],
        candidates: vec![candidate("pg-dub-2", 1, None)],
        constraints: vec![check("strategy", true, "automatic", "–")],
        blast_radius: vec!["1,204 sessions end and connect again".into()],
        way_back: "the same move to pg-dub-1, ready 4 s after".into(),
        transfers: vec![],
        shares: vec![],
        shed: 0,
        conflicts: None,
    }
}

/// `pay-ledger` while it fails over: the candidate claims.
pub(super) fn failing_over() -> ClusterView {
    let mut view = pay_ledger();
    let plan = failover();
    view.state = ClusterState::Critical;
    view.why = "pg-dub-1 failed: it takes writes no longer than its lease lasts".into();
    view.primary = None;
    view.votes = 0;
    let dead = &mut view.nodes[0];
    dead.role = Role::Secondary;
    dead.verdict = Verdict::Failed;
    dead.why = "silent for 9.8 s; 4 of 4 observers do not see it".into();
    dead.heartbeat_age = Some(Span::millis(9_800));
    dead.phi_milli = 100_000;
    dead.lag_bytes = None;
    if let Some(report) = &mut dead.report {
        report.holding = None;
    }
    seen(&mut view.nodes);
    for i in [1, 4] {
        if let Some(report) = &mut view.nodes[i].report {
            report.vote.epoch = Epoch(42);
            report.vote.holder = Some(plan.to.clone());
        }
    }
    view.phase = PhaseView {
        phase: Phase::Claiming,
        owner: Owner::Node("pg-dub-2".into()),
        age: Span::millis(3_800),
        deadline: Some(Span::millis(11_200)),
        at_deadline: "the plan stops and a person decides".into(),
        ways_out: vec![way(
            Act::Wait,
            "the run goes on by itself; if the candidate gives up, the next best is tried",
            None,
        )],
    };
    view.run = Some(RunView {
        plan: Digest::new("7c1e09ab".repeat(8)),
        body: plan,
        steps: vec![
            step(StepKind::Arm, "pg-dub-2", StepState::Done, Some(3), 3, "the plan is held"),
            step(
                StepKind::Fence,
                "pg-dub-1",
                StepState::Done,
                Some(100),
                30,
                "its lease has run out",
            ),
            step(
                StepKind::Claim,
                "pg-dub-2",
                StepState::Running,
                Some(3_800),
                15,
                "2 of 5 voters granted",
            ),
            step(StepKind::Promote, "pg-dub-2", StepState::Waiting, None, 30, ""),
            step(StepKind::Follow, "pg-fra-1", StepState::Waiting, None, 30, ""),
            step(StepKind::Verify, "pg-dub-2", StepState::Waiting, None, 15, ""),
        ],
        age: Span::millis(3_900),
        outcome: None,
        times: None,
        rto: None,
        rpo: None,
        fence: None,
        verification: vec![],
        confidence: 0,
    });
    view.outlook.next = Next::Runs;
    view.records = records(
        "pay-ledger",
        1_204_804,
        &[
            (3, 302, "quorum", "verdict", "quorum: pg-dub-1 failed, 4 of 4 do not see it"),
            (3, 310, "policy", "plan", "plan 7c1e09ab is made and the policy allows it"),
            (0, 402, "plane-1", "command", "pg-dub-2 is ordered to claim epoch 42"),
        ],
    );
    view.record_count = 1_204_806;
    view
}

/// `pay-ledger` afterwards.
pub(super) fn verified() -> ClusterView {
    let mut view = failing_over();
    view.state = ClusterState::Degraded;
    view.why = "pg-dub-1 failed".into();
    view.primary = Some("pg-dub-2".into());
    view.epoch = Epoch(42);
    view.votes = 4;
    view.nodes[1].role = Role::Primary;
    view.nodes[1].lag_bytes = None;
    view.nodes[1].lag_history.clear();
    if let Some(report) = &mut view.nodes[1].report {
        report.resource.state = ResourceState::Primary;
    }
    view.phase = PhaseView {
        phase: Phase::Stabilising,
        owner: Owner::Plane,
        age: Span::secs(4),
        deadline: Some(Span::secs(26)),
        at_deadline: "back to steady if the role is held".into(),
        ways_out: vec![],
    };
    if let Some(run) = &mut view.run {
        run.outcome = Some(Outcome::Verified);
        run.rto = Some(Span::millis(15_900));
        run.rpo = Some(run.body.loss.clone());
        run.fence = Some(FenceRung::SyncFenced);
        run.confidence = 97;
        run.verification = vec![
            ("write".into(), true, "committed and read back in 31 ms".into()),
            ("quorum".into(), true, "4 of 5 voters promise".into()),
            ("timeline".into(), true, "42".into()),
        ];
        for step in &mut run.steps {
            step.state = StepState::Done;
            step.took = step.took.or(Some(Span::millis(900)));
        }
    }
    view
}

/// `orders-eu`: nobody may write, and the policy tolerates no unknown loss.
pub(super) fn orders_eu() -> ClusterView {
    let mut view = pay_ledger();
    view.cluster = "orders-eu".into();
    view.name = "orders-eu".into();
    let mut nodes = vec![
        node("ord-fra-1", Role::Secondary, "eu-central/fra-a"),
        node("ord-dub-1", Role::Secondary, "eu-west/dub-a"),
        node("ord-fra-2", Role::Secondary, "eu-central/fra-b"),
        node("ord-ams-1", Role::Secondary, "eu-west/ams-a"),
        node("w-ams-2", Role::Witness, "eu-west/ams-b"),
    ];
    for (i, age) in [(0, 378), (1, 482)] {
        nodes[i].verdict = Verdict::Failed;
        nodes[i].heartbeat_age = Some(Span::secs(age));
        nodes[i].phi_milli = 100_000;
    }
    nodes[0].why = "silent for 6 min 18 s; 3 of 3 observers do not see it".into();
    nodes[1].why = "silent for 8 min 02 s; 3 of 3 observers do not see it".into();
    for node in &mut nodes {
        node.lag_bytes = None;
    }
    seen(&mut nodes);
    view.nodes = nodes;
    view.state = ClusterState::Critical;
    view.why =
        "ord-fra-1 does not hold a confirmed lease: its database was stopped when last heard"
            .into();
    view.primary = None;
    view.votes = 3;
    view.phase = PhaseView {
        phase: Phase::NeedsPerson,
        owner: Owner::Person,
        age: Span::secs(378),
        deadline: None,
        at_deadline: String::new(),
        ways_out: vec![
            way(
                Act::Start { nodes: vec!["ord-fra-1".into(), "ord-dub-1".into()] },
                "start the host of ord-fra-1 or ord-dub-1: each holds what was acknowledged",
                None,
            ),
            way(
                Act::Propose(Proposal {
                    to: Some("ord-fra-2".into()),
                    accept_unknown_loss: true,
                    ..Proposal::default()
                }),
                "plan a failover to ord-fra-2 and accept that nobody can say what is lost",
                Some(LossAccount::Unknown { why: "ord-fra-1 cannot be asked".into() }),
            ),
        ],
    };
    let lost = until(check("loss", false, "unknown", "0 B"), "ord-fra-1 or ord-dub-1 is heard");
    let why = "the loss would be unknown and the policy tolerates 0 B".to_owned();
    view.outlook = Outlook {
        next: Next::Sought { every: Span::secs(10), why: why.clone() },
        if_primary_died: IfDied::Judged(Box::new(Death {
            node: "ord-fra-1".into(),
            failed: true,
            then: Then::NobodyEligible {
                failing: vec![
                    ("ord-fra-2".into(), vec!["loss".into()]),
                    ("ord-ams-1".into(), vec!["loss".into()]),
                    ("ord-dub-1".into(), vec!["heard".into()]),
                ],
            },
            fatal_host: None,
        })),
        candidates: vec![
            candidate("ord-fra-2", 0, Some(lost.clone())),
            candidate("ord-ams-1", 0, Some(lost.clone())),
            candidate(
                "ord-dub-1",
                0,
                Some(until(check("heard", false, "8 min 02 s ago", "2 s"), "its agent answers")),
            ),
        ],
        answer: Answer::Refused { primary: "ord-fra-1".into(), why },
        plan_news: String::new(),
        stuck: false,
        constraints: vec![lost, check("quorum", true, "3 of 5 in reach", "3")],
        forecast: None,
    };
    view.records = records(
        "orders-eu",
        37,
        &[
            (378, 302, "quorum", "verdict", "quorum: ord-fra-1 failed, 3 of 3 do not see it"),
            (369, 312, "plane-1", "refusal", "nothing is done: the loss would be unknown"),
            (20, 312, "plane-1", "refusal", "nothing is done: the loss would be unknown"),
            (10, 312, "plane-1", "refusal", "nothing is done: the loss would be unknown"),
        ],
    );
    view.record_count = 40;
    view
}

/// `ledger-us`: all well, and a switchover waits for a person.
pub(super) fn ledger_us() -> ClusterView {
    let mut view = pay_ledger();
    view.cluster = "ledger-us".into();
    view.name = "ledger-us".into();
    let rename = |text: &str| {
        text.replace("pay-ledger", "ledger-us")
            .replace("pg-dub-1", "pg-iad-1")
            .replace("pg-dub-2", "pg-iad-2")
            .replace("pg-fra-1", "pg-pdx-1")
            .replace("pg-fra-2", "pg-lhr-1")
    };
    let text = rename(&serde_json::to_string(&view).unwrap_or_default());
    view = serde_json::from_str(&text).expect("the same with other names");
    let text = rename(&serde_json::to_string(&failover()).unwrap_or_default());
    let mut plan: Plan = serde_json::from_str(&text).expect("the same with other names");
    plan.kind = PlanKind::Switchover;
    plan.cluster = "ledger-us".into();
    plan.requested_by = "oncall-ab".into();
    plan.reason = "kernel update of pg-iad-1, CHG-4471".into();
    view.phase = PhaseView {
        phase: Phase::AwaitingApproval,
        owner: Owner::Person,
        age: Span::secs(439),
        deadline: Some(Span::secs(161)),
        at_deadline: "the plan is dropped".into(),
        ways_out: vec![
            way(
                Act::Execute { plan: plan.digest(), demoted: "pg-iad-1".into() },
                "execute the plan that waits: switchover pg-iad-1 → pg-iad-2",
                Some(plan.loss.clone()),
            ),
            way(Act::Dismiss { plan: plan.digest() }, "drop the plan that waits", None),
        ],
    };
    view.outlook.next = Next::Waits { by_itself: true, left: Some(Span::secs(161)) };
    view.plan = Some(plan);
    view
}
