//! Looking at a running server.

use std::time::Duration;

use tokio_postgres::Row;

use crate::agent::host;
use crate::config::agent::PostgresConfig;
use crate::model::observation::StandbyFacts;
use crate::model::serving::{ArchiveFails, Slot};
use crate::model::topology::Unsynchronised;
use crate::model::{Lsn, NodeId, Span};

use super::receivers::Connection;
use super::session::Session;
use super::settings::Moving;
use super::waits::Logging;

/// A query that takes longer means that the server hangs.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// A look at a server failed.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The server answered, and said no.
    #[error("{message} ({code})")]
    Answered {
        /// SQLSTATE.
        code: String,
        /// In its words.
        message: String,
    },
    /// It did not get to the server, or lost it.
    #[error("{0}")]
    Said(String),
    /// It said nothing for [`QUERY_TIMEOUT`].
    #[error("no answer for {} s", QUERY_TIMEOUT.as_secs())]
    Silent,
}

impl From<tokio_postgres::Error> for LookError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(said) = error.as_db_error() {
            let code = said.code().code().to_owned();
            return Self::Answered { code, message: said.message().to_owned() };
        }
        let source = std::error::Error::source(&error).map(ToString::to_string);
        Self::Said(source.unwrap_or_else(|| error.to_string()))
    }
}

/// Waits at most [`QUERY_TIMEOUT`].
///
/// # Errors
/// [`LookError`].
pub async fn bounded<T>(
    query: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, LookError> {
    match tokio::time::timeout(QUERY_TIMEOUT, query).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(LookError::Silent),
    }
}

/// A look at a standby.
#[derive(Clone, Debug, Default)]
pub struct StandbyLook {
    /// It is in recovery; a server that somebody promoted is not.
    pub recovery: bool,
    /// Received and flushed, if it received anything since it started.
    pub received: Option<Lsn>,
    /// Replayed.
    pub replayed: Lsn,
    /// The process id of a receiver, connected or still connecting.
    pub receiver: Option<u32>,
    /// It streams.
    pub streaming: bool,
    /// Age of the upstream's last message.
    pub upstream_age: Option<Span>,
    /// All log that is here is replayed; the server waits for more.
    pub exhausted: bool,
    /// The moving settings in force in this session, and so in the postmaster.
    pub moving: Moving,
    /// `fsync` is on: what is flushed here counts.
    pub syncs: bool,
    /// `default_transaction_read_only` is on: promoted, it would refuse clients' writes.
    pub read_only: bool,
    /// Client sessions.
    pub sessions: u32,
    /// Start of the oldest one.
    pub oldest: Option<i64>,
    /// Start of the newest one.
    pub newest: Option<i64>,
    /// The server's clock, in microseconds.
    pub clock: i64,
    /// Replay is paused, or a pause was asked for.
    pub paused: bool,
    /// `recovery_min_apply_delay`; empty: none.
    pub delay: String,
    /// The startup process waits for sessions: for their locks, pins or snapshots.
    pub conflicts: bool,
}

/// A look at a primary.
#[derive(Clone, Debug, Default)]
pub struct PrimaryLook {
    /// Written.
    pub written: Lsn,
    /// Flushed.
    pub flushed: Lsn,
    /// Where the next record begins.
    pub inserted: Lsn,
    /// Its timeline.
    pub timeline: u32,
    /// The moving settings in force.
    pub moving: Moving,
    /// Settings that could make an acknowledged write less than it is taken for.
    pub guarded: Guarded,
    /// The server's clock, in microseconds.
    pub clock: i64,
    /// Where the log ends, written or not.
    pub end: Lsn,
    /// Start of the oldest session and of the oldest transaction that are not the agent's.
    pub oldest: (Option<i64>, Option<i64>),
    /// The latest start of any of them.
    pub newest: Option<i64>,
    /// So many connections are for ordinary roles, and all of them are taken.
    pub full: Option<u32>,
    /// Sessions that wait for a synchronous standby.
    pub waiters: Vec<i32>,
    /// Client sessions.
    pub sessions: u32,
    /// Its standbys.
    pub standbys: Vec<StandbyFacts>,
}

