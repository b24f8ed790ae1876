//! Basic authentication (RFC 7617).

use poem::Request;
use poem_openapi::SecurityScheme;
use poem_openapi::auth::{Basic, BasicAuthorization as _};
use poem_openapi::error::AuthorizationError;
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::config::Login;

/// The user and password of the settings `SECRET_USERNAME` and `SECRET_PASSWORD`.
// Only the check makes one.
#[derive(SecurityScheme)]
#[oai(rename = "basic", ty = "basic", checker = "check")]
pub struct Authenticated(Proof);

pub struct Proof(());

/// User and password as their hashes: comparing those takes the same time whatever was sent, its
/// length included.
#[derive(Clone)]
pub struct Credentials {
    username: [u8; 32],
    password: [u8; 32],
}

impl Credentials {
    /// Those of the settings.
    #[must_use]
    pub fn new(login: &Login) -> Self {
        Self {
            username: hash(login.username.expose_secret()),
            password: hash(login.password.expose_secret()),
        }
    }

    fn admit(&self, sent: &Basic) -> bool {
        let username = self.username.ct_eq(&hash(&sent.username));
        let password = self.password.ct_eq(&hash(&sent.password));
        (username & password).into()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

#[expect(clippy::unused_async, reason = "poem-openapi awaits it")]
async fn check(request: &Request, sent: Basic) -> Option<Proof> {
    let credentials: &Credentials = request.data()?;
    credentials.admit(&sent).then_some(Proof(()))
}

/// Lets no request through but those of that user: for routes that are no operation.
pub async fn admit(request: Request) -> poem::Result<Request> {
    let sent = Basic::from_request(&request)?;
    check(&request, sent).await.ok_or(AuthorizationError)?;
    Ok(request)
}
