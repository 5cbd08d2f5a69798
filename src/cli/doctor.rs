//! `quorate doctor`: one node's host looked at with the agent's own table of settings. Changes
//! nothing; run it on the host, as the user that the agent runs as.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use color_eyre::Result;
use serde::Serialize;
use tokio_postgres::Row;

use super::Outcome;
use super::output::{self, Format, say};
use crate::agent::adapter::postgres::archive::Archive;
use crate::agent::adapter::postgres::session::Session;
use crate::agent::adapter::postgres::settings::{self, Kind};
use crate::agent::adapter::postgres::{Programs, sql};
use crate::agent::host;
use crate::config::AgentConfig;
use crate::config::agent::PostgresConfig;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The node's agent.yaml.
    #[arg(long)]
    config: PathBuf,
    /// `table` or `json`; a table on a terminal.
    #[arg(long, value_enum)]
    output: Option<Format>,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Right,
    /// It cannot be seen from here.
    Unknown,
    /// It will hurt some day, or a wish of the user's is overruled.
    Mind,
    /// A promise does not hold.
    Wrong,
}

impl Verdict {
    fn sign(self) -> &'static str {
        match self {
            Verdict::Right => "✓",
            Verdict::Unknown => "?",
            Verdict::Mind => "!",
            Verdict::Wrong => "✗",
        }
    }
}

#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) about: &'static str,
    pub(super) name: String,
    /// `fixed`, `moving`, `guarded`; empty beside settings.
    kind: &'static str,
    found: String,
    wanted: String,
    /// Where the value comes from: file and line, or words.
    source: String,
    pub(super) verdict: Verdict,
    /// Why it matters, and what mends it.
    pub(super) advice: String,
}

impl Finding {
    fn new(about: &'static str, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            about,
            name: name.into(),
            kind: "",
            found: found.into(),
            wanted: String::new(),
            source: String::new(),
            verdict: Verdict::Right,
            advice: String::new(),
        }
    }
    fn but(mut self, verdict: Verdict, advice: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.advice = advice.into();
        self
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let config = AgentConfig::read(&arguments.config)?;
    let findings = super::runtime()?.block_on(look(&config));
    let worst = findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Right);
    match Format::or_default(arguments.output) {
        Format::Json => output::json(&findings),
        Format::Table => table(&findings),
    }
    Ok(match worst {
        Verdict::Right | Verdict::Unknown => Outcome::Done,
        Verdict::Mind => Outcome::Degraded,
        Verdict::Wrong => Outcome::Critical,
    })
}

/// Everything that is looked at.
pub(super) async fn look(config: &AgentConfig) -> Vec<Finding> {
    let mut findings = vec![];
    if let Some(postgres) = &config.postgres {
        database(config, postgres, &mut findings).await;
        starters(postgres, &mut findings);
    }
    room(config, &mut findings);
    clocks(&mut findings);
    certificates(config, &mut findings);
    findings
}

pub(super) fn table(findings: &[Finding]) {
    let mut about = "";
    for finding in findings {
        if finding.about != about {
            about = finding.about;
            say!("{about}");
        }
        let found = if finding.found.is_empty() { "(empty)" } else { &finding.found };
        let from = if finding.source.is_empty() {
            String::new()
        } else {
            format!("  from {}", finding.source)
        };
        let name = &finding.name;
        say!("  {} {:8}{name:36} {found}{from}", finding.verdict.sign(), finding.kind);
        if finding.verdict != Verdict::Right {
            let wanted = if finding.wanted.is_empty() {
                String::new()
            } else {
                format!("wanted: {}; ", finding.wanted)
            };
            say!("             {wanted}{}", finding.advice);
        }
    }
}

