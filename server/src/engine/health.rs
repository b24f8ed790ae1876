//! The health of the model, from its forward passes: it works, fails or hangs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info};

/// After this many failed passes in a row, the cause is neither one picture nor a brief lack of memory.
const BROKEN: u32 = 3;

/// The state of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The last forward pass succeeded.
    Working,
    /// The number of consecutive failed passes, at least 1.
    Failing(u32),
    /// A pass has been running for longer than the limit.
    Hanging,
}

impl Health {
    /// Whether the server should get requests.
    #[must_use]
    pub fn is_ready(self) -> bool {
        self == Self::Working
    }

    /// Whether the process can recover without a restart.
    #[must_use]
    pub fn is_alive(self) -> bool {
        match self {
            Self::Working => true,
            Self::Failing(in_a_row) => in_a_row < BROKEN,
            Self::Hanging => false,
        }
    }
}

/// How many forward passes have ended, by outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passes {
    /// Passes with an output.
    pub ok: u64,
    /// Passes with an error or a panic.
    pub failed: u64,
}

/// Watches the passes of all model threads; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    timeout: Duration,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// When each thread's pass began.
    running: Vec<Option<Instant>>,
    passes: Passes,
    failed_in_a_row: u32,
    /// The health that was last logged.
    logged: Health,
}

impl Monitor {
    /// `threads` is the number of model threads. A pass that takes longer than `timeout` hangs.
    pub(super) fn new(threads: usize, timeout: Duration) -> Self {
        let state = State {
            running: vec![None; threads],
            passes: Passes::default(),
            failed_in_a_row: 0,
            logged: Health::Working,
        };
        Self {
            timeout,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Runs a forward pass on the model thread with the number `thread`.
    pub(super) fn watch<T>(
        &self,
        thread: usize,
        pass: impl FnOnce() -> Result<T, String>,
    ) -> Result<T, String> {
        self.lock().running[thread] = Some(Instant::now());
        let output = pass();
        let mut state = self.lock();
        state.running[thread] = None;
        match &output {
            Ok(_) => {
                state.passes.ok += 1;
                state.failed_in_a_row = 0;
            }
            Err(cause) => {
                state.passes.failed += 1;
                state.failed_in_a_row += 1;
                if state.failed_in_a_row == 1 {
                    error!(
                        cause,
                        "a forward pass failed; /readyz returns 503 until one succeeds"
                    );
                }
            }
        }
        self.log_change(&mut state);
        output
    }

    pub(super) fn health(&self) -> Health {
        let mut state = self.lock();
        self.log_change(&mut state);
        state.logged
    }

    pub(super) fn passes(&self) -> Passes {
        self.lock().passes
    }

    fn log_change(&self, state: &mut State) {
        let hangs = |begun: &Instant| begun.elapsed() > self.timeout;
        let health = if state.running.iter().flatten().any(hangs) {
            Health::Hanging
        } else if state.failed_in_a_row > 0 {
            Health::Failing(state.failed_in_a_row)
        } else {
            Health::Working
        };
        if health != state.logged {
            match health {
                Health::Working => info!("forward passes succeed again"),
                Health::Failing(_) => {}
                Health::Hanging => {
                    error!(limit = ?self.timeout, "a forward pass hangs; /readyz and /livez return 503");
                }
            }
            state.logged = health;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail() -> Result<(), String> {
        Err("no memory".to_owned())
    }

    #[test]
    fn a_failed_pass_makes_unready_and_three_in_a_row_make_dead_until_one_succeeds() {
        let monitor = Monitor::new(2, Duration::from_hours(1));
        for (thread, ready, alive) in [(0, false, true), (1, false, true), (0, false, false)] {
            monitor.watch(thread, fail).unwrap_err();
            let health = monitor.health();
            assert_eq!((health.is_ready(), health.is_alive()), (ready, alive));
        }
        monitor.watch(1, || Ok(())).unwrap();
        assert_eq!(monitor.health(), Health::Working);
        assert_eq!(monitor.passes(), Passes { ok: 1, failed: 3 });
    }

    #[test]
    fn a_pass_hangs_from_the_limit_until_it_returns() {
        let monitor = Monitor::new(1, Duration::ZERO);
        monitor
            .watch(0, || {
                // The clock may not have moved.
                std::thread::sleep(Duration::from_millis(1));
                assert_eq!(monitor.health(), Health::Hanging);
                Ok(())
            })
            .unwrap();
        assert_eq!(monitor.health(), Health::Working);
    }
}
