//! The bytes of all bodies that are held at one time.
//!
//! They are counted as they arrive, not as they are announced: a client that announces much and sends
//! little keeps nobody out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Semaphore;

/// So many bytes; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS))))
    }

    /// What a body takes of it: nothing yet.
    pub(super) fn open(&self) -> Share {
        Share(Arc::new(Held {
            budget: self.0.clone(),
            bytes: AtomicUsize::new(0),
        }))
    }
}

/// What a body takes, given back when the last clone and the last of its [`Share::keep`]s are gone.
#[derive(Debug, Clone)]
pub(super) struct Share(Arc<Held>);

#[derive(Debug)]
struct Held {
    budget: Arc<Semaphore>,
    bytes: AtomicUsize,
}

impl Share {
    /// Takes so many bytes more, unless there are not so many left.
    pub(super) fn take(&self, bytes: usize) -> bool {
        let count = u32::try_from(bytes).unwrap_or(u32::MAX);
        let Ok(permit) = self.0.budget.try_acquire_many(count) else {
            return false;
        };
        permit.forget();
        self.0.bytes.fetch_add(count as usize, Ordering::Relaxed);
        true
    }

    /// The bytes, which hold what they took until they are dropped.
    pub(super) fn keep(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Kept {
            bytes,
            _share: self,
        })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.add_permits(*self.bytes.get_mut());
    }
}

struct Kept {
    bytes: Bytes,
    _share: Share,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_given_back_with_the_last_of_the_bytes() {
        let budget = Budget::new(10);
        let share = budget.open();
        assert!(share.take(6) && share.take(3));
        assert!(!share.take(2));
        let other = budget.open();
        assert!(other.take(1) && !other.take(1));
        let bytes = share.keep(Bytes::from_static(b"picture"));
        assert!(!other.take(9));
        let part = bytes.slice(1..3);
        drop(bytes);
        assert!(!other.take(9));
        drop(part);
        assert!(other.take(9));
    }
}
