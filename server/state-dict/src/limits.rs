//! Bounds on what a file may ask for. All lie far above any real checkpoint. Together they keep what
//! reading a file takes within 64 MiB and the file's size, and within about a second.

/// Opcodes in the pickles of a file of `file_len` bytes that are kept at one time. A tensor takes about
/// 60, so this is some 4,000 tensors, and 13,000 for each 100 MB. Every value on the unpickler's stack,
/// in its memo or in its containers was put there by an opcode, and takes 60 bytes or so: this bounds
/// those too.
pub(super) fn opcodes(file_len: usize) -> usize {
    (1 << 18) + (file_len / 128).min(1 << 21)
}

/// Items copied from one container to another (`OrderedDict(items)`) in one pickle. Copies are the
/// one way to make many values with few opcodes.
pub(super) const COPIED_ITEMS: usize = 1 << 18;

/// Tensors in one file.
pub(super) const TENSORS: usize = 1 << 16;

/// Records in one zip archive: a storage has one, and a tensor a storage at most.
pub(super) const RECORDS: u64 = 1 << 17;

/// Dimensions of one tensor. `PyTorch`'s own limit is the same.
pub(super) const DIMENSIONS: usize = 64;

/// Containers inside containers, from the root of a checkpoint down to a tensor.
pub(super) const NESTING: usize = 64;

/// Values visited while looking for tensors. Shared containers are visited once for each path that
/// leads to them, so a small file can ask for exponentially many visits.
pub(super) const VISITS: usize = 1 << 21;

/// Bytes of one tensor's dotted name.
pub(super) const NAME: usize = 1024;

/// Bytes of all names and shapes of a pickle's tensors. Shared containers give one tensor many names,
/// so a small file can ask for many long ones.
pub(super) const DESCRIPTIONS: usize = 8 << 20;

/// Bytes of a storage's key: any number of storages may share one, and it is hashed for each.
pub(super) const KEY: usize = 256;

/// Bytes of a safetensors header, some 20,000 tensors: parsing JSON takes up to 24 times its size in
/// memory.
pub(super) const SAFETENSORS_HEADER: usize = 2 << 20;

/// Bytes that all tensors of a file of `file_len` bytes may describe together.
///
/// Tied weights and expanded (stride 0) tensors describe more bytes than the file holds; sixteen
/// times as many, plus 64 MiB for small files, leaves them room while nobody can ask for terabytes
/// with a kilobyte.
pub(super) fn described_bytes(file_len: usize) -> usize {
    file_len.saturating_mul(16).saturating_add(64 << 20)
}
