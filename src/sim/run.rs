//! One run of a scenario: warm up, play, look at what became of it.

use serde::Serialize;

use super::oracle::Violation;
use super::scenario::{Expectation, Scenario};
use super::world::{Conditions, Event, Fact, World};
use crate::engine::{Engine, Input, PersonOrder};
use crate::model::loss::{FenceRung, LossAccount};
use crate::model::plan::Plan;
use crate::model::topology::{Cluster, Policy};
use crate::model::view::{ClusterView, Explanation, Outcome as RunOutcome, Phase};
use crate::model::{Epoch, NodeId, Span, Timestamp};

/// Long enough for every detector to have its samples and for the plane to judge by silence.
const WARM_UP: Span = Span::millis(3_200);
/// A run that is not at rest by then ends.
const LIMIT: Span = Span::secs(120);
/// At rest for so long is at rest.
const REST: Span = Span::millis(400);

/// What became of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// The scenario.
    pub scenario: String,
    /// Its seed.
    pub seed: u64,
    /// The cluster.
    pub cluster: String,
    /// The policy.
    pub policy: String,
    /// Who held the role at first.
    pub primary_before: Option<NodeId>,
    /// And at the end.
    pub primary_after: Option<NodeId>,
    /// The epoch at first.
    pub epoch_before: Epoch,
    /// And at the end.
    pub epoch_after: Epoch,
    /// Whether clients' writes are acknowledged at the end.
    pub writable: bool,
    /// The longest time after the first event in which no write was acknowledged.
    pub outage: Span,
    /// The plane's own measure of its last run.
    pub rto: Option<Span>,
    /// The loss account of its last run.
    pub account: Option<LossAccount>,
    /// What fenced the former holder.
    pub fence: Option<FenceRung>,
    /// How the last run ended.
    pub ended: Option<RunOutcome>,
    /// Where the plane's phase stands.
    pub phase: Phase,
    /// Writes that clients were told are safe.
    pub acknowledged: usize,
    /// Those that met another to the same key which they had not seen: of each pair one is gone,
    /// where several nodes write.
    pub met: usize,
    /// Those of them that are not there.
    pub lost: Vec<u64>,
    /// Laws that were broken.
    pub violations: Vec<Violation>,
    /// What was expected and is not so.
    pub unmet: Vec<String>,
    /// Simulated nanoseconds from the first event to the end.
    pub took: Span,
    /// Events that were simulated.
    pub events: u64,
    /// States that were not healthy, and ways out of them that were tried.
    pub walked: super::Walked,
    /// The course of events.
    pub facts: Vec<Fact>,
}

/// A cluster warmed up and ready; each run is a clone of it.
#[derive(Clone, Debug)]
pub struct Stand {
    world: World,
}

impl Stand {
    /// Warms a formed cluster up.
    pub fn new(
        cluster: &Cluster,
        policy: &Policy,
        conditions: &Conditions,
        seed: u64,
        keep_facts: bool,
    ) -> Self {
        Self::from(World::formed(cluster, policy, conditions, seed), keep_facts)
    }

    pub(super) fn from(mut world: World, keep_facts: bool) -> Self {
        world.keep_facts = keep_facts;
        world.run_until(Timestamp(WARM_UP.0));
        Self { world }
    }

    /// Lets it rest for longer.
    #[must_use]
    pub fn rested(mut self, rest: Span) -> Self {
        let until = self.world.now + rest;
        self.world.run_until(until);
        self
    }

