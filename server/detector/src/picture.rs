//! Decodes and encodes pictures. The format is recognised from the bytes, the size is limited before decoding, and
//! the decoded picture is upright.

use std::borrow::Cow;
use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

/// The accepted formats, for people.
pub const FORMATS: &str = "JPEG, PNG, WebP, BMP or GIF";

/// Why bytes cannot be used as a picture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// There are no bytes.
    #[error("the picture is empty (0 bytes)")]
    Empty,
    /// The format is not accepted.
    #[error("the bytes are {}; the accepted formats are {FORMATS}", kind.unwrap_or("not a picture that is known here"))]
    Unsupported {
        /// What the bytes are, with an article, if that is known.
        kind: Option<&'static str>,
    },
    /// The picture has too many pixels. A pixel of more than 4 bytes counts as bytes / 4 pixels. Nothing was
    /// decoded.
    #[error(
        "the picture has {width} x {height} pixels{}; the limit is {limit} pixels",
        if *bytes > 4 { format!(" of {bytes} bytes, each counted as {bytes}/4 pixels") } else { String::new() }
    )]
    TooManyPixels {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
        /// Bytes of a pixel from the decoder.
        bytes: u64,
        /// Maximum number of pixels.
        limit: u64,
    },
    /// The bytes are damaged or cut short.
    #[error("the {format} picture cannot be decoded: {problem}")]
    Undecodable {
        /// The format's name.
        format: &'static str,
        /// What the decoder found.
        problem: String,
    },
    /// A side of the picture is too long for the encoding. Nothing was decoded.
    #[error(
        "the picture has {width} x {height} pixels; a JPEG's sides are at most {LONGEST_JPEG} pixels; request PNG \
         instead"
    )]
    TooLong {
        /// Pixels in a row.
        width: u32,
        /// Rows.
        height: u32,
    },
}

/// Maximum pixels on a side of a JPEG (ISO/IEC 10918-1, B.2.2: 16 bits).
const LONGEST_JPEG: u32 = 65_535;

/// Quality of a JPEG, up to 100. At this quality the edges of text look clean.
const JPEG_QUALITY: u8 = 90;

/// A format in which pictures are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Smaller, lossy.
    Jpeg,
    /// Lossless.
    Png,
}

impl Encoding {
    /// JPEG if the bytes are a JPEG, else PNG.
    #[must_use]
    pub fn like(bytes: &[u8]) -> Self {
        match image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => Self::Jpeg,
            _ => Self::Png,
        }
    }

    /// Encodes a picture, without metadata.
    ///
    /// # Errors
    /// If a side of the picture is too long for the format, or the encoder fails.
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

/// What bytes are that people often send as pictures, by their signatures.
fn foreign(bytes: &[u8]) -> Option<&'static str> {
    const SIGNATURES: [(&[u8], &str); 12] = [
        (b"II*\0", "a TIFF file"),
        (b"MM\0*", "a TIFF file"),
        (b"\xff\x0a", "a JPEG XL file"),
        (b"\0\0\0\x0cJXL \r\n", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  ", "a JPEG 2000 file"),
        (b"\xff\x4f\xff\x51", "a JPEG 2000 file"),
        (b"%PDF", "a PDF file"),
        (b"8BPS", "a Photoshop file"),
        (b"\0\0\x01\0", "an icon (ICO)"),
        (b"\x1f\x8b", "data compressed by gzip"),
        (b"PK\x03\x04", "a zip archive"),
        (b"qoif", "a QOI file"),
    ];
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(match bytes.get(8..12) {
            Some(b"avif" | b"avis") => "an AVIF file",
            Some(b"heic" | b"heix" | b"heim" | b"heis" | b"hevc" | b"mif1" | b"msf1") => {
                "a HEIC file, as phones save photographs"
            }
            _ => "a video (MP4 or QuickTime)",
        });
    }
    let signed = |(signature, kind)| bytes.starts_with(signature).then_some(kind);
    SIGNATURES.into_iter().find_map(signed).or_else(|| {
        let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).to_lowercase();
        let text = start.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") {
            Some("an SVG drawing")
        } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
            Some("an HTML page")
        } else {
            None
        }
    })
}

