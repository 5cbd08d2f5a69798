//! `allowlist.yaml`: who may connect, as what, and with which key they approve. Deny by default.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::Problem;

/// What an identity may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    /// An agent.
    Node,
    /// The control plane.
    Plane,
    /// Looks.
    Viewer,
    /// Looks at the audit.
    Auditor,
    /// Makes plans.
    Operator,
    /// Approves and executes plans.
    Approver,
    /// All of it.
    Admin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    identities: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    roles: Vec<Permission>,
    #[serde(default)]
    approval_key: Option<Spanned<String>>,
}

/// Who may connect.
#[derive(Clone, Debug, Default)]
pub struct Allowlist {
    identities: BTreeMap<String, (Vec<Permission>, Option<[u8; 32]>)>,
}

impl Allowlist {
    /// Reads `allowlist.yaml`.
    ///
    /// # Errors
    /// A [`Problem`] with file, line and column.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        Self::check(path, super::read(path)?)
    }

    /// Parses the text of `allowlist.yaml`; `path` is for messages.
    ///
    /// # Errors
    /// As [`Allowlist::read`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problem> {
        Self::check(path, super::parse(path, text)?)
    }

    fn check(path: &Path, file: File) -> Result<Self, Problem> {
        let mut identities = BTreeMap::new();
        for entry in file.identities {
            let key = match &entry.approval_key {
                None => None,
                Some(text) => {
                    let bytes =
                        hex::decode(&text.value).ok().and_then(|b| <[u8; 32]>::try_from(b).ok());
                    Some(bytes.ok_or_else(|| {
                        Problem::at(
                            path,
                            text,
                            "approval_key: expected 64 hex digits (an Ed25519 public key)",
                        )
                    })?)
                }
            };
            if crate::model::plan::is_policy(&entry.name.value) {
                let what = format!(
                    "identity {:?} begins with \"policy \", which is how the plane signs what a \
                     policy asked for: choose another name",
                    entry.name.value
                );
                return Err(Problem::at(path, &entry.name, what));
            }
            if identities.insert(entry.name.value.clone(), (entry.roles, key)).is_some() {
                return Err(Problem::at(
                    path,
                    &entry.name,
                    format!("identity {:?} is listed twice", entry.name.value),
                ));
            }
        }
        Ok(Self { identities })
    }

    /// Whether `name` has one of `permissions` (an admin has all that people have).
    pub fn allows(&self, name: &str, permissions: &[Permission]) -> bool {
        let person = permissions.iter().any(|p| !matches!(p, Permission::Node | Permission::Plane));
        self.identities.get(name).is_some_and(|(roles, _)| {
            roles.iter().any(|r| permissions.contains(r))
                || (person && roles.contains(&Permission::Admin))
        })
    }

    /// The key with which `name` approves.
    pub fn approval_key(&self, name: &str) -> Option<[u8; 32]> {
        self.identities.get(name).and_then(|(_, key)| *key)
    }
}