/// Guarded settings as found.
#[derive(Clone, Debug, Default)]
pub struct Guarded {
    /// `fsync`, `full_page_writes`, `synchronous_commit` of the agent's own session.
    pub server: [String; 3],
    /// `synchronous_commit` set for a database, a role, or both.
    pub own: Vec<OwnSetting>,
    /// A new transaction of the agent's own session is read-only.
    pub read_only: bool,
    /// Who receives log from here.
    pub receivers: Vec<Connection>,
    /// Names under which two of them answer at the same time.
    pub twice: Vec<String>,
}

/// ALTER ROLE or ALTER DATABASE … SET synchronous_commit, or that of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnSetting {
    /// In this database only.
    pub database: Option<String>,
    /// For this role only.
    pub role: Option<String>,
    /// For what this subscription applies.
    pub subscription: Option<String>,
    /// Its value.
    pub value: String,
}

impl OwnSetting {
    /// Whose it is, in words.
    pub fn whose(&self) -> String {
        if let (Some(name), Some(database)) = (&self.subscription, &self.database) {
            return format!("subscription {name} in database {database}");
        }
        match (&self.role, &self.database) {
            (Some(role), None) => format!("role {role}"),
            (None, Some(database)) => format!("database {database}"),
            (Some(role), Some(database)) => format!("role {role} in database {database}"),
            (None, None) => "all roles".into(),
        }
    }
    /// What it was made by.
    pub fn source(&self) -> String {
        match self.subscription {
            Some(_) => self.statement(),
            None => format!("{} SET", self.statement()),
        }
    }
    /// The command that mends it, or what to list instead.
    pub fn mend(&self) -> String {
        let (command, listed) = match self.subscription {
            Some(_) => ("SET (synchronous_commit = on)", "its database"),
            None => ("RESET synchronous_commit", "it"),
        };
        let statement = self.statement();
        format!("{statement} {command}, or list {listed} under unsynchronised in policy.yaml")
    }
    fn statement(&self) -> String {
        let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
        if let Some(name) = &self.subscription {
            return format!("ALTER SUBSCRIPTION {}", quoted(name));
        }
        match (&self.role, &self.database) {
            (Some(role), None) => format!("ALTER ROLE {}", quoted(role)),
            (None, Some(database)) => format!("ALTER DATABASE {}", quoted(database)),
            (Some(role), Some(database)) => {
                format!("ALTER ROLE {} IN DATABASE {}", quoted(role), quoted(database))
            }
            (None, None) => "ALTER ROLE ALL".into(),
        }
    }
    /// Whether the policy lists it: its commits are outside the account, by name.
    pub fn is_listed(&self, listed: &Unsynchronised) -> bool {
        self.role.as_ref().is_some_and(|r| listed.roles.contains(r))
            || self.database.as_ref().is_some_and(|d| listed.databases.contains(d))
    }
}

/// `synchronous_commit` of roles and databases.
///
/// # Errors
/// [`LookError`].
pub async fn own_settings(client: &Session) -> Result<Vec<OwnSetting>, LookError> {
    let rows = client.query(OWN, &[]).await?;
    Ok(rows
        .iter()
        .map(|r| OwnSetting {
            database: r.get("database"),
            role: r.get("role"),
            subscription: r.get("subscription"),
            value: canonical(r.get("value")),
        })
        .collect())
}

/// Databases whose every session begins read only (`ALTER DATABASE … SET`); an empty name: all of
/// them (`ALTER ROLE ALL SET`).
///
/// # Errors
/// [`LookError`].
pub async fn read_only_databases(client: &Session) -> Result<Vec<String>, LookError> {
    // As it was typed: the server takes every beginning of a boolean's words, and so does the cast.
    let sql = "SELECT coalesce(d.datname::text, '') AS name FROM pg_db_role_setting s \
        CROSS JOIN LATERAL unnest(s.setconfig) c LEFT JOIN pg_database d ON d.oid = s.setdatabase \
        WHERE s.setrole = 0 \
        AND CASE WHEN lower(split_part(c, '=', 1)) = 'default_transaction_read_only' \
            THEN split_part(c, '=', 2)::boolean ELSE false END ORDER BY 1";
    Ok(client.query(sql, &[]).await?.iter().map(|r| r.get("name")).collect())
}

/// The catalog keeps a value as it was typed: any case, and the spellings of a boolean (PostgreSQL,
/// `synchronous_commit_options` in `guc_tables.c`).
fn canonical(typed: &str) -> String {
    match typed.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => "on".into(),
        "false" | "no" | "0" => "off".into(),
        other => other.to_owned(),
    }
}

