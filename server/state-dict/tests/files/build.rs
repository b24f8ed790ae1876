//! Pickles, streams and archives, built by hand.
//!
//! Each function that makes part of a pickle returns the opcodes that push one value.

/// Opcodes that push one value.
pub type Value = Vec<u8>;

pub const NONE: &[u8] = b"N";

pub fn int(value: i64) -> Value {
    let mut opcodes = vec![0x8a, 8];
    opcodes.extend(value.to_le_bytes());
    opcodes
}

/// Text as Python 3 writes it (BINUNICODE).
pub fn text(text: &str) -> Value {
    let mut opcodes = vec![b'X'];
    opcodes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
    opcodes.extend(text.as_bytes());
    opcodes
}

/// Text as Python 2 writes it (`SHORT_BINSTRING`).
pub fn python2_text(text: &str) -> Value {
    let mut opcodes = vec![b'U', u8::try_from(text.len()).unwrap()];
    opcodes.extend(text.as_bytes());
    opcodes
}

pub fn tuple(items: &[Value]) -> Value {
    [b"(".as_slice(), &items.concat(), b"t"].concat()
}

pub fn list(items: &[Value]) -> Value {
    [b"](".as_slice(), &items.concat(), b"e"].concat()
}

pub fn dict(pairs: &[(Value, Value)]) -> Value {
    let items: Vec<_> = pairs
        .iter()
        .flat_map(|(key, value)| [key.clone(), value.clone()])
        .collect();
    [b"}(".as_slice(), &items.concat(), b"u"].concat()
}

pub fn global(module: &str, name: &str) -> Value {
    format!("c{module}\n{name}\n").into_bytes()
}

/// A call (REDUCE).
pub fn call(module: &str, name: &str, arguments: &[Value]) -> Value {
    [global(module, name), tuple(arguments), b"R".to_vec()].concat()
}

pub fn ordered_dict(pairs: &[(Value, Value)]) -> Value {
    let empty = call("collections", "OrderedDict", &[]);
    let items: Vec<_> = pairs
        .iter()
        .flat_map(|(key, value)| [key.clone(), value.clone()])
        .collect();
    [empty, b"(".to_vec(), items.concat(), b"u".to_vec()].concat()
}

/// A storage of a class such as `FloatStorage`, in the format before `PyTorch` 1.6.
pub fn storage(class: &str, key: &str, count: i64) -> Value {
    storage_view(class, key, count, NONE.to_vec())
}

pub fn storage_view(class: &str, key: &str, count: i64, view: Value) -> Value {
    let mut id = storage_id(class, key, count);
    id.push(view);
    [tuple(&id), b"Q".to_vec()].concat()
}

/// A storage in the zip format.
pub fn zip_storage(class: &str, key: &str, count: i64) -> Value {
    [tuple(&storage_id(class, key, count)), b"Q".to_vec()].concat()
}

/// A storage's description in both formats.
fn storage_id(class: &str, key: &str, count: i64) -> Vec<Value> {
    vec![
        text("storage"),
        global("torch", class),
        text(key),
        text("cpu"),
        int(count),
    ]
}

/// One `float32` as `_rebuild_tensor_v2` makes it with its seventh argument, the metadata.
pub fn tensor_with_metadata(metadata: Value) -> Value {
    let hooks = call("collections", "OrderedDict", &[]);
    let arguments = [&tensor_arguments()[..], &[hooks, metadata]].concat();
    call("torch._utils", "_rebuild_tensor_v2", &arguments)
}

/// The arguments of `_rebuild_tensor_v2` for one `float32`, up to the hooks: storage, offset, shape, strides, and whether
/// it requires a gradient.
pub fn tensor_arguments() -> [Value; 5] {
    [
        storage("FloatStorage", "0", 1),
        int(0),
        ints(&[1]),
        ints(&[1]),
        vec![0x89],
    ]
}

pub fn ints(values: &[i64]) -> Value {
    let items: Vec<_> = values.iter().map(|&value| int(value)).collect();
    tuple(&items)
}

pub fn tensor(storage: Value, offset: i64, shape: &[i64], strides: &[i64]) -> Value {
    let hooks = call("collections", "OrderedDict", &[]);
    let arguments = [
        storage,
        int(offset),
        ints(shape),
        ints(strides),
        vec![0x89],
        hooks,
    ];
    call("torch._utils", "_rebuild_tensor_v2", &arguments)
}

