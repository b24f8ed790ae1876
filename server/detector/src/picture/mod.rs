//! Decodes and encodes pictures. The format is recognised from the bytes, the size is limited before decoding, and
//! the decoded picture is upright.
//!
//! libjpeg-turbo decodes JPEG, and the crate `image` the other formats. Neither judges what is accepted: the modules of
//! the formats read headers and remove what no pixel needs. One rule holds for all formats: if all rows are there and
//! only the end marker is missing, the picture is accepted ([`Decoded::has_end`]); if rows are missing or damaged, it is
//! refused with the number of rows that are there.
//!
//! ```text
//! foreign       names files that are not accepted
//! jpeg          headers of JPEG files
//! libjpeg       the call of libjpeg-turbo; `unsafe`, in C
//! png, webp, bmp, gif
//!               the parts of these files that the pixels need
//! parts         reads them as one file
//! ```

mod bmp;
mod foreign;
mod gif;
mod jpeg;
mod libjpeg;
mod parts;
mod png;
mod webp;

use std::fmt;
use std::io::Cursor;
use std::panic::AssertUnwindSafe;

use image::codecs::jpeg::JpegEncoder;
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use state_dict::quote;

pub use self::foreign::Foreign;
use self::parts::Parts;

/// The accepted formats, for people.
pub const FORMATS: &str = "JPEG, PNG, WebP, BMP or GIF";

/// Why bytes cannot be used as a picture.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// There are no bytes.
    #[error("the picture is empty (0 bytes)")]
    Empty,
    /// The format is not accepted.
    #[error("the bytes are {0}")]
    Unsupported(Foreign),
    /// The format is not known.
    #[error(
        "the bytes are not a picture in a known format: they begin with {begin}; the accepted formats are {FORMATS}"
    )]
    Unknown {
        /// The first bytes, quoted.
        begin: String,
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

impl Error {
    fn undecodable(format: &'static str, problem: impl Into<String>) -> Self {
        Self::Undecodable {
            format,
            problem: problem.into(),
        }
    }

    /// No row of the picture is there.
    fn without_rows(format: &'static str) -> Self {
        Self::undecodable(format, "it is cut short before its first row")
    }

    /// Only some rows of the picture are there.
    fn cut_short(format: &'static str, rows: usize, height: impl fmt::Display) -> Self {
        let problem = format!("it is cut short after {rows} of {height} rows");
        Self::undecodable(format, problem)
    }
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

/// The orientation in EXIF metadata. `image` reads it only as a SHORT (EXIF 2.3, section 4.6.4), but some writers
/// store a LONG, or begin the metadata of a PNG or WebP with the identifier of JPEG's segment.
fn orientation_of(metadata: &[u8]) -> Option<Orientation> {
    let tiff = metadata.strip_prefix(b"Exif\0\0").unwrap_or(metadata);
    let exif = exif::Reader::new().read_raw(tiff.to_vec()).ok()?;
    let field = exif.get_field(exif::Tag::Orientation, exif::In::PRIMARY)?;
    Orientation::from_exif(u8::try_from(field.value.get_uint(0)?).ok()?)
}

/// A decoded picture.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// The upright picture, with 8 bits per sample.
    pub picture: RgbImage,
    /// Whether the file has its end marker, or what its header announces after the pixels. If not, something cut the
    /// file short or did not finish it, but all rows are there.
    pub has_end: bool,
}

/// The pixels of a file, as they are stored.
struct Pixels {
    picture: RgbImage,
    has_end: bool,
}

/// A file of which only the parts are left that its pixels need.
#[derive(Default)]
struct Readable<'a> {
    file: Parts<'a>,
    /// The metadata in EXIF's format.
    exif: Option<&'a [u8]>,
    has_end: bool,
    /// Whether the pixels of a row are not together.
    interlaced: bool,
    /// What decoding would find, if the lengths in the headers already tell it.
    rows_missing: Option<Error>,
    /// Bytes per pixel that the decoder keeps besides the pixels.
    aside: u64,
}

