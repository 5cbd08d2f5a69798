//! Which server is this node's, whatever happens to names: the last one that was started or adopted
//! here, kept in `server.json` of the state folder from before it can be promoted until nothing of
//! it remains. So a data directory that was renamed, removed or configured elsewhere hides nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::host::listeners::{self, Listener};
use super::host::processes::{boot_id, descends, works_in};
use super::host::{self, FolderId, Folders, Process};
use crate::model::{Span, Timestamp};

/// A socket whose holder cannot be found is looked for again for so long.
const ENDS_WITHIN: Span = Span::millis(100);

/// A server that was started or adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its first process.
    pub process: Process,
    /// Under which start of the host.
    pub boot: String,
    /// The data directory it was started in.
    pub folder: FolderId,
}

/// What this agent knows of its server, for whoever has to end it. Clones share it.
#[derive(Clone, Debug)]
pub struct Ours(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    file: PathBuf,
    data_dir: PathBuf,
    socket: PathBuf,
    port: u16,
    known: Mutex<Known>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    server: Option<Server>,
    /// What the configured path led to when it was last looked at.
    path: Option<FolderId>,
    /// The record on disk says the same.
    saved: bool,
    /// The server's shared memory, once its pid file tells it.
    memory: Option<u64>,
}

/// Where the record is kept.
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join("server.json")
}

/// The recorded server, if it was started since the host was.
///
/// # Errors
/// In words, when there is a record that cannot be read.
pub fn recorded(state_dir: &Path) -> Result<Option<Server>, String> {
    let file = file(state_dir);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("{} cannot be read: {e}", file.display())),
    };
    let server: Server = serde_json::from_str(&text).map_err(|e| {
        format!(
            "{} is unreadable ({e}), so it is not known which PostgreSQL this agent started. \
             Make sure that none runs on this host, remove the file, and start the agent again",
            file.display()
        )
    })?;
    Ok((server.boot == boot_id()).then_some(server))
}

impl Ours {
    /// Reads the record.
    ///
    /// # Errors
    /// In words, see [`recorded`].
    pub fn open(
        state_dir: &Path,
        data_dir: &Path,
        socket_dir: &Path,
        port: u16,
    ) -> Result<Self, String> {
        let server = recorded(state_dir)?;
        let known = Known { saved: server.is_some(), server, path: None, memory: None };
        let ours = Self(Arc::new(Shared {
            file: file(state_dir),
            data_dir: data_dir.to_owned(),
            socket: socket_dir.join(format!(".s.PGSQL.{port}")),
            port,
            known: Mutex::new(known),
        }));
        ours.folders();
        Ok(ours)
    }

