//! Records, which are put together to an archive whose numbers are right; then bytes that are changed in
//! that: after a record without a name, places counted from the end (2 bytes) and what is put there.

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
        if let Some(place) = file.len().checked_sub(back + 1) {
            file[place] = byte;
        }
    }
    let _ = read(&file);
});
