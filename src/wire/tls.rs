//! Mutual TLS: who a server is, who a caller is.

use std::path::Path;

use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

use crate::config::TlsFiles;

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct TlsError {
    /// Which file.
    pub file: String,
    /// Why.
    pub why: String,
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError {
        file: path.display().to_string(),
        why: format!("cannot be read: {e}"),
    })
}

/// For a server: callers must show a certificate of the same authority.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn server(files: &TlsFiles) -> Result<ServerTlsConfig, TlsError> {
    let identity = Identity::from_pem(read(&files.cert)?, read(&files.key)?);
    Ok(ServerTlsConfig::new()
        .identity(identity)
        .client_ca_root(Certificate::from_pem(read(&files.ca)?)))
}

/// For a client that expects to meet `name`.
///
/// # Errors
/// [`TlsError`] naming the file.
pub fn client(files: &TlsFiles, name: &str) -> Result<ClientTlsConfig, TlsError> {
    let identity = Identity::from_pem(read(&files.cert)?, read(&files.key)?);
    Ok(ClientTlsConfig::new()
        .identity(identity)
        .ca_certificate(Certificate::from_pem(read(&files.ca)?))
        .domain_name(name))
}

/// The common name in the caller's certificate.
///
/// # Errors
/// `unauthenticated` when there is none.
pub fn caller<T>(request: &tonic::Request<T>) -> Result<String, tonic::Status> {
    let none = || tonic::Status::unauthenticated("no client certificate with a common name");
    let certificates = request.peer_certs().ok_or_else(none)?;
    let first = certificates.first().ok_or_else(none)?;
    common_name(first).ok_or_else(none)
}

/// The common name in a DER certificate.
pub fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}