/// The header of a picture, read before the pixels.
#[derive(Debug, Clone)]
pub struct Header {
    width: u32,
    height: u32,
    orientation: Orientation,
    /// Peak memory of decoding, in bytes.
    memory: u64,
}

/// Maximum memory for a decoder's tables, in bytes.
const TABLES: u64 = 8 << 20;

impl Header {
    /// Recognises the format and reads the header.
    ///
    /// # Errors
    /// If there are no bytes, they are not a picture in an accepted format, the header is damaged, or the picture
    /// has more than `pixel_limit` pixels.
    pub fn read(bytes: &[u8], pixel_limit: u64) -> Result<Self, Error> {
        let stored = match File::read(bytes)? {
            File::Jpeg(frame) => Stored {
                format: ImageFormat::Jpeg,
                width: frame.width,
                height: frame.height,
                bytes: 3 * u64::from(frame.width) * u64::from(frame.height),
                aside: frame.aside(bytes),
                exif: frame.exif,
            },
            File::Other { format, readable } => Stored::read(format, &readable)?,
        };
        let (width, height) = (stored.width, stored.height);
        if width == 0 || height == 0 {
            let problem = format!("it has {width} x {height} pixels");
            return Err(Error::undecodable(name(stored.format), problem));
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels.max(stored.bytes.div_ceil(4)) > pixel_limit {
            return Err(Error::TooManyPixels {
                width,
                height,
                bytes: stored.bytes / pixels,
                limit: pixel_limit,
            });
        }
        let orientation = stored
            .exif
            .and_then(orientation_of)
            .unwrap_or(Orientation::NoTransforms);
        // Turning a picture on its side takes a second copy.
        let upright = if is_transposed(orientation) { 6 } else { 3 } * pixels;
        Ok(Self {
            width,
            height,
            orientation,
            memory: (stored.bytes + stored.aside).max(upright),
        })
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

    /// Width and height in pixels as they are stored, before the picture is turned upright.
    #[must_use]
    pub fn stored(&self) -> (u32, u32) {
        (self.width, self.height)
    }

    /// Width and height in pixels of the upright picture.
    #[must_use]
    pub fn upright(&self) -> (u32, u32) {
        if is_transposed(self.orientation) {
            (self.height, self.width)
        } else {
            self.stored()
        }
    }

    /// How the stored picture is turned upright.
    #[must_use]
    pub fn orientation(&self) -> Orientation {
        self.orientation
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
        self.memory
    }

    /// Decodes the picture upright, with 8 bits per sample; for an animation, the first frame. Alpha is dropped:
    /// transparent pixels keep their colour, as in the reference implementations.
    ///
    /// # Errors
    /// If `bytes` are damaged or cut short, or not those from which the header was read.
    pub fn decode(&self, bytes: &[u8]) -> Result<Decoded, Error> {
        let Pixels { picture, has_end } = match File::read(bytes)? {
            File::Jpeg(frame) => frame.decode(bytes)?,
            File::Other {
                readable:
                    Readable {
                        rows_missing: Some(problem),
                        ..
                    },
                ..
            } => return Err(problem),
            File::Other { format, readable } => Pixels {
                picture: self.pixels(format, bytes, &readable)?,
                has_end: readable.has_end,
            },
        };
        let mut picture = DynamicImage::ImageRgb8(picture);
        picture.apply_orientation(self.orientation);
        Ok(Decoded {
            picture: picture.into_rgb8(),
            has_end,
        })
    }

    fn pixels(
        &self,
        format: ImageFormat,
        bytes: &[u8],
        readable: &Readable,
    ) -> Result<RgbImage, Error> {
        let mut rows = 0;
        let pixels = guarded(|| {
            let mut reader = ImageReader::with_format(readable.file.clone(), format);
            let mut limits = Limits::no_limits();
            limits.max_image_width = Some(self.width);
            limits.max_image_height = Some(self.height);
            // Decoders may need a second copy of the pixels.
            limits.max_alloc = Some(self.memory * 2 + TABLES);
            reader.limits(limits);
            let decoder = reader.into_decoder()?;
            let picture = if readable.has_end || readable.interlaced {
                DynamicImage::from_decoder(decoder)
            } else {
                let rows = &mut rows;
                DynamicImage::from_decoder(Unfinished { decoder, rows })
            };
            Ok(picture?.into_rgb8())
        });
        let name = name(format);
        pixels.map_err(|failure| match failure {
            Failure::Unsupported => Error::undecodable(name, UNSUPPORTED),
            Failure::Damaged if readable.has_end => {
                let is_png = format == ImageFormat::Png;
                let problem = match is_png.then(|| png::damaged_chunk(bytes)).flatten() {
                    Some(chunk) => format!("its chunk {chunk} does not match its checksum"),
                    None => "its data is damaged".to_owned(),
                };
                Error::undecodable(name, problem)
            }
            Failure::Damaged | Failure::CutShort => Error::cut_short(name, rows, self.height),
        })
    }
}

/// The problem of a picture that the decoder knows but does not support, such as a rare number of bits.
const UNSUPPORTED: &str = "it uses a rare feature of the format; save it again";

/// Decodes a file without its end. Succeeds if all rows are there.
struct Unfinished<'a, D> {
    decoder: D,
    /// How many rows are there, if decoding fails.
    rows: &'a mut usize,
}

impl<D: ImageDecoder> ImageDecoder for Unfinished<'_, D> {
    fn dimensions(&self) -> (u32, u32) {
        self.decoder.dimensions()
    }

