//! JPEGs of every kind (tests/data/pictures/jpegs.py) give the pixels that other builds of libjpeg-turbo give, or are
//! refused.

use std::io::Read as _;
use std::path::PathBuf;

use ssd_detector::picture::{Decoded, Error, Header};

fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/jpegs");
    std::fs::read(folder.join(name)).unwrap()
}

struct Variant {
    name: String,
    file: Vec<u8>,
    /// The CRC-32 of its pixels; `None` if it must be refused.
    pixels: Option<u32>,
}

/// The files of jpegs.zlib.
fn variants() -> Vec<Variant> {
    let mut files = Vec::new();
    flate2::read::ZlibDecoder::new(&read("jpegs.zlib")[..])
        .read_to_end(&mut files)
        .unwrap();
    let mut files = files.into_iter();
    let index: Vec<(String, usize, Option<u32>)> =
        serde_json::from_slice(&read("jpegs.json")).unwrap();
    index
        .into_iter()
        .map(|(name, length, pixels)| Variant {
            name,
            file: files.by_ref().take(length).collect(),
            pixels,
        })
        .collect()
}

fn variant(name: &str) -> Vec<u8> {
    let named = variants().into_iter().find(|variant| variant.name == name);
    named.unwrap().file
}

fn decode(file: &[u8]) -> Result<Decoded, Error> {
    Header::read(file, 50_000_000)?.decode(file)
}

fn checksum(decoded: &Decoded) -> u32 {
    crc32fast::hash(decoded.picture.as_raw())
}

#[test]
fn every_sampling_progression_scan_order_and_restart_interval_gives_the_pixels_of_libjpeg() {
    for Variant { name, file, pixels } in variants() {
        match (decode(&file), pixels) {
            (Ok(decoded), Some(pixels)) => assert_eq!(checksum(&decoded), pixels, "{name}"),
            (Err(_), None) => {}
            (decoded, _) => panic!("{name}: {decoded:?}"),
        }
    }
}

#[test]
fn ten_thousand_damaged_jpegs_give_the_pixels_of_libjpeg_or_are_refused() {
    // Those that jpegs.py damages, in the same order.
    let mut whole = variants();
    let by_hand = |variant: &Variant| variant.name == "no Huffman tables";
    whole.truncate(whole.iter().position(by_hand).unwrap());
    whole.retain(|variant| variant.pixels.is_some());
    // MINSTD (Park and Miller 1988).
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state * 48271 % 0x7fff_ffff;
        state as usize % below
    };
    let (mut compared, mut others) = (0, Vec::new());
    for expected in read("mutants.bin").chunks_exact(4) {
        let expected = u32::from_le_bytes(expected.try_into().unwrap());
        let Variant { name, file, .. } = &whole[random(whole.len())];
        let mut file = file.clone();
        let (kind, at) = (random(4), random(file.len()));
        match kind {
            0 => file.truncate(at),
            1 => {
                let end = at + 1 + random(16);
                file.drain(at..end.min(file.len()));
            }
            _ => file[at] ^= 1 + random(255) as u8,
        }
        if kind == 3 {
            let at = random(file.len());
            file[at] ^= 1 + random(255) as u8;
        }
        if let (Ok(decoded), true) = (decode(&file), expected > 0) {
            compared += 1;
            if checksum(&decoded) != expected {
                others.push(format!("{name}, {kind} at {at}"));
            }
        }
    }
    assert!(compared > 2000, "{compared}");
    // A damaged coefficient can be many times larger than those of any picture (1024). Of such a block, libjpeg's
    // NEON code computes other pixels than its code for x86-64, which made the checksums: both overflow.
    let most = if cfg!(target_arch = "aarch64") {
        compared / 50
    } else {
        0
    };
    assert!(others.len() <= most, "{others:?}");
}

#[test]
fn a_jpeg_cut_anywhere_is_refused_unless_only_its_end_marker_is_missing() {
    for name in [
        "baseline 2x2,1x1,1x1",
        "separate 2x2,1x1,1x1",
        "progressive 2x2,1x1,1x1",
        "progression approximation 2x2",
        "restarts 3B 2x2",
        "grey ",
    ] {
        let file = variant(name);
        let whole = decode(&file).unwrap();
        for length in 2..file.len() {
            let end = &file[..length];
            if let Ok(cut) = decode(end) {
                assert_eq!(cut.picture, whole.picture, "{name} cut to {length}");
                assert!(!cut.has_end, "{name} cut to {length}");
                assert!(length > file.len() - 4, "{name} cut to {length}");
            }
            // Programs that repair files add an end marker.
            let repaired = decode(&[end, b"\xff\xd9"].concat());
            let is_whole = repaired.is_ok_and(|repaired| repaired.picture == whole.picture);
            let scans_left = !name.starts_with("progress");
            assert!(
                !scans_left || !is_whole || length > file.len() - 4,
                "{name} cut to {length}"
            );
        }
    }
}

#[test]
fn jpegs_of_kinds_that_are_not_accepted_are_refused_by_their_names() {
    for (name, problem) in [
        ("arithmetic 2x2", "a JPEG with arithmetic coding"),
        ("lossless", "a lossless JPEG"),
        ("hierarchical", "a hierarchical JPEG"),
        ("12 bits", "a JPEG of 12 bits per sample"),
        (
            "fractional sampling",
            "its chroma subsampling is not supported",
        ),
        (
            "no height",
            "neither its frame header nor a DNL segment has its height",
        ),
        ("only tables", "it is cut short before its first row"),
        ("a missing restart marker", "its data is damaged after"),
        ("a missing part", "it is cut short after 16 of 29 rows"),
        ("a scan less", "a colour component is in none of its scans"),
    ] {
        let error = decode(&variant(name)).unwrap_err().to_string();
        assert!(error.contains(problem), "{name}: {error}");
    }
}

#[test]
fn the_copy_of_a_file_without_a_height_counts_as_memory() {
    let memory = |file: &[u8]| Header::read(file, 50_000_000).unwrap().memory();
    let without = variant("DNL with the only height");
    let with = variant("DNL with the same height");
    assert_eq!(memory(&without), memory(&with) + without.len() as u64);
}

#[test]
fn the_end_marker_is_reported_missing_only_where_it_is() {
    for (name, has_end) in [
        ("no end marker", false),
        ("bytes after the end", true),
        ("bytes before the end", true),
        ("DNL with the only height", true),
    ] {
        assert_eq!(decode(&variant(name)).unwrap().has_end, has_end, "{name}");
    }
}

#[test]
fn a_jpeg_of_many_scans_is_refused() {
    let file = variant("progression dc-only 2x2");
    let scan = file
        .windows(2)
        .position(|marker| marker == b"\xff\xda")
        .unwrap();
    let (head, scan) = (&file[..scan], &file[scan..file.len() - 2]);
    let with = |scans| [head, &scan.repeat(scans), b"\xff\xd9"].concat();
    let error = decode(&with(200)).unwrap_err().to_string();
    assert!(error.contains("scans"), "{error}");
}
