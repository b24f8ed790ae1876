//! Maps a file, recognises it and reads it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use indexmap::IndexMap;

use super::dtype::Dtype;
use super::error::{Error, ErrorKind};
use super::mapped::Bytes;
use super::skipped::Skipped;
use super::sniff::{Kind, sniff};
use super::tensor::Tensor;
use super::{pth, safetensors};
use crate::quote::quote;

/// A state dict: tensors by name, read from a file. It owns the mapped file; tensors are views into it.
pub struct StateDict {
    path: PathBuf,
    format: Format,
    metadata: BTreeMap<String, String>,
    entries: Entries,
    skipped: Skipped,
    /// The entry's name and a dot, if only the tensors under it were selected.
    prefix: String,
    bytes: Bytes,
}

/// Tensors by name, in the file's order.
pub(super) type Entries = IndexMap<String, Entry>;

/// A tensor in the file. Its position was checked.
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// One per axis.
    pub(super) strides: Vec<usize>,
    /// The position in the file, from the first element to the last.
    pub(super) bytes: Range<usize>,
    /// The length of its container's name, with which its own name begins. 0 for the root of a file.
    pub(super) container: usize,
}

/// Everything that a file contains besides its tensors' bytes.
struct Contents {
    format: Format,
    entries: Entries,
    skipped: Skipped,
    metadata: BTreeMap<String, String>,
}

/// The kind of file from which a state dict was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Written by `torch.save` before `PyTorch` 1.6: one stream of pickles and raw data.
    PthLegacy(Dialect),
    /// Written by `torch.save` since then: a zip archive.
    PthZip(Dialect),
    /// Safetensors.
    Safetensors,
}

/// What a pickle reveals about its writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dialect {
    /// The pickle protocol, 0 to 5. Protocols 0 and 1 are not marked in the file, and count as 0.
    pub protocol: u8,
    /// It contains Python 2 strings.
    pub python2_strings: bool,
    /// It makes tensors with `_rebuild_tensor`, like `PyTorch` 0.2 and 0.3, instead of `_rebuild_tensor_v2`.
    pub rebuild_tensor_v1: bool,
    /// Tensors were on a GPU when they were saved.
    pub cuda: bool,
}

impl Format {
    /// A stable name for machines: `pth-legacy`, `pth-zip` or `safetensors`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::PthLegacy(_) => "pth-legacy",
            Self::PthZip(_) => "pth-zip",
            Self::Safetensors => "safetensors",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (form, dialect) = match self {
            Self::PthLegacy(dialect) => ("format before PyTorch 1.6", dialect),
            Self::PthZip(dialect) => ("zip", dialect),
            Self::Safetensors => return f.write_str("safetensors"),
        };
        write!(f, "pth ({form}")?;
        if dialect.rebuild_tensor_v1 {
            f.write_str(", PyTorch 0.2-0.3 dialect")?;
        }
        if dialect.python2_strings {
            f.write_str(", Python 2 strings")?;
        }
        if dialect.cuda {
            f.write_str(", saved on a GPU")?;
        }
        f.write_str(")")
    }
}

