//! Cross-origin resource sharing.

use reqwest::{Method, Response};

use super::app::{App, bytes};

const ORIGIN: &str = "https://app.example.com";

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().unwrap())
}

impl App {
    /// What a browser sends before a page of another origin may send its request.
    async fn preflight(&self, origin: &str) -> Response {
        let request = self.client.request(Method::OPTIONS, self.url("/predict"));
        let request = request
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization");
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_call_the_server() {
    let app = App::spawn_with(&[(
        "CORS_ORIGINS",
        "https://app.example.com, http://localhost:8000",
    )])
    .await;
    for origin in [ORIGIN, "http://localhost:8000"] {
        let response = app.preflight(origin).await;
        assert_eq!(response.status(), 204);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            Some(origin)
        );
        assert_eq!(
            header(&response, "access-control-allow-headers"),
            Some("authorization")
        );
        // A page can read the response, and an error too.
        let request = app
            .predict_form("", bytes("cat.png"))
            .header("origin", origin);
        let refused = app
            .client
            .post(app.url("/predict"))
            .header("origin", origin);
        for (request, status) in [(request, 200), (refused, 401)] {
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), status);
            assert_eq!(
                header(&response, "access-control-allow-origin"),
                Some(origin)
            );
            let exposed = header(&response, "access-control-expose-headers").unwrap();
            assert!(exposed.contains("retry-after") && exposed.contains("server-timing"));
        }
    }
    let response = app.predict_form("", bytes("cat.png")).send().await.unwrap();
    let vary: Vec<_> = response.headers().get_all("vary").iter().collect();
    assert_eq!(vary, ["Accept", "Origin"]);
}

#[tokio::test]
async fn pages_of_other_origins_may_not_but_their_requests_are_not_harmed() {
    let app = App::spawn_with(&[("CORS_ORIGINS", ORIGIN)]).await;
    let own = format!("http://{}", app.address);
    for origin in [
        &own,
        "https://app.example.com:444",
        "https://evil.example",
        "null",
        "https://app.example.com.evil",
    ] {
        let response = app.preflight(origin).await;
        assert_eq!(response.status(), 405);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            None,
            "{origin}"
        );
        // The playground and curl send the header too.
        let request = app
            .predict_form("", bytes("cat.png"))
            .header("origin", origin);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            header(&response, "access-control-allow-origin"),
            None,
            "{origin}"
        );
    }
}

#[tokio::test]
async fn without_origins_no_page_may_call_the_server() {
    let app = App::spawn().await;
    let response = app.preflight(ORIGIN).await;
    assert_eq!(response.status(), 405);
    let response = app
        .predict_form("", bytes("cat.png"))
        .header("origin", ORIGIN);
    let response = response.send().await.unwrap();
    assert_eq!(header(&response, "access-control-allow-origin"), None);
    assert_eq!(header(&response, "vary"), Some("Accept"));
}
