//! The network: one link per direction between any two places. A link delays, loses, doubles and
//! reorders, and can be cut in one direction only.

use super::random::Random;
use crate::model::{Span, Timestamp};

/// One direction between two places.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// Nothing passes.
    pub(super) cut: bool,
    /// Typical delay one way.
    pub(super) delay: Span,
    /// Messages lost in a thousand.
    pub(super) loss: u64,
    /// Messages that arrive twice in a thousand.
    pub(super) twice: u64,
    /// When the last of a byte stream arrived: nothing overtakes it. Log, and calls.
    last: [Timestamp; 2],
}

/// What a byte stream carries; each has a connection of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Carries {
    /// Replication.
    Log,
    /// Reports, orders, writes.
    Calls,
}

/// All links, by place.
#[derive(Clone, Debug)]
pub(super) struct Net {
    places: usize,
    links: Vec<Link>,
}

impl Net {
    pub(super) fn new(places: usize, delay: impl Fn(usize, usize) -> Span) -> Self {
        let link = |i: usize| Link {
            cut: false,
            delay: delay(i / places, i % places),
            loss: 0,
            twice: 0,
            last: [Timestamp(0); 2],
        };
        Self { places, links: (0..places * places).map(link).collect() }
    }
    pub(super) fn link(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.links[from * self.places + to]
    }
    pub(super) fn each(&mut self) -> impl Iterator<Item = (usize, usize, &mut Link)> {
        let places = self.places;
        self.links.iter_mut().enumerate().map(move |(i, link)| (i / places, i % places, link))
    }
    pub(super) fn passes(&self, from: usize, to: usize) -> bool {
        !self.links[from * self.places + to].cut
    }
    /// When one message arrives: not at all, once or twice.
    pub(super) fn send(
        &mut self,
        random: &mut Random,
        from: usize,
        to: usize,
    ) -> [Option<Span>; 2] {
        let link = &self.links[from * self.places + to];
        if link.cut || (link.loss > 0 && random.chance(link.loss)) {
            return [None, None];
        }
        let once = random.delay(link.delay);
        let again = (link.twice > 0 && random.chance(link.twice))
            .then(|| random.delay(Span(link.delay.0 * 4)));
        [Some(once), again]
    }
    /// When the next of a byte stream arrives: in order, and what is lost is sent again later.
    pub(super) fn stream(
        &mut self,
        now: Timestamp,
        random: &mut Random,
        from: usize,
        to: usize,
        what: Carries,
    ) -> Option<Timestamp> {
        let link = &mut self.links[from * self.places + to];
        if link.cut {
            return None;
        }
        let again =
            if link.loss > 0 && random.chance(link.loss) { Span::millis(200) } else { Span::ZERO };
        let slot = match what {
            Carries::Log => 0,
            Carries::Calls => 1,
        };
        let at = (now + random.delay(link.delay) + again).max(link.last[slot] + Span(1));
        link.last[slot] = at;
        Some(at)
    }
}
