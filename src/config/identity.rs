//! A person's identity folder: certificate, approval key, and where the plane and the agents are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Problem, TlsFiles};
use crate::model::NodeId;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    plane: String,
    #[serde(default)]
    agents: BTreeMap<String, String>,
    #[serde(default)]
    word: Option<String>,
    #[serde(default)]
    colour: Option<Spanned<String>>,
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
    /// What this way to a plane is called on every screen, and on which ground.
    pub context: Context,
    /// The key for approvals; a person without one can look and propose.
    pub approval_key: Option<PathBuf>,
}

/// One way to a plane among several. Whether it is production is the plane's word, not this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// Empty: none.
    pub word: String,
    /// `None`: as every environment.
    pub colour: Option<(u8, u8, u8)>,
}

impl Identity {
    /// Reads `identity.yaml`, with `ca.pem`, `cert.pem`, `key.pem` and perhaps `approval.key`
    /// beside it.
    ///
    /// # Errors
    /// A [`Problem`] with file, line and column.
    pub fn read(folder: &Path) -> Result<Self, Problem> {
        let path = folder.join("identity.yaml");
        let file: File = super::read(&path)?;
        let colour = file.colour.as_ref().map(|colour| {
            rgb(&colour.value).ok_or_else(|| {
                let what = format!("colour {:?} is none: expected \"#rrggbb\"", colour.value);
                Problem::at(&path, colour, what)
            })
        });
        let context = Context { word: file.word.unwrap_or_default(), colour: colour.transpose()? };
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
            context,
            approval_key: key.exists().then_some(key),
        })
    }
}

fn rgb(text: &str) -> Option<(u8, u8, u8)> {
    let digits = text.strip_prefix('#').filter(|d| d.len() == 6)?;
    let byte = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Some((byte(0)?, byte(2)?, byte(4)?))
}
