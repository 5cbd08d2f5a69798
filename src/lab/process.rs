//! Starting and ending the lab's processes, by pid and only its own.

use std::path::Path;
use std::process::{Command, Stdio};

use super::layout::User;
use crate::agent::host;

/// Starts `quorate ARGS` in a group of its own, as `user`, with its output in `log` and these
/// variables in its environment. Returns its pid.
pub(super) fn start(
    program: &Path,
    args: &[&str],
    user: Option<&User>,
    log: &Path,
    environment: &[(&str, &str)],
) -> std::io::Result<u32> {
    use std::os::unix::process::CommandExt as _;
    let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    if let Some(user) = user {
        std::os::unix::fs::chown(log, Some(user.uid), Some(user.gid))?;
    }
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .process_group(0)
        .current_dir("/");
    command.env("QUORATE_LOG_TO", "stderr").env_remove("QUORATE_IDENTITY");
    command.envs(environment.iter().copied());
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid).env("HOME", "/tmp");
    }
    let mut child = command.spawn()?;
    let pid = child.id();
    // Reaped when it ends while we still run; init does it otherwise.
    std::thread::spawn(move || child.wait());
    Ok(pid)
}

/// Whether `pid` is still the process that was started with `folder` in its command line: a pid can
/// be reused.
pub(super) fn is_ours(pid: u32, folder: &Path) -> bool {
    let folder = folder.display().to_string();
    let commandline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    host::runs(pid) && String::from_utf8_lossy(&commandline).contains(&folder)
}

/// Gives a folder and all in it to `user`.
pub(super) fn give(folder: &Path, user: &User) -> std::io::Result<()> {
    std::os::unix::fs::lchown(folder, Some(user.uid), Some(user.gid))?;
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            give(&entry?.path(), user)?;
        }
    }
    Ok(())
}
