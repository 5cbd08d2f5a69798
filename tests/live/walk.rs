//! The way through the documents with the database of somebody else: passwords, TLS, an archive, a
//! tablespace, a logical consumer and Debian's layout. It is adopted, fails over, comes back, moves
//! home and is given back; nothing that was acknowledged is gone at any station.

use std::path::{Path, PathBuf};

use quorate::lab::measure::is_calm;
use quorate::lab::{Options, What};

use crate::fencing::comes_true;
use crate::release::word_of;
use crate::{Cluster, NODES, quick};

/// What its owner wrote: every connection between servers is encrypted and asks for a password.
const RULES: &str = "local all all trust\n\
    host all app 127.0.0.1/32 trust\n\
    hostssl all postgres 127.0.0.1/32 scram-sha-256\n\
    hostssl replication all 127.0.0.1/32 scram-sha-256\n";
const PASSWORD: &str = "o'er the \"hills\"";

/// Somebody's cluster, and how many rows its clients were told are there.
struct Theirs {
    cluster: Cluster,
    passfile: PathBuf,
    rows: usize,
}

impl Theirs {
    fn lab(&self) -> PathBuf {
        self.cluster.folder.path().join("lab")
    }
    fn own(&self, path: &Path, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        if let Some(user) = quorate::lab::User::unprivileged() {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)).unwrap();
        }
    }
    fn config(&self, node: &str) -> PathBuf {
        self.cluster.file(node, "etc/postgresql.conf")
    }
    /// A folder like `/etc/postgresql/15/main`.
    fn configure(&self, node: &str) {
        let etc = self.cluster.dir(node).join("etc");
        self.cluster.own_folder(&etc);
        let (dir, lab) = (self.cluster.dir(node), self.lab());
        let port = self.cluster.lab.as_ref().unwrap().postgres_ports()[node];
        let (dir, etc_text, lab) = (dir.display(), etc.display(), lab.display());
        let text = format!(
            "data_directory = '{dir}/data'\nhba_file = '{etc_text}/pg_hba.conf'\n\
             ident_file = '{etc_text}/pg_ident.conf'\nport = {port}\n\
             unix_socket_directories = '{dir}/socket'\nlisten_addresses = '127.0.0.1'\n\
             wal_level = logical\nmax_connections = 60\nshared_buffers = '24MB'\n\
             password_encryption = 'scram-sha-256'\nssl = on\n\
             ssl_cert_file = '{dir}/tls/cert.pem'\nssl_key_file = '{dir}/tls/key.pem'\n\
             archive_mode = on\n\
             archive_command = 'test -f {lab}/archive/%f || cp %p {lab}/archive/%f'\n\
             restore_command = 'cp {lab}/archive/%f %p'\n\
             log_min_messages = notice\n"
        );
        std::fs::write(self.config(node), text).unwrap();
        std::fs::write(etc.join("pg_hba.conf"), RULES).unwrap();
        std::fs::write(etc.join("pg_ident.conf"), "").unwrap();
        for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            self.own(&etc.join(file), 0o600);
        }
    }
    fn start(&self, node: &str) {
        let config = format!("-c config_file={}", self.config(node).display());
        let data = self.cluster.dir(node).join("data").display().to_string();
        let log = self.cluster.dir(node).join("plain.log").display().to_string();
        let all = ["-D", &data, "-l", &log, "-o", &config, "-w", "start"];
        let said = self.cluster.postgres("pg_ctl", &all);
        assert!(said.contains("started"), "{said}");
    }
    fn source(&self, node: &str) -> String {
        let port = self.cluster.lab.as_ref().unwrap().postgres_ports()[node];
        format!(
            "host=127.0.0.1 port={port} user=postgres passfile={} {}",
            self.passfile.display(),
            self.options()
        )
    }
    fn options(&self) -> String {
        format!("sslmode=verify-ca sslrootcert={}/node-1/tls/ca.pem", self.lab().display())
    }
    fn say(&mut self, node: &str, sql: &[&str]) -> String {
        self.cluster.sql_as(node, "app", sql).unwrap_or_else(|e| panic!("{node}: {sql:?}: {e}"))
    }
    /// A hundred rows more, acknowledged; a node that does not take writes yet is asked again.
    fn write(&mut self, node: &str) {
        let insert = ["INSERT INTO orders SELECT generate_series(1, 100)"];
        let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
        loop {
            match self.cluster.sql_as(node, "app", &insert) {
                Ok(_) => break,
                Err(why) => {
                    let refused = why.contains("read-only transaction");
                    assert!(refused && std::time::Instant::now() < end, "{node}: {why}");
                }
            }
            std::thread::yield_now();
        }
        self.rows += 100;
    }
    /// Every node has every row.
    fn all_there(&mut self) {
        let rows = self.rows.to_string();
        for node in NODES {
            let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
            loop {
                let count = self.cluster.sql_as(node, "app", &["SELECT count(*) FROM orders"]);
                if count.as_ref() == Ok(&rows) {
                    break;
                }
                assert!(std::time::Instant::now() < end, "{node} has {count:?} of {rows}");
                std::thread::yield_now();
            }
        }
    }

    fn make() -> Self {
        let cluster = Cluster::start(Options { agents: false, ..quick() });
        let passfile = cluster.folder.path().join("lab/passfile");
        let mut it = Self { cluster, passfile, rows: 0 };
        let escaped = PASSWORD.replace('\\', "\\\\").replace(':', "\\:");
        std::fs::write(&it.passfile, format!("*:*:*:postgres:{escaped}\n")).unwrap();
        it.own(&it.passfile, 0o600);
        it.cluster.own_folder(&it.lab().join("archive"));
        for node in NODES {
            it.cluster.own_folder(&it.cluster.dir(node).join("socket"));
            it.cluster.own_folder(&it.cluster.dir(node).join("space"));
            it.configure(node);
        }
        let data = |it: &Self, n: &str| it.cluster.dir(n).join("data").display().to_string();
        let first = data(&it, "node-1");
        it.cluster.postgres("initdb", &["-D", &first, "-U", "postgres", "--no-sync"]);
        for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            std::fs::remove_file(Path::new(&first).join(file)).unwrap();
        }
        it.start("node-1");
        let socket = it.cluster.dir("node-1").join("socket").display().to_string();
        let port = it.cluster.lab.as_ref().unwrap().postgres_ports()["node-1"].to_string();
        let quoted = PASSWORD.replace('\'', "''");
        let role = format!("ALTER ROLE postgres PASSWORD '{quoted}'");
        let role = ["-h", &socket, "-p", &port, "-U", "postgres", "-c", &role];
        it.cluster
            .postgres("psql", &[&role[..], &["-c", "CREATE ROLE app LOGIN SUPERUSER"]].concat());
        let space = it.cluster.dir("node-1").join("space");
        let create = format!("CREATE TABLESPACE fast LOCATION '{}'", space.display());
        it.say("node-1", &[&create, "CREATE TABLE orders (i int) TABLESPACE fast"]);
        it.write("node-1");
        for node in ["node-2", "node-3"] {
            let to = data(&it, node);
            let mapping = format!(
                "--tablespace-mapping={}={}",
                space.display(),
                it.cluster.dir(node).join("space").display()
            );
            let source = it.source("node-1");
            let args = ["-d", &source, "-D", &to, &mapping, "-c", "fast", "--no-sync"];
            it.cluster.postgres("pg_basebackup", &args);
            std::fs::write(Path::new(&to).join("standby.signal"), "").unwrap();
            it.own(&Path::new(&to).join("standby.signal"), 0o600);
            let line = format!("primary_conninfo = '{source}'\n");
            it.cluster.append(node, "data/postgresql.auto.conf", &line);
            it.start(node);
        }
        it.say("node-1", &["SELECT pg_create_logical_replication_slot('feed', 'pgoutput')"]);
        it
    }

    fn release(&self, node: &str, more: &[&str]) -> String {
        let all = [&["--output", "table", "--begin", node], more].concat();
        let (said, code) = self.cluster.on_host(node, "release", &all);
        assert_eq!(code, Some(0), "{said}");
        word_of(&said)
    }
}