    fn color_type(&self) -> ColorType {
        self.decoder.color_type()
    }

    fn read_image(self, pixels: &mut [u8]) -> image::ImageResult<()> {
        // Rows that the decoder does not write keep this pattern.
        let pattern = |index: usize| (index.wrapping_mul(0x9e37_79b9) >> 16) as u8;
        for (index, byte) in pixels.iter_mut().enumerate() {
            *byte = pattern(index);
        }
        let color = self.decoder.color_type();
        let (width, height) = self.decoder.dimensions();
        let pixel = usize::from(color.bytes_per_pixel());
        let row = width as usize * pixel;
        let decoded = self.decoder.read_image(pixels);
        // Decoders write from left to right. A single byte could be that of the pattern.
        let last = (pixel * 4_usize.div_ceil(pixel)).min(row);
        let is_written = |row_end: &usize| {
            (row_end - last..*row_end).any(|index| pixels[index] != pattern(index))
        };
        *self.rows = (row..=pixels.len()).step_by(row).filter(is_written).count();
        // Decoders swap the bytes of larger samples at the end.
        let is_final = color.bytes_per_pixel() == color.channel_count();
        if is_final && *self.rows == height as usize {
            Ok(())
        } else {
            decoded
        }
    }

    fn read_image_boxed(self: Box<Self>, pixels: &mut [u8]) -> image::ImageResult<()> {
        (*self).read_image(pixels)
    }
}

/// A file in an accepted format.
enum File<'a> {
    Jpeg(jpeg::Frame<'a>),
    Other {
        format: ImageFormat,
        readable: Readable<'a>,
    },
}

impl<'a> File<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        if bytes.is_empty() {
            return Err(Error::Empty);
        }
        let format = image::guess_format(bytes).ok();
        let (format, readable) = match format {
            Some(ImageFormat::Jpeg) => return jpeg::Frame::read(bytes).map(Self::Jpeg),
            Some(format @ ImageFormat::Png) => (format, png::readable(bytes)?),
            Some(format @ ImageFormat::WebP) => (format, webp::readable(bytes)?),
            Some(format @ ImageFormat::Bmp) => (format, bmp::readable(bytes)?),
            Some(format @ ImageFormat::Gif) => (format, gif::readable(bytes)),
            _ => {
                return Err(match foreign::recognise(bytes) {
                    Some(foreign) => Error::Unsupported(foreign),
                    None => Error::Unknown {
                        begin: quote(&String::from_utf8_lossy(&bytes[..bytes.len().min(16)])),
                    },
                });
            }
        };
        Ok(Self::Other { format, readable })
    }
}

