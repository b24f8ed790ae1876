//! What can be wrong with a file, said so that it can be put right.

use std::io;
use std::path::{Path, PathBuf};

use crate::quote::{SHOWN, quote};

/// Why a file could not be read, or written, as a state dict. Names the file.
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

/// What is wrong with a file. Text that comes from the file is escaped and cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("cannot {action}: {cause}")]
    Io {
        /// What was tried: "open the file".
        action: &'static str,
        /// The operating system's answer.
        cause: io::Error,
    },

    /// A directory, a pipe or a device.
    #[error("this is {0}, not a file of weights")]
    NotAFile(&'static str),

    /// Nothing in it.
    #[error("the file is empty (0 bytes); the download or the copy that made it failed")]
    Empty,

    /// A server's answer was saved in place of the file.
    #[error(
        "this is {what}, not weights; most likely the download failed and the server's answer was \
         saved instead: {excerpt}. Open the address in a browser to see why, then download again"
    )]
    WebPage {
        /// "an HTML page", "an XML document", "a JSON document".
        what: &'static str,
        /// Its title, its message, or its first characters.
        excerpt: String,
    },

    /// A pointer that Git LFS would replace by the real file.
    #[error(
        "this is a Git LFS pointer, not the weights it points to ({size}); run `git lfs pull` \
         where it was cloned"
    )]
    GitLfsPointer {
        /// The real file's size as the pointer tells it: "105151288 bytes", or "size unknown".
        size: String,
    },

    /// Another kind of file, recognised.
    #[error("this is {what}, not a state dict; {advice}")]
    OtherFormat {
        /// What it is.
        what: String,
        /// What to do next.
        advice: &'static str,
    },

    /// Nothing this module knows.
    #[error(
        "not a file of weights that is read here (a state dict written by torch.save, or \
         safetensors); it begins with {0}"
    )]
    Unrecognised(String),

    /// The file ends too early.
    #[error(
        "the file is cut short: it has {has} bytes and {}; {missing} is missing. \
         Download or copy it again",
        match needs {
            Some(needs) => format!("needs at least {needs}"),
            None => "its end is not there".to_owned(),
        }
    )]
    Truncated {
        /// The file's size in bytes.
        has: u64,
        /// The least size it must have, in bytes, where that can be told.
        needs: Option<u64>,
        /// What should have come next.
        missing: String,
    },

    /// The file holds big-endian numbers.
    #[error(
        "the file was written on a big-endian machine; only little-endian files are read. \
         Save it again on a little-endian one"
    )]
    BigEndian,

    /// The pickle names something that is not on the list of names that are only data.
    #[error(
        "the pickle wants to run code: at byte {offset} it names {name}, which is not on the short \
         list of names that are only data. Nothing was run. {advice}"
    )]
    ForbiddenGlobal {
        /// Module and name, quoted.
        name: String,
        /// Where in the file, in bytes from its beginning.
        offset: usize,
        /// What to do next.
        advice: &'static str,
    },

    /// The pickle cannot be read.
    #[error("the pickle cannot be read at byte {offset}: {problem}")]
    Pickle {
        /// Where in the file, in bytes from its beginning.
        offset: usize,
        /// What was found and what was expected.
        problem: String,
    },

    /// One storage (the memory behind a tensor) is wrong.
    #[error("storage {key}: {problem}")]
    Storage {
        /// The storage's key, quoted.
        key: String,
        /// What was found and what was expected.
        problem: String,
    },

    /// One tensor is wrong.
    #[error("tensor {name}: {problem}")]
    Tensor {
        /// The tensor's name, quoted.
        name: String,
        /// What was found and what was expected.
        problem: String,
    },

    /// The zip archive is wrong.
    #[error("the zip archive cannot be read: {0}")]
    Zip(String),

    /// The safetensors header is wrong.
    #[error("the safetensors file cannot be read: {0}")]
    Safetensors(String),

    /// A well-formed file that holds something else than named tensors, or more than the bounds
    /// allow.
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

    pub(super) fn storage(key: &str, problem: impl Into<String>) -> Self {
        Self::Storage {
            key: quote(key),
            problem: problem.into(),
        }
    }
}

/// Bytes from a file, fit for a log: as [`quote`] where they are ASCII text, else the first few in
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
