//! A server of this test's own.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use poem::Endpoint;
use reqwest::{Client, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, RequestBuilder};
use serde_json::Value;
use ssd_detector::precision::Requested;
use ssd_server::api::{Context, Options, Readiness, routes};
use ssd_server::config::{Settings, Variables};
use ssd_server::engine::{Engine, Files, Limits, Wrap};
use ssd_server::server::{Application, Error};
use ssd_server::telemetry::Metrics;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::contract;

/// How long to wait for what must happen; only a failing test waits so long.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

pub fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(data(name)).unwrap()
}

pub fn files() -> Files {
    Files {
        weights: data("small.safetensors"),
        labels: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../data/coco_labels.txt"),
    }
}

/// The settings of a test: a free port, one thread, the reference's precision, what `changes` says.
pub fn settings(changes: &[(&str, &str)]) -> Settings {
    let own = [
        ("PORT", "0"),
        ("THREADS", "1"),
        ("PRECISION", "f32"),
        ("LOG_FILTER", "off"),
    ];
    let variables: Variables = own.iter().chain(changes).copied().collect();
    Settings::load(None, &variables).unwrap()
}

/// The readiness of a server whose model is loaded.
pub async fn loaded() -> Readiness {
    let limits = Limits::from(&settings(&[]));
    let engine =
        tokio::task::spawn_blocking(move || Engine::start(&files(), Requested::REFERENCE, limits));
    let readiness = Readiness::default();
    readiness.ready(engine.await.unwrap().unwrap());
    readiness
}

/// A server without sockets.
pub fn endpoint(
    changes: &[(&str, &str)],
    readiness: &Readiness,
) -> impl Endpoint<Output = poem::Response> + use<> {
    let options = Options::from(&settings(changes));
    routes(&Context::new(
        options,
        readiness.clone(),
        Metrics::default(),
    ))
}

pub struct App {
    pub address: SocketAddr,
    pub management: Option<SocketAddr>,
    pub client: ClientWithMiddleware,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), Error>>,
}

impl App {
    /// A server that is ready.
    pub async fn spawn() -> Self {
        Self::spawn_with(&[]).await
    }

    pub async fn spawn_with(changes: &[(&str, &str)]) -> Self {
        let app = Self::begin(changes).await;
        app.until("/readyz", 200).await;
        app
    }

    /// A server that may not be ready yet.
    pub async fn begin(changes: &[(&str, &str)]) -> Self {
        Self::begin_with(changes, Wrap::default()).await
    }

