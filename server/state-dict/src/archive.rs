//! The directory of a zip file whose records are stored, not compressed: their names and positions.
//!
//! The source is PKWARE's APPNOTE 6.3.10; section numbers refer to it. This module is stricter than unzip: a record
//! must lie before the directory and not overlap another record, must have a unique name, and must agree with its
//! local header.

use std::collections::HashMap;
use std::ops::Range;

use super::error::ErrorKind;
use super::limits;
use crate::quote::quote;

/// A zip file.
pub(super) struct Archive<'a> {
    file: &'a [u8],
    records: HashMap<&'a str, Record>,
}

struct Record {
    /// The position of its bytes in the file.
    bytes: Range<usize>,
    /// The unpacked length.
    size: u64,
    method: u16,
    encrypted: bool,
    /// 0 if the writer did not compute it (`torch.serialization.set_crc32_options(False)`).
    crc: u32,
}

const END: &[u8; 4] = b"PK\x05\x06";
const END_LENGTH: usize = 22;
const ZIP64_LOCATOR: &[u8; 4] = b"PK\x06\x07";
const ZIP64_LOCATOR_LENGTH: usize = 20;
const ZIP64_END: &[u8; 4] = b"PK\x06\x06";
const ZIP64_END_LENGTH: usize = 56;
const DIRECTORY_ENTRY: &[u8; 4] = b"PK\x01\x02";
const DIRECTORY_ENTRY_LENGTH: usize = 46;
const LOCAL_HEADER: &[u8; 4] = b"PK\x03\x04";

impl<'a> Archive<'a> {
    /// Reads the directory; `None` if the file has no end record, for example because a download was cut short.
    pub(super) fn open(file: &'a [u8]) -> Result<Option<Self>, ErrorKind> {
        let Some(end) = find_end(file) else {
            return match find_earlier_end(file) {
                Some(end) => Err(ErrorKind::trailing(file, end)),
                None => Ok(None),
            };
        };
        if let Some(before) = bytes_before(file) {
            return Err(ErrorKind::Leading {
                before: before as u64,
            });
        }
        let directory =
            Directory::find(file, end).ok_or_else(|| wrong("its end record is damaged"))?;
        let records = directory.records(file)?;
        check_apart(&records)?;
        Ok(Some(Self { file, records }))
    }

    /// The records' names, in no particular order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.records.keys().copied()
    }

    /// The position of a record's bytes in the file. Checks that they are not compressed, and their CRC. `None` if
    /// there is no record with this name.
    pub(super) fn locate(&self, name: &str) -> Result<Option<Range<usize>>, ErrorKind> {
        let Some(record) = self.records.get(name) else {
            return Ok(None);
        };
        let problem = if record.encrypted {
            "is encrypted; unpack it with its password, and pack it again with `zip -0 -r`"
        } else if record.method != 0 {
            "is compressed, which torch.save never does; unpack the archive, and pack it again \
             with `zip -0 -r`"
        } else if record.size != record.bytes.len() as u64 {
            "has two different sizes; the file is damaged: download or copy it again"
        } else if !self.matches_crc(record) {
            "does not match its checksum (CRC-32); the file is damaged: download or copy it again"
        } else {
            return Ok(Some(record.bytes.clone()));
        };
        Err(wrong(format!("the record {} {problem}", quote(name))))
    }

    fn matches_crc(&self, record: &Record) -> bool {
        record.crc == 0 || crc32fast::hash(&self.file[record.bytes.clone()]) == record.crc
    }
}

/// The offset of the end record (4.3.16): the last 22 bytes, or earlier if a comment follows.
fn find_end(file: &[u8]) -> Option<usize> {
    let last = file.len().checked_sub(END_LENGTH)?;
    let first = last.saturating_sub(usize::from(u16::MAX));
    (first..=last).rev().find(|&at| {
        let record = &file[at..];
        record.starts_with(END)
            && Fields(&record[20..]).u16() == u16::try_from(record.len() - END_LENGTH).ok()
    })
}

