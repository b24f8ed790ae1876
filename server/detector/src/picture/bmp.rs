//! BMP: OS/2's second header as Windows' first one, and what is cut short.
//!
//! Sources: Microsoft's "Bitmap Storage" and "Bitmap Compression"; for OS/2, the Presentation Manager Programming
//! Reference (`BITMAPINFOHEADER2`).

use super::{Error, Readable};

const FORMAT: &str = "BMP";
/// The length of the file header, before the bitmap's own.
const FILE_HEADER: usize = 14;
/// The length of Windows' first header. OS/2's second one begins with the same fields, and ends after any of them.
const WINDOWS: usize = 40;
const OS2: usize = 64;
/// Ends a bitmap of runs.
const END_OF_RUNS: &[u8] = &[0, 1];

/// The file as the decoder accepts it.
///
/// # Errors
/// If the header is cut short, or the compression is not accepted.
pub(super) fn readable(file: &[u8]) -> Result<Readable<'_>, Error> {
    let mut readable = Readable {
        has_end: true,
        ..Readable::default()
    };
    let Some(header) = Header::read(file)? else {
        readable.file.push(file);
        return Ok(readable);
    };
    header.check_compression()?;
    let mut whole = file;
    let mut end: &[u8] = &[];
    match header.compression {
        1 | 2 => match header.unfinished_runs(file) {
            Ok(Some(length)) => {
                (whole, end) = (&file[..header.pixels + length], END_OF_RUNS);
                readable.has_end = false;
            }
            Ok(None) => {}
            Err(problem) => readable.rows_missing = Some(problem),
        },
        _ => match header.padding(file) {
            Ok(padding) => end = padding,
            Err(problem) => readable.rows_missing = Some(problem),
        },
    }
    if header.os2 {
        readable.file.push(header.as_windows(file));
        whole = whole.get(FILE_HEADER + header.length..).unwrap_or_default();
    }
    readable.file.push(whole);
    readable.file.push(end);
    Ok(readable)
}

/// What the headers tell.
struct Header {
    /// The length of the bitmap's header.
    length: usize,
    /// Whether it is OS/2's second header.
    os2: bool,
    /// Where the pixels begin in the file.
    pixels: usize,
    width: usize,
    height: usize,
    bits: usize,
    compression: u32,
}

impl Header {
    /// `None` if the header is that of OS/2's first version.
    fn read(file: &[u8]) -> Result<Option<Self>, Error> {
        let number = |at: usize| {
            let bytes = file.get(at..).and_then(|rest| rest.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let length = number(FILE_HEADER) as usize;
        let end = FILE_HEADER.saturating_add(length);
        if file.len() < end.max(FILE_HEADER + 4) {
            return Err(Error::without_rows(FORMAT));
        }
        let os2 = length < WINDOWS || length == OS2;
        Ok((length >= 16).then(|| Self {
            length,
            os2,
            pixels: number(10) as usize,
            width: number(18) as usize,
            height: (number(22) as i32).unsigned_abs() as usize,
            bits: (number(28) & 0xffff) as usize,
            // A header that ends earlier means 0.
            compression: if end < 34 { 0 } else { number(30) },
        }))
    }

    fn check_compression(&self) -> Result<(), Error> {
        let kind = match (self.os2, self.compression) {
            (_, 0..=2) | (false, 3 | 6) => return Ok(()),
            (true, 3) => "Huffman coding of OS/2".to_owned(),
            (true, 4) => "24-bit run-length coding of OS/2".to_owned(),
            (false, 4) => "JPEG".to_owned(),
            (false, 5) => "PNG".to_owned(),
            (_, number) => format!("number {number}"),
        };
        let problem =
            format!("its compression ({kind}) is not supported; save it without compression");
        Err(Error::undecodable(FORMAT, problem))
    }

    /// What is missing of the last row's padding.
    fn padding(&self, file: &[u8]) -> Result<&'static [u8], Error> {
        let row = self.width.saturating_mul(self.bits).div_ceil(8);
        let stride = row.next_multiple_of(4);
        let has = file.len().saturating_sub(self.pixels);
        let missing = stride.saturating_mul(self.height).saturating_sub(has);
        if missing <= stride - row {
            Ok(&[0; 3][..missing])
        } else {
            Err(Error::cut_short(
                FORMAT,
                (has + stride - row) / stride,
                self.height,
            ))
        }
    }

    /// The length of the whole runs if all rows are there but no end marker.
    fn unfinished_runs(&self, file: &[u8]) -> Result<Option<usize>, Error> {
        let runs = file.get(self.pixels..).unwrap_or_default();
        match self.rows_of_runs(runs) {
            None => Ok(None),
            Some((rows, _)) if rows < self.height => {
                Err(Error::cut_short(FORMAT, rows, self.height))
            }
            Some((_, length)) => Ok(Some(length)),
        }
    }

    /// The rows that runs fill, and the length of the whole runs, if the end marker is missing.
    fn rows_of_runs(&self, runs: &[u8]) -> Option<(usize, usize)> {
        let (mut x, mut y, mut at) = (0, 0, 0);
        while let Some(&[first, second]) = runs.get(at..at + 2) {
            let count = usize::from(second);
            let length = match (first, second) {
                (0, 0) => {
                    (x, y) = (0, y + 1);
                    2
                }
                (0, 1) => return None,
                (0, 2) => {
                    let Some(&[right, down]) = runs.get(at + 2..at + 4) else {
                        break;
                    };
                    (x, y) = (x + usize::from(right), y + usize::from(down));
                    4
                }
                // Pixels one by one, padded to an even length.
                (0, _) => {
                    x += count;
                    2 + (count * self.bits).div_ceil(8).next_multiple_of(2)
                }
                (run, _) => {
                    x += usize::from(run);
                    2
                }
            };
            if at + length > runs.len() {
                break;
            }
            at += length;
        }
        Some((y + usize::from(x >= self.width), at))
    }

    /// The file header, and Windows' header in place of OS/2's.
    fn as_windows(&self, file: &[u8]) -> Vec<u8> {
        let end = FILE_HEADER + self.length.min(WINDOWS);
        let pixels = (self.pixels + WINDOWS).saturating_sub(self.length) as u32;
        let mut header = [
            &file[..10],
            &pixels.to_le_bytes(),
            &(WINDOWS as u32).to_le_bytes(),
            &file[FILE_HEADER + 4..end],
        ]
        .concat();
        header.resize(FILE_HEADER + WINDOWS, 0);
        header
    }
}
