//! The format before `PyTorch` 1.6: a stream of four pickles, a pickled list of storage keys, and the storages.
//!
//! ```text
//! pickle  0x1950a86a20f9469cfc6c
//! pickle  1001
//! pickle  {'protocol_version': 1001, 'little_endian': True, 'type_sizes': {...}}
//! pickle  the object
//! pickle  [key, ...]
//! for each key:  i64 number of elements, the elements
//! ```
//!
//! The source is `PyTorch`'s `torch/serialization.py`, `_legacy_save` and `_legacy_load`. Unlike `PyTorch`, this module
//! refuses bytes after the last storage: the format has no checksums, and they can mean that a download that was cut
//! short and its second try were joined.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::ErrorKind;
use crate::pickle::{Pickle, Value, unpickle};
use crate::skipped::Skipped;
use crate::state_dict::{Entries, Format};

const PROTOCOL_VERSION: i64 = 1001;

/// Reads a whole file.
pub(crate) fn read(file: &[u8]) -> Result<(Format, Entries, Skipped), ErrorKind> {
    let version_at = check_magic(file)?;
    let system_at = check_version(file, version_at)?;
    let object_at = check_system(file, system_at)?;
    let object = unpickle(file, object_at..file.len(), 0)?;
    let keys = unpickle(file, object.end..file.len(), object.opcodes)?;

    let positions = positions(file, &object, &keys)?;
    let (entries, skipped) = super::tensors(&object, file.len(), |storage| {
        let key = object.heap.text(storage.key);
        positions.get(key).cloned().ok_or_else(|| {
            ErrorKind::storage(
                key,
                "a tensor uses it, but it is not in the file's list of storages; the file is damaged",
            )
        })
    })?;
    Ok((Format::PthLegacy(object.dialect), entries, skipped))
}

/// Checks the first pickle, and returns its end.
fn check_magic(file: &[u8]) -> Result<usize, ErrorKind> {
    let magic = unpickle(file, 0..file.len(), 0)?;
    let what = match magic.root {
        Value::Magic => return Ok(magic.end),
        Value::Opaque(name) => format!("an object of {}", magic.heap.quote_global(name)),
        other => other.describe(),
    };
    Err(ErrorKind::OtherFormat {
        what: format!("a pickle of {what} that torch.save did not write"),
        advice: "load it with the program that made it, and save a state dict with torch.save",
    })
}

/// Checks the version of the format, and returns the end of its pickle.
fn check_version(file: &[u8], at: usize) -> Result<usize, ErrorKind> {
    let version = unpickle(file, at..file.len(), 0)?;
    if version.root == Value::Int(PROTOCOL_VERSION) {
        return Ok(version.end);
    }
    let found = version.root.describe();
    Err(malformed(
        at,
        format!("the protocol version is {found}; {PROTOCOL_VERSION} is expected"),
    ))
}

/// Checks the description of the writer's system, and returns the end of its pickle.
fn check_system(file: &[u8], at: usize) -> Result<usize, ErrorKind> {
    let system = unpickle(file, at..file.len(), 0)?;
    let Value::Dict(facts) = system.root else {
        let found = system.root.describe();
        return Err(malformed(
            at,
            format!("the writer's system is {found}; a dict is expected"),
        ));
    };
    match system.heap.lookup(facts, "little_endian") {
        Some(Value::Bool(false)) => Err(ErrorKind::BigEndian),
        _ => Ok(system.end),
    }
}

/// The position of each storage's bytes, by the storage's key. Checks its length against the object's pickle.
fn positions<'a>(
    file: &[u8],
    object: &'a Pickle<'_>,
    keys: &Pickle<'_>,
) -> Result<HashMap<&'a str, Range<usize>>, ErrorKind> {
    let declared = declared(object)?;
    let listed = listed(keys, object.end, &declared)?;
    check_length(file, keys.end, &listed)?;

    let mut positions = HashMap::with_capacity(listed.len());
    let mut at = keys.end;
    for (key, declared) in listed {
        let (header, _) = file[at..]
            .split_first_chunk()
            .expect("the file's length was checked");
        let count = i64::from_le_bytes(*header);
        if usize::try_from(count) != Ok(declared.count) {
            let problem = format!(
                "it has {count} elements at byte {at}, but the pickle says {}",
                declared.count
            );
            return Err(ErrorKind::storage(key, problem));
        }
        let start = at + header.len();
        at = start + declared.bytes;
        if positions.insert(key, start..at).is_some() {
            return Err(ErrorKind::storage(key, "it is listed twice"));
        }
    }
    if at < file.len() {
        return Err(ErrorKind::trailing(file, at));
    }
    Ok(positions)
}

/// The length of a storage.
#[derive(Clone, Copy, PartialEq)]
struct Declared {
    count: usize,
    bytes: usize,
}

/// The storages that the object uses, by key.
fn declared<'a>(object: &'a Pickle<'_>) -> Result<HashMap<&'a str, Declared>, ErrorKind> {
    let mut declared = HashMap::new();
    for storage in object.heap.storages() {
        let key = object.heap.text(storage.key);
        let length = Declared {
            count: storage.count,
            bytes: storage.bytes(),
        };
        if *declared.entry(key).or_insert(length) != length {
            return Err(ErrorKind::storage(
                key,
                "the pickle describes it twice, with different lengths",
            ));
        }
    }
    Ok(declared)
}

/// The keys that follow the object, in the order of the storages.
fn listed<'a>(
    keys: &Pickle<'_>,
    offset: usize,
    declared: &HashMap<&'a str, Declared>,
) -> Result<Vec<(&'a str, Declared)>, ErrorKind> {
    let Value::List(list) = keys.root else {
        let found = keys.root.describe();
        return Err(malformed(
            offset,
            format!("a list of storage keys is expected, but this is {found}"),
        ));
    };
    let find = |key: &Value| match *key {
        Value::Text(text) => {
            let key = keys.heap.text(text);
            match declared.get_key_value(key) {
                Some((&key, &length)) => Ok((key, length)),
                None => Err(ErrorKind::storage(
                    key,
                    "it is in the file's list of storages, but no tensor uses it; the file is damaged",
                )),
            }
        }
        other => Err(malformed(
            offset,
            format!("a storage key is {}, not a string", other.describe()),
        )),
    };
    keys.heap.sequence(list).iter().map(find).collect()
}

/// Checks that all storages fit in the file. Most incomplete downloads fail this check.
fn check_length(file: &[u8], start: usize, listed: &[(&str, Declared)]) -> Result<(), ErrorKind> {
    let add = |end: usize, (_, length): &(&str, Declared)| {
        end.saturating_add(8).saturating_add(length.bytes)
    };
    let needs = listed.iter().fold(start, add);
    if needs > file.len() {
        return Err(ErrorKind::Truncated {
            has: file.len() as u64,
            needs: Some(needs as u64),
            missing: "the tensors' data, or its end,".to_owned(),
        });
    }
    Ok(())
}

fn malformed(offset: usize, problem: String) -> ErrorKind {
    ErrorKind::Pickle { offset, problem }
}
