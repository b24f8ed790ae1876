//! A picture's file without its pixels.

use std::fs::File;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::{Cursor, Read as _};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use image::metadata::Orientation;
use image::{ImageDecoder as _, ImageFormat, ImageReader};
use ssd_server::detector::picture::Header;

/// The longest picture file that is read, in bytes.
const LONGEST_FILE: u64 = 256 << 20;

/// The largest picture that is read, in pixels.
const MOST_PIXELS: u64 = 200_000_000;

/// What is known of a picture without decoding it.
pub(super) struct Seen {
    /// Its sides as they are stored, before it is turned upright.
    pub stored: (u32, u32),
    /// How it is turned upright.
    pub orientation: Orientation,
}

impl Seen {
    /// Whether turning it upright makes columns of its rows.
    pub(super) fn is_turned(&self) -> bool {
        use Orientation as O;
        matches!(
            self.orientation,
            O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH
        )
    }

    /// Its sides, upright.
    pub(super) fn upright(&self) -> (u32, u32) {
        let (w, h) = self.stored;
        if self.is_turned() { (h, w) } else { (w, h) }
    }
}

/// The bytes of a picture's file.
pub(super) fn bytes(path: &Path) -> anyhow::Result<Vec<u8>> {
    let kind = std::fs::metadata(path).context("it cannot be read")?;
    ensure!(kind.is_file(), "it is no regular file");
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut bytes))
        .context("it cannot be read")?;
    ensure!(
        bytes.len() as u64 <= LONGEST_FILE,
        "the file is longer than {} MB",
        LONGEST_FILE >> 20
    );
    Ok(bytes)
}

/// Reads the header, and looks whether the file's end is there.
pub(super) fn inspect(bytes: &[u8]) -> anyhow::Result<Seen> {
    // The server's reader is guarded against decoders that panic; what it has read, the next line can.
    Header::read(bytes, MOST_PIXELS)?;
    let format = image::guess_format(bytes)?;
    if is_cut_short(format, bytes) {
        bail!("the picture is cut short: its end is missing");
    }
    let mut decoder = ImageReader::with_format(Cursor::new(bytes), format).into_decoder()?;
    Ok(Seen {
        stored: decoder.dimensions(),
        orientation: decoder.orientation().unwrap_or(Orientation::NoTransforms),
    })
}

/// A number by which files that differ are told apart, nearly always.
pub(super) fn fingerprint(bytes: &[u8]) -> (usize, u64) {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    (bytes.len(), hasher.finish())
}

/// Whether the end of the file is missing, as far as that shows without decoding; for the other formats it
/// does not.
fn is_cut_short(format: ImageFormat, bytes: &[u8]) -> bool {
    match format {
        ImageFormat::Jpeg => !jpeg_ends(bytes),
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

/// Whether a JPEG file has a scan and its end marker after it (ISO/IEC 10918-1, B.1.1). A thumbnail in the
/// segments before has an end too, which is why they are passed over.
fn jpeg_ends(bytes: &[u8]) -> bool {
    const SCAN: u8 = 0xda;
    let mut at = 2;
    while let Some(&[mark, marker, high, low]) = bytes.get(at..at + 4) {
        if mark != 0xff || marker == 0xff {
            // Filling between segments.
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
