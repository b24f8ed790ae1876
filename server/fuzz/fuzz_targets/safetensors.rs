//! A safetensors header and, after a zero byte, the tensors' bytes. The length before the header is correct.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ssd_fuzz::read;

fuzz_target!(|bytes: &[u8]| {
    let end = bytes.iter().position(|&byte| byte == 0);
    let (header, data) = bytes.split_at(end.unwrap_or(bytes.len()));
    let data = data.get(1..).unwrap_or_default();
    let length = (header.len() as u64).to_le_bytes();
    let _ = read(&[&length, header, data].concat());
});