    /// The same, with a wrapper around the network.
    pub async fn begin_with(changes: &[(&str, &str)], wrap: Wrap) -> Self {
        let application = Application::build(settings(changes), files())
            .await
            .unwrap()
            .with_network(wrap);
        let address = application.address();
        let management = application.management_address();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(application.run(async {
            let _ = stopped.await;
        }));
        Self {
            address,
            management,
            client: ClientBuilder::new(Client::new())
                .with(contract::compare)
                .build(),
            stop: Some(stop),
            running,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Waits until a path returns a status.
    pub async fn until(&self, path: &str, status: u16) {
        let waiting = async {
            while self.get(path).await.status() != status {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(waited.is_ok(), "{path} never returned {status}");
    }

    /// The metrics of the management port.
    pub async fn metrics(&self) -> String {
        let address = self.management.unwrap();
        let response = reqwest::get(format!("http://{address}/metrics")).await;
        response.unwrap().text().await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    /// A request to predict, with the right user and password, and no body yet.
    pub fn predict(&self, query: &str) -> RequestBuilder {
        self.client
            .post(self.url(&format!("/predict{query}")))
            .basic_auth("ugain", Some("ugain"))
    }

    /// The same with a picture as the form's field `image`.
    pub fn predict_form(&self, query: &str, picture: Vec<u8>) -> RequestBuilder {
        self.predict(query).multipart(form(picture))
    }

    /// Asks the server to stop, as SIGTERM does.
    pub fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits until the server has stopped.
    pub async fn stopped(self) {
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// A new connection.
    pub async fn connect(&self) -> Raw {
        Raw {
            stream: TcpStream::connect(self.address).await.unwrap(),
            request_line: String::new(),
        }
    }
}

pub fn form(picture: Vec<u8>) -> reqwest::multipart::Form {
    let part = reqwest::multipart::Part::bytes(picture).file_name("picture");
    reqwest::multipart::Form::new().part("image", part)
}

/// A form with these parts, each with its headers, and the boundary `b`.
pub fn parts(parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = Vec::new();
    for (headers, body) in parts {
        form.extend(format!("--b\r\n{headers}\r\n\r\n").into_bytes());
        form.extend_from_slice(body);
        form.extend(b"\r\n");
    }
    form.extend(b"--b--\r\n");
    form
}

/// A connection on which the test sends every byte.
pub struct Raw {
    stream: TcpStream,
    /// The first line of the last request.
    request_line: String,
}

impl Raw {
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        let text = String::from_utf8_lossy(bytes.as_ref());
        let first = text.lines().next().unwrap_or_default();
        if first.ends_with(" HTTP/1.1") {
            first.clone_into(&mut self.request_line);
        }
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Closes this side, which sends nothing more.
    pub async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// All that the server sends until it closes the connection.
    pub async fn read_all(mut self) -> String {
        let mut all = Vec::new();
        let reading = self.stream.read_to_end(&mut all);
        tokio::time::timeout(PATIENCE, reading)
            .await
            .unwrap()
            .unwrap();
        let text = String::from_utf8(all).unwrap();
        contract::compare_text(&self.request_line, &text);
        text
    }

    /// How many bytes the server still sends until the connection ends, however it does.
    pub async fn count_all(mut self) -> usize {
        let mut all = Vec::new();
        let reading = self.stream.read_to_end(&mut all);
        let _ = tokio::time::timeout(PATIENCE, reading).await.unwrap();
        all.len()
    }

    /// What comes until the text `end` has come.
    pub async fn read_until(&mut self, end: &str) -> String {
        let mut all = Vec::new();
        let reading = async {
            while !String::from_utf8_lossy(&all).contains(end) {
                let mut chunk = [0; 4096];
                let count = self.stream.read(&mut chunk).await.unwrap();
                assert!(count > 0, "closed after {}", String::from_utf8_lossy(&all));
                all.extend_from_slice(&chunk[..count]);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap();
        let text = String::from_utf8(all).unwrap();
        contract::compare_text(&self.request_line, &text);
        text
    }
}

/// The head of a POST to /predict with the right user and password, with `headers` added.
pub fn head(headers: &str) -> String {
    format!(
        "POST /predict HTTP/1.1\r\nHost: ssd\r\nAuthorization: Basic dWdhaW46dWdhaW4=\r\n{headers}\r\n"
    )
}

/// The JSON of a response.
pub async fn json(response: Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// Checks that a response is problem details of that status and type, in every part, and gives its
/// detail.
pub async fn problem(response: Response, status: u16, kind: &str) -> String {
    assert_eq!(response.status(), status, "{kind}");
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(header("content-type"), Some("application/problem+json"));
    assert_eq!(header("x-request-id").unwrap().len(), 36);
    let challenge = (status == 401).then_some("Basic realm=\"ssd\", charset=\"UTF-8\"");
    assert_eq!(header("www-authenticate"), challenge);
    assert_eq!(header("allow").is_some(), status == 405);
    // Only a restart makes a process alive again.
    let retry = status == 503 && response.url().path() != "/livez";
    assert_eq!(header("retry-after").is_some(), retry);
    let body = json(response).await;
    assert_eq!(body["status"], status);
    assert_eq!(body["type"], format!("urn:ssd:problem:{kind}"));
    assert!(!body["title"].as_str().unwrap().is_empty());
    body["detail"].as_str().unwrap().to_owned()
}
