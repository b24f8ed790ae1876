//! Pickles of up to a megabyte, made from short ones. The first byte is the power of two by which a part of the rest
//! is repeated, the second and third are the start and the length of that part.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_fuzz::pth::read_both;

/// Maximum bytes of the repeated part.
const LONGEST: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    let &[power, start, length, ref pickle @ ..] = bytes else {
        return;
    };
    let (before, rest) = pickle.split_at(pickle.len().min(start.into()));
    let (part, after) = rest.split_at(rest.len().min(length.into()));
    let times = (1_usize << (power % 21)).min(LONGEST / part.len().max(1));
    read_both(&[before, &part.repeat(times), after].concat());
});
