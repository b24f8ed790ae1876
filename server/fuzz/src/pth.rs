//! Files of both `.pth` formats around a fuzzed part.

use state_dict::{Dtype, StateDict};

use crate::read;

/// The pickle at the beginning of every file of the format before `PyTorch` 1.6.
pub const MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";

/// The pickles after it: the version, and an empty description of the system.
const SYSTEM: &[u8] = b"\x80\x02M\xe9\x03.\x80\x02}.";

/// The list of the one storage, `0`.
const KEYS: &[u8] = b"\x80\x02]U\x010a.";

/// Elements of the one storage.
const FLOATS: usize = 16;

/// Reads a pickle in a file of either format.
///
/// # Panics
/// If both files are accepted and have different tensors.
pub fn read_both(pickle: &[u8]) {
    let tensors = |weights: StateDict| -> Vec<(String, Dtype, Vec<usize>, Vec<usize>)> {
        let told = weights.tensors().map(|tensor| {
            let (shape, strides) = (tensor.shape().to_vec(), tensor.strides().to_vec());
            (tensor.name().to_owned(), tensor.dtype(), shape, strides)
        });
        told.collect()
    };
    if let (Some(old), Some(new)) = (read(&legacy(pickle)), read(&zip(pickle))) {
        assert_eq!(tensors(old), tensors(new));
    }
}

/// A file of the format before `PyTorch` 1.6 around its object.
fn legacy(object: &[u8]) -> Vec<u8> {
    let count = (FLOATS as u64).to_le_bytes();
    [MAGIC, SYSTEM, object, KEYS, &count, &[0; 4 * FLOATS]].concat()
}

/// A file of the zip format around its `data.pkl`.
fn zip(object: &[u8]) -> Vec<u8> {
    archive(&[
        Record::stored("a/data.pkl", object),
        Record::stored("a/data/0", &[0; 4 * FLOATS]),
    ])
}

/// A record of a zip archive, correct except for its oddities.
pub struct Record<'a> {
    name: &'a [u8],
    bytes: &'a [u8],
    /// A sum of the constants.
    oddities: u8,
}

impl<'a> Record<'a> {
    const NO_CRC: u8 = 1;
    const WRONG_CRC: u8 = 2;
    const COMPRESSED: u8 = 4;
    const ENCRYPTED: u8 = 8;
    const WIDE: u8 = 16;
    const PADDED: u8 = 32;
    const SIZE_DIFFERS: u8 = 64;
    const LOCAL_DIFFERS: u8 = 128;

    fn stored(name: &'a str, bytes: &'a [u8]) -> Self {
        Self {
            name: name.as_bytes(),
            bytes,
            oddities: 0,
        }
    }

    /// A record from the front of the input: the lengths of its name and its bytes (1 and 2 bytes), its
    /// oddities, the name, the bytes.
    #[must_use]
    pub fn take(input: &mut &'a [u8]) -> Option<Self> {
        let (&[name, low, high, oddities], rest) = input.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(name.into())?;
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len());
        let (bytes, rest) = rest.split_at(length);
        *input = rest;
        Some(Self {
            name,
            bytes,
            oddities,
        })
    }

    fn is(&self, oddity: u8) -> bool {
        self.oddities & oddity != 0
    }

    fn crc(&self) -> u32 {
        let right = crc32fast::hash(self.bytes);
        if self.is(Self::NO_CRC) {
            0
        } else if self.is(Self::WRONG_CRC) {
            !right
        } else {
            right
        }
    }

    /// The common part of the record's two headers. If it is `wide`, the numbers are in the extra field.
    fn header(&self, signature: &[u8], extra: usize, wide: bool) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).unwrap();
        let packed = if wide { u32::MAX } else { length };
        let size = if wide {
            u32::MAX
        } else {
            length + u32::from(self.is(Self::SIZE_DIFFERS))
        };
        let method = if self.is(Self::COMPRESSED) { 8_u16 } else { 0 };
        let name = u16::try_from(self.name.len()).unwrap();
        let extra = u16::try_from(extra).unwrap();
        [
            signature,
            &u16::from(self.is(Self::ENCRYPTED)).to_le_bytes(),
            &method.to_le_bytes(),
            &[0; 4],
            &self.crc().to_le_bytes(),
            &packed.to_le_bytes(),
            &size.to_le_bytes(),
            &name.to_le_bytes(),
            &extra.to_le_bytes(),
        ]
        .concat()
    }

    fn local(&self) -> Vec<u8> {
        let padding = if self.is(Self::PADDED) { 7 } else { 0 };
        let mut header = self.header(b"PK\x03\x04\0\0", padding, false);
        header.extend(self.name);
        header.extend(vec![b'Z'; padding]);
        if self.is(Self::LOCAL_DIFFERS) {
            header[8] ^= 1;
        }
        header
    }

    fn entry(&self, offset: usize) -> Vec<u8> {
        let wide = self.is(Self::WIDE);
        let extra = if wide { 4 + 3 * 8 } else { 0 };
        let mut entry = self.header(b"PK\x01\x02\0\0\0\0", extra, wide);
        let short = u32::try_from(offset).unwrap();
        entry.extend([0; 10]);
        entry.extend(if wide { u32::MAX } else { short }.to_le_bytes());
        entry.extend(self.name);
        if wide {
            entry.extend(b"\x01\0\x18\0");
            for number in [self.bytes.len(), self.bytes.len(), offset] {
                entry.extend((number as u64).to_le_bytes());
            }
        }
        entry
    }
}

/// A zip archive of these records.
///
/// # Panics
/// If there are more records or bytes than its numbers can express.
#[must_use]
pub fn archive(records: &[Record]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for record in records {
        directory.extend(record.entry(file.len()));
        file.extend(record.local());
        file.extend(record.bytes);
    }
    let (count, offset) = (records.len() as u64, file.len() as u64);
    let length = directory.len() as u64;
    file.extend(directory);
    let wide = records.iter().any(|record| record.is(Record::WIDE));
    if wide {
        let end = file.len() as u64;
        file.extend(b"PK\x06\x06");
        file.extend([0; 20]);
        for number in [count, count, length, offset] {
            file.extend(number.to_le_bytes());
        }
        file.extend(b"PK\x06\x07\0\0\0\0");
        file.extend(end.to_le_bytes());
        file.extend([0; 4]);
    }
    // The largest numbers stand for "see the zip64 record".
    let narrow = |number: u64, largest: u64| if wide { largest } else { number };
    let entries = u16::try_from(narrow(count, u16::MAX.into())).unwrap();
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend([entries.to_le_bytes(); 2].concat());
    for number in [length, offset] {
        let bytes = u32::try_from(narrow(number, u32::MAX.into())).unwrap();
        file.extend(bytes.to_le_bytes());
    }
    file.extend([0; 2]);
    file
}
