//! Servers that are absent, half-open, no servers at all, flapping, stopped, or gone in the middle
//! of a call: what is not known is said to be, and the keys go on working.

use std::path::{Path, PathBuf};

use quorate::lab::{Lab, Options};
use rustix::process::{Pid, Signal, kill_process};

use crate::pty::Pty;
use crate::server::{Way, absent, babbling, half_open};
use crate::{PROGRAM, console, stranger};

#[test]
fn who_does_not_answer_is_named_and_the_keys_work() {
    for (server, why) in [
        (absent(), "cannot be reached"),
        (half_open(), "did not answer within"),
        (babbling(), "cannot be reached"),
    ] {
        let home = tempfile::tempdir().unwrap();
        let identity = stranger(home.path(), &server);
        let mut terminal = Pty::start((100, 30), home.path(), PROGRAM, &console(&identity));
        terminal.wait("UNKNOWN");
        terminal.wait(why);
        terminal.write("?");
        terminal.wait("WHAT WORKS HERE");
        terminal.write("\x1b");
        terminal.until("the help is gone", |screen| !screen.contains("WHAT WORKS HERE"));
        terminal.write("q");
        assert!(terminal.left().success());
    }
}

/// A lab of simulated databases, and a console on it that reaches the plane by this way only.
struct Watched {
    lab: Option<Lab>,
    way: Way,
    identity: PathBuf,
    home: tempfile::TempDir,
}

impl Watched {
    fn start() -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
        // The lab's user passes through.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let options = Options { simulated: true, ..Options::default() };
        let lab = Lab::create(&home.path().join("lab"), options, Path::new(PROGRAM), |_| {});
        let lab = lab.unwrap();
        let way = Way::to(lab.plane_address());
        let identity = home.path().join("person");
        std::fs::create_dir(&identity).unwrap();
        for name in ["ca.pem", "cert.pem", "key.pem", "approval.key"] {
            std::fs::copy(lab.identity("operator").join(name), identity.join(name)).unwrap();
        }
        let text = format!("name: operator\nplane: {}\n", way.address);
        std::fs::write(identity.join("identity.yaml"), text).unwrap();
        Self { lab: Some(lab), way, identity, home }
    }
    fn console(&self) -> Pty {
        let terminal = Pty::start((100, 30), self.home.path(), PROGRAM, &console(&self.identity));
        terminal.wait("● HEALTHY");
        terminal
    }
    fn plane(&self, signal: Signal) {
        let pid = self.lab.as_ref().unwrap().plane_pid().expect("the plane runs");
        kill_process(Pid::from_raw(pid.cast_signed()).unwrap(), signal).unwrap();
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            self.plane_goes_on(&lab);
            let _ = lab.down(false);
        }
    }
}

impl Watched {
    /// A stopped process does not end.
    fn plane_goes_on(&self, lab: &Lab) {
        if let Some(pid) = lab.plane_pid().and_then(|p| Pid::from_raw(p.cast_signed())) {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

#[test]
fn a_way_that_flaps_under_held_keys_ends_in_the_newest_picture() {
    let watched = Watched::start();
    let mut terminal = watched.console();
    let before = watched.way.connections();
    watched.way.cut_after(4_000);
    while watched.way.connections() < before + 4 {
        for key in ["6", "2"] {
            let drawn = terminal.bytes();
            terminal.write(key);
            terminal.more_than(drawn);
        }
    }
    watched.way.cut_after(u64::MAX);
    // Among so many keys the last may count as pasted: it is typed again with every tick.
    for _ in 0..60 {
        if terminal.shows("● HEALTHY") {
            break;
        }
        let drawn = terminal.bytes();
        terminal.write("2");
        terminal.more_than(drawn);
    }
    terminal.wait("● HEALTHY");
    // Control-C is never taken for a paste.
    terminal.write("\x03");
    assert!(terminal.left().success());
}

#[test]
fn a_stopped_plane_is_unknown_until_it_goes_on() {
    let watched = Watched::start();
    let mut terminal = watched.console();
    watched.plane(Signal::STOP);
    let screen = terminal.wait("? UNKNOWN");
    assert!(!screen.contains("● HEALTHY"), "{screen}");
    assert!(screen.contains("it was HEALTHY"), "{screen}");
    // What is stale cannot fire anything.
    terminal.write(":switchover node-2");
    terminal.wait(":switchover node-2");
    terminal.enter();
    terminal.wait("✗");
    terminal.write("\x1b\x1b");
    watched.plane(Signal::CONT);
    terminal.write("r");
    terminal.wait("● HEALTHY");
    // Keys of a program may count as pasted, and Control-C never.
    terminal.write("\x03");
    assert!(terminal.left().success());
}

#[test]
fn a_plane_that_goes_in_the_middle_of_a_call_leaves_an_unknown() {
    let watched = Watched::start();
    let mut terminal = watched.console();
    terminal.write(":switchover node-2");
    terminal.wait(":switchover node-2");
    watched.plane(Signal::STOP);
    terminal.enter();
    // Where the call had no connection yet, or the console knew already that it has none, nothing
    // was said, and nothing can have been done.
    terminal.until("unknown, or never said", |screen| {
        screen.contains("UNKNOWN: ")
            || screen.contains("cannot be reached: did not answer")
            || screen.contains("not now: no plane is connected")
    });
    terminal.write("\x1b\x1bq");
    assert!(terminal.left().success());
}
