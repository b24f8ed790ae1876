//! Limits of bodies, in size and in time.

use super::app::{App, bytes, head, problem};

#[tokio::test]
async fn a_body_of_the_limit_is_accepted_and_one_byte_more_is_not() {
    let picture = bytes("pictures/rgb.bmp");
    let limit = picture.len().to_string();
    let app = App::spawn_with(&[("BODY_LIMIT", &limit)]).await;
    let raw = async |picture: Vec<u8>| {
        let request = app
            .predict("")
            .header("content-type", "image/bmp")
            .body(picture);
        request.send().await.unwrap()
    };
    assert_eq!(raw(picture.clone()).await.status(), 200);
    let mut longer = picture.clone();
    longer.push(0);
    let detail = problem(raw(longer).await, 413, "body-too-large").await;
    assert!(
        detail.contains(&format!("larger than the limit of {limit} bytes")),
        "{detail}"
    );
    // A form of the same picture is longer than the picture.
    let form = app.predict_form("", picture).send().await.unwrap();
    problem(form, 413, "body-too-large").await;
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_before_it_is_sent() {
    let app = App::spawn().await;
    let mut connection = app.connect().await;
    connection
        .send(head(
            "Content-Type: image/png\r\nContent-Length: 10485761\r\n",
        ))
        .await;
    let response = connection.read_until("}").await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
    assert!(response.contains("urn:ssd:problem:body-too-large"));
}

#[tokio::test]
async fn an_endless_body_is_refused_at_the_limit_and_the_response_arrives() {
    let app = App::spawn_with(&[("BODY_LIMIT", "64KiB")]).await;
    let mut connection = app.connect().await;
    connection
        .send(head(
            "Content-Type: image/png\r\nTransfer-Encoding: chunked\r\n",
        ))
        .await;
    // More than the sockets hold: without a lingering close the response would be lost to a reset.
    for _ in 0..2000 {
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
        // The server may have closed: a slow machine sends longer than it lingers.
        if connection.try_send(chunk).await.is_err() {
            break;
        }
    }
    let response = connection.read_until("}").await;
    assert!(response.starts_with("HTTP/1.1 413 "), "{response}");
}

#[tokio::test]
async fn a_form_in_chunks_leaves_the_connection_open() {
    let app = App::spawn().await;
    let mut connection = app.connect().await;
    let headers = "Content-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n";
    let form = [
        b"--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\n",
        &bytes("cat.png")[..],
        b"\r\n--b--\r\n",
    ]
    .concat();
    for _ in 0..2 {
        connection.send(head(headers)).await;
        for part in form.chunks(10_000) {
            connection.send(format!("{:x}\r\n", part.len())).await;
            connection.send(part).await;
            connection.send("\r\n").await;
        }
        connection.send("0\r\n\r\n").await;
        let response = connection.read_until("]}").await;
        assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    }
}

#[tokio::test]
async fn a_late_body_is_refused() {
    let app = App::spawn_with(&[("BODY_TIMEOUT", "200ms")]).await;
    for headers in [
        "Content-Type: image/png\r\n",
        "Content-Type: multipart/form-data; boundary=b\r\n",
    ] {
        let mut connection = app.connect().await;
        connection
            .send(head(&format!("{headers}Content-Length: 1000\r\n")) + "--b\r\n")
            .await;
        let response = connection.read_until("}").await;
        assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
        assert!(
            response.contains("did not arrive within 0.2 seconds"),
            "{response}"
        );
    }
}

#[tokio::test]
async fn a_bomb_is_refused_by_its_header() {
    let app = App::spawn().await;
    // A PNG of 60,000 x 60,000 pixels in a few bytes.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let checksum = crc32fast::hash(&png[12..]);
    png.extend(checksum.to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    let detail = problem(
        app.predict_form("", png).send().await.unwrap(),
        413,
        "too-many-pixels",
    )
    .await;
    assert!(detail.contains("60000 x 60000"), "{detail}");
}

#[tokio::test]
async fn ten_thousand_fields_are_read() {
    let app = App::spawn().await;
    let part = "--b\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\ny\r\n";
    let body = part.repeat(10_000) + "--b--\r\n";
    let request = app
        .predict("")
        .header("content-type", "multipart/form-data; boundary=b")
        .body(body);
    problem(request.send().await.unwrap(), 400, "no-image").await;
}