/// The end of an archive that other bytes follow: of its end record, whose directory precedes it.
fn find_earlier_end(file: &[u8]) -> Option<usize> {
    let mut positions = (0..file.len().checked_sub(END_LENGTH)?).rev();
    positions.find_map(|at| {
        let record = file[at..].strip_prefix(END)?;
        let comment = Fields(&record[END_LENGTH - 2 - END.len()..]).u16()?;
        let directory = Directory::find(file, at)?;
        let end = at + END_LENGTH + usize::from(comment);
        (directory.is_marked(file) && end <= file.len()).then_some(end)
    })
}

/// The number of bytes before an archive, if its directory lies that much later than its end record says.
pub(super) fn bytes_before(file: &[u8]) -> Option<usize> {
    let end = find_end(file)?;
    let mut fields = Fields(&file[end + 12..]);
    let (length, offset) = (fields.u32()? as usize, fields.u32()? as usize);
    // The zip64 records lie between the directory and the end record, also in archives whose numbers need none.
    let zip64 = ZIP64_END_LENGTH + ZIP64_LOCATOR_LENGTH;
    [end, end.saturating_sub(zip64)]
        .into_iter()
        .find_map(|end| {
            let directory = Directory {
                bytes: end.checked_sub(length)?..end,
                entries: 1,
            };
            let before = directory.bytes.start.checked_sub(offset)?;
            (before > 0 && directory.is_marked(file)).then_some(before)
        })
}

/// The position of the central directory.
struct Directory {
    bytes: Range<usize>,
    entries: u64,
}

impl Directory {
    /// Follows the end record; or the zip64 end record, if a number does not fit into the end record.
    fn find(file: &[u8], end: usize) -> Option<Self> {
        let mut fields = Fields(file.get(end + 10..)?);
        let (entries, length, offset) = (fields.u16()?, fields.u32()?, fields.u32()?);
        let (limit, entries, length, offset) =
            if entries == u16::MAX || length == u32::MAX || offset == u32::MAX {
                Self::find_zip64(file, end)?
            } else {
                (end, entries.into(), length.into(), offset.into())
            };
        let offset = usize::try_from(offset).ok()?;
        let bytes = offset..offset.checked_add(usize::try_from(length).ok()?)?;
        // Each entry takes space in the file, so the file's size bounds the number of entries.
        let possible = bytes.len() / DIRECTORY_ENTRY_LENGTH;
        (bytes.end <= limit && entries <= possible as u64).then_some(Self { bytes, entries })
    }

    /// Reads the zip64 end record (4.3.14), whose locator (4.3.15) precedes the end record. Returns its own offset,
    /// and the directory's entries, length and offset.
    fn find_zip64(file: &[u8], end: usize) -> Option<(usize, u64, u64, u64)> {
        let locator = file
            .get(end.checked_sub(ZIP64_LOCATOR_LENGTH)?..end)?
            .strip_prefix(ZIP64_LOCATOR)?;
        let at = usize::try_from(Fields(&locator[4..]).u64()?).ok()?;
        let record = file.get(at..end)?.strip_prefix(ZIP64_END)?;
        let mut fields = Fields(record.get(28..)?);
        Some((at, fields.u64()?, fields.u64()?, fields.u64()?))
    }

    /// Whether it begins with an entry.
    fn is_marked(&self, file: &[u8]) -> bool {
        file[self.bytes.clone()].starts_with(DIRECTORY_ENTRY)
    }

    fn records<'a>(&self, file: &'a [u8]) -> Result<HashMap<&'a str, Record>, ErrorKind> {
        if self.entries > limits::RECORDS {
            let most = limits::RECORDS;
            return Err(wrong(format!("more than {most} records, the limit")));
        }
        let mut fields = Fields(&file[self.bytes.clone()]);
        let mut records = HashMap::new();
        for _ in 0..self.entries {
            let at = self.bytes.end - fields.0.len();
            let entry = DirectoryEntry::read(&mut fields)
                .ok_or_else(|| wrong(format!("the directory is damaged at byte {at}")))?;
            let name = std::str::from_utf8(entry.name)
                .map_err(|_| wrong(format!("a record's name is not UTF-8, at byte {at}")))?;
            let bytes = entry.locate(file, self.bytes.start).ok_or_else(|| {
                let offset = entry.offset;
                wrong(format!(
                    "the record {} does not lie at byte {offset}, contrary to the directory",
                    quote(name)
                ))
            })?;
            let record = Record {
                bytes,
                size: entry.size,
                method: entry.method,
                encrypted: entry.flags & 1 != 0,
                crc: entry.crc,
            };
            if records.insert(name, record).is_some() {
                return Err(wrong(format!("two records are named {}", quote(name))));
            }
        }
        Ok(records)
    }
}

