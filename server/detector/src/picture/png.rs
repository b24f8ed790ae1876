//! PNG (W3C PNG, third edition): keeps the chunks that the pixels need.
//!
//! Other chunks can be large (programs store whole workflows as text) or decompression bombs (colour profiles), and
//! damage in them does not matter.

use std::borrow::Cow;

use super::foreign::Foreign;
use super::parts::Parts;
use super::{Error, Readable};

const SIGNATURE: usize = 8;
const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";

/// The header, the palette, the pixels and the end. Transparency (tRNS) is not needed, since alpha is dropped.
///
/// # Errors
/// If the file has no pixels, or is no standard PNG.
pub(super) fn readable(file: &[u8]) -> Result<Readable<'_>, Error> {
    let mut kept = Parts::from([file[..SIGNATURE.min(file.len())].into()]);
    let (mut has_pixels, mut is_cut, mut has_end) = (false, false, false);
    let mut exif = None;
    for chunk in chunks(file) {
        match chunk.name {
            b"CgBI" => {
                return Err(Error::Unsupported(Foreign {
                    what: "a PNG in Apple's own variant (CgBI), as in apps for iOS",
                    advice: "convert it: pngcrush -revert-iphone-optimizations FILE picture.png",
                }));
            }
            b"IEND" => {
                has_end = chunk.checksum.is_some();
                break;
            }
            b"IHDR" | b"PLTE" if chunk.checksum.is_none() => break,
            b"IHDR" | b"PLTE" => kept.push(chunk.whole),
            b"IDAT" => {
                kept.push(chunk.whole);
                has_pixels = true;
                is_cut = chunk.checksum.is_none();
            }
            b"eXIf" => exif = exif.or(Some(chunk.data)),
            _ => {}
        }
    }
    if !has_pixels {
        return Err(Error::without_rows("PNG"));
    }
    if !is_cut {
        kept.push(END);
    }
    Ok(Readable {
        file: kept,
        exif,
        has_end,
        // In the header chunk, which comes first.
        interlaced: file.get(28) == Some(&1),
        ..Readable::default()
    })
}

/// The name of the first needed chunk whose checksum does not match.
pub(super) fn damaged_chunk(file: &[u8]) -> Option<Cow<'_, str>> {
    let is_damaged = |chunk: &Chunk| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(chunk.name);
        hasher.update(chunk.data);
        let checksum = hasher.finalize().to_be_bytes();
        [b"IHDR", b"PLTE", b"IDAT"].contains(&chunk.name)
            && chunk.checksum.is_some_and(|stored| *stored != checksum)
    };
    let damaged = chunks(file).find(is_damaged)?;
    Some(String::from_utf8_lossy(damaged.name))
}

struct Chunk<'a> {
    name: &'a [u8; 4],
    /// The part that the file has.
    data: &'a [u8],
    /// `None` if the file ends before it.
    checksum: Option<&'a [u8; 4]>,
    /// All of the chunk that the file has, from its length on.
    whole: &'a [u8],
}

fn chunks(file: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = file.get(SIGNATURE..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk()?;
        let (name, after) = after.split_first_chunk()?;
        let (data, after) = after
            .split_at_checked(u32::from_be_bytes(*length) as usize)
            .unwrap_or((after, &[]));
        let (checksum, after) = after
            .split_first_chunk()
            .map_or((None, &[][..]), |(checksum, after)| (Some(checksum), after));
        let whole = &rest[..rest.len() - after.len()];
        rest = after;
        Some(Chunk {
            name,
            data,
            checksum,
            whole,
        })
    })
}