/// Either.
#[derive(Clone, Debug)]
pub enum Look {
    /// In recovery.
    Standby(StandbyLook),
    /// Not in recovery.
    Primary(PrimaryLook),
}

const STANDBY: &str = "\
    SELECT pg_is_in_recovery() AS recovery, pg_last_wal_receive_lsn()::text AS received, \
    coalesce(pg_last_wal_replay_lsn(), '0/0')::text AS replayed, a.*, \
    coalesce(r.status, '') = 'streaming' AS streaming, \
    (extract(epoch FROM clock_timestamp() - r.last_msg_receipt_time) * 1000)::bigint \
        AS upstream_age, \
    CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() ELSE false END AS paused, \
    current_setting('recovery_min_apply_delay') AS delay, \
    current_setting('primary_conninfo') AS conninfo, \
    current_setting('primary_slot_name') AS slot, \
    current_setting('synchronous_standby_names') AS sync, \
    current_setting('restore_command') AS restore, current_setting('fsync') AS fsync, \
    CASE WHEN current_setting('default_transaction_read_only') = 'on' THEN (SELECT source NOT IN \
        ('user', 'database', 'database user') FROM pg_settings \
        WHERE name = 'default_transaction_read_only') ELSE false END AS read_only \
    FROM (SELECT max(pid) FILTER (WHERE backend_type = 'walreceiver') AS receiver, \
        coalesce(max(wait_event) FILTER (WHERE backend_type = 'startup'), '') AS waits, \
        coalesce(max(wait_event_type) FILTER (WHERE backend_type = 'startup'), '') AS waits_for, \
        count(*) FILTER (WHERE backend_type = 'client backend' \
            AND application_name <> 'quorate')::int AS sessions, \
        (extract(epoch FROM min(backend_start) FILTER (WHERE backend_type = 'client backend' \
            AND NOT (application_name = 'quorate' AND usename = current_user \
            AND client_addr IS NULL))) * 1000000)::bigint AS session, \
        (extract(epoch FROM max(backend_start) FILTER (WHERE backend_type = 'client backend')) \
            * 1000000)::bigint AS newest, \
        (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock \
        FROM pg_stat_activity) a LEFT JOIN pg_stat_wal_receiver r ON true";

// A sender of logical changes is in a database and takes SQL as any session does.
const PRIMARY: &str = "\
    SELECT pg_current_wal_lsn()::text AS written, pg_current_wal_flush_lsn()::text AS flushed, \
    pg_current_wal_insert_lsn()::text AS inserted, \
    pg_walfile_name(pg_current_wal_lsn()) AS segment, \
    current_setting('primary_conninfo') AS conninfo, \
    current_setting('primary_slot_name') AS slot, \
    current_setting('synchronous_standby_names') AS sync, \
    current_setting('restore_command') AS restore, current_setting('fsync') AS fsync, \
    current_setting('full_page_writes') AS pages, \
    current_setting('synchronous_commit') AS commits, \
    current_setting('max_connections')::int \
        - current_setting('superuser_reserved_connections')::int \
        - coalesce(current_setting('reserved_connections', true), '0')::int AS ordinary, \
    CASE WHEN current_setting('default_transaction_read_only') = 'on' THEN (SELECT source NOT IN \
        ('user', 'database', 'database user') FROM pg_settings \
        WHERE name = 'default_transaction_read_only') ELSE false END AS read_only, \
    pg_current_wal_insert_lsn()::text AS ends, \
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS clock, a.* \
    FROM (SELECT count(*) FILTER (WHERE backend_type = 'client backend')::int AS sessions, \
        (extract(epoch FROM min(backend_start)) * 1000000)::bigint AS session, \
        (extract(epoch FROM min(xact_start)) * 1000000)::bigint AS transaction, \
        (extract(epoch FROM greatest(max(backend_start), max(xact_start))) * 1000000)::bigint \
            AS newest, \
        array_agg(pid) FILTER (WHERE wait_event = 'SyncRep') AS waiters \
        FROM pg_stat_activity WHERE datid IS NOT NULL \
        AND backend_type NOT IN ('autovacuum worker', 'parallel worker') \
        AND NOT (application_name = 'quorate' AND usename = current_user \
            AND client_addr IS NULL)) a";

