//! A position in a file's bytes that only moves forward, and never past the end.

use std::ops::Range;

use crate::error::ErrorKind;

/// Reads a part of a file from its beginning.
pub(super) struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    /// `range` must lie inside `file`.
    pub(super) fn new(file: &'a [u8], range: Range<usize>) -> Self {
        debug_assert!(range.start <= range.end && range.end <= file.len());
        Self {
            file,
            at: range.start,
            end: range.end,
        }
    }

    /// The offset of the next byte, from the beginning of the file.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next `count` bytes. The file declares `count`, which can be any number.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8], ErrorKind> {
        let next = self.peek(count)?;
        self.at += next.len();
        Ok(next)
    }

    /// The next `count` bytes, without moving forward.
    pub(super) fn peek(&self, count: u64) -> Result<&'a [u8], ErrorKind> {
        usize::try_from(count)
            .ok()
            .and_then(|count| self.file[self.at..self.end].get(..count))
            .ok_or_else(|| self.ends_early(count))
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], ErrorKind> {
        let bytes = self.take(N as u64)?;
        Ok(*bytes.first_chunk().expect("`take` gave N bytes"))
    }

    /// The bytes up to the next line feed, which is skipped.
    pub(super) fn line(&mut self) -> Result<&'a [u8], ErrorKind> {
        let rest = &self.file[self.at..self.end];
        let length = rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or_else(|| self.ends_early(rest.len() as u64 + 1))?;
        self.at += length + 1;
        Ok(&rest[..length])
    }

    fn ends_early(&self, count: u64) -> ErrorKind {
        let (at, end) = (self.at, self.end);
        if end == self.file.len() {
            ErrorKind::Truncated {
                has: end as u64,
                needs: Some((at as u64).saturating_add(count)),
                missing: format!("the rest of the pickle, from byte {at} on,"),
            }
        } else {
            ErrorKind::Pickle {
                offset: at,
                problem: format!("{count} bytes are expected, but only {} are left", end - at),
            }
        }
    }
}
