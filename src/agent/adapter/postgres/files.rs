//! The files in a data directory that the agent writes: its settings, the standby signal, timeline
//! placeholders; and the ones it reads: the control file, timeline history, the log segments.

use std::path::{Path, PathBuf};

use crate::agent::host;
use crate::config::agent::PostgresConfig;
use crate::model::{Lsn, Position, SyncSet, TimelineHistory};

use super::programs::{ProgramError, Programs};

/// The file with the agent's settings, included last in `postgresql.conf`.
pub const SETTINGS: &str = "quorate.conf";

/// What the agent's settings file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where to receive log from; `None`: cut.
    pub upstream: Option<String>,
    /// Who confirms commits when this node is primary. Also written on a standby: a server that was
    /// started with a synchronous set makes its first commit after promotion wait, one that learns
    /// of it later may not.
    pub sync: SyncSet,
}

impl Settings {
    /// The file's text.
    pub fn text(&self, config: &PostgresConfig) -> String {
        let conninfo = self.upstream.clone().unwrap_or_default().replace('\'', "''");
        let socket = config.socket_dir.display().to_string().replace('\'', "''");
        format!(
            "# written by quorate; changes are overwritten. Put your own settings in \
                postgresql.conf above the include.\n\
             port = {port}\n\
             unix_socket_directories = '{socket}'\n\
             hot_standby = on\n\
             wal_level = replica\n\
             max_wal_senders = 16\n\
             wal_keep_size = '1GB'\n\
             wal_log_hints = on\n\
             full_page_writes = on\n\
             fsync = on\n\
             synchronous_commit = on\n\
             restart_after_crash = off\n\
             lc_messages = 'C'\n\
             log_min_messages = warning\n\
             wal_retrieve_retry_interval = '20ms'\n\
             wal_receiver_status_interval = '1s'\n\
             wal_receiver_timeout = '5s'\n\
             wal_sender_timeout = '5s'\n\
             recovery_target_timeline = 'latest'\n\
             primary_conninfo = '{conninfo}'\n\
             synchronous_standby_names = '{sync}'\n",
            port = config.port,
            sync = sync_setting(&self.sync).replace('\'', "''"),
        )
    }
}

/// `ANY 1 ("node-2","node-3")`; empty when commits wait for nobody.
pub fn sync_setting(sync: &SyncSet) -> String {
    if sync.k == 0 || sync.members.is_empty() {
        return String::new();
    }
    let names: Vec<String> = sync.members.iter().map(|m| format!("\"{}\"", m.node)).collect();
    format!("ANY {} ({})", sync.k, names.join(","))
}

/// Writes the settings durably and makes sure that `postgresql.conf` includes them last.
///
/// # Errors
/// When the disk says no.
pub fn write_settings(config: &PostgresConfig, settings: &Settings) -> std::io::Result<()> {
    let main = config.data_dir.join("postgresql.conf");
    let include = format!("include '{SETTINGS}'");
    let text = std::fs::read_to_string(&main).unwrap_or_default();
    if text.lines().rev().find(|l| !l.trim().is_empty()) != Some(include.as_str()) {
        let kept: Vec<&str> = text.lines().filter(|l| *l != include).collect();
        host::write_durably(&main, &format!("{}\n{include}\n", kept.join("\n")))?;
    }
    // Settings made with ALTER SYSTEM would win over the include; the few that decide who may write
    // are the agent's.
    let auto = config.data_dir.join("postgresql.auto.conf");
    if let Ok(text) = std::fs::read_to_string(&auto) {
        let ours = [
            "primary_conninfo",
            "synchronous_standby_names",
            "recovery_target",
            "restore_command",
            "primary_slot_name",
        ];
        let kept: Vec<&str> =
            text.lines().filter(|l| !ours.iter().any(|k| l.trim_start().starts_with(k))).collect();
        if kept.len() != text.lines().count() {
            host::write_durably(&auto, &format!("{}\n", kept.join("\n")))?;
        }
    }
    host::write_durably(&config.data_dir.join(SETTINGS), &settings.text(config))
}

