//! Decompression bombs take no memory, and pictures no more than `Header::memory` tells. A process of its own,
//! because it measures the process's peak memory.
#![cfg(target_os = "linux")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use image::{ExtendedColorType, ImageFormat};
use ssd_detector::picture::Header;

/// Tests run one after the other, because they measure the process's memory.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_bomb_in_the_metadata_is_skipped_without_inflating_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/pictures");
    let picture = folder.join("reference.png");
    // A deflated colour profile of 64 MB of zeros.
    let mut png = std::fs::read(picture).unwrap();
    let profile = deflate_zeros(64 << 20);
    let mut chunk = b"iCCPp\0\0".to_vec();
    chunk.extend(profile);
    let checksum = crc32fast::hash(&chunk).to_be_bytes();
    let length = (chunk.len() as u32 - 4).to_be_bytes();
    let header = 8 + 25;
    png.splice(header..header, [&length[..], &chunk, &checksum].concat());
    let before = peak_memory();
    let decoded = Header::read(&png, 50_000_000).and_then(|header| header.decode(&png));
    let grown = peak_memory() - before;
    assert_eq!(decoded.unwrap().picture.dimensions(), (90, 60));
    assert!(grown < 32 << 10, "{grown} KiB");
}

#[test]
fn a_frame_larger_than_its_picture_is_refused_without_allocating_it() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // A GIF of one pixel, whose only frame has 7000 x 7000.
    let gif =
        b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x58\x1b\x58\x1b\0\x02\x02L\x01\0;";
    let before = peak_memory();
    assert!(Header::read(gif, 50_000_000).unwrap().decode(gif).is_err());
    let grown = peak_memory() - before;
    assert!(grown < 32 << 10, "{grown} KiB");
}

#[test]
fn a_picture_takes_no_more_memory_than_its_header_tells() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/large");
    let pixels = |bytes: usize| vec![0; 2000 * 1500 * bytes];
    let written = |format, kind, bytes| {
        let mut file = std::io::Cursor::new(Vec::new());
        image::write_buffer_with_format(&mut file, &pixels(bytes), 2000, 1500, kind, format)
            .unwrap();
        file.into_inner()
    };
    let png = |kind, bytes| written(ImageFormat::Png, kind, bytes);
    let webp = |kind, bytes| written(ImageFormat::WebP, kind, bytes);
    let large = |name: &str| std::fs::read(folder.join(name)).unwrap();
    for (name, file, counted) in [
        ("RGB", png(ExtendedColorType::Rgb8, 3), 3),
        ("RGBA", png(ExtendedColorType::Rgba8, 4), 7),
        ("16 bits", png(ExtendedColorType::Rgba16, 8), 11),
        ("turned", large("turned.jpg"), 6),
        ("progressive", large("progressive.jpg"), 9),
        ("separate scans", large("separate.jpg"), 9),
        ("WebP", webp(ExtendedColorType::Rgb8, 3), 7),
        ("WebP with alpha", webp(ExtendedColorType::Rgba8, 4), 8),
        ("animated", animated(&webp(ExtendedColorType::Rgb8, 3)), 11),
        (
            "GIF",
            written(ImageFormat::Gif, ExtendedColorType::Rgb8, 3),
            8,
        ),
    ] {
        let header = Header::read(&file, 50_000_000).unwrap();
        let megabytes = (header.memory() as f64 / 3e6).round() as usize;
        assert_eq!(megabytes, counted, "{name}");
        reset_peak();
        let before = peak_memory();
        header.decode(&file).unwrap();
        let grown = (peak_memory() - before) as u64 * 1024;
        // The decoders' tables, and what the allocator rounds up.
        let slack = 4 << 20;
        assert!(grown <= header.memory() + slack, "{name}: {grown} bytes");
    }
}

/// An animation of 2000 x 1500 whose only frame is a lossless WebP's (RFC 9649, section 2.7).
fn animated(still: &[u8]) -> Vec<u8> {
    let chunk = |name: &[u8], data: &[u8]| {
        let length = (data.len() as u32).to_le_bytes();
        [name, &length, data, &[0][..data.len() % 2]].concat()
    };
    let (width, height) = (&1999_u32.to_le_bytes()[..3], &1499_u32.to_le_bytes()[..3]);
    let frame = [&[0; 6], width, height, &[0; 4], &still[12..]].concat();
    let chunks = [
        chunk(b"VP8X", &[&[2, 0, 0, 0], width, height].concat()),
        chunk(b"ANIM", &[0; 6]),
        chunk(b"ANMF", &frame),
    ];
    chunk(b"RIFF", &[&b"WEBP"[..], &chunks.concat()].concat())
}

/// Resets the peak memory.
fn reset_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// A zlib stream of `count` zero bytes.
fn deflate_zeros(count: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut stream = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..count >> 10 {
        stream.write_all(&[0; 1 << 10]).unwrap();
    }
    stream.finish().unwrap()
}

/// The peak memory of this process, in KiB.
fn peak_memory() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
