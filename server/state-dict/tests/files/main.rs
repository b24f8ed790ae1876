//! What is read, what is refused, and that no file can do harm.
//!
//! The files named `variants`, `small`, `checkpoint` and `whole` in `tests/data` come from `PyTorch`
//! (`make_weights_variants.py` and `make_checkpoints.py` there tell how). All others are built here, byte by byte, by
//! `build`.

mod archives;
mod build;
mod converted;
mod damaged;
mod entries;
mod hostile;
mod legacy;
mod objects;
mod refused;
mod saved_by_torch;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use state_dict::{Error, ErrorKind, StateDict};

/// A file in `tests/data`.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name)
}

/// The state dict in those bytes.
#[track_caller]
fn read(bytes: Vec<u8>) -> StateDict {
    StateDict::from_bytes(bytes).unwrap_or_else(|error| panic!("{error}"))
}

/// The error for those bytes, which must be quick, and fit for a log.
#[track_caller]
fn refusal(bytes: Vec<u8>) -> Error {
    let start = Instant::now();
    let error = StateDict::from_bytes(bytes).expect_err("the bytes must be refused");
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "refused after {:?}",
        start.elapsed()
    );
    let message = error.to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
    assert!(message.len() < 1000, "{} bytes: {message}", message.len());
    error
}

/// Asserts that the bytes are refused with these words.
#[track_caller]
fn assert_refused(bytes: Vec<u8>, words: &[&str]) {
    let message = refusal(bytes).to_string();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

/// Asserts that the bytes are refused because all that they contain was made by `global`.
#[track_caller]
fn assert_object(bytes: Vec<u8>, global: &str) {
    let error = refusal(bytes);
    let ErrorKind::Object { name, .. } = error.kind() else {
        panic!("another error: {error}");
    };
    assert_eq!(*name, format!("`{global}`"));
    assert!(error.to_string().contains("nothing was run"), "{error}");
}
