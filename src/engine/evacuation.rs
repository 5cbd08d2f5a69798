//! A plan of plans: many clusters leave a region in waves, or follow each other into a warm standby
//! region in the order people declared. Each cluster's move is its own plan, made and judged by its
//! own engine; here is only which, when, how many at once, and when to stop. Pure: whoever drives
//! it tells it what became of each move.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::PersonOrder;
use crate::model::plan::{Plan, Proposal, digest_of};
use crate::model::topology::Role;
use crate::model::view::{ClusterView, NodeView, Outcome, RunView};
use crate::model::{ClusterId, Digest, NodeId, Span, WallTime};

/// What kind of a plan of plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FleetKind {
    /// Everything leaves a region, several clusters at a time.
    RegionEvacuation,
    /// A site's clusters go over to a warm standby region one after the other, as they depend on
    /// each other; the first that does not get there stops the rest.
    WarmStandby,
}

impl FleetKind {
    /// The words for screens.
    pub fn words(self) -> &'static str {
        match self {
            FleetKind::RegionEvacuation => "region evacuation",
            FleetKind::WarmStandby => "warm standby",
        }
    }
}

/// What is wanted, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What kind.
    pub kind: FleetKind,
    /// The region to leave.
    pub leave: String,
    /// The region to go to; `None`: wherever each cluster's policy puts first.
    pub to: Option<String>,
    /// So many clusters move at a time.
    pub concurrency: usize,
    /// So many moves that did not end verified stop the rest.
    pub failures_max: usize,
    /// A move verified with less confidence than this counts as one of them.
    pub least_confidence: u64,
}

/// One cluster's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Who gives the role, or its share of the traffic, away.
    pub from: Vec<NodeId>,
    /// Who takes the role; `None` where shares are spread.
    pub to: Option<NodeId>,
    /// In words, with what it would cost as far as that is known now.
    pub summary: String,
}

impl Move {
    /// What the cluster's own plane is asked for.
    pub fn order(&self, reason: &str) -> PersonOrder {
        let away = if self.to.is_some() { vec![] } else { self.from.clone() };
        PersonOrder::Propose(Proposal {
            away,
            to: self.to.clone(),
            reason: reason.to_owned(),
            ..Proposal::default()
        })
    }
}

/// The plan of plans. Immutable once made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetPlan {
    /// What was wanted.
    pub terms: Terms,
    /// Made when.
    pub made: WallTime,
    /// On whose request.
    pub requested_by: String,
    /// Why.
    pub reason: String,
    /// Clusters that move, wave by wave; the next wave begins when every move of the last has
    /// ended.
    pub waves: Vec<Vec<Move>>,
    /// Clusters that have nothing there, and how that is known.
    pub stay: Vec<(ClusterId, String)>,
    /// Clusters that should move and cannot, and why.
    pub cannot: Vec<(ClusterId, String)>,
    /// What is true besides: voters that stay behind, for example.
    pub warnings: Vec<String>,
}

impl FleetPlan {
    /// SHA-256 over the canonical JSON.
    pub fn digest(&self) -> Digest {
        digest_of(self)
    }
    /// Every move, in order.
    pub fn moves(&self) -> impl Iterator<Item = &Move> {
        self.waves.iter().flatten()
    }
}

enum Considered {
    Moves(Move),
    Stays(String),
    Cannot(String),
}

/// Makes the plan from each cluster's own picture, in the order in which they are given.
pub fn plan<'a>(
    views: impl IntoIterator<Item = &'a ClusterView>,
    terms: &Terms,
    made: WallTime,
    requested_by: &str,
    reason: &str,
) -> FleetPlan {
    let (mut moves, mut stay, mut cannot, mut warnings) = (vec![], vec![], vec![], vec![]);
    for view in views {
        match consider(view, terms) {
            // In a warm standby each depends on those before it.
            Considered::Moves(_) if terms.kind == FleetKind::WarmStandby && !cannot.is_empty() => {
                let (first, _): &(ClusterId, String) = &cannot[0];
                let why = format!("comes after {first}, which cannot leave");
                cannot.push((view.cluster.clone(), why));
            }
            Considered::Moves(m) => moves.push(m),
            Considered::Stays(why) => stay.push((view.cluster.clone(), why)),
            Considered::Cannot(why) => cannot.push((view.cluster.clone(), why)),
        }
        let there = view.nodes.iter().filter(|n| region(&n.place) == terms.leave).count();
        if there > 0 && view.nodes.len() - there < view.quorum {
            warnings.push(format!(
                "{}: {there} of {} agents are in {} and {} are needed: once they are gone nobody \
                    can win an epoch or change shares, unless \
                 others are added before",
                view.cluster,
                view.nodes.len(),
                terms.leave,
                view.quorum
            ));
        }
    }
    let at_once = match terms.kind {
        FleetKind::RegionEvacuation => terms.concurrency.max(1),
        FleetKind::WarmStandby => 1,
    };
    let waves = moves.chunks(at_once).map(<[Move]>::to_vec).collect();
    FleetPlan {
        terms: terms.clone(),
        made,
        requested_by: requested_by.into(),
        reason: reason.into(),
        waves,
        stay,
        cannot,
        warnings,
    }
}

