//! Threads of this crate. They help the thread that calls, but it does not wait for one that the system runs late: where
//! other programs use the processor too, that would take longer than the work itself.

use std::cell::RefCell;
use std::hint;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use super::place::{Place, here};
use super::threads::Job;

/// How long a thread waits actively before it sleeps: longer than from one operation to the next. Meanwhile it takes the
/// processor from others.
const ACTIVE: Duration = Duration::from_micros(150);

/// In the state: helpers may join. The rest of the state is the number of helpers that have joined, times [`HELPER`].
const OPEN: usize = 1;
const HELPER: usize = 2;

/// Calls `share` with 0 on this thread, and with each other number below `count` on a helper of its own, if that runs
/// before this thread's call returns. A number's thread is the same in all calls from one thread.
///
/// # Panics
/// If `share` panics on any thread.
pub(super) fn run(count: usize, share: &(dyn Fn(usize) + Sync)) {
    thread_local! {
        static TEAM: RefCell<Team> = RefCell::new(Team::new(1));
    }
    TEAM.with_borrow_mut(|team| {
        if team.count != count {
            *team = Team::new(count);
        }
        team.run(share);
    });
}

/// A thread's helpers.
struct Team {
    /// The numbers of its calls: one for each helper, and the caller's. If the system refused a thread, there are fewer
    /// helpers.
    count: usize,
    shared: Arc<Shared>,
    helpers: Vec<Helper>,
}

struct Helper {
    state: Arc<HelperState>,
    thread: JoinHandle<()>,
    /// The processor that it is kept off.
    off: Option<usize>,
}

#[derive(Default)]
struct HelperState {
    /// It waits to be woken.
    sleeps: AtomicBool,
    /// Known when it runs, if the system tells.
    place: OnceLock<Place>,
}

impl Helper {
    /// Keeps it off the caller's processor. In virtual machines, Linux often wakes a helper there although another processor
    /// has nothing to do; then it delays the caller.
    fn keep_off(&mut self, processor: Option<usize>) {
        if self.off != processor
            && let Some(place) = self.state.place.get()
            && let Some(number) = processor
        {
            place.keep_off(number);
            self.off = processor;
        }
    }
}

struct Shared {
    /// The number of calls so far.
    calls: Alone<AtomicUsize>,
    /// [`OPEN`] and the number of [`HELPER`]s.
    state: Alone<AtomicUsize>,
    /// A [`Job`] while helpers may join or have joined.
    job: AtomicPtr<Job<'static>>,
    /// The helpers should end.
    ends: AtomicBool,
    caller: Thread,
}

/// In cache lines of its own: threads that wait for it do not delay writes to its neighbours.
#[repr(align(128))]
struct Alone<T>(T);

impl<T> Deref for Alone<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Team {
    /// For calls with `count` numbers.
    fn new(count: usize) -> Self {
        let shared = Arc::new(Shared {
            calls: Alone(AtomicUsize::new(0)),
            state: Alone(AtomicUsize::new(0)),
            job: AtomicPtr::default(),
            ends: AtomicBool::new(false),
            caller: thread::current(),
        });
        let helper = |number| {
            let (shared, state) = (Arc::clone(&shared), Arc::<HelperState>::default());
            let own = Arc::clone(&state);
            let named = thread::Builder::new().name(format!("pass-{number}"));
            let thread = named.spawn(move || shared.help(number, &own)).ok()?;
            Some(Helper {
                state,
                thread,
                off: None,
            })
        };
        let helpers = (1..count).map_while(helper).collect();
        Self {
            count,
            shared,
            helpers,
        }
    }

