//! Records, from which an archive with correct numbers is built. After a record without a name: bytes to change in
//! it, each as its position from the end (2 bytes) and its value.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_fuzz::pth::{Record, archive};
use ssd_fuzz::read;

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes;
    let mut records = Vec::new();
    while input.first().is_some_and(|&length| length > 0)
        && let Some(record) = Record::take(&mut input)
    {
        records.push(record);
    }
    let mut file = archive(&records);
    for &[low, high, byte] in input.get(1..).unwrap_or_default().as_chunks().0 {
        let back = usize::from(u16::from_le_bytes([low, high]));
        if let Some(at) = file.len().checked_sub(back + 1) {
            file[at] = byte;
        }
    }
    let _ = read(&file);
});