async fn database(config: &AgentConfig, postgres: &PostgresConfig, findings: &mut Vec<Finding>) {
    let major = match Programs::find(postgres.bin_dir.as_deref()) {
        Ok(programs) => {
            findings.push(Finding::new("programs", "PostgreSQL", programs.version.clone()));
            programs.major
        }
        Err(error) => {
            let finding = Finding::new("programs", "PostgreSQL", "missing");
            return findings.push(finding.but(Verdict::Wrong, error.to_string()));
        }
    };
    let main = postgres.config_file.clone();
    let main = main.unwrap_or_else(|| postgres.data_dir.join("postgresql.conf"));
    if postgres.data_dir.join("PG_VERSION").exists() && !main.exists() {
        findings.push(Finding::new("programs", "postgresql.conf", "missing").but(
            Verdict::Wrong,
            format!(
                "{} is not there: set postgres.config_file in agent.yaml to where it is",
                main.display()
            ),
        ));
    }
    match Session::connect(postgres).await {
        Ok(client) => {
            if let Err(error) = running(&client, config, postgres, major, findings).await {
                let finding = Finding::new("settings", "a look at the server", "failed");
                findings.push(finding.but(Verdict::Unknown, error.to_string()));
            }
        }
        Err(error) => {
            for setting in settings::known(major) {
                findings.push(Finding {
                    kind: setting.kind.word(),
                    wanted: setting.wanted(postgres),
                    ..Finding::new("settings", setting.name, "not looked at")
                        .but(Verdict::Unknown, format!("{}; the server: {error}", setting.why))
                });
            }
        }
    }
    let kept = Archive::load(&config.state_dir);
    let found = if kept.exists() { kept.command() } else { "none" };
    findings.push(Finding {
        source: if kept.exists() {
            "the user's, through the agent's own".into()
        } else {
            "".into()
        },
        ..Finding::new("archive", "restore_command", found)
    });
}

async fn running(
    client: &Session,
    config: &AgentConfig,
    postgres: &PostgresConfig,
    major: u32,
    findings: &mut Vec<Finding>,
) -> Result<(), sql::LookError> {
    let text = |row: &Row, column: &str| {
        row.try_get::<_, Option<String>>(column).ok().flatten().unwrap_or_default()
    };
    let place = |row: &Row| match text(row, "file") {
        file if file.is_empty() => text(row, "source"),
        file => format!("{file}:{}", text(row, "line")),
    };
    let rows = client
        .query(
            "SELECT name, setting, source, sourcefile AS file, sourceline::text AS line \
         FROM pg_settings",
            &[],
        )
        .await?;
    let force: BTreeMap<String, (String, String)> =
        rows.iter().map(|r| (text(r, "name"), (text(r, "setting"), place(r)))).collect();
    // The last line of each setting in the files: what the user would have.
    let rows = client
        .query(
            "SELECT DISTINCT ON (lower(name)) lower(name) AS name, setting, sourcefile AS file, \
         sourceline::text AS line, '' AS source FROM pg_file_settings \
         ORDER BY lower(name), seqno DESC",
            &[],
        )
        .await?;
    let wished: BTreeMap<String, (String, String)> =
        rows.iter().map(|r| (text(r, "name"), (text(r, "setting"), place(r)))).collect();
    // The guarded ones of roles, databases and subscriptions are looked up below.
    let of_server =
        |s: &&settings::Setting| s.kind != Kind::Guarded || s.name == settings::READ_ONLY;
    for setting in settings::known(major).filter(of_server) {
        let (found, source) = force.get(setting.name).cloned().unwrap_or_default();
        let mut finding = Finding {
            kind: setting.kind.word(),
            wanted: setting.wanted(postgres),
            source,
            ..Finding::new("settings", setting.name, settings::without_passwords(&found))
        };
        if !setting.is_right(postgres, &found) {
            let mend = match setting.kind {
                Kind::Guarded => "take the setting back where the source says, and reload",
                Kind::Fixed | Kind::Moving => "restart the server through its agent",
            };
            finding = finding.but(Verdict::Wrong, format!("{}; mend: {mend}", setting.why));
        } else if setting.kind == Kind::Fixed
            && let Some((wish, at)) = wished.get(setting.name)
            && !setting.is_right(postgres, wish)
            && *wish != found
        {
            let advice = format!("{at} says {wish}, which is overruled: {}", setting.why);
            finding = finding.but(Verdict::Mind, advice);
        }
        findings.push(finding);
    }
    own_settings(client, config, findings).await?;
    for database in sql::read_only_databases(client).await? {
        let whose = match database.as_str() {
            "" => "all roles".to_owned(),
            name => format!("database {name}"),
        };
        let finding = Finding {
            kind: Kind::Guarded.word(),
            wanted: "off".into(),
            ..Finding::new("settings", format!("{}, {whose}", settings::READ_ONLY), "on".to_owned())
        };
        let advice = "clients' writes are refused there; mend: ALTER DATABASE … RESET, or ALTER ROLE \
                      ALL RESET";
        findings.push(finding.but(Verdict::Wrong, advice.to_owned()));
    }
    let text_of = |name: &str| force.get(name).map(|(v, _)| v.clone()).unwrap_or_default();
    let archiver = client
        .query_one(
            "SELECT coalesce(last_failed_wal, '') AS failed, \
         coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS fails \
         FROM pg_stat_archiver",
            &[],
        )
        .await?;
    let mut finding = Finding::new("archive", "archive_command", text_of("archive_command"));
    finding.source = format!("archive_mode {}", text_of("archive_mode"));
    if archiver.get::<_, bool>("fails") {
        let advice = format!(
            "the last try failed ({}): log piles up in pg_wal until it works",
            text(&archiver, "failed")
        );
        finding = finding.but(Verdict::Mind, advice);
    }
    findings.push(finding);
    slots(client, findings).await
}

