//! Basic authentication (RFC 7617).

use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::{Basic, BasicAuthorization as _};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::context::Context;
use super::problem::Problem;
use crate::config::Login;

/// The user and password of the settings `SECRET_USERNAME` and `SECRET_PASSWORD`.
// For the document only: the route has already required the login.
#[derive(SecurityScheme)]
#[oai(rename = "basic", ty = "basic")]
pub struct Authenticated(#[expect(dead_code, reason = "poem-openapi wants it")] Basic);

/// The hashes of the user name and the password. Comparing hashes takes the same time for every input of
/// any length.
pub struct Credentials {
    username: [u8; 32],
    password: [u8; 32],
}

impl Credentials {
    /// The hashes of a login.
    pub fn new(login: &Login) -> Self {
        Self {
            username: hash(login.username.expose_secret()),
            password: hash(login.password.expose_secret()),
        }
    }

    fn match_login(&self, sent: &Basic) -> bool {
        let username = self.username.ct_eq(&hash(&sent.username));
        let password = self.password.ct_eq(&hash(&sent.password));
        (username & password).into()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// Refuses a request without the correct login.
pub async fn require_login(request: Request) -> poem::Result<Request> {
    let sent = Basic::from_request(&request).map_err(|_| Problem::unauthorized())?;
    if Context::of(&request).credentials.match_login(&sent) {
        Ok(request)
    } else {
        Err(Problem::unauthorized().into())
    }
}