/// A whole pickle of protocol 2.
pub fn pickle(value: &[u8]) -> Vec<u8> {
    [b"\x80\x02", value, b"."].concat()
}

pub fn magic() -> Vec<u8> {
    pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19")
}

pub fn system_info(little_endian: bool) -> Value {
    let flag = vec![if little_endian { 0x88 } else { 0x89 }];
    dict(&[
        (text("protocol_version"), int(1001)),
        (text("little_endian"), flag),
    ])
}

/// A file of the format before `PyTorch` 1.6 around a pickled object. Storages are keys, counts and bytes.
pub fn legacy_file(object: &[u8], storages: &[(&str, i64, Vec<u8>)]) -> Vec<u8> {
    let keys: Vec<_> = storages.iter().map(|(key, ..)| text(key)).collect();
    let mut file = [
        magic(),
        pickle(&int(1001)),
        pickle(&system_info(true)),
        pickle(object),
        pickle(&list(&keys)),
    ]
    .concat();
    for (_, count, bytes) in storages {
        file.extend(count.to_le_bytes());
        file.extend(bytes);
    }
    file
}

/// Such a file with one storage, `0`, of these floats.
pub fn legacy_floats(object: &[u8], floats: &[f32]) -> Vec<u8> {
    legacy_file(
        object,
        &[(
            "0",
            i64::try_from(floats.len()).unwrap(),
            floats_bytes(floats),
        )],
    )
}

pub fn floats_bytes(floats: &[f32]) -> Vec<u8> {
    floats
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Such a file with one tensor, `x`, in a storage of the floats 0 to 11.
pub fn legacy_with(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    let floats: Vec<f32> = (0_u8..12).map(f32::from).collect();
    let tensor = tensor(storage("FloatStorage", "0", 12), offset, shape, strides);
    legacy_floats(&dict(&[(text("x"), tensor)]), &floats)
}

/// One record of a zip file.
pub struct Record {
    pub name: String,
    pub bytes: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    pub crc: u32,
    /// The offset of the local header in the directory, if not the real one.
    pub offset: Option<u32>,
    /// The size in the directory, if not the real one.
    pub size: Option<u32>,
}

pub fn record(name: &str, bytes: impl Into<Vec<u8>>) -> Record {
    let bytes = bytes.into();
    Record {
        name: name.to_owned(),
        crc: crc32fast::hash(&bytes),
        bytes,
        method: 0,
        flags: 0,
        offset: None,
        size: None,
    }
}

/// A zip file.
pub fn zip_file(records: &[Record]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut directory = Vec::new();
    for record in records {
        let offset = record.offset.unwrap_or(u32::try_from(file.len()).unwrap());
        let size = record
            .size
            .unwrap_or(u32::try_from(record.bytes.len()).unwrap());
        let name_length = u16::try_from(record.name.len()).unwrap();
        let start = |header: &mut Vec<u8>| {
            header.extend([0; 2]);
            header.extend(record.flags.to_le_bytes());
            header.extend(record.method.to_le_bytes());
            header.extend([0; 4]);
            header.extend(record.crc.to_le_bytes());
            header.extend(size.to_le_bytes());
            header.extend(size.to_le_bytes());
            header.extend(name_length.to_le_bytes());
            header.extend([0; 2]);
        };
        file.extend(b"PK\x03\x04");
        start(&mut file);
        file.extend(record.name.as_bytes());
        file.extend(&record.bytes);
        directory.extend(b"PK\x01\x02\0\0");
        start(&mut directory);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(record.name.as_bytes());
    }
    let count = u16::try_from(records.len()).unwrap();
    let directory_offset = u32::try_from(file.len()).unwrap();
    let directory_length = u32::try_from(directory.len()).unwrap();
    file.extend(directory);
    file.extend(b"PK\x05\x06\0\0\0\0");
    file.extend(count.to_le_bytes());
    file.extend(count.to_le_bytes());
    file.extend(directory_length.to_le_bytes());
    file.extend(directory_offset.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// The records of a file of the zip format with one tensor, `x`, of the floats 1, 2 and 3.
pub fn zip_records() -> Vec<Record> {
    let tensor = tensor(zip_storage("FloatStorage", "0", 3), 0, &[3], &[1]);
    vec![
        record("a/data.pkl", pickle(&dict(&[(text("x"), tensor)]))),
        record("a/byteorder", "little"),
        record("a/data/0", floats_bytes(&[1.0, 2.0, 3.0])),
        record("a/version", "3\n"),
    ]
}

/// A safetensors file.
pub fn safetensors_file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}
