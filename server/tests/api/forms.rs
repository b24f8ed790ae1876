//! Forms, as clients write them: what is read, and what is refused with the reason.

use reqwest::Response;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE};
use serde_json::Value;

use super::app::{App, bytes, head, json, parts, problem};

const FORM: &str = "multipart/form-data; boundary=b";
const IMAGE: &str = "Content-Disposition: form-data; name=\"image\"";

impl App {
    async fn send(&self, query: &str, media: &str, body: impl Into<reqwest::Body>) -> Response {
        let request = self.predict(query).header(CONTENT_TYPE, media);
        request.body(body).send().await.unwrap()
    }

    /// The detail of the 400 that such a form gets.
    async fn refusal(&self, form: impl Into<reqwest::Body>, kind: &str) -> String {
        problem(self.send("", FORM, form).await, 400, kind).await
    }
}

/// A small picture.
fn picture() -> Vec<u8> {
    bytes("pictures/rgb.bmp")
}

/// The headers of a part with that Content-Disposition.
fn disposition(value: &str) -> String {
    format!("Content-Disposition: {value}")
}

/// A part that states a criterion.
fn field(name: &str) -> String {
    disposition(&format!("form-data; name=\"{name}\""))
}

#[tokio::test]
async fn the_picture_is_found_however_its_part_is_written() {
    let app = App::spawn().await;
    let dispositions = [
        r#"form-data; name="image""#,
        r#"FORM-DATA; NAME="image""#,
        "form-data; name=image",
        "form-data;name=image;filename=my cat.jpg",
        "form-data ;\tname = \"image\" ;; filename = \"cat.jpg\" ;",
        r#"form-data; name="im\age""#,
        // What is quoted is not searched for parameters.
        r#"form-data; filename="; name=other; x.jpg"; name="image""#,
        r#"form-data; filename="a\"; name=\"other\"; b"; name="image""#,
        r#"form-data; filename="a\\"; name="image""#,
        r#"form-data; x="name=other"; name="image""#,
        "form-data; filename=\"\u{732b}.jpg\"; name=\"image\"",
        // Browsers write quotation marks so.
        r#"form-data; name="image"; filename="%22; name=%22other%22""#,
        // Other parameters than `name`.
        r#"form-data; name*=UTF-8''other; name="image""#,
        r#"form-data; name="image"; filename*=UTF-8''name%3Dother"#,
        r#"form-data; xname="other"; name="image"; name2="other""#,
        // Continued lines.
        "form-data;\r\n name=\"image\";\r\n\tfilename=\"cat.jpg\"",
    ]
    .map(disposition);
    let headers = [
        format!(
            "content-type: image/bmp\r\n{}",
            IMAGE.to_uppercase().replace("IMAGE", "image")
        ),
        format!("X-Empty:\r\n{IMAGE}\r\nContent-Transfer-Encoding: Binary"),
        format!("X: Content-Disposition: form-data; name=other\r\n  continued: yes\r\n{IMAGE}"),
    ];
    for headers in dispositions.iter().chain(&headers) {
        let response = app.send("", FORM, parts(&[(headers, &picture())])).await;
        assert_eq!(response.status(), 200, "{headers}");
    }
    let latin = [
        b"--b\r\nContent-Disposition: form-data; filename=\"\xe9\"; name=\"image\"\r\n\r\n",
        &picture()[..],
        b"\r\n--b--",
    ];
    assert_eq!(app.send("", FORM, latin.concat()).await.status(), 200);
}