/// The orientation in EXIF metadata. `image` reads it only as a SHORT (EXIF 2.3, section 4.6.4), but some writers
/// store a LONG, or begin the metadata of a PNG or WebP with the identifier of JPEG's segment.
fn orientation_of(metadata: &[u8]) -> Option<Orientation> {
    let tiff = metadata.strip_prefix(b"Exif\0\0").unwrap_or(metadata);
    let exif = exif::Reader::new().read_raw(tiff.to_vec()).ok()?;
    let field = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?;
    Orientation::from_exif(u8::try_from(field.value.get_uint(0)?).ok()?)
}

/// The header of a picture, read before the pixels.
#[derive(Debug, Clone)]
pub struct Header {
    format: ImageFormat,
    width: u32,
    height: u32,
    /// Size of all pixels from the decoder.
    bytes: u64,
    /// Whether the decoder returns three samples of 8 bits per pixel.
    rgb: bool,
    orientation: Orientation,
    /// Bytes that the decoder keeps besides the pixels.
    aside: u64,
}

/// Maximum memory of a decoder for metadata, in bytes. Metadata can be a decompression bomb too: a PNG's colour
/// profile is compressed.
const METADATA: u64 = 8 << 20;

impl Header {
    /// Recognises the format and reads the header.
    ///
    /// # Errors
    /// If there are no bytes, they are not a picture in an accepted format, the header is damaged, or the picture
    /// has more than `pixel_limit` pixels.
    pub fn read(bytes: &[u8], pixel_limit: u64) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let format = image::guess_format(bytes)
            .ok()
            .filter(|format| name(*format).is_some())
            .ok_or_else(|| Error::Unsupported {
                kind: foreign(bytes),
            })?;
        let coefficients = if format == ImageFormat::Jpeg {
            jpeg_coefficients(bytes)?
        } else {
            0
        };
        let ((width, height), total, rgb, orientation) = guarded(format, || {
            let mut reader = ImageReader::with_format(Cursor::new(readable(bytes)), format);
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(METADATA);
            reader.limits(limits);
            let mut decoder = reader.into_decoder()?;
            // Pictures with damaged metadata are accepted.
            let metadata = decoder.exif_metadata().ok().flatten();
            let orientation = metadata.as_deref().and_then(orientation_of);
            let rgb = decoder.color_type() == ColorType::Rgb8;
            Ok((
                decoder.dimensions(),
                decoder.total_bytes(),
                rgb,
                orientation.unwrap_or(Orientation::NoTransforms),
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
                // The file twice, and the 16-bit coefficients.
                ImageFormat::Jpeg => 2 * bytes.len() as u64 + 2 * pixels * coefficients as u64,
                ImageFormat::WebP => webp_aside(bytes, pixels, rgb),
                // A frame narrower than its picture is decoded separately.
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

    /// Checks that the picture can be encoded in a format.
    ///
    /// # Errors
    /// If a side is too long.
    pub fn fits(&self, encoding: Encoding) -> Result<(), Error> {
        let (width, height) = (self.width, self.height);
        match encoding {
            Encoding::Jpeg if width.max(height) > LONGEST_JPEG => {
                Err(Error::TooLong { width, height })
            }
            Encoding::Jpeg | Encoding::Png => Ok(()),
        }
    }

    /// Size of the decoded picture, in bytes.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        3 * u64::from(self.width) * u64::from(self.height)
    }

    /// Peak memory of [`decode`](Self::decode), in bytes: three to twelve per pixel (an animated WebP with alpha
    /// takes twelve, a progressive JPEG of four components eleven).
    #[must_use]
    pub fn memory(&self) -> u64 {
        let three = self.decoded();
        let converted = if self.rgb { 0 } else { three };
        let turned = if self.turns() { 2 * three } else { three };
        (self.bytes + self.aside.max(converted)).max(turned)
    }

    /// Whether turning the picture upright takes a second copy.
    fn turns(&self) -> bool {
        use Orientation as O;
        matches!(
            self.orientation,
            O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH
        )
    }

    /// Decodes the picture upright, with 8 bits per sample; for an animation, the first frame. Alpha is dropped:
    /// transparent pixels keep their colour, as in the reference implementations.
    ///
    /// # Errors
    /// If the bytes are damaged or cut short.
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, Error> {
        if self.format == ImageFormat::Jpeg {
            jpeg_is_sound(bytes)?;
        }
        guarded(self.format, || self.pixels(bytes))
    }

    fn pixels(&self, bytes: &[u8]) -> image::ImageResult<RgbImage> {
        let mut reader = ImageReader::with_format(Cursor::new(readable(bytes)), self.format);
        reader.limits(self.limits());
        let decoder = reader.into_decoder()?;
        // Converts to RGB before turning, which takes a second copy.
        let mut picture = DynamicImage::ImageRgb8(DynamicImage::from_decoder(decoder)?.into_rgb8());
        picture.apply_orientation(self.orientation);
        Ok(picture.into_rgb8())
    }

    /// Decoders may need a second copy of the pixels, and tables.
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

/// Runs a decoder. If it panics, the file is undecodable.
fn guarded<T>(
    format: ImageFormat,
    decode: impl FnOnce() -> image::ImageResult<T>,
) -> Result<T, Error> {
    match std::panic::catch_unwind(AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| undecodable(format, &error)),
        Err(_) => Err(Error::Undecodable {
            format: name(format).unwrap_or_default(),
            problem: "the decoder panicked".to_owned(),
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

/// A decoder's message on one line and without control characters, since it can quote the file.
fn one_line(message: &str) -> String {
    let words: Vec<&str> = message
        .split(|letter: char| letter.is_whitespace() || letter.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    words.join(" ").chars().take(200).collect()
}

/// A JPEG's markers with their segments (ISO/IEC 10918-1, B.1.1), up to the end of the file. A segment begins with
/// its length.
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
            // The next marker, also in the data of a scan, where a zero escapes 0xff.
            let rest = self.bytes.get(self.at..)?;
            self.at += rest.iter().position(|&byte| byte == 0xff)? + 1;
            let marker = *self.bytes.get(self.at)?;
            match marker {
                // A fill byte, which may begin a marker; an escape; markers without a segment.
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

/// Maximum scans of a JPEG; encoders write about ten. A scan takes only a dozen bytes in the file, but makes the
/// decoder process at least a row of blocks.
const MAX_SCANS: usize = 100;

/// Checks that a JPEG has its end marker: the decoder would fill the missing part of a truncated file with grey.
/// Also checks the number of scans: the decoder counts them only in progressive files.
fn jpeg_is_sound(bytes: &[u8]) -> Result<(), Error> {
    let (mut whole, mut scans) = (false, 0);
    for (marker, _) in Markers::new(bytes) {
        whole |= marker == Markers::END;
        scans += usize::from(marker == Markers::SCAN);
    }
    let problem = match (whole, scans) {
        (true, ..=MAX_SCANS) => return Ok(()),
        (true, _) => format!("it has {scans} scans; at most {MAX_SCANS} are accepted"),
        (false, _) => "it is cut short: its end is missing".to_owned(),
    };
    Err(Error::Undecodable {
        format: "JPEG",
        problem,
    })
}

/// Checks that the decoder knows a JPEG's kind and reads its samples as libjpeg does: it misreads unusual
/// subsampling, and components in scans of their own, without an error. Returns the number of components whose
/// coefficients the decoder keeps until the end: all if the JPEG is progressive, else none.
fn jpeg_coefficients(bytes: &[u8]) -> Result<usize, Error> {
    let advice = "save it as a baseline or progressive JPEG with 4:4:4, 4:2:2 or 4:2:0 subsampling";
    let refused = |kind: &str| Error::Undecodable {
        format: "JPEG",
        problem: format!("{kind} is not supported; {advice}"),
    };
    let (mut progressive, mut components) = (false, 0);
    for (marker, segment) in Markers::new(bytes) {
        match marker {
            0xc3 | 0xc7 | 0xcb | 0xcf => return Err(refused("lossless compression")),
            0xc5 | 0xc6 | 0xcd | 0xce => return Err(refused("hierarchical coding")),
            0xc9 | 0xca => return Err(refused("arithmetic coding")),
            0xc0..=0xc2 => {
                if segment.get(2) != Some(&8) {
                    return Err(refused("a sample of other than 8 bits"));
                }
                let factors = segment.get(8..).unwrap_or_default().chunks_exact(3);
                let factors: Vec<u8> = factors.map(|component| component[1]).collect();
                if !SAMPLINGS.contains(&&factors[..]) && factors.len() != 1 {
                    return Err(refused("its chroma subsampling"));
                }
                (progressive, components) = (marker == 0xc2, factors.len());
            }
            Markers::SCAN => {
                let scanned = segment.get(2).copied().map_or(components, usize::from);
                if !progressive && scanned < components {
                    return Err(refused("a scan for each component"));
                }
                break;
            }
            _ => {}
        }
    }
    Ok(if progressive { components } else { 0 })
}

/// The sampling factors that the decoder reads as libjpeg does: horizontal and vertical, of each component.
const SAMPLINGS: [&[u8]; 15] = [
    &[0x11, 0x11, 0x11],
    &[0x21, 0x11, 0x11],
    &[0x12, 0x11, 0x11],
    &[0x22, 0x11, 0x11],
    &[0x14, 0x11, 0x11],
    &[0x24, 0x11, 0x11],
    &[0x41, 0x11, 0x11],
    &[0x42, 0x11, 0x11],
    &[0x12, 0x12, 0x12],
    &[0x21, 0x21, 0x21],
    &[0x22, 0x12, 0x12],
    &[0x22, 0x21, 0x21],
    &[0x41, 0x21, 0x21],
    &[0x11, 0x11, 0x11, 0x11],
    &[0x22, 0x11, 0x11, 0x22],
];

/// The file as the decoder accepts it. The header of a WebP may announce EXIF or XMP metadata that no chunk has
/// (WebP container specification, "Extended File Format"): the decoder would refuse the picture for that.
fn readable(bytes: &[u8]) -> Cow<'_, [u8]> {
    const FLAGS: usize = 20;
    const ANNOUNCED: [(u8, &[u8; 4]); 2] = [(0x08, b"EXIF"), (0x04, b"XMP ")];
    if bytes.get(8..16) != Some(b"WEBPVP8X") || bytes.len() <= FLAGS {
        return Cow::Borrowed(bytes);
    }
    let mut missing = 0;
    for (flag, name) in ANNOUNCED {
        if bytes[FLAGS] & flag > 0 && !webp_chunks(bytes).any(|chunk| chunk == name) {
            missing |= flag;
        }
    }
    if missing == 0 {
        return Cow::Borrowed(bytes);
    }
    let mut mended = bytes.to_vec();
    mended[FLAGS] &= !missing;
    Cow::Owned(mended)
}

/// The names of a WebP's chunks.
fn webp_chunks(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (name, after) = rest.split_at_checked(4)?;
        let (size, data) = after.split_first_chunk()?;
        let size = u32::from_le_bytes(*size) as usize;
        rest = data.get(size + size % 2..).unwrap_or_default();
        Some(name)
    })
}

/// Bytes that the WebP decoder keeps besides the pixels (RFC 9649, 2.5 to 2.7): four per pixel if it drops the
/// alpha of a lossless picture; luma, chroma and unpacked alpha of a lossy picture; the frame and the canvas of an
/// animation, both with alpha.
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
