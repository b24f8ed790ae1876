//! A picture's file: its bytes, its header, its pixels.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

use anyhow::Context as _;
use image::RgbImage;
use ssd_detector::picture::{Header, lacks_end};

/// The maximum length of a picture's file, in bytes.
const MAX_FILE_BYTES: u64 = 256 << 20;

/// The maximum size of a picture, in pixels.
const MAX_PIXELS: u64 = 200_000_000;

/// Decodes a picture's file, and turns the pixels upright according to the EXIF orientation.
///
/// # Errors
/// If the file is missing, damaged, cut short, larger than 256 MB, or has more than 200 million pixels.
pub fn pixels(path: &Path) -> anyhow::Result<RgbImage> {
    let read = || {
        let bytes = bytes(path)?;
        anyhow::Ok(Header::read(&bytes, MAX_PIXELS)?.decode(&bytes)?.picture)
    };
    read().with_context(|| {
        format!(
            "{} cannot be decoded; replace the picture, or remove it and its labels from the data set",
            path.display()
        )
    })
}

/// The bytes of a picture's file.
pub(super) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    super::read(path, MAX_FILE_BYTES).context("the file cannot be read")
}

/// Reads the header of a picture. Decodes pixels only if the end of the file is missing, to see whether rows are too.
pub(super) fn header(bytes: &[u8]) -> anyhow::Result<Header> {
    let header = Header::read(bytes, MAX_PIXELS)?;
    if lacks_end(bytes)? {
        header.decode(bytes)?;
    }
    Ok(header)
}

/// The length and a hash of a file's bytes. Files that differ nearly always have different fingerprints.
pub(super) fn fingerprint(bytes: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len(), hasher.finish())
}