/// Settings of roles, databases and subscriptions, from catalogs that all databases share.
const OWN: &str = "\
    SELECT d.datname::text AS database, r.rolname::text AS role, NULL::text AS subscription, \
    split_part(c, '=', 2) AS value \
    FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c \
    LEFT JOIN pg_database d ON d.oid = s.setdatabase LEFT JOIN pg_roles r ON r.oid = s.setrole \
    WHERE lower(split_part(c, '=', 1)) = 'synchronous_commit' \
    UNION ALL SELECT d.datname::text, NULL, s.subname::text, s.subsynccommit \
    FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE s.subenabled \
    ORDER BY 1, 2, 3";

const STANDBYS: &str = "\
    SELECT application_name AS node, state, sync_state, \
    coalesce(sent_lsn, '0/0')::text AS sent, coalesce(flush_lsn, '0/0')::text AS flushed, \
    coalesce(replay_lsn, '0/0')::text AS replayed, \
    (extract(epoch FROM flush_lag) * 1000)::bigint AS lag, \
    coalesce(clock_timestamp() - reply_time < interval '2.5 s', false) AS answers, \
    pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS began, \
    coalesce(host(client_addr), 'the local socket') AS place \
    FROM pg_stat_replication ORDER BY application_name";

fn lsn(row: &Row, column: &str) -> Lsn {
    row.try_get::<_, Option<String>>(column)
        .ok()
        .flatten()
        .and_then(|t| t.parse().ok())
        .unwrap_or_default()
}
fn millis(row: &Row, column: &str) -> Option<Span> {
    row.try_get::<_, Option<i64>>(column)
        .ok()
        .flatten()
        .map(|ms| Span::millis(u64::try_from(ms).unwrap_or(0)))
}
fn sessions(row: &Row) -> u32 {
    u32::try_from(row.get::<_, i32>("sessions")).unwrap_or(0)
}

/// Looks.
///
/// # Errors
/// [`LookError`].
pub async fn look(client: &Session) -> Result<Look, LookError> {
    let recovery: bool = client.query_one("SELECT pg_is_in_recovery()", &[]).await?.get(0);
    if recovery {
        return Ok(Look::Standby(look_standby(client).await?));
    }
    // Confirmations first, then who waits for one: see `waits`.
    let rows = client.query(STANDBYS, &[]).await?;
    let row = client.query_one(PRIMARY, &[]).await?;
    let own = own_settings(client).await?;
    let full = is_full(client, &row).await?;
    let written = lsn(&row, "written");
    let segment: String = row.get("segment");
    let standbys = rows
        .iter()
        .map(|r| {
            let flushed = lsn(r, "flushed");
            StandbyFacts {
                node: NodeId::new(r.get::<_, String>("node")),
                state: r.get::<_, Option<String>>("state").unwrap_or_default(),
                sync_state: r.get::<_, Option<String>>("sync_state").unwrap_or_default(),
                sent: lsn(r, "sent"),
                flushed,
                replayed: lsn(r, "replayed"),
                lag_bytes: written.bytes_since(flushed),
                lag: millis(r, "lag"),
            }
        })
        .collect();
    Ok(Look::Primary(PrimaryLook {
        written,
        flushed: lsn(&row, "flushed"),
        inserted: lsn(&row, "inserted"),
        timeline: line_of(&segment),
        moving: moving(&row),
        guarded: Guarded {
            server: ["fsync", "pages", "commits"].map(|column| row.get(column)),
            own,
            read_only: row.get("read_only"),
            receivers: rows.iter().map(connection).collect(),
            twice: twice(&rows),
        },
        clock: row.get("clock"),
        end: lsn(&row, "ends"),
        oldest: (row.get("session"), row.get("transaction")),
        newest: row.get("newest"),
        full,
        waiters: row.get::<_, Option<Vec<i32>>>("waiters").unwrap_or_default(),
        sessions: sessions(&row),
        standbys,
    }))
}

/// The agent is let in where nobody else is: who may connect is counted, not tried. All are counted
/// only where it is close.
async fn is_full(client: &Session, row: &Row) -> Result<Option<u32>, LookError> {
    /// More sessions than an agent has.
    const OWN_MAX: u32 = 10;
    let ordinary = u32::try_from(row.get::<_, i32>("ordinary")).unwrap_or(0);
    if sessions(row) + OWN_MAX < ordinary {
        return Ok(None);
    }
    let count = "SELECT count(*)::int AS sessions FROM pg_stat_activity \
        WHERE backend_type = 'client backend'";
    let all = sessions(&client.query_one(count, &[]).await?);
    Ok((all >= ordinary).then_some(ordinary))
}

