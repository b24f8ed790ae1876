//! Shared by the targets: bounds on memory and time, properties of a state dict and of an error, and the files
//! around the fuzzed parts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpu_time::ProcessTime;
use peak_alloc::PeakAlloc;
use state_dict::StateDict;

pub mod pth;

/// Counts Rust's allocations. A growing block counts as the old one and the new one.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most memory of a run so far, in bytes.
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Reads something of `size` bytes, which may take twice as much memory and 64 MiB, and time in proportion. The
/// time is this process's CPU time, so that other processes do not matter.
///
/// # Panics
/// If it takes more.
pub fn bounded<T>(size: usize, read: impl FnOnce() -> T) -> T {
    let begun = ProcessTime::now();
    let (value, grown) = measured(read);
    let took = begun.elapsed();
    let peak = PEAK.fetch_max(grown, Ordering::Relaxed);
    if grown >> 20 > peak >> 20 {
        eprintln!("memory: {} MiB for {size} bytes", grown >> 20);
    }
    assert!(
        grown <= 2 * size + (64 << 20),
        "{grown} bytes of memory for {size} bytes"
    );
    // Instrumented code is some twenty times slower than the server's.
    let limit = Duration::from_secs(4) + Duration::from_micros(10) * u32::try_from(size).unwrap();
    assert!(took <= limit, "{took:?} for {size} bytes");
    value
}

/// Does some work, and returns the peak of the memory that it adds. Of nested measurements, the outer sees the peak
/// since the inner began.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let value = work();
    (value, MEMORY.peak_usage().saturating_sub(before))
}

/// Asserts that a message is one line of text, and not too long.
///
/// # Panics
/// If it is not.
pub fn assert_fit_for_a_log(message: &str) {
    assert!(
        !message.contains(char::is_control) && message.len() < 2000,
        "{} bytes: {message:?}",
        message.len()
    );
}

/// Reads a file of weights, and everything in it. `None` if it is refused.
///
/// # Panics
/// If a property does not hold.
#[must_use]
pub fn read(file: &[u8]) -> Option<StateDict> {
    match bounded(file.len(), || StateDict::from_bytes(file.to_vec())) {
        Ok(weights) => {
            look_at(&weights);
            Some(weights)
        }
        Err(error) => {
            assert_fit_for_a_log(&error.to_string());
            None
        }
    }
}

fn look_at(weights: &StateDict) {
    let skipped = weights.skipped().to_string();
    assert!(
        !skipped.contains(char::is_control) && skipped.len() < 20_000,
        "{skipped:?}"
    );
    let mut elements = 0;
    for tensor in weights.tensors() {
        // Small files may describe 64 MiB; this is enough of it.
        elements += tensor.element_count();
        if elements > 1 << 16 {
            break;
        }
        assert_eq!(tensor.to_f32().len(), tensor.element_count());
        assert_eq!(
            tensor.to_bytes().len(),
            tensor.element_count() * tensor.dtype().size()
        );
        let _ = tensor.stats();
    }
}
