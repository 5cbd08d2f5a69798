//! Many simulated clusters on one clock, for rehearsing a plan of plans. They share nothing but the
//! person who carries it out.

use serde::Serialize;

use super::run::Stand;
use super::world::{Fact, World};
use crate::engine::evacuation::{self, FleetPlan, FleetRun, Terms};
use crate::model::view::ClusterView;
use crate::model::{Span, Timestamp, WallTime};

/// The person looks at every cluster this often.
const LOOK_INTERVAL: Span = Span::millis(100);
/// A move that has no end by then is not followed any more.
const PATIENCE: Span = Span::secs(120);

/// What became of a rehearsed plan of plans.
#[derive(Clone, Debug, Serialize)]
pub struct FleetOutcome {
    /// The run at its end.
    pub run: FleetRun,
    /// Simulated time it took.
    pub took: Span,
    /// The most clusters that were moving at one time.
    pub most_at_once: usize,
    /// Laws that were broken, and where.
    pub violations: Vec<(String, super::Violation)>,
    /// The course of events, each with its cluster.
    pub facts: Vec<(String, Fact)>,
}

/// The plan for these clusters as they stand.
pub fn plan(stands: &[Stand], terms: &Terms, requested_by: &str, reason: &str) -> FleetPlan {
    let views: Vec<ClusterView> = stands.iter().map(Stand::view).collect();
    let made = views.iter().map(|v| v.made).max().unwrap_or(WallTime(0));
    evacuation::plan(&views, terms, made, requested_by, reason)
}

/// Carries it out on clones of them.
pub fn rehearse(stands: &[Stand], plan: FleetPlan) -> FleetOutcome {
    let mut worlds: Vec<World> = stands.iter().map(Stand::world).collect();
    let began = worlds.iter().map(|w| w.now).max().unwrap_or(Timestamp(0));
    let mut run = FleetRun::new(plan);
    let mut asked: Vec<Option<(Timestamp, u64)>> = vec![None; worlds.len()];
    let mut now = began;
    let mut most_at_once = 0;
    while !run.is_over() {
        for m in run.due() {
            let Some(index) = worlds.iter().position(|w| w.cluster.cluster_id == m.cluster) else {
                continue;
            };
            run.began(&m.cluster);
            match worlds[index].person_moves(&m) {
                Ok(number) => asked[index] = Some((now, number)),
                Err(why) => run.failed(&m.cluster, why),
            }
        }
        now = now + LOOK_INTERVAL;
        most_at_once = most_at_once
            .max(run.standing.values().filter(|s| **s == evacuation::Standing::Running).count());
        for (world, asked) in worlds.iter_mut().zip(&mut asked) {
            world.run_until(now);
            let Some((since, number)) = *asked else { continue };
            let cluster = world.cluster.cluster_id.clone();
            match world.last_run() {
                Some(last) if last.body.number == number => {
                    run.ran(&cluster, &last);
                    *asked = None;
                }
                _ if now.since(since) > PATIENCE => {
                    run.failed(&cluster, format!("no end was seen within {PATIENCE}"));
                    *asked = None;
                }
                _ => {}
            }
        }
    }
    let mut facts: Vec<(String, Fact)> = vec![];
    let mut violations = vec![];
    for world in worlds {
        let name = world.cluster.cluster_id.as_str().to_owned();
        violations.extend(world.oracle.violations.iter().map(|v| (name.clone(), v.clone())));
        facts.extend(world.facts.into_iter().filter(|f| f.at >= began).map(|f| (name.clone(), f)));
    }
    facts.sort_by_key(|(_, fact)| fact.at);
    FleetOutcome { run, took: now.since(began), most_at_once, violations, facts }
}
