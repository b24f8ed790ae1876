//! Any bytes after the magic number of the pre-1.6 format.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_fuzz::{pth, read};

fuzz_target!(|bytes: &[u8]| {
    let _ = read(&[pth::MAGIC, bytes].concat());
});
