//! Bad input and bad days: each with a message that says what to do, and nothing lost.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use quorate::lab::Options;

use crate::{Cluster, quick};

fn quorate(args: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_quorate"))
        .args(args)
        .env_remove("QUORATE_IDENTITY")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned()
        + &String::from_utf8_lossy(&output.stdout);
    (output.status.code().unwrap_or(-1), text)
}

/// The files of a lab whose processes were ended.
fn files() -> (tempfile::TempDir, PathBuf) {
    let mut cluster = Cluster::start(Options { plane: false, ..quick() });
    let folder = tempfile::Builder::new().prefix("qt-").tempdir_in("/tmp").unwrap();
    // Every agent has written its record before its guard starts.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !(1..=3)
        .all(|n| cluster.folder.path().join(format!("lab/node-{n}/state/guard.pid")).exists())
    {
        assert!(std::time::Instant::now() < end, "a guard says no pid");
        std::thread::yield_now();
    }
    let kept = cluster.lab.take().unwrap();
    let from = kept.dir().to_owned();
    kept.down(true).unwrap();
    let to = folder.path().join("lab");
    std::fs::rename(&from, &to).unwrap();
    (folder, to)
}

fn edit(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{from:?} is not in {}", path.display());
    std::fs::write(path, text.replacen(from, to, 1)).unwrap();
}

/// As the unprivileged user, where the tests run as root.
fn agent(config: &Path) -> (i32, String) {
    let mut command = Command::new("timeout");
    command
        .arg("20")
        .arg(config.parent().unwrap().parent().unwrap().join("quorate"))
        .arg("agent")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .current_dir("/");
    if let Some(user) = quorate::lab::User::unprivileged() {
        std::os::unix::process::CommandExt::uid(&mut command, user.uid);
        std::os::unix::process::CommandExt::gid(&mut command, user.gid);
    }
    let output = command.output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn an_agent_says_what_is_wrong_before_it_touches_anything() {
    let (_folder, lab) = files();
    let config = lab.join("node-2/agent.yaml");
    let good = std::fs::read_to_string(&config).unwrap();

    edit(&config, "resource:", "resorce:");
    let (code, text) = agent(&config);
    assert_eq!(code, 1);
    assert!(
        text.contains("agent.yaml:10:1") && text.contains("did you mean \"resource\"?"),
        "{text}"
    );

    std::fs::write(&config, good.replace("node_id: node-2", "node_id: node-22")).unwrap();
    let (code, text) = agent(&config);
    assert_eq!(code, 1);
    assert!(
        text.contains("node_id \"node-22\" is not in cluster lab: it has node-1, node-2, node-3"),
        "{text}"
    );

    std::fs::write(
        &config,
        good.replace("  data_dir: data\n", "  data_dir: data\n  bin_dir: /nowhere\n"),
    )
    .unwrap();
    let (code, text) = agent(&config);
    assert_eq!(code, 1);
    assert!(
        text.contains("PostgreSQL was not found in /nowhere")
            && text.contains("apt-get install postgresql"),
        "{text}"
    );

    std::fs::write(&config, &good).unwrap();
    let port: u16 =
        good.split("listen: 127.0.0.1:").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
    let holder = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let (code, text) = agent(&config);
    assert_eq!(code, 1);
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{text}");
    drop(holder);

    // A data directory in use by a PostgreSQL that no agent started is left alone.
    let (state, data) = (lab.join("node-2/state"), lab.join("node-2/data"));
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    let mut other = Command::new("sleep");
    other.arg("60").current_dir(&data);
    if let Some(user) = quorate::lab::User::unprivileged() {
        for folder in [&data, &lab.join("node-2")] {
            std::os::unix::fs::chown(folder, Some(user.uid), Some(user.gid)).unwrap();
        }
        std::os::unix::process::CommandExt::uid(&mut other, user.uid);
        std::os::unix::process::CommandExt::gid(&mut other, user.gid);
    }
    let mut other = other.spawn().unwrap();
    std::fs::write(data.join("postmaster.pid"), format!("{}\n", other.id())).unwrap();
    let (code, text) = agent(&config);
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(code, 1);
    assert!(
        text.contains(&format!("(process {}) is a primary", other.id()))
            && text.contains("Nothing was touched"),
        "{text}"
    );

    std::fs::write(&config, good.replace("state_dir: state", "state_dir: ../node-3/state"))
        .unwrap();
    let (code, text) = agent(&config);
    assert_eq!(code, 1);
    assert!(text.contains("belongs to node-3, this is node-2"), "{text}");
}

#[test]
fn a_data_directory_of_another_version_is_left_alone() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    cluster.lab().kill("node-3", quorate::lab::What::Host).unwrap();
    let version = cluster.folder.path().join("lab/node-3/data/PG_VERSION");
    std::fs::write(&version, "12\n").unwrap();
    cluster.lab().heal("node-3").unwrap();
    let told = |v: &quorate::model::view::ClusterView| {
        let node = v.nodes.iter().find(|n| n.node.as_str() == "node-3");
        node.and_then(|n| n.report.as_ref())
            .is_some_and(|r| r.resource.trouble.contains("was made by PostgreSQL 12"))
    };
    cluster.until("the trouble to be named", 30, told);
    assert!(cluster.folder.path().join("lab/node-3/data/global/pg_control").exists());
}

