//! The certificate, and its renewal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, InconsistentKeys, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config::Tls;

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error(
        "{setting} is {}: cannot read the file: {cause}; name a file that this program may read",
        path.display()
    )]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A file does not contain the expected item.
    #[error(
        "{setting} is {}: the file contains no {wanted} ({cause}); give PEM without a passphrase, with a line \
         -----BEGIN {wanted}-----",
        path.display()
    )]
    NotPem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// PEM's name of the item.
        wanted: &'static str,
        /// The parser's error.
        cause: pem::Error,
    },
    /// The key does not belong to the certificate.
    #[error(
        "TLS_KEY_PATH is {}: it is not the key of the first certificate in {}; give a pair that was issued \
         together, with the server's own certificate first in its file",
        key.display(), certificate.display()
    )]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// TLS cannot use the pair.
    #[error(
        "TLS_CERTIFICATE_PATH is {} and TLS_KEY_PATH is {}: they cannot be used: {cause}; give an X.509 certificate \
         with an RSA, ECDSA or Ed25519 key",
        certificate.display(), key.display()
    )]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with the pair.
        cause: rustls::Error,
    },
}

/// How often the files are read.
const PERIOD: Duration = Duration::from_secs(1);

/// A read that takes longer is reported as stalled.
const STALLED: Duration = Duration::from_secs(3);

/// The present certificate with its key.
#[derive(Debug)]
pub(super) struct Certificate(watch::Receiver<Arc<ServerConfig>>);

impl Certificate {
    /// Reads the files, and reads them again every second until it is dropped.
    pub(super) fn read(files: Tls) -> Result<Self, Error> {
        let pair = Pair::read(&files)?;
        let (renewed, config) = watch::channel(pair.config(&files)?);
        tokio::spawn(renew(Arc::new(files), Some(pair.hash()), renewed));
        Ok(Self(config))
    }

    /// An acceptor with the present certificate.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.borrow().clone())
    }
}

/// Sends the certificate whenever the files have changed and can be used. If they cannot be used, logs one
/// warning and keeps the last certificate. A read has no timeout, since a volume may stall; it runs on its
/// own thread, and no second one starts meanwhile.
///
/// `last` is a hash of the files; `None` if they could not be read.
async fn renew(
    files: Arc<Tls>,
    mut last: Option<[u8; 32]>,
    renewed: watch::Sender<Arc<ServerConfig>>,
) {
    loop {
        tokio::select! {
            () = renewed.closed() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
        let reading = files.clone();
        let mut reading = tokio::task::spawn_blocking(move || Pair::read(&reading));
        let read = tokio::select! {
            read = &mut reading => read,
            () = tokio::time::sleep(STALLED) => {
                warn!("reading the certificate and its key has stalled; the last certificate stays in use");
                reading.await
            }
        };
        let Ok(pair) = read else {
            // The runtime is shutting down.
            return;
        };
        let hash = pair.as_ref().ok().map(Pair::hash);
        if hash == last {
            continue;
        }
        last = hash;
        match pair.and_then(|pair| pair.config(&files)) {
            Ok(config) => {
                renewed.send_replace(config);
                info!("the certificate was renewed");
            }
            Err(error) => {
                warn!(%error, "the certificate was not renewed; the last one stays in use");
            }
        }
    }
}

/// The contents of the files.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(files: &Tls) -> Result<Self, Error> {
        let read = |setting, path: &Path| {
            std::fs::read(path).map_err(|cause| Error::Unreadable {
                setting,
                path: path.to_owned(),
                cause,
            })
        };
        Ok(Self {
            certificate: read("TLS_CERTIFICATE_PATH", &files.certificate)?,
            key: read("TLS_KEY_PATH", &files.key)?,
        })
    }

    fn hash(&self) -> [u8; 32] {
        let certificate = Sha256::digest(&self.certificate);
        Sha256::new_with_prefix(certificate)
            .chain_update(&self.key)
            .finalize()
            .into()
    }

    /// TLS 1.2 and 1.3, for HTTP/1.1.
    fn config(&self, files: &Tls) -> Result<Arc<ServerConfig>, Error> {
        let (certificate, key) = (&files.certificate, &files.key);
        let chain = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<Vec<_>, _>>()
            .and_then(|chain| {
                if chain.is_empty() {
                    return Err(pem::Error::NoItemsFound);
                }
                Ok(chain)
            })
            .map_err(|cause| Error::NotPem {
                setting: "TLS_CERTIFICATE_PATH",
                path: certificate.clone(),
                wanted: "CERTIFICATE",
                cause,
            })?;
        let private_key =
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|cause| Error::NotPem {
                setting: "TLS_KEY_PATH",
                path: key.clone(),
                wanted: "PRIVATE KEY",
                cause,
            })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, private_key)
            })
            .map_err(|cause| match cause {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Error::OtherKey {
                    certificate: certificate.clone(),
                    key: key.clone(),
                },
                cause => Error::Unusable {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    cause,
                },
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Opens a TLS connection over a socket. Closes the socket on an error or after `timeout`.
pub(super) async fn handshake(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    timeout: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let accepting = acceptor.accept(socket).into_fallible();
    match tokio::time::timeout(timeout, accepting).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, mut socket))) => {
            // rustls has written the alert with the reason.
            let _ = socket.shutdown().await;
            Err(error)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
