//! The server's own settings that could break what the agent promises, in one table.
//!
//! *Fixed* ones are given on the server's command line at every start: nothing in a file, no ALTER
//! SYSTEM and no reload beats that. All of them are passed always, also where the user's value is
//! right today: a reload could undo it tomorrow. *Moving* ones change while the server runs, which
//! the command line cannot: they are written where they win over every other file, and what is in
//! force is compared with what was ordered at every look. *Guarded* ones are looked at and named
//! when wrong. Every other setting is free: it is the user's.

use std::ops::RangeInclusive;

use crate::config::agent::PostgresConfig;
use crate::model::SyncSet;

/// How a setting is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// On the command line of every start.
    Fixed,
    /// Written by the agent, compared at every look.
    Moving,
    /// Looked at, and named when wrong.
    Guarded,
}

impl Kind {
    /// The word for people.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Fixed => "fixed",
            Kind::Moving => "moving",
            Kind::Guarded => "guarded",
        }
    }
}

/// A guarded setting of the server; the others of that kind are of roles and the like.
pub const READ_ONLY: &str = "default_transaction_read_only";

/// What a setting has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Exactly this.
    Is(&'static str),
    /// The user's, if it is one of these; else the first.
    OneOf(&'static [&'static str]),
    /// The user's, if it is at least this, in the server's unit.
    AtLeast(u64),
    /// What the agent's configuration says of this instance.
    Port,
    /// As above.
    SocketDir,
    /// As above.
    DataDir,
    /// What the agent orders at the moment.
    Ordered,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its name in PostgreSQL.
    pub name: &'static str,
    /// How it is held.
    pub kind: Kind,
    /// What it has to be.
    pub want: Want,
    /// The major versions that know it.
    pub majors: RangeInclusive<u32>,
    /// What goes wrong otherwise.
    pub why: &'static str,
}

const ALL: RangeInclusive<u32> = 13..=18;

const fn row(name: &'static str, kind: Kind, want: Want, why: &'static str) -> Setting {
    Setting { name, kind, want, majors: ALL, why }
}
const fn fixed(name: &'static str, want: Want, why: &'static str) -> Setting {
    row(name, Kind::Fixed, want, why)
}
const fn moving(name: &'static str, why: &'static str) -> Setting {
    row(name, Kind::Moving, Want::Ordered, why)
}

/// Where recovery ends is the agent's matter: it promotes at the end of the log.
const TARGET: &str = "a recovery that ends early throws acknowledged writes away";
/// The start gives the greater of the user's value and what the log demands.
const DEMANDED: &str = "with less than the primary a standby stops replaying";
/// What keeps a commit from being told before it is safe.
pub const WAITING: &[&str] = &["on", "remote_apply"];

/// What keeps a commit from being told before it is flushed here.
pub const FLUSHING: &[&str] = &["on", "remote_apply", "remote_write", "local"];

