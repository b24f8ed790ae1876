//! Which processors a thread may run on.

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity};

    /// The number of the processor that this thread runs on.
    #[expect(clippy::unnecessary_wraps, reason = "other systems do not tell it")]
    pub fn here() -> Option<usize> {
        Some(sched_getcpu())
    }

    /// A thread, and the processors that it may run on.
    #[derive(Debug)]
    pub struct Place {
        thread: Pid,
        allowed: CpuSet,
    }

    impl Place {
        /// This thread's; `None` if the system does not tell.
        pub fn of_this_thread() -> Option<Self> {
            Some(Self {
                thread: gettid(),
                allowed: sched_getaffinity(None).ok()?,
            })
        }

        /// Keeps the thread off a processor, if it may run on others.
        pub fn keep_off(&self, processor: usize) {
            let mut others = self.allowed;
            others.unset(processor);
            if others.count() > 0 {
                // Where it is forbidden, the thread runs where it did.
                let _ = sched_setaffinity(Some(self.thread), &others);
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    pub fn here() -> Option<usize> {
        None
    }

    #[derive(Debug)]
    pub struct Place;

    impl Place {
        pub fn of_this_thread() -> Option<Self> {
            None
        }

        pub fn keep_off(&self, _: usize) {}
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::{Place, here};
#[cfg(not(target_os = "linux"))]
pub(super) use other::{Place, here};
