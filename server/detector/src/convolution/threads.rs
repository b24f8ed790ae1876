//! Threads that share the work of a convolution: libtorch's own, since threads of another pool would compete with them
//! for the processor. libtorch's threads wait actively for a while after each operation.

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};

/// Who works.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threads {
    /// The thread that calls.
    One,
    /// As many as libtorch uses for an operation (the setting `THREADS`).
    All,
}

impl Threads {
    /// How many threads there are.
    pub fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::All => usize::try_from(tch::get_num_threads()).map_or(1, |count| count.max(1)),
        }
    }

    /// Does the work of each item. Each thread takes the next item when it is done with one.
    pub fn for_each<T>(self, items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        if self.count() == 1 {
            return items.for_each(work);
        }
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
        run_on_all(&|| {
            while let Some(item) = next() {
                work(item);
            }
        });
    }
}

/// Runs `share` once on each of libtorch's threads, and waits for all of them.
///
/// # Panics
/// If `share` panics on any thread.
fn run_on_all(share: &(dyn Fn() + Sync)) {
    #[expect(unsafe_code, reason = "libtorch's threads are reached from C++ only")]
    unsafe extern "C" {
        fn ssd_run_on_all(work: extern "C" fn(*const c_void), context: *const c_void);
    }
    struct Context<'a> {
        share: &'a (dyn Fn() + Sync),
        panic: Mutex<Option<Box<dyn Any + Send>>>,
    }
    extern "C" fn work(context: *const c_void) {
        // SAFETY: `run_on_all` passes a `Context` that lives until all threads are done, and threads may share it.
        #[expect(unsafe_code, reason = "the context passed through C++")]
        let context = unsafe { &*context.cast::<Context>() };
        // A panic must not cross C++.
        if let Err(panic) = catch_unwind(AssertUnwindSafe(context.share)) {
            let mut first = context.panic.lock().unwrap_or_else(PoisonError::into_inner);
            first.get_or_insert(panic);
        }
    }
    let context = Context {
        share,
        panic: Mutex::new(None),
    };
    // SAFETY: the shim calls `work` with this context, and returns when all calls have returned.
    #[expect(unsafe_code, reason = "the call")]
    unsafe {
        ssd_run_on_all(work, (&raw const context).cast());
    }
    let panic = context.panic.into_inner();
    if let Some(panic) = panic.unwrap_or_else(PoisonError::into_inner) {
        resume_unwind(panic);
    }
}
