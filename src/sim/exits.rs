//! The law about ways out: in every state that is not healthy the picture names one, and an order
//! among them is taken. Tried on a copy of the engine, by the same order that a person would give.

use serde::{Deserialize, Serialize};

use super::world::{OPERATOR, World};
use crate::engine::{Engine, Input, PersonOrder};
use crate::model::view::{Act, ClusterState, Phase, WayOut};
use crate::model::{Span, WallTime};

/// The law.
const LAW: &str = "there is a way out";
/// What passes by itself has passed within this.
const PASSES: Span = Span::secs(60);

/// How much was walked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Walked {
    /// States that were not healthy.
    pub states: u64,
    /// Ways out of them that were tried.
    pub ways: u64,
    /// Orders among those.
    pub orders: u64,
    /// Days that only a person's decision ended.
    pub decisions: u64,
}

impl std::ops::AddAssign for Walked {
    fn add_assign(&mut self, other: Self) {
        self.states += other.states;
        self.ways += other.ways;
        self.orders += other.orders;
        self.decisions += other.decisions;
    }
}

impl World {
    pub(super) fn check_exits(&mut self, plane: usize) {
        let wall = self.wall();
        let here = &self.planes[plane];
        let Some(engine) = &here.engine else { return };
        // Judged at this moment: a report without news waits for its judgement.
        let mut judged = engine.clone();
        let _ = judged.handle(here.last + Span(1), wall, Input::Wakeup);
        let view = judged.view();
        let calm = matches!(
            view.phase.phase,
            Phase::Steady | Phase::Stabilising | Phase::Aborted | Phase::RolledBack
        );
        let runs = view.run.as_ref().is_some_and(|r| r.outcome.is_none());
        if view.state == ClusterState::Healthy && calm && view.plan.is_none() {
            self.planes[plane].waits_since = None;
            return;
        }
        let ways = view.phase.ways_out.clone();
        self.walked.states += 1;
        let mut wrong = vec![];
        let only_waits = ways.iter().all(|w| w.act == Act::Wait);
        let since = here.waits_since.filter(|_| only_waits && !runs);
        let waits_since = (only_waits && !runs).then(|| since.unwrap_or(self.now));
        if ways.is_empty() || since.is_some_and(|since| self.now.since(since) > PASSES) {
            let what = if ways.is_empty() { "no way out" } else { "only waiting" };
            let named: Vec<&str> = ways.iter().map(|w| w.text.as_str()).collect();
            let named = named.join("; ");
            wrong.push(format!("{what}: {}: {}: {named}", view.phase.phase.word(), view.why));
        }
        for way in &ways {
            self.walked.ways += 1;
            self.walked.orders += u64::from(way.act.command().is_some());
            if let Err(why) = tries(&judged, way, wall) {
                wrong.push(format!("\"{way}\" is no way out: {why}"));
            }
        }
        self.planes[plane].waits_since = waits_since;
        for seen in wrong {
            self.oracle.broken(self.now, LAW, seen);
        }
    }

    /// A person takes a way out that is an order of their own, or confirms the plan that waits: the
    /// first, or, where that did not help before, the next. What it was, in words.
    pub(super) fn person_takes_a_way_out(&mut self, before: usize) -> Option<String> {
        let plane = (0..self.planes.len()).find(|p| self.planes[*p].is_up())?;
        let view = self.planes[plane].engine.as_ref()?.view();
        let takes = |w: &&WayOut| {
            matches!(
                w.act,
                Act::Propose(_) | Act::Execute { .. } | Act::Acknowledge | Act::Readmit { .. }
            )
        };
        let ways: Vec<&WayOut> = view.phase.ways_out.iter().filter(takes).collect();
        let way = (*ways.get(before % ways.len().max(1))?).clone();
        self.fact(OPERATOR, 0, format!("takes a way out: {way}"));
        match way.act {
            Act::Propose(what) => {
                self.person_proposes(what);
                let pending = self.planes[plane].engine.as_ref()?.snapshot().pending.as_ref()?;
                let digest = pending.digest.clone();
                self.person_approves(plane, &digest);
            }
            Act::Execute { ref plan, .. } => self.person_approves(plane, plan),
            Act::Acknowledge => {
                self.person_orders(PersonOrder::Acknowledge { reason: "simulated".into() });
            }
            Act::Readmit { ref node } => {
                let host = self.index(node)?;
                self.person_changes_voters(super::fault::Membership::Readmit, host);
            }
            Act::Dismiss { .. }
            | Act::Undrain { .. }
            | Act::Override { .. }
            | Act::History { .. }
            | Act::Start { .. }
            | Act::Mend { .. }
            | Act::Wait => {}
        }
        Some(way.text)
    }
}

/// Whether the order that this way names would be taken now, and its plan confirmed.
fn tries(engine: &Engine, way: &WayOut, wall: WallTime) -> Result<(), String> {
    let Act::Propose(what) = &way.act else { return engine.would_take(way) };
    let mut copy = engine.clone();
    let order = PersonOrder::Propose(what.clone());
    // What is true later is another picture's.
    let now = engine.snapshot().at + Span(1);
    let _ = copy.handle(now, wall, Input::Person { who: OPERATOR.into(), order });
    if copy.snapshot().run.is_some() {
        // It acts by itself at this very moment.
        return Ok(());
    }
    let pending = copy.snapshot().pending.as_ref().filter(|_| copy.refusal().is_empty());
    let Some(pending) = pending else { return Err(copy.refusal().to_owned()) };
    let demoted = pending.plan.demoted().map_or("", |n| n.as_str());
    let taken = copy.would_execute(&pending.digest, demoted);
    taken.map_err(|(check, why)| format!("{check}: {why}"))
}