#[test]
fn somebodys_cluster_is_adopted_fails_over_comes_back_and_is_given_back() {
    let mut it = Theirs::make();
    it.all_there();
    for node in NODES {
        let file = it.cluster.file(node, "agent.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = format!(
            "  data_dir: data\n  config_file: etc/postgresql.conf\n  replication_passfile: {}\n  \
             replication_options: {}\n",
            it.passfile.display(),
            it.options()
        );
        std::fs::write(&file, text.replacen("  data_dir: data\n", &lines, 1)).unwrap();
        it.cluster.lab().start_agent(node).unwrap();
    }
    let adopt = |it: &Theirs, more: &[&str]| {
        it.cluster.on_host("node-1", "adopt", &[&["--output", "table"], more].concat())
    };
    let end = std::time::Instant::now() + std::time::Duration::from_secs(40);
    loop {
        let (said, code) = adopt(&it, &[]);
        if code == Some(0) {
            break;
        }
        assert!(std::time::Instant::now() < end, "{said}");
    }
    let (said, code) = adopt(&it, &["--begin", "node-1"]);
    assert_eq!(code, Some(0), "{said}");
    let owned = it.cluster.calm();
    assert_eq!(owned.primary.as_ref().unwrap().as_str(), "node-1");
    it.write("node-1");

    // Whoever plans a move is told what the consumer loses by it.
    let (_, plan, err) = it.cluster.quorate(&["plan", "--to", "node-2"]);
    assert!(plan.contains("feed"), "{plan}{err}");
    it.cluster.lab().kill("node-1", What::Postgres).unwrap();
    let moved = it.cluster.until("another node takes the role", 60, |v| {
        v.epoch > owned.epoch && v.primary.as_ref().is_some_and(|p| p.as_str() != "node-1")
    });
    let second = moved.primary.unwrap().as_str().to_owned();
    it.write(&second);
    it.cluster.calm();
    it.all_there();
    // Its connections are the owner's kind, and its archive goes on with the new line.
    let plain = "SELECT count(*) FROM pg_stat_replication r JOIN pg_stat_ssl s USING (pid) \
        WHERE NOT s.ssl";
    assert_eq!(it.say(&second, &[plain]), "0");
    let file = it.say(&second, &["SELECT pg_walfile_name(pg_current_wal_lsn())"]);
    it.say(&second, &["SELECT pg_switch_wal()"]);
    comes_true("the archive has the new line", 40, || {
        it.lab().join("archive").join(&file).exists()
    });

    // A former primary with log that nobody has is rewound, or copied, by the same connections.
    let diverge = [
        "SET synchronous_commit = local",
        "CREATE TABLE gone TABLESPACE fast AS SELECT generate_series(1, 20000) i",
    ];
    let senders = "SELECT string_agg(pid::text, ' ') FROM pg_stat_replication WHERE state = \
        'streaming' AND application_name LIKE 'node-%'";
    let senders = it.say(&second, &[senders]);
    let signal = |what: &str| {
        let mut kill = std::process::Command::new("kill");
        kill.arg(what).args(senders.split(' ')).status().unwrap().success()
    };
    assert!(signal("-STOP"));
    it.say(&second, &diverge);
    it.cluster.lab().kill(&second, What::Postgres).unwrap();
    signal("-KILL");
    let third = it.cluster.until("the role moved and everybody is well", 90, |v| {
        is_calm(v) && v.primary.as_ref().is_some_and(|p| p.as_str() != second)
    });
    let third = third.primary.unwrap().as_str().to_owned();
    for node in NODES {
        assert_eq!(it.say(node, &["SELECT to_regclass('gone') IS NULL"]), "t", "{node}");
    }
    let forks = it.cluster.file(&second, "state/forks");
    assert!(std::fs::read_dir(&forks).unwrap().next().is_some(), "{}", forks.display());
    it.write(&third);
    it.all_there();

    // Home, and given back.
    if third != "node-1" {
        it.cluster.runs(&["switchover", "--to", "node-1", "--confirm", &third]);
    }
    it.cluster.calm();
    it.write("node-1");
    it.all_there();
    it.cluster.lab().kill_plane().unwrap();
    let first = it.release("node-2", &[]);
    let named = it.release("node-1", &["--released", &first]);
    let both = format!("{first},{named}");
    it.release("node-3", &["--released", &both, "--primary", "node-1"]);
    it.write("node-1");
    it.all_there();
    // Its owner stops and starts it with PostgreSQL's own programs, from its own files.
    let data = it.cluster.dir("node-1").join("data").display().to_string();
    it.cluster.postgres("pg_ctl", &["-D", &data, "-m", "fast", "-w", "stop"]);
    it.start("node-1");
    it.write("node-1");
    it.all_there();
    assert_eq!(
        it.say("node-1", &["SHOW restore_command"]),
        format!("cp {}/archive/%f %p", it.lab().display())
    );
}
