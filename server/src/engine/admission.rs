//! Permits to wait for the model. Their number is limited, so that no request waits long and memory is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The newest picture's weight in the mean service time is one in `NEWEST`.
const NEWEST: u64 = 8;

/// The cause when all permits are taken.
pub const QUEUE_FULL: &str = "the queue is full";

/// The engine accepts no picture now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Full {
    /// Which limit is reached.
    pub cause: &'static str,
    /// Estimated time until all pictures now in the engine are done.
    pub retry_after: Duration,
}

/// How full the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Pictures in the engine beyond the number of workers.
    pub depth: usize,
    /// The maximum depth.
    pub capacity: usize,
}

/// The permits of a bounded queue; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    permits: Arc<Semaphore>,
    workers: usize,
    queue: usize,
    /// The cause in [`Full`].
    cause: &'static str,
    /// The moving mean of the service time per picture, in microseconds.
    service: Arc<AtomicU64>,
}

impl Admission {
    /// One permit for each worker, and `queue` more. `first` is the initial estimate of the service time.
    pub(super) fn new(workers: usize, queue: usize, cause: &'static str, first: Duration) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(workers + queue)),
            workers,
            queue,
            cause,
            service: Arc::new(AtomicU64::new(micros(first))),
        }
    }

    pub(super) fn admit(&self) -> Result<OwnedSemaphorePermit, Full> {
        let permits = self.permits.clone();
        permits.try_acquire_owned().map_err(|_| self.full())
    }

    /// Whether a permit is free now.
    pub(super) fn has_room(&self) -> Result<(), Full> {
        if self.permits.available_permits() == 0 {
            return Err(self.full());
        }
        Ok(())
    }

    pub(super) fn queue(&self) -> Queue {
        let inside = (self.workers + self.queue).saturating_sub(self.permits.available_permits());
        Queue {
            depth: inside.saturating_sub(self.workers),
            capacity: self.queue,
        }
    }

    /// Records how long a picture took.
    pub(super) fn record(&self, took: Duration) {
        let newest = micros(took);
        let mean = |before: u64| (before * (NEWEST - 1) + newest) / NEWEST;
        // Never fails: the closure always returns a value.
        let _ = self
            .service
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |before| {
                Some(mean(before))
            });
    }

    fn full(&self) -> Full {
        let service = Duration::from_micros(self.service.load(Ordering::Relaxed));
        let rounds = (self.workers + self.queue).div_ceil(self.workers);
        Full {
            cause: self.cause,
            retry_after: service * u32::try_from(rounds).unwrap_or(u32::MAX),
        }
    }
}

/// At most an hour, so that no sum of a few overflows.
fn micros(time: Duration) -> u64 {
    time.min(Duration::from_hours(1)).as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(workers: usize, queue: usize) -> Admission {
        Admission::new(workers, queue, "full", Duration::from_millis(100))
    }

    #[test]
    fn there_is_a_permit_for_each_worker_and_the_queue_and_each_is_given_back() {
        let admission = admission(2, 1);
        let mut permits: Vec<_> = (0..3).map(|_| admission.admit().unwrap()).collect();
        assert!(admission.admit().is_err());
        assert!(admission.has_room().is_err());
        let queue = |depth| Queue { depth, capacity: 1 };
        assert_eq!(admission.queue(), queue(1));
        permits.pop();
        assert_eq!(admission.queue(), queue(0));
        assert!(admission.has_room().is_ok());
        assert!(admission.clone().admit().is_ok());
    }

    #[test]
    fn the_retry_time_is_that_of_all_pictures_in_the_engine() {
        let admission = admission(2, 5);
        // Seven by two workers: four rounds.
        assert_eq!(admission.full().retry_after, Duration::from_millis(400));
        for _ in 0..200 {
            admission.record(Duration::from_millis(300));
        }
        let measured = admission.full().retry_after;
        assert!(measured > Duration::from_millis(1190) && measured <= Duration::from_millis(1200));
    }
}
