//! Room: whether every folder that matters on a node has enough of it.

use crate::model::observation::{NodeReport, Room};
use crate::model::plan::Word;

/// What a folder needs. A state folder is small, and may lie on a small disk of its own.
fn needed(room: &Room, least: u64) -> u64 {
    if room.what == "state" { least.min(room.total / 10) } else { least }
}

fn scant(room: &Room, least: u64) -> bool {
    room.total > 0 && room.free < needed(room, least)
}

/// Every folder of the node has room. Does not allocate.
pub(super) fn enough(report: &NodeReport, least: u64) -> bool {
    let data = &report.resource;
    (data.disk_free >= least || data.disk_total == 0)
        && !report.rooms.iter().any(|room| scant(room, least))
}

/// The folder that is shortest of room, in words: what it has, and what it needs. An agent of
/// before tells the data directory's only.
pub(super) fn tightest(report: &NodeReport, least: u64) -> (Word, Word) {
    let over = |room: &&Room| room.free.saturating_sub(needed(room, least));
    let known = report.rooms.iter().filter(|room| room.total > 0);
    match known.min_by_key(|room| (!scant(room, least), over(room))) {
        Some(room) => (
            format!("{} MiB free for {} in {}", room.free >> 20, room.what, room.path).into(),
            format!("{} MiB free", needed(room, least) >> 20).into(),
        ),
        None if report.resource.disk_total == 0 => {
            ("unknown".into(), format!("{} MiB free", least >> 20).into())
        }
        None => (
            format!("{} MiB free", report.resource.disk_free >> 20).into(),
            format!("{} MiB free", least >> 20).into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(what: &str, free: u64, total: u64) -> Room {
        Room { what: what.into(), path: format!("/{what}"), free: free << 20, total: total << 20 }
    }

    #[test]
    fn the_folder_that_is_shortest_of_room_decides_and_is_named() {
        let least = 64 << 20;
        for (rooms, holds, named) in [
            (vec![room("state", 900, 1_000), room("data", 70, 1_000)], true, "data in /data"),
            (vec![room("state", 900, 1_000), room("data", 60, 1_000)], false, "data in /data"),
            (vec![room("state", 1, 40), room("data", 500, 1_000)], false, "state in /state"),
            (vec![room("state", 5, 40), room("data", 500, 1_000)], true, "state in /state"),
            (vec![room("data", 500, 1_000), room("wal", 3, 100)], false, "wal in /wal"),
            (vec![room("state", 0, 0)], true, "unknown"),
        ] {
            let report = NodeReport { rooms, ..crate::engine::tests::report("n2") };
            assert_eq!(enough(&report, least), holds, "{report:?}");
            let (value, _) = tightest(&report, least);
            assert!(value.to_string().contains(named), "{value:?}");
        }
    }
}
