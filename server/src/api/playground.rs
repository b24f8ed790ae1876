//! The playground: a page at `/` that tries `/predict` in a browser, and the files it loads. It needs
//! no other server, and no file beside the program.

use std::sync::OnceLock;

use bytes::Bytes;
use poem::endpoint::make_sync;
use poem::error::NotFoundError;
use poem::http::{StatusCode, header};
use poem::{Endpoint, EndpointExt as _, Request, Response, get};
use sha2::{Digest as _, Sha256};

use super::problem::Problem;
use super::{Options, auth, in_force, not_ready};
use ssd_detector::samples::SAMPLES;

/// Where the page's files are, for poem.
pub const FILES: &str = "/playground/:file";

/// Nothing of another origin, and no code or style that does not stand in a file of this one. Pictures
/// of the user's own are `blob:`.
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

/// What the page loads beside the samples: name, media type, content.
const ASSETS: [(&str, &str, &[u8]); 8] = [
    file!("style.css", STYLE),
    file!("app.js", SCRIPT),
    file!("ask.js", SCRIPT),
    file!("camera.js", SCRIPT),
    file!("findings.js", SCRIPT),
    file!("snippets.js", SCRIPT),
    file!("upright.js", SCRIPT),
    file!("icon.svg", "image/svg+xml"),
];

/// The page, which knows what this server accepts and, once the model is there, the threshold.
pub fn page(options: &Options) -> impl Endpoint + use<> {
    let template = PAGE
        .replace("{{body_limit}}", &options.body_limit.to_string())
        .replace("{{pixel_limit}}", &options.pixel_limit.to_string());
    let page = OnceLock::new();
    let answer = move |request: Request| -> Result<Response, Problem> {
        let criteria = in_force(&request).ok_or_else(not_ready)?;
        let page = page.get_or_init(|| {
            let page = template.replace("{{threshold}}", &criteria.threshold.to_string());
            File::new(HTML, page.into())
        });
        Ok(page.answer(&request))
    };
    get(make_sync(answer).before(auth::admit))
}

/// The files of the page.
pub fn files() -> impl Endpoint {
    let all = ASSETS.into_iter().chain(SAMPLES);
    let files: Vec<_> = all
        .map(|(name, media, content)| (name, File::new(media, Bytes::from_static(content))))
        .collect();
    let find = move |request: Request| -> poem::Result<Response> {
        // A path that is no UTF-8 names no file.
        let asked: String = request.path_params().map_err(|_| NotFoundError)?;
        let found = files.iter().find(|(name, _)| *name == asked);
        let (_, file) = found.ok_or(NotFoundError)?;
        Ok(file.answer(&request))
    };
    get(make_sync(find).before(auth::admit))
}

/// A file as it is served, the same as long as the process lives.
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

    /// Browsers ask each time whether theirs is still right, since another version of the server may
    /// have another.
    fn answer(&self, request: &Request) -> Response {
        // RFC 9110, section 13.1.2: a list, compared weakly.
        let known = request.headers().get(header::IF_NONE_MATCH);
        let known = known.and_then(|tags| tags.to_str().ok()).unwrap_or("");
        let mut tags = known.split(',').map(str::trim);
        let has_it = tags.any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == self.tag);
        let response = Response::builder()
            .header(header::CACHE_CONTROL, "private, no-cache")
            .header(header::CONTENT_SECURITY_POLICY, POLICY)
            .header(header::REFERRER_POLICY, "no-referrer")
            .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
            .header(header::ETAG, &self.tag);
        match has_it {
            true => response.status(StatusCode::NOT_MODIFIED).finish(),
            false => response.content_type(self.media).body(self.content.clone()),
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
