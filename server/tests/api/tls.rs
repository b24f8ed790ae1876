//! TLS, with certificates of the tests' own.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

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

    /// Replaces the certificate and its key.
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

    /// A connection that trusts this certificate only.
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
    /// All that the server sends until it announces that it closes.
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
async fn pictures_are_predicted_over_tls_and_metrics_are_plain_http() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[("MANAGEMENT_PORT", "0")]).await;
    let mut secure = folder.connect(&app).await.unwrap();
    assert_eq!(secure.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let response = secure.ask(predict(&bytes("cat.png"))).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    contract::compare_text("POST /predict HTTP/1.1", &response);
    let metrics = format!("http://{}/metrics", app.management.unwrap());
    assert_eq!(app.client.get(metrics).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_closed_without_a_response() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let mut plain = TcpStream::connect(app.address).await.unwrap();
    plain
        .write_all(b"GET /livez HTTP/1.1\r\nHost: ssd\r\n\r\n")
        .await
        .unwrap();
    let mut response = Vec::new();
    timeout(PATIENCE, plain.read_to_end(&mut response))
        .await
        .unwrap()
        .unwrap();
    // An alert (RFC 8446, section 6): fatal.
    assert_eq!((response[0], response[5], response.len()), (21, 2, 7));
    assert!(folder.connect(&app).await.is_ok());
}

#[tokio::test]
async fn a_client_that_does_not_finish_the_handshake_or_the_headers_is_closed() {
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
    let mut response = Vec::new();
    let _ = timeout(PATIENCE, slow.0.read_to_end(&mut response))
        .await
        .unwrap();
    assert_eq!(response, b"");
}

#[tokio::test]
async fn many_unfinished_handshakes_keep_no_client_out() {
    let folder = Folder::new();
    let limits = [("CONNECTION_LIMIT", "3"), ("HEADER_TIMEOUT", "1h")];
    let app = folder.spawn_with(&limits).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(app.connect().await);
    }
    let mut last = folder.connect(&app).await.unwrap();
    let response = last.ask(predict(&bytes("cat.png"))).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test]
async fn a_client_that_still_sends_when_refused_gets_the_response() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let mut stranger = folder.connect(&app).await.unwrap();
    let length = 8 << 20;
    let request =
        format!("POST /predict HTTP/1.1\r\nHost: ssd\r\nContent-Length: {length}\r\n\r\n");
    let response = stranger.ask(
        request
            .into_bytes()
            .into_iter()
            .chain(vec![0; length])
            .collect::<Vec<_>>(),
    );
    let response = response.await;
    assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
}

#[tokio::test]
async fn a_renewed_certificate_is_served_and_a_broken_one_is_not() {
    let mut folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    for broken in ["tls.crt", "tls.key"] {
        let path = folder.path(broken);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, "not yet").unwrap();
        // Long enough for the server to read it.
        tokio::time::sleep(Duration::from_millis(1500)).await;
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
    // Open connections go on.
    let response = open.ask(predict(&bytes("cat.png"))).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
}

#[tokio::test]
async fn a_stalled_read_of_the_files_stops_no_handshake() {
    let mut folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let (path, aside) = (folder.path("tls.crt"), folder.path("aside"));
    let made = Command::new("mkfifo").arg(&aside).status().unwrap();
    assert!(made.success());
    std::fs::rename(&aside, &path).unwrap();
    // Can be opened for writing once the server has begun to read it.
    let opened = async {
        loop {
            let fifo = OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path);
            match fifo {
                Ok(fifo) => return fifo,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let fifo = timeout(PATIENCE, opened).await.unwrap();
    for _ in 0..3 {
        assert!(folder.connect(&app).await.is_ok());
    }
    std::fs::remove_file(&path).unwrap();
    folder.renew();
    drop(fifo);
    let renewed = async {
        while folder.connect(&app).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, renewed).await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_request_is_refused_over_tls_too() {
    let folder = Folder::new();
    let app = folder.spawn_with(&[]).await;
    let mut secure = folder.connect(&app).await.unwrap();
    let response = secure.ask("GET /\0 HTTP/1.1\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
    assert!(response.contains(":malformed-request\""), "{response}");
}

#[tokio::test]
async fn an_in_flight_request_is_waited_for_and_a_handshake_is_not() {
    let folder = Folder::new();
    let timeouts = [("HEADER_TIMEOUT", "1h"), ("DRAIN_TIMEOUT", "1h")];
    let mut app = folder.spawn_with(&timeouts).await;
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
    // It has been accepted once a later one is.
    drop(folder.connect(&app).await.unwrap());
    app.stop();
    while TcpStream::connect(app.address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let response = busy.ask(&picture).await;
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    app.stopped().await;
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
        (&key, &key, "the file contains no CERTIFICATE"),
        (
            &certificate,
            &certificate,
            "the file contains no PRIVATE KEY",
        ),
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