fn moving(row: &Row) -> Moving {
    Moving {
        conninfo: row.get("conninfo"),
        slot: row.get("slot"),
        sync: row.get("sync"),
        restore: row.get("restore"),
    }
}

fn connection(row: &Row) -> Connection {
    let streams = row.get::<_, Option<String>>("state").is_some_and(|state| state == "streaming");
    Connection {
        id: (row.get("pid"), row.get("began")),
        name: row.get("node"),
        place: row.get("place"),
        // When it last answered is told by its own clock.
        confirms: streams,
    }
}

/// Names under which two receivers answered a moment ago. One whose connection was cut is still
/// listed for a while beside its successor, but answers no more.
fn twice(rows: &[Row]) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    let mut twice = Vec::new();
    for row in rows.iter().filter(|r| r.get::<_, bool>("answers")) {
        let name = row.get::<_, String>("node").to_ascii_lowercase();
        if !seen.insert(name.clone()) {
            twice.push(name);
        }
    }
    twice
}

/// The file that a setting's value in force comes from.
///
/// # Errors
/// [`LookError`].
pub async fn source_of(client: &Session, name: &str) -> Result<String, LookError> {
    let sql = "SELECT coalesce(sourcefile, '') FROM pg_settings WHERE name = $1";
    Ok(client.query_one(sql, &[&name]).await?.get(0))
}

/// The `restore_command` of the user's own files, whatever ALTER SYSTEM or the agent wrote.
///
/// # Errors
/// [`LookError`].
pub async fn restore_command_of_files(client: &Session) -> Result<String, LookError> {
    let sql = "SELECT setting FROM pg_file_settings WHERE lower(name) = 'restore_command' \
        AND sourcefile NOT LIKE '%postgresql.auto.conf' ORDER BY seqno DESC LIMIT 1";
    let rows = client.query(sql, &[]).await?;
    Ok(rows.first().and_then(|r| r.get::<_, Option<String>>(0)).unwrap_or_default())
}

/// Where the configuration files keep the server from taking up any change at a reload: it passes
/// over none where it does not know a name or cannot read a line (`guc-file.l`,
/// `ProcessConfigFileInternal`), and says so in its log only.
///
/// # Errors
/// [`LookError`].
pub async fn unreadable(client: &Session) -> Result<Option<String>, LookError> {
    let sql = "SELECT coalesce(sourcefile, '?') || ':' || coalesce(sourceline, 0) || \
        coalesce(': ' || name, '') || ': ' || error AS what FROM pg_file_settings \
        WHERE error IS NOT NULL AND NOT EXISTS (SELECT FROM pg_file_settings WHERE applied) \
        ORDER BY seqno LIMIT 1";
    Ok(client.query(sql, &[]).await?.first().map(|row| row.get("what")))
}

/// The version of the server that runs; its programs may have been replaced since it was started.
///
/// # Errors
/// [`LookError`].
pub async fn server_version(client: &Session) -> Result<String, LookError> {
    let sql = "SELECT split_part(current_setting('server_version'), ' ', 1)";
    Ok(client.query_one(sql, &[]).await?.get(0))
}

/// On which line a primary writes.
///
/// # Errors
/// [`LookError`].
pub async fn timeline(client: &Session) -> Result<u32, LookError> {
    let sql = "SELECT pg_walfile_name(pg_current_wal_lsn())";
    Ok(line_of(client.query_one(sql, &[]).await?.get(0)))
}

fn line_of(segment: &str) -> u32 {
    segment.get(..8).and_then(|t| u32::from_str_radix(t, 16).ok()).unwrap_or(0)
}

/// Where the server logs.
///
/// # Errors
/// [`LookError`].
pub async fn logging(client: &Session) -> Result<Logging, LookError> {
    let row = client
        .query_one(
            "SELECT current_setting('log_destination') AS destination, \
         current_setting('logging_collector') AS collector, \
         current_setting('lc_messages') AS messages, current_setting('log_min_messages') AS least, \
         pg_current_logfile('stderr') AS stderr, pg_current_logfile('csvlog') AS csv, \
         CASE WHEN current_setting('server_version_num')::int >= 150000 \
         THEN pg_current_logfile('jsonlog') END AS json",
            &[],
        )
        .await?;
    Ok(Logging {
        destination: row.get("destination"),
        collector: row.get::<_, String>("collector") == "on",
        messages: row.get("messages"),
        least: row.get("least"),
        files: ["stderr", "csv", "json"].map(|column| row.get(column)),
    })
}

