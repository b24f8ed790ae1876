//! JPEG (ITU-T T.81): the header of a file, read here, and its pixels, decoded by libjpeg-turbo.

use std::borrow::Cow;

use image::RgbImage;

use super::foreign::Foreign;
use super::libjpeg::{self, MAX_SCANS, Position, Problem};
use super::{Error, Pixels};

const FORMAT: &str = "JPEG";

/// What the header of a JPEG tells.
#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// The sampling factors of each component, horizontal and vertical.
    sampling: Vec<(u64, u64)>,
    /// Whether the components arrive in more than one scan. libjpeg then keeps all coefficients.
    several_scans: bool,
    /// The metadata in EXIF's format, without its identifier.
    pub(super) exif: Option<&'a [u8]>,
    /// Where the height is in the file, if it is 0: the marker DNL then has the height.
    missing_height: Option<usize>,
}

impl<'a> Frame<'a> {
    /// Reads the segments up to the first scan.
    ///
    /// # Errors
    /// If the JPEG is of a kind that is not accepted, or a segment is missing or damaged.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Error> {
        let mut markers = Markers::new(file);
        let mut exif = None;
        let mut frame = None;
        while let Some((marker, segment)) = markers.next() {
            match marker {
                Markers::EXIF => {
                    exif = exif.or_else(|| segment.strip_prefix(b"Exif\0\0"));
                }
                0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf | Markers::JPEG_LS => {
                    check_kind(marker, segment)?;
                    let at = markers.at - segment.len();
                    frame = Some((marker, segment, at));
                }
                Markers::SCAN => {
                    let (kind, header, at) =
                        frame.ok_or_else(|| undecodable("its frame header is missing"))?;
                    let progressive = kind == 0xc2;
                    let mut frame = Self::from_segments(header, segment, progressive)
                        .ok_or_else(|| undecodable("its frame header is damaged"))?;
                    frame.exif = exif;
                    if frame.height == 0 {
                        frame.height = markers.number_of_lines().ok_or_else(|| {
                            undecodable("neither its frame header nor a DNL segment has its height")
                        })?;
                        frame.missing_height = Some(at + 1);
                    }
                    return Ok(frame);
                }
                Markers::END => break,
                _ => {}
            }
        }
        Err(Error::without_rows(FORMAT))
    }

    /// From the segments of the frame header (B.2.2) and of the first scan header (B.2.3), after their lengths.
    fn from_segments(frame: &[u8], scan: &[u8], progressive: bool) -> Option<Self> {
        let &[_, h1, h0, w1, w0, components, ref specifications @ ..] = frame else {
            return None;
        };
        let sampling: Vec<_> = specifications
            .chunks_exact(3)
            .map(|component| (u64::from(component[1] >> 4), u64::from(component[1] & 15)))
            .collect();
        let whole = sampling.len() == usize::from(components)
            && sampling
                .iter()
                .all(|(h, v)| (1..=4).contains(h) && (1..=4).contains(v));
        whole.then(|| Self {
            width: u16::from_be_bytes([w1, w0]).into(),
            height: u16::from_be_bytes([h1, h0]).into(),
            sampling,
            several_scans: progressive || scan.first() < Some(&components),
            exif: None,
            missing_height: None,
        })
    }

    /// Bytes that are in memory besides the pixels and the file.
    pub(super) fn aside(&self, file: &[u8]) -> u64 {
        let copied = if self.missing_height.is_some() {
            file.len()
        } else {
            0
        };
        self.memory() + copied as u64
    }

    /// Maximum bytes that libjpeg needs besides the pixels: rows of samples, and 64 coefficients of two bytes for each
    /// block if there are several scans.
    fn memory(&self) -> u64 {
        const TABLES: u64 = 1 << 20;
        const BLOCK: u64 = 8;
        let most = |factor: fn(&(u64, u64)) -> u64| self.sampling.iter().map(factor).max();
        let (h_most, v_most) = (
            most(|&(h, _)| h).unwrap_or(1),
            most(|&(_, v)| v).unwrap_or(1),
        );
        // Units of one row and column of each component's blocks (A.2.4).
        let columns = u64::from(self.width).div_ceil(BLOCK * h_most);
        let rows = u64::from(self.height).div_ceil(BLOCK * v_most);
        let blocks: u64 = self
            .sampling
            .iter()
            .map(|(h, v)| columns * h * rows * v)
            .sum();
        let coefficients = if self.several_scans {
            2 * BLOCK * BLOCK * blocks
        } else {
            0
        };
        // libjpeg keeps ten groups of rows of samples, and one of upsampled rows.
        let samples = 11 * v_most * columns * BLOCK * h_most * self.sampling.len() as u64;
        coefficients + samples + TABLES
    }

    /// Decodes the pixels.
    ///
    /// # Errors
    /// If the file is cut short or damaged.
    pub(super) fn decode(&self, file: &[u8]) -> Result<Pixels, Error> {
        let (width, height) = (self.width, self.height);
        let mut file = Cow::Borrowed(file);
        if let Some(at) = self.missing_height {
            let lines = &height.to_be_bytes()[2..];
            file.to_mut()[at..at + 2].copy_from_slice(lines);
        }
        let decoded = libjpeg::decode(&file, (width, height), self.memory())
            .map_err(|problem| undecodable(&self.describe(problem)))?;
        let picture = RgbImage::from_raw(width, height, decoded.pixels);
        Ok(Pixels {
            picture: picture.expect("libjpeg::decode returns 3 * width * height bytes"),
            has_end: decoded.has_end,
        })
    }

    fn describe(&self, problem: Problem) -> String {
        let rows = |Position { scan, rows }| {
            let height = self.height;
            if self.several_scans {
                format!("in scan {scan}, after {rows} of {height} rows")
            } else {
                format!("after {rows} of {height} rows")
            }
        };
        match problem {
            Problem::CutShort(at) => format!("it is cut short {}", rows(at)),
            Problem::Damaged(at) => format!("its data is damaged {}", rows(at)),
            Problem::TooManyScans => {
                format!("it has more than {MAX_SCANS} scans, the limit; save it again")
            }
            Problem::WithoutComponent => "a colour component is in none of its scans".to_owned(),
            Problem::WithoutTable => "a Huffman or quantisation table is missing".to_owned(),
            Problem::UnsupportedSampling => {
                "its chroma subsampling is not supported; save it with 4:4:4, 4:2:2 or \
                                             4:2:0 subsampling"
                    .to_owned()
            }
            Problem::DamagedHeader => "a segment is damaged".to_owned(),
        }
    }
}

