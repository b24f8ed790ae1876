//! Any bytes as the pickle of a file, in both formats.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_fuzz::pth::read_both;

fuzz_target!(|bytes: &[u8]| read_both(bytes));
