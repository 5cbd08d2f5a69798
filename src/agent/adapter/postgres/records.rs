//! Where records end in log that is flushed here and not replayed yet: replay may be paused or
//! delayed for hours, and what was confirmed meanwhile is no less this node's. A place in the middle
//! of a record would not do, for a server that starts again ends before it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::print::{Segment, segments};
use crate::model::{Lsn, Position};

/// Of a page of log, and of the headers of the first in a segment and of the others (PostgreSQL,
/// `xlog_internal.h`).
const PAGE: u64 = 8_192;
const LONG_HEADER: u64 = 40;
const HEADER: u64 = 24;
/// The first record of this page goes on from the page before.
const CONTINUES: u16 = 1;
/// A record's own header: its length first, its kind at 16, its manager at 17 (`xlogrecord.h`).
const RECORD: u64 = 24;
/// The record after which the rest of its segment is empty (`pg_control.h`, `rmgrlist.h`).
const SWITCH: (u8, u8) = (0, 0x40);
/// Bytes that are read at a time; the next look goes on from there.
const MOST: u64 = 64 << 20;

struct Log {
    size: u64,
    all: Vec<Segment>,
    timeline: u32,
    file: Option<(u64, File)>,
    /// The page that was read last, and where it begins.
    page: (u64, Vec<u8>),
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

impl Log {
    fn header(&self, page: u64) -> u64 {
        if page.is_multiple_of(self.size) { LONG_HEADER } else { HEADER }
    }

    /// Reads the page that begins there; `None`: it is not of this log.
    fn load(&mut self, page: u64) -> Option<()> {
        if self.page.0 == page && !self.page.1.is_empty() {
            return Some(());
        }
        let begins = page - page % self.size;
        if self.file.as_ref().is_none_or(|(at, _)| *at != begins) {
            let here = self.all.iter().filter(|s| s.begins == begins);
            let newest = here.filter(|s| s.timeline <= self.timeline).max_by_key(|s| s.timeline)?;
            self.file = Some((begins, File::open(&newest.path).ok()?));
        }
        let mut bytes = vec![0; PAGE as usize];
        self.file.as_ref()?.1.read_exact_at(&mut bytes, page - begins).ok()?;
        let says = u64::from_ne_bytes(number(&bytes, 8)?);
        let blocks = u32::from_ne_bytes(number(&bytes, 36)?);
        if says != page || (page == begins && u64::from(blocks) != PAGE) {
            return None;
        }
        self.page = (page, bytes);
        Some(())
    }

    /// A record's header, which may go over to the next page.
    fn record(&mut self, at: u64) -> Option<Vec<u8>> {
        let page = at - at % PAGE;
        self.load(page)?;
        let room = (PAGE - at % PAGE).min(RECORD);
        let from = (at - page) as usize;
        let mut head = self.page.1.get(from..from + room as usize)?.to_vec();
        if room < RECORD {
            self.load(page + PAGE)?;
            let from = self.header(page + PAGE) as usize;
            head.extend(self.page.1.get(from..from + (RECORD - room) as usize)?);
        }
        Some(head)
    }

    /// Where a record of that length ends; `None`: it was given up half-way.
    fn end(&mut self, at: u64, length: u64) -> Option<u64> {
        let (mut at, mut left) = (at, length);
        while left > PAGE - at % PAGE {
            left -= PAGE - at % PAGE;
            let page = at - at % PAGE + PAGE;
            self.load(page)?;
            let flags = u16::from_ne_bytes(number(&self.page.1, 2)?);
            let remains = u32::from_ne_bytes(number(&self.page.1, 16)?);
            if flags & CONTINUES == 0 || u64::from(remains) != left {
                return None;
            }
            at = page + self.header(page);
        }
        Some((at + left).next_multiple_of(8))
    }