async fn own_settings(
    client: &Session,
    config: &AgentConfig,
    findings: &mut Vec<Finding>,
) -> Result<(), sql::LookError> {
    let listed = &config.policy.unsynchronised;
    let wanted = settings::WAITING.join(" or ");
    let own = sql::own_settings(client).await?;
    if own.is_empty() {
        findings.push(Finding {
            kind: Kind::Guarded.word(),
            ..Finding::new(
                "settings",
                "synchronous_commit",
                "set for no role, database or subscription",
            )
        });
    }
    for own in own {
        let mut finding = Finding {
            kind: Kind::Guarded.word(),
            wanted: wanted.clone(),
            source: own.source(),
            ..Finding::new(
                "settings",
                format!("synchronous_commit, {}", own.whose()),
                own.value.clone(),
            )
        };
        if own.is_listed(listed) {
            finding.found = format!("{} (listed in the policy: outside the account)", own.value);
        } else if !settings::WAITING.contains(&own.value.as_str()) {
            finding = finding
                .but(Verdict::Wrong, format!("the loss account is unknown; mend: {}", own.mend()));
        }
        findings.push(finding);
    }
    Ok(())
}

async fn slots(client: &Session, findings: &mut Vec<Finding>) -> Result<(), sql::LookError> {
    let rows = client
        .query(
            "SELECT slot_name::text AS slot, active, pg_size_pretty(pg_wal_lsn_diff( \
         CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() \
         ELSE pg_current_wal_lsn() END, \
         restart_lsn)) AS held FROM pg_replication_slots ORDER BY 1",
            &[],
        )
        .await?;
    if rows.is_empty() {
        findings.push(Finding::new("slots", "replication slots", "none"));
    }
    for row in rows {
        let held = row.get::<_, Option<String>>("held").unwrap_or_else(|| "nothing".into());
        let slot: String = row.get("slot");
        let finding = Finding::new("slots", slot.clone(), format!("holds {held} of log"));
        findings.push(if row.get::<_, bool>("active") {
            finding
        } else {
            finding.but(
                Verdict::Mind,
                format!(
                    "nobody uses it and it keeps the log for ever; mend: SELECT \
                     pg_drop_replication_slot('{slot}')"
                ),
            )
        });
    }
    Ok(())
}

fn room(config: &AgentConfig, findings: &mut Vec<Finding>) {
    let data = config.postgres.as_ref().map(|p| p.data_dir.clone());
    let wal = data.as_ref().map(|d| d.join("pg_wal"));
    let places =
        [("state_dir", Some(config.state_dir.clone())), ("data_dir", data), ("pg_wal", wal)];
    for (name, path) in places.into_iter().filter_map(|(n, p)| Some((n, p?))) {
        let (free, total) = host::disk(&path);
        let finding = Finding {
            source: path.display().to_string(),
            ..Finding::new("room", name, format!("{} MiB of {} MiB free", free >> 20, total >> 20))
        };
        findings.push(match (free, total) {
            (_, 0) => finding.but(Verdict::Unknown, "it is not there"),
            (free, _) if free < 64 << 20 => {
                finding.but(Verdict::Wrong, "full: make room before anything else")
            }
            (free, total) if free < total / 10 => {
                finding.but(Verdict::Mind, "less than a tenth is left")
            }
            _ => finding,
        });
    }
}

