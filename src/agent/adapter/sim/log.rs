//! The log of a simulated database, kept in its folder: what was written, by position. Whoever is
//! killed has what it had written; a torn last line never was.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::agent::host;
use crate::model::{Lsn, Position, TimelineHistory};

const STATE: &str = "sim.json";
const LOG: &str = "log";
/// Where a new log begins.
const BEGIN: Lsn = Lsn(0x0100_0000);
/// What one write takes.
const STEP: u64 = 96;

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// A row with this number.
    Row(i64),
    /// All rows are removed.
    Clear,
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The system identifier; `None` until something was copied.
    pub system: Option<u64>,
    /// Its timeline, with the branches behind it.
    pub history: TimelineHistory,
}

/// What a standby is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Piece {
    /// Whose log.
    pub origin: Origin,
    /// Up to where the sender has it.
    pub end: Lsn,
    /// What comes after the place that was asked for.
    pub writes: Vec<(Lsn, Write)>,
}

/// A log, open for writing.
#[derive(Debug)]
pub struct Log {
    folder: PathBuf,
    origin: Origin,
    writes: Vec<(Lsn, Write)>,
    file: File,
}

/// Whether one was made here.
pub fn has_data(folder: &Path) -> bool {
    folder.join(STATE).exists()
}

/// What a folder has while nothing runs in it.
pub fn at_rest(folder: &Path) -> Option<(Origin, Position)> {
    let (origin, writes) = read(folder)?;
    let position = Position { timeline: origin.history.timeline, lsn: end(&writes) };
    Some((origin, position))
}

fn read(folder: &Path) -> Option<(Origin, Vec<(Lsn, Write)>)> {
    let state = std::fs::read_to_string(folder.join(STATE)).ok()?;
    let text = std::fs::read_to_string(folder.join(LOG)).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let writes = whole.lines().map_while(|line| serde_json::from_str(line).ok()).collect();
    Some((serde_json::from_str(&state).ok()?, writes))
}

fn end(writes: &[(Lsn, Write)]) -> Lsn {
    writes.last().map_or(BEGIN, |(at, _)| *at)
}

impl Log {
    /// Opens the log in `folder`; a new and empty one where there is none.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open(folder: &Path) -> std::io::Result<Self> {
        let new = || {
            let history = TimelineHistory { timeline: 1, left: vec![] };
            (Origin { system: None, history }, vec![])
        };
        let (origin, writes) = read(folder).unwrap_or_else(new);
        let file = OpenOptions::new().create(true).append(true).open(folder.join(LOG))?;
        let mut log = Self { folder: folder.to_owned(), origin, writes, file };
        log.keep_origin()?;
        log.rewrite()?;
        Ok(log)
    }

    /// Whose it is.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }
    /// Where it ends.
    pub fn position(&self) -> Position {
        Position { timeline: self.origin.history.timeline, lsn: end(&self.writes) }
    }

    fn keep_origin(&self) -> std::io::Result<()> {
        host::write_durably(&self.folder.join(STATE), &serde_json::to_string(&self.origin)?)
    }
    fn rewrite(&mut self) -> std::io::Result<()> {
        let text: String = self.writes.iter().map(line).collect();
        host::write_durably(&self.folder.join(LOG), &text)?;
        self.file = OpenOptions::new().append(true).open(self.folder.join(LOG))?;
        Ok(())
    }

    /// Makes it the log of a new system.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn found(&mut self, system: u64) -> std::io::Result<()> {
        self.origin.system = Some(system);
        self.keep_origin()
    }

    /// Writes at its end, and says where that is then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, write: Write) -> std::io::Result<Lsn> {
        let entry = (Lsn(self.position().lsn.0 + STEP), write);
        self.file.write_all(line(&entry).as_bytes())?;
        self.writes.push(entry);
        Ok(entry.0)
    }

    /// Begins a timeline here.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn branch(&mut self, timeline: u32) -> std::io::Result<()> {
        let at = self.position();
        self.origin.history.left.push((at.timeline, at.lsn));
        self.origin.history.timeline = timeline;
        self.keep_origin()
    }

    /// Gives up what is past the place where it left `history`; how many writes that were.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn rewind(&mut self, history: &TimelineHistory) -> std::io::Result<usize> {
        if history.continues(self.position()) {
            return Ok(0);
        }
        let mine = &self.origin.history;
        let mut ways: Vec<(u32, Lsn)> = mine.left.clone();
        ways.push((mine.timeline, Lsn(u64::MAX)));
        // The newest timeline that both have been on, up to where the first of them left it.
        let shared = ways.iter().rev().find_map(|(timeline, left)| {
            let theirs = match history.left_at(*timeline) {
                Some(at) => at,
                None if *timeline == history.timeline => Lsn(u64::MAX),
                None => return None,
            };
            Some((*timeline, theirs.min(*left)))
        });
        let (timeline, at) = shared.unwrap_or((1, BEGIN));
        let before = self.writes.len();
        self.writes.retain(|(lsn, _)| *lsn <= at);
        self.origin.history.left.retain(|(t, _)| *t < timeline);
        self.origin.history.timeline = timeline;
        self.rewrite()?;
        self.keep_origin()?;
        Ok(before - self.writes.len())
    }

    /// What comes after `from`.
    pub fn piece(&self, from: Lsn) -> Piece {
        let begin = self.writes.partition_point(|(at, _)| *at <= from);
        Piece {
            origin: self.origin.clone(),
            end: self.position().lsn,
            writes: self.writes[begin..].to_vec(),
        }
    }

    /// Takes what a sender has after its own end. Another system's, another line's, or what has less
    /// than this one is not taken.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn take(&mut self, piece: &Piece) -> std::io::Result<bool> {
        let mine = self.position();
        let same = self.origin.system.is_none() || self.origin.system == piece.origin.system;
        if !same || piece.end < mine.lsn || !piece.origin.history.continues(mine) {
            return Ok(false);
        }
        let new: Vec<_> = piece.writes.iter().filter(|(at, _)| *at > mine.lsn).copied().collect();
        if !new.is_empty() {
            let text: String = new.iter().map(line).collect();
            self.file.write_all(text.as_bytes())?;
            self.writes.extend(new);
        }
        if self.origin != piece.origin {
            self.origin = piece.origin.clone();
            self.keep_origin()?;
        }
        Ok(true)
    }

    /// The rows that are there.
    pub fn rows(&self) -> Vec<i64> {
        let cleared = self.writes.iter().rposition(|(_, w)| *w == Write::Clear);
        let rows = self.writes[cleared.unwrap_or(0)..].iter().filter_map(|(_, w)| match w {
            Write::Row(row) => Some(*row),
            Write::Clear => None,
        });
        rows.collect()
    }
}

