//! Who calls, and whom: the options every command for people has.

use std::path::PathBuf;

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
    /// `host:port` of the plane, if not the identity's.
    #[arg(long)]
    plane: Option<String>,
}

/// Where `quorate lab up` makes its lab unless told otherwise.
const LAB: &str = "/tmp/quorate-lab/operator";

impl Person {
    /// With this identity folder, or the default one.
    pub(super) fn of(identity: Option<PathBuf>) -> Self {
        Self { identity, plane: None }
    }

    pub(super) fn identity(&self) -> Result<Identity> {
        let configured = directories::ProjectDirs::from("", "", "quorate")
            .map(|d| d.config_dir().join("identity"));
        let candidates = [
            self.identity.clone(),
            configured.filter(|p| p.exists()),
            Some(PathBuf::from(LAB)).filter(|p| p.exists()),
        ];
        let folder = candidates.into_iter().flatten().next().ok_or_else(|| {
            eyre!("who are you? Name your identity folder with --identity (or QUORATE_IDENTITY), or start a lab with `quorate lab up`")
        })?;
        let mut identity = Identity::read(&folder)?;
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