fn clocks(findings: &mut Vec<Finding>) {
    let up = host::now();
    let finding =
        Finding::new("clocks", "suspend-aware clock", format!("up for {} s", up.0 / 1_000_000_000));
    findings.push(if up.0 == 0 {
        finding.but(Verdict::Wrong, "CLOCK_BOOTTIME cannot be read: leases rest on it")
    } else {
        finding
    });
    let disciplined =
        ["/run/systemd/timesync/synchronized", "/run/chrony/chronyd.pid", "/run/ntpd.pid"]
            .into_iter()
            .find(|p| Path::new(p).exists());
    let finding = Finding::new("clocks", "wall clock", host::wall().rfc3339());
    findings.push(match disciplined {
        Some(by) => Finding { source: by.into(), ..finding },
        None => finding.but(
            Verdict::Unknown,
            "nothing here says that it is kept right; leases do not need it, screens and the \
             audit do",
        ),
    });
}

fn certificates(config: &AgentConfig, findings: &mut Vec<Finding>) {
    for (name, path) in [("authority", &config.tls.ca), ("own certificate", &config.tls.cert)] {
        let source = path.display().to_string();
        let finding = match days_left(path) {
            Ok(days) => {
                let finding = Finding::new("certificates", name, format!("{days} days left"));
                match days {
                    ..=0 => finding.but(Verdict::Wrong, "expired: peers refuse it"),
                    1..=30 => finding.but(Verdict::Mind, "renew it: new files are read at once"),
                    _ => finding,
                }
            }
            Err(why) => Finding::new("certificates", name, "unreadable").but(Verdict::Wrong, why),
        };
        findings.push(Finding { source, ..finding });
    }
}

fn days_left(path: &Path) -> Result<i64, String> {
    let text = std::fs::read(path).map_err(|e| e.to_string())?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&text).map_err(|e| e.to_string())?;
    let certificate = pem.parse_x509().map_err(|e| e.to_string())?;
    let end = certificate.validity().not_after.timestamp();
    Ok((end - host::wall().0 / 1_000).div_euclid(86_400))
}

/// Who else may start the server: then it is writable without a lease until the agent stops it.
fn starters(postgres: &PostgresConfig, findings: &mut Vec<Finding>) {
    let same = |folder: &str| {
        let ours = postgres.data_dir.canonicalize().unwrap_or_else(|_| postgres.data_dir.clone());
        Path::new(folder).canonicalize().is_ok_and(|f| f == ours)
    };
    let mut found = vec![];
    // Debian: each cluster in /etc/postgresql/VERSION/NAME, started unless start.conf says manual.
    for version in folders(Path::new("/etc/postgresql")) {
        for cluster in folders(&version) {
            let read = |name: &str| std::fs::read_to_string(cluster.join(name)).unwrap_or_default();
            let text = read("postgresql.conf");
            let data = text
                .lines()
                .map(str::trim)
                .find_map(|l| l.strip_prefix("data_directory"))
                .and_then(|v| v.split('\'').nth(1));
            let auto = read("start.conf").lines().any(|l| l.trim() == "auto");
            if auto && data.is_some_and(same) {
                let file = cluster.join("start.conf").display().to_string();
                found.push((
                    file,
                    "write \"manual\" into it (pg_ctlcluster may still be used by hand)",
                ));
            }
        }
    }
    for wants in ["/etc/systemd/system/multi-user.target.wants"] {
        for entry in std::fs::read_dir(wants).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let unit = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let ours = unit
                .lines()
                .filter_map(|l| l.trim().strip_prefix("Environment=PGDATA="))
                .any(|folder| same(folder.trim().trim_end_matches('/')));
            if name.starts_with("postgresql") && ours {
                found.push((entry.path().display().to_string(), "systemctl disable --now it"));
            }
        }
    }
    if found.is_empty() {
        findings.push(Finding::new("starters", "who else may start it", "nobody was found"));
    }
    for (what, mend) in found {
        let finding = Finding::new("starters", what, "starts this server at boot");
        findings.push(finding.but(
            Verdict::Wrong,
            format!("only the agent may: it would be writable without a lease; mend: {mend}"),
        ));
    }
}

fn folders(path: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.is_dir())
        .collect()
}
