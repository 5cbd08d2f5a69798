//! How often the server is asked. One where something is new, at work or amiss is looked at ten
//! times a second. A calm one is looked at at the pace of its write check, and at once when the
//! kernel tells that a file changed which a start, a promotion, ALTER SYSTEM or an editor changes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::net::unix::pipe;

use super::data::is_in_production;
use super::{Driver, Setup};
use crate::agent::host::{self, processes};
use crate::agent::machine::Goal;
use crate::model::observation::ResourceState;
use crate::model::{Lsn, Span, Timestamp};

/// Time between two looks at a server that is not calm.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// A calm server is looked at at least so often.
const CALM_MAX: Span = Span::millis(500);
/// Something new stays new for so long: what a reload or a promotion brings comes after its file.
const NEW_FOR: Span = Span::secs(3);
/// So much log between two looks is a server at work; its own checks write far less.
const WORK_BYTES: u64 = 4 << 10;

/// What is seen without asking the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Glance {
    /// Inode, size and time of the files that a start, a promotion, ALTER SYSTEM or an editor
    /// changes.
    files: [Option<(u64, u64, i64, i64)>; 3],
    production: bool,
}

impl Glance {
    fn of(files: &[PathBuf; 3], data_dir: &Path) -> Self {
        let seen = |path: &PathBuf| {
            let m = path.metadata().ok()?;
            Some((m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
        };
        Self { files: files.each_ref().map(seen), production: is_in_production(data_dir) }
    }
}

/// What the kernel tells of the folders that those files are in: a descriptor that is waited for and
/// read as a pipe is.
#[derive(Debug)]
struct Events(pipe::Receiver);

impl Events {
    /// `None` where the kernel watches nothing more: then every server is looked at often.
    fn of(files: &[PathBuf; 3], data_dir: &Path) -> Option<Self> {
        let notify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
        let changes = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF;
        let global = data_dir.join("global");
        let folders = files.iter().filter_map(|f| f.parent()).chain([global.as_path()]);
        for folder in folders {
            inotify::add_watch(&notify, folder, changes).ok()?;
        }
        Some(Self(pipe::Receiver::from_owned_fd_unchecked(notify).ok()?))
    }

    /// Until something changes.
    async fn next(&self) {
        // Readiness of a descriptor of this process fails only with the runtime.
        if self.0.readable().await.is_err() {
            return std::future::pending().await;
        }
        let mut told = [0_u8; 4096];
        while self.0.try_read(&mut told).is_ok_and(|n| n > 0) {}
    }
}

/// When the next look is due.
#[derive(Debug, Default)]
pub(super) struct Pace {
    seen: Glance,
    looked: Option<tokio::time::Instant>,
    at: Lsn,
    new_until: Timestamp,
    calm: bool,
    /// Its postmaster was found running or waiting for a disk.
    busy_before: bool,
    events: Option<Events>,
}

impl Pace {
    /// Something is new here.
    fn quicken(&mut self, now: Timestamp) {
        (self.new_until, self.calm) = (now + NEW_FOR, false);
    }

    /// Whether something was changed since the last glance.
    fn is_news(&mut self, now: Timestamp, glance: Glance) -> bool {
        let news = glance != self.seen;
        if news {
            self.seen = glance;
            self.quicken(now);
        }
        news
    }

    /// A look was taken; `quiet`: nothing about the server wants another one soon.
    fn looked(&mut self, now: Timestamp, at: Lsn, quiet: bool) {
        let moved = at.0.abs_diff(self.at.0);
        self.at = at;
        self.calm = quiet && moved < WORK_BYTES && now >= self.new_until;
    }

    /// A postmaster sleeps but for moments: one that is stopped is asked at once whether it
    /// answers, one that is found at work or waiting for a disk the second time.
    fn is_odd(&mut self, state: Option<char>) -> bool {
        let busy = matches!(state, Some('R' | 'D'));
        let before = std::mem::replace(&mut self.busy_before, busy);
        matches!(state, Some('T' | 't')) || busy && before
    }
}

fn files(setup: &Setup) -> [PathBuf; 3] {
    let data_dir = &setup.config.data_dir;
    let main = setup.config.config_file.clone();
    [
        data_dir.join("postmaster.pid"),
        data_dir.join("postgresql.auto.conf"),
        main.unwrap_or_else(|| data_dir.join("postgresql.conf")),
    ]
}

impl Driver {
    /// Until the next look is due.
    pub(super) async fn until_due(&self) {
        let events = self.pace.events.as_ref().filter(|_| self.pace.calm);
        let calm = self.setup.write_check.min(CALM_MAX).std();
        let pause = if events.is_some() { calm } else { LOOK_INTERVAL };
        let due = self.pace.looked.map_or_else(tokio::time::Instant::now, |at| at + pause);
        let news = async {
            let Some(events) = events else { return std::future::pending().await };
            while self.glance() == self.pace.seen {
                events.next().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = news => {}
        }
    }

    fn glance(&self) -> Glance {
        Glance::of(&files(&self.setup), &self.setup.config.data_dir)
    }

    /// Before the look that is due.
    pub(super) fn note_due(&mut self) {
        let glance = self.glance();
        self.pace.is_news(host::now(), glance);
        let state = self.exit.as_ref().and_then(|(pid, _)| processes::state_of(*pid));
        let odd = self.pace.is_odd(state);
        self.pulse.calm(self.pace.calm && !odd);
        self.pace.looked = Some(tokio::time::Instant::now());
    }

    /// A server is watched from here on.
    pub(super) fn watch_files(&mut self) {
        self.pace.events = Events::of(&files(&self.setup), &self.setup.config.data_dir);
    }

    /// A goal was reached, or could not be: what comes of it is looked at closely.
    pub(super) fn look_closely(&mut self) {
        self.pace.quicken(host::now());
        self.pulse.calm(false);
    }

    /// After a look in pursuit of a reached goal.
    pub(super) fn note_pace(&mut self, goal: &Goal) {
        let streams = match goal {
            Goal::Standby { upstream: Some(_), .. } => self.facts.receiving_from.is_some(),
            _ => true,
        };
        let steady = matches!(
            self.facts.state,
            ResourceState::Standby | ResourceState::Primary | ResourceState::Stopped(_)
        );
        let quiet = steady
            && streams
            && !self.pulse.is_amiss()
            && self.facts.trouble.is_empty()
            && self.facts.setback.is_none()
            && self.resource.doubt.is_none()
            && self.is_unhindered();
        self.pace.looked(host::now(), self.facts.position.lsn, quiet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp(Span::millis(ms).0)
    }

    #[test]
    fn a_server_is_calm_when_nothing_was_new_for_a_while() {
        let mut pace = Pace::default();
        pace.looked(at(0), Lsn(7_000), true);
        assert!(!pace.calm, "it came from nowhere: as good as at work");
        pace.looked(at(100), Lsn(7_100), true);
        assert!(pace.calm);
        let promoted = Glance { production: true, ..Glance::default() };
        assert!(!pace.is_news(at(200), Glance::default()) && pace.calm);
        assert!(pace.is_news(at(200), promoted.clone()) && !pace.calm);
        for (ms, calm) in [(300, false), (2_000, false), (3_100, false), (3_200, true)] {
            assert!(!pace.is_news(at(ms), promoted.clone()));
            pace.looked(at(ms), Lsn(7_100), true);
            assert_eq!(pace.calm, calm, "what follows comes later: {ms}");
        }
    }

    #[test]
    fn a_server_at_work_or_amiss_is_looked_at_every_time() {
        for (moved, quiet, calm) in [(200, true, true), (5_000, true, false), (0, false, false)] {
            let mut pace = Pace::default();
            pace.looked(at(0), Lsn(9_000), true);
            pace.looked(at(100), Lsn(9_000 + moved), quiet);
            assert_eq!(pace.calm, calm, "{moved} bytes, quiet {quiet}");
        }
    }

    #[test]
    fn a_postmaster_that_is_stopped_or_does_not_sleep_is_asked_whether_it_answers() {
        let mut pace = Pace::default();
        let found: Vec<bool> = "SRSTRRDS".chars().map(|state| pace.is_odd(Some(state))).collect();
        assert_eq!(found, [false, false, false, true, false, true, true, false]);
        assert!(!pace.is_odd(None), "gone is another matter");
    }

    #[tokio::test]
    async fn the_kernel_tells_what_a_start_a_promotion_or_an_editor_changes() {
        let top = tempfile::tempdir().unwrap();
        let data = top.path();
        let files = ["postmaster.pid", "postgresql.auto.conf", "postgresql.conf"]
            .map(|name| data.join(name));
        let control = data.join("global/pg_control");
        std::fs::create_dir(data.join("global")).unwrap();
        std::fs::write(&control, [0; 24]).unwrap();
        let events = Events::of(&files, data).unwrap();
        let mut last = Glance::of(&files, data);
        for change in 0..4 {
            match change {
                3 => {
                    use std::os::unix::fs::FileExt as _;
                    let file = std::fs::OpenOptions::new().write(true).open(&control).unwrap();
                    file.write_at(&6_i32.to_ne_bytes(), 16).unwrap();
                }
                n => std::fs::write(&files[n], "a = 1").unwrap(),
            }
            let told = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
            assert!(told.is_ok(), "change {change}");
            let now = Glance::of(&files, data);
            assert_ne!(now, last, "change {change}");
            assert_eq!(now, Glance::of(&files, data));
            last = now;
        }
        assert!(Events::of(&files, &data.join("gone")).is_none(), "then every look is a short one");
    }
}
