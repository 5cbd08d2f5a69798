//! What people forbid, limit and prefer: the parts of a policy that become named checks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{NodeId, Span, WallTime};

/// Everything beside strategy and detection. The defaults are those of a policy file that says
/// nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraints {
    /// Latency limits of the three health layers.
    pub health: HealthLimits,
    /// From which health score on what is done.
    pub decision: DecisionClasses,
    /// What is said of single nodes as targets.
    pub promotion: BTreeMap<NodeId, PromotionRule>,
    /// Nothing moves by itself, until that is over.
    pub automation_off: Option<AutomationOff>,
    /// When planned moves may happen; empty: always.
    pub windows: Vec<Window>,
    /// After a move nothing moves by itself for so long.
    pub cooldown: Span,
    /// Moves by the plane itself in any hour.
    pub max_failovers_per_hour: u32,
    /// A node that failed so often as primary …
    pub crash_loop_failures: u32,
    /// … within this is no target.
    pub crash_loop_within: Span,
    /// After its own outage the plane gives the last holder so long to take its role back.
    pub incumbent_wait: Span,
    /// A target has at least this much free disk, in bytes.
    pub disk_free_min: u64,
    /// The most advanced log before regions, sites and priorities.
    pub data_first: bool,
    /// Where which data may be.
    pub residency: Residency,
    /// When the role may go back.
    pub failback: Failback,
}

impl Default for Constraints {
    fn default() -> Self {
        Self {
            health: HealthLimits::default(),
            decision: DecisionClasses::default(),
            promotion: BTreeMap::new(),
            automation_off: None,
            windows: vec![],
            cooldown: Span::ZERO,
            max_failovers_per_hour: 12,
            crash_loop_failures: 3,
            crash_loop_within: Span::secs(600),
            incumbent_wait: Span::secs(10),
            disk_free_min: 64 << 20,
            data_first: false,
            residency: Residency::default(),
            failback: Failback::default(),
        }
    }
}

/// The longest each layer's check may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthLimits {
    /// The process answers.
    pub live: Span,
    /// It is ready in its role.
    pub ready: Span,
    /// It can write to its disk.
    pub deep: Span,
}

impl Default for HealthLimits {
    fn default() -> Self {
        Self { live: Span::millis(100), ready: Span::millis(200), deep: Span::millis(500) }
    }
}

/// Health scores in thousandths.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DecisionClasses {
    /// A primary below this is replaced at once.
    pub immediate_below: u64,
    /// A primary below this for a while hands its role over.
    pub graceful_below: u64,
    /// For so long.
    pub graceful_after: Span,
    /// A target has at least this; with none, a person decides.
    pub target_at_least: u64,
}

impl Default for DecisionClasses {
    fn default() -> Self {
        Self {
            immediate_below: 200,
            graceful_below: 500,
            graceful_after: Span::secs(10),
            target_at_least: 700,
        }
    }
}

/// What to do about a primary, by its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecisionClass {
    /// Replace it at once.
    Immediate,
    /// Hand over while it still works.
    Graceful,
    /// Nothing.
    None,
}

impl DecisionClasses {
    /// The class of a score.
    pub fn of(&self, score: u64) -> DecisionClass {
        match score {
            s if s < self.immediate_below => DecisionClass::Immediate,
            s if s < self.graceful_below => DecisionClass::Graceful,
            _ => DecisionClass::None,
        }
    }
}

/// Whether a node should become primary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Promotion {
    /// Before all others.
    Prefer,
    /// As its priorities say.
    Neutral,
    /// After all others.
    PreferNot,
    /// Never.
    MustNot,
}

impl Promotion {
    /// The word for files and screens.
    pub fn word(self) -> &'static str {
        match self {
            Promotion::Prefer => "prefer",
            Promotion::Neutral => "neutral",
            Promotion::PreferNot => "prefer_not",
            Promotion::MustNot => "must_not",
        }
    }
}

/// What is said of a node as target, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromotionRule {
    /// What.
    pub rule: Promotion,
    /// After this it is neutral again; `None`: until the file changes.
    pub until: Option<WallTime>,
    /// Why.
    pub reason: String,
}

/// Automatic moves are switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutomationOff {
    /// By whom.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when: there is no "for ever".
    pub until: WallTime,
}

/// A weekly time in which planned moves may happen, in UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days, Monday is 0.
    pub days: Vec<u8>,
    /// Begins at this minute of the day.
    pub from: u16,
    /// Ends at this minute; before `from` it is on the next day.
    pub to: u16,
}

const MINUTES_A_DAY: i64 = 1_440;

