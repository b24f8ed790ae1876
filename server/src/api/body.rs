//! A request's body, bounded in size and time.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use poem::http::header;
use poem::{Body, Request};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::context::Context;
use super::media;
use super::problem::{Kind, Problem};
use super::request_log::Record;

/// When to retry if other requests' bodies fill the memory for bodies.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Bytes that keep the permit for their memory.
pub fn hold(bytes: Bytes, permit: OwnedSemaphorePermit) -> Bytes {
    Bytes::from_owner(Permitted {
        bytes,
        _permit: permit,
    })
}

/// Bytes with the permit for their memory. The permit is released when the last clone is dropped.
struct Permitted {
    bytes: Bytes,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Permitted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The body is larger than `limit` bytes.
pub fn too_large(limit: usize) -> Problem {
    let detail = format!("The body is larger than the limit of {limit} bytes.");
    Problem::new(Kind::BodyTooLarge, detail)
}

/// The body took longer than `timeout`.
pub fn timed_out(timeout: Duration) -> Problem {
    // If REQUEST_TIMEOUT ends first, the time that was left for the body is not a round number.
    let seconds = (timeout.as_secs_f64() * 100.0).round() / 100.0;
    let detail = format!("The body did not arrive within {seconds} seconds.");
    Problem::new(Kind::BodyTimeout, detail)
}

/// Refuses a body by its headers, before any of it is read.
pub fn check_headers(request: &Request) -> Result<(), Problem> {
    media::check_coding(request.headers())?;
    let limit = Context::of(request).options.body_limit;
    let announced: Option<u64> = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

/// Reads the whole body into memory.
pub async fn read_whole(
    request: &Request,
    body: Body,
) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
    let mut whole = BytesMut::new();
    let append = |chunk: &[u8]| {
        whole.extend_from_slice(chunk);
        Ok(())
    };
    let permit = read(request, body, append).await?;
    Ok((whole.freeze(), permit))
}

/// Reads the body, and gives each chunk to `take`. Bytes take permits when they arrive, not when they are announced,
/// so that a client that announces much and sends little cannot lock out others.
pub async fn read(
    request: &Request,
    body: Body,
    mut take: impl FnMut(&[u8]) -> Result<(), Problem>,
) -> Result<OwnedSemaphorePermit, Problem> {
    let (context, record) = (Context::of(request), Record::of(request));
    let (limit, now) = (context.options.body_limit, Instant::now());
    let timeout = context
        .options
        .body_timeout
        .min(context.deadline(request).duration_since(now));
    let mut chunks = pin!(body.into_bytes_stream());
    let mut received = 0;
    let mut permit = acquire(&context.body_bytes, 0)?;
    while let Some(next) = timeout_at(now + timeout, chunks.next())
        .await
        .map_err(|_| timed_out(timeout))?
    {
        let chunk = next.map_err(|error| {
            let detail = format!("The body ended early: {error}.");
            Problem::new(Kind::MalformedBody, detail)
        })?;
        record.received(chunk.len());
        received += chunk.len();
        if received > limit {
            return Err(too_large(limit));
        }
        permit.merge(acquire(&context.body_bytes, chunk.len())?);
        take(&chunk)?;
    }
    record.received_all();
    Ok(permit)
}

/// A permit for bytes in memory, at most `u32::MAX`.
fn acquire(budget: &Arc<Semaphore>, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
    budget
        .clone()
        .try_acquire_many_owned(u32::try_from(bytes).unwrap_or(u32::MAX))
        .map_err(|_| Problem::busy("The memory for request bodies is full.", RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_released_with_the_last_of_the_bytes() {
        let budget = Arc::new(Semaphore::new(10));
        let mut permit = acquire(&budget, 6).unwrap();
        permit.merge(acquire(&budget, 3).unwrap());
        assert!(acquire(&budget, 2).is_err());
        let bytes = hold(Bytes::from_static(b"picture"), permit);
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!(budget.available_permits(), 1);
        drop(part);
        assert_eq!(budget.available_permits(), 10);
    }
}
