//! What the policy says about any move: each constraint a named check with its measured value, its
//! limit, where that comes from, how old it is, and what would change it.

use std::collections::BTreeMap;

use super::{Engine, Fallen};
use crate::model::constraints::{Promotion, Resides};
use crate::model::plan::{Check, PlanKind, Word};
use crate::model::topology::{Node, Strategy};
use crate::model::view::Verdict;
use crate::model::{Member, NodeId, Span, WallTime};

/// The check of a node that failed again and again as primary.
pub(super) const CRASH_LOOP: &str = "crash loop";
/// An hour, in milliseconds.
const HOUR_MS: i64 = 3_600_000;

/// A check, with the parts that most have in common.
pub(super) fn check(
    name: &'static str,
    passed: bool,
    value: impl Into<Word>,
    limit: impl Into<Word>,
    would_change: impl Into<Word>,
) -> Check {
    Check {
        name: name.into(),
        passed,
        value: value.into(),
        limit: limit.into(),
        source: "policy".into(),
        age: None,
        would_change: if passed { Word::default() } else { would_change.into() },
    }
}

fn ago(now: WallTime, then: WallTime) -> Span {
    Span::millis(u64::try_from(now.0 - then.0).unwrap_or(0))
}

impl Engine {
    /// The constraints on a move away from `from`. `by_itself`: no person ordered it.
    pub(super) fn constraints(&self, from: &Member, kind: PlanKind, by_itself: bool) -> Vec<Check> {
        let mut checks = vec![self.quorum_check()];
        if kind.is_planned() && !self.policy.constraints.windows.is_empty() {
            checks.push(self.window_check());
        }
        if !by_itself {
            return checks;
        }
        let strategy = self.policy.strategy;
        checks.push(check(
            "strategy",
            strategy != Strategy::Manual,
            strategy.word(),
            "automatic or quorum_based",
            "a person executes a plan, or the policy's strategy changes",
        ));
        checks.push(self.automation_check());
        checks.push(self.fleet_check());
        checks.push(self.min_healthy_check(&from.node));
        checks.push(self.cooldown_check(&from.node));
        checks.push(self.rate_check());
        checks.push(self.incumbent_check(from));
        checks
    }

    fn quorum_check(&self) -> Check {
        let reachable = self.reachable_voters();
        let age = self
            .nodes
            .values()
            .filter_map(|m| m.age(self.now))
            .filter(|a| *a < Span::secs(2))
            .max();
        let mut check = check(
            "quorum",
            reachable >= self.quorum(),
            if self.shares_traffic() {
                format!("{reachable} of {} agents are in reach", self.nodes.len())
            } else {
                format!("{reachable} of {} voters are in reach", self.voters())
            },
            format!(
                "{} to {}",
                self.quorum(),
                if self.shares_traffic() { "set shares" } else { "win an epoch" }
            ),
            "bring a voter back",
        );
        check.source = "reports".into();
        check.age = age;
        check
    }

    fn window_check(&self) -> Check {
        let windows = &self.policy.constraints.windows;
        let words: Vec<String> =
            windows.iter().map(crate::model::constraints::Window::words).collect();
        check(
            "maintenance window",
            windows.iter().any(|w| w.contains(self.wall)),
            self.wall.rfc3339(),
            words.join("; "),
            "wait for the window, or change the policy",
        )
    }

    fn automation_check(&self) -> Check {
        match &self.policy.constraints.automation_off {
            Some(off) if off.until > self.wall => check(
                "automation",
                false,
                format!("off: {} ({})", off.reason, off.owner),
                "on",
                format!(
                    "it is over at {}, or {} takes it out of the policy",
                    off.until.rfc3339(),
                    off.owner
                ),
            ),
            _ => check("automation", true, "on", "on", ""),
        }
    }

    fn fleet_check(&self) -> Check {
        let mut check = check(
            "fleet",
            self.fleet_pause.as_deref().is_none_or(str::is_empty),
            match self.fleet_pause.as_deref() {
                None => "not judged: this plane watches one cluster".into(),
                Some("") => "no sign that this observer is the one cut off".into(),
                Some(why) => why.to_owned(),
            },
            "fewer suspicions at once",
            "the others are heard again, or a person executes a plan",
        );
        check.source = "fleet".into();
        check
    }

    fn min_healthy_check(&self, from: &NodeId) -> Check {
        let well = self
            .nodes
            .iter()
            .filter(|(n, m)| {
                *n != from && matches!(m.verdict, Verdict::Healthy | Verdict::Degraded)
            })
            .count();
        let least = self.policy.min_healthy_nodes.min(self.cluster.nodes.len() - 1);
        let mut check = check(
            "min_healthy_nodes",
            well >= least,
            format!("{well} besides {from} are well"),
            least.to_string(),
            "a node recovers",
        );
        check.source = "verdicts".into();
        check
    }

