//! Pictures from bytes: recognised by their content, bounded before they are decoded, turned
//! upright. And to bytes again.

use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

/// The formats that are read, for people.
pub const FORMATS: &str = "JPEG, PNG, WebP, BMP or GIF";

/// Why bytes are not a picture that can be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// No bytes at all.
    #[error("the picture is empty (0 bytes)")]
    Empty,
    /// Not a format that is read.
    #[error("the bytes are not a picture in a format that is read: {FORMATS}")]
    Unsupported,
    /// More pixels than allowed, those of more than four bytes counted by their bytes; nothing was
    /// decoded.
    #[error(
        "the picture has {width} x {height} pixels of {bytes} bytes; at most {limit} pixels are read, \
         of four bytes each"
    )]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes of a pixel as the decoder gives it.
        bytes: u64,
        /// The most pixels in all.
        limit: u64,
    },
    /// Damaged or cut short.
    #[error("the {format} picture cannot be decoded: {problem}")]
    Undecodable {
        /// The format's name.
        format: &'static str,
        /// What the decoder found.
        problem: String,
    },
    /// Longer than a picture of the format that is wanted can be; nothing was decoded.
    #[error(
        "the picture has {width} x {height} pixels; a JPEG has at most {LONGEST_JPEG} on a side, a PNG more"
    )]
    TooLong {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// The most pixels on a side of a JPEG picture (ISO/IEC 10918-1, B.2.2: 16 bits).
const LONGEST_JPEG: u32 = 65_535;

/// How good a JPEG is, of 100: so good that edges of text show nothing of it.
const JPEG_QUALITY: u8 = 90;

/// A format that pictures are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Small; pixels are nearly what they were.
    Jpeg,
    /// Every pixel is what it was.
    Png,
}

impl Encoding {
    /// The one that loses nothing that a picture has not lost already: JPEG for a JPEG, else PNG.
    #[must_use]
    pub fn like(bytes: &[u8]) -> Self {
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Self::Jpeg,
            _ => Self::Png,
        }
    }

    /// The bytes of a picture, with nothing of its file but the pixels.
    ///
    /// # Errors
    /// Where the picture is longer than the format allows, or the encoder fails.
    pub fn encode(self, picture: &RgbImage) -> image::ImageResult<Vec<u8>> {
        let mut bytes = Vec::new();
        match self {
            Self::Jpeg => {
                picture.write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, JPEG_QUALITY))
            }
            Self::Png => picture.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png),
        }?;
        Ok(bytes)
    }
}

/// A picture whose header has been read, and nothing else.
#[derive(Debug, Clone)]
pub struct Header {
    format: ImageFormat,
    width: u32,
    height: u32,
    /// Of all pixels as the decoder gives them.
    bytes: u64,
    /// Whether those are three samples of 8 bits.
    rgb: bool,
    orientation: Orientation,
    /// Of all that the decoder keeps beside them.
    aside: u64,
}

/// What a decoder may allocate before it comes to the pixels: for metadata, of which a bomb may be
/// made as well (a PNG's colour profile is deflated).
const METADATA: u64 = 8 << 20;

