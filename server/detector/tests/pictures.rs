//! Pictures of every format, written by other programs (tests/data/pictures/make.py), give the
//! pixels of the photograph they were made from, upright; damaged ones are refused.

use std::path::PathBuf;

use image::RgbImage;
use ssd_detector::picture::{Error, Header};

fn bytes(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    Header::read(bytes, 50_000_000)?.decode(bytes)
}

/// Mean absolute difference of two pictures of one size, in levels of 0 to 255.
fn difference(a: &RgbImage, b: &RgbImage) -> f64 {
    assert_eq!(a.dimensions(), b.dimensions());
    let sum: u64 = a
        .as_raw()
        .iter()
        .zip(b.as_raw())
        .map(|(a, b)| u64::from(a.abs_diff(*b)))
        .sum();
    sum as f64 / a.as_raw().len() as f64
}

/// A file, its reference, and by how many levels it may differ from that on average: 0 if the format is
/// lossless.
const PICTURES: [(&str, &str, f64); 27] = [
    ("baseline.jpg", "reference.png", 2.5),
    ("subsampled.jpg", "reference.png", 4.0),
    ("progressive.jpg", "reference.png", 2.5),
    ("restarts.jpg", "reference.png", 2.5),
    ("cmyk.jpg", "reference.png", 4.0),
    ("grey.jpg", "reference-grey.png", 2.5),
    ("reference.png", "reference.png", 0.0),
    ("rgba.png", "reference.png", 0.0),
    ("rgb16.png", "reference.png", 0.0),
    ("interlaced.png", "reference.png", 0.0),
    ("palette.png", "reference.png", 4.0),
    ("grey-alpha.png", "reference-grey.png", 0.0),
    ("lossless.webp", "reference.png", 0.0),
    ("alpha.webp", "reference.png", 0.0),
    ("lossy.webp", "reference.png", 4.0),
    ("animated.webp", "reference.png", 0.0),
    ("rgb.bmp", "reference.png", 0.0),
    ("palette.bmp", "reference.png", 4.0),
    ("animated.gif", "reference.png", 4.0),
    ("exif1.jpg", "reference.png", 2.5),
    ("exif2.jpg", "reference.png", 2.5),
    ("exif3.jpg", "reference.png", 2.5),
    ("exif4.jpg", "reference.png", 2.5),
    ("exif5.jpg", "reference.png", 2.5),
    ("exif6.jpg", "reference.png", 2.5),
    ("exif7.jpg", "reference.png", 2.5),
    ("exif8.jpg", "reference.png", 2.5),
];