/// Looks at a standby.
///
/// # Errors
/// [`LookError`].
pub async fn look_standby(client: &Session) -> Result<StandbyLook, LookError> {
    let row = client.query_one(STANDBY, &[]).await?;
    let waits: String = row.get("waits");
    Ok(StandbyLook {
        recovery: row.get("recovery"),
        received: row.get::<_, Option<String>>("received").and_then(|t| t.parse().ok()),
        replayed: lsn(&row, "replayed"),
        receiver: row.get::<_, Option<i32>>("receiver").and_then(|pid| u32::try_from(pid).ok()),
        streaming: row.get("streaming"),
        upstream_age: millis(&row, "upstream_age"),
        exhausted: waits == "RecoveryRetrieveRetryInterval" || waits == "RecoveryWalStream",
        moving: moving(&row),
        syncs: row.get::<_, String>("fsync") == "on",
        read_only: row.get("read_only"),
        sessions: sessions(&row),
        oldest: row.get("session"),
        newest: row.get("newest"),
        clock: row.get("clock"),
        paused: row.get("paused"),
        delay: Some(row.get::<_, String>("delay")).filter(|d| d != "0").unwrap_or_default(),
        conflicts: row.get::<_, String>("waits_for") == "Lock" || CONFLICTS.contains(&&*waits),
    })
}

/// What a startup process waits in while sessions hold it up, beside their locks.
const CONFLICTS: [&str; 3] =
    ["BufferPin", "RecoveryConflictSnapshot", "RecoveryConflictTablespace"];

/// Sessions that hold replay up: those whose locks it waits for, or else whose snapshots it may.
/// (`pg_blocking_pids` does not know the startup process.)
const HOLDERS: &str = "\
    SELECT a.pid, coalesce(a.usename::text, '') AS name, a.application_name, \
    coalesce(host(a.client_addr), 'local') AS place, \
    (extract(epoch FROM clock_timestamp() - coalesce(a.xact_start, a.backend_start)))::bigint \
        AS age \
    FROM pg_stat_activity s JOIN pg_stat_activity a ON a.backend_type = 'client backend' \
    AND a.application_name <> 'quorate' \
    AND CASE WHEN s.wait_event_type = 'Lock' THEN a.pid IN (SELECT h.pid FROM pg_locks w \
        JOIN pg_locks h ON h.granted AND h.locktype = w.locktype \
        AND h.database IS NOT DISTINCT FROM w.database \
        AND h.relation IS NOT DISTINCT FROM w.relation \
        AND h.classid IS NOT DISTINCT FROM w.classid AND h.objid IS NOT DISTINCT FROM w.objid \
        WHERE w.pid = s.pid AND NOT w.granted) \
    WHEN s.wait_event IN ('BufferPin', 'RecoveryConflictSnapshot', 'RecoveryConflictTablespace') \
    THEN a.backend_xmin IS NOT NULL ELSE false END \
    WHERE s.backend_type = 'startup' ORDER BY a.xact_start";

/// A session that holds replay up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process.
    pub pid: i32,
    /// Who, from where, since when.
    pub who: String,
}

/// Who holds replay up now.
///
/// # Errors
/// [`LookError`].
pub async fn holders(client: &Session) -> Result<Vec<Holder>, LookError> {
    let rows = client.query(HOLDERS, &[]).await?;
    let holder = |r: &Row| {
        let who = format!(
            "{} {} from {}, {} s",
            r.get::<_, String>("name"),
            r.get::<_, String>("application_name"),
            r.get::<_, String>("place"),
            r.get::<_, i64>("age")
        );
        Holder { pid: r.get("pid"), who }
    };
    Ok(rows.iter().map(holder).collect())
}

/// Ends these sessions.
///
/// # Errors
/// [`LookError`].
pub async fn end_sessions(client: &Session, pids: &[i32]) -> Result<(), LookError> {
    let sql = "SELECT pg_terminate_backend(pid) FROM unnest($1::int[]) pid";
    client.query(sql, &[&pids]).await.map(|_| ())
}

