//! Bounds on what a file may contain. All are far above any real checkpoint. Together they bound the memory for
//! reading a file to 64 MiB and the file's size, and the time to about a second.

/// Opcodes in the pickles of a file of `file_len` bytes that are in memory at the same time. A tensor takes about
/// 60, so this allows some 4,000 tensors, and 13,000 for each 100 MB. An opcode puts at most one value of some 60
/// bytes on the unpickler's stack, into its memo or into a container, so this bounds them too.
pub(super) fn opcodes(file_len: usize) -> usize {
    (1 << 18) + (file_len / 128).min(1 << 21)
}

/// Items copied from one container to another (`OrderedDict(items)`) in one pickle. Only copies make many values
/// with few opcodes.
pub(super) const COPIED_ITEMS: usize = 1 << 18;

/// Tensors in one file.
pub(super) const TENSORS: usize = 1 << 16;

/// Records in one zip archive: one per storage, and at most one storage per tensor.
pub(super) const RECORDS: u64 = 1 << 17;

/// Dimensions of one tensor. `PyTorch`'s own limit is the same.
pub(super) const DIMENSIONS: usize = 64;

/// Containers inside containers, from the root of a checkpoint down to a tensor.
pub(super) const NESTING: usize = 64;

/// Values visited in the search for tensors. A shared container is visited once for each path that leads to it,
/// so a small file can cause exponentially many visits.
pub(super) const VISITS: usize = 1 << 21;

/// Bytes of one tensor's dotted name.
pub(super) const NAME: usize = 1024;

/// Bytes of all names and shapes of a pickle's tensors. Shared containers give one tensor many names, so a small
/// file can have many long ones.
pub(super) const DESCRIPTIONS: usize = 8 << 20;

/// Bytes of a storage's key, which is hashed for each storage: many can share one key.
pub(super) const KEY: usize = 256;

/// Bytes of a safetensors header, enough for some 20,000 tensors. Parsing JSON takes up to 24 times its size in
/// memory.
pub(super) const SAFETENSORS_HEADER: usize = 2 << 20;

/// Bytes that all tensors of a file of `file_len` bytes may describe together.
///
/// Tied weights and expanded (stride 0) tensors describe more bytes than the file has. Sixteen times as many, plus
/// 64 MiB for small files, is enough for them; without a limit, a kilobyte could describe terabytes.
pub(super) fn described_bytes(file_len: usize) -> usize {
    file_len.saturating_mul(16).saturating_add(64 << 20)
}
