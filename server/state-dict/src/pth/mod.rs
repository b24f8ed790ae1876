//! The two formats of `torch.save`.
//!
//! Both have a pickle, which describes a tree of dicts and lists that contains tensors, and storages: the raw memory
//! behind the tensors. [`legacy`] and [`zip`] find these in the file; this module turns the tree into named tensors.

pub(super) mod legacy;
pub(super) mod zip;

use std::ops::Range;

use super::dtype::Dtype;
use super::error::{ErrorKind, advice};
use super::layout;
use super::limits;
use super::pickle::{Global, Heap, Name, Pickle, Storage, StorageType, TensorRecipe, Value};
use super::skipped::Skipped;
use super::state_dict::{Entries, Entry};
use crate::quote::quote;

/// The tensors of a pickle, in its order, and what was skipped. `locate` returns the position of a storage's bytes in
/// the file.
fn tensors(
    pickle: &Pickle<'_>,
    file_len: usize,
    locate: impl FnMut(&Storage) -> Result<Range<usize>, ErrorKind>,
) -> Result<(Entries, Skipped), ErrorKind> {
    let mut collector = Collector {
        heap: &pickle.heap,
        locate,
        bytes_left: limits::described_bytes(file_len),
        description_left: limits::DESCRIPTIONS,
        entries: Entries::new(),
        skipped: Skipped::new(pickle.unknown.clone()),
    };
    match pickle.root {
        root @ (Value::Dict(_) | Value::List(_) | Value::Tuple(_)) => collector.walk(root)?,
        Value::Opaque(name) => {
            return Err(object("it".to_owned(), pickle.heap.quote_global(name)));
        }
        other => {
            let found = other.describe();
            return Err(ErrorKind::Contents(format!(
                "the file contains {found}, not a dict of named tensors; save `model.state_dict()`"
            )));
        }
    }
    match collector.skipped.first() {
        Some((entry, made_by)) if collector.entries.is_empty() => {
            let place = format!("it contains no tensors, and its entry {}", quote(entry));
            Err(object(place, made_by.to_owned()))
        }
        _ => Ok((collector.entries, collector.skipped)),
    }
}

fn object(place: String, name: String) -> ErrorKind {
    let advice = advice(&name);
    ErrorKind::Object {
        place,
        name,
        advice,
    }
}

struct Collector<'a, L> {
    heap: &'a Heap<'a>,
    locate: L,
    /// How many more bytes tensors may describe.
    bytes_left: usize,
    /// How many more bytes names and shapes of tensors may take.
    description_left: usize,
    entries: Entries,
    skipped: Skipped,
}

/// A container on the path from the root to the current value.
struct Step {
    container: Value,
    /// The number of its visited items.
    visited: usize,
}

/// One part of a dotted name.
enum Part {
    Key(Value),
    Index(usize),
}

