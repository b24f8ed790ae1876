//! Threads that share the work of an operation.

use std::any::Any;
use std::collections::VecDeque;
use std::ffi::c_void;
use std::iter;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

use super::team;

/// Who works.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Threads {
    /// Threads of this crate, as many as libtorch uses for an operation (the setting `THREADS`).
    Own,
    /// libtorch's. They wait actively for a while after each operation, so that other threads beside them would compete
    /// with them for the processor: only for operations between those of libtorch.
    Libtorch,
}

impl Threads {
    /// How many threads there are.
    pub fn count() -> usize {
        usize::try_from(tch::get_num_threads()).map_or(1, |count| count.max(1))
    }

    /// Items to divide work into: three for each thread, so that one that is late leaves some.
    pub fn items() -> usize {
        3 * Self::count()
    }

    /// Does the work of each item, as [`share`](Self::share) divides it.
    pub fn for_each<T: Send>(self, items: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
        self.share(items, |items| items.for_each(&work));
    }

    /// Calls `work` on each thread with the items that are its work. A thread begins with its own part of the items,
    /// which is the same in each call with as many items: what it wrote in one operation is in its cache when it reads
    /// that in the next one. Then it takes what others have left.
    pub fn share<T: Send>(
        self,
        mut items: impl Iterator<Item = T>,
        work: impl Fn(&mut dyn Iterator<Item = T>) + Sync,
    ) {
        let count = Self::count();
        if count == 1 {
            return work(&mut items);
        }
        let mut items: VecDeque<T> = items.collect();
        let length = items.len();
        let parts = (0..count).rev().map(|part| length * part / count);
        let mut queues: Vec<_> = parts
            .map(|first| Mutex::new(items.split_off(first)))
            .collect();
        queues.reverse();
        let lock = |queue: &Mutex<VecDeque<T>>, next: fn(&mut VecDeque<T>) -> Option<T>| {
            next(&mut queue.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let run = match self {
            Self::Own => team::run,
            Self::Libtorch => run_in_libtorch,
        };
        run(count, &|thread| {
            let own = || lock(&queues[thread], VecDeque::pop_front);
            let left = || {
                queues
                    .iter()
                    .find_map(|queue| lock(queue, VecDeque::pop_back))
            };
            work(&mut iter::from_fn(|| own().or_else(left)));
        });
    }
}

/// What several threads do, each with a number of its own.
pub(super) struct Job<'a> {
    share: &'a (dyn Fn(usize) + Sync),
    /// The first one.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl<'a> Job<'a> {
    pub fn new(share: &'a (dyn Fn(usize) + Sync)) -> Self {
        Self {
            share,
            panic: Mutex::new(None),
        }
    }

    /// Does the share of a thread, and keeps its panic.
    pub fn do_share(&self, number: usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.share)(number))) {
            let mut first = self.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
    }

    /// Passes on the first panic, when all threads are done.
    ///
    /// # Panics
    /// If the share of a thread did.
    pub fn end(self) {
        let panic = self.panic.into_inner();
        if let Some(panic) = panic.unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }
}

/// Runs `share` with each number below `count` on a thread of libtorch's, and waits for all. A number's thread is the
/// same in all calls.
///
/// # Panics
/// If `share` panics on any thread.
fn run_in_libtorch(count: usize, share: &(dyn Fn(usize) + Sync)) {
    #[expect(unsafe_code, reason = "libtorch's threads are reached from C++ only")]
    unsafe extern "C" {
        fn ssd_run_on_all(
            count: usize,
            work: extern "C" fn(*const c_void, usize),
            context: *const c_void,
        );
    }
    extern "C" fn work(context: *const c_void, number: usize) {
        // SAFETY: `run_in_libtorch` passes a `Job` that lives until all threads are done, and threads may share it.
        #[expect(unsafe_code, reason = "the context passed through C++")]
        let job = unsafe { &*context.cast::<Job>() };
        // No panic crosses C++: the job keeps it.
        job.do_share(number);
    }
    let job = Job::new(share);
    // SAFETY: the shim calls `work` with this context, and returns when all calls have returned.
    #[expect(unsafe_code, reason = "the call")]
    unsafe {
        ssd_run_on_all(count, work, (&raw const job).cast());
    }
    job.end();
}