    fn with<T>(&self, of: impl FnOnce(&mut Known) -> T) -> T {
        of(&mut self.0.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The server that was started or adopted last.
    pub fn server(&self) -> Option<Server> {
        self.with(|known| known.server.clone())
    }

    /// Whether that process is the server that was started or adopted here.
    pub fn is_recorded(&self, pid: u32) -> bool {
        Process::of(pid).is_some_and(|p| self.server().is_some_and(|s| s.process == p))
    }

    /// A server was started or adopted in the data directory: kept until nothing of it remains.
    ///
    /// # Errors
    /// When the disk says no. It is remembered in memory then, and tried again by [`Ours::save`].
    pub fn note(&self, pid: u32) -> std::io::Result<()> {
        let gone = || std::io::Error::other(format!("process {pid} is gone"));
        let process = Process::of(pid).ok_or_else(gone)?;
        let folder = FolderId::of(&self.0.data_dir)?;
        let server = Server { process, boot: boot_id(), folder };
        self.with(|known| {
            known.saved &= known.server.as_ref() == Some(&server);
            known.memory = known.memory.filter(|_| known.server.as_ref() == Some(&server));
            (known.path, known.server) = (Some(folder), Some(server));
        });
        self.save()
    }

    /// Makes sure that the record on disk is the one in memory; a server is promoted only then.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn save(&self) -> std::io::Result<()> {
        let (server, saved) = self.with(|known| (known.server.clone(), known.saved));
        let Some(server) = server.filter(|_| !saved) else { return Ok(()) };
        // A record of numbers and a string serialises without failing.
        let text = serde_json::to_string(&server).unwrap_or_default();
        host::write_durably(&self.0.file, &text)?;
        self.with(|known| known.saved |= known.server.as_ref() == Some(&server));
        Ok(())
    }

    /// Nothing of the recorded server remains.
    fn forget(&self) {
        self.with(|known| (known.server, known.saved, known.memory) = (None, false, None));
        // A record that stays names a process that is gone.
        let _ = std::fs::remove_file(&self.0.file);
    }

    /// The folders that its processes may work in, as last seen: no disk is asked.
    pub fn known_folders(&self) -> Folders {
        self.with(|known| known.server.as_ref().map(|s| s.folder).into_iter().chain(known.path))
            .collect()
    }

    /// The same, after another look at the configured path.
    pub fn folders(&self) -> Folders {
        let path = FolderId::of(&self.0.data_dir).ok();
        let server = self.server().map(|s| s.process.pid);
        let memory = server.and_then(|pid| host::memory::segment_of(&self.0.data_dir, pid));
        self.with(|known| {
            known.path = path;
            known.memory = memory.or(known.memory);
        });
        self.known_folders()
    }

    /// Whether the configured path leads to another folder than the one the running server was
    /// started in, or to none. A disk that does not answer is no proof.
    pub fn moved_away(&self) -> bool {
        let Some(server) = self.server() else { return false };
        match FolderId::of(&self.0.data_dir) {
            Ok(now) => now != server.folder,
            Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        }
    }

    /// Processes in its shared memory, wherever they work.
    fn attached(&self) -> Vec<u32> {
        self.with(|known| known.memory).map_or(vec![], host::memory::attached_to)
    }

    /// Processes that remain of it.
    pub fn remaining(&self) -> Vec<u32> {
        let server = self.server().map(|s| s.process).filter(Process::still_runs);
        let mut found = host::processes_in(&self.folders());
        found.extend(server.map(|s| s.pid));
        found.extend(self.attached());
        found.sort_unstable();
        found.dedup();
        found
    }

    fn is_ours(&self, pid: u32, folders: &Folders) -> bool {
        works_in(pid, folders) || self.server().is_some_and(|s| descends(pid, s.process))
    }

    /// Kills all that is this node's: by process and folder, and then whatever of it still listens
    /// where the server did. Asks no file before the server itself is dead.
    ///
    /// # Errors
    /// In words, when something of it survives, or when a stranger answers in its place: then the
    /// server is not said to be stopped.
    pub fn kill(&self, until: Timestamp) -> Result<Stopped, String> {
        let server = self.server();
        let process = server.as_ref().map(|s| s.process);
        let (mut killed, _) = host::kill_all_in(&self.known_folders(), process, until);
        let folders = self.folders();
        let (more, mut remaining) = host::kill_all_in(&folders, process, until);
        killed += more;
        loop {
            let left = self.attached();
            if left.is_empty() || host::now() >= until {
                remaining.extend(left);
                break;
            }
            killed += u32::try_from(left.len()).unwrap_or(0);
            for pid in left {
                host::signal(pid, rustix::process::Signal::KILL);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        let mut strangers: Vec<Listener>;
        let began = host::now();
        loop {
            let (ours, others): (Vec<_>, Vec<_>) = listeners::at(self.0.port, &self.0.socket)
                .into_iter()
                .partition(|l| l.pid.is_some_and(|pid| self.is_ours(pid, &folders)));
            strangers = others;
            // One that ends while it is looked for is held by nobody that can be named.
            let ending =
                strangers.iter().any(|l| l.pid.is_none()) && host::now().since(began) < ENDS_WITHIN;
            if ours.is_empty() && !ending || host::now() >= until {
                remaining.extend(ours.into_iter().filter_map(|l| l.pid));
                break;
            }
            for pid in ours.into_iter().filter_map(|l| l.pid) {
                host::signal(pid, rustix::process::Signal::KILL);
                killed += 1;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if !remaining.is_empty() {
            return Err(format!(
                "processes {remaining:?} survive SIGKILL (in uninterruptible sleep?)"
            ));
        }
        // Another program on that port, at an address of its own, is somebody else's; only what may
        // be a PostgreSQL could be ours unrecognised.
        if let Some(stranger) = strangers.iter().find(|s| s.may_be_postgres()) {
            return Err(format!("{stranger}: not ours; it was not killed"));
        }
        let looked = self.words(server.as_ref(), &folders);
        self.forget();
        Ok(Stopped { killed, looked })
    }

    /// That nothing of it remains and nobody answers in its place; `None` when something does.
    pub fn is_gone(&self) -> Option<Stopped> {
        let quiet =
            self.remaining().is_empty() && listeners::at(self.0.port, &self.0.socket).is_empty();
        quiet.then(|| {
            let looked = self.words(self.server().as_ref(), &self.known_folders());
            self.forget();
            Stopped { killed: 0, looked }
        })
    }

    fn words(&self, server: Option<&Server>, folders: &Folders) -> String {
        let folders: Vec<String> = folders.iter().map(ToString::to_string).collect();
        let process =
            server.map_or_else(String::new, |s| format!("process {} gone; ", s.process.pid));
        format!(
            "{process}none works in folder {}; nobody listens on port {} and {}",
            if folders.is_empty() { "(none)".to_owned() } else { folders.join(", ") },
            self.0.port,
            self.0.socket.display()
        )
    }
}

/// What ending a server found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Processes that had to be killed.
    pub killed: u32,
    /// What was looked at.
    pub looked: String,
}