    fn run(&mut self, share: &(dyn Fn(usize) + Sync)) {
        let here = here();
        for helper in &mut self.helpers {
            helper.keep_off(here);
        }
        let job = Job::new(share);
        let shared = &*self.shared;
        shared
            .job
            .store((&raw const job).cast_mut().cast(), Ordering::Relaxed);
        shared.state.store(OPEN, Ordering::Release);
        shared.calls.fetch_add(1, Ordering::SeqCst);
        for helper in &self.helpers {
            if helper.state.sleeps.load(Ordering::SeqCst) {
                helper.thread.thread().unpark();
            }
        }
        job.do_share(0);
        // From here on nobody joins.
        shared.state.fetch_sub(OPEN, Ordering::Relaxed);
        wait_actively(|| shared.state.load(Ordering::Acquire) == 0);
        while shared.state.load(Ordering::Acquire) != 0 {
            thread::park();
        }
        job.end();
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        self.shared.calls.fetch_add(1, Ordering::SeqCst);
        for Helper { thread, .. } in self.helpers.drain(..) {
            thread.thread().unpark();
            // It catches panics.
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// A helper's life.
    fn help(&self, number: usize, state: &HelperState) {
        if let Some(place) = Place::of_this_thread() {
            // Nothing else sets it.
            let _ = state.place.set(place);
        }
        let sleeps = &state.sleeps;
        let mut seen = 0;
        loop {
            let is_new = || self.calls.load(Ordering::SeqCst) != seen;
            if !wait_actively(is_new) {
                sleeps.store(true, Ordering::SeqCst);
                while !is_new() {
                    thread::park();
                }
                sleeps.store(false, Ordering::SeqCst);
            }
            seen = self.calls.load(Ordering::SeqCst);
            if self.ends.load(Ordering::Relaxed) {
                return;
            }
            if self.join() {
                // SAFETY: `run` does not return, and its job lives, until all that have joined have left.
                #[expect(unsafe_code, reason = "the job lives shorter than the thread")]
                let job = unsafe { &*self.job.load(Ordering::Relaxed) };
                job.do_share(number);
                if self.state.fetch_sub(HELPER, Ordering::Release) == HELPER {
                    self.caller.unpark();
                }
            }
        }
    }

    /// Joins the job, if helpers may.
    fn join(&self) -> bool {
        let join = |state| (state & OPEN != 0).then_some(state + HELPER);
        let (success, failure) = (Ordering::Acquire, Ordering::Relaxed);
        self.state.fetch_update(success, failure, join).is_ok()
    }
}

/// Waits until something is so; `false` if that takes too long.
fn wait_actively(is_so: impl Fn() -> bool) -> bool {
    const STEPS: usize = 32;
    let mut begun = None;
    loop {
        for _ in 0..STEPS {
            if is_so() {
                return true;
            }
            hint::spin_loop();
        }
        if begun.get_or_insert_with(Instant::now).elapsed() > ACTIVE {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn the_caller_and_its_helpers_do_all_items_once_in_every_call() {
        for count in [1, 4, 2, 3] {
            for items in 0..300 {
                let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
                run(count, &|_| {
                    while next.fetch_add(1, Ordering::Relaxed) < items {
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                });
                assert_eq!(done.into_inner(), items, "{count} threads");
            }
        }
    }

    #[test]
    fn helpers_that_sleep_wake_up() {
        for _ in 0..20 {
            thread::sleep(3 * ACTIVE);
            let helpers = AtomicUsize::new(0);
            run(2, &|number| {
                helpers.fetch_add(number, Ordering::Relaxed);
                let begun = Instant::now();
                // The helper has no other way to join than to wake up.
                while helpers.load(Ordering::Relaxed) == 0 {
                    assert!(begun.elapsed() < Duration::from_mins(1), "it sleeps on");
                    thread::yield_now();
                }
            });
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_helper_keeps_off_the_callers_processor() {
        use std::sync::Mutex;

        use rustix::thread::sched_getaffinity;

        let processors = || sched_getaffinity(None).unwrap().count();
        let allowed = Mutex::new(None);
        // In its first call, a helper may not be known yet.
        for _ in 0..2 {
            *allowed.lock().unwrap() = None;
            run(2, &|number| {
                if number == 1 {
                    *allowed.lock().unwrap() = Some(processors());
                }
                while allowed.lock().unwrap().is_none() {
                    thread::yield_now();
                }
            });
        }
        let expected = processors().saturating_sub(1).max(1);
        assert_eq!(*allowed.lock().unwrap(), Some(expected));
    }

    #[test]
    fn a_panic_of_the_caller_or_of_a_helper_is_the_callers() {
        for wrong in 0..2 {
            let joined = AtomicBool::new(false);
            let panics = || {
                run(2, &|number| {
                    joined.fetch_or(number == 1, Ordering::Relaxed);
                    while !joined.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    assert_ne!(number, wrong);
                });
            };
            assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
        }
        run(2, &|_| ());
    }
}
