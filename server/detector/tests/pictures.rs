//! Pictures of every format, written by other programs (tests/data/pictures/make.py), give the
//! pixels of the photograph they were made from, upright; damaged ones are refused.

use std::path::PathBuf;

use image::RgbImage;
use ssd_detector::picture::{Decoded, Error, Header};

fn bytes(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/pictures");
    std::fs::read(folder.join(name)).unwrap()
}

fn decoded(bytes: &[u8]) -> Result<Decoded, Error> {
    Header::read(bytes, 50_000_000)?.decode(bytes)
}

fn decode(bytes: &[u8]) -> Result<RgbImage, Error> {
    decoded(bytes).map(|decoded| decoded.picture)
}

/// Where a part begins in a file.
fn find(file: &[u8], part: &[u8]) -> usize {
    file.windows(part.len())
        .position(|window| window == part)
        .unwrap()
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
    let (_, extension) = name.split_once('.').unwrap();
    if extension == "jpg" {
        let begin = find(&file, b"\xff\xe1");
        let length = usize::from(u16::from_be_bytes([file[begin + 2], file[begin + 3]]));
        let segment = [b"Exif\0\0", exif].concat();
        let size = u16::try_from(segment.len() + 2).unwrap().to_be_bytes();
        let rest = &file[begin + 2 + length..];
        [&file[..begin], b"\xff\xe1", &size, &segment, rest].concat()
    } else if extension == "png" {
        let begin = find(&file, b"eXIf") - 4;
        let length = u32::from_be_bytes(file[begin..begin + 4].try_into().unwrap()) as usize;
        let chunk = [b"eXIf", exif].concat();
        let size = u32::try_from(exif.len()).unwrap().to_be_bytes();
        let checksum = crc32fast::hash(&chunk).to_be_bytes();
        let rest = &file[begin + 12 + length..];
        [&file[..begin], &size, &chunk, &checksum, rest].concat()
    } else {
        let begin = find(&file, b"EXIF");
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

/// A WebP with other flags in its header, and the right size.
fn webp_with_flags(mut webp: Vec<u8>, flags: u8) -> Vec<u8> {
    webp[20] = (webp[20] & !0x0c) | flags;
    let size = u32::try_from(webp.len() - 8).unwrap();
    webp[4..8].copy_from_slice(&size.to_le_bytes());
    webp
}

#[test]
fn a_webp_that_announces_metadata_without_a_chunk_is_decoded() {
    let file = bytes("exif6.webp");
    let expected = decode(&file).unwrap();
    let without = &file[..find(&file, b"EXIF")];
    for flags in [0x08, 0x0c] {
        let stored = decode(&webp_with_flags(without.to_vec(), flags)).unwrap();
        assert_eq!(stored.dimensions(), (expected.height(), expected.width()));
        let upright = image::imageops::rotate90(&stored);
        assert!(difference(&upright, &expected) < 0.01, "{flags:#x}");
    }
}

#[test]
fn an_exif_chunk_of_a_webp_is_found_under_another_spelling_and_without_being_announced() {
    let file = bytes("exif6.webp");
    let expected = decode(&file).unwrap();
    for (name, flags) in [(b"Exif", 0x08), (b"exif", 0x08), (b"EXIF", 0)] {
        let mut webp = file.clone();
        let begin = find(&file, b"EXIF");
        webp[begin..begin + 4].copy_from_slice(name);
        let upright = decode(&webp_with_flags(webp, flags)).unwrap();
        assert!(difference(&upright, &expected) < 0.01, "{name:?}");
    }
}

/// A PNG chunk.
fn chunk(name: &[u8], data: &[u8]) -> Vec<u8> {
    let contents = [name, data].concat();
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let checksum = crc32fast::hash(&contents).to_be_bytes();
    [&length, &contents[..], &checksum].concat()
}

/// A PNG with another chunk after its header.
fn png_with(name: &[u8], data: &[u8]) -> Vec<u8> {
    let mut png = bytes("reference.png");
    png.splice(33..33, chunk(name, data));
    png
}

#[test]
fn metadata_of_nine_megabytes_or_damaged_metadata_does_not_matter_in_a_png() {
    let expected = decode(&bytes("reference.png")).unwrap();
    let text = [b"workflow\0".as_slice(), &vec![b'x'; 9 << 20]].concat();
    for (name, data) in [
        (&b"tEXt"[..], &text[..]),
        (b"iTXt", b"no separators"),
        (b"iCCP", b"p\0\0no zlib stream"),
        (b"eXIf", b"no TIFF header"),
        (b"vpAg", b"private"),
    ] {
        assert_eq!(decode(&png_with(name, data)), Ok(expected.clone()));
        let mut damaged = png_with(name, data);
        let end = 33 + 8 + data.len();
        damaged[end] ^= 1;
        assert_eq!(decode(&damaged), Ok(expected.clone()));
    }
    let mut profile = vec![0; 9 << 20];
    profile[..3].copy_from_slice(b"p\0\0");
    assert_eq!(decode(&png_with(b"iCCP", &profile)), Ok(expected));
}

#[test]
fn a_damaged_chunk_that_the_pixels_need_is_named() {
    let mut png = bytes("reference.png");
    let begin = find(&png, b"IDAT");
    png[begin + 100] ^= 1;
    let error = decode(&png).unwrap_err().to_string();
    assert!(
        error.ends_with("its chunk IDAT does not match its checksum"),
        "{error}"
    );
}

#[test]
fn files_that_people_send_as_pictures_are_refused_by_name() {
    for (bytes, kind) in [
        (&b"\0\0\0\x18ftypheic\0\0\0\0"[..], "a HEIC file"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0", "a HEIC file"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "an AVIF file"),
        (b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf", "an AVIF file"),
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
        (b"RIFF\0\0\0\0AVI LIST", "a video (AVI)"),
        (b"data:image/png;base64,iVBORw0KGgo", "a data: URL"),
        (b"/9j/4AAQSkZJRg", "a JPEG in base64"),
        (b"{\"image\": \"/9j/4AAQ\"}", "a JSON document"),
    ] {
        let error = decode(bytes).unwrap_err().to_string();
        let (what, advice) = error
            .split_once("; the accepted formats are JPEG, PNG, WebP, BMP or GIF; ")
            .unwrap();
        assert!(what.starts_with(&format!("the bytes are {kind}")), "{what}");
        assert!(!advice.is_empty());
    }
}

#[test]
fn a_png_of_apple_s_variant_is_refused_by_name() {
    let mut png = bytes("reference.png");
    png.splice(8..8, chunk(b"CgBI", b"\x50\0\x20\x06"));
    let error = decode(&png).unwrap_err().to_string();
    assert!(
        error.starts_with("the bytes are a PNG in Apple's own variant (CgBI)")
            && error.ends_with("pngcrush -revert-iphone-optimizations FILE picture.png"),
        "{error}"
    );
}

/// A BMP of 8 bits per pixel with runs, as `rows` rows of 90 equal pixels, without an end marker.
fn runs(height: u32, rows: u8) -> Vec<u8> {
    let mut bmp = b"BM\0\0\0\0\0\0\0\0".to_vec();
    for number in [
        14 + 40 + 1024,
        40,
        90,
        height,
        1 | 8 << 16,
        1,
        0,
        0,
        0,
        256,
        0,
    ] {
        bmp.extend(u32::to_le_bytes(number));
    }
    for level in 0..=255 {
        bmp.extend([level, level, level, 0]);
    }
    bmp.extend((0..rows).flat_map(|row| [90, row, 0, 0]));
    bmp
}

#[test]
fn a_picture_of_which_only_the_end_is_missing_is_decoded_and_says_so() {
    // Removed from the end: the end marker; IEND, then also the checksum of the pixels' chunk; the trailer; metadata.
    for (name, lengths) in [
        ("baseline.jpg", &[2, 1][..]),
        ("progressive.jpg", &[2, 1]),
        ("restarts.jpg", &[2]),
        ("grey.jpg", &[2]),
        ("reference.png", &[12, 4, 8, 14, 16]),
        ("interlaced.png", &[12]),
        ("palette.png", &[12]),
        ("animated.gif", &[1]),
        ("exif6.webp", &[1, 20]),
        ("animated.webp", &[1, 20]),
    ] {
        let file = bytes(name);
        let whole = decoded(&file).unwrap();
        assert!(whole.has_end, "{name}");
        for length in lengths {
            let cut = decoded(&file[..file.len() - length])
                .unwrap_or_else(|error| panic!("{name} without {length} bytes: {error}"));
            assert!(!cut.has_end, "{name} without {length} bytes");
            if name != "exif6.webp" {
                assert_eq!(cut.picture, whole.picture, "{name} without {length} bytes");
            }
        }
    }
    let without_end = runs(60, 60);
    let with_end = [&without_end[..], &[0, 1]].concat();
    let (cut, whole) = (decoded(&without_end).unwrap(), decoded(&with_end).unwrap());
    assert_eq!(cut.picture, whole.picture);
    let half_a_marker = [&without_end[..], &[0]].concat();
    assert_eq!(decode(&half_a_marker), Ok(cut.picture));
    assert_eq!((cut.has_end, whole.has_end), (false, true));
    assert_eq!(whole.picture.get_pixel(5, 0).0, [59; 3]);
}

#[test]
fn a_picture_cut_short_is_refused_with_the_rows_that_are_there() {
    for (name, end) in [
        ("baseline.jpg", 2),
        ("progressive.jpg", 2),
        ("exif6.jpg", 2),
        ("reference.png", 24),
        ("rgba.png", 24),
        ("lossless.webp", 2),
        ("lossy.webp", 0),
        ("rgb.bmp", 2),
        // Of an animation only the first frame counts; it ends before the middle of this file.
        ("animated.gif", bytes("animated.gif").len() * 2 / 3),
    ] {
        let whole = bytes(name);
        let mut last = 0;
        let mut furthest = 0;
        for length in (0..20).map(|part| 30 + (whole.len() - end - 31) * part / 19) {
            let problem = match decode(&whole[..length]) {
                Err(Error::Undecodable { problem, .. }) => problem,
                other => panic!(
                    "{name} cut to {length}: {:?}",
                    other.map(|p| p.dimensions())
                ),
            };
            assert!(
                problem.starts_with("it is cut short"),
                "{name} cut to {length}: {problem}"
            );
            let number = |word: &str| word.parse().ok();
            let there: usize = problem.split(' ').rev().find_map(number).unwrap_or(0);
            let counted: usize = problem.split(' ').find_map(number).unwrap_or(0);
            assert!(
                counted >= last || there == 0 || name == "progressive.jpg",
                "{problem}"
            );
            last = counted;
            furthest = furthest.max(counted);
        }
        assert!(furthest > 25, "{name}: {furthest}");
    }
    let error = decode(&runs(60, 41)).unwrap_err().to_string();
    assert!(
        error.ends_with("it is cut short after 41 of 60 rows"),
        "{error}"
    );
}

#[test]
fn a_bmp_of_os_2_is_read_as_the_same_bmp_of_windows() {
    let file = bytes("rgb.bmp");
    let expected = decode(&file).unwrap();
    let begin = find(&file, &40_u32.to_le_bytes());
    // The second header of OS/2 goes on after Windows' fields, or ends after the bits per pixel.
    for length in [16, 64] {
        let header = [&file[begin + 4..begin + 40], &[0; 24]].concat();
        let pixels = u32::to_le_bytes(14 + length);
        let os2 = [
            &file[..10],
            &pixels,
            &length.to_le_bytes(),
            &header[..length as usize - 4],
            &file[54..],
        ]
        .concat();
        assert_eq!(decode(&os2), Ok(expected.clone()), "{length}");
    }
}

#[test]
fn a_bmp_whose_compression_is_not_supported_is_refused_by_its_name() {
    for (compression, name) in [(4, "JPEG"), (5, "PNG"), (11, "number 11")] {
        let mut bmp = bytes("rgb.bmp");
        bmp[30] = compression;
        let error = decode(&bmp).unwrap_err().to_string();
        assert!(
            error.contains(&format!("its compression ({name}) is not supported")),
            "{error}"
        );
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
        assert!(
            matches!(error, Error::Unsupported(_) | Error::Unknown { .. }),
            "{error}"
        );
    }
    assert_eq!(decode(b""), Err(Error::Empty));
    let error = decode(b"hello, world").unwrap_err().to_string();
    assert!(error.contains("they begin with `hello, world`"), "{error}");
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
