//! A theme or a keymap while somebody edits it: read again when its file changed.

use std::path::PathBuf;
use std::time::SystemTime;

/// A file, and which state of it is in force.
#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    seen: Option<SystemTime>,
}

impl Watched {
    /// As it is now.
    pub(super) fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let seen = modified(&path);
        Self { path, seen }
    }

    /// Its text, when it is another one than the one that was read. Editors put a new file in the
    /// place of the old one: one that is not there for a moment is no change.
    pub(super) fn changed(&mut self) -> Option<std::io::Result<String>> {
        let now = modified(&self.path)?;
        if self.seen.replace(now) == Some(now) {
            return None;
        }
        Some(std::fs::read_to_string(&self.path))
    }
}

fn modified(path: &std::path::Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_file_is_read_again_once_for_each_change_and_may_be_gone_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "one").unwrap();
        let mut watched = Watched::file(&path);
        assert!(watched.changed().is_none());
        let write = |text: &str, later: u64| {
            std::fs::write(&path, text).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(later);
            std::fs::File::options().append(true).open(&path).unwrap().set_modified(at).unwrap();
        };
        write("two", 2_000_000_000);
        assert_eq!(watched.changed().unwrap().unwrap(), "two");
        assert!(watched.changed().is_none());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.changed().is_none());
        write("three", 2_000_000_001);
        assert_eq!(watched.changed().unwrap().unwrap(), "three");
    }
}
