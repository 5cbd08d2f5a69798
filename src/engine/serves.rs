//! Whether a candidate could serve, beyond what it has received: its replay goes on, and the others
//! could replicate from it.

use super::Engine;
use super::candidates::FRESH;
use super::constraints::check;
use crate::model::observation::{Blocked, ResourceFacts};
use crate::model::plan::{Check, Word};
use crate::model::serving::Serving;
use crate::model::topology::Role;
use crate::model::{NodeId, Span};

/// The check of a standby's replay.
pub(super) const REPLAYS: &str = "replays";
/// The same, where a promotion would end the server: no outage overrules that.
const SETTINGS: &str = "settings";
/// The check that it would take writes.
pub(super) const WRITES: &str = "writes";
/// The check that the others can replicate from it.
pub(super) const FOLLOWED: &str = "followed";

/// Log that is here and not replayed has to be before a promotion ends.
const UNREPLAYED_MAX: u64 = 256 << 20;

/// Whether it is one of these.
pub(super) fn is_of_serving(check: &Check) -> bool {
    [REPLAYS, SETTINGS, WRITES, FOLLOWED].contains(&&*check.name)
}

/// Whether its replay goes on, and is near.
pub(super) fn replays(resource: &ResourceFacts, serving: &Serving) -> Check {
    let limit = format!("goes on, {} MiB behind at most", UNREPLAYED_MAX >> 20);
    if let Some(held) = &serving.held {
        let name = if held.fatal { SETTINGS } else { REPLAYS };
        let value = format!("held up for {} by {}", held.lasts, held.by);
        return check(name, false, value, limit, held.mend.clone());
    }
    let behind = resource.position.lsn.bytes_since(resource.replayed);
    let near = behind <= UNREPLAYED_MAX;
    check(REPLAYS, near, format!("{behind} B behind what is here"), limit, "it replays what it has")
}

/// What would keep clients from writing to it after a promotion; `None`: nothing.
pub(super) fn refuses_writes(resource: &ResourceFacts) -> Option<Check> {
    let blocked = resource.blocked.as_ref().filter(|b| **b == Blocked::ReadOnly)?;
    let limit = "promoted, it takes clients' writes";
    Some(check(WRITES, false, blocked.to_string(), limit, "the setting is taken back there"))
}

impl Engine {
    /// Whether the others could replicate from `node`, as each of them tried. `None`: nobody tries.
    pub(super) fn followed_check(&self, node: &NodeId) -> Option<Check> {
        let mut tried: Option<(Word, bool, Span)> = None;
        let mut known = false;
        for other in self.cluster.nodes.iter().filter(|n| n.role != Role::Witness) {
            let mind = &self.nodes[&other.node_id];
            let heard = mind.age(self.now).is_some_and(|age| age <= FRESH);
            let report = mind.report.as_ref().filter(|_| heard && other.node_id != *node);
            let Some(serving) = report.and_then(|r| r.resource.serving.as_ref()) else { continue };
            known = true;
            let Some(reach) = serving.reaches.iter().find(|r| r.node == *node) else { continue };
            if !reach.refused.is_empty() {
                let why = format!("{} cannot: {}", other.node_id, reach.refused);
                tried = Some((why.into(), false, reach.age));
                break;
            }
            let oldest = tried.map_or(reach.age, |(_, _, age)| age.max(reach.age));
            tried = Some(("all that tried could".into(), true, oldest));
        }
        if !known {
            return None;
        }
        let (value, passed, age) =
            tried.map_or(("not tried yet".into(), true, None), |(v, p, age)| (v, p, Some(age)));
        let mut check = check(
            FOLLOWED,
            passed,
            value,
            "the others can replicate from it",
            format!(
                "pg_hba.conf on {node} lets replication connections in, and its address answers"
            ),
        );
        (check.source, check.age) = ("a replication connection".into(), age);
        Some(check)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::report;
    use crate::model::Lsn;
    use crate::model::serving::{Held, Slot};

    #[test]
    fn replay_that_is_held_up_or_far_behind_is_named_with_its_mend() {
        let mut resource = report("n2").resource;
        resource.replayed = resource.position.lsn;
        let mut serving = Serving::default();
        assert!(replays(&resource, &serving).passed);
        resource.position.lsn = Lsn(UNREPLAYED_MAX + resource.replayed.0 + 1);
        assert!(!replays(&resource, &serving).passed);
        let by = "a pause".to_owned();
        let held = Held { by, lasts: Span::secs(7), mend: "resume".into(), fatal: false };
        serving.held = Some(held.clone());
        let check = replays(&resource, &serving);
        assert_eq!((&*check.name, check.passed, &*check.would_change), (REPLAYS, false, "resume"));
        assert!(super::super::candidates::yields_to_an_outage(&check));
        serving.held = Some(Held { fatal: true, ..held });
        let check = replays(&resource, &serving);
        assert!(!super::super::candidates::yields_to_an_outage(&check), "its promotion ends it");
    }

    #[test]
    fn a_slot_is_left_when_nobody_receives_by_it_and_it_holds_log() {
        let slot = |active, holds, carried| Slot {
            name: "s".into(),
            logical: false,
            active,
            holds,
            carried,
        };
        assert!(slot(false, 80 << 20, false).is_left());
        assert!(!slot(true, 80 << 20, false).is_left());
        assert!(!slot(false, 1 << 20, false).is_left());
        assert!(!slot(false, 80 << 20, true).is_left(), "a standby's copy");
    }
}
