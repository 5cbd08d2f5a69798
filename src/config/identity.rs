//! A person's identity folder: certificate, approval key, and where the plane and the agents are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{Problem, TlsFiles};
use crate::model::NodeId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    plane: String,
    #[serde(default)]
    agents: BTreeMap<String, String>,
}

/// Who somebody is, and whom they talk to.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The name in the certificate.
    pub name: String,
    /// `host:port` of the plane.
    pub plane: String,
    /// `host:port` of each agent.
    pub agents: BTreeMap<NodeId, String>,
    /// Certificate files.
    pub tls: TlsFiles,
    /// The key for approvals; a person without one can look and propose.
    pub approval_key: Option<PathBuf>,
}

impl Identity {
    /// Reads `identity.yaml`, with `ca.pem`, `cert.pem`, `key.pem` and perhaps `approval.key`
    /// beside it.
    ///
    /// # Errors
    /// A [`Problem`] with file, line and column.
    pub fn read(folder: &Path) -> Result<Self, Problem> {
        let file: File = super::read(&folder.join("identity.yaml"))?;
        let key = folder.join("approval.key");
        Ok(Self {
            name: file.name,
            plane: file.plane,
            agents: file
                .agents
                .into_iter()
                .map(|(node, address)| (NodeId::new(node), address))
                .collect(),
            tls: TlsFiles {
                ca: folder.join("ca.pem"),
                cert: folder.join("cert.pem"),
                key: folder.join("key.pem"),
            },
            approval_key: key.exists().then_some(key),
        })
    }
}
