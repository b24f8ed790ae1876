//! Limits on memory and threads for decoding, and on memory for annotated pictures.
//!
//! Decoded pictures take most of the memory. Apart from the forward pass, decoding takes most of the time.
//! Small and large pictures have separate limits, so that a large picture delays only other large ones.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::admission::{Admission, Full};
use super::{Error, blocking};

/// The limits; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Decoding {
    small: Lane,
    large: Lane,
    /// Permits to wait for the large lane: half as many as the engine's, so that small pictures get the rest.
    large_queue: Admission,
    /// For encoded pictures that clients have not read yet.
    unread: Lane,
}

/// The kilobytes and threads that may be in use at once.
#[derive(Debug, Clone)]
struct Lane {
    memory: Arc<Semaphore>,
    kilobytes: u32,
    threads: Arc<Semaphore>,
}

impl Lane {
    fn new(kilobytes: u32, threads: usize) -> Self {
        Self {
            memory: Arc::new(Semaphore::new(kilobytes.max(1) as usize)),
            kilobytes: kilobytes.max(1),
            threads: Arc::new(Semaphore::new(threads.max(1))),
        }
    }

    /// A picture that needs more memory than the lane has gets all of the lane's memory.
    fn cost(&self, kilobytes: u32) -> u32 {
        kilobytes.min(self.kilobytes)
    }
}

/// Memory for one decoded picture, and access to its lane's threads.
#[derive(Debug)]
pub(super) struct DecodePermit {
    threads: Arc<Semaphore>,
    _memory: Option<OwnedSemaphorePermit>,
    _queue: Option<OwnedSemaphorePermit>,
}

impl Decoding {
    /// Bytes of a decoded pixel in most decoders.
    const PIXEL: u64 = 4;
    /// A small picture takes at most an eighth of the large lane's memory. All small pictures together get
    /// half as much memory as the large lane, and unread pictures an eighth as much.
    const SMALL: u32 = 8;
    /// The initial estimate of the decoding time of a large picture.
    const FIRST: Duration = Duration::from_secs(1);

    /// Limits for pictures of up to `pixels` pixels, with `permits` engine permits and `threads` decoding
    /// threads.
    pub(super) fn new(pixels: u64, permits: usize, threads: usize) -> Self {
        let most = kilobytes(pixels.saturating_mul(Self::PIXEL));
        let cause = "too many large pictures are waiting";
        let queue = (permits / 2).saturating_sub(1);
        Self {
            small: Lane::new(most / 2, threads),
            large: Lane::new(most, threads / 2),
            large_queue: Admission::new(1, queue, cause, Self::FIRST),
            unread: Lane::new(most / Self::SMALL, 1),
        }
    }

    fn is_small(&self, kilobytes: u32) -> bool {
        kilobytes <= self.large.kilobytes / Self::SMALL
    }

    /// Waits until a picture of `memory` bytes may be decoded.
    pub(super) async fn enter(&self, memory: u64) -> Result<DecodePermit, Full> {
        let kilobytes = kilobytes(memory);
        let (lane, queue) = if self.is_small(kilobytes) {
            (&self.small, None)
        } else {
            (&self.large, Some(self.large_queue.admit()?))
        };
        let memory = lane.memory.clone();
        Ok(DecodePermit {
            // `None` only if the semaphore were closed, which never happens.
            _memory: memory.acquire_many_owned(lane.cost(kilobytes)).await.ok(),
            threads: lane.threads.clone(),
            _queue: queue,
        })
    }

    /// Records the decoding time of a picture of `memory` bytes.
    pub(super) fn record(&self, memory: u64, took: Duration) {
        if !self.is_small(kilobytes(memory)) {
            self.large_queue.record(took);
        }
    }

    /// Counts an encoded picture as unread until its bytes are dropped. If slow clients fill this memory, only
    /// annotated pictures are refused.
    ///
    /// # Errors
    /// If the limit for unread pictures is reached.
    pub(super) fn unread(&self, bytes: Vec<u8>) -> Result<Bytes, Full> {
        let memory = self.unread.memory.clone();
        let cost = self.unread.cost(kilobytes(bytes.len() as u64));
        let permit = memory.try_acquire_many_owned(cost).map_err(|_| Full {
            cause: "the memory for annotated pictures that clients have not read yet is full",
            retry_after: Self::FIRST,
        })?;
        Ok(Bytes::from_owner(Unread {
            bytes,
            _permit: permit,
        }))
    }
}

