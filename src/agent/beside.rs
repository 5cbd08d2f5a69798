//! A PostgreSQL that somebody else started, on a node that never was in a cluster: the agent stands
//! beside it and touches nothing until the cluster is founded.
//!
//! The founder's server is stopped by a person (`quorate adopt`, or any clean stop); with that the
//! cluster is founded, and the agents of the standbys, which still stream until then, stop theirs
//! and start them as their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::host::{self, FolderId, Folders, Process};
use crate::model::topology::Role;

/// How often it is looked after.
pub(super) const BESIDE_INTERVAL: Duration = Duration::from_millis(20);

/// The server that runs here.
#[derive(Debug)]
pub(super) struct Beside {
    data_dir: PathBuf,
    folders: Folders,
    founder: bool,
    /// It was told to stop.
    told: bool,
}

impl Beside {
    /// The server that runs in `data_dir`, if any.
    ///
    /// # Errors
    /// In words, when it is not what the cluster file says: nothing was touched.
    pub(super) fn find(data_dir: &Path, role: Role) -> Result<Option<Self>, String> {
        let Some(pid) = host::postmaster(data_dir) else { return Ok(None) };
        let standby = data_dir.join("standby.signal").exists();
        let founder = role == Role::Primary;
        if founder == standby {
            let is = if standby { "a standby" } else { "a primary" };
            return Err(format!(
                "the PostgreSQL that runs in {} (process {pid}) is {is}, and cluster.yaml says \
                 role: {}. Nothing was touched. The node whose server takes the writes has role: \
                 primary",
                data_dir.display(),
                role.word()
            ));
        }
        tracing::warn!(
            pid,
            "a PostgreSQL that no agent started runs in {}: it stays as it is until it is adopted",
            data_dir.display()
        );
        let folders = FolderId::of(data_dir).ok().into_iter().collect();
        Ok(Some(Self { data_dir: data_dir.to_owned(), folders, founder, told: false }))
    }

    /// What it does now, in a word.
    pub(super) fn role(&self) -> &'static str {
        if self.takes_writes() { "primary" } else { "standby" }
    }

    /// Somebody may have promoted it since.
    pub(super) fn takes_writes(&self) -> bool {
        !self.data_dir.join("standby.signal").exists()
    }

    /// No cluster is founded elsewhere while it takes writes here.
    pub(super) fn forbids_founding(&self) -> bool {
        !self.founder && self.takes_writes()
    }

    /// Nothing of it runs any more, and the agent may begin. `is_founded`: there is a cluster now,
    /// so a standby is stopped, cleanly.
    pub(super) fn is_gone(&mut self, is_founded: bool) -> bool {
        if !self.founder && (!is_founded || self.takes_writes()) {
            // Stopped by somebody meanwhile, it is theirs to start.
            return false;
        }
        let server = host::postmaster(&self.data_dir);
        if let Some(process) = server.and_then(Process::of)
            && !self.founder
            && !std::mem::replace(&mut self.told, true)
        {
            tracing::info!(
                pid = process.pid,
                "the cluster is founded: stops its server, to start it as its own"
            );
            host::signal(process.pid, Signal::INT);
        }
        server.is_none() && host::processes_in(&self.folders).is_empty()
    }
}