fn undecodable(problem: &str) -> Error {
    Error::undecodable(FORMAT, problem)
}

/// Whether a file has the end marker, after its first scan: a thumbnail in a segment has its own.
pub(super) fn has_end(file: &[u8]) -> bool {
    let mut markers = Markers::new(file).skip_while(|(marker, _)| *marker != Markers::SCAN);
    markers.any(|(marker, _)| marker == Markers::END)
}

/// Refuses by name the kinds of frames (table B.1) that are not accepted.
fn check_kind(marker: u8, segment: &[u8]) -> Result<(), Error> {
    const SAVE: &str = "save it as a baseline or progressive JPEG of 8 bits per sample";
    let what = match (marker, segment.first()) {
        (Markers::JPEG_LS, _) => "a JPEG-LS file",
        (0xc3 | 0xc7 | 0xcb | 0xcf, _) => "a lossless JPEG",
        (0xc5 | 0xc6 | 0xcd | 0xce, _) => "a hierarchical JPEG",
        (0xc9 | 0xca, _) => {
            return Err(Error::Unsupported(Foreign {
                what: "a JPEG with arithmetic coding",
                advice: "convert it to Huffman coding: jpegtran -copy all FILE > picture.jpg",
            }));
        }
        (_, Some(12)) => "a JPEG of 12 bits per sample",
        _ => {
            return match segment.get(5) {
                Some(1 | 3 | 4) | None => Ok(()),
                Some(components) => Err(undecodable(&format!(
                    "it has {components} components; 1 (grey), 3 (colour) and 4 (CMYK) are accepted"
                ))),
            };
        }
    };
    Err(Error::Unsupported(Foreign { what, advice: SAVE }))
}

/// The markers of a JPEG with their segments (B.1.1), up to the end of the file. Segments come without their lengths.
struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;
    const NUMBER_OF_LINES: u8 = 0xdc;
    const EXIF: u8 = 0xe1;
    const JPEG_LS: u8 = 0xf7;

    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The height in the segment DNL (B.2.5), which follows the first scan.
    fn number_of_lines(&mut self) -> Option<u32> {
        let (_, segment) = self.find(|(marker, _)| *marker == Self::NUMBER_OF_LINES)?;
        let lines = u16::from_be_bytes(*segment.first_chunk()?);
        (lines > 0).then(|| lines.into())
    }
}

impl<'a> Iterator for Markers<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // The next marker, also in the data of a scan, where a zero escapes 0xff.
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)? + 1;
            let marker = *self.bytes.get(self.at)?;
            match marker {
                // A fill byte, which may begin a marker; an escape; markers without a segment.
                0xff => {}
                0x00 | 0x01 | 0xd0..=0xd8 => self.at += 1,
                Self::END => {
                    self.at += 1;
                    return Some((marker, &[]));
                }
                _ => {
                    let rest = &self.bytes[self.at + 1..];
                    let length = usize::from(u16::from_be_bytes(*rest.first_chunk()?));
                    let segment = rest.get(2..length)?;
                    self.at += 1 + length;
                    return Some((marker, segment));
                }
            }
        }
    }
}