impl Header {
    /// Recognises the bytes and reads the picture's size, as stored (before it is turned upright).
    ///
    /// # Errors
    /// Where there are no bytes, they are no picture of a format that is read, its header cannot be
    /// read, or it has more than `pixel_limit` pixels.
    pub fn read(bytes: &[u8], pixel_limit: u64) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let format = image::guess_format(bytes)
            .ok()
            .filter(|format| name(*format).is_some())
            .ok_or(Error::Unsupported)?;
        let ((width, height), total, rgb, orientation) = guarded(format, || {
            let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(METADATA);
            reader.limits(limits);
            let mut decoder = reader.into_decoder()?;
            // Damaged metadata is no reason to refuse a picture.
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            let rgb = decoder.color_type() == ColorType::Rgb8;
            Ok((
                decoder.dimensions(),
                decoder.total_bytes(),
                rgb,
                orientation,
            ))
        })?;
        if width == 0 || height == 0 {
            return Err(Error::Undecodable {
                format: name(format).unwrap_or_default(),
                problem: format!("it has {width} x {height} pixels"),
            });
        }
        let pixels = u64::from(width) * u64::from(height);
        let header = Self {
            format,
            width,
            height,
            bytes: total,
            rgb,
            orientation,
            aside: match format {
                ImageFormat::Jpeg => jpeg_aside(bytes, pixels),
                ImageFormat::WebP => webp_aside(bytes, pixels, rgb),
                // A frame that is not as wide as its picture is decoded beside it.
                ImageFormat::Gif => 4 * pixels,
                _ => 0,
            },
        };
        if pixels.max(total.div_ceil(4)) > pixel_limit {
            return Err(Error::TooManyPixels {
                width,
                height,
                bytes: total / pixels,
                limit: pixel_limit,
            });
        }
        Ok(header)
    }

    /// Whether the picture can be written in a format.
    ///
    /// # Errors
    /// Where it is too long.
    pub fn fits(&self, encoding: Encoding) -> Result<(), Error> {
        let (width, height) = (self.width, self.height);
        match encoding {
            Encoding::Jpeg if width.max(height) > LONGEST_JPEG => {
                Err(Error::TooLong { width, height })
            }
            Encoding::Jpeg | Encoding::Png => Ok(()),
        }
    }

    /// Bytes of the picture's pixels once they are decoded.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        3 * u64::from(self.width) * u64::from(self.height)
    }

    /// The most bytes that [`decode`](Self::decode) holds at one time: three a pixel at least, twelve at
    /// most (an animated WebP with alpha; a progressive JPEG of four components has eleven).
    #[must_use]
    pub fn memory(&self) -> u64 {
        let three = self.decoded();
        let converted = if self.rgb { 0 } else { three };
        let turned = if self.turns() { 2 * three } else { three };
        (self.bytes + self.aside.max(converted)).max(turned)
    }

    /// Whether turning the picture upright takes a second one.
    fn turns(&self) -> bool {
        use Orientation as O;
        matches!(
            self.orientation,
            O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH
        )
    }

    /// Decodes the picture (of an animation the first), 8 bits a sample, upright. What is
    /// transparent keeps its colour, as in the reference implementations: alpha is dropped.
    ///
    /// # Errors
    /// Where the bytes are damaged or cut short.
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, Error> {
        if self.format == ImageFormat::Jpeg {
            jpeg_is_sound(bytes)?;
        }
        guarded(self.format, || self.pixels(bytes))
    }

    fn pixels(&self, bytes: &[u8]) -> image::ImageResult<RgbImage> {
        let mut reader = ImageReader::with_format(Cursor::new(bytes), self.format);
        reader.limits(self.limits());
        let decoder = reader.into_decoder()?;
        // Made small before it is turned, which takes a second copy.
        let mut picture = DynamicImage::ImageRgb8(DynamicImage::from_decoder(decoder)?.into_rgb8());
        picture.apply_orientation(self.orientation);
        Ok(picture.into_rgb8())
    }

    /// Decoders keep a second copy of the pixels, and tables of their own.
    fn limits(&self) -> Limits {
        let mut limits = Limits::no_limits();
        limits.max_image_width = Some(self.width);
        limits.max_image_height = Some(self.height);
        limits.max_alloc = Some(self.bytes * 2 + METADATA);
        limits
    }
}

fn name(format: ImageFormat) -> Option<&'static str> {
    Some(match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::Png => "PNG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        _ => return None,
    })
}

/// A decoder that panics, on a file that its authors never thought of, has refused it.
fn guarded<T>(
    format: ImageFormat,
    decode: impl FnOnce() -> image::ImageResult<T>,
) -> Result<T, Error> {
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| undecodable(format, &error)),
        Err(_) => Err(Error::Undecodable {
            format: name(format).unwrap_or_default(),
            problem: "its decoder gave up".to_owned(),
        }),
    }
}

fn undecodable(format: ImageFormat, error: &image::ImageError) -> Error {
    use image::ImageError as E;
    let problem = match error {
        E::Decoding(error) => match std::error::Error::source(error) {
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        },
        E::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "it is cut short".to_owned()
        }
        other => other.to_string(),
    };
    Error::Undecodable {
        format: name(format).unwrap_or_default(),
        problem: one_line(&problem),
    }
}

