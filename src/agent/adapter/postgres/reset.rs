//! Log that `pg_resetwal` began anew. It ends far beyond where the log before it ended, on the same
//! timeline, and what was in that log is gone. It shows by its first record: a checkpoint that
//! follows on nothing. Elsewhere only `initdb` writes one, on timeline 1.

use std::path::Path;

use super::files;
use crate::model::Lsn;

/// The long header of a segment's first page, and the first record's (`XLogLongPageHeaderData`,
/// `XLogRecord`).
const PAGE_HEADER: usize = 40;
const RECORD_HEADER: usize = 24;
/// The first page begins with the rest of a record of the segment before.
const FIRST_IS_CONTRECORD: u16 = 1;

/// Where the log of the newest timeline here was begun anew; `None`: it was not, as far as it is
/// here.
pub(super) fn begun_anew(data_dir: &Path) -> Option<Lsn> {
    let newest = files::newest_timeline(data_dir)?;
    let of_it = format!("{newest:08X}");
    files::segments(data_dir)
        .into_iter()
        .filter(|(_, name)| name.starts_with(&of_it))
        .find_map(|(path, name)| follows_on_nothing(&path, &name, newest))
}

fn follows_on_nothing(segment: &Path, name: &str, timeline: u32) -> Option<Lsn> {
    use std::io::Read as _;
    let mut head = [0; PAGE_HEADER + RECORD_HEADER];
    std::fs::File::open(segment).and_then(|mut file| file.read_exact(&mut head)).ok()?;
    let long = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&head[at..at + 8]);
        u64::from_ne_bytes(bytes)
    };
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&head[at..at + 4]);
        u32::from_ne_bytes(bytes)
    };
    let info = u16::from_ne_bytes([head[2], head[3]]);
    let (page_timeline, begins, segment_bytes) = (word(4), long(8), u64::from(word(32)));
    let (length, before) = (word(PAGE_HEADER) as usize, long(PAGE_HEADER + 8));
    let (kind, manager) = (head[PAGE_HEADER + 16] & 0xF0, head[PAGE_HEADER + 17]);
    // A new timeline begins with a copy of the segment in which it left the one before.
    let own = page_timeline == timeline && files::begins(name, segment_bytes) == Some(begins);
    let shutdown_checkpoint = length >= RECORD_HEADER && (kind, manager) == (0, 0);
    // `initdb` writes one too, at the beginning of everything.
    let first = timeline == 1 && begins == segment_bytes;
    let anew =
        own && !first && info & FIRST_IS_CONTRECORD == 0 && shutdown_checkpoint && before == 0;
    anew.then_some(Lsn(begins))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment's first bytes: page header and the header of a shutdown checkpoint's record.
    fn segment(timeline: u32, begins: u64, before: u64, length: u32) -> Vec<u8> {
        let mut head = vec![0; 8_192];
        head[4..8].copy_from_slice(&timeline.to_ne_bytes());
        head[8..16].copy_from_slice(&begins.to_ne_bytes());
        head[32..36].copy_from_slice(&(16_u32 << 20).to_ne_bytes());
        head[40..44].copy_from_slice(&length.to_ne_bytes());
        head[48..56].copy_from_slice(&before.to_ne_bytes());
        head
    }

    #[test]
    fn a_log_that_follows_on_nothing_was_begun_anew() {
        let begins = 7 << 24;
        let name = "000000040000000000000007";
        let cases = [
            ("reset", name, segment(4, begins, 0, 114), Some(Lsn(begins))),
            ("grown", name, segment(4, begins, begins - 64, 114), None),
            ("no record yet", name, segment(4, begins, 0, 0), None),
            (
                "left the first timeline in its first segment",
                name,
                segment(1, begins, 0, 114),
                None,
            ),
            ("initdb's own", "000000010000000000000001", segment(1, 1 << 24, 0, 114), None),
            ("to be used again", "000000040000000000000009", segment(4, begins, 0, 114), None),
        ];
        for (what, name, head, found) in cases {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
            std::fs::write(folder.path().join("pg_wal").join(name), head).unwrap();
            assert_eq!(begun_anew(folder.path()), found, "{what}");
        }
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(begun_anew(folder.path()), None, "no log at all");
    }
}