#[tokio::test]
async fn other_names_are_not_the_picture_s() {
    let app = App::spawn().await;
    for (name, shown) in [
        (r#"name="Image""#, "`Image`"),
        (r#"name="image ""#, "`image `"),
        (r#"name="im%61ge""#, "`im%61ge`"),
        (r#"name="\"image\"""#, "`\"image\"`"),
        (r#"name="""#, "``"),
        ("name=", "``"),
        ("name=image filename=cat.jpg", "`image filename=cat.jpg`"),
        (r#"name="a;b"; filename="image""#, "`a;b`"),
    ] {
        let form = parts(&[(&disposition(&format!("form-data; {name}")), b"x")]);
        let detail = app.refusal(form, "no-image").await;
        assert!(detail.contains(&format!("but {shown}; send")), "{detail}");
    }
}

#[tokio::test]
async fn a_part_without_a_certain_name_is_malformed() {
    let app = App::spawn().await;
    let cases = [
        (
            disposition("form-data"),
            "has the Content-Disposition `form-data`: it has no `name`.",
        ),
        (
            disposition("form-data; name*=UTF-8''image"),
            "it has no `name`.",
        ),
        (
            disposition(r#"form-data; filename="; name=image""#),
            "it has no `name`.",
        ),
        (
            disposition(r#"attachment; name="image""#),
            "it must begin with `form-data`.",
        ),
        (
            disposition(r#"form-data name="image""#),
            "it must begin with `form-data`.",
        ),
        (
            disposition(r#"form-data; name="image"#),
            "a quotation mark is not closed.",
        ),
        (
            disposition(r#"form-data; name="image\""#),
            "a quotation mark is not closed.",
        ),
        (
            disposition(r#"form-data; name="image" x"#),
            "between two parameters there is no `;`.",
        ),
        (
            disposition(r#"form-data; name=im"age""#),
            "a quotation mark stands inside a value.",
        ),
        (disposition("form-data; name"), "a parameter has no value."),
        (
            disposition("form-data; name=image; NAME=x"),
            "a parameter is given twice.",
        ),
        (
            format!("{IMAGE}\r\n{IMAGE}"),
            "has two headers Content-Disposition.",
        ),
        (
            "Content-Type: image/bmp".to_owned(),
            "has no header Content-Disposition.",
        ),
        (String::new(), "has no header Content-Disposition."),
        (
            format!("{IMAGE}\r\nnonsense"),
            "has a line that is no header: `nonsense`.",
        ),
        (
            format!("{IMAGE}\r\nContent-Transfer-Encoding: base64"),
            "has the Content-Transfer-Encoding `base64`; send its bytes as they are",
        ),
    ];
    for (headers, expected) in cases {
        let form = parts(&[(&headers, &picture())]);
        let detail = app.refusal(form, "malformed-body").await;
        assert!(detail.starts_with("Part 1 of the form has "), "{detail}");
        assert!(detail.contains(expected), "{headers}: {detail}");
    }
}

#[tokio::test]
async fn every_boundary_that_a_client_sends_is_accepted() {
    let app = App::spawn().await;
    let longest = "b".repeat(70);
    let media = |parameter: &str| format!("multipart/form-data; {parameter}");
    for (media, boundary) in [
        (
            media("boundary=b/QeEbFgqK9PCZo4T/eXv7f.T74"),
            "b/QeEbFgqK9PCZo4T/eXv7f.T74",
        ),
        (media("boundary=----=_Part_1_2.3"), "----=_Part_1_2.3"),
        (media("BOUNDARY=b"), "b"),
        (media("charset=utf-8; boundary=\"b\""), "b"),
        (media("boundary=\"a \\b\"; x=\"; boundary=c\""), "a b"),
        (media("boundary=*****"), "*****"),
        (media(&format!("boundary={longest}")), &longest),
        (media("boundary=\"'()+_,-./:=?\""), "'()+_,-./:=?"),
        ("Multipart/Form-Data;boundary = b ;".to_owned(), "b"),
    ] {
        let form = [
            format!("--{boundary}\r\n{IMAGE}\r\n\r\n").as_bytes(),
            &picture(),
            format!("\r\n--{boundary}--").as_bytes(),
        ]
        .concat();
        assert_eq!(app.send("", &media, form).await.status(), 200, "{media}");
    }
}

#[tokio::test]
async fn a_bad_boundary_is_refused_with_the_reason() {
    let app = App::spawn().await;
    let long = "b".repeat(71);
    for (parameters, expected) in [
        ("", "without its `boundary`"),
        ("; charset=utf-8", "without its `boundary`"),
        ("; boundary=", "is ``; it must have 1 to 70 characters"),
        ("; boundary=\"\"", "is ``; it must have 1 to 70 characters"),
        ("; boundary=\"b \"", "is `b `; it must have"),
        ("; boundary=b@b", "is `b@b`; it must have"),
        ("; boundary=b\u{e9}", "it must have"),
        (
            &format!("; boundary={long}"),
            "it must have 1 to 70 characters",
        ),
        ("; boundary=\"b", "a quotation mark is not closed."),
        ("; boundary=a; boundary=b", "a parameter is given twice."),
        ("; boundary", "a parameter has no value."),
    ] {
        let media = format!("multipart/form-data{parameters}");
        let response = app.send("", &media, parts(&[(IMAGE, &picture())])).await;
        let detail = problem(response, 400, "malformed-body").await;
        assert!(detail.contains(expected), "{media}: {detail}");
        assert!(
            detail.ends_with("Let the HTTP client write the Content-Type."),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_boundary_that_the_body_lacks_is_shown_with_the_body_s_beginning() {
    let app = App::spawn().await;
    let other = String::from_utf8(parts(&[(IMAGE, b"x")]))
        .unwrap()
        .replace("--b", "--other");
    for (body, begins) in [
        (other, r"begins with `--other\r\nContent-Disposition:"),
        // In a line, but not at its beginning.
        ("x--b\r\n\r\n--other".to_owned(), r"begins with `x--b\r\n"),
        ("{}".to_owned(), "begins with `{}`"),
        ("x".repeat(1 << 20), "begins with `xxxx"),
        (
            String::new(),
            "announces a form with the boundary `b`, but the body is empty.",
        ),
    ] {
        let detail = app.refusal(body, "malformed-body").await;
        assert!(detail.contains("the boundary `b`"), "{detail}");
        assert!(detail.contains(begins), "{detail}");
        assert!(detail.len() < 400, "{detail}");
    }
}

#[tokio::test]
async fn a_form_whose_lines_end_in_lf_is_refused_with_the_reason() {
    let app = App::spawn().await;
    let form = format!("--b\r\n{IMAGE}\r\nContent-Type: image/bmp\r\n\r\nx\r\n--b--\r\n");
    let ends: Vec<usize> = form.match_indices("\r\n").map(|(at, _)| at).collect();
    // Every one of them, and each one alone: all but the last belong to the form.
    let mut forms = vec![
        form.replace("\r\n", "\n"),
        form.replace("\r\n", "\n") + "\r\n\r\n",
    ];
    for at in &ends[..ends.len() - 1] {
        let mut one = form.clone();
        one.remove(*at);
        forms.push(one);
    }
    for form in forms {
        let detail = app.refusal(form.clone(), "malformed-body").await;
        assert!(
            detail.starts_with("The lines of the form end in LF; they must end in CRLF"),
            "{form:?}: {detail}"
        );
        assert!(detail.contains("let the HTTP client write it"), "{detail}");
    }
}

#[tokio::test]
async fn a_form_that_is_cut_short_says_where() {
    let app = App::spawn().await;
    let form = parts(&[(&field("top_k"), b"3"), (IMAGE, b"12345678")]);
    let whole = form.len() - "--\r\n".len();
    for length in "--b".len()..=whole + 1 {
        let detail = app.refusal(form[..length].to_vec(), "malformed-body").await;
        assert!(
            detail.starts_with("The form is cut short: it ends "),
            "{length}: {detail}"
        );
        assert!(
            detail.ends_with("Its last line, `--b--`, is missing."),
            "{detail}"
        );
    }
    let cut = async |end: &str| {
        let end = form
            .windows(end.len())
            .position(|part| part == end.as_bytes())
            .unwrap();
        app.refusal(form[..end].to_vec(), "malformed-body").await
    };
    let place = "it ends in its field `image`, of which 5 bytes arrived.";
    assert!(cut("678").await.contains(place));
    assert!(
        cut("form-data; name=\"image")
            .await
            .contains("it ends in the headers of part 2.")
    );
}

#[tokio::test]
async fn what_is_outside_the_parts_is_ignored_and_what_is_inside_is_kept() {
    let app = App::spawn().await;
    let plain = app.send("", "image/bmp", picture()).await;
    let plain = plain.text().await.unwrap();
    // Behind the picture, where it does no harm: bytes that resemble the boundary.
    let tail = b"--b\r\n--\r\n-- b\r\n--B--\r--b--\r\n\r\n";
    let inner = [&picture()[..], tail].concat();
    let form = parts(&[(IMAGE, &inner)]);
    let padded = String::from("--b \t \r\n") + IMAGE + "\r\n\r\n";
    let forms = [
        form.clone(),
        [b"a preamble --b\r\nwith lines\r\n", &form[..]].concat(),
        [b"\r\n", &form[..]].concat(),
        [&form[..], b"an epilogue\r\n--b\r\nx"].concat(),
        [padded.as_bytes(), &inner, b"\r\n--b--  "].concat(),
    ];
    for form in forms {
        let response = app.send("", FORM, form).await;
        assert_eq!(response.text().await.unwrap(), plain);
    }
    // A line that begins with the boundary and goes on.
    let form = parts(&[(IMAGE, b"x\r\n--bc\r\ny")]);
    let detail = app.refusal(form, "malformed-body").await;
    assert!(detail.contains(r"goes on with `c\r\ny"), "{detail}");
}

#[tokio::test]
async fn a_part_without_data_is_empty() {
    let app = App::spawn().await;
    // A file input in a browser in which no file was chosen; and without the second end of a line.
    for end in ["\r\n\r\n\r\n--b--\r\n", "\r\n\r\n--b--\r\n"] {
        let form = format!("--b\r\n{IMAGE}; filename=\"\"{end}");
        let detail = app.refusal(form, "empty-image").await;
        assert!(detail.contains("The picture is empty"), "{detail}");
    }
    for (form, expected) in [
        ("--b--\r\n", "The form has no fields;"),
        (
            "--b\r\nContent-Disposition: form-data; name=x\r\n\r\n--b--",
            "but `x`;",
        ),
    ] {
        let detail = app.refusal(form, "no-image").await;
        assert!(detail.contains(expected), "{detail}");
    }
}

#[tokio::test]
async fn criteria_in_the_form_have_the_effect_of_those_in_the_query() {
    let app = App::spawn().await;
    let cat = bytes("cat.png");
    let response = async |query: &str, form: Vec<u8>| {
        let response = app.send(query, FORM, form).await;
        assert_eq!(response.status(), 200);
        json(response).await
    };
    let detections = |response: &Value| response["predictions"].as_array().unwrap().len();
    let plain = response("", parts(&[(IMAGE, &cat)])).await;
    for (name, value) in [
        ("threshold", "0.05"),
        ("iou", "1"),
        ("top_k", "1"),
        ("classes", "dog,cat"),
    ] {
        let field = field(name);
        let state: (&str, &[u8]) = (&field, value.as_bytes());
        let query = format!("?{name}={value}&threshold=0.05");
        let query = if name == "threshold" {
            "?threshold=0.05"
        } else {
            &query
        };
        let expected = response(query, parts(&[(IMAGE, &cat)])).await;
        let rest = if name == "threshold" {
            ""
        } else {
            "?threshold=0.05"
        };
        let before = response(rest, parts(&[state, (IMAGE, &cat)])).await;
        let after = response(rest, parts(&[(IMAGE, &cat), state])).await;
        assert_eq!((&before, &after), (&expected, &expected), "{name}");
        assert_ne!(
            detections(&expected),
            detections(&plain) + usize::from(name == "top_k")
        );
    }
}

#[tokio::test]
async fn a_refused_form_field_has_the_error_of_the_query_parameter() {
    let app = App::spawn().await;
    let long = "9".repeat(10_000);
    for name in ["threshold", "iou", "top_k"] {
        for value in [
            "",
            " ",
            "0",
            "1",
            "1.0",
            "0.5",
            " 1",
            "1 ",
            "+1",
            "-1",
            "1.5",
            "8732",
            "8733",
            "1e-9",
            "NaN",
            "inf",
            "half",
            "0,5",
            "1\u{1b}[2J",
            "\u{661}",
            &long,
        ] {
            let url = reqwest::Url::parse_with_params("http://x", [(name, value)]).unwrap();
            let query = format!("?{}", url.query().unwrap());
            let query = app.send(&query, FORM, parts(&[(IMAGE, &picture())])).await;
            let form = parts(&[(IMAGE, &picture()), (&field(name), value.as_bytes())]);
            let form = app.send("", FORM, form).await;
            assert_eq!(query.status(), form.status(), "{name}={value}");
            if query.status() != 200 {
                let expected = problem(query, 400, "bad-query").await;
                let detail = problem(form, 400, "bad-field").await;
                assert_eq!(detail, expected.replace("query parameter", "form field"));
                assert!(
                    detail.contains("it accepts") && detail.len() < 400,
                    "{detail}"
                );
            }
        }
    }
    let form = parts(&[(IMAGE, &picture()), (&field("top_k"), b"\xff")]);
    let detail = app.refusal(form, "bad-field").await;
    assert!(
        detail.contains("`top_k` is `\u{fffd}`; it accepts"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_criterion_is_stated_once_and_other_fields_do_not_exist() {
    let app = App::spawn().await;
    for name in ["threshold", "iou", "top_k"] {
        let one = (IMAGE, &picture()[..]);
        let field = field(name);
        let state: (&str, &[u8]) = (&field, b"1");
        let response = app
            .send(&format!("?{name}=1"), FORM, parts(&[one, state]))
            .await;
        let detail = problem(response, 400, "bad-field").await;
        let expected = format!("`{name}` is in the query and in the body; give it once.");
        assert_eq!(detail, expected);
        let detail = app.refusal(parts(&[state, one, state]), "bad-field").await;
        assert_eq!(detail, format!("The form field `{name}` is given twice."));
    }
    let long = "x".repeat(10_000);
    for name in ["treshold", "Threshold", "comment", &long] {
        for form in [
            parts(&[(IMAGE, &picture()), (&field(name), b"0.5")]),
            parts(&[(&field(name), b"0.5"), (IMAGE, &picture())]),
        ] {
            let detail = app.refusal(form, "bad-field").await;
            let begin = format!("There is no form field `{}", &name[..name.len().min(80)]);
            assert!(detail.starts_with(&begin), "{detail}");
            let end = "`; the form fields are image, threshold, iou, top_k, classes.";
            assert!(detail.ends_with(end) && detail.len() < 300, "{detail}");
        }
    }
    // The picture is missing because it has another name: that error helps most.
    let form = parts(&[(&field("file"), &picture()), (&field("top_k"), b"1")]);
    let detail = app.refusal(form, "no-image").await;
    assert!(
        detail.contains("no field `image`, but `file`, `top_k`; send"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_content_coding_is_refused_by_its_name_before_the_body_is_read() {
    let app = App::spawn().await;
    for (codings, named) in [
        ("gzip", "gzip"),
        ("X-GZIP", "X-GZIP"),
        ("br, identity", "br"),
        ("identity,deflate", "deflate"),
    ] {
        for media in ["image/jpeg", FORM] {
            let mut connection = app.connect().await;
            let headers = format!(
                "Content-Type: {media}\r\nContent-Encoding: {codings}\r\nContent-Length: 1000\r\n\
                 Expect: 100-continue\r\n"
            );
            connection.send(head(&headers)).await;
            let response = connection.read_until("}").await;
            assert!(response.starts_with("HTTP/1.1 415 "), "{response}");
            assert!(
                response.contains("\r\naccept-encoding: identity\r\n"),
                "{response}"
            );
            assert!(response.contains(":unsupported-coding\""), "{response}");
            let detail = format!("The Content-Encoding is `{named}`; send the body without");
            assert!(response.contains(&detail), "{response}");
        }
    }
    for codings in ["identity", "Identity , identity", ""] {
        let request = app.predict("").header(CONTENT_TYPE, "image/bmp");
        let request = request.header(CONTENT_ENCODING, codings).body(picture());
        assert_eq!(request.send().await.unwrap().status(), 200, "{codings}");
    }
    // Other 415s have no such header: RFC 9110, section 12.5.3.
    let other = app.send("", "text/plain", "x").await;
    assert!(!other.headers().contains_key("accept-encoding"));
    problem(other, 415, "unsupported-media-type").await;
}