fn region(place: &str) -> &str {
    place.split('/').next().unwrap_or_default()
}

fn consider(view: &ClusterView, terms: &Terms) -> Considered {
    let place = |node: &NodeId| {
        view.nodes.iter().find(|n| n.node == *node).map_or("", |n| region(&n.place))
    };
    let outside = |node: &NodeId| {
        place(node) != terms.leave && terms.to.as_deref().is_none_or(|to| place(node) == to)
    };
    let eligible = || view.outlook.candidates.iter().filter(|c| c.eligible && outside(&c.node));
    let why_not = || {
        let failing = |c: &crate::model::plan::Candidate| {
            let failed: Vec<&str> =
                c.checks.iter().filter(|k| !k.passed).map(|k| &*k.name).collect();
            format!("{} ({})", c.node, failed.join(", "))
        };
        let others: Vec<String> =
            view.outlook.candidates.iter().filter(|c| outside(&c.node)).map(failing).collect();
        let whither = terms
            .to
            .as_ref()
            .map_or_else(|| format!("outside {}", terms.leave), |to| format!("in {to}"));
        if others.is_empty() {
            format!("it has no node {whither}")
        } else {
            format!("nobody {whither} is eligible: {}", others.join("; "))
        }
    };
    let has_shares = view.nodes.iter().any(|n| n.share.is_some());
    if has_shares {
        let there = || {
            view.nodes.iter().filter(|n| {
                n.share.is_some() && n.declared != Role::Witness && place(&n.node) == terms.leave
            })
        };
        let units: u64 = there().filter_map(|n| n.share).sum();
        if units == 0 {
            return Considered::Stays(format!("no node in {} has a share", terms.leave));
        }
        if let Some(to) = &terms.to {
            return Considered::Cannot(format!(
                "its shares go to every node that is left, not only to {to}: evacuate it without \
                    naming a region"
            ));
        }
        // Those without a share too: none of them is to get one.
        let from: Vec<NodeId> = there().map(|n| n.node.clone()).collect();
        let rest = view
            .nodes
            .iter()
            .filter(|n| n.share.unwrap_or(0) > 0 && place(&n.node) != terms.leave)
            .count();
        if rest == 0 && eligible().next().is_none() {
            return Considered::Cannot(why_not());
        }
        let demand: u64 = view.nodes.iter().filter_map(|n| n.share).sum();
        let serves =
            |n: &&NodeView| n.share.unwrap_or(0) > 0 || eligible().any(|c| c.node == n.node);
        let room: u64 = view
            .nodes
            .iter()
            .filter(|n| !from.contains(&n.node))
            .filter(serves)
            .filter_map(|n| n.capacity)
            .sum();
        if room < demand {
            return Considered::Cannot(format!(
                "the nodes that are left can carry {room} of {demand} units: the rest would be \
                    refused"
            ));
        }
        let names: Vec<&str> = from.iter().map(NodeId::as_str).collect();
        let summary = format!("{units} units away from {}", names.join(", "));
        return Considered::Moves(Move { cluster: view.cluster.clone(), from, to: None, summary });
    }
    let Some(primary) = &view.primary else {
        return Considered::Cannot(format!("no node holds the write role: {}", view.why));
    };
    if place(primary) != terms.leave {
        return Considered::Stays(format!("{primary} holds the role in {}", place(primary)));
    }
    match eligible().min_by_key(|c| c.rank) {
        Some(best) => Considered::Moves(Move {
            cluster: view.cluster.clone(),
            from: vec![primary.clone()],
            to: Some(best.node.clone()),
            summary: format!("{primary} → {} ({})", best.node, place(&best.node)),
        }),
        None => Considered::Cannot(why_not()),
    }
}