impl<L> Collector<'_, L>
where
    L: FnMut(&Storage) -> Result<Range<usize>, ErrorKind>,
{
    /// Visits every value under `root`, depth first, without recursion.
    fn walk(&mut self, root: Value) -> Result<(), ErrorKind> {
        let mut path = vec![Step {
            container: root,
            visited: 0,
        }];
        let mut visits = 0;
        while let Some(step) = path.last_mut() {
            let Some((part, child)) = self.item(step.container, step.visited) else {
                path.pop();
                continue;
            };
            step.visited += 1;
            visits += 1;
            if visits > limits::VISITS {
                let most = limits::VISITS;
                return Err(ErrorKind::Contents(format!(
                    "the pickle describes more than {most} values, the limit"
                )));
            }
            match child {
                // A name cannot be made from an object.
                _ if matches!(part, Part::Key(Value::Opaque(_))) => self.skipped.add(None),
                Value::Tensor(tensor) => {
                    let (name, container) = self.name(&path)?;
                    self.add(name, container, self.heap.tensor(tensor))?;
                }
                Value::Opaque(made_by) => self.skip(&path, made_by),
                Value::Dict(_) | Value::List(_) | Value::Tuple(_)
                    if path.len() == limits::NESTING =>
                {
                    let most = limits::NESTING;
                    return Err(ErrorKind::Contents(format!(
                        "containers are nested deeper than {most}, the limit"
                    )));
                }
                container @ (Value::Dict(_) | Value::List(_) | Value::Tuple(_)) => {
                    path.push(Step {
                        container,
                        visited: 0,
                    });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Records an object that is skipped.
    fn skip(&mut self, path: &[Step], made_by: Name) {
        let name = self.skipped.has_room().then(|| self.name(path));
        let made_by = || self.heap.quote_global(made_by);
        let described = name.and_then(Result::ok).map(|(name, _)| (name, made_by()));
        self.skipped.add(described);
    }

    fn item(&self, container: Value, index: usize) -> Option<(Part, Value)> {
        match container {
            Value::Dict(dict) => self
                .heap
                .dict(dict)
                .get(index)
                .map(|&(key, value)| (Part::Key(key), value)),
            Value::List(items) | Value::Tuple(items) => self
                .heap
                .sequence(items)
                .get(index)
                .map(|&value| (Part::Index(index), value)),
            _ => None,
        }
    }

    /// The dotted name of the item that each step visited last, and the length of its container's name.
    fn name(&self, path: &[Step]) -> Result<(String, usize), ErrorKind> {
        let (mut name, mut container) = (String::new(), 0);
        for (depth, step) in path.iter().enumerate() {
            container = name.len();
            if depth > 0 {
                name.push('.');
            }
            match self.item(step.container, step.visited - 1) {
                Some((Part::Key(Value::Text(key)), _)) => name.push_str(self.heap.text(key)),
                Some((Part::Key(Value::Int(key)), _)) => name.push_str(&key.to_string()),
                Some((Part::Index(index), _)) => name.push_str(&index.to_string()),
                Some((Part::Key(key), _)) => {
                    let key = key.describe();
                    return Err(ErrorKind::Contents(format!(
                        "the name of a tensor under {} is {key}; only strings and integers are accepted as names",
                        quote(&name)
                    )));
                }
                None => unreachable!("each step has visited an item"),
            }
            if name.len() > limits::NAME {
                let most = limits::NAME;
                return Err(ErrorKind::tensor(
                    &name,
                    format!("its name is longer than {most} bytes, the limit"),
                ));
            }
        }
        Ok((name, container))
    }

    fn add(
        &mut self,
        name: String,
        container: usize,
        recipe: &TensorRecipe,
    ) -> Result<(), ErrorKind> {
        if self.entries.len() == limits::TENSORS {
            let most = limits::TENSORS;
            return Err(ErrorKind::Contents(format!(
                "more than {most} tensors, the limit"
            )));
        }
        if self.entries.contains_key(&name) {
            return Err(ErrorKind::tensor(&name, "two tensors have this name"));
        }
        let entry = self.entry(&name, recipe)?;
        let description =
            name.len() + size_of_val(&entry.shape[..]) + size_of_val(&entry.strides[..]);
        let left = self.description_left.checked_sub(description);
        self.description_left = left.ok_or_else(|| {
            let most = limits::DESCRIPTIONS;
            ErrorKind::Contents(format!(
                "the names and shapes of its tensors take more than {most} bytes, the limit"
            ))
        })?;
        self.entries.insert(name, Entry { container, ..entry });
        Ok(())
    }

    fn entry(&mut self, name: &str, recipe: &TensorRecipe) -> Result<Entry, ErrorKind> {
        let storage = self.heap.storage(recipe.storage);
        let placed = self
            .place(recipe, storage)
            .map_err(|problem| ErrorKind::tensor(name, problem))?;
        let start = (self.locate)(storage)?.start + placed.skipped;
        Ok(Entry {
            dtype: placed.dtype,
            shape: placed.shape,
            strides: placed.strides,
            bytes: start..start + placed.length,
            container: 0,
        })
    }

    /// Checks a tensor's description in the pickle against its storage.
    fn place(&mut self, recipe: &TensorRecipe, storage: &Storage) -> Result<Placed, String> {
        let dtype = dtype(recipe, storage)?;
        let offset = recipe.offset.as_size().ok_or_else(|| {
            let found = recipe.offset.describe();
            format!("its offset is {found}; an integer from 0 is expected")
        })?;
        let shape = self.sizes(recipe.shape, "shape")?;
        let strides = self.sizes(recipe.strides, "strides")?;
        if shape.len() != strides.len() {
            return Err(format!(
                "its shape has {} axes, but its strides have {}",
                shape.len(),
                strides.len()
            ));
        }
        let described =
            layout::element_count(&shape).and_then(|count| count.checked_mul(dtype.size()));
        let left = described.and_then(|bytes| self.bytes_left.checked_sub(bytes));
        self.bytes_left = left.ok_or_else(|| {
            "up to this tensor, the shapes need more than the limit of 16 times the file's size plus 64 MiB"
                .to_owned()
        })?;

        // A view is a part of its storage. The unpickler has checked their lengths.
        let (view_offset, count) = storage.view.unwrap_or((0, storage.count));
        let available = count * storage.element.size() / dtype.size();
        let span = layout::span(&shape, &strides)
            .ok_or_else(|| format!("its strides {strides:?} overflow"))?;
        let end = offset.checked_add(span);
        // An empty tensor has no elements, so its offset does not matter.
        if span > 0 && end.is_none_or(|end| end > available) {
            return Err(format!(
                "its last element lies outside its storage: offset {offset}, shape {shape:?}, \
                 strides {strides:?}, {available} elements available"
            ));
        }
        let first = if span > 0 { offset } else { 0 };
        Ok(Placed {
            skipped: view_offset * storage.element.size() + first * dtype.size(),
            length: span * dtype.size(),
            dtype,
            shape,
            strides,
        })
    }

    fn sizes(&self, sizes: Value, what: &str) -> Result<Vec<usize>, String> {
        let (Value::Tuple(items) | Value::List(items)) = sizes else {
            return Err(format!("its {what} is {}, not a tuple", sizes.describe()));
        };
        let sizes = self.heap.sequence(items);
        if sizes.len() > limits::DIMENSIONS {
            return Err(format!(
                "it has {} axes; the limit is {}",
                sizes.len(),
                limits::DIMENSIONS
            ));
        }
        let size = |item: &Value| {
            item.as_size()
                .ok_or_else(|| format!("its {what} contains {}", item.describe()))
        };
        sizes.iter().map(size).collect()
    }
}

/// A tensor's position in its storage.
struct Placed {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Bytes in the storage before the first element.
    skipped: usize,
    /// Bytes from the first element to the last.
    length: usize,
}

fn dtype(recipe: &TensorRecipe, storage: &Storage) -> Result<Dtype, String> {
    match (recipe.dtype, storage.element) {
        (None, StorageType::Typed(dtype)) | (Some(Value::Global(Global::Dtype(dtype))), _) => {
            Ok(dtype)
        }
        (Some(Value::Global(Global::OtherDtype)), _) => Err(
            "its element type is not accepted; bool, integers of 8 to 64 bits, float16, bfloat16, \
             float32 and float64 are"
                .to_owned(),
        ),
        (Some(other), _) => Err(format!("its element type is {}", other.describe())),
        (None, StorageType::Untyped) => Err("its element type is missing".to_owned()),
    }
}
