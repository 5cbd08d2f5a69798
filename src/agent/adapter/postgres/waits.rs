//! Commits whose wait for a standby was cancelled: visible, acknowledged with a warning, and
//! perhaps nowhere else. The server has no counter for them. Two sources: waits that end without a
//! confirmation, seen by sampling, and the server's log where it can be read; where it cannot, the
//! number is unknown, never 0. Only ever a number beside the account: nothing is decided by it.

use std::collections::VecDeque;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use crate::model::Lsn;

/// How far the synchronous set has confirmed: what releases a wait. A change of the set is one too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmed {
    /// The setting in force.
    pub setting: String,
    /// The k-th furthest flushed and replayed position of the set.
    pub reached: (Lsn, Lsn),
}

/// Waits that ended without a confirmation. In every look the confirmations are read before the
/// waiters, so that a waiter of one look that is gone in the next, with the same confirmations
/// before the first and after the second, was not released.
#[derive(Debug, Default)]
pub struct Sampled {
    looks: VecDeque<(Confirmed, Vec<i32>)>,
}

impl Sampled {
    /// One look; how many waits it proves to be cancelled.
    pub fn see(&mut self, confirmed: Confirmed, waiters: Vec<i32>) -> u32 {
        self.looks.push_back((confirmed, waiters));
        if self.looks.len() > 3 {
            self.looks.pop_front();
        }
        let [first, second, third] = self.looks.make_contiguous() else { return 0 };
        if first.0 != third.0 || first.0 != second.0 {
            return 0;
        }
        let gone = first.1.iter().filter(|pid| !second.1.contains(pid)).count();
        u32::try_from(gone).unwrap_or(u32::MAX)
    }
}

/// In which form a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Text in English.
    Text,
    /// Comma-separated, with the SQLSTATE.
    Csv,
    /// JSON, with the SQLSTATE.
    Json,
}

impl Form {
    /// Cancelled waits in a piece of log. Where there is an SQLSTATE other warnings without a state
    /// of their own count too: rather too many than too few.
    fn count(self, text: &str) -> usize {
        match self {
            Form::Text => {
                text.matches("canceling wait for synchronous replication").count()
                    + text.matches("canceling the wait for synchronous replication").count()
            }
            Form::Csv => text.matches(",01000,").count(),
            Form::Json => text.matches("\"state_code\":\"01000\"").count(),
        }
    }
}

/// The log that is read, and how far.
#[derive(Debug, Default)]
pub struct ServerLog {
    file: Option<(PathBuf, Form)>,
    read: u64,
}

impl ServerLog {
    /// The server logs there now; `None`: nowhere that can be read. A new file is read from its
    /// beginning, the first one from its present end.
    pub fn point_at(&mut self, file: Option<(PathBuf, Form)>) -> usize {
        if self.file == file {
            return 0;
        }
        // What was written to the old one until it was left.
        let rest = self.count();
        self.read = match (&self.file, &file) {
            (None, Some((path, _))) => size(path),
            _ => 0,
        };
        self.file = file;
        rest
    }

    /// Whether there is a log to read.
    pub fn is_readable(&self) -> bool {
        self.file.as_ref().is_some_and(|(path, _)| std::fs::File::open(path).is_ok())
    }

    /// Cancelled waits since the last call.
    pub fn count(&mut self) -> usize {
        let Some((path, form)) = &self.file else { return 0 };
        let Ok(mut file) = std::fs::File::open(path) else { return 0 };
        if file.metadata().map_or(0, |m| m.len()) < self.read {
            self.read = 0;
        }
        let mut fresh = Vec::new();
        if file
            .seek(SeekFrom::Start(self.read))
            .and_then(|_| file.take(1 << 20).read_to_end(&mut fresh))
            .is_err()
        {
            return 0;
        }
        // A line that is being written is read with its rest.
        let whole = fresh.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        form.count(&String::from_utf8_lossy(&fresh[..whole]))
    }
}

fn size(path: &Path) -> u64 {
    path.metadata().map_or(0, |m| m.len())
}

