//! This host: its suspend-aware clock, its disk, its processes, and who listens on it.

pub mod listeners;
pub mod memory;
pub mod processes;
pub mod stillness;

pub use processes::{
    FolderId, Folders, Process, kill_all_in, pid, postmaster, processes_in, runs, signal,
    watch_exit,
};

use std::path::Path;

use crate::model::{Timestamp, WallTime};

/// The suspend-aware clock: time goes on while the machine sleeps, so a lease cannot be slept
/// through.
pub fn now() -> Timestamp {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let (secs, nanos) =
        (u64::try_from(t.tv_sec).unwrap_or(0), u64::try_from(t.tv_nsec).unwrap_or(0));
    Timestamp(secs * 1_000_000_000 + nanos)
}

/// The wall clock, for people.
pub fn wall() -> WallTime {
    WallTime(chrono::Utc::now().timestamp_millis())
}

/// Waits until the suspend-aware clock shows `until`.
pub async fn sleep_until(until: Timestamp) {
    loop {
        let left = now().until(until);
        if left.0 == 0 {
            return;
        }
        // The runtime's timers stand still while the machine sleeps; a short leash bounds how late
        // that is noticed.
        tokio::time::sleep(left.std().min(std::time::Duration::from_millis(500))).await;
    }
}

/// Free and total bytes where `path` is.
pub fn disk(path: &Path) -> (u64, u64) {
    rustix::fs::statvfs(path).map_or((0, 0), |s| (s.f_bavail * s.f_frsize, s.f_blocks * s.f_frsize))
}

/// Writes a file so that after a crash either the old or the new contents are there, whole.
///
/// # Errors
/// When the disk says no.
pub fn write_durably(path: &Path, contents: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let next = path.with_extension("next");
    let mut file = std::fs::File::create(&next)?;
    file.write_all(contents.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    let folder = path.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}
