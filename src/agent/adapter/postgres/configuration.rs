//! A node's configuration in its data directory is its owner's: a rewind or a clone would put the
//! upstream's in its place.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

/// What a server reads there unless it is told otherwise.
const FILES: [&str; 4] =
    ["postgresql.conf", "postgresql.auto.conf", "pg_hba.conf", "pg_ident.conf"];

fn folder(state_dir: &Path) -> PathBuf {
    state_dir.join("configuration")
}

/// Copies it into the state folder. What a rebuild that was cut short has left there is older, and
/// the node's own: it stays.
///
/// # Errors
/// When the disk says no; then nothing may be overwritten.
pub(super) fn keep(data_dir: &Path, state_dir: &Path) -> io::Result<()> {
    let folder = folder(state_dir);
    if folder.exists() {
        return Ok(());
    }
    let next = folder.with_extension("next");
    fs::create_dir_all(&next)?;
    // There may be a password in one of them.
    fs::set_permissions(&next, fs::Permissions::from_mode(0o700))?;
    for name in FILES {
        copy(&data_dir.join(name), &next.join(name))?;
    }
    fs::rename(&next, &folder)
}

/// Puts it back where it was.
///
/// # Errors
/// When the disk says no.
pub(super) fn put_back(data_dir: &Path, state_dir: &Path) -> io::Result<()> {
    let folder = folder(state_dir);
    if !folder.exists() {
        return Ok(());
    }
    for name in FILES {
        copy(&folder.join(name), &data_dir.join(name))?;
    }
    fs::remove_dir_all(folder)
}

/// A file with its permissions, or a link as a link; what is not there leaves the other alone.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let found = match fs::symlink_metadata(from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if fs::symlink_metadata(to).is_ok() {
        fs::remove_file(to)?;
    }
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    fs::copy(from, to)?;
    fs::File::open(to)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_that_is_cut_short_does_not_take_the_owners_lines() {
        let top = tempfile::tempdir().unwrap();
        let (data, state) = (top.path().join("data"), top.path().join("state"));
        fs::create_dir_all(&data).unwrap();
        fs::create_dir_all(&state).unwrap();
        fs::write(data.join("postgresql.conf"), "work_mem = '7MB'\n").unwrap();
        symlink("/etc/hba", data.join("pg_hba.conf")).unwrap();
        keep(&data, &state).unwrap();
        for name in FILES {
            fs::remove_file(data.join(name)).ok();
            fs::write(data.join(name), "the upstream's\n").unwrap();
        }
        // The agent was killed and begins anew.
        keep(&data, &state).unwrap();
        put_back(&data, &state).unwrap();
        assert_eq!(fs::read_to_string(data.join("postgresql.conf")).unwrap(), "work_mem = '7MB'\n");
        assert_eq!(fs::read_link(data.join("pg_hba.conf")).unwrap(), Path::new("/etc/hba"));
        // It had none of its own.
        assert_eq!(fs::read_to_string(data.join("pg_ident.conf")).unwrap(), "the upstream's\n");
        assert!(!folder(&state).exists());
    }
}