/// Whether the end of a file is missing, so that only decoding it tells whether rows are missing too.
///
/// # Errors
/// Those of [`Header::read`] that do not depend on the number of pixels.
pub fn lacks_end(bytes: &[u8]) -> Result<bool, Error> {
    Ok(match File::read(bytes)? {
        File::Jpeg(_) => !jpeg::has_end(bytes),
        File::Other { readable, .. } => !readable.has_end || readable.rows_missing.is_some(),
    })
}

/// What a header tells about the pixels as they are stored.
struct Stored<'a> {
    format: ImageFormat,
    width: u32,
    height: u32,
    /// Size of all pixels from the decoder.
    bytes: u64,
    /// Bytes that are in memory besides the pixels.
    aside: u64,
    exif: Option<&'a [u8]>,
}

impl<'a> Stored<'a> {
    fn read(format: ImageFormat, readable: &Readable<'a>) -> Result<Self, Error> {
        let header = guarded(|| {
            let mut reader = ImageReader::with_format(readable.file.clone(), format);
            let mut limits = Limits::no_limits();
            limits.max_alloc = Some(TABLES);
            reader.limits(limits);
            let decoder = reader.into_decoder()?;
            Ok((
                decoder.dimensions(),
                decoder.total_bytes(),
                decoder.color_type(),
            ))
        });
        let name = name(format);
        let ((width, height), bytes, color) = header.map_err(|failure| match failure {
            Failure::Unsupported => Error::undecodable(name, UNSUPPORTED),
            Failure::Damaged if readable.has_end => {
                Error::undecodable(name, "its header is damaged")
            }
            Failure::Damaged | Failure::CutShort => Error::without_rows(name),
        })?;
        let pixels = u64::from(width) * u64::from(height);
        let converted = if color == ColorType::Rgb8 { 0 } else { 3 };
        Ok(Self {
            format,
            width,
            height,
            bytes,
            aside: pixels * converted.max(readable.aside),
            exif: readable.exif,
        })
    }
}

/// Whether the upright picture has the stored one's rows as its columns.
fn is_transposed(orientation: Orientation) -> bool {
    use Orientation as O;
    matches!(
        orientation,
        O::Rotate90 | O::Rotate270 | O::Rotate90FlipH | O::Rotate270FlipH
    )
}

/// The name of an accepted format.
fn name(format: ImageFormat) -> &'static str {
    match format {
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Bmp => "BMP",
        ImageFormat::Gif => "GIF",
        _ => "PNG",
    }
}

/// Why one of `image`'s decoders failed. Its own words are for programmers, and may quote the file.
#[derive(Debug, Clone, Copy)]
enum Failure {
    CutShort,
    Damaged,
    Unsupported,
}

/// Runs one of `image`'s decoders. If it panics, the file is damaged.
fn guarded<T>(decode: impl FnOnce() -> image::ImageResult<T>) -> Result<T, Failure> {
    use image::ImageError as E;
    std::panic::catch_unwind(AssertUnwindSafe(decode))
        .map_err(|_| Failure::Damaged)?
        .map_err(|error| match error {
            E::Unsupported(_) => Failure::Unsupported,
            error if is_end_of_file(&error) => Failure::CutShort,
            _ => Failure::Damaged,
        })
}

/// Whether an error or one of its causes is the end of the file.
fn is_end_of_file(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| {
        error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::UnexpectedEof)
    })
}
