//! Any bytes are a state dict or an error.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = ssd_fuzz::read(bytes);
});
