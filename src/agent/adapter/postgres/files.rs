//! The files in a data directory that the agent writes: its settings, the standby signal, timeline
//! placeholders; and the ones it reads: the control file, timeline history, the log segments.

use std::path::{Path, PathBuf};

use crate::agent::host;
use crate::model::{Lsn, Position, TimelineHistory};

use super::programs::{ProgramError, Programs};
use super::settings::{self, Moving};

/// Where ALTER SYSTEM writes; read last, so it wins over every other file.
const AUTO: &str = "postgresql.auto.conf";

/// The file that clusters made by an older version include last in `postgresql.conf`; their include
/// line stays, so the file does.
const INCLUDED: &str = "quorate.conf";
/// What is left to say in it.
const INCLUDED_TEXT: &str = "# written by quorate; nothing is set here any more. What the agent \
    decides is on the server's\n# command line and in postgresql.auto.conf; put your own settings \
    wherever you like.\n";

/// Writes the moving settings durably where they win over every other file, its other lines kept.
///
/// # Errors
/// When the disk says no.
pub fn write_moving(data_dir: &Path, moving: &Moving) -> std::io::Result<()> {
    let auto = data_dir.join(AUTO);
    let text = read_or_empty(&auto)?;
    let next = moving.written_into(&text);
    if next == text { Ok(()) } else { host::write_durably(&auto, &next) }
}

/// Before the user's own values are asked for: takes what this agent, or an older one, wrote out
/// of the files, as far as it would hide them. What is cut stays cut.
///
/// # Errors
/// When the disk says no.
pub fn uncover_user_values(data_dir: &Path) -> std::io::Result<()> {
    let included = data_dir.join(INCLUDED);
    if included.exists() && read_or_empty(&included)? != INCLUDED_TEXT {
        host::write_durably(&included, INCLUDED_TEXT)?;
    }
    let auto = data_dir.join(AUTO);
    let text = read_or_empty(&auto)?;
    let next = settings::without(&text, |name| name == "restore_command");
    if next == text { Ok(()) } else { host::write_durably(&auto, &next) }
}

/// What ALTER SYSTEM, or this agent, wrote for a setting; `None`: nothing.
pub fn auto_value(data_dir: &Path, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(data_dir.join(AUTO)).ok()?;
    let line = text.lines().rev().find(|l| {
        l.trim_start().strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with('='))
    })?;
    let value = line.split_once('=')?.1.trim();
    let value = value.strip_prefix('\'').and_then(|v| v.strip_suffix('\'')).unwrap_or(value);
    Some(value.replace("''", "'").replace("\\\\", "\\"))
}

/// A file that is not there reads as empty; one that cannot be read is not taken for empty.
fn read_or_empty(path: &Path) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        other => other,
    }
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
    /// Which database this is a copy of; made once, by `initdb`.
    pub system: String,
    /// What the primary that wrote the log has for [`DEMANDED`], in that order: a standby with less
    /// stops replaying, and ends when it is promoted.
    pub demands: [u64; 5],
    /// It is a copy whose end of the backup has not come yet.
    pub awaits_backup_end: bool,
    /// Up to where it has to replay before it is consistent; timeline 0: it says nothing of it.
    pub consistent: Position,
}

