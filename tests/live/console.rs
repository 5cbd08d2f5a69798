//! A real terminal drives the built program: a person sees the primary die, opens the plan, types
//! the demoted node's name, confirms, and reads "verified".

use std::process::Command;
use std::time::{Duration, Instant};

use quorate::lab::{Options, What};
use quorate::model::topology::Strategy;

use crate::{Cluster, quick};

pub(crate) struct Terminal {
    socket: String,
}

impl Terminal {
    pub(crate) fn start(width: u16, height: u16, command: &str) -> Self {
        let terminal = Self { socket: format!("quorate-{}-{}", std::process::id(), width) };
        let (w, h) = (width.to_string(), height.to_string());
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &w,
            "-y",
            &h,
            "-s",
            "t",
            command,
        ]);
        terminal
    }
    fn tmux(&self, args: &[&str]) -> String {
        let output = Command::new("tmux").arg("-L").arg(&self.socket).args(args).output();
        let output = output.expect("tmux runs (Debian package: tmux)");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-t", "t"])
    }
    pub(crate) fn keys(&self, keys: &[&str]) {
        let mut args = vec!["send-keys", "-t", "t"];
        args.extend(keys);
        self.tmux(&args);
    }
    pub(crate) fn write(&self, text: &str) {
        self.tmux(&["send-keys", "-t", "t", "-l", text]);
    }
    pub(crate) fn wait(&self, words: &str) -> String {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.screen();
            if screen.contains(words) {
                return screen;
            }
            assert!(Instant::now() < end, "waited for {words:?}, the screen is:\n{screen}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn a_person_fails_over_from_the_console() {
    let mut cluster = Cluster::start(Options { strategy: Strategy::Manual, ..quick() });
    cluster.calm_at("node-1");
    let identity = cluster.lab().identity("operator");
    let command =
        format!("{} console --identity {}", env!("CARGO_BIN_EXE_quorate"), identity.display());
    let terminal = Terminal::start(80, 24, &command);
    terminal.wait("● HEALTHY");
    terminal.wait("after a person's word node-2 promotes");

    cluster.lab().kill("node-1", What::Postgres).unwrap();
    terminal.wait("► YOURS");
    terminal.wait("✗ CRITICAL");

    terminal.keys(&["3"]);
    terminal.wait("LOSS        ✓ none (proved)");

    terminal.write(":execute");
    terminal.wait(":execute_");
    terminal.keys(&["Enter"]);
    terminal.wait("Type the name of the node");
    // Another name does not do it, and Enter alone cancels.
    terminal.write("node-2");
    terminal.keys(&["Enter"]);
    terminal.wait("is the one that gets the role");
    terminal.keys(&["Enter"]);
    terminal.wait("cancelled; nothing was done");

    terminal.write(":execute");
    terminal.wait(":execute_");
    terminal.keys(&["Enter"]);
    terminal.wait("Type the name of the node");
    terminal.write("node-1");
    terminal.wait("demote  node-1_");
    terminal.wait("Enter executes it");
    terminal.keys(&["Enter"]);
    terminal.wait("VERIFIED");
    terminal.wait("measured    RTO ");
    terminal.wait("loss none (proved) · fence:");

    terminal.keys(&["6"]);
    terminal.wait("✓ INTACT");
    let view = cluster.calm();
    // A real write, and on record.
    terminal.write(":verify");
    terminal.wait(":verify_");
    terminal.keys(&["Enter"]);
    terminal.wait("a write came back, confidence 100");
    terminal.wait("operator wants a real write");
    assert_ne!(view.primary.unwrap().as_str(), "node-1");

    // The plane goes: the picture says so, then an agent serves, and the console never left.
    cluster.lab().kill_plane().unwrap();
    terminal.keys(&["2"]);
    terminal.wait("NO PLANE, agent node-");
    cluster.lab().start_plane().unwrap();
    terminal.wait("  live");
    terminal.keys(&["q"]);
}