/// The settings that say where the server logs.
#[derive(Clone, Debug, Default)]
pub struct Logging {
    /// `log_destination`.
    pub destination: String,
    /// `logging_collector`.
    pub collector: bool,
    /// `lc_messages`.
    pub messages: String,
    /// `log_min_messages`.
    pub least: String,
    /// The collector's present files: stderr, csvlog, jsonlog.
    pub files: [Option<String>; 3],
}

impl Logging {
    /// The file to read, and its form; `None`: cancelled waits are not to be seen in any.
    pub fn readable(&self, data_dir: &Path, stderr: PathBuf) -> Option<(PathBuf, Form)> {
        if ["error", "log", "fatal", "panic"].contains(&self.least.as_str()) {
            return None;
        }
        let sends = |to: &str| self.destination.split(',').any(|d| d.trim() == to);
        let english = ["C", "POSIX", ""].contains(&self.messages.as_str())
            || self.messages.starts_with("C.")
            || self.messages.starts_with("en_");
        if !self.collector {
            return (sends("stderr") && english).then_some((stderr, Form::Text));
        }
        let [text, csv, json] = &self.files;
        let at = |name: &String| data_dir.join(name);
        if let Some(csv) = csv {
            return Some((at(csv), Form::Csv));
        }
        if let Some(json) = json {
            return Some((at(json), Form::Json));
        }
        text.as_ref().filter(|_| english).map(|text| (at(text), Form::Text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn confirmed(lsn: u64) -> Confirmed {
        Confirmed { setting: "ANY 1".into(), reached: (Lsn(lsn), Lsn(lsn)) }
    }

    #[test]
    fn a_wait_that_ends_without_a_confirmation_was_cancelled() {
        let mut sampled = Sampled::default();
        assert_eq!(sampled.see(confirmed(5), vec![7, 8]), 0);
        assert_eq!(sampled.see(confirmed(5), vec![8]), 0, "a confirmation may be under way");
        assert_eq!(sampled.see(confirmed(5), vec![8]), 1);
        assert_eq!(sampled.see(confirmed(6), vec![]), 0, "released by a confirmation");
        assert_eq!(sampled.see(confirmed(6), vec![]), 0);
    }

    #[test]
    fn a_changed_set_releases_waits_too() {
        let mut sampled = Sampled::default();
        sampled.see(confirmed(5), vec![7]);
        sampled.see(Confirmed { setting: String::new(), ..confirmed(5) }, vec![]);
        assert_eq!(sampled.see(confirmed(5), vec![]), 0);
    }

    #[test]
    fn where_the_log_cannot_be_read_the_number_is_unknown() {
        let data = Path::new("/d");
        let read = |l: &Logging| l.readable(data, "/d.log".into());
        let plain = Logging {
            destination: "stderr".into(),
            messages: "C".into(),
            least: "warning".into(),
            ..Logging::default()
        };
        assert_eq!(read(&plain), Some(("/d.log".into(), Form::Text)));
        assert_eq!(read(&Logging { least: "error".into(), ..plain.clone() }), None);
        assert_eq!(read(&Logging { messages: "de_DE.UTF-8".into(), ..plain.clone() }), None);
        assert_eq!(read(&Logging { destination: "syslog".into(), ..plain.clone() }), None);
        let files = [Some("log/a.log".into()), Some("log/a.csv".into()), None];
        let collected = Logging { collector: true, files, ..plain };
        assert_eq!(read(&collected), Some(("/d/log/a.csv".into(), Form::Csv)));
    }

    #[test]
    fn a_log_is_read_from_its_end_and_a_new_file_from_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let line = "WARNING:  canceling wait for synchronous replication due to user request\n";
        std::fs::write(&a, line).unwrap();
        let mut log = ServerLog::default();
        assert_eq!(log.point_at(Some((a.clone(), Form::Text))), 0);
        assert_eq!(log.count(), 0);
        std::fs::write(&a, format!("{line}{line}")).unwrap();
        std::fs::write(&b, format!("{line}half of canceling wait")).unwrap();
        assert_eq!(log.point_at(Some((b, Form::Text))), 1);
        assert_eq!((log.count(), log.count()), (1, 0));
    }
}