#[test]
fn every_format_gives_the_photograph_upright() {
    for (name, reference, tolerance) in PICTURES {
        let shown = decode(&bytes(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let expected = image::load_from_memory(&bytes(reference))
            .unwrap()
            .into_rgb8();
        let by = difference(&shown, &expected);
        assert!(by <= tolerance, "{name} differs by {by}");
    }
}

#[test]
fn greys_of_every_depth_give_their_levels() {
    for depth in [1, 2, 4, 8, 16] {
        let name = match depth {
            8 => "reference-grey.png".to_owned(),
            _ => format!("grey{depth}.png"),
        };
        let mut expected = image::load_from_memory(&bytes("reference-grey.png"))
            .unwrap()
            .into_rgb8();
        // Reduced to the depth as make.py does, and back to 8 bits.
        let most = (1_u32 << depth) - 1;
        for sample in expected.iter_mut() {
            let level = (u32::from(*sample) * most + 127) / 255;
            *sample = (f64::from(level) * 255.0 / f64::from(most)).round() as u8;
        }
        assert!(
            difference(&decode(&bytes(&name)).unwrap(), &expected) == 0.0,
            "{name}"
        );
    }
}

#[test]
fn exif_orientation_is_obeyed_in_png_and_webp_too() {
    let expected = decode(&bytes("reference.png")).unwrap();
    for name in ["exif6.png", "exif6.webp"] {
        assert!(
            difference(&decode(&bytes(name)).unwrap(), &expected) < 0.01,
            "{name}"
        );
    }
}

/// EXIF metadata with one field, the orientation 6, in a byte order and as a SHORT (3) or LONG (4).
fn orientation_6(big_endian: bool, kind: u16) -> Vec<u8> {
    let mut bytes = if big_endian { b"MM" } else { b"II" }.to_vec();
    let value = if kind == 3 && big_endian { 6 << 16 } else { 6 };
    let mut push = |number: u32, size: usize| {
        if big_endian {
            bytes.extend(&number.to_be_bytes()[4 - size..]);
        } else {
            bytes.extend(&number.to_le_bytes()[..size]);
        }
    };
    for (number, size) in [
        (42, 2),
        (8, 4),
        // One field: tag, type, count, value; then no other directory.
        (1, 2),
        (0x0112, 2),
        (u32::from(kind), 2),
        (1, 4),
        (value, 4),
        (0, 4),
    ] {
        push(number, size);
    }
    bytes
}

/// A file whose EXIF metadata is replaced.
fn with_exif(name: &str, exif: &[u8]) -> Vec<u8> {
    let file = bytes(name);
    let find = |part: &[u8]| file.windows(part.len()).position(|window| window == part);
    let (_, extension) = name.split_once('.').unwrap();
    if extension == "jpg" {
        let begin = find(b"\xff\xe1").unwrap();
        let length = usize::from(u16::from_be_bytes([file[begin + 2], file[begin + 3]]));
        let segment = [b"Exif\0\0", exif].concat();
        let size = u16::try_from(segment.len() + 2).unwrap().to_be_bytes();
        let rest = &file[begin + 2 + length..];
        [&file[..begin], b"\xff\xe1", &size, &segment, rest].concat()
    } else if extension == "png" {
        let begin = find(b"eXIf").unwrap() - 4;
        let length = u32::from_be_bytes(file[begin..begin + 4].try_into().unwrap()) as usize;
        let chunk = [b"eXIf", exif].concat();
        let size = u32::try_from(exif.len()).unwrap().to_be_bytes();
        let checksum = crc32fast::hash(&chunk).to_be_bytes();
        let rest = &file[begin + 12 + length..];
        [&file[..begin], &size, &chunk, &checksum, rest].concat()
    } else {
        let begin = find(b"EXIF").unwrap();
        let size = u32::try_from(exif.len()).unwrap().to_le_bytes();
        let mut webp = [&file[..begin], b"EXIF", &size, exif].concat();
        webp.resize(webp.len().next_multiple_of(2), 0);
        let all = u32::try_from(webp.len() - 8).unwrap();
        webp[4..8].copy_from_slice(&all.to_le_bytes());
        webp
    }
}

#[test]
fn an_orientation_is_obeyed_in_either_byte_order_as_short_or_long_and_after_an_identifier() {
    for name in ["exif6.jpg", "exif6.png", "exif6.webp"] {
        let expected = decode(&bytes(name)).unwrap();
        for (big_endian, kind) in [(false, 3), (false, 4), (true, 3), (true, 4)] {
            let exif = orientation_6(big_endian, kind);
            for metadata in [exif.clone(), [b"Exif\0\0", &exif[..]].concat()] {
                if name == "exif6.jpg" && metadata != exif {
                    continue;
                }
                let picture = decode(&with_exif(name, &metadata)).unwrap();
                let shown = format!("{name}, big endian: {big_endian}, type {kind}");
                assert_eq!(picture.dimensions(), expected.dimensions(), "{shown}");
                assert!(difference(&picture, &expected) < 0.01, "{shown}");
            }
        }
    }
}

#[test]
fn a_webp_that_announces_metadata_without_a_chunk_is_decoded() {
    let expected = decode(&bytes("exif6.webp")).unwrap();
    let file = bytes("exif6.webp");
    let begin = file.windows(4).position(|name| name == b"EXIF").unwrap();
    let without = &file[..begin];
    let mut misnamed = file.clone();
    misnamed[begin..begin + 4].copy_from_slice(b"Exif");
    for (flags, mut webp) in [
        (0x08, without.to_vec()),
        (0x0c, without.to_vec()),
        (0x08, misnamed),
    ] {
        webp[20] = (webp[20] & !0x0c) | flags;
        let size = u32::try_from(webp.len() - 8).unwrap();
        webp[4..8].copy_from_slice(&size.to_le_bytes());
        // The orientation is lost with its chunk.
        let stored = decode(&webp).unwrap();
        assert_eq!(stored.dimensions(), (expected.height(), expected.width()));
        let upright = image::imageops::rotate90(&stored);
        assert!(difference(&upright, &expected) < 0.01, "{flags:#x}");
    }
}

#[test]
fn files_that_people_send_as_pictures_are_refused_by_name() {
    for (bytes, kind) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "a HEIC file"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC file"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF file"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "a video"),
        (b"II*\0\x08\0\0\0", "a TIFF file"),
        (b"MM\0*\0\0\0\x08", "a TIFF file"),
        (b"\xff\x0a\xfa\x1f", "a JPEG XL file"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 file"),
        (b"%PDF-1.7", "a PDF file"),
        (
            b"\xef\xbb\xbf <?xml version=\"1.0\"?><svg/>",
            "an SVG drawing",
        ),
        (b"<!DOCTYPE html><title>404</title>", "an HTML page"),
        (b"\x1f\x8b\x08\0", "data compressed by gzip"),
    ] {
        let error = decode(bytes).unwrap_err().to_string();
        let expected = format!("the bytes are {kind}");
        assert!(error.starts_with(&expected), "{error}");
        assert!(
            error.ends_with("the accepted formats are JPEG, PNG, WebP, BMP or GIF"),
            "{error}"
        );
    }
}

#[test]
fn jpegs_that_the_decoder_would_misread_are_refused_by_their_kind() {
    let file = bytes("baseline.jpg");
    let frame = file
        .windows(2)
        .position(|marker| marker == b"\xff\xc0")
        .unwrap();
    // The marker, the bits of a sample, the sampling of the second component.
    let changed = |offset: usize, value: u8| {
        let mut changed = file.clone();
        changed[frame + offset] = value;
        decode(&changed).unwrap_err().to_string()
    };
    for (offset, value, kind) in [
        (1, 0xc3, "lossless compression is not supported"),
        (1, 0xc5, "hierarchical coding is not supported"),
        (1, 0xc9, "arithmetic coding is not supported"),
        (4, 12, "a sample of other than 8 bits is not supported"),
        (14, 0x21, "its chroma subsampling is not supported"),
    ] {
        let error = changed(offset, value);
        assert!(error.contains(kind), "{error}");
        assert!(
            error.ends_with("4:4:4, 4:2:2 or 4:2:0 subsampling"),
            "{error}"
        );
    }
    let separate = bytes("../large/separate.jpg");
    let error = decode(&separate).unwrap_err().to_string();
    assert!(
        error.contains("a scan for each component is not supported"),
        "{error}"
    );
}

#[test]
fn a_picture_cut_short_anywhere_is_refused_as_damaged() {
    for name in [
        "baseline.jpg",
        "progressive.jpg",
        "exif6.jpg",
        "rgba.png",
        "lossless.webp",
        "lossy.webp",
        "rgb.bmp",
        "animated.gif",
    ] {
        let whole = bytes(name);
        // Of an animation only the first frame counts; it ends before the middle of this file.
        let end = if name == "animated.gif" {
            whole.len() / 3
        } else {
            whole.len() - 13
        };
        for length in (0..20).map(|part| 30 + (end - 30) * part / 19) {
            match decode(&whole[..length]) {
                Err(Error::Undecodable { problem, .. }) => assert!(!problem.is_empty()),
                other => panic!(
                    "{name} cut to {length} of {}: {:?}",
                    whole.len(),
                    other.map(|p| p.dimensions())
                ),
            }
        }
    }
}

#[test]
fn an_error_has_no_control_characters() {
    // A segment without a marker after it.
    let jpeg = [b"\xff\xd8\xff\xe0\0\x10".as_slice(), &[0; 14]].concat();
    let message = decode(&jpeg).unwrap_err().to_string();
    assert!(!message.contains(char::is_control), "{message:?}");
}

#[test]
fn flipped_bytes_are_read_or_refused_without_a_panic() {
    for (name, ..) in PICTURES {
        let whole = bytes(name);
        for step in 0..60 {
            let mut damaged = whole.clone();
            let at = step * whole.len() / 60;
            damaged[at] ^= 0x55;
            let _ = decode(&damaged);
        }
    }
}

#[test]
fn other_files_are_unsupported() {
    let other: [&[u8]; 6] = [
        b"hello, world",
        b"<!doctype html><title>403</title>",
        b"%PDF-1.7\n",
        b"II*\0\x08\0\0\0",
        b"\0\0\0\x20ftypavif",
        b"\xff",
    ];
    for bytes in other {
        let error = decode(bytes).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    assert_eq!(decode(b""), Err(Error::Empty));
}

#[test]
fn a_picture_with_too_many_pixels_is_refused_after_its_header() {
    // A PNG of 60,000 x 60,000 pixels, which would take 10.8 GB, without any data.
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    let checksum = crc32fast::hash(&png[12..]);
    png.extend(checksum.to_be_bytes());
    png.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    let refused = |side| {
        Err(Error::TooManyPixels {
            width: side,
            height: side,
            bytes: 3,
            limit: 50_000_000,
        })
    };
    assert_eq!(decode(&png), refused(60_000));

    // A JPEG whose size is replaced by the largest one.
    let mut jpeg = bytes("baseline.jpg");
    let frame = jpeg
        .windows(2)
        .position(|marker| marker == [0xff, 0xc0])
        .unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert_eq!(decode(&jpeg), refused(65_535));
}

#[test]
fn a_picture_of_exactly_the_pixel_limit_is_accepted() {
    let png = bytes("reference.png");
    assert!(Header::read(&png, 90 * 60).is_ok());
    assert!(Header::read(&png, 90 * 60 - 1).is_err());
}

#[test]
fn pixels_of_16_bit_samples_count_by_their_bytes() {
    let png = bytes("rgb16.png");
    // A pixel has six bytes; four count as one pixel.
    let limit = 90 * 60 * 6 / 4;
    assert!(Header::read(&png, limit).is_ok());
    let refused = Header::read(&png, limit - 1).unwrap_err().to_string();
    assert!(
        refused.contains("of 6 bytes, each counted as 6/4 pixels; the limit is 8099 pixels"),
        "{refused}"
    );
}