    #[cfg(test)]
    pub(super) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }
    pub(super) fn world(&self) -> World {
        self.world.clone()
    }
    fn engine(&self) -> &Engine {
        self.world.planes[0]
            .engine
            .as_ref()
            .unwrap_or_else(|| unreachable!("a stand is made with a plane that runs"))
    }
    /// The plane's picture of it.
    pub fn view(&self) -> ClusterView {
        self.engine().view().clone()
    }
    /// Why it is as it is.
    pub fn explain(&self) -> Explanation {
        self.engine().explain()
    }
    /// Whether it holds together.
    fn verify(&self) -> (Vec<(String, bool, String)>, u64) {
        self.engine().verify()
    }
    /// The plan that an order would make here.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub fn propose(&self, order: PersonOrder) -> Result<Plan, String> {
        let mut world = self.world.clone();
        world.plane_input(0, Input::Person { who: super::world::OPERATOR.into(), order });
        let engine = world.planes[0].engine.as_ref();
        let pending = engine.and_then(|e| e.snapshot().pending.as_ref()).map(|p| p.plan.clone());
        pending.ok_or_else(|| engine.map_or(String::new(), |e| e.refusal().to_owned()))
    }

    /// A real order of a person to write and read back, and whether it all holds together then.
    pub fn verify_by_a_write(&self) -> (Vec<(String, bool, String)>, u64) {
        let mut world = self.world.clone();
        world.person_orders(PersonOrder::Verify { reason: "asked for on the command line".into() });
        let until = world.now + Span::secs(1);
        world.run_until(until);
        Self { world }.verify()
    }

    /// Makes the plan of that order, confirms it, and sees how it ends.
    ///
    /// # Errors
    /// Why there is no plan, in words.
    pub fn carry_out(&self, order: PersonOrder) -> Result<(Plan, Outcome), String> {
        let plan = self.propose(order.clone())?;
        let mut world = self.world.clone();
        world.keep_facts = true;
        world.plane_input(0, Input::Person { who: super::world::OPERATOR.into(), order });
        world.person_approves(0, &plan.digest());
        let scenario = Scenario {
            name: "dry run".into(),
            story: "A person confirms the plan.".into(),
            run_for: None,
            person_confirms_after: None,
            needs: vec![],
            events: vec![],
            expect: vec![],
            waived: vec![],
        };
        Ok((plan, play(world, &scenario, 1)))
    }

    /// Plays a scenario from here.
    pub fn play(&self, scenario: &Scenario, seed: u64) -> Outcome {
        let mut world = self.world.clone();
        world.random = super::random::Random::new(seed);
        // Faults do not wait for a heartbeat.
        let until = world.now + world.random.span(Span::ZERO, Span::millis(250));
        world.run_until(until);
        play(world, scenario, seed)
    }
}

/// Runs a scenario from the beginning.
pub fn run(
    cluster: &Cluster,
    policy: &Policy,
    conditions: &Conditions,
    scenario: &Scenario,
    seed: u64,
) -> Outcome {
    Stand::new(cluster, policy, conditions, seed, true).play(scenario, seed)
}

fn play(mut world: World, scenario: &Scenario, seed: u64) -> Outcome {
    let begin = world.now;
    let before = (world.primary(), world.epoch());
    world.first = before.0;
    world.approve_after = scenario.person_confirms_after;
    world.oracle.watch(begin);
    for (line, (at, fault)) in scenario.events.iter().enumerate() {
        world.script.push(fault.clone());
        world.queue.push(begin + *at, Event::Script(line));
    }
    let last = scenario.events.last().map_or(begin, |(at, _)| begin + *at);
    match scenario.run_for {
        Some(span) => world.run_watched(begin + span),
        None => world.run_to_rest(last + Span(1), begin + LIMIT),
    }
    let end = world.now;
    let writable =
        end.since(world.oracle.last_ack()) < Span::secs(1) && world.oracle.last_ack() > begin;
    let primary = world.primary();
    if let Some(host) = primary.filter(|_| writable) {
        let (name, db) = (world.name(host), world.hosts[host].db.clone());
        world.oracle.settle(end, name.as_str(), &db);
    }
    world.check_last_drain();
    let engine = world.planes.iter().find_map(|p| p.engine.as_ref());
    let last_run = engine.and_then(|e| e.snapshot().last_run.clone());
    let several = world.has_several_writers();
    let name = |i: Option<usize>| i.filter(|_| !several).map(|i| world.name(i));
    let mut outcome = Outcome {
        scenario: scenario.name.clone(),
        seed,
        cluster: world.cluster.cluster_id.as_str().to_owned(),
        policy: world.policy.policy_id.clone(),
        primary_before: name(before.0),
        primary_after: name(primary),
        epoch_before: before.1,
        epoch_after: world.epoch(),
        writable,
        outage: world.oracle.longest_gap(end),
        rto: last_run.as_ref().and_then(|r| r.rto),
        account: last_run.as_ref().and_then(|r| r.rpo.clone()),
        fence: last_run.as_ref().and_then(|r| r.fence),
        ended: last_run.as_ref().and_then(|r| r.outcome),
        phase: engine.map_or(Phase::Steady, |e| e.snapshot().phase),
        acknowledged: world.oracle.acknowledged(),
        met: world.oracle.met,
        lost: if world.has_several_writers() {
            world.missing_writes()
        } else {
            world.oracle.lost.clone()
        },
        violations: world.oracle.violations.clone(),
        unmet: vec![],
        took: end.since(begin),
        events: world.events,
        walked: world.walked,
        facts: vec![],
    };
    outcome.unmet = scenario
        .expect
        .iter()
        .filter(|(_, e)| !holds(&world, e, &outcome))
        .map(|(words, _)| words.clone())
        .collect();
    outcome.unmet.append(&mut world.unplayed);
    outcome.facts = std::mem::take(&mut world.facts);
    outcome
}

