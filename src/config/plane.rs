//! `plane.yaml`: one control plane.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Allowlist, Problem, TlsFiles, beside};
use crate::model::topology::{Cluster, Policy};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    cluster: PathBuf,
    policy: PathBuf,
    allowlist: PathBuf,
    state_dir: PathBuf,
    listen: String,
    tls: TlsFiles,
    #[serde(default)]
    simulated: bool,
}

/// A plane's configuration.
#[derive(Clone, Debug)]
pub struct PlaneConfig {
    /// The cluster it watches.
    pub cluster: Cluster,
    /// What people allow.
    pub policy: Policy,
    /// Who may connect.
    pub allowlist: Allowlist,
    /// Where records, journal and plans are kept.
    pub state_dir: PathBuf,
    /// `host:port` to listen on.
    pub listen: String,
    /// Its certificate.
    pub tls: TlsFiles,
    /// The databases are simulated; said on every screen.
    pub simulated: bool,
}

impl PlaneConfig {
    /// Reads `plane.yaml` and the files it names.
    ///
    /// # Errors
    /// A [`Problem`] with file, line, column and the nearest valid word.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let file: File = super::read(path)?;
        let cluster = super::cluster::read(&beside(path, &file.cluster))?;
        super::cluster::driven(path, &cluster)?;
        Ok(Self {
            policy: super::policy::read(&beside(path, &file.policy), &cluster)?,
            allowlist: Allowlist::read(&beside(path, &file.allowlist))?,
            state_dir: beside(path, &file.state_dir),
            listen: file.listen,
            tls: file.tls.beside(path),
            simulated: file.simulated,
            cluster,
        })
    }
}
