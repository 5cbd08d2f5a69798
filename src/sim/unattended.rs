//! Random days under a manual policy with nobody there: any faults at any time; then everything is
//! mended, and a person who knows nothing but the ways out takes them until clients can write.

use super::chaos::{Day, RECOVERY_MAX, STORM, shape, storm};
use super::fault::Fault;
use super::random::Random;
use super::world::World;
use crate::model::topology::Strategy;
use crate::model::{Span, Timestamp};

/// A way out is given so long before the next is taken.
const PATIENCE: Span = Span::secs(8);

/// Lives through the day of that seed.
pub fn day(seed: u64, keep_facts: bool) -> Day {
    let mut random = Random::new(seed ^ 0x6e6f_626f_6479);
    let (cluster, mut policy, conditions, words) = shape(&mut random);
    policy.strategy = Strategy::Manual;
    let mut world = World::formed(&cluster, &policy, &conditions, seed);
    world.keep_facts = keep_facts;
    world.run_until(Timestamp(Span::secs(3).0));
    let begin = world.now;
    for (at, fault) in storm(&mut random, &cluster) {
        world.run_watched(begin + at);
        world.inject(&fault);
    }
    world.run_watched(begin + STORM);
    // On every other day all hosts lose their power together.
    if random.chance(500) {
        world.inject(&Fault::PowerOff(vec![super::fault::Whom::All]));
        world.run_watched(begin + STORM + Span::secs(30));
    }
    world.mend(None, &mut random);
    world.oracle.watch(world.now);
    let mended = world.now;
    // Everybody is heard, and leases have run out, before a person looks.
    world.run_watched(mended + Span::secs(15) - PATIENCE);
    let writable = world.person_ends_it(RECOVERY_MAX + RECOVERY_MAX + RECOVERY_MAX);
    let recovery = world.now.since(mended);
    // Where the last copies were reinstalled away, or too few voters are left, only two persons can
    // end it; every other state ends by a way out that one person takes.
    if !writable && world.has_a_majority() && world.hosts.iter().any(|h| h.db.has_data) {
        let seen = world.state_words();
        world.oracle.stuck(world.now, format!("no way out led to writes: {seen}"));
    }
    Day::of(world, seed, format!("{words}, manual and unattended"), recovery)
}

impl World {
    /// A person takes the ways out, one after the other, until clients can write or `most` is over.
    pub(super) fn person_ends_it(&mut self, most: Span) -> bool {
        let begin = self.now;
        let mut tried = 0;
        while self.now < begin + most {
            self.run_watched(self.now + PATIENCE);
            if self.oracle.last_ack() > self.now - Span::secs(2) {
                return true;
            }
            let _ = self.person_takes_a_way_out(tried);
            tried += 1;
        }
        false
    }
}