fn line(entry: &(Lsn, Write)) -> String {
    serde_json::to_string(entry).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, writes: u64) -> Position {
        Position { timeline, lsn: Lsn(BEGIN.0 + writes * STEP) }
    }

    /// Two logs: one that was founded, wrote three rows and was copied, and its copy.
    fn pair(folder: &Path) -> (Log, Log) {
        let open = |name: &str| {
            std::fs::create_dir(folder.join(name)).unwrap();
            Log::open(&folder.join(name)).unwrap()
        };
        let (mut one, mut two) = (open("one"), open("two"));
        one.found(7).unwrap();
        for row in 1..=3 {
            one.append(Write::Row(row)).unwrap();
        }
        assert!(two.take(&one.piece(two.position().lsn)).unwrap());
        (one, two)
    }

    #[test]
    fn what_is_copied_and_what_is_found_again_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, two) = pair(folder.path());
        assert_eq!(
            (two.position(), two.rows(), two.origin()),
            (at(1, 3), vec![1, 2, 3], one.origin())
        );
        one.append(Write::Clear).unwrap();
        one.append(Write::Row(9)).unwrap();
        drop(one);
        let torn = folder.path().join("one").join(LOG);
        let text = std::fs::read_to_string(&torn).unwrap() + "[16777";
        std::fs::write(&torn, text).unwrap();
        let again = Log::open(&folder.path().join("one")).unwrap();
        assert_eq!((again.position(), again.rows()), (at(1, 5), vec![9]));
        assert_eq!(at_rest(&folder.path().join("one")).unwrap().1, at(1, 5));
    }

    #[test]
    fn a_former_primary_gives_up_what_its_successor_does_not_have() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut two) = pair(folder.path());
        one.append(Write::Row(4)).unwrap();
        two.branch(2).unwrap();
        two.append(Write::Row(5)).unwrap();
        let piece = two.piece(one.position().lsn);
        assert!(!one.take(&piece).unwrap(), "it went its own way");
        assert_eq!(one.rewind(&two.origin().history.clone()).unwrap(), 1);
        assert_eq!(one.position(), at(1, 3));
        assert!(one.take(&two.piece(one.position().lsn)).unwrap());
        assert_eq!((one.position(), one.rows()), (two.position(), vec![1, 2, 3, 5]));
    }

    #[test]
    fn nothing_is_taken_from_one_that_has_less_or_is_anothers() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut two) = pair(folder.path());
        two.append(Write::Row(4)).unwrap();
        assert!(!two.take(&one.piece(two.position().lsn)).unwrap());
        one.found(8).unwrap();
        one.append(Write::Row(4)).unwrap();
        one.append(Write::Row(5)).unwrap();
        assert!(!two.take(&one.piece(two.position().lsn)).unwrap());
        assert_eq!(two.rows(), [1, 2, 3, 4]);
    }
}
