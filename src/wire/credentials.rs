//! This process's certificate, key and authority: read when it starts, and again whenever the files
//! change, so that a new certificate needs no restart. What cannot be used is told once, and what
//! was read before stays in force.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto};

use crate::config::TlsFiles;
use crate::model::observation::Certificate;
use crate::model::{Span, WallTime};

/// A certificate file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {why}")]
pub struct TlsError {
    /// Which file.
    pub file: String,
    /// Why.
    pub why: String,
}

impl TlsError {
    fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        Self { file: path.display().to_string(), why: why.to_string() }
    }
}

/// A connection waits no longer than this for a disk.
const READ_MAX: Duration = Duration::from_millis(200);
/// What gRPC speaks.
const HTTP2: &[u8] = b"h2";

/// What was read last, shared by all who connect and all who are connected to.
#[derive(Clone, Debug)]
pub struct Credentials(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    files: TlsFiles,
    /// As the files were when they were read last.
    reading: Mutex<[Stamp; 3]>,
    loaded: Mutex<Arc<Loaded>>,
}

/// Ready for use.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    validity: Vec<Validity>,
}

/// From when to when a certificate is good, in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    what: &'static str,
    from: i64,
    until: i64,
}

/// Changes whenever a file does.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(path).ok()?;
    Some((found.ino(), found.len(), found.ctime(), found.ctime_nsec()))
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let stamps = stamps(files);
        let loaded = Arc::new(load(files)?);
        let shared = Shared {
            files: files.clone(),
            reading: Mutex::new(stamps),
            loaded: Mutex::new(loaded),
        };
        Ok(Self(Arc::new(shared)))
    }

    /// Reads the files again if they changed. May wait for the disk.
    pub fn look(&self) {
        // One look at a time: a disk that does not answer holds up one thread, not all.
        let Ok(mut known) = self.0.reading.try_lock() else { return };
        let found = stamps(&self.0.files);
        if *known == found {
            return;
        }
        *known = found;
        match load(&self.0.files) {
            Ok(loaded) => {
                let until = loaded.validity.iter().map(|v| v.until).min().unwrap_or_default();
                tracing::info!("certificates read again: good until {}", WallTime(until).rfc3339());
                *self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(loaded);
            }
            Err(error) => {
                tracing::warn!(
                    "the certificates changed and cannot be used, the former stay in force: {error}"
                );
            }
        }
    }

    fn now(&self) -> Arc<Loaded> {
        Arc::clone(&self.0.loaded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks whether the files changed, and waits for a disk no longer than a moment.
    pub async fn refresh(&self) {
        let me = self.clone();
        let look = tokio::task::spawn_blocking(move || me.look());
        // In doubt what was read before stays in force.
        let _ = tokio::time::timeout(READ_MAX, look).await;
    }

    /// The newest, for a connection that begins now.
    pub(super) async fn current(&self) -> Arc<Loaded> {
        self.refresh().await;
        self.now()
    }

    /// How much longer each certificate is good.
    pub fn certificates(&self, wall: WallTime) -> Vec<Certificate> {
        let facts = |v: &Validity| Certificate {
            what: v.what.to_owned(),
            until: WallTime(v.until),
            left: coarse(v.until.saturating_sub(wall.0)),
            lifetime: millis(v.until.saturating_sub(v.from)),
        };
        self.now().validity.iter().map(facts).collect()
    }
}

/// Six centuries at most: there are certificates without an end.
fn millis(ms: i64) -> Span {
    Span(u64::try_from(ms).unwrap_or(0).saturating_mul(1_000_000))
}

/// In whole days, hours or minutes: what changes more often would only make noise.
fn coarse(ms: i64) -> Span {
    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    let unit = match ms {
        _ if ms >= 2 * DAY => DAY,
        _ if ms >= 2 * HOUR => HOUR,
        _ if ms >= 2 * MINUTE => MINUTE,
        _ => 1_000,
    };
    millis(ms - ms.rem_euclid(unit))
}

fn stamps(files: &TlsFiles) -> [Stamp; 3] {
    [&files.ca, &files.cert, &files.key].map(|path| stamp(path))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|e| TlsError::new(path, format!("cannot be read: {e}")));
    match all {
        Ok(found) if found.is_empty() => Err(TlsError::new(path, "there is no certificate in it")),
        other => other,
    }
}

fn validity(what: &'static str, path: &Path, der: &[u8]) -> Result<Validity, TlsError> {
    let (_, certificate) =
        x509_parser::parse_x509_certificate(der).map_err(|e| TlsError::new(path, e))?;
    let validity = certificate.validity();
    let ms = |at: x509_parser::time::ASN1Time| at.timestamp().saturating_mul(1_000);
    Ok(Validity { what, from: ms(validity.not_before), until: ms(validity.not_after) })
}

fn load(files: &TlsFiles) -> Result<Loaded, TlsError> {
    let (authorities, chain) = (certificates(&files.ca)?, certificates(&files.cert)?);
    let key = || {
        PrivateKeyDer::from_pem_file(&files.key)
            .map_err(|e| TlsError::new(&files.key, format!("cannot be read: {e}")))
    };
    let mut roots = RootCertStore::empty();
    for authority in &authorities {
        roots.add(authority.clone()).map_err(|e| TlsError::new(&files.ca, e))?;
    }
    let roots = Arc::new(roots);
    let provider = Arc::new(crypto::ring::default_provider());
    let unusable =
        |e| TlsError::new(&files.cert, format!("does not fit {}: {e}", files.key.display()));
    let versions = |e| TlsError::new(&files.cert, e);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|e| TlsError::new(&files.ca, e))?;
    let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(versions)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain.clone(), key()?)
        .map_err(unusable)?;
    server.alpn_protocols = vec![HTTP2.to_vec()];
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(versions)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.clone(), key()?)
        .map_err(unusable)?;
    client.alpn_protocols = vec![HTTP2.to_vec()];
    let mut found = vec![validity("own", &files.cert, &chain[0])?];
    // Of several authorities (one is being replaced) the one that lasts longest counts.
    let lasts = authorities.iter().map(|der| validity("authority", &files.ca, der));
    let lasts: Vec<Validity> = lasts.collect::<Result<_, _>>()?;
    found.extend(lasts.into_iter().max_by_key(|v| v.until));
    Ok(Loaded { server: Arc::new(server), client: Arc::new(client), validity: found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_in_steps_that_people_read() {
        let minutes = |n: i64| n * 60_000;
        for (ms, told) in [
            (minutes(60 * 24 * 3 + 7), minutes(60 * 24 * 3)),
            (minutes(60 * 5 + 7), minutes(60 * 5)),
            (minutes(7) + 5_250, minutes(7)),
            (5_250, 5_000),
            (-1, 0),
        ] {
            assert_eq!(coarse(ms), millis(told), "{ms}");
        }
        assert_eq!(coarse(i64::MAX), Span(u64::MAX));
    }
}