    /// Moves that the plane made by itself and that nobody acknowledged.
    fn own_moves(&self, from: Option<&NodeId>) -> impl Iterator<Item = WallTime> {
        let acknowledged = self.durable.acknowledged;
        let counts = move |m: &&super::Moved| {
            m.by_itself && m.at > acknowledged && (from.is_none() || m.from.as_ref() == from)
        };
        self.durable.moves.iter().filter(counts).map(|m| m.at)
    }

    /// Where several nodes accept writes, one node's failure says nothing of another's.
    fn cooldown_check(&self, from: &NodeId) -> Check {
        let cooldown = self.policy.constraints.cooldown;
        let last = self
            .own_moves(self.shares_traffic().then_some(from))
            .max()
            .map(|at| ago(self.wall, at));
        check(
            "cooldown",
            last.is_none_or(|age| age >= cooldown),
            last.map_or("no move by itself yet".into(), |age| {
                format!("the last move by itself was {age} ago")
            }),
            cooldown.to_string(),
            "the cooldown passes, or a person acknowledges the last move",
        )
    }

    fn rate_check(&self) -> Check {
        let limit = self.policy.constraints.max_failovers_per_hour;
        let count = self.own_moves(None).filter(|at| self.wall.0 - at.0 < HOUR_MS).count();
        check(
            "max_failovers_per_hour",
            count < usize::try_from(limit).unwrap_or(usize::MAX),
            format!("{count} within the last hour"),
            format!("fewer than {limit}"),
            "the hour passes, or a person acknowledges the moves",
        )
    }

    /// After its own outage the plane gives the last holder a moment: its agent may be taking the
    /// role back already.
    fn incumbent_check(&self, from: &Member) -> Check {
        let wait = self.policy.constraints.incumbent_wait;
        let up = self.now.since(self.started);
        let mind = &self.nodes[&from.node];
        let tries = mind
            .report
            .as_ref()
            .is_some_and(|r| r.member == *from && r.resource.disk_total > 0 || r.holding.is_some());
        let present = mind.age(self.now).is_some_and(|a| a < Span::secs(2)) && tries;
        let waits = self.durable.restarted && up < wait && present && !self.started_calm;
        check(
            "incumbent",
            !waits,
            if waits {
                format!("{} is there, and this plane started {up} ago", from.node)
            } else {
                "no reason to wait for it".into()
            },
            format!("after {wait}"),
            "it takes its role back, or the time passes",
        )
    }

    /// The newest voter set that a majority of its own members reports now; without one the newest
    /// that is reported.
    pub(super) fn voter_set(&self) -> (u64, usize) {
        let fresh = |m: &&super::mind::NodeMind| m.age(self.now).is_some_and(|a| a < Span::secs(2));
        // Whoever keeps a set from before an override was removed by it, however many they are and
        // whoever hears them.
        let overrides = |version: u64| crate::model::VoterSet::overrides_of(version);
        let reports = || self.nodes.values().filter_map(|m| m.report.as_ref());
        let newest = reports().map(|r| overrides(r.vote.voters_version)).max().unwrap_or(0);
        let counts = |v: &&crate::model::observation::VoteFacts| {
            v.voters > 0 && overrides(v.voters_version) == newest
        };
        let sets = self
            .nodes
            .values()
            .filter(fresh)
            .filter_map(|m| m.report.as_ref())
            .map(|r| &r.vote)
            .filter(counts);
        // version → how many voters it has, and how many of them report it
        let mut versions: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        for vote in sets {
            let (voters, backed) = versions.entry(vote.voters_version).or_default();
            *voters = vote.voters;
            *backed += usize::from(vote.votes);
        }
        let in_force = versions.iter().rev().find(|(_, (voters, backed))| *backed > voters / 2);
        in_force
            .or_else(|| versions.last_key_value())
            .map_or((0, 0), |(version, (voters, _))| (*version, *voters))
    }

    /// How many vote; where nobody speaks, nobody says, and it is as declared.
    pub(super) fn voters(&self) -> usize {
        match self.voter_set().1 {
            0 => self.cluster.nodes.len(),
            voters => voters,
        }
    }

    /// Votes that win an epoch: as configured while every declared node votes, else the majority of
    /// those who do.
    pub(super) fn quorum(&self) -> usize {
        match self.voter_set() {
            _ if self.shares_traffic() => self.cluster.quorum_size,
            (_, 0) => self.cluster.quorum_size,
            (_, voters) if voters == self.cluster.nodes.len() => self.cluster.quorum_size,
            (_, voters) => voters / 2 + 1,
        }
    }