/// The table.
pub const TABLE: &[Setting] = &[
    fixed("fsync", Want::Is("on"), "a flushed position means nothing without it"),
    fixed("full_page_writes", Want::Is("on"), "a power loss would tear pages"),
    fixed("data_sync_retry", Want::Is("off"), "after a failed flush nothing re-read is trusted"),
    fixed(
        "synchronous_commit",
        Want::OneOf(WAITING),
        "commits would be acknowledged before a standby has them",
    ),
    fixed("ignore_invalid_pages", Want::Is("off"), "replay would pass over what it cannot read"),
    fixed("zero_damaged_pages", Want::Is("off"), "damaged pages would be taken for empty ones"),
    fixed("restart_after_crash", Want::Is("off"), "it would be writable again without a lease"),
    fixed("hot_standby", Want::Is("on"), "the agent could not look at a standby"),
    fixed("wal_log_hints", Want::Is("on"), "a former primary could not be rewound"),
    fixed("wal_level", Want::OneOf(&["replica", "logical"]), "standbys need it"),
    fixed("max_wal_senders", Want::AtLeast(16), "standbys, rebuilds and backups connect"),
    fixed("max_connections", Want::AtLeast(1), DEMANDED),
    fixed("max_worker_processes", Want::AtLeast(0), DEMANDED),
    fixed("max_prepared_transactions", Want::AtLeast(0), DEMANDED),
    fixed("max_locks_per_transaction", Want::AtLeast(10), DEMANDED),
    fixed("wal_keep_size", Want::AtLeast(1024), "a standby that was away finds its log (MB)"),
    fixed("recovery_target", Want::Is(""), TARGET),
    fixed("recovery_target_name", Want::Is(""), TARGET),
    fixed("recovery_target_time", Want::Is(""), TARGET),
    fixed("recovery_target_xid", Want::Is(""), TARGET),
    fixed("recovery_target_lsn", Want::Is(""), TARGET),
    fixed("recovery_target_timeline", Want::Is("latest"), "a standby follows the newest epoch"),
    Setting {
        majors: 13..=15,
        ..fixed("promote_trigger_file", Want::Is(""), "a file would promote without a lease")
    },
    fixed("wal_retrieve_retry_interval", Want::Is("20ms"), "a cut or a move would take seconds"),
    fixed("wal_receiver_status_interval", Want::Is("1s"), "commits wait for a standby's word"),
    fixed("wal_receiver_timeout", Want::Is("5s"), "a dead upstream has to be noticed"),
    fixed("wal_sender_timeout", Want::Is("5s"), "a dead standby has to be noticed"),
    fixed("port", Want::Port, "the peers look for it there"),
    fixed("unix_socket_directories", Want::SocketDir, "the agent looks for it there"),
    fixed("data_directory", Want::DataDir, "the guard guards that folder"),
    moving("primary_conninfo", "a standby receives from whom its voter knows, or from nobody"),
    moving("primary_slot_name", "a slot that the upstream lacks stops the receiver"),
    moving("synchronous_standby_names", "who confirms commits is recorded before it is used"),
    moving("restore_command", "a node that was cut off must not read on from an archive"),
    row(
        "synchronous_commit (role, database)",
        Kind::Guarded,
        Want::OneOf(WAITING),
        "ALTER ROLE or ALTER DATABASE … SET wins over the server's own value",
    ),
    row(
        "synchronous_commit (subscription)",
        Kind::Guarded,
        Want::OneOf(WAITING),
        "off by default: what a subscription applied is confirmed to its publisher, and may be here \
         only",
    ),
    row(
        READ_ONLY,
        Kind::Guarded,
        Want::Is("off"),
        "clients' writes would be refused by a database that accepts them",
    ),
];

impl Setting {
    /// The value to use, in the server's base unit or as words, given the user's own.
    pub fn value(&self, config: &PostgresConfig, user: &str) -> Option<String> {
        Some(match self.want {
            Want::Is(value) => value.to_owned(),
            Want::OneOf(allowed) => {
                let kept = allowed.iter().find(|a| **a == user).or(allowed.first())?;
                (*kept).to_owned()
            }
            Want::AtLeast(least) => {
                // −1 is "without limit" nowhere among these.
                user.parse::<u64>().map_or(least, |have| have.max(least)).to_string()
            }
            Want::Port => config.port.to_string(),
            Want::SocketDir => config.socket_dir.display().to_string(),
            Want::DataDir => config.data_dir.display().to_string(),
            Want::Ordered => return None,
        })
    }

    /// Whether a value in force, as `pg_settings.setting` shows it, will do.
    pub fn is_right(&self, config: &PostgresConfig, found: &str) -> bool {
        match self.want {
            Want::Is(value) => value == found || base_unit(value).as_deref() == Some(found),
            Want::OneOf(allowed) => allowed.contains(&found),
            Want::AtLeast(least) => found.parse::<u64>().is_ok_and(|have| have >= least),
            Want::SocketDir => config.is_socket_dir(found),
            Want::Port | Want::DataDir => {
                self.value(config, found).is_some_and(|wanted| wanted == found)
            }
            Want::Ordered => true,
        }
    }

    /// What is wanted, for people.
    pub fn wanted(&self, config: &PostgresConfig) -> String {
        match self.want {
            Want::Is("") => "empty".into(),
            Want::Is(value) => value.into(),
            Want::OneOf(allowed) => allowed.join(" or "),
            Want::AtLeast(least) => format!("at least {least}"),
            Want::Ordered => "as the agent orders".into(),
            Want::Port | Want::SocketDir | Want::DataDir => {
                self.value(config, "").unwrap_or_default()
            }
        }
    }

    /// Whether the user's own value has a say.
    pub fn asks_user(&self) -> bool {
        self.kind == Kind::Fixed && matches!(self.want, Want::OneOf(_) | Want::AtLeast(_))
    }
}

/// `pg_settings` shows times in milliseconds or seconds, whatever was written.
fn base_unit(value: &str) -> Option<String> {
    if let Some(millis) = value.strip_suffix("ms") {
        return Some(millis.to_owned());
    }
    let seconds: u64 = value.strip_suffix('s')?.parse().ok()?;
    Some(if seconds == 1 { "1".to_owned() } else { (seconds * 1000).to_string() })
}

