//! Recognises the kind of a file by its bytes, not by its name.

use super::archive::bytes_before;
use super::error::{ErrorKind, quote_bytes};
use crate::quote::quote;

/// The formats of state dicts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Pickle,
    Zip,
    Safetensors,
}

/// Maximum bytes of a text file that are inspected.
const INSPECTED: usize = 64 << 10;

/// Packed files, by their first bytes.
const PACKED: [(&[u8], &str); 6] = [
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"Rar!", "a RAR archive"),
];

/// Other frameworks' files, by their first bytes.
const OTHERS: [(&[u8], &str); 3] = [
    (b"\x89HDF", "an HDF5 file (Keras?)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"GGUF", "a GGUF file"),
];

/// Recognises the format.
///
/// # Errors
/// If the file has no known format.
pub(super) fn sniff(file: &[u8]) -> Result<Kind, ErrorKind> {
    if file.is_empty() {
        return Err(ErrorKind::Empty);
    }
    if file.starts_with(b"PK\x03\x04") || file.starts_with(b"PK\x05\x06") {
        return Ok(Kind::Zip);
    }
    if is_safetensors(file) {
        return Ok(Kind::Safetensors);
    }
    // Since protocol 2, pickles begin with byte 0x80. Older pickles of torch.save begin with the magic number in
    // decimal.
    if file.starts_with(b"\x80") || file.starts_with(b"L119547037146038801333356") {
        return Ok(Kind::Pickle);
    }
    Err(refuse(file))
}

/// Whether the file begins with a plausible little-endian length, then JSON. Text cannot begin like this, because at
/// least three bytes of the length are zero.
fn is_safetensors(file: &[u8]) -> bool {
    let Some((length, header)) = file.split_first_chunk() else {
        return false;
    };
    header.first() == Some(&b'{') && u64::from_le_bytes(*length) >> 40 == 0
}

/// An error that says what the file is instead.
fn refuse(file: &[u8]) -> ErrorKind {
    let starts_with =
        |(magic, what): &(&[u8], &'static str)| file.starts_with(magic).then_some(*what);
    if let Some(what) = PACKED.iter().find_map(starts_with) {
        return other(what, "unpack it first");
    }
    if let Some(what) = OTHERS.iter().find_map(starts_with) {
        return other(
            what,
            "convert it to safetensors with the tools it comes from",
        );
    }
    if file.get(257..262) == Some(b"ustar") {
        return refuse_tar(file);
    }
    if let Some(pointer) = file.strip_prefix(b"version https://git-lfs") {
        return refuse_git_lfs(pointer);
    }
    if let Some(before) = bytes_before(file) {
        return ErrorKind::Leading {
            before: before as u64,
        };
    }
    refuse_text(file).unwrap_or_else(|| ErrorKind::Unrecognised(quote_bytes(file)))
}

fn other(what: &str, advice: &'static str) -> ErrorKind {
    ErrorKind::OtherFormat {
        what: what.to_owned(),
        advice,
    }
}

/// `PyTorch` 0.1 wrote tar archives with these members.
fn refuse_tar(file: &[u8]) -> ErrorKind {
    let end = file[..100]
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(100);
    match file[..end].strip_prefix(b"./").unwrap_or(&file[..end]) {
        b"sys_info" | b"pickle" | b"storages" | b"tensors" => other(
            "a tar archive from PyTorch 0.1",
            "load it in Python with a PyTorch that still reads it (`torch.load(path, \
             weights_only=False)`, only if you trust the file), and save its state dict again",
        ),
        _ => other("a tar archive", "unpack it first"),
    }
}

fn refuse_git_lfs(pointer: &[u8]) -> ErrorKind {
    let size = String::from_utf8_lossy(&pointer[..pointer.len().min(1024)])
        .lines()
        .find_map(|line| line.strip_prefix("size ")?.parse::<u64>().ok());
    ErrorKind::GitLfsPointer {
        size: size.map_or_else(|| "size unknown".to_owned(), |size| format!("{size} bytes")),
    }
}

/// A page or a message that a server sent instead of the file.
fn refuse_text(file: &[u8]) -> Option<ErrorKind> {
    let decoded = String::from_utf8_lossy(&file[..file.len().min(INSPECTED)]);
    let text = decoded.trim_start_matches('\u{feff}').trim_start();
    let (what, excerpt) = if let Some(markup) = text.strip_prefix('<') {
        // S3 and similar services respond in XML, with <Code> and <Message>.
        let is_xml = markup.starts_with("?xml") || markup.starts_with("Error");
        let what = if is_xml {
            "an XML document"
        } else {
            "an HTML page"
        };
        (
            what,
            element(text, "title").or_else(|| element(text, "message")),
        )
    } else if text.starts_with('{') || text.starts_with('[') {
        ("a JSON document", None)
    } else {
        return None;
    };
    Some(ErrorKind::WebPage {
        what,
        excerpt: excerpt.unwrap_or_else(|| beginning(text)),
    })
}

/// The text of the first element with this name, quoted.
fn element(text: &str, name: &str) -> Option<String> {
    // ASCII lower case does not change offsets.
    let lower = text.to_ascii_lowercase();
    let tag = lower.find(&format!("<{name}"))?;
    let start = tag + lower[tag..].find('>')? + 1;
    let end = start + lower[start..].find("</")?;
    let inner = text[start..end].trim();
    (!inner.is_empty()).then(|| beginning(inner))
}

/// The first characters of a text, with each run of white space replaced by one space, quoted.
fn beginning(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().take(60).collect();
    let mut characters = words.join(" ");
    if let Some((cut, _)) = characters.char_indices().nth(60) {
        characters.truncate(cut);
        characters.push('…');
    }
    quote(&characters)
}