    /// Voters of the newest set that reported lately.
    pub(super) fn reachable_voters(&self) -> usize {
        if self.shares_traffic() {
            return self.nodes.keys().filter(|n| self.in_reach(n)).count();
        }
        let (version, _) = self.voter_set();
        let votes = |m: &super::mind::NodeMind| {
            m.report.as_ref().is_some_and(|r| r.vote.votes && r.vote.voters_version == version)
        };
        // One that has fallen silent may be the one whose failure this is about.
        let speaks = |m: &&super::mind::NodeMind| {
            m.age(self.now).is_some_and(|a| a < Span::secs(2))
                && m.detector.silence(self.now) <= super::detector::Silence::None
        };
        self.nodes.values().filter(|m| speaks(m) && votes(m)).count()
    }

    /// What the policy says of one node as a target.
    pub(super) fn promotion_rule(&self, node: &NodeId) -> Promotion {
        let rule = self
            .policy
            .constraints
            .promotion
            .get(node)
            .filter(|r| r.until.is_none_or(|until| until > self.wall));
        rule.map_or(Promotion::Neutral, |r| r.rule)
    }

    pub(super) fn promotion_check(&self, node: &NodeId) -> Check {
        let rule = self.policy.constraints.promotion.get(node);
        let word = self.promotion_rule(node);
        let value = match rule.filter(|r| !r.reason.is_empty()) {
            Some(rule) => format!("{} ({})", word.word(), rule.reason).into(),
            None => Word::Borrowed(word.word()),
        };
        let until = rule.and_then(|r| r.until).map_or(Word::Borrowed("the policy changes"), |u| {
            format!("it is over at {}", u.rfc3339()).into()
        });
        check("promotion rule", word != Promotion::MustNot, value, "not must_not", until)
    }

    /// Where the data may be; and under which exceptions, to be recorded with the move.
    pub(super) fn residency(&self, node: &Node) -> (Option<Check>, Vec<String>) {
        let mut transfers = vec![];
        let mut refused: Option<Check> = None;
        for class in &self.cluster.data_classes {
            match self.policy.constraints.residency.of(class, &node.region, self.wall) {
                Resides::Allowed => {}
                Resides::Under(e) => {
                    let version = if e.version.is_empty() {
                        String::new()
                    } else {
                        format!(" {}", e.version)
                    };
                    transfers.push(format!(
                        "{class} to {} under {}{version}, until {}",
                        e.to,
                        e.basis.words(),
                        e.until.rfc3339()
                    ));
                }
                Resides::Refused(allowed) => {
                    let change = format!(
                        "a transfer exception for {class} to {}, or another target",
                        node.region
                    );
                    refused = Some(check(
                        "residency",
                        false,
                        format!("{class} in {}", node.region),
                        format!("{class}: {}", allowed.join(", ")),
                        change,
                    ));
                }
            }
        }
        if self.cluster.data_classes.is_empty() {
            return (None, transfers);
        }
        let value = if transfers.is_empty() { node.region.clone() } else { transfers.join("; ") };
        let limit = self.cluster.data_classes.join(", ");
        (Some(refused.unwrap_or_else(|| check("residency", true, value, limit, ""))), transfers)
    }

    /// How often it failed as primary lately, and nobody acknowledged it.
    fn fell(&self, node: &NodeId) -> usize {
        let constraints = &self.policy.constraints;
        let since = |f: &&Fallen| {
            ago(self.wall, f.at) < constraints.crash_loop_within && f.at > self.durable.acknowledged
        };
        self.durable.fallen.iter().filter(|f| f.node == *node).filter(since).count()
    }

    fn crash_loop_limit(&self) -> usize {
        usize::try_from(self.policy.constraints.crash_loop_failures).unwrap_or(usize::MAX)
    }

    /// How often it failed, once that is too often; less is better where nobody else is left.
    pub(super) fn fell_too_often(&self, node: &NodeId) -> usize {
        Some(self.fell(node)).filter(|n| *n >= self.crash_loop_limit()).unwrap_or(0)
    }

    /// A node that failed again and again as primary is no target while there is another.
    pub(super) fn crash_loop_check(&self, node: &NodeId) -> Check {
        let constraints = &self.policy.constraints;
        let count = self.fell(node);
        let limit = self.crash_loop_limit();
        check(
            CRASH_LOOP,
            count < limit,
            format!("failed {count} times as primary within {}", constraints.crash_loop_within),
            format!("fewer than {limit}"),
            "the time passes, or a person acknowledges the failures",
        )
    }
}