/// The rows that a major version knows.
pub fn known(major: u32) -> impl Iterator<Item = &'static Setting> {
    TABLE.iter().filter(move |s| s.majors.contains(&major))
}

/// `-c name=value` for every fixed setting. `user` gives the user's own value where it counts;
/// `None`: it is being asked for, and nothing is given in its place.
pub fn arguments(
    major: u32,
    config: &PostgresConfig,
    user: impl Fn(&str) -> Option<String>,
) -> Vec<String> {
    let mut arguments = Vec::new();
    for setting in known(major).filter(|s| s.kind == Kind::Fixed) {
        let own = user(setting.name).or((!setting.asks_user()).then(String::new));
        if let Some(value) = own.and_then(|own| setting.value(config, &own)) {
            arguments.push("-c".to_owned());
            arguments.push(format!("{}={value}", setting.name));
        }
    }
    arguments
}

/// The moving settings, as ordered or as found in force.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moving {
    /// `primary_conninfo`: where to receive log from; empty: cut.
    pub conninfo: String,
    /// `primary_slot_name`: always empty.
    pub slot: String,
    /// `synchronous_standby_names`. Also written on a standby: a server that was started with a
    /// synchronous set makes its first commit after promotion wait, one that learns of it later may
    /// not.
    pub sync: String,
    /// `restore_command`.
    pub restore: String,
}

