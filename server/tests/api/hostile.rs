//! What only a hostile or broken client sends. The server refuses it in a documented way, or closes the
//! connection, and goes on serving others.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::Value;
use tokio::time::timeout;

use super::app::{App, PATIENCE, Raw, bytes, head, parts, problem};

/// A second request, sent right behind a first. It gets a response only if both sides agree where the first
/// one ends.
const SECOND: &str = "POST /predict HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n";

impl App {
    /// Fails if the server does not go on as before.
    async fn still_serves(&self) {
        assert_eq!(self.get("/livez").await.status(), 200);
        let request = self.predict_form("", bytes("pictures/rgb.bmp"));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    /// All that the server sends after these bytes, until it closes.
    async fn responses(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut connection = self.connect().await;
        // It may have closed before the end.
        let _ = connection.try_send(bytes).await;
        let responses = connection.read_all().await;
        self.still_serves().await;
        responses
    }
}

fn statuses(responses: &str) -> Vec<u16> {
    let starts = responses.match_indices("HTTP/1.1 ");
    starts
        .map(|(at, before)| responses[at + before.len()..][..3].parse().unwrap())
        .collect()
}

/// Checks that the server refused the head by this status, in every part, and then closed the connection.
fn assert_refused(responses: &str, status: u16, kind: &str, request: &str) {
    let (head, body) = responses.split_once("\r\n\r\n").unwrap_or_default();
    assert_eq!(statuses(responses), [status], "{request}");
    for header in [
        "content-type: application/problem+json",
        "x-content-type-options: nosniff",
        "cache-control: no-store",
        "connection: close",
        "date: ",
        &format!("content-length: {}", body.len()),
    ] {
        assert_eq!(head.matches(header).count(), 1, "{request}: {head}");
    }
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["type"], format!("urn:ssd:problem:{kind}"), "{request}");
    assert_eq!(body["status"], status);
}

