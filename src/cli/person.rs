//! Who calls, and whom: the options every command for people has.

use std::path::{Path, PathBuf};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use crate::access::ApprovalKey;
use crate::config::Identity;
use crate::wire::Client;
use crate::wire::message::{CallReply, CallRequest};

#[derive(Clone, Debug, Args)]
pub(super) struct Person {
    /// Folder with identity.yaml, certificate and approval key. Default:
    /// ~/.config/quorate/identity, else the lab's operator.
    #[arg(long, env = "QUORATE_IDENTITY")]
    identity: Option<PathBuf>,
    /// One of several identity folders, by its name below ~/.config/quorate/contexts: one for each
    /// plane. Goes before --identity and QUORATE_IDENTITY.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// `host:port` of the plane, if not the identity's.
    #[arg(long)]
    plane: Option<String>,
}

/// Where `quorate lab up` makes its lab unless told otherwise.
const LAB: &str = "/tmp/quorate-lab/operator";

impl Person {
    /// With this identity folder, or the default one.
    pub(super) fn of(identity: Option<PathBuf>) -> Self {
        Self { identity, context: None, plane: None }
    }

    pub(super) fn identity(&self) -> Result<Identity> {
        let below = directories::ProjectDirs::from("", "", "quorate");
        let below = below.map(|d| d.config_dir().to_owned());
        let configured = below.as_ref().map(|below| below.join("identity"));
        let contexts = below.unwrap_or_default().join("contexts");
        let context = self.context.as_deref().map(|name| context(&contexts, name));
        let candidates = [
            context.transpose()?,
            self.identity.clone(),
            configured.filter(|p| p.exists()),
            Some(PathBuf::from(LAB)).filter(|p| p.exists()),
        ];
        let folder = candidates.into_iter().flatten().next().ok_or_else(|| {
            eyre!("who are you? Name your identity folder with --identity (or QUORATE_IDENTITY), or start a lab with `quorate lab up`")
        })?;
        let mut identity = Identity::read(&folder)?;
        if let Some(name) = self.context.as_ref().filter(|_| identity.context.word.is_empty()) {
            identity.context.word.clone_from(name);
        }
        if let Some(plane) = &self.plane {
            identity.plane.clone_from(plane);
        }
        Ok(identity)
    }

    pub(super) fn client(identity: &Identity) -> Result<Client> {
        Ok(Client::new(&identity.plane, "plane", &identity.tls)?)
    }

    pub(super) async fn call(client: &Client, request: CallRequest) -> Result<CallReply> {
        Ok(client.call(&request).await?)
    }
}

/// The folder of a context, or which ones there are.
fn context(all: &Path, name: &str) -> Result<PathBuf> {
    let folder = all.join(name);
    // A name is one folder's: no way leads out of it.
    let is_name = matches!(
        Path::new(name).components().collect::<Vec<_>>()[..],
        [std::path::Component::Normal(_)]
    );
    if is_name && folder.join("identity.yaml").exists() {
        return Ok(folder);
    }
    let entries = std::fs::read_dir(all).into_iter().flatten().flatten();
    let mut known: Vec<String> = entries
        .filter(|e| e.path().join("identity.yaml").exists())
        .map(|e| e.file_name().to_string_lossy().into_owned())
        .collect();
    known.sort_unstable();
    let known = if known.is_empty() { "none yet".into() } else { known.join(", ") };
    Err(eyre!(
        "there is no context {name:?} in {} ({known}): a context is a folder there with \
         identity.yaml, ca.pem, cert.pem, key.pem and perhaps approval.key",
        all.display()
    ))
}

/// The person's approval key.
pub(super) fn approval_key(identity: &Identity) -> Result<ApprovalKey> {
    let path = identity.approval_key.as_ref().ok_or_else(|| {
        eyre!(
            "{} has no approval.key: this identity can look and propose, not approve",
            identity.name
        )
    })?;
    ApprovalKey::from_hex(&std::fs::read_to_string(path)?)
        .map_err(|e| eyre!("{}: {e}", path.display()))
}
