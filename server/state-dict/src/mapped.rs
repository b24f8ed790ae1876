//! A file's bytes.

use std::fs::File;
use std::io;
use std::ops::Deref;

use memmap2::Mmap;

/// Bytes that do not move: a mapped file, or a buffer.
pub(super) enum Bytes {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a whole file for reading. The file must not be empty.
    #[expect(unsafe_code, reason = "mapping a file; see SAFETY")]
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only, and lives as long as every slice of it. Another
        // process could still write to the file or truncate it. Weights files are replaced, not edited:
        // `write_safetensors` renames a complete file into place, and so do container images and volumes.
        // If a file is edited, a write changes numbers but breaks no invariant, since every offset was
        // checked against the length at opening and only plain bytes are read. Truncation causes SIGBUS,
        // which ends the process.
        unsafe { Mmap::map(file) }.map(Self::Mapped)
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}
