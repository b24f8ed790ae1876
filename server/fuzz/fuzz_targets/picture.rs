//! Any bytes are a picture or an error. A picture has the size in its header, and decoding it takes no more memory
//! than `Header::memory` tells.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_detector::picture::{Encoding, Error, Header};
use ssd_fuzz::{assert_fit_for_a_log, bounded, measured};

/// Pixels.
const LIMIT: u64 = 500_000;

/// Bytes for metadata, decoders' tables, and a part of a lossy WebP, which can announce 16 MiB that it does not
/// have.
const SLACK: u64 = 24 << 20;

fuzz_target!(
    init: {
        // As in the server: a decoder that panics has refused a picture.
        drop(std::panic::take_hook());
    },
    |bytes: &[u8]| {
        if let Err(error) = bounded(bytes.len(), || look_at(bytes)) {
            assert_fit_for_a_log(&error.to_string());
        }
    }
);

fn look_at(bytes: &[u8]) -> Result<(), Error> {
    let header = Header::read(bytes, LIMIT)?;
    let (pixels, grown) = measured(|| header.decode(bytes));
    let counted = header.memory();
    assert!(
        grown as u64 <= counted + SLACK,
        "{grown} bytes, {counted} expected"
    );
    let picture = pixels?.picture;
    assert_eq!(picture.as_raw().len() as u64, header.decoded());
    header.fits(Encoding::like(bytes))
}
