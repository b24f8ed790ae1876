//! Every error that a request can cause.

use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use reqwest::multipart::Form;

use super::app::{App, bytes, head, problem};

#[tokio::test]
async fn a_refused_query_is_named_with_its_value_and_its_range() {
    let app = App::spawn().await;
    let cases = [
        (
            "threshold=1.5",
            "`threshold` is `1.5`; it accepts a number from 0 to 1.",
        ),
        ("threshold=-0.1", "`threshold` is `-0.1`;"),
        ("threshold=NaN", "`threshold` is `NaN`;"),
        ("threshold=", "`threshold` is ``;"),
        (
            "iou=half",
            "`iou` is `half`; it accepts a number from 0 to 1.",
        ),
        (
            "top_k=0",
            "`top_k` is `0`; it accepts a whole number from 1 to 8732.",
        ),
        ("top_k=8733", "`top_k` is `8733`;"),
        ("top_k=1.5", "`top_k` is `1.5`;"),
        (
            "treshold=0.5",
            "There is no query parameter `treshold`; the query parameters are threshold, iou, top_k, classes.",
        ),
        ("threshold=0.5&threshold=0.6", "`threshold` is given twice."),
        ("a=%0a%1b", "no query parameter `a`"),
        (
            "classes=cat,dgo",
            "The model has no class `dgo`; similar ones are `dog`. GET /model lists all.",
        ),
        ("classes=zzz", "The model has no class `zzz`. GET /model"),
        (
            "classes=,%20,",
            "`classes` is empty; it accepts labels, separated by commas: cat,dog.",
        ),
    ];
    for (query, expected) in cases {
        let request = app.predict_form(&format!("?{query}"), bytes("cat.png"));
        let detail = problem(request.send().await.unwrap(), 400, "bad-query").await;
        assert!(detail.contains(expected), "{query}: {detail}");
    }
}

#[tokio::test]
async fn a_form_without_exactly_one_image_is_refused() {
    let app = App::spawn().await;
    let refused = async |form: Form| {
        let response = app.predict("").multipart(form).send().await.unwrap();
        problem(response, 400, "no-image").await
    };
    let detail = refused(Form::new().text("picture", "x").text("y", "z")).await;
    assert!(
        detail.contains("The form has no field `image`, but `picture`, `y`; send"),
        "{detail}"
    );
    let twice = super::app::form(bytes("cat.png")).text("image", "again");
    assert!(refused(twice).await.contains("more than one field `image`"));
}

#[tokio::test]
async fn an_empty_picture_is_refused() {
    let app = App::spawn().await;
    let form = app.predict_form("", Vec::new()).send().await.unwrap();
    problem(form, 400, "empty-image").await;
    let raw = app
        .predict("")
        .header(CONTENT_TYPE, "image/png")
        .send()
        .await
        .unwrap();
    problem(raw, 400, "empty-image").await;
}

#[tokio::test]
async fn a_broken_form_is_malformed() {
    let app = App::spawn().await;
    let cases = [
        ("multipart/form-data", "x"),
        ("multipart/form-data; boundary=b", "no form"),
        ("multipart/form-data; boundary=b", ""),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"image\"\r\n\r\ncut",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nno header\r\n\r\nx\r\n--b--",
        ),
    ];
    for (media, body) in cases {
        let request = app.predict("").header(CONTENT_TYPE, media).body(body);
        problem(request.send().await.unwrap(), 400, "malformed-body").await;
    }
}

#[tokio::test]
async fn the_detail_of_a_malformed_form_is_short() {
    let app = App::spawn().await;
    let name = "x".repeat(70_000);
    let request = app
        .predict("")
        .header(CONTENT_TYPE, "multipart/form-data; boundary=b")
        .body(format!("--b\r\n{name}: y\r\n\r\nz\r\n--b--"));
    let detail = problem(request.send().await.unwrap(), 400, "malformed-body").await;
    assert!(detail.len() < 300, "{} bytes", detail.len());
}

#[tokio::test]
async fn a_missing_or_wrong_login_is_401_with_a_challenge() {
    let app = App::spawn_with(&[
        ("SECRET_USERNAME", "grüße"),
        ("SECRET_PASSWORD", "pass:wörd"),
    ])
    .await;
    let send = async |value: &str| {
        let request = app
            .client
            .post(app.url("/predict"))
            .multipart(super::app::form(bytes("cat.png")));
        request.header(AUTHORIZATION, value).send().await.unwrap()
    };
    let wrong = [
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic dWdhaW4=",
        "Bearer dWdhaW46dWdhaW4=",
        // ugain:ugain; grüße: ; grüße:pass ; :pass:wörd ; bytes that are not UTF-8.
        "Basic dWdhaW46dWdhaW4=",
        "Basic Z3LDvMOfZTo=",
        "Basic Z3LDvMOfZTpwYXNz",
        "Basic OnBhc3M6d8O2cmQ=",
        "Basic /zr/",
    ];
    for value in wrong {
        problem(send(value).await, 401, "unauthorized").await;
    }
    let none = app.client.post(app.url("/predict")).send().await.unwrap();
    problem(none, 401, "unauthorized").await;
    // grüße:pass:wörd, in UTF-8.
    assert_eq!(send("Basic Z3LDvMOfZTpwYXNzOnfDtnJk").await.status(), 200);
    assert_eq!(send("basic Z3LDvMOfZTpwYXNzOnfDtnJk").await.status(), 200);
}