/// Regions that any of the clusters has nodes in.
pub fn regions<'a>(views: impl IntoIterator<Item = &'a ClusterView>) -> BTreeSet<String> {
    views.into_iter().flat_map(|v| v.nodes.iter().map(|n| region(&n.place).to_owned())).collect()
}

/// Whether the plan that a cluster's own plane made is still the move that was shown, and costs
/// nobody their service.
///
/// # Errors
/// What is different, in words.
pub fn still_fits(shown: &Move, plan: &Plan) -> Result<(), String> {
    let demoted = plan.demoted().ok_or("the plan demotes nobody")?;
    if !shown.from.contains(demoted) || shown.to.as_ref().is_some_and(|to| *to != plan.to.node) {
        return Err(format!(
            "the world moved: it was {}, now it would be {}",
            shown.summary,
            super::plans::summary(plan)
        ));
    }
    if let Some(stays) = plan
        .shares
        .iter()
        .find(|s| shown.to.is_none() && s.after > 0 && shown.from.contains(&s.node))
    {
        return Err(format!(
            "the plan gives {} units to {}, which is to be left",
            stays.after, stays.node
        ));
    }
    if plan.shed > 0 {
        return Err(format!(
            "{} units of its load would be refused: raise capacity elsewhere, or move it by a \
                plan of its own",
            plan.shed
        ));
    }
    Ok(())
}

/// What became of one move.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "standing")]
pub enum Standing {
    /// Its wave has not begun.
    Waiting,
    /// Its plane was asked.
    Running,
    /// Verified.
    Moved {
        /// How surely.
        confidence: u64,
        /// How long its clients were without writes.
        rto: Option<Span>,
        /// What was lost.
        loss: String,
    },
    /// Refused, ended otherwise, or verified too weakly.
    Failed {
        /// Why.
        why: String,
    },
    /// The stop came before its turn: nothing was changed.
    NotBegun,
}

impl Standing {
    /// The word for screens.
    pub fn word(&self) -> &'static str {
        match self {
            Standing::Waiting => "waiting",
            Standing::Running => "running",
            Standing::Moved { .. } => "moved",
            Standing::Failed { .. } => "failed",
            Standing::NotBegun => "not begun",
        }
    }
    fn has_ended(&self) -> bool {
        !matches!(self, Standing::Waiting | Standing::Running)
    }
}

/// A plan of plans while it is carried out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FleetRun {
    /// The plan.
    pub plan: FleetPlan,
    /// Where each cluster stands.
    pub standing: BTreeMap<ClusterId, Standing>,
    /// Why nothing more is begun, if so.
    pub stopped: Option<String>,
}

impl FleetRun {
    /// Before the first wave.
    pub fn new(plan: FleetPlan) -> Self {
        let standing = plan.moves().map(|m| (m.cluster.clone(), Standing::Waiting)).collect();
        Self { plan, standing, stopped: None }
    }

    /// Moves that are to begin now: the next wave, when every move of those before has ended and
    /// nothing stopped it.
    pub fn due(&self) -> Vec<Move> {
        if self.stopped.is_some() {
            return vec![];
        }
        let ended = |m: &Move| self.standing.get(&m.cluster).is_some_and(Standing::has_ended);
        let Some(wave) = self.plan.waves.iter().find(|w| !w.iter().all(ended)) else {
            return vec![];
        };
        wave.iter()
            .filter(|m| self.standing.get(&m.cluster) == Some(&Standing::Waiting))
            .cloned()
            .collect()
    }

    /// Its plane was asked.
    pub fn began(&mut self, cluster: &ClusterId) {
        self.standing.insert(cluster.clone(), Standing::Running);
    }

    /// It was refused, or cannot be followed any more.
    pub fn failed(&mut self, cluster: &ClusterId, why: String) {
        self.ended(cluster, Standing::Failed { why });
    }

    /// Its plan ran to its end.
    pub fn ran(&mut self, cluster: &ClusterId, run: &RunView) {
        let least = self.plan.terms.least_confidence;
        let standing = match run.outcome {
            Some(Outcome::Verified) if run.confidence >= least => Standing::Moved {
                confidence: run.confidence,
                rto: run.rto,
                loss: run
                    .rpo
                    .as_ref()
                    .map_or("unknown".into(), crate::model::loss::LossAccount::short),
            },
            Some(Outcome::Verified) => Standing::Failed {
                why: format!("verified with confidence {} only; {least} is wanted", run.confidence),
            },
            Some(other) => Standing::Failed { why: other.word().to_owned() },
            None => return,
        };
        self.ended(cluster, standing);
    }

