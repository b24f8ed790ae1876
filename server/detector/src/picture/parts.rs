//! A file in parts, which a decoder reads as one file. What no pixel needs is left out without a copy of the rest.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Seek, SeekFrom};

/// The parts, and the position of the reader.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    all: Vec<Cow<'a, [u8]>>,
    /// The index of the part at the position.
    current: usize,
    /// From the start of that part.
    offset: usize,
}

impl<'a, const N: usize> From<[Cow<'a, [u8]>; N]> for Parts<'a> {
    fn from(parts: [Cow<'a, [u8]>; N]) -> Self {
        Self {
            all: parts.into(),
            ..Self::default()
        }
    }
}

impl<'a> Parts<'a> {
    /// Adds a part at the end.
    pub(super) fn push(&mut self, part: impl Into<Cow<'a, [u8]>>) {
        self.all.push(part.into());
    }

    fn position(&self) -> u64 {
        let before = self
            .all
            .iter()
            .take(self.current)
            .map(|part| part.len() as u64);
        before.sum::<u64>() + self.offset as u64
    }
}

impl Read for Parts<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Parts<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self
            .all
            .get(self.current)
            .is_some_and(|part| part.len() <= self.offset)
        {
            self.offset -= self.all[self.current].len();
            self.current += 1;
        }
        let part = self.all.get(self.current);
        Ok(part.map_or(&[], |part| &part[self.offset..]))
    }

    fn consume(&mut self, count: usize) {
        self.offset += count;
    }
}

impl Seek for Parts<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(by) => (self.position(), by),
            SeekFrom::End(by) => (self.all.iter().map(|part| part.len() as u64).sum(), by),
        };
        let position = from
            .checked_add_signed(by)
            .and_then(|position| usize::try_from(position).ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        (self.current, self.offset) = (0, position);
        Ok(position as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_read_and_sought_as_one_file() {
        let whole = b"one two three";
        let mut parts = Parts::default();
        for part in [&b""[..], b"one ", b"", b"two", b" three"] {
            parts.push(part);
        }
        for (to, position) in [
            (SeekFrom::Start(5), 5),
            (SeekFrom::Current(3), 8),
            (SeekFrom::End(-1), 12),
            (SeekFrom::Start(20), 20),
            (SeekFrom::Start(0), 0),
        ] {
            let mut file = parts.clone();
            file.seek(SeekFrom::Start(5)).unwrap();
            assert_eq!(file.seek(to).unwrap(), position);
            assert_eq!(file.stream_position().unwrap(), position);
            let mut rest = Vec::new();
            file.read_to_end(&mut rest).unwrap();
            assert_eq!(rest, whole[whole.len().min(position as usize)..]);
        }
        assert!(parts.seek(SeekFrom::Current(-1)).is_err());
    }
}
