//! Random days of clusters in which several nodes accept writes: any faults at any time, then
//! everything but at most one host is mended, and the shares have to come together again.

use std::fmt::Write as _;
use std::path::Path;

use super::chaos::{Day, RECOVERY_MAX, STORM, storm};
use super::fault::Fault;
use super::random::Random;
use super::world::{Conditions, World};
use crate::config;
use crate::model::share::Shares;
use crate::model::topology::{Cluster, Policy, Role};
use crate::model::{Span, Timestamp};

fn shape(random: &mut Random) -> (Cluster, Policy, Conditions, String) {
    let (primaries, secondaries) =
        (2 + random.below(3), if random.chance(500) { 1 + random.below(2) } else { 0 });
    let primaries = if secondaries > 0 { primaries - 1 } else { primaries };
    let data = primaries + secondaries;
    let witnesses = if data < 3 { 3 - data } else { random.below(2) };
    let pattern = if secondaries > 0 { "hybrid" } else { "active_active" };
    let lease = 1_000 * (1 + random.below(4));
    let mut text = format!(
        "cluster_id: day\nname: Day\npattern: {pattern}\nlease_ms: {lease}\nregions: [r1, \
            r2]\nnodes:\n"
    );
    for i in 1..=data + witnesses {
        let region = if random.chance(300) { "r2" } else { "r1" };
        let share = 10 + random.below(50);
        let capacity = share + random.below(100);
        let role = match i {
            i if i <= primaries => format!("primary, share: {share}, capacity: {capacity}"),
            i if i <= data => format!("secondary, capacity: {capacity}"),
            _ => "witness".into(),
        };
        // Writing to a string does not fail.
        let _ =
            writeln!(text, "  - {{node_id: n{i}, hostname: h, region: {region}, role: {role}}}");
    }
    let cluster = config::cluster::parse(Path::new("day"), &text)
        .unwrap_or_else(|e| unreachable!("a generated cluster is valid: {e}"));
    let failback =
        if random.chance(500) { "  failback: {automatic: true, healthy_for_s: 5}\n" } else { "" };
    let policy = format!(
        "policy_id: day\nname: Day\nstrategy: automatic\nmin_healthy_nodes: 0\nconstraints:\n  \
            max_failovers_per_hour: 1000\n{failback}"
    );
    let policy = config::policy::parse(Path::new("day"), &policy, &cluster)
        .unwrap_or_else(|e| unreachable!("a generated policy is valid: {e}"));
    let conditions = Conditions {
        heartbeat: Span::millis(100 + random.below(3) * 100),
        write_interval: Span::millis(10 + random.below(60)),
        delay_far: Span::millis(1 + random.below(20)),
        ..Conditions::default()
    };
    (
        cluster,
        policy,
        conditions,
        format!(
            "{pattern}: {primaries} primaries, {secondaries} secondaries, {witnesses} witnesses"
        ),
    )
}

/// Lives through the day of that seed.
pub fn day(seed: u64, keep_facts: bool) -> Day {
    let mut random = Random::new(seed);
    let (cluster, policy, conditions, words) = shape(&mut random);
    let mut world = World::formed(&cluster, &policy, &conditions, seed);
    world.keep_facts = keep_facts;
    world.approve_after = Some(Span::secs(1));
    world.run_until(Timestamp(Span::secs(3).0));
    let begin = world.now;
    for (at, fault) in storm(&mut random, &cluster) {
        world.run_watched(begin + at);
        let fault = match fault {
            // A reinstalled writer's own log is another world's question; who leaves and comes back
            // does it by its share.
            Fault::Reinstall(_) | Fault::Node(..) => Fault::Failback,
            Fault::Switchover(Some(who), _) => Fault::Drain(who),
            other => other,
        };
        world.inject(&fault);
    }
    world.run_watched(begin + STORM);
    let broken = random
        .chance(500)
        .then(|| random.below(cluster.nodes.len() as u64))
        .and_then(|i| usize::try_from(i).ok());
    world.mend(broken, &mut random);
    world.oracle.watch(world.now);
    let mended = world.now;
    let mut wrong = "not looked at".to_owned();
    let mut right_since = None;
    // Right for a while, not for a moment.
    while world.now < mended + RECOVERY_MAX
        && right_since.is_none_or(|since| world.now.since(since) < Span::secs(8))
    {
        world.run_until(world.now + Span::millis(100));
        if (world.now.0 / 100_000_000).is_multiple_of(50) {
            world.inject(&Fault::Acknowledge);
        }
        match world.what_is_wrong(broken) {
            None => _ = right_since.get_or_insert(world.now),
            Some(what) => (wrong, right_since) = (what, None),
        }
    }
    let recovery = right_since.map_or(RECOVERY_MAX, |since| since.since(mended));
    if right_since.is_none() {
        let seen = format!("{wrong}: {}", world.state_words());
        world.oracle.stuck(world.now, seen);
    }
    world.check_last_drain();
    Day::of(world, seed, words, recovery)
}

impl World {
    /// What is not yet as it has to be after everything but `broken` was mended.
    fn what_is_wrong(&self, broken: Option<usize>) -> Option<String> {
        let whole: Vec<usize> = (0..self.hosts.len()).filter(|h| Some(*h) != broken).collect();
        let declared = self.cluster.declared_shares()?;
        let kept =
            |h: usize| -> &Shares { self.hosts[h].record.shares.as_ref().unwrap_or(&declared) };
        let first = kept(*whole.first()?);
        if let Some(other) = whole.iter().find(|h| kept(**h) != first) {
            let name = |h: usize| self.name(h);
            return Some(format!(
                "{} and {} keep different shares",
                name(*whole.first()?),
                name(*other)
            ));
        }
        let units = |h: usize| first.of.get(&self.name(h)).copied().unwrap_or(0);
        let data: Vec<usize> =
            whole.iter().copied().filter(|h| self.hosts[*h].node.role != Role::Witness).collect();
        if let Some(h) = data.iter().find(|h| self.hosts[**h].db.primary != (units(**h) > 0)) {
            return Some(format!(
                "{} has {} units and its database accepts writes: {}",
                self.name(*h),
                units(*h),
                self.hosts[*h].db.primary
            ));
        }
        let engine = self.planes[0].engine.as_ref()?;
        let drained = &engine.snapshot().drained;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a capacity is a bounded positive number"
        )]
        let room: u64 = data
            .iter()
            .filter(|h| !drained.contains(&self.name(**h)))
            .map(|h| self.hosts[*h].node.capacity as u64)
            .sum();
        let demand: u64 = self.cluster.data_nodes().map(|n| n.share).sum();
        // A broken one may still serve: seen by some and not by others.
        let serves = |h: usize| self.hosts[h].answers() && self.hosts[h].db.primary;
        let carried: u64 =
            data.iter().copied().chain(broken.filter(|b| serves(*b))).map(units).sum();
        if carried < demand.min(room) {
            return Some(format!("{carried} of {demand} units are carried and {room} could be"));
        }
        if broken.is_none() && !self.is_converged() {
            return Some("not everybody has the same writes".into());
        }
        None
    }
}