/// An entry of the central directory (4.3.12), with the zip64 numbers if there are any.
struct DirectoryEntry<'a> {
    flags: u16,
    method: u16,
    crc: u32,
    packed_size: u64,
    size: u64,
    /// The local header's offset in the file.
    offset: u64,
    name: &'a [u8],
}

impl<'a> DirectoryEntry<'a> {
    fn read(fields: &mut Fields<'a>) -> Option<Self> {
        if fields.take(4)? != DIRECTORY_ENTRY {
            return None;
        }
        fields.take(4)?; // versions
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(4)?; // time
        let (crc, packed_size, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        fields.take(8)?; // disk, attributes
        let offset = fields.u32()?;
        let name = fields.take(name.into())?;
        let mut zip64 = zip64_extra(fields.take(extra.into())?)?;
        fields.take(comment.into())?;
        // The extra field has the numbers that do not fit, in this order (4.5.3).
        let mut wide = |number: u32| {
            if number == u32::MAX {
                zip64.u64()
            } else {
                Some(number.into())
            }
        };
        let size = wide(size)?;
        Some(Self {
            flags,
            method,
            crc,
            packed_size: wide(packed_size)?,
            size,
            offset: wide(offset)?,
            name,
        })
    }

    /// The position of the record's bytes: after its local header (4.3.7), and before the directory.
    fn locate(&self, file: &[u8], directory: usize) -> Option<Range<usize>> {
        let records = &file[..directory];
        let header = usize::try_from(self.offset).ok()?;
        let mut fields = Fields(records.get(header..)?);
        if fields.take(4)? != LOCAL_HEADER {
            return None;
        }
        fields.take(2)?; // version
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.take(16)?; // time, CRC and sizes, which can follow the record instead
        let (name, extra) = (fields.u16()?, fields.u16()?);
        if fields.take(name.into())? != self.name || method != self.method || flags != self.flags {
            return None;
        }
        fields.take(extra.into())?;
        let length = usize::try_from(self.packed_size).ok()?;
        let start = directory - fields.0.len();
        fields.take(length)?;
        Some(start..start + length)
    }
}

/// The contents of the zip64 extra field (4.5.3); empty if there is none, `None` if the fields are damaged.
fn zip64_extra(extra: &[u8]) -> Option<Fields<'_>> {
    let mut fields = Fields(extra);
    // Some writers leave fewer than four bytes of padding.
    while fields.0.len() >= 4 {
        let (id, length) = (fields.u16()?, fields.u16()?);
        let contents = fields.take(length.into())?;
        if id == 1 {
            return Some(Fields(contents));
        }
    }
    Some(Fields(&[]))
}

/// Checks that no byte belongs to two records.
fn check_apart(records: &HashMap<&str, Record>) -> Result<(), ErrorKind> {
    let mut sorted: Vec<_> = records
        .iter()
        .filter(|(_, record)| !record.bytes.is_empty())
        .collect();
    sorted.sort_unstable_by_key(|(_, record)| record.bytes.start);
    for [(first, one), (second, other)] in sorted.array_windows() {
        if one.bytes.end > other.bytes.start {
            return Err(wrong(format!(
                "the records {} and {} overlap",
                quote(first),
                quote(second)
            )));
        }
    }
    Ok(())
}

fn wrong(problem: impl Into<String>) -> ErrorKind {
    ErrorKind::Zip(problem.into())
}

/// Reads little-endian numbers in sequence; `None` past the end.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(*self.take(4)?.first_chunk()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(*self.take(8)?.first_chunk()?))
    }
}
