//! The pre-1.6 stream: four pickles, a pickled list of storage keys, then the storages.
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
//! The source is `PyTorch`'s `torch/serialization.py`, `_legacy_save` and `_legacy_load`. As there,
//! bytes after the last storage are ignored.

use std::collections::HashMap;
use std::ops::Range;

use crate::error::ErrorKind;
use crate::pickle::{Pickle, Value, unpickle};
use crate::state_dict::{Entries, Format};

const PROTOCOL_VERSION: i64 = 1001;

/// Reads a whole file.
pub(crate) fn read(file: &[u8]) -> Result<(Format, Entries), ErrorKind> {
    let (magic, at) = plain(file, 0)?;
    if magic != Value::Magic {
        return Err(ErrorKind::OtherFormat {
            what: format!(
                "a pickle of {}, but not one that torch.save wrote",
                magic.describe()
            ),
            advice: "load it where it was made, and save a state dict with torch.save",
        });
    }
    let (version, system_at) = plain(file, at)?;
    if version != Value::Int(PROTOCOL_VERSION) {
        let found = version.describe();
        return Err(malformed(
            at,
            format!("the protocol version is {found}, 1001 is expected"),
        ));
    }
    let object_at = check_system(file, system_at)?;
    let object = unpickle(file, object_at..file.len(), 0)?;
    let keys = unpickle(file, object.end..file.len(), object.opcodes)?;

    let places = places(file, &object, &keys)?;
    let entries = super::tensors(&object, file.len(), |storage| {
        let key = object.heap.text(storage.key);
        let place = places.get(key).cloned();
        place.ok_or_else(|| {
            ErrorKind::storage(
                key,
                "a tensor uses it, but it is not in the file's list of storages",
            )
        })
    })?;
    Ok((Format::PthLegacy(object.dialect), entries))
}

/// A value that has no contents, and where its pickle ends. The pickle's heap is dropped at once.
fn plain(file: &[u8], at: usize) -> Result<(Value, usize), ErrorKind> {
    let pickle = unpickle(file, at..file.len(), 0)?;
    Ok((pickle.root, pickle.end))
}

/// Checks the description of the writer's system, and tells where its pickle ends.
fn check_system(file: &[u8], at: usize) -> Result<usize, ErrorKind> {
    let system = unpickle(file, at..file.len(), 0)?;
    let Value::Dict(facts) = system.root else {
        let found = system.root.describe();
        return Err(malformed(
            at,
            format!("the writer's system is {found}, a dict is expected"),
        ));
    };
    match system.heap.lookup(facts, "little_endian") {
        Some(Value::Bool(false)) => Err(ErrorKind::BigEndian),
        _ => Ok(system.end),
    }
}

/// Where each storage's bytes lie, by its key. Each is as long as the object says.
fn places<'a>(
    file: &[u8],
    object: &'a Pickle<'_>,
    keys: &Pickle<'_>,
) -> Result<HashMap<&'a str, Range<usize>>, ErrorKind> {
    let declared = declared(object)?;
    let listed = listed(keys, object.end, &declared)?;
    check_length(file, keys.end, &listed)?;

    let mut places = HashMap::with_capacity(listed.len());
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
        if places.insert(key, start..at).is_some() {
            return Err(ErrorKind::storage(key, "it is listed twice"));
        }
    }
    Ok(places)
}

/// How long a storage is.
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

/// The keys after the object, in the order in which the storages follow.
fn listed<'a>(
    keys: &Pickle<'_>,
    offset: usize,
    declared: &HashMap<&'a str, Declared>,
) -> Result<Vec<(&'a str, Declared)>, ErrorKind> {
    let Value::List(list) = keys.root else {
        let found = keys.root.describe();
        return Err(malformed(
            offset,
            format!("a list of storage keys is expected, found {found}"),
        ));
    };
    let find = |key: &Value| match *key {
        Value::Text(key) => {
            let key = keys.heap.text(key);
            let found = declared
                .get_key_value(key)
                .map(|(&key, &length)| (key, length));
            found.ok_or_else(|| {
                ErrorKind::storage(
                    key,
                    "it is in the file's list of storages, but no tensor uses it",
                )
            })
        }
        other => Err(malformed(
            offset,
            format!("a storage key is {}, not a string", other.describe()),
        )),
    };
    keys.heap.sequence(list).iter().map(find).collect()
}

/// Whether all storages fit in the file, which is how most failed downloads show.
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