    fn ended(&mut self, cluster: &ClusterId, standing: Standing) {
        self.standing.insert(cluster.clone(), standing);
        let failed =
            self.standing.values().filter(|s| matches!(s, Standing::Failed { .. })).count();
        let limit = match self.plan.terms.kind {
            FleetKind::RegionEvacuation => self.plan.terms.failures_max.max(1),
            FleetKind::WarmStandby => 1,
        };
        if failed >= limit && self.stopped.is_none() {
            self.stop(format!(
                "{failed} of {} moves did not end verified, and {limit} stop the rest",
                self.standing.len()
            ));
        }
    }

    /// Nothing more is begun; what runs goes on by itself.
    pub fn stop(&mut self, why: String) {
        self.stopped = Some(why);
        for standing in self.standing.values_mut().filter(|s| **s == Standing::Waiting) {
            *standing = Standing::NotBegun;
        }
    }

    /// Whether every move has ended or never will begin.
    pub fn is_over(&self) -> bool {
        self.standing.values().all(Standing::has_ended)
    }
    /// Whether everything that was to leave has left.
    pub fn is_done(&self) -> bool {
        self.plan.cannot.is_empty()
            && self.standing.values().all(|s| matches!(s, Standing::Moved { .. }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: FleetKind, clusters: usize, concurrency: usize, failures_max: usize) -> FleetRun {
        let terms = Terms {
            kind,
            leave: "r1".into(),
            to: None,
            concurrency,
            failures_max,
            least_confidence: 80,
        };
        let at_once = if kind == FleetKind::WarmStandby { 1 } else { concurrency };
        let moves: Vec<Move> = (0..clusters)
            .map(|i| Move {
                cluster: ClusterId::new(format!("c{i}")),
                from: vec!["a".into()],
                to: Some("b".into()),
                summary: String::new(),
            })
            .collect();
        let waves = moves.chunks(at_once).map(<[Move]>::to_vec).collect();
        FleetRun::new(FleetPlan {
            terms,
            made: WallTime(0),
            requested_by: "who".into(),
            reason: String::new(),
            waves,
            stay: vec![],
            cannot: vec![],
            warnings: vec![],
        })
    }
    fn begin(run: &mut FleetRun) -> Vec<String> {
        let due = run.due();
        due.iter().for_each(|m| run.began(&m.cluster));
        due.iter().map(|m| m.cluster.to_string()).collect()
    }
    fn moved() -> Standing {
        Standing::Moved { confidence: 100, rto: None, loss: String::new() }
    }

    #[test]
    fn a_wave_begins_when_the_last_has_ended() {
        let mut run = run(FleetKind::RegionEvacuation, 5, 2, 2);
        assert_eq!(begin(&mut run), ["c0", "c1"]);
        assert!(run.due().is_empty(), "not more than two at once");
        run.ended(&"c1".into(), moved());
        assert!(run.due().is_empty(), "the slower one holds the wave");
        run.failed(&"c0".into(), "refused".into());
        assert_eq!(begin(&mut run), ["c2", "c3"], "one failure is below the limit");
        run.ended(&"c2".into(), moved());
        run.failed(&"c3".into(), "aborted".into());
        assert!(run.stopped.is_some() && run.due().is_empty());
        assert_eq!(run.standing[&"c4".into()], Standing::NotBegun);
        assert!(run.is_over() && !run.is_done());
    }

    #[test]
    fn a_warm_standby_stops_at_the_first_that_does_not_get_there() {
        let mut run = run(FleetKind::WarmStandby, 3, 9, 9);
        assert_eq!(begin(&mut run), ["c0"]);
        run.ended(&"c0".into(), moved());
        assert_eq!(begin(&mut run), ["c1"]);
        run.failed(&"c1".into(), "no candidate".into());
        assert!(run.is_over() && run.due().is_empty());
        assert_eq!(run.standing[&"c2".into()], Standing::NotBegun);
    }

    #[test]
    fn the_digest_is_that_of_what_was_shown() {
        let plan = run(FleetKind::RegionEvacuation, 2, 1, 1).plan;
        let mut other = plan.clone();
        other.terms.concurrency = 2;
        assert_ne!(plan.digest(), other.digest());
    }
}