/// Settings that log carries, and which a standby needs at least as high.
pub const DEMANDED: [&str; 5] = [
    "max_connections",
    "max_worker_processes",
    "max_wal_senders",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

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
            system: field("Database system identifier"),
            demands: [
                "max_connections setting",
                "max_worker_processes setting",
                "max_wal_senders setting",
                "max_prepared_xacts setting",
                "max_locks_per_xact setting",
            ]
            .map(|name| field(name).parse().unwrap_or(0)),
            awaits_backup_end: field("Backup start location").parse().unwrap_or(Lsn(0)) > Lsn(0),
            consistent: Position {
                timeline: field("Min recovery ending loc's timeline").parse().unwrap_or(0),
                lsn: field("Minimum recovery ending location").parse().unwrap_or_default(),
            },
        })
    }
    /// What the log demands of a setting.
    pub fn demands(&self, name: &str) -> Option<u64> {
        let at = DEMANDED.iter().position(|d| *d == name)?;
        Some(self.demands[at])
    }
    /// It was stopped cleanly, whatever it was.
    pub fn is_clean(&self) -> bool {
        self.state == "shut down" || self.state == "shut down in recovery"
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

/// History files and the timelines that they are of.
fn history_files(data_dir: &Path) -> std::io::Result<Vec<(u32, PathBuf)>> {
    let number = |name: &str| u32::from_str_radix(name.strip_suffix(".history")?, 16).ok();
    Ok(std::fs::read_dir(data_dir.join("pg_wal"))?
        .flatten()
        .filter_map(|e| Some((number(&e.file_name().to_string_lossy())?, e.path())))
        .collect())
}

/// Histories that name an ancestor: a placeholder names none.
fn histories(data_dir: &Path) -> std::io::Result<Vec<(TimelineHistory, PathBuf)>> {
    let read = |(timeline, path)| (history(data_dir, timeline), path);
    let all = history_files(data_dir)?.into_iter().map(read);
    Ok(all.filter(|(h, _)| !h.left.is_empty()).collect())
}

/// The newest history that is here, whether any log of it is.
pub fn newest_history(data_dir: &Path) -> Option<TimelineHistory> {
    let all = histories(data_dir).ok()?.into_iter().map(|(h, _)| h);
    all.max_by_key(|h| h.timeline)
}

/// Removes histories that do not contain what is here, and of whose line no log is here.
pub fn drop_histories(data_dir: &Path, here: [Position; 2]) -> std::io::Result<Vec<u32>> {
    let logs = timelines(data_dir);
    let own = here.map(|p| p.timeline).into_iter().max().unwrap_or(0);
    let left = |h: &TimelineHistory| here.iter().any(|p| p.timeline > 0 && !h.continues(*p));
    let mut dropped = vec![];
    for (h, path) in histories(data_dir)? {
        if h.timeline > own && !logs.contains(&h.timeline) && left(&h) {
            std::fs::remove_file(path)?;
            dropped.push(h.timeline);
        }
    }
    Ok(dropped)
}

/// Where the log of a segment of that name begins.
pub fn begins(name: &str, segment_bytes: u64) -> Option<u64> {
    let number = |range: std::ops::Range<usize>| u64::from_str_radix(name.get(range)?, 16).ok();
    let high = number(8..16)?.checked_mul(0x1_0000_0000_u64.checked_div(segment_bytes)?)?;
    high.checked_add(number(16..24)?)?.checked_mul(segment_bytes)
}

/// Segments of the log and their names.
pub fn segments(data_dir: &Path) -> Vec<(PathBuf, String)> {
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
    let folder = data_dir.join("pg_wal");
    let mut placed = false;
    for timeline in u64::from(current) + 1..epoch {
        let path = folder.join(format!("{timeline:08X}.history"));
        if !path.exists() {
            let text = format!("# quorate: nothing was ever written in epoch {timeline}\n");
            std::fs::write(&path, text)?;
            placed = true;
        }
    }
    // Their contents are comments: one that a loss of power left empty says the same.
    if placed {
        std::fs::File::open(&folder)?.sync_all()?;
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
    for (timeline, path) in history_files(data_dir)? {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.is_empty() || text.starts_with("# quorate:") {
            placeholders.push((timeline, path));
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

/// A tablespace whose volume is not there, in words: the server would start without, and replay or
/// create files anew where they were.
pub fn missing_tablespace(data_dir: &Path, major: u32) -> Option<String> {
    let links = std::fs::read_dir(data_dir.join("pg_tblspc")).into_iter().flatten().flatten();
    let version = format!("PG_{major}_");
    for link in links.filter(|l| l.file_type().is_ok_and(|t| t.is_symlink())) {
        let mut entries = std::fs::read_dir(link.path()).into_iter().flatten().flatten();
        let is_ours = |e: std::fs::DirEntry| e.file_name().to_string_lossy().starts_with(&version);
        if !entries.any(is_ours) {
            let to = std::fs::read_link(link.path()).unwrap_or_default();
            return Some(format!(
                "tablespace {} is not here: {} has no folder {version}… (a volume that is not \
                 mounted?)",
                link.file_name().display(),
                to.display()
            ));
        }
    }
    None
}

/// Log that the archive does not have yet, in order.
pub fn unarchived(data_dir: &Path) -> Vec<String> {
    let folder = data_dir.join("pg_wal/archive_status");
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let mut ready: Vec<String> =
        names.filter_map(|n| n.strip_suffix(".ready").map(ToOwned::to_owned)).collect();
    ready.sort_unstable();
    ready
}

/// How much log is here, in bytes: the most that a fork can take.
pub fn log_bytes(data_dir: &Path) -> u64 {
    segments(data_dir)
        .into_iter()
        .filter_map(|(path, _)| Some(std::fs::metadata(path).ok()?.len()))
        .sum()
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
    let first = from.0 - from.0 % segment_bytes;
    let mut kept = 0;
    for (path, name) in segments(data_dir) {
        let begins = begins(&name, segment_bytes).unwrap_or(0);
        if name.starts_with(&format!("{timeline:08X}"))
            && begins >= first
            && holds_own_log(&path, begins)
        {
            let copy = folder.join(&name);
            // A rebuild that is tried again finds what it kept.
            if !are_alike(&path, &copy)? {
                std::fs::copy(&path, &copy)?;
            }
            std::fs::File::open(&copy)?.sync_all()?;
            kept += 1;
        }
    }
    for made in [folder.as_path(), into].into_iter().chain(into.parent()) {
        std::fs::File::open(made)?.sync_all()?;
    }
    Ok((folder, kept))
}

/// The timeline of a kept fork and where it begins, by its folder's name.
pub fn begins_fork(name: &str) -> Option<(u32, Lsn)> {
    let (timeline, from) = name.strip_prefix("fork-timeline-")?.split_once("-from-")?;
    Some((timeline.parse().ok()?, from.replacen('-', "/", 1).parse().ok()?))
}

/// Whether two files hold the same; one that is not there holds nothing.
fn are_alike(a: &Path, b: &Path) -> std::io::Result<bool> {
    use std::io::Read as _;
    let Ok(copy) = std::fs::File::open(b) else { return Ok(false) };
    let own = std::fs::File::open(a)?;
    if own.metadata()?.len() != copy.metadata()?.len() {
        return Ok(false);
    }
    let (mut own, mut copy) = (std::io::BufReader::new(own), std::io::BufReader::new(copy));
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let read = own.read(&mut left)?;
        if read == 0 {
            return Ok(true);
        }
        copy.read_exact(&mut right[..read])?;
        if left[..read] != right[..read] {
            return Ok(false);
        }
    }
}

/// A segment that is made ready for later holds the log of an earlier place under a new name: its
/// first page says which (`XLogPageHeaderData`: magic, flags, timeline, address).
fn holds_own_log(segment: &Path, begins: u64) -> bool {
    use std::io::Read as _;
    let mut head = [0; 16];
    let read = std::fs::File::open(segment).and_then(|mut f| f.read_exact(&mut head));
    let mut address = [0; 8];
    address.copy_from_slice(&head[8..]);
    // One that cannot be read is not judged here: the copy says why.
    read.is_err() || u64::from_ne_bytes(address) == begins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moving_settings_win_and_the_users_own_stay_readable() {
        let folder = tempfile::tempdir().unwrap();
        let auto = folder.path().join(AUTO);
        std::fs::write(&auto, "work_mem = '5MB'\nrestore_command = 'cp ''a'' %p'\n").unwrap();
        std::fs::write(folder.path().join(INCLUDED), "fsync = on\n").unwrap();
        assert_eq!(auto_value(folder.path(), "restore_command").unwrap(), "cp 'a' %p");
        let moving = Moving { conninfo: "host=a".into(), ..Moving::default() };
        write_moving(folder.path(), &moving).unwrap();
        assert_eq!(auto_value(folder.path(), "primary_conninfo").unwrap(), "host=a");
        assert_eq!(auto_value(folder.path(), "restore_command").unwrap(), "");
        uncover_user_values(folder.path()).unwrap();
        assert_eq!(auto_value(folder.path(), "restore_command"), None);
        assert_eq!(auto_value(folder.path(), "primary_conninfo").unwrap(), "host=a");
        assert_eq!(auto_value(folder.path(), "work_mem").unwrap(), "5MB");
        let included = std::fs::read_to_string(folder.path().join(INCLUDED)).unwrap();
        assert!(included.lines().all(|l| l.starts_with('#')), "{included}");
    }

    #[test]
    fn a_tablespace_whose_volume_is_not_there_is_named() {
        let top = tempfile::tempdir().unwrap();
        let (data, volume) = (top.path().join("data"), top.path().join("volume"));
        std::fs::create_dir_all(data.join("pg_tblspc/16390")).unwrap();
        std::fs::create_dir_all(volume.join("PG_15_202209061")).unwrap();
        assert_eq!(missing_tablespace(&data, 15), None, "one in place is the data directory's own");
        std::os::unix::fs::symlink(&volume, data.join("pg_tblspc/16385")).unwrap();
        assert_eq!(missing_tablespace(&data, 15), None);
        assert!(missing_tablespace(&data, 16).unwrap().contains("no folder PG_16_"));
        std::fs::rename(volume.join("PG_15_202209061"), volume.join("lost+found")).unwrap();
        let what = missing_tablespace(&data, 15).unwrap();
        assert!(what.contains("16385") && what.contains("volume"), "{what}");
        std::fs::remove_dir_all(&volume).unwrap();
        assert!(missing_tablespace(&data, 15).is_some(), "nor one that leads nowhere");
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

    /// At epoch 100,000: one file for each number that was never written in, while somebody is about
    /// to promote, and none afterwards where nobody did.
    #[test]
    fn a_promotion_that_never_came_leaves_no_file_however_high_its_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        let count = || std::fs::read_dir(&wal).unwrap().count();
        place_timelines(folder.path(), 2, 100_000).unwrap();
        assert_eq!(count(), 99_997);
        // A second attempt finds them.
        place_timelines(folder.path(), 2, 100_001).unwrap();
        assert_eq!(count(), 99_998);
        remove_loose_placeholders(folder.path()).unwrap();
        assert_eq!(count(), 0);
    }

    /// A rewind that was cut short had fetched it, and the standby never started again.
    #[test]
    fn a_history_that_the_log_has_left_is_dropped_where_no_log_of_it_is_here() {
        let folder = tempfile::tempdir().unwrap();
        let wal = folder.path().join("pg_wal");
        std::fs::create_dir(&wal).unwrap();
        for (name, text) in [
            ("00000003.history", "1\t0/100\tx\n2\t0/900\tx\n"),
            ("00000004.history", "1\t0/100\tx\n2\t0/500\tx\n"),
            ("00000005.history", "1\t0/100\tx\n2\t0/500\tx\n"),
            ("000000050000000000000001", ""),
            ("00000006.history", "# quorate: placeholder\n"),
        ] {
            std::fs::write(wal.join(name), text).unwrap();
        }
        let at = |lsn| Position { timeline: 2, lsn: Lsn(lsn) };
        let here = [at(0x300), at(0x600)];
        assert_eq!(drop_histories(folder.path(), here).unwrap(), [4]);
        assert!(wal.join("00000003.history").exists(), "its log is on that way");
        assert!(wal.join("00000005.history").exists(), "there is log of it");
        assert!(wal.join("00000006.history").exists(), "a placeholder says nothing of a way");
        assert_eq!(newest_history(folder.path()).map(|h| h.timeline), Some(5));
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
