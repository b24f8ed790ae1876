//! Bytes that are no text, in every part of a request: the client's error, never the server's.

use super::app::App;

const LOGIN: &str = "Authorization: Basic dWdhaW46dWdhaW4=\r\n";

const ROUTES: [&str; 8] = [
    "GET /",
    "GET /playground/app.js",
    "POST /predict",
    "HEAD /docs",
    "GET /openapi.json",
    "GET /livez",
    "GET /readyz",
    "GET /nothing",
];

/// Not UTF-8, a NUL, an incomplete escape, and bytes as they are.
const PARTS: [&[u8]; 6] = [b"%ff", b"%c3%28", b"%00", b"%", b"\xff", b"\xc3\x28"];

/// The headers that the server reads, each with the beginning of a value.
const HEADERS: [(&str, &str); 10] = [
    ("Authorization", "Basic "),
    ("Content-Type", "multipart/form-data; boundary="),
    ("Accept", "image/"),
    ("X-Request-Id", "a"),
    ("traceparent", "00-"),
    ("If-None-Match", "\""),
    ("Content-Length", "1"),
    ("Host", "ssd"),
    ("Transfer-Encoding", "chunked"),
    ("Expect", "100-"),
];

impl App {
    /// Fails if the response to such a request, with or without a login, is an error of the server's.
    async fn not_failed_by(&self, target: &[u8], headers: &[u8]) {
        for login in ["", LOGIN] {
            let head = [target, b" HTTP/1.1\r\nConnection: close\r\n"].concat();
            let request = [&head, headers, login.as_bytes(), b"\r\n"].concat();
            let mut connection = self.connect().await;
            connection.send(&request).await;
            let response = connection.read_all().await;
            let status = response.split(' ').nth(1).unwrap_or_default();
            let shown = String::from_utf8_lossy(&request);
            assert!(("200".."500").contains(&status), "{shown}{response}");
        }
    }
}

#[tokio::test]
async fn undecodable_paths_and_queries_are_no_fault_of_the_server() {
    let app = App::spawn().await;
    for route in ROUTES {
        for part in PARTS {
            let middle = route.len() - 1;
            let (begin, end) = route.as_bytes().split_at(middle);
            for target in [
                [begin, part, end].concat(),
                [begin, end, b"/", part].concat(),
                [begin, end, b"?", part, b"=1"].concat(),
                [begin, end, b"?threshold=", part].concat(),
            ] {
                app.not_failed_by(&target, b"Host: ssd\r\n").await;
            }
        }
    }
}

#[tokio::test]
async fn undecodable_headers_are_no_fault_of_the_server() {
    let app = App::spawn().await;
    let all: Vec<u8> = (0x80..=0xff).collect();
    for route in [
        "GET /",
        "GET /playground/app.js",
        "POST /predict",
        "GET /livez",
    ] {
        for (name, begin) in HEADERS {
            for value in PARTS.into_iter().chain([&all[..]]) {
                for begin in ["", begin] {
                    let mut header = format!("{name}: {begin}").into_bytes();
                    header.extend([value, b"\r\n"].concat());
                    if name != "Host" {
                        header.extend(b"Host: ssd\r\n");
                    }
                    app.not_failed_by(route.as_bytes(), &header).await;
                }
            }
        }
    }
}
