//! `quorate approval-key`: the key with which a person approves, and its public half.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use color_eyre::Result;
use color_eyre::eyre::eyre;

use super::Outcome;
use super::output::say;
use crate::access::ApprovalKey;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The person's identity folder. An approval.key that is there already stays, and is shown.
    #[arg(long)]
    dir: PathBuf,
}

pub(super) fn run(arguments: &Arguments) -> Result<Outcome> {
    let path = arguments.dir.join("approval.key");
    let key = of(&path).map_err(|why| eyre!("{}: {why}", path.display()))?;
    say!("approval_key: \"{}\"", key.public_hex());
    Ok(Outcome::Done)
}

/// The key in the file, which is made where there is none.
fn of(path: &Path) -> Result<ApprovalKey, String> {
    // Never over another: what it signed would be nobody's.
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match file {
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
            let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
            return ApprovalKey::from_hex(&text);
        }
        made => made.map_err(|e| e.to_string())?,
    };
    let key = ApprovalKey::generate()?;
    file.write_all(key.to_hex().as_bytes()).map_err(|e| e.to_string())?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::of;

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("approval.key");
        let made = of(&path).unwrap().public_hex();
        assert_eq!(of(&path).unwrap().public_hex(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "").unwrap();
        assert!(of(&path).is_err(), "an empty file is no key");
    }
}
