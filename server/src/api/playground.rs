//! The playground: a page at `/` to try `/predict` in a browser, and the files that it loads. It needs no
//! other server, and no files beside the program.

use std::sync::LazyLock;

use bytes::Bytes;
use poem::error::NotFoundError;
use poem::http::{StatusCode, header};
use poem::{Request, Response};
use sha2::{Digest as _, Sha256};
use ssd_detector::samples::SAMPLES;

use super::context::Context;

/// Nothing comes from another origin, and no script or style is inline. The user's own pictures are `blob:`
/// URLs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const PAGE: &str = include_str!("../../assets/playground/index.html");

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

macro_rules! file {
    ($name:literal, $media:expr) => {
        (
            $name,
            $media,
            include_bytes!(concat!("../../assets/playground/", $name)).as_slice(),
        )
    };
}

/// The files that the page loads besides the samples: name, media type, content.
const ASSETS: [(&str, &str, &[u8]); 9] = [
    file!("style.css", STYLE),
    file!("app.js", SCRIPT),
    file!("ask.js", SCRIPT),
    file!("camera.js", SCRIPT),
    file!("findings.js", SCRIPT),
    file!("live.js", SCRIPT),
    file!("snippets.js", SCRIPT),
    file!("upright.js", SCRIPT),
    file!("icon.svg", "image/svg+xml"),
];

/// `GET /`: the page, with the limits and the threshold of this server.
pub fn page(request: &Request) -> poem::Result<Response> {
    let context = Context::of(request);
    let (criteria, options) = (context.criteria()?, &context.options);
    let page = PAGE
        .replace("{{body_limit}}", &options.body_limit.to_string())
        .replace("{{pixel_limit}}", &options.pixel_limit.to_string())
        .replace("{{threshold}}", &criteria.threshold.to_string());
    Ok(File::new(HTML, page.into()).response(request))
}

/// `GET /playground/:file`.
pub fn file(request: &Request) -> poem::Result<Response> {
    static FILES: LazyLock<Vec<(&str, File)>> = LazyLock::new(|| {
        let all = ASSETS.into_iter().chain(SAMPLES);
        all.map(|(name, media, content)| (name, File::new(media, Bytes::from_static(content))))
            .collect()
    });
    // No file has a path that is not UTF-8.
    let asked: String = request.path_params().map_err(|_| NotFoundError)?;
    let found = FILES.iter().find(|(name, _)| *name == asked);
    let (_, file) = found.ok_or(NotFoundError)?;
    Ok(file.response(request))
}

/// A file with its headers.
struct File {
    media: &'static str,
    content: Bytes,
    tag: String,
}

impl File {
    fn new(media: &'static str, content: Bytes) -> Self {
        Self {
            media,
            tag: format!("\"{:x}\"", Sha256::digest(&content)),
            content,
        }
    }

    /// Browsers revalidate their copy each time, since another version of the server may have another file.
    fn response(&self, request: &Request) -> Response {
        // RFC 9110, section 13.1.2: a list, compared weakly.
        let mut tags = request
            .headers()
            .get(header::IF_NONE_MATCH)
            .and_then(|tags| tags.to_str().ok())
            .unwrap_or_default()
            .split(',')
            .map(str::trim);
        let is_known = tags.any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == self.tag);
        let response = Response::builder()
            .header(header::CACHE_CONTROL, "private, no-cache")
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::ETAG, &self.tag);
        if is_known {
            response.status(StatusCode::NOT_MODIFIED).finish()
        } else {
            response.content_type(self.media).body(self.content.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_its_files_are_small() {
        let files = ASSETS.iter().map(|(_, _, content)| content.len());
        let all = PAGE.len() + files.sum::<usize>();
        assert!(all < 40_000, "{all} bytes");
    }
}
