//! libjpeg-turbo, which decodes JPEGs. The crate `mozjpeg-sys` has its C sources; `shim.c` makes one call of it.

// Links the library.
use mozjpeg_sys as _;

/// Maximum scans of a JPEG; encoders write about ten. A scan takes only a dozen bytes in the file, but makes the
/// decoder process all blocks of the picture.
pub(super) const MAX_SCANS: u32 = 100;

/// The decoded picture.
#[derive(Debug)]
pub(super) struct Decoded {
    /// RGB, row by row.
    pub(super) pixels: Vec<u8>,
    /// Whether the file has its end marker.
    pub(super) has_end: bool,
}

/// Why a JPEG cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Problem {
    /// The file or a scan ends before all blocks are there.
    CutShort(Position),
    /// The compressed data contradicts itself.
    Damaged(Position),
    /// There are more than [`MAX_SCANS`].
    TooManyScans,
    /// A component is in no scan.
    WithoutComponent,
    /// A Huffman or quantisation table is missing.
    WithoutTable,
    /// The components' sampling factors have no whole ratio, or are too large.
    UnsupportedSampling,
    /// A segment before the compressed data is wrong.
    DamagedHeader,
}

/// How far a decoder came.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    /// The scan, from 1.
    pub(super) scan: u32,
    /// Rows of pixels of the scan that were decoded before the problem.
    pub(super) rows: u32,
}

/// In step with `shim.c`.
#[derive(Debug, Default)]
#[repr(C)]
struct Report {
    outcome: u32,
    row: u32,
    scan: u32,
}

#[expect(unsafe_code, reason = "declares the function of shim.c")]
unsafe extern "C" {
    fn ssd_jpeg_decode(
        file: *const u8,
        length: usize,
        width: u32,
        height: u32,
        memory: usize,
        max_scans: std::ffi::c_int,
        pixels: *mut u8,
        report: *mut Report,
    );
}

/// Decodes a JPEG of `width` x `height` pixels. libjpeg may use `memory` bytes besides the pixels.
///
/// # Errors
/// If the file has another size, or cannot be decoded.
pub(super) fn decode(
    file: &[u8],
    (width, height): (u32, u32),
    memory: u64,
) -> Result<Decoded, Problem> {
    let mut pixels = vec![0; 3 * width as usize * height as usize];
    let mut report = Report::default();
    // SAFETY: `file` is readable for its length. The function writes `height` rows of 3 * `width` bytes, which is the
    // length of `pixels`, and only if the file's own size is the same. It keeps no pointer after it returns, and lets
    // no error through.
    #[expect(unsafe_code, reason = "calls C")]
    unsafe {
        ssd_jpeg_decode(
            file.as_ptr(),
            file.len(),
            width,
            height,
            usize::try_from(memory).unwrap_or(usize::MAX),
            MAX_SCANS as std::ffi::c_int,
            pixels.as_mut_ptr(),
            &raw mut report,
        );
    }
    let at = Position {
        scan: report.scan,
        rows: report.row.min(height),
    };
    Err(match report.outcome {
        outcome @ (0 | 1) => {
            return Ok(Decoded {
                pixels,
                has_end: outcome == 0,
            });
        }
        2 => Problem::CutShort(at),
        3 => Problem::Damaged(at),
        4 => Problem::TooManyScans,
        5 => Problem::WithoutComponent,
        6 => Problem::WithoutTable,
        7 => Problem::UnsupportedSampling,
        _ => Problem::DamagedHeader,
    })
}
