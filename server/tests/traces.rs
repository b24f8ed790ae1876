//! Traces reach a collector, through the program as it is started.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PATIENCE: Duration = Duration::from_secs(30);

/// A collector that keeps what it is sent, and its address.
fn collector() -> (String, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sent, received) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut first = String::new();
            if stream.read_line(&mut first).unwrap_or(0) == 0 {
                continue;
            }
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let response = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            stream.get_mut().write_all(response.as_bytes()).unwrap();
            if sent.send((first, body)).is_err() {
                return;
            }
        }
    });
    (address, received)
}

struct Server(Child, String);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(environment: &[(&str, &str)]) -> Server {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut child = Command::new(env!("CARGO_BIN_EXE_ssd"))
        .current_dir(folder)
        .envs([
            ("PORT", "0"),
            ("THREADS", "1"),
            ("PRECISION", "f32"),
            ("WEIGHTS_PATH", "weights/ssd_mobilenet_v2_oidv4.safetensors"),
        ])
        .envs(environment.iter().copied())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let mut lines = log.lines();
    let address = lines
        .by_ref()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("Running on http://")?.1.to_owned()))
        .expect("an address");
    // Whatever else it logs must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Server(child, address.trim_end_matches('/').to_owned())
}

fn request(address: &str, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_request_and_its_stages_are_sent_inside_the_client_s_trace() {
    let (endpoint, received) = collector();
    let server = serve(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]);
    let probe = "GET /livez HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n";
    assert!(request(&server.1, probe, b"").starts_with("HTTP/1.1 200 "));
    let picture = include_bytes!("../../data/samples/astronaut.jpg");
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\nContent-Type: image/jpeg\r\n\
         Accept: image/jpeg\r\nAuthorization: Basic dWdhaW46dWdhaW4=\r\nContent-Length: {}\r\n\
         traceparent: 00-{TRACE}-00f067aa0ba902b7-01\r\n\r\n",
        picture.len()
    );
    assert!(request(&server.1, &head, picture).starts_with("HTTP/1.1 200 "));
    let (first, body) = received.recv_timeout(PATIENCE).unwrap();
    assert!(first.starts_with("POST /v1/traces "), "{first}");
    let trace: Vec<u8> = (0..TRACE.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&TRACE[at..at + 2], 16).unwrap())
        .collect();
    assert!(contains(&body, &trace));
    for name in [
        "POST /predict",
        "decode",
        "preprocess",
        "wait",
        "forward",
        "postprocess",
        "annotate",
        "ssd",
    ] {
        assert!(contains(&body, name.as_bytes()), "{name}");
    }
    // Probes come every few seconds, and are not traced.
    assert!(!contains(&body, b"/livez"));
    // Nothing of the login is told.
    assert!(!contains(&body, b"dWdhaW46") && !contains(&body, b"ugain"));
}

#[test]
fn a_name_that_the_service_is_given_is_kept() {
    let (endpoint, received) = collector();
    let server = serve(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=detector-at-the-gate",
        ),
    ]);
    let docs = "GET /openapi.json HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n";
    assert!(request(&server.1, docs, b"").starts_with("HTTP/1.1 200 "));
    let (_, body) = received.recv_timeout(PATIENCE).unwrap();
    assert!(contains(&body, b"detector-at-the-gate"));
}

#[test]
fn what_cannot_be_sent_to_is_said_at_the_start() {
    for (name, value) in [
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "https://collector:4318",
        ),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "HTTPS://collector:4318"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_ssd"))
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .envs([("PORT", "0"), (name, value)])
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains(&format!("{name} begins with https")),
            "{errors}"
        );
    }
}

#[test]
fn nothing_is_sent_where_it_is_switched_off() {
    for off in [
        ("OTEL_SDK_DISABLED", "true"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ] {
        let (endpoint, received) = collector();
        let server = serve(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_BSP_SCHEDULE_DELAY", "10"),
            off,
        ]);
        let docs = "GET /openapi.json HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n";
        assert!(request(&server.1, docs, b"").starts_with("HTTP/1.1 200 "));
        assert!(received.recv_timeout(Duration::from_millis(300)).is_err());
    }
}
