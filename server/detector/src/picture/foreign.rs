//! Names the files that people send as pictures and that are not accepted, by their signatures.

use super::FORMATS;

/// A kind of file that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Foreign {
    /// What it is, with an article.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) advice: &'static str,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, advice } = self;
        write!(f, "{what}; the accepted formats are {FORMATS}; {advice}")
    }
}

const CONVERT: &str = "convert it, for example with ImageMagick: magick FILE picture.jpg";
const CONVERT_HEIC: &str = "convert it, for example with ImageMagick: magick FILE picture.jpg (iPhones save JPEGs if \
                            Settings, Camera, Formats is Most Compatible)";
const CONVERT_PDF: &str = "convert its pages, for example with Poppler: pdftoppm -jpeg FILE page";
const CUT_VIDEO: &str =
    "send its pictures one by one, for example: ffmpeg -i FILE -r 1 picture%03d.jpg";
const UNPACK: &str = "unpack it first";
const DECODE_BASE64: &str = "decode it first: base64 --decode";
const DOWNLOAD: &str =
    "most likely a download failed and the server's response was saved in place of the picture";

const SIGNATURES: [(&[u8], Foreign); 24] = [
    (b"II*\0", foreign("a TIFF file", CONVERT)),
    (b"MM\0*", foreign("a TIFF file", CONVERT)),
    (b"II+\0", foreign("a BigTIFF file", CONVERT)),
    (b"MM\0+", foreign("a BigTIFF file", CONVERT)),
    (b"\xff\x0a", foreign("a JPEG XL file", CONVERT)),
    (b"\0\0\0\x0cJXL \r\n", foreign("a JPEG XL file", CONVERT)),
    (b"\0\0\0\x0cjP  ", foreign("a JPEG 2000 file", CONVERT)),
    (b"\xff\x4f\xff\x51", foreign("a JPEG 2000 file", CONVERT)),
    (b"8BPS", foreign("a Photoshop file", CONVERT)),
    (b"\0\0\x01\0", foreign("an icon (ICO)", CONVERT)),
    (b"qoif", foreign("a QOI file", CONVERT)),
    (b"v/1\x01", foreign("an OpenEXR file", CONVERT)),
    (b"\x8aMNG", foreign("an MNG file", CONVERT)),
    (b"P5\n", foreign("a PGM file", CONVERT)),
    (b"P6\n", foreign("a PPM file", CONVERT)),
    (b"%PDF", foreign("a PDF file", CONVERT_PDF)),
    (
        b"\x1a\x45\xdf\xa3",
        foreign("a video (Matroska or WebM)", CUT_VIDEO),
    ),
    (b"\x1f\x8b", foreign("data compressed by gzip", UNPACK)),
    (
        b"\x28\xb5\x2f\xfd",
        foreign("data compressed by Zstandard", UNPACK),
    ),
    (b"PK\x03\x04", foreign("a zip archive", UNPACK)),
    (b"data:image/", foreign("a data: URL", DECODE_BASE64)),
    (b"/9j/", foreign("a JPEG in base64", DECODE_BASE64)),
    (b"iVBORw0KGgo", foreign("a PNG in base64", DECODE_BASE64)),
    (b"UklGR", foreign("a WebP in base64", DECODE_BASE64)),
];

const fn foreign(what: &'static str, advice: &'static str) -> Foreign {
    Foreign { what, advice }
}

/// What bytes are that people often send as pictures.
pub(super) fn recognise(bytes: &[u8]) -> Option<Foreign> {
    if bytes.get(4..8) == Some(b"ftyp") {
        return Some(iso_media(bytes));
    }
    if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"AVI ") {
        return Some(foreign("a video (AVI)", CUT_VIDEO));
    }
    SIGNATURES
        .into_iter()
        .find_map(|(signature, kind)| bytes.starts_with(signature).then_some(kind))
        .or_else(|| markup(bytes))
}

/// The kind of a file in the ISO base media format (ISO/IEC 14496-12). Its first box has the main brand, then all
/// brands that it is compatible with. HEIC and AVIF pictures can share a main brand.
fn iso_media(bytes: &[u8]) -> Foreign {
    let size = bytes
        .first_chunk()
        .map_or(0, |size| u32::from_be_bytes(*size));
    let end = bytes.len().min(size.clamp(16, 256) as usize);
    let has = |brands: &[&[u8; 4]]| {
        bytes[8..end]
            .as_chunks()
            .0
            .iter()
            .any(|brand| brands.contains(&brand))
    };
    if has(&[b"avif", b"avis"]) {
        foreign("an AVIF file", CONVERT)
    } else if has(&[
        b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1",
    ]) {
        foreign("a HEIC file, as phones save photographs", CONVERT_HEIC)
    } else if has(&[b"crx "]) {
        foreign("a raw photograph of a Canon camera (CR3)", CONVERT)
    } else {
        foreign("a video (MP4 or QuickTime)", CUT_VIDEO)
    }
}

fn markup(bytes: &[u8]) -> Option<Foreign> {
    let start = String::from_utf8_lossy(&bytes[..bytes.len().min(1000)]).to_lowercase();
    let text = start.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
    if text.starts_with("<svg") || text.starts_with("<?xml") && text.contains("<svg") {
        Some(foreign("an SVG drawing", CONVERT))
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        Some(foreign("an HTML page", DOWNLOAD))
    } else if text.starts_with('{') {
        Some(foreign("a JSON document", DOWNLOAD))
    } else {
        None
    }
}