#[test]
fn files_with_contradictions_start_nothing() {
    let (_folder, lab) = files();
    let plane = lab.join("plane/plane.yaml");
    let run = || quorate(&["plane", "--config", plane.to_str().unwrap()]);
    let cluster = lab.join("cluster.yaml");
    let good = std::fs::read_to_string(&cluster).unwrap();
    for (from, to, expected) in [
        ("role: secondary", "role: primary", "node-2 is a second primary"),
        (
            "regions: [local]",
            "quorum_size: 1\nregions: [local]",
            "quorum_size 1 is refused: with 3 nodes it is at least 2",
        ),
        ("hostname", "hostnam", "did you mean \"hostname\"?"),
    ] {
        std::fs::write(&cluster, good.replacen(from, to, 1)).unwrap();
        let (code, text) = run();
        assert_eq!(code, 1, "{text}");
        assert!(text.contains("cluster.yaml:") && text.contains(expected), "{text}");
    }
}

#[test]
fn nobody_answers_at_the_planes_address() {
    let (_folder, lab) = files();
    let (code, text) = quorate(&[
        "status",
        "--identity",
        lab.join("operator").to_str().unwrap(),
        "--plane",
        "127.0.0.1:1",
    ]);
    assert_eq!(code, 1);
    assert!(text.contains("the plane at 127.0.0.1:1 cannot be reached"), "{text}");
}

#[test]
fn a_full_disk_under_the_planes_store_decides_nothing_and_costs_nothing() {
    let mut cluster = Cluster::start(quick());
    let before = cluster.calm();
    cluster.lab().kill_plane().unwrap();
    // Its store may not grow any more; the signal for that is ignored, so that it shows as a failed
    // write.
    let config = cluster.folder.path().join("lab/plane/plane.yaml");
    let script = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} plane --config {}",
        env!("CARGO_BIN_EXE_quorate"),
        config.display()
    );
    let mut plane = Command::new("sh")
        .arg("-c")
        .arg(script)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = cluster.runtime.block_on(quorate::lab::measure::until(
        &cluster.client,
        std::time::Duration::from_secs(8),
        "the trouble to be shown",
        |v| v.why.contains("nothing can be decided"),
    ));
    plane.kill().unwrap();
    let status = plane.wait().unwrap();
    let mut log = String::new();
    plane.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    // Either it says so on the picture, or it refuses to start and says why.
    assert!(said.is_ok() || log.contains("the store at"), "{said:?} {status:?} {log}");
    cluster.lab().start_plane().unwrap();
    let after = cluster.calm();
    assert_eq!((after.epoch, after.primary), (before.epoch, before.primary));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut cluster = Cluster::start(quick());
    cluster.calm();
    let dir = cluster.lab().dir().to_str().unwrap().to_owned();
    let script = format!(
        "{} lab status --dir {dir} --output json | head -c 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_quorate")
    );
    let output = Command::new("bash").arg("-c").arg(script).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