fn holds(world: &World, expected: &Expectation, outcome: &Outcome) -> bool {
    match expected {
        Expectation::Moved if world.has_several_writers() => {
            outcome.epoch_after > outcome.epoch_before
        }
        Expectation::Share(whom, units) => {
            let shares =
                world.hosts.iter().filter_map(|h| h.record.shares.as_ref()).max_by_key(|s| s.epoch);
            let of = |place: usize| {
                shares.map_or(world.hosts[place].node.share, |s| {
                    s.of.get(&world.name(place)).copied().unwrap_or(0)
                })
            };
            world.places(std::slice::from_ref(whom)).into_iter().all(|place| of(place) == *units)
        }
        Expectation::Converged if world.has_several_writers() => world.is_converged(),
        Expectation::Converged => world.is_whole(),
        Expectation::Moved => {
            outcome.primary_after != outcome.primary_before
                && outcome.epoch_after > outcome.epoch_before
        }
        Expectation::Stays => {
            outcome.primary_after == outcome.primary_before
                && outcome.epoch_after == outcome.epoch_before
        }
        Expectation::PrimaryIs(whom) => {
            let places = world.places(std::slice::from_ref(whom));
            outcome
                .primary_after
                .as_ref()
                .and_then(|n| world.index(n))
                .is_some_and(|i| places.contains(&i))
        }
        Expectation::Writable => outcome.writable,
        Expectation::ReadOnly => !outcome.writable,
        Expectation::NothingLost => outcome.lost.is_empty(),
        Expectation::Rule(rule) => world.records.iter().any(|(_, r)| r.rule == *rule),
        Expectation::NotRule(rule) => !world.records.iter().any(|(_, r)| r.rule == *rule),
        Expectation::Says(words) => world.records.iter().any(|(_, r)| r.text.contains(words)),
    }
}

impl World {
    /// The highest epoch that was won, by anybody's record.
    pub(super) fn epoch(&self) -> Epoch {
        let won = self.hosts.iter().filter_map(|h| h.record.last_won()).map(|w| w.epoch);
        won.chain(self.hosts.iter().filter_map(|h| h.record.shares.as_ref()).map(|s| s.epoch))
            .max()
            .unwrap_or(Epoch(0))
    }

    /// Runs until writes are acknowledged and no plane has anything under way, for a while; at most
    /// until `limit`.
    pub(super) fn run_to_rest(&mut self, from: Timestamp, limit: Timestamp) {
        let mut calm_since: Option<Timestamp> = None;
        while self.now < limit {
            self.run_until(self.now + Span::millis(50));
            if self.now < from {
                continue;
            }
            if self.is_at_rest() {
                if self.now.since(*calm_since.get_or_insert(self.now)) >= REST {
                    return;
                }
            } else {
                calm_since = None;
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let writes = self.client.interval == Span::ZERO
            || self.now.since(self.oracle.last_ack()) < Span::millis(200);
        let planes = self.planes.iter().filter_map(|p| p.engine.as_ref()).all(|e| {
            let s = e.snapshot();
            s.run.is_none()
                && matches!(
                    s.phase,
                    Phase::Steady | Phase::Stabilising | Phase::Aborted | Phase::RolledBack
                )
        });
        writes && planes
    }
}