impl Window {
    /// Whether `now` lies in it.
    pub fn contains(&self, now: WallTime) -> bool {
        let minutes = now.0.div_euclid(60_000);
        // Day 0 of the epoch was a Thursday.
        let day = (minutes.div_euclid(MINUTES_A_DAY) + 3).rem_euclid(7);
        let minute = minutes.rem_euclid(MINUTES_A_DAY);
        let on = |day: i64| self.days.iter().any(|d| i64::from(*d) == day);
        let (from, to) = (i64::from(self.from), i64::from(self.to));
        if from < to {
            on(day) && (from..to).contains(&minute)
        } else {
            (on(day) && minute >= from) || (on((day + 6) % 7) && minute < to)
        }
    }
    /// In words, as in the file.
    pub fn words(&self) -> String {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> =
            self.days.iter().filter_map(|d| DAYS.get(usize::from(*d)).copied()).collect();
        let clock = |m: u16| format!("{:02}:{:02}", m / 60, m % 60);
        format!("{} {}–{} UTC", days.join(","), clock(self.from), clock(self.to))
    }
}

/// Where which class of data may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Residency {
    /// Allowed regions by data class.
    pub classes: BTreeMap<String, Vec<String>>,
    /// Transfers that are allowed all the same, each until a day.
    pub exceptions: Vec<TransferException>,
}

/// Why a transfer outside of the allowed regions is lawful.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferException {
    /// Which class of data.
    pub class: String,
    /// To which region.
    pub to: String,
    /// On what ground.
    pub basis: TransferBasis,
    /// Of the clauses or rules, where there is one.
    pub version: String,
    /// Until when.
    pub until: WallTime,
}

/// The grounds there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferBasis {
    /// The persons consented.
    ExplicitConsent,
    /// Standard contractual clauses.
    StandardContractualClauses,
    /// Binding corporate rules.
    BindingCorporateRules,
}

impl TransferBasis {
    /// The words for screens.
    pub fn words(self) -> &'static str {
        match self {
            TransferBasis::ExplicitConsent => "explicit consent",
            TransferBasis::StandardContractualClauses => "standard contractual clauses",
            TransferBasis::BindingCorporateRules => "binding corporate rules",
        }
    }
}

/// Whether data of one class may be in a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resides {
    /// The class allows it.
    Allowed,
    /// Only under this exception; a move is recorded with it.
    Under(TransferException),
    /// Not; the regions that are allowed.
    Refused(Vec<String>),
}

impl Residency {
    /// Whether data of `class` may be in `region` at `now`. A class without a rule is allowed
    /// nowhere.
    pub fn of(&self, class: &str, region: &str, now: WallTime) -> Resides {
        let allowed = self.classes.get(class).cloned().unwrap_or_default();
        if allowed.iter().any(|r| r == region) {
            return Resides::Allowed;
        }
        match self.exceptions.iter().find(|e| e.class == class && e.to == region && e.until > now) {
            Some(exception) => Resides::Under(exception.clone()),
            None => Resides::Refused(allowed),
        }
    }
}

/// When the role may go back to where it is preferred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failback {
    /// By itself.
    pub automatic: bool,
    /// The source has been well for so long …
    pub healthy_for: Span,
    /// … with at least this score, in thousandths.
    pub score_at_least: u64,
    /// The confidence that the verification afterwards must reach, 0 to 100.
    pub verified_at_least: u64,
}

impl Default for Failback {
    fn default() -> Self {
        Self {
            automatic: false,
            healthy_for: Span::secs(300),
            score_at_least: 900,
            verified_at_least: 95,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_weekly_and_may_cross_midnight() {
        // 2026-11-21 is a Saturday; 13:00 UTC.
        let saturday = WallTime(1_795_266_000_000);
        let hours = |h: i64| WallTime(saturday.0 + h * 3_600_000);
        let afternoon = Window { days: vec![5], from: 12 * 60, to: 14 * 60 };
        assert!(afternoon.contains(saturday));
        assert!(!afternoon.contains(hours(1)));
        assert!(!afternoon.contains(hours(24)));
        let night = Window { days: vec![5], from: 22 * 60, to: 4 * 60 };
        assert!(night.contains(hours(9)), "Saturday 22:00");
        assert!(night.contains(hours(14)), "Sunday 03:00 belongs to Saturday's night");
        assert!(!night.contains(hours(15)), "Sunday 04:00");
        assert!(!night.contains(hours(-10)), "Saturday 03:00 belongs to Friday's");
    }

    #[test]
    fn data_stays_where_its_class_allows() {
        let exception = TransferException {
            class: "gdpr_eu".into(),
            to: "us-east-1".into(),
            basis: TransferBasis::StandardContractualClauses,
            version: "2021/914".into(),
            until: WallTime(100),
        };
        let residency = Residency {
            classes: [("gdpr_eu".to_owned(), vec!["eu-west-1".to_owned()])].into_iter().collect(),
            exceptions: vec![exception.clone()],
        };
        assert_eq!(residency.of("gdpr_eu", "eu-west-1", WallTime(0)), Resides::Allowed);
        assert_eq!(residency.of("gdpr_eu", "us-east-1", WallTime(99)), Resides::Under(exception));
        assert_eq!(
            residency.of("gdpr_eu", "us-east-1", WallTime(100)),
            Resides::Refused(vec!["eu-west-1".into()])
        );
        assert_eq!(
            residency.of("other", "eu-west-1", WallTime(0)),
            Resides::Refused(vec![]),
            "no rule allows nothing"
        );
    }
}