#[tokio::test]
async fn what_is_no_http_request_is_refused_and_its_connection_closed() {
    let app = App::spawn_with(&[("MANAGEMENT_PORT", "0")]).await;
    let malformed = async |request: &[u8]| {
        let responses = app.responses(request).await;
        let request = String::from_utf8_lossy(request);
        assert_refused(&responses, 400, "malformed-request", &request);
    };
    let lines: [&[u8]; 13] = [
        b"GET /livez",
        b"GET /livez HTTP/1.2",
        b"GET /livez HTTP/2.0",
        b"GET  /livez HTTP/1.1",
        b"GET /li vez HTTP/1.1",
        b" GET /livez HTTP/1.1",
        b"G\0T /livez HTTP/1.1",
        b"GET /livez\0 HTTP/1.1",
        b"GET /livez?\0 HTTP/1.1",
        b"GET /livez\t HTTP/1.1",
        b"GET /\xe9 HTTP/1.1",
        b"GET \\livez HTTP/1.1",
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03",
    ];
    for line in lines {
        malformed(&[line, b"\r\nHost: ssd\r\n\r\n", SECOND.as_bytes()].concat()).await;
    }
    let headers = [
        "X: a\r\n folded",
        "X: a\rY: b",
        "X: a\0b",
        "X\0: a",
        "X : a",
        "X\t: a",
        ": a",
        "X",
    ];
    for header in headers {
        let request = format!("GET /livez HTTP/1.1\r\nHost: ssd\r\n{header}\r\n\r\n{SECOND}");
        malformed(request.as_bytes()).await;
    }
    // A proxy may read another host.
    for hosts in ["", "Host: a\r\nHost: a\r\n", "Host: a b\r\n", "Host: /\r\n"] {
        let request = format!("GET /livez HTTP/1.1\r\n{hosts}\r\n{SECOND}");
        malformed(request.as_bytes()).await;
    }
    let refused = lines.len() + headers.len() + 4;
    let metrics = format!("http://{}/metrics", app.management.unwrap());
    let metrics = app.client.get(metrics).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for series in [
        r#"ssd_requests_total{route="-",status="400"}"#,
        r#"ssd_requests_rejected_total{reason="malformed-request"}"#,
    ] {
        let line = format!("\n{series} {refused}\n");
        assert!(metrics.contains(&line), "{line} {metrics}");
    }
    let old = app.responses("GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(old.ends_with("alive\n"), "{old}");
    // Another protocol, which is known by its first bytes.
    let http2 = app.responses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(http2, "");
}

#[tokio::test]
async fn heads_that_are_too_long_are_refused_and_the_refusal_arrives() {
    let app = App::spawn().await;
    // More than the sockets hold: without a lingering close, sending it would end in a reset, and few
    // clients read on after one.
    let long = "a".repeat(8 << 20);
    let many = "X: a\r\n".repeat(101);
    let large = "headers-too-large";
    let cases = [
        (
            format!("GET /{} HTTP/1.1\r\n\r\n", &long[..65_535]),
            414,
            "target-too-long",
        ),
        (format!("GET /{long} HTTP/1.1\r\n\r\n"), 431, large),
        (format!("{long} / HTTP/1.1\r\n\r\n"), 431, large),
        (format!("GET / HTTP/1.1\r\nX: {long}\r\n\r\n"), 431, large),
        (format!("GET / HTTP/1.1\r\n{long}: x\r\n\r\n"), 431, large),
        (
            format!("GET / HTTP/1.1\r\nX : {long}\r\n\r\n"),
            400,
            "malformed-request",
        ),
        (format!("GET / HTTP/1.1\r\n{many}\r\n"), 431, large),
        ("\r\n".repeat(1 << 20), 431, large),
    ];
    for (request, status, kind) in cases {
        let mut connection = app.connect().await;
        connection.send(&request).await;
        let responses = connection.read_all().await;
        assert_refused(&responses, status, kind, &request[..20]);
        app.still_serves().await;
    }
}

/// A body of one byte, in chunks.
const CHUNKS: &str = "1\r\nx\r\n0\r\n\r\n";

impl App {
    /// The statuses of the responses to a request with these headers and this body, and to a second request
    /// behind it.
    async fn both(&self, headers: &str, body: &str) -> Vec<u16> {
        let request = head(&format!("Content-Type: image/png\r\n{headers}\r\n"));
        statuses(&self.responses(request + body + SECOND).await)
    }
}

#[tokio::test]
async fn a_request_whose_length_is_in_doubt_is_the_last_on_its_connection() {
    let app = App::spawn().await;
    for headers in [
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 1, 1",
        "Content-Length: +1",
        "Content-Length: -1",
        "Content-Length: 0x1",
        "Content-Length: 1 1",
        "Content-Length:",
        "Content-Length : 1",
        "Content-Length:\r\n 1",
        "Content-Length: 18446744073709551616",
    ] {
        assert_eq!(app.both(headers, "x").await, [400], "{headers:?}");
    }
    let most = app.both("Content-Length: 9223372036854775807", "x").await;
    assert_eq!(most, [413]);
    // Read in chunks, as RFC 9112 says (section 6.1).
    let (length, chunked) = ("Content-Length: 4", "Transfer-Encoding: chunked");
    for (one, other) in [(length, chunked), (chunked, length)] {
        assert_eq!(app.both(&format!("{one}\r\n{other}"), CHUNKS).await, [415]);
    }
    // No doubt: written unusually.
    for headers in [
        "Content-Length: 1\r\nContent-Length: 1",
        "content-length:01",
    ] {
        assert_eq!(app.both(headers, "x").await, [415, 401], "{headers:?}");
    }
}

#[tokio::test]
async fn unknown_transfer_codings_are_refused() {
    let app = App::spawn().await;
    for coding in [
        ": identity",
        ": xchunked",
        ": \"chunked\"",
        ": chunked;q=1",
        ": \u{b}chunked",
        " : chunked",
        ":\r\n chunked",
        ":",
        ": chunked, identity",
        ": identity, chunked",
        ": gzip, chunked",
        ": chunked, chunked",
        ": , chunked",
        ": identity\r\nTransfer-Encoding: chunked",
        ": chunked\r\nTransfer-Encoding: identity",
        ": chunked\r\nTransfer-Encoding: chunked",
    ] {
        let headers = format!("Transfer-Encoding{coding}");
        assert_eq!(app.both(&headers, CHUNKS).await, [400], "{headers:?}");
    }
    let known = app.both("transfer-encoding:\tChunked ", CHUNKS).await;
    assert_eq!(known, [415, 401]);
    // An older protocol has no chunks.
    let old = head("Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n");
    let old = old.replace("HTTP/1.1", "HTTP/1.0") + CHUNKS + SECOND;
    assert_eq!(statuses(&app.responses(old).await), [400]);
}

#[tokio::test]
async fn chunks_without_a_certain_end_end_the_connection() {
    let app = App::spawn().await;
    let chunked = "Transfer-Encoding: chunked";
    for chunks in [
        "0x1\r\nx\r\n0\r\n\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "-1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "\r\nx\r\n0\r\n\r\n",
        "1\nx\n0\n\n",
        "1\r\nx0\r\n\r\n",
        "1\r\nxy\r\n0\r\n\r\n",
        "1;a\nb\r\nx\r\n0\r\n\r\n",
        "10000000000000001\r\nx\r\n0\r\n\r\n",
    ] {
        assert_eq!(app.both(chunked, chunks).await, [400], "{chunks:?}");
    }
    for chunks in [
        "01;a=\"b\"\r\nx\r\n0\r\n\r\n",
        "1\r\nx\r\n0\r\nContent-Length: 9\r\n\r\n",
    ] {
        assert_eq!(app.both(chunked, chunks).await, [415, 401], "{chunks:?}");
    }
}

#[tokio::test]
async fn a_request_inside_an_unread_body_gets_no_response() {
    let app = App::spawn().await;
    let length = SECOND.len();
    for first in [
        "POST /predict",
        "GET /livez",
        "GET /nothing",
        "DELETE /predict",
    ] {
        let request = format!("{first} HTTP/1.1\r\nHost: ssd\r\nContent-Length: {length}\r\n\r\n");
        let responses = app.responses(request + SECOND + SECOND).await;
        assert_eq!(statuses(&responses).len(), 1, "{first}: {responses}");
    }
}

#[tokio::test]
async fn chunks_that_carry_next_to_nothing_are_refused() {
    let app = App::spawn().await;
    let floods = [
        format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(20_000)),
        "1;a=bbbbbbbbbbbbbbbb\r\nx\r\n".repeat(3000) + "0\r\n\r\n",
        format!("1\r\nx\r\n0\r\n{}\r\n", "X: a\r\n".repeat(5000)),
        format!("1\r\nx\r\n0\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
    ];
    for flood in floods {
        let headers = "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n";
        let responses = app.responses(head(headers) + &flood + SECOND).await;
        assert_eq!(statuses(&responses), [400], "{}", &flood[..20]);
        assert!(responses.contains(":malformed-body\""), "{responses}");
    }
}

#[tokio::test]
async fn a_path_is_what_it_says_and_not_what_it_could_be_made_to_say() {
    let app = App::spawn().await;
    let long = format!("/{}", "a".repeat(60_000));
    let cases = [
        ("GET /predict/../livez", 404),
        ("GET /livez/.", 404),
        ("GET /./livez", 404),
        ("GET /%2e/livez", 404),
        ("GET /%2fpredict", 404),
        ("GET //livez", 404),
        ("GET /livez%00", 404),
        ("GET /livez;x", 404),
        ("GET /LIVEZ", 404),
        ("GET /%zz", 404),
        ("GET /%", 404),
        ("GET /\\livez", 404),
        ("GET /é", 404),
        ("GET *", 404),
        ("GET livez", 404),
        ("CONNECT ssd:80", 404),
        ("TRACE /livez", 405),
        ("POST //predict", 404),
        ("POST /predict/.", 404),
        ("POST /%70redict/", 404),
        (&format!("GET {long}"), 404),
        (&format!("GET /livez?{long}"), 200),
        // A whole address: another host's does not send it there.
        ("GET http://ssd/livez", 200),
        ("GET https://user:password@example.com:1/livez", 200),
        ("GET http://ssd/predict/../livez", 404),
        // No way around the login.
        ("POST http://ssd/predict", 401),
        ("GET http://ssd/", 401),
        ("GET http://ssd", 401),
        ("GET /?/livez", 401),
        ("GET /playground/..%2flivez", 401),
        ("GET /playground/%2e%2e", 401),
        ("GET /playground/../livez", 404),
    ];
    for (line, status) in cases {
        let request = format!("{line} HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n\r\n");
        let responses = app.responses(request).await;
        let line = line.chars().take(50).collect::<String>();
        assert_eq!(statuses(&responses), [status], "{line}");
    }
}

#[tokio::test]
async fn logins_of_every_shape_are_refused_alike() {
    let app = App::spawn().await;
    let (huge, longer) = ("dWdh".repeat(15_000), "A".repeat(60_001));
    let cases: &[&[u8]] = &[
        b"dWdhaW46dWdhaW4=",
        b"Bearer",
        b"Digest username=\"ugain\", response=\"ugain\"",
        b"BasicdWdhaW46dWdhaW4=",
        b"Basic\tdWdhaW46dWdhaW4=",
        b"Basic dWdhaW46dWdhaW4",
        b"Basic dWdhaW46dWdhaW4=, Bearer x",
        b"Basic dWdhaW46dWdhaW4= x",
        b"Basic dWdh aW46dWdhaW4=",
        b"Basic ugain:ugain",
        b"Basic _zr_",
        b"Basic \xff\xfe",
        b"\xff\xfe dWdhaW46dWdhaW4=",
        // ugain:ugain: ; ugain:ugain:ugain ; ":" ; colons ; with a NUL ; with a line feed
        b"Basic dWdhaW46dWdhaW46",
        b"Basic dWdhaW46dWdhaW46dWdhaW4=",
        b"Basic Og==",
        b"Basic Ojo6Ojo6Ojo6Og==",
        b"Basic dWdhaW46dWdhaW4A",
        b"Basic dWdhaW46dWdhaW4K",
        &[b"Basic ", huge.as_bytes()].concat(),
        &[b"Basic ", longer.as_bytes()].concat(),
    ];
    for first in ["POST /predict", "GET /", "GET /playground/app.js"] {
        for login in cases {
            let request = format!("{first} HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n");
            let request = [request.as_bytes(), b"Authorization: ", login, b"\r\n\r\n"];
            let mut connection = app.connect().await;
            connection.send(request.concat()).await;
            let response = connection.read_all().await;
            let login = String::from_utf8_lossy(&login[..login.len().min(40)]);
            assert_eq!(statuses(&response), [401], "{first} {login}");
            assert!(response.contains("\r\nwww-authenticate: Basic realm=\"ssd\""));
            assert!(response.contains("Send the user name and password"));
        }
        app.still_serves().await;
    }
}

#[tokio::test]
async fn of_two_logins_the_first_counts() {
    let app = App::spawn().await;
    let [right, wrong] =
        ["dWdhaW46dWdhaW4=", "dWdhaW46"].map(|login| format!("Authorization: Basic {login}\r\n"));
    for (logins, status) in [(wrong.clone() + &right, 401), (right + &wrong, 415)] {
        let request = "POST /predict HTTP/1.1\r\nHost: ssd\r\nConnection: close\r\n";
        let response = app.responses(format!("{request}{logins}\r\n")).await;
        assert_eq!(statuses(&response), [status], "{logins}");
    }
}

#[tokio::test]
async fn forms_within_forms_and_fields_of_headers_only_are_no_way_in() {
    let app = App::spawn().await;
    let picture = bytes("pictures/rgb.bmp");
    let image = "Content-Disposition: form-data; name=\"image\"";
    let nested = "Content-Disposition: form-data; name=\"image\"\r\nContent-Type: multipart/mixed; boundary=c";
    let inner = [
        b"--c\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n",
        &picture[..],
        b"\r\n--c--\r\n",
    ]
    .concat();
    let many = format!("{}{image}", "X: a\r\n".repeat(10_000));
    let long = format!("{image}; x=\"{}\"", "a".repeat(1 << 20));
    let parameters = image.to_owned() + &";a=b".repeat(300_000);
    let name = format!(
        "Content-Disposition: form-data; name=\"{}\"",
        "a".repeat(1 << 20)
    );
    let path = format!("{image}; filename=\"../../etc/passwd\"");
    let cases = [
        ("a form within the form", parts(&[(nested, &inner)]), 415),
        (
            "a form's own boundary in it",
            parts(&[(image, &parts(&[(image, &picture)]))]),
            400,
        ),
        (
            "10,000 headers of a field",
            parts(&[(&many, &picture)]),
            200,
        ),
        ("a header of 1 MiB", parts(&[(&long, &picture)]), 200),
        ("300,000 parameters", parts(&[(&parameters, &picture)]), 200),
        ("a name of 1 MiB", parts(&[(&name, &picture)]), 400),
        ("a path for a name", parts(&[(&path, &picture)]), 200),
        (
            "no name",
            parts(&[("Content-Disposition: form-data", &picture)]),
            400,
        ),
        ("no headers", parts(&[("", &picture)]), 400),
        ("boundaries only", b"--b\r\n".repeat(10_000), 400),
        ("line ends only", b"\r\n".repeat(1 << 20), 400),
        ("a boundary that goes on", b"--bb\r\n".repeat(10_000), 400),
    ];
    for (what, form, status) in cases {
        let request = app
            .predict("")
            .header(CONTENT_TYPE, "multipart/form-data; boundary=b");
        let response = request.body(form).send().await.unwrap();
        assert_eq!(response.status(), status, "{what}");
        app.still_serves().await;
    }
    for boundary in ["", "\"\"", "\" \"", &"b".repeat(50_000)] {
        let media = format!("multipart/form-data; boundary={boundary}");
        let request = app.predict("").header(CONTENT_TYPE, media);
        let request = request.body(parts(&[(image, &picture)]));
        problem(request.send().await.unwrap(), 400, "malformed-body").await;
        app.still_serves().await;
    }
}

/// A GIF of one frame, whose data is next to nothing.
fn gif(screen: u16, frame: u16) -> Vec<u8> {
    let (screen, frame) = (screen.to_le_bytes(), frame.to_le_bytes());
    let mut gif = b"GIF89a".to_vec();
    gif.extend([&screen[..], &screen, b"\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0"].concat());
    gif.extend([&frame[..], &frame, b"\0\x02\x02L\x01\0;"].concat());
    gif
}

/// A lossy WebP's frame, in a file that announces a canvas of its own.
fn webp(canvas: u32, frame: u16) -> Vec<u8> {
    let (canvas, frame) = ((canvas - 1).to_le_bytes(), frame.to_le_bytes());
    let extended = [b"VP8X\x0a\0\0\0\0\0\0\0", &canvas[..3], &canvas[..3]].concat();
    let lossy = [
        b"VP8 \x32\0\0\0\x10\x7d\0\x9d\x01\x2a",
        &frame[..],
        &frame,
        &[0; 40],
    ]
    .concat();
    let length = (4 + extended.len() + lossy.len()) as u32;
    [
        b"RIFF",
        &length.to_le_bytes()[..],
        b"WEBP",
        &extended,
        &lossy,
    ]
    .concat()
}

fn bmp(width: i32, height: i32) -> Vec<u8> {
    let (width, height) = (width.to_le_bytes(), height.to_le_bytes());
    let mut bmp = b"BM\x36\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([&width[..], &height, b"\x01\0\x18\0", &[0; 24]].concat());
    bmp
}

/// How a JPEG begins, before its scans: values as they are, a frame, and codes of one bit each, for a
/// difference of zero and for what `symbol` is (ISO/IEC 10918-1, B.2).
fn before_scans(frame: &[u8], symbol: u8) -> Vec<u8> {
    let mut jpeg = b"\xff\xd8\xff\xdb\0\x43\0".to_vec();
    jpeg.extend([1; 64]);
    jpeg.extend(frame);
    for (table, symbol) in [(0, 0), (0x10, symbol)] {
        jpeg.extend([&b"\xff\xc4\0\x14"[..], &[table, 1], &[0; 15], &[symbol]].concat());
    }
    jpeg
}

/// A progressive JPEG in so many scans, of 12 bytes each; for each the decoder goes over the whole picture.
fn jpeg(scans: usize) -> Vec<u8> {
    // 640 x 800 samples: 8000 blocks; the symbol is 16,384 of them without coefficients.
    let mut jpeg = before_scans(b"\xff\xc2\0\x0b\x08\x02\x80\x03\x20\x01\x01\x11\0", 0xe0);
    jpeg.extend(b"\xff\xda\0\x08\x01\x01\0\0\0\x01");
    jpeg.extend([0; 8000 / 8]);
    jpeg.extend(b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0\0\x01".repeat(scans));
    jpeg.extend(b"\xff\xd9");
    jpeg
}

/// A baseline JPEG of three components, each in a scan, and so many scans more, in each of which the decoder
/// goes over a row of blocks before it sees that there is nothing.
fn baseline(more: usize) -> Vec<u8> {
    // 640 x 800 samples of each: 8000 blocks; the symbol is a block's end.
    let mut jpeg = before_scans(
        b"\xff\xc0\0\x11\x08\x02\x80\x03\x20\x03\x01\x11\0\x02\x11\0\x03\x11\0",
        0,
    );
    for component in 1..=3 {
        jpeg.extend([0xff, 0xda, 0, 8, 1, component, 0, 0, 63, 0]);
        jpeg.extend([0; 8000 / 4]);
    }
    jpeg.extend(b"\xff\xda\0\x08\x01\x01\0\0\x3f\0\0".repeat(more));
    jpeg.extend(b"\xff\xd9");
    jpeg
}

#[tokio::test]
async fn pictures_that_are_small_until_they_are_decoded_are_refused() {
    let app = App::spawn().await;
    let mut largest = bytes("pictures/baseline.jpg");
    let frame = largest.windows(2).position(|marker| marker == [0xff, 0xc0]);
    let frame = frame.unwrap();
    largest[frame + 5..frame + 9].fill(0xff);
    let cases = [
        ("a GIF of 65,535 squared", gif(65_535, 65_535), 413),
        ("a GIF's frame that is larger than it", gif(1, 65_535), 422),
        (
            "one that would be small enough by itself",
            gif(1, 7000),
            422,
        ),
        ("a GIF without pixels", gif(0, 0), 422),
        ("a WebP of 16,777,216 squared", webp(1 << 24, 1), 422),
        (
            "a WebP's frame that is larger than it",
            webp(1, 16_383),
            413,
        ),
        ("a WebP of 16,383 squared", webp(16_383, 16_383), 413),
        (
            "a BMP of 2,147,483,647 squared",
            bmp(i32::MAX, i32::MAX),
            422,
        ),
        (
            "a BMP upside down, as high as can be",
            bmp(1, i32::MIN),
            422,
        ),
        ("a BMP to the left", bmp(-1, 1), 422),
        ("a BMP that is not there", bmp(7000, 7000), 422),
        ("a JPEG of 65,535 squared", largest, 413),
        ("a JPEG of a few scans", jpeg(10), 200),
        ("a JPEG of a thousand scans", jpeg(1000), 422),
        ("one with a scan for each component", baseline(0), 200),
        ("one of a thousand scans", baseline(1000), 422),
    ];
    for (what, picture, status) in cases {
        let response = app.predict_form("", picture).send().await.unwrap();
        assert_eq!(response.status(), status, "{what}");
        app.still_serves().await;
    }
}

#[tokio::test]
async fn a_picture_that_is_something_else_as_well_is_read_as_a_picture() {
    let app = App::spawn().await;
    let script = "<html><script>alert(1)</script>";
    let after = |name: &str, tail: &[u8]| [&bytes(name)[..], tail].concat();
    // A script that begins with a name, and a comment that ends behind the picture.
    let mut gif = after("pictures/animated.gif", b"*/=1;alert(1)//");
    gif[6..8].copy_from_slice(b"/*");
    let mut jpeg = bytes("pictures/baseline.jpg");
    let length = (script.len() as u16 + 2).to_be_bytes();
    jpeg.splice(2..2, [b"\xff\xfe", &length[..], script.as_bytes()].concat());
    let both = [
        gif,
        jpeg,
        after("pictures/reference.png", b"PK\x05\x06alert(1)"),
        after("pictures/baseline.jpg", b"<?php alert(1) ?>"),
        after("pictures/lossless.webp", script.as_bytes()),
    ];
    for picture in both {
        for media in ["application/json", "image/jpeg", "image/png"] {
            let request = app.predict_form("", picture.clone()).header(ACCEPT, media);
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()[CONTENT_TYPE], media);
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            let response = response.bytes().await.unwrap();
            assert!(!response.windows(6).any(|bytes| bytes == b"alert("));
        }
    }
    let others: [&[u8]; 4] = [
        b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>",
        b"%PDF-1.7\n\xff\xd8\xff",
        b"PK\x03\x04GIF89a",
        script.as_bytes(),
    ];
    for other in others {
        let response = app.predict_form("", other.to_vec()).send().await.unwrap();
        assert_eq!(response.headers()["x-content-type-options"], "nosniff");
        problem(response, 415, "unsupported-picture").await;
    }
    // Told again in the response, which is no page.
    let named = format!("Content-Disposition: form-data; name=\"{script}\"");
    let request = app
        .predict("")
        .header(CONTENT_TYPE, "multipart/form-data; boundary=b");
    let request = request.body(parts(&[(&named, b"")]));
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let detail = problem(response, 400, "no-image").await;
    assert!(detail.contains(script), "{detail}");
    app.still_serves().await;
}

/// Sends a byte at a time, until the server closes or it has been long.
async fn dribble(connection: &mut Raw) {
    for _ in 0..100 {
        if connection.try_send("x").await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn sending_a_byte_at_a_time_extends_no_timeout() {
    let limits = [("HEADER_TIMEOUT", "300ms"), ("BODY_TIMEOUT", "300ms")];
    let app = App::spawn_with(&limits).await;
    let mut slow = app.connect().await;
    slow.send("POST /predict HTTP/1.1\r\nHost: ssd\r\nX: ")
        .await;
    dribble(&mut slow).await;
    assert_eq!(slow.count_all().await, 0);

    let mut slow = app.connect().await;
    slow.send(head("Content-Type: image/png\r\nContent-Length: 1000\r\n"))
        .await;
    dribble(&mut slow).await;
    assert_eq!(statuses(&slow.read_until("}").await), [408]);
    app.still_serves().await;
}

#[tokio::test]
async fn many_unfinished_heads_keep_no_client_out() {
    let app = App::spawn_with(&[("CONNECTION_LIMIT", "20"), ("HEADER_TIMEOUT", "1h")]).await;
    let mut unfinished = Vec::new();
    for _ in 0..100 {
        let mut slow = app.connect().await;
        slow.send("POST /predict HTTP/1.1\r\nHost: s").await;
        unfinished.push(slow);
    }
    timeout(PATIENCE, app.still_serves()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_its_side_is_taken_to_be_gone() {
    let app = App::spawn().await;
    let part = async |request: String| {
        let mut connection = app.connect().await;
        connection.send(request).await;
        connection.finish().await;
        let responses = connection.read_all().await;
        app.still_serves().await;
        responses
    };
    assert_eq!(part(String::new()).await, "");
    assert_eq!(part("GET /livez HTTP/1.1\r\nHost: s".to_owned()).await, "");
    for headers in ["Content-Length: 9", "Transfer-Encoding: chunked"] {
        let head = head(&format!("Content-Type: image/png\r\n{headers}\r\n"));
        let response = part(head + "1\r\n").await;
        assert!(response.contains("The body ended early"), "{response}");
    }
}
