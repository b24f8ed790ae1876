//! The format since `PyTorch` 1.6: a zip archive with `ARCHIVE/data.pkl`, `ARCHIVE/data/KEY` for each storage, and
//! small records such as `byteorder` and `version`. All are uncompressed, so tensors are views into the file.
//!
//! The source is `PyTorch`'s `torch/serialization.py`, `_save` and `_load`.

use std::collections::HashMap;
use std::ops::Range;

use crate::archive::Archive;
use crate::error::ErrorKind;
use crate::pickle::{Pickle, Storage, unpickle};
use crate::quote::quote;
use crate::skipped::Skipped;
use crate::state_dict::{Entries, Format};

/// Reads a whole file.
pub(crate) fn read(file: &[u8]) -> Result<(Format, Entries, Skipped), ErrorKind> {
    let Some(archive) = Archive::open(file)? else {
        return Err(ErrorKind::Truncated {
            has: file.len() as u64,
            needs: least_length(file),
            missing: "the zip archive's directory, which lies at its end,".to_owned(),
        });
    };
    let root = root(&archive)?;
    let record = |name: &str| archive.locate(&format!("{root}/{name}"));
    if let Some(order) = record("byteorder")?
        && file[order].trim_ascii() == b"big"
    {
        return Err(ErrorKind::BigEndian);
    }
    let pickle = record("data.pkl")?.expect("the root is the folder of data.pkl");
    let object = unpickle(file, pickle, 0)?;

    let mut positions: HashMap<&str, Range<usize>> = HashMap::new();
    let (entries, skipped) = super::tensors(&object, file.len(), |storage| {
        let key = object.heap.text(storage.key);
        let position = match positions.get(key) {
            Some(position) => position.clone(),
            None => record(&format!("data/{key}"))?.ok_or_else(|| {
                ErrorKind::storage(
                    key,
                    "a tensor uses it, but the archive has no record for it; the file is damaged",
                )
            })?,
        };
        check_length(key, storage, &position)?;
        positions.insert(key, position.clone());
        Ok(position)
    })?;
    Ok((Format::PthZip(object.dialect), entries, skipped))
}

/// The folder of `data.pkl`.
fn root<'a>(archive: &Archive<'a>) -> Result<&'a str, ErrorKind> {
    let torch_script = |name: &str| {
        let inside = name.split_once('/').map_or(name, |(_, inside)| inside);
        inside == "constants.pkl" || inside.starts_with("code/")
    };
    if archive.names().any(torch_script) {
        return Err(ErrorKind::OtherFormat {
            what: "a TorchScript archive, which contains a program and its weights".to_owned(),
            advice: "in Python, `torch.save(torch.jit.load(path, map_location='cpu').state_dict(), \
                     'weights.pth')` gives a state dict",
        });
    }
    let folder = |name: &'a str| {
        name.strip_suffix("/data.pkl")
            .filter(|folder| !folder.contains('/'))
    };
    let mut roots = archive.names().filter_map(folder);
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root),
        (Some(_), Some(_)) => Err(ErrorKind::Zip(
            "it has two data.pkl and therefore two state dicts; keep one".to_owned(),
        )),
        (None, _) => {
            let first = archive
                .names()
                .min()
                .map_or_else(|| "nothing".to_owned(), quote);
            Err(ErrorKind::OtherFormat {
                what: format!("a zip archive without a data.pkl (it contains {first})"),
                advice: "if it contains weights, unpack them first",
            })
        }
    }
}

fn check_length(key: &str, storage: &Storage, position: &Range<usize>) -> Result<(), ErrorKind> {
    if position.len() == storage.bytes() {
        return Ok(());
    }
    let (has, says) = (position.len(), storage.bytes());
    Err(ErrorKind::storage(
        key,
        format!("its record has {has} bytes, but the pickle says {says}"),
    ))
}

/// The minimum length of the complete file, from the beginning of a truncated file: its pickle states the lengths of
/// the storages. `None` if the pickle is not complete.
fn least_length(file: &[u8]) -> Option<u64> {
    let name_length = u16::from_le_bytes(*file.get(26..)?.first_chunk()?);
    let extra_length = u16::from_le_bytes(*file.get(28..)?.first_chunk()?);
    let name = file.get(30..)?.get(..name_length.into())?;
    let start = 30 + usize::from(name_length) + usize::from(extra_length);
    if !name.ends_with(b"/data.pkl") || start > file.len() {
        return None;
    }
    let object: Pickle<'_> = unpickle(file, start..file.len(), 0).ok()?;
    let storages = object.heap.storages().iter();
    let lengths: HashMap<_, _> = storages
        .map(|storage| (object.heap.text(storage.key), storage.bytes() as u64))
        .collect();
    Some(
        lengths
            .values()
            .fold(object.end as u64, |sum, &length| sum.saturating_add(length)),
    )
}
