//! GIF (GIF89a): whether a file has its end.

use super::Readable;

/// The whole file. The decoder reads only the first frame, and skips metadata.
pub(super) fn readable(file: &[u8]) -> Readable<'_> {
    Readable {
        file: [file.into()].into(),
        has_end: has_trailer(file).is_some(),
        // A frame narrower than its picture is decoded separately.
        aside: 4,
        // Not `interlaced`: rows come in another order, but each is whole.
        ..Readable::default()
    }
}

/// Follows the blocks up to the trailer (section 27); `None` if there is none.
fn has_trailer(file: &[u8]) -> Option<()> {
    // The header and the logical screen (sections 17 and 18).
    let mut at = 13 + color_table(*file.get(10)?);
    loop {
        at = match file.get(at)? {
            0x3b => return Some(()),
            // An extension and its label (sections 23 to 26).
            0x21 => after_sub_blocks(file, at + 2)?,
            // An image: its descriptor, its colour table and the LZW code size (sections 20 to 22).
            0x2c => after_sub_blocks(file, at + 11 + color_table(*file.get(at + 9)?))?,
            _ => return None,
        };
    }
}

/// The length of the colour table that a field of flags announces.
fn color_table(flags: u8) -> usize {
    if flags & 0x80 > 0 {
        3 << ((flags & 7) + 1)
    } else {
        0
    }
}

/// Where sub-blocks end, of which each begins with its length (section 15). The last one is empty.
fn after_sub_blocks(file: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*file.get(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}
