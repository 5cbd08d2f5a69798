//! A cluster is given back: its servers go on as plain PostgreSQL, and nobody else drives them.

use std::process::Command;

use crate::{Cluster, quick};

impl Cluster {
    /// A command of quorate's on the host of `node`, as the agent's user.
    pub fn on_host(&self, node: &str, command: &str, more: &[&str]) -> (String, Option<i32>) {
        let lab = self.folder.path().join("lab");
        let mut program = Command::new(lab.join("quorate"));
        program.args(command.split(' ')).args(["--config"]);
        program.arg(self.dir(node).join("agent.yaml")).args(more).current_dir("/");
        if rustix::process::geteuid().is_root() {
            use std::os::unix::fs::MetadataExt as _;
            use std::os::unix::process::CommandExt as _;
            let owner = std::fs::metadata(self.dir(node)).unwrap();
            program.uid(owner.uid()).gid(owner.gid());
        }
        let output = program.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.code())
    }
}

/// What a release says that the next one has to be told.
pub fn word_of(said: &str) -> String {
    let word = said.split("--released ").last().unwrap();
    word.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn a_cluster_is_given_back_and_its_servers_go_on() {
    let mut cluster = Cluster::start(quick());
    let primary = cluster.primary();
    cluster.ok(&primary, "create table mine as select generate_series(1, 100) i");
    let mut standbys: Vec<String> = ["node-1", "node-2", "node-3"]
        .map(String::from)
        .into_iter()
        .filter(|n| *n != primary)
        .collect();
    let (last, first) = (standbys.pop().unwrap(), standbys.pop().unwrap());
    cluster.lab().kill_plane().unwrap();
    let pid =
        |node: &str| quorate::agent::host::postmaster(&cluster.dir(node).join("data")).unwrap();
    let before = [&primary, &first, &last].map(|node| pid(node));

    let release = |node: &str, more: &[&str]| {
        let all = [&["--output", "table"], more].concat();
        cluster.on_host(node, "release", &all)
    };
    // The primary first: the two others could elect one of them.
    let (said, code) = release(&primary, &["--begin", &primary]);
    assert!(code == Some(3) && said.contains("have to be released before it"), "{said}");
    let (said, code) = release(&first, &["--begin", &last]);
    assert_eq!(code, Some(2), "{said}");
    let (said, code) = release(&first, &["--begin", &first]);
    assert!(code == Some(0) && said.contains("is released"), "{said}");
    let first_named = word_of(&said);
    // The other one has to wait for the primary, whatever is said, and no word is taken for another.
    let (said, code) = release(&last, &["--begin", &last]);
    assert!(code == Some(3) && said.contains("the primary is next"), "{said}");
    let wrong = format!("{last}=12345678");
    let (said, code) = release(&primary, &["--begin", &primary, "--released", &wrong]);
    assert!(code == Some(3) && said.contains("is not what the release"), "{said}");
    let (said, code) = release(&primary, &["--begin", &primary, "--released", &first_named]);
    assert!(code == Some(0), "{said}");
    let named = format!("{first_named},{}", word_of(&said));
    let (said, code) =
        release(&last, &["--begin", &last, "--released", &named, "--primary", &primary]);
    assert!(code == Some(0), "{said}");

    let after = [&primary, &first, &last].map(|node| pid(node));
    assert_eq!(after, before, "a server was stopped");
    // Longer than a lease: nothing ends it, and both standbys have what is written.
    let began = std::time::Instant::now();
    while began.elapsed() < std::time::Duration::from_secs(8) {
        cluster.ok(&primary, "insert into mine values (0)");
    }
    let rows = cluster.count(&primary, "mine");
    for node in [&first, &last] {
        cluster.client_sees("it replicates", 20, || cluster.count(node, "mine") == rows);
    }
    // No agent takes it back, and its owner restarts it with PostgreSQL's own programs.
    let (said, code) = cluster.on_host(&primary, "agent", &[]);
    assert!(code == Some(3) && said.contains("was given back"), "{said}");
    let data = cluster.dir(&primary).join("data").display().to_string();
    let socket = cluster.dir(&primary).join("socket").display().to_string();
    let port = cluster.lab.as_ref().unwrap().postgres_ports()[&primary];
    let options = format!("-p {port} -k {socket}");
    let log = cluster.dir(&primary).join("plain.log").display().to_string();
    cluster.postgres("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
    cluster.postgres("pg_ctl", &["-D", &data, "-l", &log, "-o", &options, "-w", "start"]);
    cluster.ok(&primary, "insert into mine values (0)");
    for node in [&first, &last] {
        cluster.client_sees("it replicates", 20, || cluster.count(node, "mine") == rows + 1);
    }
}
