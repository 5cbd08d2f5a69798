//! The room in every folder that matters and the certificate files, and who else runs this node's
//! data, looked at by threads of their own: a disk that does not answer must not hold up the agent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::copies;
use super::host::{self, FolderId};
use crate::config::AgentConfig;
use crate::model::observation::Room;
use crate::wire::tls::Credentials;

const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The same for copies: all processes of the host are looked at.
const COPIES_INTERVAL: Duration = Duration::from_secs(5);

/// What was found last.
#[derive(Clone, Debug, Default)]
pub struct Rooms {
    rooms: Arc<Mutex<Vec<Room>>>,
    copies: Arc<Mutex<Vec<String>>>,
}

fn locked<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rooms {
    /// Starts the thread. It ends when nobody asks any more.
    ///
    /// # Errors
    /// When the host starts no more threads.
    pub fn start(config: &AgentConfig, credentials: Credentials) -> std::io::Result<Self> {
        let state_dir = config.state_dir.clone();
        let data_dir = config.postgres.as_ref().map(|p| p.data_dir.clone());
        let me = &config.node;
        let others: Vec<u16> = (config.cluster.data_nodes())
            .filter(|n| n.node_id != me.node_id && n.hostname == me.hostname)
            .map(|n| n.postgres_port)
            .collect();
        let rooms = Self {
            rooms: Arc::new(Mutex::new(look(&state_dir, data_dir.as_deref()))),
            copies: Arc::default(),
        };
        if let Some(data_dir) = data_dir.clone() {
            let shared = Arc::downgrade(&rooms.copies);
            std::thread::Builder::new().name("copies".into()).spawn(move || {
                loop {
                    let found = copies::look(&data_dir, &others);
                    let Some(shared) = shared.upgrade() else { return };
                    *locked(&shared) = found;
                    drop(shared);
                    std::thread::sleep(COPIES_INTERVAL);
                }
            })?;
        }
        let shared = Arc::downgrade(&rooms.rooms);
        std::thread::Builder::new().name("rooms".into()).spawn(move || {
            loop {
                std::thread::sleep(LOOK_INTERVAL);
                credentials.look();
                let found = look(&state_dir, data_dir.as_deref());
                let Some(shared) = shared.upgrade() else { return };
                *locked(&shared) = found;
            }
        })?;
        Ok(rooms)
    }

    /// As found last.
    pub fn found(&self) -> Vec<Room> {
        locked(&self.rooms).clone()
    }

    /// Servers on copies of this node's data, in words.
    pub fn copies(&self) -> Vec<String> {
        locked(&self.copies).clone()
    }
}

/// The state folder, the data directory, and what of the database lies on other disks.
fn look(state_dir: &Path, data_dir: Option<&Path>) -> Vec<Room> {
    let mut found = vec![room("state", state_dir)];
    let Some(data_dir) = data_dir else { return found };
    found.push(room("data", data_dir));
    let device = |path: &Path| FolderId::of(path).ok().map(|id| id.dev);
    let mut devices = vec![device(data_dir)];
    let mut elsewhere = |what: &'static str, path: PathBuf| {
        let Ok(path) = path.canonicalize() else { return };
        let on = device(&path);
        if !devices.contains(&on) {
            devices.push(on);
            found.push(room(what, &path));
        }
    };
    elsewhere("wal", data_dir.join("pg_wal"));
    let spaces = std::fs::read_dir(data_dir.join("pg_tblspc")).into_iter().flatten().flatten();
    spaces.for_each(|entry| elsewhere("tablespace", entry.path()));
    found
}

fn room(what: &str, path: &Path) -> Room {
    let (free, total) = host::disk(path);
    Room { what: what.to_owned(), path: path.display().to_string(), free, total }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_folder_that_matters_is_named_with_its_room() {
        let top = tempfile::tempdir().unwrap();
        let data = top.path().join("data");
        std::fs::create_dir_all(data.join("pg_tblspc")).unwrap();
        std::os::unix::fs::symlink("/proc", data.join("pg_wal")).unwrap();
        std::os::unix::fs::symlink("/proc", data.join("pg_tblspc/16384")).unwrap();
        std::os::unix::fs::symlink("/dev", data.join("pg_tblspc/16385")).unwrap();
        let found = look(top.path(), Some(&data));
        let words: Vec<_> = found.iter().map(|r| (r.what.as_str(), r.path.as_str())).collect();
        assert_eq!(words[2..], [("wal", "/proc"), ("tablespace", "/dev")]);
        assert_eq!((words[0].0, words[1].0), ("state", "data"));
        assert!(found[1].total > 0 && found[1].free <= found[1].total, "{found:?}");
    }
}
