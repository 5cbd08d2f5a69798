//! What the log says just before a place: that a log is as long as it was, under the same number of
//! a timeline, does not make it the same log. An older copy that somebody ran by hand for a while is
//! as long again, and another history.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::{Driver, files};
use crate::agent::host::{self, FolderId};
use crate::model::{LogPrint, Position, Span, Timestamp};

/// Bytes that are compared, or fewer at the beginning of a segment: the one before may be recycled
/// while this one is still needed. Records carry a checksum and the place of the one before
/// (PostgreSQL, `xlogrecord.h`), so two histories differ in any page that both wrote.
const LENGTH: u64 = 8_192;

/// Between two prints of the log.
const INTERVAL: Span = Span::secs(1);

/// What was done about prints by this process.
#[derive(Debug, Default)]
pub(super) struct Prints {
    /// When one was taken last.
    taken: Timestamp,
    /// The server whose log was compared with the print that the voter keeps.
    compared: Option<u32>,
    /// The control file beside a log that was proved to be this node's, and by what.
    proved: Option<(FolderId, LogPrint)>,
    /// What is here was started without that proof: a receiver would write the upstream's log over
    /// the place that tells, so there is none before it is cloned.
    pub(super) unknown: bool,
    /// Where a record ends that is flushed here and perhaps not replayed.
    pub(super) ends: Option<Position>,
}

impl Prints {
    /// What is here now was rewound or cloned: it is right whatever the voter still knows of what was
    /// here before.
    pub(super) fn rebuilt(&mut self, data_dir: &Path, had: Option<LogPrint>) {
        (self.unknown, self.ends) = (false, None);
        self.proved = control_file(data_dir).zip(had);
    }
}

/// A copy brings a control file of its own.
fn control_file(data_dir: &Path) -> Option<FolderId> {
    FolderId::of(&data_dir.join("global/pg_control")).ok()
}

/// A segment of the log that is here.
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) timeline: u32,
    pub(super) begins: u64,
}

/// Their size, and all of them.
pub(super) fn segments(data_dir: &Path) -> Option<(u64, Vec<Segment>)> {
    let all: Vec<_> =
        files::segments(data_dir).into_iter().filter(|(_, name)| name.len() == 24).collect();
    // A copy that was cut short leaves a shorter file.
    let size = all.iter().filter_map(|(path, _)| Some(path.metadata().ok()?.len())).max()?;
    if !size.is_power_of_two() || size <= LENGTH {
        return None;
    }
    let segment = |(path, name): (PathBuf, String)| {
        let timeline = u32::from_str_radix(name.get(..8)?, 16).ok()?;
        Some(Segment { path, timeline, begins: files::begins(&name, size)? })
    };
    Some((size, all.into_iter().filter_map(segment).collect()))
}

/// The hash of what is before `end`, read from the newest segment of timelines up to `newest`.
fn hash(size: u64, all: &[Segment], newest: u32, end: u64) -> Option<u64> {
    let last = end.checked_sub(1)?;
    let begins = last - last % size;
    let at = begins.max(end.saturating_sub(LENGTH));
    let here = all.iter().filter(|s| s.begins == begins && s.timeline <= newest);
    let segment = here.max_by_key(|s| s.timeline)?;
    let mut bytes = vec![0; usize::try_from(end - at).ok()?];
    let file = std::fs::File::open(&segment.path).ok()?;
    file.read_exact_at(&mut bytes, at - begins).ok()?;
    let first = Sha256::digest(&bytes).first_chunk().copied()?;
    Some(u64::from_be_bytes(first))
}

/// The print of the log that ends at `at`; `None`: not enough of it is here.
fn take(data_dir: &Path, at: Position) -> Option<LogPrint> {
    let (size, all) = segments(data_dir)?;
    Some(LogPrint { at, hash: hash(size, &all, at.timeline, at.lsn.0)? })
}

/// Whether the log here says the same up to that place; `None`: it is not here any more, so nobody
/// can tell. Around a switch of timelines a segment is here under more than one number, the newest
/// perhaps not filled yet: one that matches is enough.
fn matches(data_dir: &Path, print: &LogPrint) -> Option<bool> {
    let (size, all) = segments(data_dir)?;
    let mut numbers: Vec<u32> = all.iter().map(|s| s.timeline).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let found: Vec<u64> =
        numbers.iter().filter_map(|t| hash(size, &all, *t, print.at.lsn.0)).collect();
    (!found.is_empty()).then(|| found.contains(&print.hash))
}

impl Driver {
    /// What the log says up to where it is flushed, once a second while it moves.
    pub(super) fn take_print(&mut self) {
        let now = host::now();
        let data = &self.resource.data;
        if let Some(flushed) = data.flushed
            && data.print.is_none_or(|print| print.at != flushed)
            && now.since(self.prints.taken) >= INTERVAL
        {
            self.prints.taken = now;
            let print = take(&self.setup.config.data_dir, flushed);
            self.resource.data.print = print.or(self.resource.data.print);
        }
    }