#[tokio::test]
async fn without_a_login_no_byte_of_the_body_is_read() {
    let app = App::spawn().await;
    let mut stranger = app.connect().await;
    stranger
        .send(
            "POST /predict?threshold=x HTTP/1.1\r\nHost: ssd\r\nContent-Type: image/png\r\n\
         Content-Length: 1000000\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    let response = stranger.read_until("\r\n\r\n").await;
    assert!(response.starts_with("HTTP/1.1 401 "), "{response}");
    // The announced body would come before the next request.
    assert!(response.contains("connection: close\r\n"), "{response}");
}

#[tokio::test]
async fn unknown_paths_and_methods_are_404_and_405() {
    let app = App::spawn().await;
    for path in [
        "/nothing",
        "/predict/",
        "/predict/x",
        "/docs/x",
        "//",
        "/livez/",
        "/%2e%2e/etc/passwd",
    ] {
        problem(app.get(path).await, 404, "not-found").await;
    }
    let cases = [
        (Method::GET, "/predict", "POST"),
        (Method::PUT, "/predict", "POST"),
        (Method::DELETE, "/predict", "POST"),
        (Method::OPTIONS, "/predict", "POST"),
        (Method::POST, "/livez", "GET, HEAD"),
        (Method::POST, "/readyz", "GET, HEAD"),
        (Method::PUT, "/openapi.json", "GET, HEAD"),
        (Method::DELETE, "/docs", "GET, HEAD"),
        (Method::POST, "/", "GET, HEAD"),
    ];
    for (method, path, allowed) in cases {
        let request = app.client.request(method.clone(), app.url(path));
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["allow"], allowed, "{method} {path}");
        problem(response, 405, "method-not-allowed").await;
    }
}

#[tokio::test]
async fn bodies_of_other_types_are_refused_with_advice() {
    let app = App::spawn().await;
    for media in [
        "application/xml",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=b",
        "nonsense",
    ] {
        let request = app
            .predict("")
            .header(CONTENT_TYPE, media)
            .body(bytes("cat.png"));
        let detail = problem(request.send().await.unwrap(), 415, "unsupported-media-type").await;
        assert!(detail.contains("curl -F image=@cat.jpg"), "{detail}");
    }
    let none = app.predict("").body(bytes("cat.png")).send().await.unwrap();
    let detail = problem(none, 415, "unsupported-media-type").await;
    assert!(
        detail.starts_with("The request has no Content-Type."),
        "{detail}"
    );
}

#[tokio::test]
async fn bytes_of_no_picture_are_refused_with_the_supported_formats() {
    let app = App::spawn().await;
    let response = app
        .predict_form("", b"hello, world".to_vec())
        .send()
        .await
        .unwrap();
    let detail = problem(response, 415, "unsupported-picture").await;
    assert!(detail.contains("JPEG, PNG, WebP, BMP or GIF"), "{detail}");
}

#[tokio::test]
async fn damaged_pictures_are_undecodable() {
    let app = App::spawn().await;
    for name in [
        "cat.png",
        "pictures/baseline.jpg",
        "pictures/lossless.webp",
        "pictures/rgb.bmp",
    ] {
        let mut picture = bytes(name);
        picture.truncate(picture.len() / 2);
        let response = app.predict_form("", picture).send().await.unwrap();
        problem(response, 422, "undecodable-picture").await;
    }
}

#[tokio::test]
async fn a_picture_with_too_many_pixels_is_refused() {
    let app = App::spawn_with(&[("PIXEL_LIMIT", "5399")]).await;
    let response = app
        .predict_form("", bytes("pictures/rgb.bmp"))
        .send()
        .await
        .unwrap();
    let detail = problem(response, 413, "too-many-pixels").await;
    assert!(
        detail.contains("90 x 60 pixels; the limit is 5399 pixels"),
        "{detail}"
    );
}

#[tokio::test]
async fn after_an_error_the_connection_serves_the_next_request() {
    let app = App::spawn().await;
    let mut connection = app.connect().await;
    let picture = bytes("pictures/rgb.bmp");
    connection
        .send(head("Content-Type: image/png\r\nContent-Length: 3\r\n") + "abc")
        .await;
    assert!(
        connection
            .read_until("}")
            .await
            .starts_with("HTTP/1.1 415 ")
    );
    connection
        .send(head(&format!(
            "Content-Type: image/bmp\r\nContent-Length: {}\r\n",
            picture.len()
        )))
        .await;
    connection.send(&picture).await;
    assert!(
        connection
            .read_until("]}")
            .await
            .starts_with("HTTP/1.1 200 ")
    );
}
