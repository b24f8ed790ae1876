//! A picture's file: its bytes, its header, its pixels.

use std::hash::{DefaultHasher, Hasher as _};
use std::path::Path;

use anyhow::Context as _;
use image::metadata::Orientation;
use image::{ImageFormat, RgbImage};
use ssd_detector::picture::Header;

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

/// The size and orientation of a picture, from its header.
pub(super) struct Geometry {
    /// Width and height as stored, before the picture is turned upright.
    pub stored: (u32, u32),
    /// The turn that makes the picture upright.
    pub orientation: Orientation,
}

impl Geometry {
    /// Width and height of the upright picture.
    pub(super) fn upright(&self) -> (u32, u32) {
        use Orientation as O;
        let (w, h) = self.stored;
        match self.orientation {
            O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH => (h, w),
            _ => (w, h),
        }
    }
}

/// The bytes of a picture's file.
pub(super) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    super::read(path, MAX_FILE_BYTES).context("the file cannot be read")
}

/// Reads the header of a picture. Decodes pixels only if the end of the file is missing, to see whether rows are too.
pub(super) fn geometry(bytes: &[u8]) -> anyhow::Result<Geometry> {
    let header = Header::read(bytes, MAX_PIXELS)?;
    if lacks_end(image::guess_format(bytes)?, bytes) {
        header.decode(bytes)?;
    }
    Ok(Geometry {
        stored: header.stored(),
        orientation: header.orientation(),
    })
}

/// The length and a hash of a file's bytes. Files that differ nearly always have different fingerprints.
pub(super) fn fingerprint(bytes: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len(), hasher.finish())
}

/// Whether the end of the file is missing. Only for JPEG, PNG and WebP is this visible without decoding.
fn lacks_end(format: ImageFormat, bytes: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => !has_jpeg_end(bytes),
        ImageFormat::Png => !bytes.windows(4).rev().any(|word| word == b"IEND"),
        ImageFormat::WebP => match bytes.get(4..8) {
            Some(&[a, b, c, d]) => {
                (bytes.len() as u64) < u64::from(u32::from_le_bytes([a, b, c, d])) + 8
            }
            _ => true,
        },
        _ => false,
    }
}

/// Whether a JPEG file has a scan, and the end marker after it (ISO/IEC 10918-1, B.1.1). Skips the segments before the
/// scan: a thumbnail in one of them has its own end marker.
fn has_jpeg_end(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[mark, marker, high, low]) = bytes.get(at..at + 4) {
        if mark != 0xff || marker == 0xff {
            // Fill bytes between segments.
            at += 1;
        } else if marker == SCAN {
            let rest = &bytes[at..];
            return rest.windows(2).any(|pair| pair == [0xff, 0xd9]);
        } else {
            at += 2 + usize::from(u16::from_be_bytes([high, low]));
        }
    }
    false
}
