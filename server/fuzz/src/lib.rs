//! What the targets share: bounds on memory and time, what must hold of a state dict and of an error,
//! and the files around the parts that are fuzzed.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cpu_time::ProcessTime;
use peak_alloc::PeakAlloc;
use state_dict::StateDict;

pub mod pth;

/// Counts what Rust allocates; of a block that grows, the old one and the new.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The most that a run has taken so far.
static MOST: AtomicUsize = AtomicUsize::new(0);

/// Reads something of `size` bytes, which may take twice as much memory and 64 MiB, and time in
/// proportion. The time is the processor's: others may keep it busy.
///
/// # Panics
/// Where it takes more.
pub fn bounded<T>(size: usize, read: impl FnOnce() -> T) -> T {
    let begun = ProcessTime::now();
    let (value, grown) = measured(read);
    let took = begun.elapsed();
    let most = MOST.fetch_max(grown, Ordering::Relaxed);
    if grown >> 20 > most >> 20 {
        eprintln!("memory: {} MiB for {size} bytes", grown >> 20);
    }
    assert!(
        grown <= 2 * size + (64 << 20),
        "{grown} bytes of memory for {size} bytes"
    );
    // Instrumented code is some twenty times slower than the server's.
    let patience =
        Duration::from_secs(4) + Duration::from_micros(10) * u32::try_from(size).unwrap();
    assert!(took <= patience, "{took:?} for {size} bytes");
    value
}

/// Does something, and tells the most memory that it has beside what there is already. Of two that are
/// one inside the other, the outer sees what comes after the inner begins.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let value = work();
    (value, MEMORY.peak_usage().saturating_sub(before))
}

/// One line of text, not too long.
///
/// # Panics
/// Where it is not.
pub fn assert_fit_for_a_log(message: &str) {
    assert!(
        !message.contains(char::is_control) && message.len() < 2000,
        "{} bytes: {message:?}",
        message.len()
    );
}

/// Reads a file of weights, and everything in it.
///
/// # Panics
/// Where something is not as it must be.
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
    let mut elements = 0;
    for tensor in weights.tensors() {
        // Small files may describe 64 MiB: enough of that has been asked for.
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
