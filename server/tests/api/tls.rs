//! TLS, with certificates of the tests' own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ssd_server::server::Application;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::app::{App, PATIENCE, bytes, files, head, settings};
use super::contract;

/// A folder with a certificate and its key.
struct Folder {
    folder: TempDir,
    certificate: CertificateDer<'static>,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = issue(folder.path());
        Self {
            folder,
            certificate,
        }
    }

    /// As whoever issues certificates does before they expire.
    fn renew(&mut self) {
        self.certificate = issue(self.folder.path());
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A server with that certificate, which is ready.
    async fn spawn_with(&self, changes: &[(&str, &str)]) -> App {
        let (certificate, key) = (self.path("tls.crt"), self.path("tls.key"));
        let own = [
            ("TLS_CERTIFICATE_PATH", certificate.as_str()),
            ("TLS_KEY_PATH", key.as_str()),
        ];
        let app = App::begin(&[&own, changes].concat()).await;
        let ask = async || {
            let mut secure = self.connect(&app).await.unwrap();
            secure
                .ask("GET /readyz HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n")
                .await
        };
        while !ask().await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        app
    }

    /// A connection that trusts nobody but the holder of this certificate.
    async fn connect(&self, app: &App) -> io::Result<Secure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let socket = TcpStream::connect(app.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let shaking = TlsConnector::from(Arc::new(config)).connect(name, socket);
        Ok(Secure(timeout(PATIENCE, shaking).await.unwrap()?))
    }
}

fn issue(folder: &Path) -> CertificateDer<'static> {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("tls.crt"), issued.cert.pem()).unwrap();
    std::fs::write(folder.join("tls.key"), issued.signing_key.serialize_pem()).unwrap();
    issued.cert.der().clone()
}

struct Secure(TlsStream<TcpStream>);

impl Secure {
    /// All that is answered until the server closes, which it says before it does.
    async fn ask(&mut self, request: impl AsRef<[u8]>) -> String {
        self.0.write_all(request.as_ref()).await.unwrap();
        self.read_all().await
    }

    async fn read_all(&mut self) -> String {
        let mut all = String::new();
        let reading = self.0.read_to_string(&mut all);
        timeout(PATIENCE, reading).await.unwrap().unwrap();
        all
    }
}

fn predict(picture: &[u8]) -> Vec<u8> {
    let length = picture.len();
    let headers =
        format!("Content-Type: image/png\r\nContent-Length: {length}\r\nConnection: close\r\n");
    [head(&headers).as_bytes(), picture].concat()
}

#[tokio::test]
async fn a_picture_is_answered_over_tls_and_metrics_beside_it_without() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[("MANAGEMENT_PORT", "0")]).await;
    let mut secure = folder.connect(&app).await.unwrap();
    assert_eq!(secure.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let answer = secure.ask(predict(&bytes("cat.png"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    contract::compare_text("POST /predict HTTP/1.1", &answer);
    let metrics = format!("http://{}/metrics", app.management.unwrap());
    assert_eq!(app.client.get(metrics).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn plain_http_is_closed_without_an_answer() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, plain.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    // An alert (RFC 8446, section 6): fatal.
    assert_eq!((answer[0], answer[5], answer.len()), (21, 2, 7));
    assert!(folder.connect(&app).await.is_ok());
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_or_the_headers_is_closed() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[("HEADER_TIMEOUT", "300ms")]).await;
    // A record of 512 bytes, most of which never come.
    for begun in [&b""[..], b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03"] {
        let mut silent = app.connect().await;
        silent.send(begun).await;
        assert_eq!(silent.read_all().await, "");
    }
    let mut slow = folder.connect(&app).await.unwrap();
    slow.0
        .write_all(b"POST /predict HTTP/1.1\r\nHost: s")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, slow.0.read_to_end(&mut answer))
        .await
        .unwrap();
    assert_eq!(answer, b"");
}

#[tokio::test]
async fn a_crowd_that_only_begins_to_shake_hands_keeps_nobody_out() {
    let folder = Folder::new();
    let limits = [("CONNECTION_LIMIT", "3"), ("HEADER_TIMEOUT", "1h")];
    let app = folder.spawn_with(&limits).await;
    let mut crowd = Vec::new();
    for _ in 0..20 {
        crowd.push(app.connect().await);
    }
    let mut last = folder.connect(&app).await.unwrap();
    let answer = last.ask(predict(&bytes("cat.png"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn who_still_sends_when_refused_gets_the_answer() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let mut stranger = folder.connect(&app).await.unwrap();
    let length = 8 << 20;
    let request =
        format!("POST /predict HTTP/1.1\r\nHost: ssd\r\nContent-Length: {length}\r\n\r\n");
    let answer = stranger.ask(
        request
            .into_bytes()
            .into_iter()
            .chain(vec![0; length])
            .collect::<Vec<_>>(),
    );
    let answer = answer.await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    let mut folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    for broken in ["tls.crt", "tls.key"] {
        let path = folder.path(broken);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, "not yet").unwrap();
        // Longer than until the files are looked at again.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        for _ in 0..2 {
            assert!(folder.connect(&app).await.is_ok(), "{broken}");
        }
        std::fs::write(&path, whole).unwrap();
    }
    let mut open = folder.connect(&app).await.unwrap();
    folder.renew();
    let renewed = async {
        while folder.connect(&app).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
    // What was open goes on.
    let answer = open.ask(predict(&bytes("cat.png"))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end_and_a_handshake_is_not_waited_for() {
    let folder = Folder::new();
    let mut app = folder.spawn_with(&[]).await;
    let mut busy = folder.connect(&app).await.unwrap();
    let picture = bytes("cat.png");
    let length = picture.len();
    let headers =
        format!("Content-Type: image/png\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n");
    busy.0.write_all(head(&headers).as_bytes()).await.unwrap();
    let mut asked = [0; 25];
    busy.0.read_exact(&mut asked).await.unwrap();
    assert!(asked.starts_with(b"HTTP/1.1 100 "));
    let silent = app.connect().await;
    // It has been taken in once one that came later is.
    drop(folder.connect(&app).await.unwrap());
    let begun = Instant::now();
    app.stop();
    while TcpStream::connect(app.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = busy.ask(&picture).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    app.stopped().await;
    // Neither for the handshake's 10 seconds, nor for the 25 that requests would get.
    assert!(begun.elapsed() < Duration::from_secs(9));
    assert_eq!(silent.count_all().await, 0);
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_before_the_model_is_loaded() {
    let (folder, other) = (Folder::new(), Folder::new());
    let (certificate, key) = (folder.path("tls.crt"), folder.path("tls.key"));
    let cases = [
        (
            "/nowhere/tls.crt",
            key.as_str(),
            "TLS_CERTIFICATE_PATH is /nowhere/tls.crt: cannot read the file: ",
        ),
        (
            &certificate,
            "/nowhere/tls.key",
            "TLS_KEY_PATH is /nowhere/tls.key: cannot read the file: ",
        ),
        (&key, &key, "no CERTIFICATE is in it"),
        (&certificate, &certificate, "no PRIVATE KEY is in it"),
        (
            &certificate,
            &other.path("tls.key"),
            "it is not the key of the first certificate in ",
        ),
    ];
    for (certificate, key, expected) in cases {
        let paths = [("TLS_CERTIFICATE_PATH", certificate), ("TLS_KEY_PATH", key)];
        let refused = Application::build(settings(&paths), files()).await;
        let message = refused.unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!message.contains('\n'), "{message}");
    }
}
