//! Any bytes are a picture or an error; a picture has the size that its header tells, and takes no more
//! memory to decode than it is counted for.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_detector::picture::{Encoding, Error, Header};
use ssd_fuzz::{assert_fit_for_a_log, bounded, measured};

/// Pixels.
const LIMIT: u64 = 500_000;

/// Bytes for metadata and decoders' tables, and for a part of a lossy WebP, which may announce 16 MiB that
/// it has not.
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
        "{grown} bytes, counted for {counted}"
    );
    let pixels = pixels?;
    assert_eq!(pixels.as_raw().len() as u64, header.decoded());
    header.fits(Encoding::like(bytes))
}
