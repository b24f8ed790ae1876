//! What can be wrong with a file, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::quote::{SHOWN, quote};

/// Why a file could not be read or written as a state dict, with the file's path.
#[derive(Debug, thiserror::Error)]
#[error("{}: {kind}", path.display())]
pub struct Error {
    path: PathBuf,
    kind: ErrorKind,
}

impl Error {
    pub(super) fn new(path: &Path, kind: ErrorKind) -> Self {
        Self {
            path: path.to_owned(),
            kind,
        }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is wrong with it.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.kind
    }
}

/// What is wrong with a file. Text from the file is escaped and cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system reported an error.
    #[error("cannot {action}: {cause}")]
    Io {
        /// The attempted action: "open the file".
        action: &'static str,
        /// The operating system's error.
        cause: io::Error,
    },

    /// It is a directory, a pipe or a device.
    #[error("this is {0}, not a file of weights")]
    NotAFile(&'static str),

    /// It has no bytes.
    #[error("the file is empty (0 bytes); the download or the copy that made it failed")]
    Empty,

    /// It is a server's response that was saved in place of the file.
    #[error(
        "this is {what}, not weights; most likely the download failed and the server's response was \
         saved instead: {excerpt}. Open the address in a browser to see why, then download again"
    )]
    WebPage {
        /// "an HTML page", "an XML document", "a JSON document".
        what: &'static str,
        /// Its title, its message, or its first characters.
        excerpt: String,
    },

    /// It is a pointer that Git LFS would replace by the real file.
    #[error(
        "this is a Git LFS pointer, not the weights it points to ({size}); run `git lfs pull` in \
         its repository"
    )]
    GitLfsPointer {
        /// The real file's size according to the pointer: "105151288 bytes", or "size unknown".
        size: String,
    },

    /// It is a known kind of file, but not a state dict.
    #[error("this is {what}, not a state dict; {advice}")]
    OtherFormat {
        /// What it is.
        what: String,
        /// What to do next.
        advice: &'static str,
    },

    /// It is an unknown kind of file.
    #[error(
        "not a file of weights: a state dict written by torch.save or a safetensors file is expected, \
         but this begins with {0}"
    )]
    Unrecognised(String),

    /// It ends too early.
    #[error(
        "the file is cut short: it has {has} bytes and {}; {missing} is missing. \
         Download or copy it again",
        match needs {
            Some(needs) => format!("needs at least {needs}"),
            None => "lacks its end".to_owned(),
        }
    )]
    Truncated {
        /// The file's size in bytes.
        has: u64,
        /// The minimum size in bytes, if known.
        needs: Option<u64>,
        /// The part that is missing.
        missing: String,
    },

    /// It has big-endian numbers.
    #[error(
        "the file was written on a big-endian machine, but only little-endian files are accepted; \
         save it again on a little-endian machine"
    )]
    BigEndian,

    /// It goes on after its end.
    #[error(
        "the file goes on for {extra} bytes after its end at byte {end}; was something appended, or were two downloads \
         joined? Download it again, or cut it with `head -c {end}`"
    )]
    Trailing {
        /// The offset of the first byte after the end.
        end: u64,
        /// The number of bytes after the end.
        extra: u64,
    },

    /// Its zip archive does not begin at its first byte.
    #[error(
        "the zip archive begins {before} bytes after the beginning of the file; was something put before it, or were \
         two downloads joined? Download it again, or cut it with `tail -c +{}`",
        before + 1
    )]
    Leading {
        /// The number of bytes before the archive.
        before: u64,
    },

    /// It contains no tensors, but an object of a class or a function that is not on the list of names that stand for
    /// data.
    #[error(
        "{place} is an object of {name}, which is not on the short list of names that stand for data. It was skipped \
         unread, and nothing was run. {advice}"
    )]
    Object {
        /// "the file", or the entry of the file.
        place: String,
        /// Module and name, quoted.
        name: String,
        /// What to do next.
        advice: &'static str,
    },

    /// It has no tensors under the name after `#`.
    #[error(
        "it has no tensors under {entry}, the name after `#`; {}",
        if entries.is_empty() {
            "its tensors are in no entry, so leave out `#` and the name".to_owned()
        } else {
            format!("it has tensors under {}", entries.join(", "))
        }
    )]
    NoEntry {
        /// The name, quoted.
        entry: String,
        /// The entries that contain tensors, those with the most tensors first.
        entries: Vec<String>,
    },

    /// Its pickle cannot be read.
    #[error("the pickle cannot be read at byte {offset}: {problem}")]
    Pickle {
        /// The position in the file, in bytes from its beginning.
        offset: usize,
        /// What was found and what was expected.
        problem: String,
    },

    /// A storage (the memory behind a tensor) is wrong.
    #[error("storage {key}: {problem}")]
    Storage {
        /// The storage's key, quoted.
        key: String,
        /// What was found and what was expected.
        problem: String,
    },

    /// A tensor is wrong.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor's name, quoted.
        name: String,
        /// What was found and what was expected.
        problem: String,
    },

    /// Its zip archive is wrong.
    #[error("the zip archive cannot be read: {0}")]
    Zip(String),

    /// Its safetensors header is wrong.
    #[error("the safetensors file cannot be read: {0}")]
    Safetensors(String),

    /// It is well-formed, but does not contain named tensors, or exceeds a limit.
    #[error("{0}")]
    Contents(String),
}

impl ErrorKind {
    pub(super) fn tensor(name: &str, problem: impl Into<String>) -> Self {
        Self::Tensor {
            name: quote(name),
            problem: problem.into(),
        }
    }

    /// `end` is at most the file's length.
    pub(super) fn trailing(file: &[u8], end: usize) -> Self {
        Self::Trailing {
            end: end as u64,
            extra: (file.len() - end) as u64,
        }
    }

    pub(super) fn storage(key: &str, problem: impl Into<String>) -> Self {
        Self::Storage {
            key: quote(key),
            problem: problem.into(),
        }
    }
}

/// What to do about an object of a class or a function, whose name is quoted.
pub(super) fn advice(name: &str) -> &'static str {
    if name.starts_with("`torch.") {
        "Only dense tensors of bool, integer and float types are accepted: no sparse, quantized or complex ones, and no \
         whole models (save `model.state_dict()`, not `model`)"
    } else {
        "If this is a whole model, save `model.state_dict()`, not `model`; if you do not know who made this file, do not \
         load it anywhere"
    }
}

/// Bytes from a file, made safe for an error: like [`quote`] if they are ASCII text, else the first few in
/// hexadecimal.
pub(super) fn quote_bytes(bytes: &[u8]) -> String {
    let printable = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    let shown = &bytes[..bytes.len().min(SHOWN)];
    match std::str::from_utf8(shown) {
        Ok(text) if !shown.is_empty() && shown.iter().all(printable) => quote(text),
        _ => {
            let hex: Vec<_> = shown
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            format!("the bytes [{}]", hex.join(" "))
        }
    }
}
