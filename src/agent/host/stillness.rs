//! Whether processes get on. What cannot be asked, and says nothing, is told by what it reads
//! and writes; one that waits for its disk gets on.

use super::processes::stat;
use crate::model::{Span, Timestamp};

/// Since when nothing gets on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stillness {
    work: u64,
    since: Option<Timestamp>,
}

impl Stillness {
    /// For how long `pids` together have done less than `least` (bytes read or written); zero while
    /// there are none.
    pub fn look(&mut self, pids: &[u32], least: u64, now: Timestamp) -> Span {
        let each: Vec<Option<u64>> = pids.iter().map(|pid| work(*pid)).collect();
        let work = each.iter().flatten().sum();
        let busy = pids.iter().any(|pid| stat(*pid).is_some_and(|s| s.waits_for_disk()));
        // What is not told is not taken for stillness.
        if pids.is_empty() || busy || each.contains(&None) {
            *self = Self { work, since: None };
        }
        self.note(work, least, now)
    }

    /// For how long nothing got on, where it is known by other means that nothing does now.
    pub fn goes_on(&mut self, now: Timestamp) -> Span {
        now.since(*self.since.get_or_insert(now))
    }

    fn note(&mut self, work: u64, least: u64, now: Timestamp) -> Span {
        match self.since {
            Some(since) if work.abs_diff(self.work) < least => now.since(since),
            _ => {
                *self = Self { work, since: Some(now) };
                Span::ZERO
            }
        }
    }
}

/// Bytes that a process has read and written so far, pipes and sockets included (proc(5), `io`).
fn work(raw: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{raw}/io")).ok()?;
    let counted = |line: &str| {
        let (name, count) = line.split_once(": ")?;
        matches!(name, "rchar" | "wchar").then(|| count.parse::<u64>().ok())?
    };
    Some(text.lines().filter_map(counted).sum())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn little_work_is_stillness_and_enough_ends_it() {
        let mut still = Stillness::default();
        let at = |s: u64| Timestamp(s * 1_000_000_000);
        assert_eq!(still.note(100, 50, at(1)), Span::ZERO);
        assert_eq!(still.note(120, 50, at(4)), Span::secs(3));
        assert_eq!(still.note(149, 50, at(5)), Span::secs(4));
        assert_eq!(still.note(150, 50, at(6)), Span::ZERO);
        assert_eq!(still.note(150, 50, at(9)), Span::secs(3));
    }

    #[test]
    fn what_a_process_reads_and_writes_is_its_work() {
        let mut cat =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut to, mut from) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        to.write_all(&[b'x'; 10]).unwrap();
        std::io::Read::read_exact(&mut from, &mut [0; 10]).unwrap();
        let before = work(cat.id()).unwrap();
        to.write_all(&[b'x'; 1_000]).unwrap();
        std::io::Read::read_exact(&mut from, &mut [0; 1_000]).unwrap();
        assert_eq!(work(cat.id()).unwrap() - before, 2_000);
        drop(to);
        cat.wait().unwrap();
        assert_eq!(Stillness::default().look(&[], 1, Timestamp(5)), Span::ZERO);
    }
}