impl Moving {
    /// Name and value of each.
    pub fn pairs(&self) -> [(&'static str, &str); 4] {
        [
            ("primary_conninfo", &self.conninfo),
            ("primary_slot_name", &self.slot),
            ("synchronous_standby_names", &self.sync),
            ("restore_command", &self.restore),
        ]
    }

    /// What of `found` is not as ordered here: name, ordered, found.
    pub fn differs(&self, found: &Moving) -> Vec<(&'static str, String, String)> {
        self.pairs()
            .into_iter()
            .zip(found.pairs())
            .filter(|((_, ordered), (_, found))| ordered != found)
            .map(|((name, ordered), (_, found))| (name, ordered.to_owned(), found.to_owned()))
            .collect()
    }

    /// `postgresql.auto.conf` with these and all its other lines.
    pub fn written_into(&self, text: &str) -> String {
        let mut out = without(text, |name| self.pairs().iter().any(|(ours, _)| *ours == name));
        for (name, value) in self.pairs() {
            out.push_str(&format!("{name} = '{}'\n", quoted(value)));
        }
        out
    }
}

/// A configuration file's text without the lines of some settings.
pub fn without(text: &str, drop: impl Fn(&str) -> bool) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let name: String = line
            .trim_start()
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_' || *c == '.')
            .collect::<String>()
            .to_ascii_lowercase();
        if !drop(&name) {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// A connection string for people: passwords are nobody's to read.
pub fn without_passwords(text: &str) -> String {
    const HIDDEN: &str = "***";
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("password") {
        let (before, after) = rest.split_at(at + "password".len());
        out.push_str(before);
        rest = after;
        let Some(value) = after.trim_start().strip_prefix('=').map(str::trim_start) else {
            continue;
        };
        let mut escaped = false;
        let mut ends = |last: fn(char) -> bool, c: char| {
            let is_last = !escaped && last(c);
            escaped = !escaped && c == '\\';
            is_last
        };
        rest = match value.strip_prefix('\'') {
            Some(value) => {
                let end = value.find(|c| ends(|c| c == '\'', c));
                end.map_or("", |end| &value[end + 1..])
            }
            None => {
                let end = value.find(|c| ends(|c| c.is_whitespace() || c == '&', c));
                end.map_or("", |end| &value[end..])
            }
        };
        out.push('=');
        out.push_str(HIDDEN);
    }
    out.push_str(rest);
    // postgresql://user:password@host
    let Some(begin) = out.find("://").map(|at| at + "://".len()) else { return out };
    let whose = &out[begin..];
    let whose = whose.find('/').map_or(whose, |end| &whose[..end]);
    let Some((user, _)) = whose.rsplit_once('@').and_then(|(who, _)| who.split_once(':')) else {
        return out;
    };
    let (from, to) = (begin + user.len() + 1, begin + whose.rfind('@').unwrap_or(0));
    out.replace_range(from..to, HIDDEN);
    out
}

/// A value between the quotes of a configuration file.
fn quoted(value: &str) -> String {
    value.replace('\\', "\\\\").replace('\'', "''")
}

/// `ANY 1 ("node-2","node-3")`; empty when commits wait for nobody.
pub fn sync_setting(sync: &SyncSet) -> String {
    if sync.k == 0 || sync.members.is_empty() {
        return String::new();
    }
    let names: Vec<String> = sync.members.iter().map(|m| format!("\"{}\"", m.node)).collect();
    format!("ANY {} ({})", sync.k, names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Member;

    fn config() -> PostgresConfig {
        PostgresConfig {
            bin_dir: None,
            data_dir: "/d".into(),
            socket_dir: "/s".into(),
            config_file: None,
            log_file: None,
            port: 5433,
            user: "postgres".into(),
            database: "postgres".into(),
            replication_passfile: None,
            replication_options: None,
            initdb_args: vec![],
        }
    }

    #[test]
    fn the_synchronous_setting_quotes_names() {
        let members =
            [Member::new("node-2", "a"), Member::new("node-3", "b")].into_iter().collect();
        assert_eq!(sync_setting(&SyncSet { members, k: 1 }), r#"ANY 1 ("node-2","node-3")"#);
        assert_eq!(sync_setting(&SyncSet::default()), "");
    }

    #[test]
    fn the_users_value_is_kept_where_it_is_safe() {
        let user = |name: &str| {
            match name {
                "wal_level" => "logical",
                "max_wal_senders" => "40",
                "wal_keep_size" => "64",
                "synchronous_commit" => "off",
                _ => "whatever",
            }
            .to_owned()
        };
        let user = |name: &str| Some(user(name));
        let line = arguments(15, &config(), user).join(" ");
        for wanted in [
            "-c wal_level=logical",
            "-c max_wal_senders=40",
            "-c wal_keep_size=1024",
            "-c synchronous_commit=on",
            "-c fsync=on",
            "-c port=5433",
            "-c promote_trigger_file= ",
        ] {
            assert!(format!("{line} ").contains(wanted), "{wanted:?} is not in {line}");
        }
        let newer = arguments(16, &config(), |_| None).join(" ");
        assert!(!newer.contains("promote_trigger_file"), "{newer}");
        assert!(!newer.contains("wal_level") && newer.contains("-c fsync=on"), "{newer}");
        assert!(!line.contains("primary_conninfo"), "a reload could not change it: {line}");
    }

    #[test]
    fn what_will_do_is_told_from_what_will_not() {
        let row = |name: &str| TABLE.iter().find(|s| s.name == name).unwrap();
        assert!(row("wal_retrieve_retry_interval").is_right(&config(), "20"));
        assert!(row("wal_receiver_status_interval").is_right(&config(), "1"));
        assert!(row("wal_sender_timeout").is_right(&config(), "5000"));
        assert!(!row("fsync").is_right(&config(), "off"));
        assert!(!row("synchronous_commit").is_right(&config(), "remote_write"));
        assert!(row("synchronous_commit").is_right(&config(), "remote_apply"));
        assert!(!row("max_wal_senders").is_right(&config(), "10"));
    }

    #[test]
    fn passwords_are_not_shown() {
        for (text, shown) in [
            ("host=a password=x1 port=5", "host=a password=*** port=5"),
            ("password = 'it\\'s x' host=a", "password=*** host=a"),
            ("host=a sslpassword=x", "host=a sslpassword=***"),
            ("password='never ends", "password=***"),
            ("user=password passfile=/p", "user=password passfile=/p"),
            (
                "postgresql://u:x:y@h:5/d?password=z&a=b",
                "postgresql://u:***@h:5/d?password=***&a=b",
            ),
            ("postgres://u@h:5/d", "postgres://u@h:5/d"),
            ("", ""),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }

    #[test]
    fn other_lines_stay_when_the_moving_ones_are_written() {
        let moving = Moving { conninfo: "host=a password='x\\y'".into(), ..Moving::default() };
        let text = "# Do not edit\nwork_mem = '5MB'\nPrimary_Conninfo = 'evil'\n\
            restore_command = 'cp /a/%f %p'\nprimary_conninfo_like.this = 'kept'\n";
        let written = moving.written_into(text);
        assert_eq!(
            written,
            "# Do not edit\nwork_mem = '5MB'\nprimary_conninfo_like.this = 'kept'\n\
             primary_conninfo = 'host=a password=''x\\\\y'''\nprimary_slot_name = ''\n\
             synchronous_standby_names = ''\nrestore_command = ''\n"
        );
        assert_eq!(moving.written_into(&written), written, "written twice is written once");
        let found = Moving { sync: "x".into(), ..moving.clone() };
        assert_eq!(
            moving.differs(&found),
            [("synchronous_standby_names", String::new(), "x".into())]
        );
    }
}
