//! The built program in a terminal of its own, with servers that are not what they should be: it
//! says that it does not know, it leaves when it is told to, and the terminal is as it was.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

mod files;
mod given_back;
#[allow(dead_code, reason = "the measurements need more of it")]
mod pty;
mod server;
mod trouble;

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

const PROGRAM: &str = env!("CARGO_BIN_EXE_quorate");

/// An identity of a person for a plane at this address, that nobody knows.
fn stranger(folder: &Path, plane: &str) -> PathBuf {
    let mut authority = CertificateParams::new(vec![]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let mut own = CertificateParams::new(vec!["oncall".to_owned()]).unwrap();
    own.distinguished_name.push(DnType::CommonName, "oncall");
    let key = KeyPair::generate().unwrap();
    let certificate = own.signed_by(&key, &authority).unwrap();
    let identity = folder.join("oncall");
    std::fs::create_dir_all(&identity).unwrap();
    for (name, text) in [
        ("ca.pem", authority.pem()),
        ("cert.pem", certificate.pem()),
        ("key.pem", key.serialize_pem()),
        ("identity.yaml", format!("name: oncall\nplane: {plane}\n")),
    ] {
        std::fs::write(identity.join(name), text).unwrap();
    }
    identity
}

/// The command of a console with this identity.
fn console(identity: &Path) -> [&str; 3] {
    ["console", "--identity", identity.to_str().unwrap()]
}