/// A decoder's message, of which some have several lines and some show what the file holds.
fn one_line(message: &str) -> String {
    let words = message.split(|letter: char| letter.is_whitespace() || letter.is_control());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join(" ").chars().take(200).collect()
}

/// A JPEG's markers and what is in their segments, length first (ISO/IEC 10918-1, B.1.1), up to where
/// the file is cut short.
struct Markers<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Markers<'a> {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    const SCAN: u8 = 0xda;

    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Markers<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            // Between segments, and in the scans' data, which escapes 0xff by a zero: the next marker.
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)? + 1;
            let marker = *self.bytes.get(self.at)?;
            match marker {
                // An escape; a fill byte, which may itself begin a marker; markers that stand alone.
                0xff => {}
                0x00 | 0x01 | 0xd0..=0xd7 | Self::START => self.at += 1,
                Self::END => {
                    self.at += 1;
                    return Some((marker, &[]));
                }
                _ => {
                    let rest = &self.bytes[self.at + 1..];
                    let length = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
                    let segment = rest.get(..usize::from(length))?;
                    self.at += 1 + segment.len();
                    return Some((marker, segment));
                }
            }
        }
    }
}

/// The most scans of a JPEG file; encoders make about ten. Each costs the decoder a row of blocks at least,
/// and the file a dozen bytes.
const MOST_SCANS: usize = 100;

/// That a JPEG file goes on to its end marker, as one that was cut short does not (the decoder would fill
/// what is missing with grey, as a browser does), and that its scans are not too many, which the decoder
/// counts in progressive files alone.
fn jpeg_is_sound(bytes: &[u8]) -> Result<(), Error> {
    let (mut whole, mut scans) = (false, 0);
    for (marker, _) in Markers::new(bytes) {
        whole |= marker == Markers::END;
        scans += usize::from(marker == Markers::SCAN);
    }
    let problem = match (whole, scans) {
        (true, ..=MOST_SCANS) => return Ok(()),
        (true, _) => format!("it has {scans} scans, more than {MOST_SCANS}"),
        (false, _) => "it is cut short: its end is missing".to_owned(),
    };
    Err(Error::Undecodable {
        format: "JPEG",
        problem,
    })
}

/// What the JPEG decoder keeps beside the pixels: the file, twice, and, of one that has not all of a block
/// in one scan, progressive or not, the coefficients of every component, in 16 bits.
fn jpeg_aside(bytes: &[u8], pixels: u64) -> u64 {
    let (mut frame, mut coefficients) = (None, 0);
    for (marker, segment) in Markers::new(bytes) {
        match marker {
            // Tables of Huffman codes and arithmetic conditioning, and an extension.
            0xc4 | 0xc8 | 0xcc => {}
            0xc0..=0xcf => {
                let progressive = matches!(marker, 0xc2 | 0xc6 | 0xca | 0xce);
                frame = Some((progressive, segment.get(7).copied().unwrap_or(4)));
            }
            Markers::SCAN => {
                let first = segment.get(2).copied().unwrap_or(0);
                if let Some((progressive, all)) = frame
                    && (progressive || first < all)
                {
                    coefficients = 2 * pixels * u64::from(all);
                }
                break;
            }
            _ => {}
        }
    }
    2 * bytes.len() as u64 + coefficients
}

/// What the WebP decoder keeps beside the pixels (RFC 9649, 2.5 to 2.7): four bytes of each where it drops
/// the alpha of a lossless picture; brightness and colour of a lossy one, and its alpha, unpacked; of an
/// animation a frame and the canvas, both with alpha.
fn webp_aside(bytes: &[u8], pixels: u64, rgb: bool) -> u64 {
    const ANIMATED: u8 = 2;
    let animated = bytes.get(20).is_some_and(|flags| flags & ANIMATED > 0);
    pixels
        * match bytes.get(12..16) {
            Some(b"VP8X") if animated => 8,
            Some(b"VP8X") if !rgb => 7,
            Some(b"VP8 ") => 2,
            _ => 4,
        }
}