    /// The end of the record after that place.
    fn next(&mut self, after: u64) -> Option<u64> {
        let mut at = after.next_multiple_of(8);
        if at.is_multiple_of(PAGE) {
            at += self.header(at);
        }
        let head = self.record(at)?;
        let length = u64::from(u32::from_ne_bytes(number(&head, 0)?));
        if length < RECORD {
            return None;
        }
        let end = self.end(at, length)?;
        let switches = (head[17], head[16] & 0xF0) == SWITCH;
        Some(if switches { end.next_multiple_of(self.size) } else { end })
    }
}

/// The last end of a record at or before `flushed`, from one at `from` on.
pub(super) fn last_end(data_dir: &Path, from: Position, flushed: Lsn) -> Position {
    let mut at = from;
    let Some((size, all)) = segments(data_dir).filter(|_| flushed > from.lsn) else { return at };
    let mut log = Log { size, all, timeline: from.timeline, file: None, page: (0, vec![]) };
    while at.lsn.bytes_since(from.lsn) < MOST
        && let Some(end) = log.next(at.lsn.0)
        && end <= flushed.0
    {
        at.lsn = Lsn(end);
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1 << 20;

    fn write(dir: &Path, number: usize, bytes: &[u8]) {
        std::fs::create_dir_all(dir.join("pg_wal")).unwrap();
        std::fs::write(dir.join(format!("pg_wal/00000002000000000000000{number:X}")), bytes)
            .unwrap();
    }

    /// Pages of segment 2, with records of these lengths one after the other; the ends of them.
    fn log(lengths: &[usize]) -> (Vec<u8>, Vec<u64>) {
        let (mut bytes, mut ends) = (vec![0_u8; SIZE], vec![]);
        let base = 2 * SIZE;
        let header = |bytes: &mut Vec<u8>, at: usize, remains: usize| {
            bytes[at + 2..at + 4].copy_from_slice(&u16::from(remains > 0).to_ne_bytes());
            bytes[at + 8..at + 16].copy_from_slice(&((base + at) as u64).to_ne_bytes());
            bytes[at + 16..at + 20].copy_from_slice(&(remains as u32).to_ne_bytes());
            bytes[at + 36..at + 40].copy_from_slice(&8_192_u32.to_ne_bytes());
            at + if at == 0 { 40 } else { 24 }
        };
        let mut at = header(&mut bytes, 0, 0);
        for length in lengths {
            if at.is_multiple_of(8_192) {
                at = header(&mut bytes, at, 0);
            }
            let mut record = vec![1_u8; *length];
            record[..4].copy_from_slice(&(*length as u32).to_ne_bytes());
            let mut rest = &record[..];
            while !rest.is_empty() {
                let room = (8_192 - at % 8_192).min(rest.len());
                bytes[at..at + room].copy_from_slice(&rest[..room]);
                (at, rest) = (at + room, &rest[room..]);
                if at.is_multiple_of(8_192) && !rest.is_empty() {
                    at = header(&mut bytes, at, rest.len());
                }
            }
            at = at.next_multiple_of(8);
            ends.push((base + at) as u64);
        }
        (bytes, ends)
    }

    #[test]
    fn a_place_in_a_record_is_none_to_end_at() {
        let dir = tempfile::tempdir().unwrap();
        // Over no, one and several borders of pages; a header that is cut by one.
        let lengths = [30, 8_100, 40, 20_001, 4_200, 100];
        let (bytes, ends) = log(&lengths);
        write(dir.path(), 2, &bytes);
        let at = |lsn| Position { timeline: 2, lsn: Lsn(lsn) };
        let from = at(2 * SIZE as u64 + 40);
        for (i, end) in ends.iter().enumerate() {
            assert_eq!(last_end(dir.path(), from, Lsn(*end)), at(*end), "record {i}");
            let before = if i == 0 { from } else { at(ends[i - 1]) };
            assert_eq!(last_end(dir.path(), from, Lsn(end - 8)), before, "in record {i}");
        }
        // What was there before the segment was used again is none of it.
        let last = *ends.last().unwrap();
        assert_eq!(last_end(dir.path(), from, Lsn(last + 500)), at(last));
        // One that was given up half-way.
        let mut torn = bytes;
        torn[16_384 + 2] = 0;
        write(dir.path(), 2, &torn);
        assert_eq!(last_end(dir.path(), from, Lsn(last)), at(ends[2]));
    }
}
