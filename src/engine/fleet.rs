//! Many clusters on one plane: one engine each, and the question that only the whole can answer: is
//! it us? When too many nodes of too many clusters fall silent at once, it is rather this observer
//! that is cut off, and nothing moves by itself.
//!
//! No engine knows another. What they share is this guard.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, Engine, Input};
use crate::model::{ClusterId, Span, Timestamp, WallTime};

/// How often the guard looks.
const LOOK_INTERVAL: Span = Span::secs(1);
/// Silent nodes in a hundred, from which on the observer is suspected.
const SUSPECT_PER_CENT: usize = 33;
/// Fewer clusters than this say nothing about the observer.
const CLUSTERS_MIN: usize = 3;

/// Many engines.
#[derive(Debug, Default)]
pub struct Fleet {
    engines: BTreeMap<ClusterId, Engine>,
    wakeups: BTreeSet<(Timestamp, ClusterId)>,
    looked: Timestamp,
    paused: bool,
}

impl Fleet {
    /// Takes an engine in.
    pub fn insert(&mut self, engine: Engine) {
        let id = engine.cluster().cluster_id.clone();
        self.wakeups.insert((engine.next_wakeup().0, id.clone()));
        self.engines.insert(id, engine);
    }
    /// One of them.
    pub fn engine(&self, cluster: &ClusterId) -> Option<&Engine> {
        self.engines.get(cluster)
    }
    /// All of them.
    pub fn engines(&self) -> impl Iterator<Item = &Engine> {
        self.engines.values()
    }
    /// Whether the guard holds automatic action back.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Which engine has to be woken next, and when.
    pub fn next_wakeup(&self) -> Option<(Timestamp, &ClusterId)> {
        self.wakeups.first().map(|(at, id)| (*at, id))
    }

    /// One input for one cluster; `None` for a cluster that is not here.
    pub fn handle(
        &mut self,
        now: Timestamp,
        wall: WallTime,
        cluster: &ClusterId,
        input: Input,
    ) -> Option<Decision> {
        let engine = self.engines.get_mut(cluster)?;
        let before = engine.next_wakeup().0;
        let decision = engine.handle(now, wall, input);
        let after = engine.next_wakeup().0;
        if after != before {
            self.wakeups.remove(&(before, cluster.clone()));
            self.wakeups.insert((after, cluster.clone()));
        }
        Some(decision)
    }

    /// Looks whether too many fell silent at once; what the engines decide when that changes. Call
    /// it with every wake-up: it looks once a second.
    pub fn guard(&mut self, now: Timestamp, wall: WallTime) -> Vec<(ClusterId, Decision)> {
        if now.since(self.looked) < LOOK_INTERVAL || self.engines.len() < CLUSTERS_MIN {
            return vec![];
        }
        self.looked = now;
        let (mut silent, mut nodes, mut clusters) = (0, 0, 0);
        for engine in self.engines.values() {
            let (s, n) = engine.silent(now);
            (silent, nodes, clusters) = (silent + s, nodes + n, clusters + usize::from(s > 0));
        }
        let suspected = silent * 100 >= nodes * SUSPECT_PER_CENT && clusters >= CLUSTERS_MIN;
        if suspected == self.paused {
            return vec![];
        }
        self.paused = suspected;
        let why = if suspected {
            format!(
                "{silent} of {nodes} nodes in {clusters} clusters fell silent at once: this plane \
                    may be the one that is cut off"
            )
        } else {
            String::new()
        };
        let ids: Vec<ClusterId> = self.engines.keys().cloned().collect();
        let mut decisions = vec![];
        for id in ids {
            if let Some(decision) = self.handle(now + Span(1), wall, &id, Input::Fleet(why.clone()))
            {
                decisions.push((id, decision));
            }
        }
        decisions
    }
}
