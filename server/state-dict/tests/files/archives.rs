//! Sound and damaged zip files.

use super::build::*;
use super::{assert_refused, read};

/// A sound file with its records changed.
fn changed(change: impl FnOnce(&mut Vec<Record>)) -> Vec<u8> {
    let mut records = zip_records();
    change(&mut records);
    zip_file(&records)
}

#[test]
fn a_sound_archive_is_read() {
    let weights = read(changed(|_| {}));
    assert_eq!(weights.get("x").unwrap().to_f32(), [1.0, 2.0, 3.0]);
    assert_eq!(weights.format().to_string(), "pth (zip)");
}

#[test]
fn an_archive_with_a_comment_is_read() {
    let mut file = changed(|_| {});
    let length = file.len();
    file[length - 2] = 5;
    file.extend(b"PK\x05\x06!");
    assert_eq!(read(file).len(), 1);
}

#[test]
fn a_record_without_a_checksum_is_read() {
    // `torch.serialization.set_crc32_options(False)` writes zeros.
    assert_eq!(read(changed(|records| records[2].crc = 0)).len(), 1);
}

#[test]
fn a_flipped_bit_in_a_tensor_is_found() {
    assert_refused(
        changed(|records| records[2].bytes[5] ^= 1),
        &["`a/data/0`", "checksum"],
    );
}

#[test]
fn compressed_records_are_refused_with_advice() {
    assert_refused(
        changed(|records| records[0].method = 8),
        &["`a/data.pkl`", "compressed", "zip -0"],
    );
    assert_refused(
        changed(|records| records[2].method = 8),
        &["`a/data/0`", "compressed", "zip -0"],
    );
}

#[test]
fn encrypted_records_are_refused_with_advice() {
    assert_refused(
        changed(|records| records[2].flags = 1),
        &["`a/data/0`", "encrypted"],
    );
}

#[test]
fn duplicate_records_are_refused() {
    assert_refused(
        changed(|records| records.push(record("a/data/0", vec![0; 12]))),
        &["two records", "`a/data/0`"],
    );
}

#[test]
fn overlapping_records_are_refused() {
    // A record whose size includes the next one's header.
    let overlong = |records: &mut Vec<Record>| {
        let length = records[0].bytes.len();
        records[0].size = Some(u32::try_from(length + 60).unwrap());
    };
    assert_refused(
        changed(overlong),
        &["`a/data.pkl` and `a/byteorder` overlap"],
    );
}

#[test]
fn two_names_for_the_same_bytes_are_refused() {
    let mut records = zip_records();
    records.push(record("a/data/1", floats_bytes(&[1.0, 2.0, 3.0])));
    records[4].offset = Some(0);
    assert_refused(
        zip_file(&records),
        &["`a/data/1`", "does not lie at byte 0"],
    );
}

#[test]
fn records_outside_the_file_are_refused() {
    assert_refused(
        changed(|records| records[3].offset = Some(1 << 30)),
        &["`a/version`", "does not lie at byte"],
    );
    assert_refused(
        changed(|records| records[3].size = Some(1 << 30)),
        &["`a/version`", "does not lie at byte"],
    );
    // The value means "see the zip64 field", which is missing.
    assert_refused(
        changed(|records| records[3].offset = Some(u32::MAX)),
        &["directory is damaged"],
    );
    assert_refused(
        changed(|records| records[3].size = Some(u32::MAX)),
        &["directory is damaged"],
    );
}

#[test]
fn absurd_numbers_in_the_end_record_are_refused() {
    let sound = changed(|_| {});
    let end = sound.len() - 22;
    for (offset, bytes) in [
        (end + 10, b"\xff\xff".as_slice()),
        (end + 10, b"\xfe\xff"),
        (end + 12, b"\xff\xff\xff\xff"),
        (end + 12, b"\xfe\xff\xff\xff"),
        (end + 16, b"\xff\xff\xff\xff"),
        (end + 16, b"\xfe\xff\xff\xff"),
    ] {
        let mut file = sound.clone();
        file[offset..offset + bytes.len()].copy_from_slice(bytes);
        assert_refused(file, &["end record is damaged"]);
    }
}

/// A sound file with a zip64 end record of these numbers.
fn with_zip64(entries: u64, length: u64, offset: u64) -> Vec<u8> {
    let mut file = changed(|_| {});
    let mut end = file.split_off(file.len() - 22);
    let at = file.len() as u64;
    file.extend(b"PK\x06\x06");
    file.extend(44_u64.to_le_bytes());
    file.extend([0; 12]);
    file.extend(entries.to_le_bytes());
    for number in [entries, length, offset] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(at.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    end[16..20].fill(0xff);
    file.extend(end);
    file
}

#[test]
fn zip64_archives_are_read_and_their_extremes_refused() {
    let sound = changed(|_| {});
    let end = &sound[sound.len() - 22..];
    let length = u32::from_le_bytes(end[12..16].try_into().unwrap()).into();
    let offset = u32::from_le_bytes(end[16..20].try_into().unwrap()).into();
    assert_eq!(read(with_zip64(4, length, offset)).len(), 1);
    for (entries, length, offset) in [
        (u64::MAX, length, offset),
        (5, length, offset),
        (4, u64::MAX, offset),
        (4, length, u64::MAX),
        (4, u64::MAX, u64::MAX),
        (4, length + 1000, offset),
    ] {
        assert_refused(with_zip64(entries, length, offset), &["zip archive"]);
    }
}

#[test]
fn an_archive_of_too_many_records_is_refused_before_they_are_read() {
    let count = (1 << 17) + 1;
    let mut file = b"PK\x03\x04".to_vec();
    file.resize(46 * count, 0);
    let whole = with_zip64(count as u64, 46 * count as u64, 0);
    // The zip64 record, its locator and the end record.
    let mut end = whole[whole.len() - 98..].to_vec();
    let at = file.len() as u64;
    end[64..72].copy_from_slice(&at.to_le_bytes());
    file.extend(end);
    assert_refused(file, &["more than 131072 records"]);
}

#[test]
fn big_endian_archives_are_refused() {
    assert_refused(
        changed(|records| records[1] = record("a/byteorder", "big")),
        &["big-endian"],
    );
}

#[test]
fn a_storage_must_have_a_record_of_its_length() {
    assert_refused(
        changed(|records| drop(records.remove(2))),
        &["storage `0`", "no record"],
    );
    let short = |records: &mut Vec<Record>| records[2] = record("a/data/0", vec![0; 8]);
    assert_refused(changed(short), &["storage `0`", "8 bytes", "says 12"]);
}

#[test]
fn torch_script_is_refused() {
    for name in ["a/constants.pkl", "a/code/__torch__.py"] {
        let file = changed(|records| records.push(record(name, "")));
        assert_refused(file, &["TorchScript", "state_dict()"]);
    }
}

#[test]
fn other_archives_are_refused() {
    assert_refused(
        zip_file(&[record("weights.npy", "")]),
        &["without a data.pkl", "`weights.npy`", "unpack"],
    );
    assert_refused(zip_file(&[]), &["without a data.pkl", "nothing"]);
    let two = changed(|records| records.push(record("b/data.pkl", "")));
    assert_refused(two, &["two data.pkl"]);
}