/// The next start is a standby, whatever it was.
///
/// # Errors
/// When the disk says no.
pub fn signal_standby(data_dir: &Path) -> std::io::Result<()> {
    host::write_durably(&data_dir.join("standby.signal"), "")
}

/// Whether a database was made here.
pub fn has_data(data_dir: &Path) -> bool {
    data_dir.join("PG_VERSION").exists() && data_dir.join("global/pg_control").exists()
}

/// The data directory's major version.
pub fn data_major(data_dir: &Path) -> Option<u32> {
    std::fs::read_to_string(data_dir.join("PG_VERSION")).ok()?.trim().parse().ok()
}

/// The control file, as far as it is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// `in production`, `shut down`, `shut down in recovery`, …
    pub state: String,
    /// Start of the latest checkpoint record: after a clean stop the end of all there is.
    pub checkpoint: Position,
    /// Size of a log segment in bytes.
    pub segment_bytes: u64,
}

impl Control {
    /// Reads it with `pg_controldata`.
    ///
    /// # Errors
    /// [`ProgramError::Failed`].
    pub async fn read(programs: &Programs, data_dir: &Path) -> Result<Self, ProgramError> {
        let text = programs.run("pg_controldata", |c| _ = c.arg("-D").arg(data_dir)).await?;
        let field = |name: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .map(|v| v.trim_start_matches(':').trim().to_owned())
                .unwrap_or_default()
        };
        let lsn = field("Latest checkpoint location").parse().unwrap_or_default();
        let timeline = field("Latest checkpoint's TimeLineID").parse().unwrap_or(0);
        let segment_bytes = field("Bytes per WAL segment").parse().unwrap_or(16 << 20);
        Ok(Self {
            state: field("Database cluster state"),
            checkpoint: Position { timeline, lsn },
            segment_bytes,
        })
    }
    /// A primary was stopped cleanly: its log ends at the checkpoint.
    pub fn is_clean_primary(&self) -> bool {
        self.state == "shut down"
    }
    /// It was last a replica, so it has no log of its own making.
    pub fn was_standby(&self) -> bool {
        self.state == "shut down in recovery" || self.state == "in archive recovery"
    }
}

/// The timeline that the newest log segment belongs to.
pub fn newest_timeline(data_dir: &Path) -> Option<u32> {
    segments(data_dir)
        .into_iter()
        .filter_map(|(_, name)| u32::from_str_radix(name.get(..8)?, 16).ok())
        .max()
}

fn segments(data_dir: &Path) -> Vec<(PathBuf, String)> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("pg_wal")) else { return vec![] };
    entries
        .flatten()
        .map(|e| (e.path(), e.file_name().to_string_lossy().into_owned()))
        .filter(|(_, name)| {
            let stem = name.strip_suffix(".partial").unwrap_or(name);
            stem.len() == 24 && stem.bytes().all(|b| b.is_ascii_hexdigit())
        })
        .collect()
}

/// The history of a timeline from its file; the first timeline has none.
pub fn history(data_dir: &Path, timeline: u32) -> TimelineHistory {
    let text =
        std::fs::read_to_string(data_dir.join("pg_wal").join(format!("{timeline:08X}.history")))
            .unwrap_or_default();
    TimelineHistory::parse(timeline, &text)
}

/// Makes the next promotion of a server on `current` write timeline `epoch`: PostgreSQL takes the
/// number after the newest history file it finds, so files are placed for the numbers between. They
/// name no ancestors; a standby that meets one knows that it is not its child and stays where it
/// is.
///
/// # Errors
/// When the disk says no.
pub fn place_timelines(data_dir: &Path, current: u32, epoch: u64) -> std::io::Result<()> {
    for timeline in u64::from(current) + 1..epoch {
        let path = data_dir.join("pg_wal").join(format!("{timeline:08X}.history"));
        if !path.exists() {
            host::write_durably(
                &path,
                &format!("# quorate: nothing was ever written in epoch {timeline}\n"),
            )?;
        }
    }
    Ok(())
}