impl StateDict {
    /// Reads a state dict from a file, which stays mapped. The format is recognised by the bytes, not by the name.
    ///
    /// `#` and the name of an entry can follow the file's name: see [`split_entry`]. The state dict then has only the
    /// tensors under that entry, with names that begin below it.
    ///
    /// Checks the whole structure, and for zip files the checksums of the tensors' data. Data without checksums is
    /// read only when it is used.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not a state dict, is damaged, cut short or big-endian, or exceeds a limit; or if
    /// it has no tensors under the entry.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (path, entry) = split_entry(path);
        let bytes = map(path).map_err(|kind| Error::new(path, kind))?;
        let whole = Self::read(path, bytes)?;
        match entry {
            Some(entry) => whole.select(entry),
            None => Ok(whole),
        }
    }

    /// Like [`open`](Self::open), from memory. Errors call the file `<memory>`.
    ///
    /// # Errors
    ///
    /// Like `open`.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, Error> {
        Self::read(Path::new("<memory>"), Bytes::Owned(bytes))
    }

    fn read(path: &Path, bytes: Bytes) -> Result<Self, Error> {
        let contents = parse(&bytes).map_err(|kind| Error::new(path, kind))?;
        Ok(Self {
            path: path.to_owned(),
            format: contents.format,
            metadata: contents.metadata,
            entries: contents.entries,
            skipped: contents.skipped,
            prefix: String::new(),
            bytes,
        })
    }

    /// Keeps only the tensors under an entry, whose dotted name is removed from theirs.
    fn select(self, entry: &str) -> Result<Self, Error> {
        let prefix = format!("{entry}.");
        let all = self.entries.iter();
        if !all.clone().any(|(name, _)| name.starts_with(&prefix)) {
            let kind = ErrorKind::NoEntry {
                entry: quote(entry),
                entries: containers(&self.entries),
            };
            return Err(Error::new(&self.path, kind));
        }
        let under = self.entries.into_iter().filter_map(|(name, entry)| {
            let name = name.strip_prefix(&prefix)?;
            Some((name.to_owned(), entry))
        });
        Ok(Self {
            entries: under.collect(),
            prefix,
            ..self
        })
    }

    /// The kind of file from which it was read.
    #[must_use]
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// The file from which it was read.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The metadata of a safetensors file (`__metadata__`); empty for other files.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The objects in the file that were skipped because they are not data; none in safetensors files.
    #[must_use]
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// The class or function, quoted, that made an object which stands where the tensor with this name is expected.
    /// `None` if there is no such object.
    #[must_use]
    pub fn skipped_at(&self, name: &str) -> Option<&str> {
        self.skipped.made_by(&format!("{}{name}", self.prefix))
    }

    /// Its tensors, in the file's order.
    #[must_use]
    pub fn tensors(&self) -> impl ExactSizeIterator<Item = Tensor<'_>> {
        self.entries
            .iter()
            .map(|(name, entry)| self.tensor(name, entry))
    }

    /// The tensor with this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Tensor<'_>> {
        let (_, name, entry) = self.entries.get_full(name)?;
        Some(self.tensor(name, entry))
    }

    /// The number of its tensors.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no tensors, like a checkpoint of plain numbers.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn tensor<'a>(&'a self, name: &'a str, entry: &'a Entry) -> Tensor<'a> {
        Tensor {
            name,
            dtype: entry.dtype,
            shape: &entry.shape,
            strides: &entry.strides,
            data: &self.bytes[entry.bytes.clone()],
        }
    }
}

impl fmt::Debug for StateDict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "StateDict({:?}, {}, {} tensors)",
            self.path,
            self.format,
            self.len()
        )
    }
}

/// Splits `#` and the dotted name of an entry from the name of a file: `checkpoint.pth#model` means the state dict
/// `model` in `checkpoint.pth`. If a file has the whole name, there is no entry.
#[must_use]
pub fn split_entry(path: &Path) -> (&Path, Option<&str>) {
    let split = || path.to_str()?.rsplit_once('#');
    match split() {
        Some((file, entry)) if !entry.contains('/') && path.symlink_metadata().is_err() => {
            (Path::new(file), Some(entry))
        }
        _ => (path, None),
    }
}

/// The containers of tensors, except the root, with their numbers of tensors. Those with the most come first.
fn containers(entries: &Entries) -> Vec<String> {
    const SHOWN: usize = 8;
    let mut counts: IndexMap<&str, usize> = IndexMap::new();
    for (name, entry) in entries.iter().filter(|(_, entry)| entry.container > 0) {
        *counts.entry(&name[..entry.container]).or_default() += 1;
    }
    counts.sort_by(|_, one, _, other| other.cmp(one));
    let shown = counts.iter().take(SHOWN);
    let mut shown: Vec<_> = shown
        .map(|(name, count)| format!("{} ({count})", quote(name)))
        .collect();
    if let Some(more @ 1..) = counts.len().checked_sub(SHOWN) {
        shown.push(format!("and {more} more"));
    }
    shown
}

fn map(path: &Path) -> Result<Bytes, ErrorKind> {
    // Checked before opening, because opening a pipe waits for a writer.
    let failed = |action| move |cause| ErrorKind::Io { action, cause };
    let about = std::fs::metadata(path).map_err(failed("find the file"))?;
    if about.is_dir() {
        return Err(ErrorKind::NotAFile("a directory"));
    }
    if !about.is_file() {
        return Err(ErrorKind::NotAFile("a pipe, a socket or a device"));
    }
    if about.len() == 0 {
        return Err(ErrorKind::Empty);
    }
    let file = File::open(path).map_err(failed("open the file"))?;
    Bytes::map(&file).map_err(failed("map the file"))
}

fn parse(bytes: &[u8]) -> Result<Contents, ErrorKind> {
    let (format, entries, skipped) = match sniff(bytes)? {
        Kind::Pickle => pth::legacy::read(bytes)?,
        Kind::Zip => pth::zip::read(bytes)?,
        Kind::Safetensors => {
            let (entries, metadata) = safetensors::read(bytes)?;
            return Ok(Contents {
                format: Format::Safetensors,
                entries,
                skipped: Skipped::default(),
                metadata,
            });
        }
    };
    Ok(Contents {
        format,
        entries,
        skipped,
        metadata: BTreeMap::new(),
    })
}
