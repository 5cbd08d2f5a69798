//! A machine without PostgreSQL: the first command does the main job there, on simulated databases,
//! and says so.

use std::path::Path;
use std::process::{Command, Output};

use quorate::config::Identity;
use quorate::lab::{Lab, measure};
use quorate::wire::Client;

use crate::console::Terminal;
use crate::{Cluster, nothing_lost};

/// Runs a command where no PostgreSQL can be found: nothing of it on PATH, and empty folders over
/// those where packages put it.
fn bare(command: &str) -> String {
    let hidden = ["/usr/lib/postgresql", "/usr/pgsql-13", "/usr/pgsql-17"]
        .iter()
        .filter(|folder| Path::new(folder).exists())
        .map(|folder| format!("mount -t tmpfs none {folder} && "))
        .collect::<String>();
    // Programs that the shell needs, without what else lies beside them.
    format!("{hidden}PATH=/nowhere exec {command}")
}

fn unshare() -> Vec<&'static str> {
    let root = rustix::process::geteuid().is_root();
    if root { vec!["unshare", "-m"] } else { vec!["unshare", "-r", "-m"] }
}

fn run(arguments: &str) -> Output {
    let command = bare(&format!("{} {arguments}", env!("CARGO_BIN_EXE_quorate")));
    let words = unshare();
    let output = Command::new(words[0]).args(&words[1..]).args(["sh", "-c", &command]).output();
    output.unwrap_or_else(|e| panic!("unshare cannot be run (Debian package: util-linux): {e}"))
}

fn bare_cluster() -> Cluster {
    let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let dir = folder.path().join("lab");
    let made = run(&format!("lab up --dir {}", dir.display()));
    let said = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success(), "{said}");
    assert!(said.contains("apt-get install postgresql") && said.contains("simulated"), "{said}");
    let lab = Lab::open(&dir).unwrap();
    let identity = Identity::read(&lab.identity("operator")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client =
        runtime.block_on(async { Client::new(&identity.plane, "plane", &identity.tls).unwrap() });
    Cluster { lab: Some(lab), folder, identity, client, runtime, laws: None }
}

/// It asked y/N, and the lab that followed could move nothing: "health is 0.68 (limit 0.70)".
#[test]
fn a_lab_without_postgresql_does_the_main_job() {
    let mut cluster = bare_cluster();
    assert!(cluster.calm().simulated);
    for event in [
        measure::Event::Kill,
        measure::Event::Switchover,
        measure::Event::Host,
        measure::Event::Freeze,
        measure::Event::Cut,
    ] {
        nothing_lost(&cluster.once(event));
    }
    cluster.calm();
    let identity = cluster.lab().identity("operator");
    let status = run(&format!("status --output table --identity {}", identity.display()));
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(said.contains("SIMULATED") && said.contains("apt-get install postgresql"), "{said}");
}

/// The first command itself: no question, and every screen says what it shows.
#[test]
fn the_first_command_asks_nothing() {
    let command = bare(env!("CARGO_BIN_EXE_quorate"));
    let words = unshare().join(" ");
    let terminal = Terminal::start(80, 24, &format!("{words} sh -c '{command}'"));
    terminal.wait("● HEALTHY");
    for page in ["1", "2", "3", "6"] {
        terminal.keys(&[page]);
        terminal.wait("SIMULATED");
        terminal.wait("apt-get install postgresql");
    }
    terminal.write(":switchover node-2");
    terminal.wait(":switchover node-2_");
    terminal.keys(&["Enter"]);
    terminal.wait("LOSS        ✓ none (proved)");
    terminal.write(":execute");
    terminal.wait(":execute_");
    terminal.keys(&["Enter"]);
    terminal.wait("Type the name of the node");
    terminal.write("node-1");
    terminal.wait("Enter executes it");
    terminal.keys(&["Enter"]);
    terminal.wait("VERIFIED");
    terminal.keys(&["q"]);
}
