//! Who may wait for the model: a bounded number, so that nobody waits for long and memory has an end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The part of the measured service time that the newest pass is.
const NEWEST: u64 = 8;

/// The engine is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("every place in the queue is taken")]
pub struct Full {
    /// In which all who are before have been served, as far as can be told.
    pub retry_after: Duration,
}

/// How full the queue is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue {
    /// Pictures in the engine beyond the number of workers.
    pub depth: usize,
    /// The most that there may be.
    pub capacity: usize,
}

/// The places before something that serves one picture after the other; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    workers: usize,
    queue: usize,
    /// Microseconds that a picture takes there, a moving mean.
    service: Arc<AtomicU64>,
}

/// A place, which all the work for a picture holds: it is free again when the last of that has ended.
#[derive(Debug)]
pub(super) struct Place {
    held: Held,
    /// Dropped when nobody waits for the answer any more.
    _caller: Arc<()>,
}

/// One piece of work's share in a place.
#[derive(Debug, Clone)]
pub(super) struct Held {
    _place: Arc<OwnedSemaphorePermit>,
    caller: Weak<()>,
}

impl Place {
    pub(super) fn held(&self) -> Held {
        self.held.clone()
    }
}

impl Held {
    /// Whether somebody still waits for the answer.
    pub(super) fn is_wanted(&self) -> bool {
        self.caller.strong_count() > 0
    }
}

impl Admission {
    /// As many places as there are workers, and `queue` more. The first took `first`.
    pub(super) fn new(workers: usize, queue: usize, first: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(workers + queue)),
            workers,
            queue,
            service: Arc::new(AtomicU64::new(micros(first))),
        }
    }

    /// Takes a place.
    pub(super) fn enter(&self) -> Result<Place, Full> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| self.full())?;
        let caller = Arc::new(());
        Ok(Place {
            held: Held {
                _place: Arc::new(place),
                caller: Arc::downgrade(&caller),
            },
            _caller: caller,
        })
    }

    /// Whether there is a place now.
    pub(super) fn has_room(&self) -> Result<(), Full> {
        match self.places.available_permits() {
            0 => Err(self.full()),
            _ => Ok(()),
        }
    }

    pub(super) fn queue(&self) -> Queue {
        let inside = (self.workers + self.queue).saturating_sub(self.places.available_permits());
        Queue {
            depth: inside.saturating_sub(self.workers),
            capacity: self.queue,
        }
    }

    /// Notes how long a picture took.
    pub(super) fn served(&self, took: Duration) {
        let newest = micros(took);
        let mean = |before: u64| (before * (NEWEST - 1) + newest) / NEWEST;
        // Never fails: the closure always gives a value.
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
            retry_after: service * u32::try_from(rounds).unwrap_or(u32::MAX),
        }
    }
}

/// An hour at most, so that no sum of a few overflows.
fn micros(time: Duration) -> u64 {
    time.min(Duration::from_hours(1)).as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_place_for_each_worker_and_the_queue_and_each_is_given_back() {
        let admission = Admission::new(2, 1, Duration::from_millis(1));
        let mut places: Vec<_> = (0..3).map(|_| admission.enter().unwrap()).collect();
        assert!(admission.enter().is_err());
        assert!(admission.has_room().is_err());
        let queue = |depth| Queue { depth, capacity: 1 };
        assert_eq!(admission.queue(), queue(1));
        places.pop();
        assert_eq!(admission.queue(), queue(0));
        assert!(admission.has_room().is_ok());
        assert!(admission.clone().enter().is_ok());
    }

    #[test]
    fn a_place_is_free_when_the_last_of_its_work_has_ended_and_work_knows_that_nobody_waits() {
        let admission = Admission::new(1, 0, Duration::from_millis(1));
        let place = admission.enter().unwrap();
        let work = place.held();
        assert!(work.is_wanted());
        drop(place);
        assert!(!work.is_wanted());
        assert!(admission.enter().is_err());
        drop(work);
        assert!(admission.enter().is_ok());
    }

    #[test]
    fn the_time_to_come_back_is_that_of_all_who_are_before() {
        let admission = Admission::new(2, 5, Duration::from_millis(100));
        // Seven by two workers: four rounds.
        assert_eq!(admission.full().retry_after, Duration::from_millis(400));
        for _ in 0..200 {
            admission.served(Duration::from_millis(300));
        }
        let measured = admission.full().retry_after;
        assert!(measured > Duration::from_millis(1190) && measured <= Duration::from_millis(1200));
    }
}