    /// Once of every server that was started: is its log the one that this node had?
    pub(super) fn compare_log(&mut self, replayed: Position) {
        let server = self.exit.as_ref().map(|(pid, _)| *pid);
        let Some(had) = self.expected.borrow().print else { return };
        let line = self.resource.data.line.as_ref();
        // A shorter log is an older copy, another line a foreign one: said elsewhere.
        let comparable = line.is_some_and(|l| l.continues(had.at)) && replayed.lsn >= had.at.lsn;
        if server.is_none()
            || self.prints.compared == server
            || !comparable
            || self.resource.data.stray
        {
            return;
        }
        self.prints.compared = server;
        let pardoned = self.expected.borrow().pardoned;
        let differs =
            self.prints.unknown || matches(&self.setup.config.data_dir, &had) == Some(false);
        if !pardoned && differs {
            self.give_up_line(format!(
                "its log is not the one that this node had: what it says up to {} differs (an \
                 older copy that somebody ran by hand, on the same timeline); what it has is not \
                 taken for the cluster's history",
                had.at
            ));
        }
    }

    /// Before anything is started on these files.
    pub(super) fn note_log(&mut self) {
        self.prints.unknown = !self.is_known_log();
    }

    /// A rewind keeps all that is before the point at which the histories part, whatever it says:
    /// only where it is proved to be what this node had. Once is enough for these files: the server's
    /// own recovery may recycle the place.
    pub(super) fn is_known_log(&mut self) -> bool {
        let had = {
            let expected = self.expected.borrow();
            expected.print.filter(|_| !expected.pardoned)
        };
        let Some(had) = had else { return true };
        let data_dir = &self.setup.config.data_dir;
        let of = control_file(data_dir).zip(Some(had));
        if of.is_some() && self.prints.proved == of {
            return true;
        }
        let known = matches(data_dir, &had) == Some(true);
        self.prints.proved = of.filter(|_| known);
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lsn;

    const SIZE: usize = 1 << 20;

    fn write(dir: &Path, name: &str, fill: impl Fn(usize) -> u8) {
        std::fs::create_dir_all(dir.join("pg_wal")).unwrap();
        let bytes: Vec<u8> = (0..SIZE).map(fill).collect();
        std::fs::write(dir.join("pg_wal").join(name), bytes).unwrap();
    }
    fn at(timeline: u32, lsn: usize) -> Position {
        Position { timeline, lsn: Lsn(lsn as u64) }
    }
    #[expect(clippy::cast_possible_truncation, reason = "any bytes")]
    fn pattern(i: usize) -> u8 {
        (i / 7) as u8
    }

    #[test]
    fn the_same_length_is_not_the_same_log() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "000000020000000000000001", pattern);
        write(dir.path(), "000000020000000000000002", pattern);
        // In the middle of a segment, at its beginning, and at its end.
        for lsn in [2 * SIZE + 60_000, 2 * SIZE + 100, 3 * SIZE] {
            let print = take(dir.path(), at(2, lsn)).unwrap();
            assert_eq!(matches(dir.path(), &print), Some(true));
            // What comes after it is another matter.
            write(dir.path(), "000000020000000000000002", |i| {
                if i + 2 * SIZE < lsn { pattern(i) } else { 1 }
            });
            assert_eq!(matches(dir.path(), &print), Some(true));
            write(dir.path(), "000000020000000000000002", |i| {
                if i + 2 * SIZE < lsn - 20 { pattern(i) } else { 1 }
            });
            assert_eq!(matches(dir.path(), &print), Some(false), "{lsn}");
            write(dir.path(), "000000020000000000000002", pattern);
        }
    }

    #[test]
    fn a_new_timelines_segment_that_is_not_filled_yet_is_no_other_log() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "000000020000000000000001", pattern);
        let print = take(dir.path(), at(2, SIZE + 60_000)).unwrap();
        write(dir.path(), "000000030000000000000001", |i| if i < 100 { pattern(i) } else { 0 });
        assert_eq!(matches(dir.path(), &print), Some(true));
    }

    #[test]
    fn of_what_is_not_here_nobody_can_tell() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), "000000020000000000000002", pattern);
        std::fs::write(dir.path().join("pg_wal/000000020000000000000003"), [1; 3]).unwrap();
        assert_eq!(take(dir.path(), at(2, 3 * SIZE + 60_000)), None, "it was cut short");
        let print =
            take(dir.path(), at(2, 2 * SIZE + 100)).expect("the segment before is not asked");
        std::fs::remove_file(dir.path().join("pg_wal/000000020000000000000002")).unwrap();
        assert_eq!(matches(dir.path(), &print), None);
    }
}
