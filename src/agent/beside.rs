//! A PostgreSQL that somebody else started, on a node that never was in a cluster: the agent stands
//! beside it and touches nothing until the cluster is founded.
//!
//! A person begins it (`quorate adopt --begin`), and stops the founder's server; with that the
//! cluster is founded, and the agents of the standbys, which still stream until then, stop theirs
//! and start them as their own. A server that ends otherwise is its owner's to start.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::host::{self, FolderId, Folders, Process};
use crate::model::topology::Role;
use crate::model::{Span, Timestamp};

/// How often it is looked after.
pub(super) const BESIDE_INTERVAL: Duration = Duration::from_millis(20);

/// A service that does not end is not waited for.
const SERVICE_MAX: Span = Span::secs(5);

/// In the state folder: a server that is not owned runs here, or is started by its owner.
const WAITS: &str = "beside";
/// In the state folder: a person has begun it.
pub const BEGUN: &str = "begun";

/// The server that runs here.
#[derive(Debug)]
pub(super) struct Beside {
    state_dir: PathBuf,
    data_dir: PathBuf,
    folders: Folders,
    founder: bool,
    /// It was told to stop.
    told: bool,
    /// The server, and the folder of the service that it runs in.
    server: Option<u32>,
    service: Option<PathBuf>,
    ended: Option<Timestamp>,
}

impl Beside {
    /// The server that runs in `data_dir`, if any.
    ///
    /// # Errors
    /// In words, when it is not what the cluster file says: nothing was touched.
    pub(super) fn find(
        state_dir: &Path,
        data_dir: &Path,
        role: Role,
    ) -> Result<Option<Self>, String> {
        let waits = state_dir.join(WAITS);
        let Some(pid) = host::postmaster(data_dir) else {
            // Its owner stopped it, or the host was restarted: it is still not this agent's.
            let begun = state_dir.join(BEGUN).exists();
            return Ok((waits.exists() && !begun).then(|| Self::new(state_dir, data_dir, role)));
        };
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
        host::write_durably(&waits, "").map_err(|e| format!("{}: {e}", waits.display()))?;
        Ok(Some(Self::new(state_dir, data_dir, role)))
    }

    fn new(state_dir: &Path, data_dir: &Path, role: Role) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            data_dir: data_dir.to_owned(),
            folders: FolderId::of(data_dir).ok().into_iter().collect(),
            founder: role == Role::Primary,
            told: false,
            server: None,
            service: None,
            ended: None,
        }
    }

    /// What it does now, in a word.
    pub(super) fn role(&self) -> &'static str {
        match host::postmaster(&self.data_dir) {
            None => "stopped",
            Some(_) if self.takes_writes() => "primary",
            Some(_) => "standby",
        }
    }

    /// Somebody may have promoted it since.
    pub(super) fn takes_writes(&self) -> bool {
        let runs = host::postmaster(&self.data_dir).is_some();
        runs && !self.data_dir.join("standby.signal").exists()
    }

    /// No cluster is founded elsewhere while it takes writes here.
    pub(super) fn forbids_founding(&self) -> bool {
        !self.founder && self.takes_writes()
    }

    /// Nothing of it runs any more, and the agent may begin. `is_founded`: there is a cluster now,
    /// so a standby is stopped, cleanly.
    pub(super) fn is_gone(&mut self, is_founded: bool) -> bool {
        let server = host::postmaster(&self.data_dir);
        if server.is_some() && server != self.server {
            self.server = server;
            self.service = server.and_then(host::processes::service_of);
        }
        let begun = if self.founder { self.state_dir.join(BEGUN).exists() } else { is_founded };
        if !begun || !self.founder && self.takes_writes() {
            // Stopped by somebody meanwhile, it is theirs to start.
            return false;
        }
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
        if server.is_some() || !host::processes_in(&self.folders).is_empty() {
            return false;
        }
        // What its service does when the server has ended (Debian: `pg_ctlcluster stop`) would stop
        // the next one.
        let ended = *self.ended.get_or_insert_with(host::now);
        if self.service.as_ref().is_some_and(|folder| folder.exists())
            && host::now().since(ended) < SERVICE_MAX
        {
            return false;
        }
        // Begun, or founded: an agent that starts from here on owns what is there, also where this
        // mark cannot be removed.
        let _ = std::fs::remove_file(self.state_dir.join(WAITS));
        true
    }
}
