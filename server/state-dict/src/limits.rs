//! Limits on the contents of a file, far above any real checkpoint. Together they limit the memory for reading a
//! file to 64 MiB plus the file's size, and the time to about a second.

/// Maximum opcodes in the pickles of a file of `file_len` bytes that are in memory at the same time. A tensor takes
/// about 60, so this allows about 4,000 tensors, and another 13,000 for each 100 MB. An opcode adds at most one value
/// of about 64 bytes to the unpickler's stack, its memo or a container, so this limits their memory too.
pub(super) fn opcodes(file_len: usize) -> usize {
    (1 << 18) + (file_len / 128).min(1 << 21)
}

/// Maximum items that one pickle copies from one container to another (`OrderedDict(items)`). Only copies make many
/// values with few opcodes.
pub(super) const COPIED_ITEMS: usize = 1 << 18;

/// Maximum tensors in one file.
pub(super) const TENSORS: usize = 1 << 16;

/// Maximum records in one zip archive: at most one per tensor, and a few more.
pub(super) const RECORDS: u64 = 1 << 17;

/// Maximum dimensions of one tensor, as in `PyTorch`.
pub(super) const DIMENSIONS: usize = 64;

/// Maximum depth of nested containers, from the root of a checkpoint to a tensor.
pub(super) const NESTING: usize = 64;

/// Maximum values visited in the search for tensors. A shared container is visited once for each path to it, so a
/// small file could cause exponentially many visits.
pub(super) const VISITS: usize = 1 << 21;

/// Maximum bytes of a tensor's dotted name.
pub(super) const NAME: usize = 1024;

/// Maximum bytes of the names and shapes of all tensors of a pickle. Shared containers give one tensor many names,
/// so a small file could have many long names.
pub(super) const DESCRIPTIONS: usize = 8 << 20;

/// Maximum bytes of the module and of the name of a class or a function. They are compared with the names seen before.
pub(super) const GLOBAL: usize = 256;

/// Maximum entries and names of classes and functions that a report of what was skipped shows.
pub(super) const SKIPPED_SHOWN: usize = 10;

/// Maximum objects that were skipped of which the names are kept.
pub(super) const SKIPPED: usize = 1 << 10;

/// Maximum bytes of a storage's key. It is hashed for each storage, and many storages can share one key.
pub(super) const KEY: usize = 256;

/// Maximum bytes of a safetensors header, enough for about 20,000 tensors. Parsing JSON takes up to 24 times its
/// size in memory.
pub(super) const SAFETENSORS_HEADER: usize = 2 << 20;

/// Maximum bytes that the shapes of all tensors of a file of `file_len` bytes may describe together.
///
/// Tied weights and expanded (stride 0) tensors describe more bytes than the file has. 16 times the file's size, plus
/// 64 MiB for small files, is enough for them. Without a limit, a kilobyte could describe terabytes.
pub(super) fn described_bytes(file_len: usize) -> usize {
    file_len.saturating_mul(16).saturating_add(64 << 20)
}
