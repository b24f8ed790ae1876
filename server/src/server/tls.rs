//! The certificate, and its renewal.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
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
        "{setting} is {}: cannot read the file: {cause}; name one that is there and may be read",
        path.display()
    )]
    Unreadable {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        cause: io::Error,
    },
    /// A file does not hold what it is named for.
    #[error(
        "{setting} is {}: no {wanted} is in it ({cause}); it accepts PEM without a passphrase, which has a line \
         -----BEGIN {wanted}-----",
        path.display()
    )]
    NotPem {
        /// The setting that names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// PEM's name of what is looked for.
        wanted: &'static str,
        /// What was found.
        cause: pem::Error,
    },
    /// The key is another certificate's.
    #[error(
        "TLS_KEY_PATH is {}: it is not the key of the first certificate in {}; name the two that were issued \
         together, and in that file the server's own certificate first",
        key.display(), certificate.display()
    )]
    OtherKey {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// They are not what TLS can use.
    #[error(
        "TLS_CERTIFICATE_PATH is {} and TLS_KEY_PATH is {}: they cannot be used: {cause}; take an X.509 certificate \
         with an RSA, ECDSA or Ed25519 key",
        certificate.display(), key.display()
    )]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong with them.
        cause: rustls::Error,
    },
}

/// A certificate with its key, as they stand in files that somebody renews.
#[derive(Debug)]
pub(super) struct Certificate {
    files: Tls,
    config: Arc<ServerConfig>,
    looked: Instant,
    /// A hash of what was found last, good or bad, so that each is told of once.
    found: Option<[u8; 32]>,
}

impl Certificate {
    /// How long after the files were looked at a connection has them looked at again.
    const TRUSTED: Duration = Duration::from_secs(1);

    /// Reads the files.
    pub(super) fn read(files: Tls) -> Result<Self, Error> {
        let pair = Pair::read(&files)?;
        Ok(Self {
            config: pair.config(&files)?,
            found: Some(pair.hash()),
            files,
            looked: Instant::now(),
        })
    }

    /// What shakes hands for a connection that is taken in now. Where the files have changed and cannot be
    /// used, they are left alone: whoever renews them may not be done, or mend it.
    pub(super) fn acceptor(&mut self) -> TlsAcceptor {
        if self.looked.elapsed() >= Self::TRUSTED {
            self.looked = Instant::now();
            let pair = Pair::read(&self.files);
            let found = pair.as_ref().ok().map(Pair::hash);
            if found != self.found {
                self.found = found;
                match pair.and_then(|pair| pair.config(&self.files)) {
                    Ok(config) => {
                        self.config = config;
                        info!("the certificate was renewed");
                    }
                    Err(error) => warn!(%error, "the certificate stays what it was"),
                }
            }
        }
        TlsAcceptor::from(self.config.clone())
    }
}

/// What is in the files.
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
        let chain =
            CertificateDer::pem_slice_iter(&self.certificate).collect::<Result<Vec<_>, _>>();
        let chain = chain.and_then(|chain| match chain.is_empty() {
            true => Err(pem::Error::NoItemsFound),
            false => Ok(chain),
        });
        let chain = chain.map_err(|cause| Error::NotPem {
            setting: "TLS_CERTIFICATE_PATH",
            path: certificate.clone(),
            wanted: "CERTIFICATE",
            cause,
        })?;
        let its_key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|cause| Error::NotPem {
            setting: "TLS_KEY_PATH",
            path: key.clone(),
            wanted: "PRIVATE KEY",
            cause,
        })?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, its_key)
            });
        let mut config = config.map_err(|cause| match cause {
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

/// Makes a TLS connection of a socket, or closes it: also where that takes longer than `most`.
pub(super) async fn shake_hands(
    acceptor: &TlsAcceptor,
    socket: TcpStream,
    most: Duration,
) -> io::Result<TlsStream<TcpStream>> {
    let shaking = acceptor.accept(socket).into_fallible();
    match tokio::time::timeout(most, shaking).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err((error, mut socket))) => {
            // The alert that says why has been written.
            let _ = socket.shutdown().await;
            Err(error)
        }
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