/// What a slot's columns are, with whether standbys keep a copy of it (PostgreSQL 17 and newer).
macro_rules! slots {
    ($carried:literal) => {
        concat!(
            "SELECT slot_name::text AS name, slot_type = 'logical' AS logical, active, ",
            $carried,
            " AS carried, greatest(coalesce(pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN \
             coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) ELSE \
             pg_current_wal_lsn() END, restart_lsn), 0), 0)::bigint AS holds \
             FROM pg_replication_slots WHERE NOT temporary ORDER BY slot_name LIMIT 64"
        )
    };
}
const SLOTS: &str = slots!("false");
const SLOTS_CARRIED: &str = slots!("failover");

/// The slots of this server; those that a tool makes for the time of its connection are none.
///
/// # Errors
/// [`LookError`].
pub async fn slots(client: &Session, major: u32) -> Result<Vec<Slot>, LookError> {
    let sql = if major >= 17 { SLOTS_CARRIED } else { SLOTS };
    let rows = client.query(sql, &[]).await?;
    let slot = |r: &Row| Slot {
        name: r.get("name"),
        logical: r.get("logical"),
        active: r.get("active"),
        holds: u64::try_from(r.get::<_, i64>("holds")).unwrap_or(0),
        carried: r.get("carried"),
    };
    Ok(rows.iter().map(slot).collect())
}

/// Whether the archive failed at its last try.
///
/// # Errors
/// [`LookError`].
pub async fn archive_fails(client: &Session) -> Result<Option<ArchiveFails>, LookError> {
    let sql = "SELECT last_failed_wal AS file, failed_count AS times, (extract(epoch FROM \
               clock_timestamp() - last_failed_time) * 1000)::bigint AS ms FROM pg_stat_archiver \
               WHERE last_failed_time > coalesce(last_archived_time, '-infinity')";
    let rows = client.query(sql, &[]).await?;
    let count = |r: &Row, name: &str| u64::try_from(r.get::<_, i64>(name)).unwrap_or(0);
    Ok(rows.first().map(|r| ArchiveFails {
        file: r.get("file"),
        age: Span::millis(count(r, "ms")),
        times: count(r, "times"),
    }))
}

/// Ends a pause of replay that somebody asked for.
///
/// # Errors
/// [`LookError`].
pub async fn resume_replay(client: &Session) -> Result<(), LookError> {
    client.execute("SELECT pg_wal_replay_resume()").await
}

/// Settings of this server, by name.
///
/// # Errors
/// [`LookError`].
pub async fn numbers(client: &Session, names: &[&str]) -> Result<Vec<u64>, LookError> {
    let sql = "SELECT current_setting(name)::bigint FROM unnest($1::text[]) name";
    let rows = client.query(sql, &[&names]).await?;
    Ok(rows.iter().map(|r| u64::try_from(r.get::<_, i64>(0)).unwrap_or(0)).collect())
}

/// Commits a real write that waits for the synchronous standbys, and reads it back. Returns how
/// long the commit took.
///
/// # Errors
/// In words.
pub async fn prove(config: &PostgresConfig, epoch: u64) -> Result<Span, LookError> {
    let client = Session::connect(config).await?;
    // Its own role may have been given another default; clients' is looked at elsewhere.
    client.execute("SET default_transaction_read_only = off").await?;
    client.execute(
        "SET client_min_messages = error; CREATE SCHEMA IF NOT EXISTS quorate; \
         CREATE TABLE IF NOT EXISTS quorate.proof (epoch bigint PRIMARY KEY, token text NOT NULL, at timestamptz NOT NULL DEFAULT now())",
    )
    .await?;
    let started = host::now();
    let token = format!("{}", started.0);
    let epoch = i64::try_from(epoch).unwrap_or(i64::MAX);
    let insert = "INSERT INTO quorate.proof (epoch, token) VALUES ($1, $2) ON CONFLICT (epoch) DO \
        UPDATE SET token = excluded.token, at = now()";
    client.query(insert, &[&epoch, &token]).await?;
    let took = host::now().since(started);
    let row =
        client.query_one("SELECT token FROM quorate.proof WHERE epoch = $1", &[&epoch]).await?;
    let read: String = row.get(0);
    if read == token {
        Ok(took)
    } else {
        Err(LookError::Said(format!("wrote {token} and read back {read}")))
    }
}

/// Writes to the log and waits for the disk, and for nobody else: whether the write path works.
///
/// # Errors
/// [`LookError`].
pub async fn write_path(client: &Session) -> Result<(), LookError> {
    client
        .execute(
            "BEGIN; SET LOCAL synchronous_commit = local; SELECT \
            pg_logical_emit_message(true, 'quorate', ''); COMMIT",
        )
        .await
}
