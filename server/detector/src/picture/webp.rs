//! WebP (RFC 9649): keeps the chunks that the pixels need.
//!
//! The file header may announce metadata that the file lacks or names otherwise, and only the first frame of an
//! animation is used.

use super::{Error, Readable};

const FORMAT: &str = "WebP";
/// `RIFF`, the length of the rest, and `WEBP`.
const HEADER: usize = 12;
/// In the first byte of the chunk VP8X.
const ANIMATED: u8 = 0x02;
const ALPHA: u8 = 0x10;

/// Only the picture, or the first frame of an animation.
///
/// # Errors
/// If the picture is missing or cut short.
pub(super) fn readable(file: &[u8]) -> Result<Readable<'_>, Error> {
    let mut rest = file.get(HEADER..).unwrap_or_default();
    let mut animation = None;
    let (mut picture, mut exif) = (None, None);
    while let Some(chunk) = Chunk::next(&mut rest) {
        match (chunk.name, &mut animation) {
            (b"VP8X", None) if chunk.data.first().is_some_and(|flags| flags & ANIMATED > 0) => {
                let mut header = chunk.whole.to_vec();
                header[CHUNK_HEADER] &= ANIMATED | ALPHA;
                animation = Some(header);
            }
            (b"ANIM", Some(chunks)) => chunks.extend(chunk.whole),
            (b"ANMF", Some(_)) | (b"VP8 " | b"VP8L", None) if picture.is_none() => {
                if chunk.data.len() < chunk.length {
                    return Err(cut_short(&chunk));
                }
                picture = Some(chunk.whole);
            }
            (b"EXIF" | b"Exif" | b"exif", _) => exif = exif.or(Some(chunk.data)),
            _ => {}
        }
    }
    let picture = picture.ok_or_else(|| Error::without_rows(FORMAT))?;
    // RFC 9649, 2.5 to 2.7: the frame and the canvas of an animation, both with alpha; luma and chroma of a lossy
    // picture; alpha, if it is dropped from a lossless one.
    let aside = match (&animation, &picture[..4]) {
        (Some(_), _) => 8,
        (None, b"VP8 ") => 2,
        (None, _) => 4,
    };
    let announced = file.get(4..8).and_then(|size| size.first_chunk());
    let length = announced.map_or(0, |size| u32::from_le_bytes(*size)) as usize;
    let animation = animation.unwrap_or_default();
    let padding = &[0][..picture.len() % 2];
    // At most the file's length, which is limited.
    let size = (4 + animation.len() + picture.len() + padding.len()) as u32;
    let header = [b"RIFF", &size.to_le_bytes(), b"WEBP", &animation[..]].concat();
    Ok(Readable {
        file: [header.into(), picture.into(), padding.into()].into(),
        exif,
        has_end: file.len() >= length.saturating_add(8),
        aside,
        ..Readable::default()
    })
}

/// The name of a chunk and the length of its data.
const CHUNK_HEADER: usize = 8;

struct Chunk<'a> {
    name: &'a [u8; 4],
    length: usize,
    /// The part that the file has.
    data: &'a [u8],
    /// All of the chunk that the file has, with its name, length and padding.
    whole: &'a [u8],
}

impl<'a> Chunk<'a> {
    fn next(rest: &mut &'a [u8]) -> Option<Self> {
        let (name, after) = rest.split_first_chunk()?;
        let (length, after) = after.split_first_chunk()?;
        let length = u32::from_le_bytes(*length) as usize;
        let data = after.get(..length).unwrap_or(after);
        // Chunks begin at even positions.
        let end = rest
            .len()
            .min(CHUNK_HEADER + length.saturating_add(length % 2));
        let (whole, after) = rest.split_at(end);
        *rest = after;
        Some(Self {
            name,
            length,
            data,
            whole,
        })
    }
}

fn cut_short(chunk: &Chunk) -> Error {
    let (has, length) = (chunk.data.len(), chunk.length);
    let problem = format!("it is cut short after {has} of the {length} bytes of its picture");
    Error::undecodable(FORMAT, problem)
}