impl DecodePermit {
    /// Runs work on a thread of the lane, and returns its result with the permit. If the future is dropped, the
    /// work still holds the permit until it ends.
    pub(super) async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<(T, Self), Error> {
        let thread = self.threads.clone().acquire_owned().await;
        blocking(move || {
            let _thread = thread;
            Ok((work()?, self))
        })
        .await
    }
}

struct Unread {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Unread {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Kilobytes fit into the `u32` of a semaphore.
fn kilobytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn enter(decoding: &Decoding, megabytes: u64) -> Option<Result<DecodePermit, Full>> {
        decoding.enter(megabytes * 1_000_000).now_or_never()
    }

    #[test]
    fn a_huge_picture_delays_no_small_one() {
        let decoding = Decoding::new(50_000_000, 17, 2);
        let huge = enter(&decoding, 200).unwrap().unwrap();
        assert!(enter(&decoding, 160).is_none());
        let small: Vec<_> = (0..4).map(|_| enter(&decoding, 24)).collect();
        assert!(small.iter().all(|permit| matches!(permit, Some(Ok(_)))));
        // All together they have a limit too.
        assert!(enter(&decoding, 24).is_none());
        drop(huge);
        assert!(matches!(enter(&decoding, 160), Some(Ok(_))));
    }

    #[test]
    fn huge_pictures_leave_half_of_the_permits_to_others() {
        let decoding = Decoding::new(50_000_000, 17, 2);
        let _first = enter(&decoding, 200).unwrap().unwrap();
        let mut waiting: Vec<_> = (0..7)
            .map(|_| Box::pin(decoding.enter(200_000_000)))
            .collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        let full = enter(&decoding, 200).unwrap().unwrap_err();
        assert_eq!(full.retry_after, 8 * Decoding::FIRST);
        decoding.record(1000, Duration::ZERO);
        assert_eq!(enter(&decoding, 200).unwrap().unwrap_err(), full);
        waiting.pop();
        assert!(enter(&decoding, 200).is_none());
    }

    #[tokio::test]
    async fn large_pictures_that_are_slow_leave_threads_to_small_ones() {
        let decoding = Decoding::new(50_000_000, 17, 1);
        let (release, released) = std::sync::mpsc::channel::<()>();
        let (started, start) = tokio::sync::oneshot::channel();
        let slow = enter(&decoding, 30).unwrap().unwrap().run(move || {
            let _ = started.send(());
            Ok(released.recv().is_err())
        });
        let slow = tokio::spawn(slow);
        start.await.unwrap();
        let second = enter(&decoding, 30).unwrap().unwrap();
        let mut waiting = Box::pin(second.run(|| Ok(())));
        assert!((&mut waiting).now_or_never().is_none());
        for _ in 0..20 {
            let small = enter(&decoding, 1).unwrap().unwrap();
            small.run(|| Ok(())).await.unwrap();
        }
        assert!((&mut waiting).now_or_never().is_none());
        drop(release);
        assert!(slow.await.unwrap().unwrap().0);
        waiting.await.unwrap();
    }

    #[test]
    fn pictures_that_clients_do_not_read_take_no_memory_of_decoding_and_have_a_limit() {
        let decoding = Decoding::new(8_000_000, 4, 1);
        let unread: Vec<_> = (0..4)
            .map(|_| decoding.unread(vec![7; 1_000_000]))
            .collect();
        assert!(unread.iter().all(Result::is_ok));
        assert!(decoding.unread(vec![7; 1000]).is_err());
        assert!(matches!(enter(&decoding, 32), Some(Ok(_))));
        drop(unread);
        // One that is larger than the budget gets all of it.
        let bytes = decoding.unread(vec![7; 9_000_000]).unwrap();
        assert_eq!((bytes.len(), bytes[0]), (9_000_000, 7));
        assert!(decoding.unread(vec![7]).is_err());
    }

    #[test]
    fn a_picture_that_takes_more_than_there_is_may_still_be_decoded() {
        let decoding = Decoding::new(1000, 1, 1);
        for memory in [1, 4000, 9000, u64::MAX] {
            let permit = decoding.enter(memory).now_or_never();
            assert!(matches!(permit, Some(Ok(_))));
        }
    }
}
