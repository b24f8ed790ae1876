//! The playground: the page at `/` and the files that it loads.

use reqwest::header::IF_NONE_MATCH;
use reqwest::{Method, Response};
use reqwest_middleware::RequestBuilder;

use super::app::{App, problem};

fn request(app: &App, method: Method, path: &str) -> RequestBuilder {
    let request = app.client.request(method, app.url(path));
    request.basic_auth("ugain", Some("ugain"))
}

async fn get(app: &App, path: &str) -> Response {
    request(app, Method::GET, path).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

/// Every file that the page and its scripts name.
async fn files(app: &App) -> Vec<String> {
    let page = get(app, "/").await.text().await.unwrap();
    let script = get(app, "/playground/app.js").await.text().await.unwrap();
    let quoted = |text: &str, before: &str, folder: &str| -> Vec<String> {
        let found = text.match_indices(before);
        found
            .map(|(at, _)| {
                let name = &text[at + before.len()..];
                format!("{folder}{}", name.split('"').next().unwrap())
            })
            .collect()
    };
    let mut files = quoted(&page, "=\"playground/", "/playground/");
    files.extend(quoted(&script, "from \"./", "/playground/"));
    files.sort();
    files.dedup();
    files
}

#[tokio::test]
async fn the_page_and_its_files_load_only_from_this_server() {
    let app = App::spawn().await;
    let mut files = files(&app).await;
    assert_eq!(files.len(), 12, "{files:?}");
    files.push("/".to_owned());
    for path in files {
        let file = get(&app, &path).await;
        assert_eq!(file.status(), 200, "{path}");
        let media = match path.rsplit('.').next().unwrap() {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            "jpg" => "image/jpeg",
            "png" => "image/png",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(header(&file, "content-type"), media);
        assert_eq!(
            header(&file, "content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
             connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        );
        assert_eq!(header(&file, "x-content-type-options"), "nosniff");
        assert_eq!(header(&file, "referrer-policy"), "no-referrer");
    }
}

#[tokio::test]
async fn the_page_and_its_files_need_the_login() {
    let app = App::spawn().await;
    for path in [
        "/",
        "/playground/app.js",
        "/playground/cat.png",
        "/playground/none",
    ] {
        problem(app.get(path).await, 401, "unauthorized").await;
        let wrong = app.client.get(app.url(path)).basic_auth("ugain", Some("x"));
        problem(wrong.send().await.unwrap(), 401, "unauthorized").await;
    }
}

#[tokio::test]
async fn a_file_that_the_browser_has_is_not_sent_again() {
    let app = App::spawn().await;
    for path in ["/", "/playground/style.css"] {
        let first = get(&app, path).await;
        assert_eq!(header(&first, "cache-control"), "private, no-cache");
        let again = async |tag: &str| {
            let request = request(&app, Method::GET, path).header(IF_NONE_MATCH, tag);
            request.send().await.unwrap()
        };
        let tag = header(&first, "etag");
        for known in [tag.to_owned(), format!("\"another\", W/{tag}")] {
            let same = again(&known).await;
            assert_eq!((same.status().as_u16(), header(&same, "etag")), (304, tag));
            assert!(same.bytes().await.unwrap().is_empty());
        }
        assert_eq!(again("\"of another version\"").await.status(), 200);
    }
}

#[tokio::test]
async fn the_page_holds_the_limits_of_the_server() {
    let app = App::spawn_with(&[
        ("THRESHOLD", "0.25"),
        ("BODY_LIMIT", "2 MB"),
        ("PIXEL_LIMIT", "1234567"),
    ])
    .await;
    let page = get(&app, "/").await.text().await.unwrap();
    let knows = r#"data-threshold="0.25" data-body-limit="2000000" data-pixel-limit="1234567""#;
    assert!(page.contains(knows) && !page.contains("{{"), "{page}");
}

#[tokio::test]
async fn other_methods_and_other_files_are_refused() {
    let app = App::spawn().await;
    for path in ["/", "/playground/app.js"] {
        let head = request(&app, Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert!(head.bytes().await.unwrap().is_empty());
        let post = request(&app, Method::POST, path).send().await.unwrap();
        assert_eq!(header(&post, "allow"), "GET, HEAD");
        problem(post, 405, "method-not-allowed").await;
    }
    for path in [
        "/playground/none.js",
        "/playground/index.html",
        "/playground/..%2fCargo.toml",
        "/playground/%ff",
        "/playground/app.js%c3",
    ] {
        problem(get(&app, path).await, 404, "not-found").await;
    }
}

#[tokio::test]
async fn the_samples_are_the_pictures_of_the_repository() {
    let app = App::spawn().await;
    for name in ["cat.png", "astronaut.jpg", "coffee.jpg"] {
        let path = format!("{}/../data/samples/{name}", env!("CARGO_MANIFEST_DIR"));
        let served = get(&app, &format!("/playground/{name}")).await;
        assert_eq!(served.bytes().await.unwrap(), std::fs::read(path).unwrap());
    }
}