/// Removes placeholders that no real timeline stands behind: a server that starts would take the
/// newest of them for its target and find no way to it.
///
/// # Errors
/// When the disk says no.
pub fn remove_loose_placeholders(data_dir: &Path) -> std::io::Result<()> {
    let mut placeholders = vec![];
    let mut newest = newest_timeline(data_dir).unwrap_or(0);
    for entry in std::fs::read_dir(data_dir.join("pg_wal"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(timeline) =
            name.strip_suffix(".history").and_then(|t| u32::from_str_radix(t, 16).ok())
        else {
            continue;
        };
        if std::fs::read_to_string(entry.path()).unwrap_or_default().starts_with("# quorate:") {
            placeholders.push((timeline, entry.path()));
        } else {
            newest = newest.max(timeline);
        }
    }
    for (_, path) in placeholders.into_iter().filter(|(timeline, _)| *timeline > newest) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Every timeline that the log has a segment of.
pub fn timelines(data_dir: &Path) -> std::collections::BTreeSet<u32> {
    segments(data_dir)
        .into_iter()
        .filter_map(|(_, name)| u32::from_str_radix(name.get(..8)?, 16).ok())
        .collect()
}

/// Copies the log segments that a rewind or a new clone would erase: those on `timeline` from
/// `from` on. Returns the folder and how many files it holds.
///
/// # Errors
/// When the disk says no; then nothing may be erased.
pub fn keep_fork(
    data_dir: &Path,
    into: &Path,
    timeline: u32,
    from: Lsn,
    segment_bytes: u64,
) -> std::io::Result<(PathBuf, usize)> {
    let folder = into.join(format!(
        "fork-timeline-{timeline}-from-{:X}-{:X}",
        from.0 >> 32,
        from.0 & 0xFFFF_FFFF
    ));
    std::fs::create_dir_all(&folder)?;
    let first = from.0 / segment_bytes;
    let mut kept = 0;
    for (path, name) in segments(data_dir) {
        let number = |range: std::ops::Range<usize>| {
            name.get(range).and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0)
        };
        let segment = number(8..16) * (0x1_0000_0000 / segment_bytes) + number(16..24);
        if number(0..8) == u64::from(timeline) && segment >= first {
            let copy = folder.join(&name);
            std::fs::copy(&path, &copy)?;
            std::fs::File::open(&copy)?.sync_all()?;
            kept += 1;
        }
    }
    std::fs::File::open(&folder)?.sync_all()?;
    Ok((folder, kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Member;

    #[test]
    fn the_synchronous_setting_quotes_names() {
        let members =
            [Member::new("node-2", "a"), Member::new("node-3", "b")].into_iter().collect();
        assert_eq!(sync_setting(&SyncSet { members, k: 1 }), r#"ANY 1 ("node-2","node-3")"#);
        assert_eq!(sync_setting(&SyncSet::default()), "");
    }

    #[test]
    fn placeholders_fill_the_gap_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pg_wal")).unwrap();
        place_timelines(folder.path(), 2, 5).unwrap();
        let mut names: Vec<_> = std::fs::read_dir(folder.path().join("pg_wal"))
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(names, ["00000003.history", "00000004.history"]);
        // A promotion that never came: a start would take timeline 4 for its target.
        std::fs::write(folder.path().join("pg_wal/00000003.history"), "2\t0/1000000\tpromoted\n")
            .unwrap();
        remove_loose_placeholders(folder.path()).unwrap();
        assert!(folder.path().join("pg_wal/00000003.history").exists());
        assert!(!folder.path().join("pg_wal/00000004.history").exists());
        std::fs::write(folder.path().join("pg_wal/00000003.history"), "# quorate: nothing\n")
            .unwrap();
        assert!(history(folder.path(), 3).left.is_empty());
    }

    #[test]
    fn a_fork_keeps_only_its_own_segments() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        for name in [
            "000000020000000000000003",
            "000000020000000000000004",
            "000000030000000000000004",
            "00000003.history",
        ] {
            std::fs::write(wal.join(name), "x").unwrap();
        }
        let (kept, count) =
            keep_fork(folder.path(), &folder.path().join("forks"), 2, Lsn(0x4000010), 16 << 20)
                .unwrap();
        assert_eq!(count, 1);
        assert!(kept.join("000000020000000000000004").exists());
    }
}
