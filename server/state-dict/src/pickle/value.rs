//! The values that a pickle describes.

use std::borrow::Cow;

use super::global::{Global, StorageType};
use crate::quote::quote;

/// A value. It is small and `Copy`: large contents are in the [`Heap`], and the value has their index. So values can
/// be shared or contain themselves, and dropping them does not recurse.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    /// The integer at the beginning of every file of the format before `PyTorch` 1.6.
    Magic,
    /// Any other integer that exceeds `i64`.
    HugeInt,
    Float,
    Text(u32),
    Bytes,
    Tuple(u32),
    List(u32),
    Dict(u32),
    Set,
    /// A device or a layout.
    Setting,
    Global(Global),
    /// A class or a function that is not on the list of [`Global`], or an object that it made. Nothing that belongs
    /// to it is reachable.
    Opaque(Name),
    Storage(u32),
    Tensor(u32),
}

/// The name of a class or a function: the indexes of two `Value::Text`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) module: u32,
    pub(crate) name: u32,
}

/// The contents of values. It only grows: contents of dropped values stay until the end.
#[derive(Default)]
pub(crate) struct Heap<'a> {
    texts: Vec<Cow<'a, str>>,
    /// The items of tuples and lists.
    sequences: Vec<Vec<Value>>,
    /// Keys and values in the order in which they were set.
    dicts: Vec<Vec<(Value, Value)>>,
    storages: Vec<Storage>,
    tensors: Vec<TensorRecipe>,
}

/// The memory behind tensors, as a pickle declares it: `('storage', type, key, location, count[,
/// view])`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Storage {
    pub(crate) element: StorageType,
    /// The index of a `Value::Text`.
    pub(crate) key: u32,
    /// Elements of the whole storage, or bytes if it is untyped. Their size in bytes fits in `usize`.
    pub(crate) count: usize,
    /// If this is a view of a part of the storage: its first element and its number of elements.
    pub(crate) view: Option<(usize, usize)>,
}

impl Storage {
    /// Bytes of the whole storage.
    pub(crate) fn bytes(&self) -> usize {
        self.count * self.element.size()
    }
}

/// The arguments of a call of `torch._utils._rebuild_tensor` or its successors. They are checked later, when errors
/// can include the tensor's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorRecipe {
    /// The index of a `Value::Storage`.
    pub(crate) storage: u32,
    pub(crate) offset: Value,
    pub(crate) shape: Value,
    pub(crate) strides: Value,
    /// The element type, if the tensor has its own (`_rebuild_tensor_v3`).
    pub(crate) dtype: Option<Value>,
}

impl<'a> Heap<'a> {
    pub(super) fn add_text(&mut self, text: Cow<'a, str>) -> Value {
        Value::Text(self.text_index(text))
    }

    pub(super) fn text_index(&mut self, text: Cow<'a, str>) -> u32 {
        add(&mut self.texts, text)
    }

    pub(super) fn add_tuple(&mut self, items: Vec<Value>) -> Value {
        Value::Tuple(add(&mut self.sequences, items))
    }

    pub(super) fn add_list(&mut self, items: Vec<Value>) -> Value {
        Value::List(add(&mut self.sequences, items))
    }

    pub(super) fn add_dict(&mut self, pairs: Vec<(Value, Value)>) -> Value {
        Value::Dict(add(&mut self.dicts, pairs))
    }

    pub(super) fn add_storage(&mut self, storage: Storage) -> Value {
        Value::Storage(add(&mut self.storages, storage))
    }

    pub(super) fn add_tensor(&mut self, recipe: TensorRecipe) -> Value {
        Value::Tensor(add(&mut self.tensors, recipe))
    }

    pub(super) fn sequence_mut(&mut self, index: u32) -> &mut Vec<Value> {
        &mut self.sequences[index as usize]
    }

    pub(super) fn dict_mut(&mut self, index: u32) -> &mut Vec<(Value, Value)> {
        &mut self.dicts[index as usize]
    }

    pub(crate) fn text(&self, index: u32) -> &str {
        &self.texts[index as usize]
    }

    /// The items of a tuple or a list.
    pub(crate) fn sequence(&self, index: u32) -> &[Value] {
        &self.sequences[index as usize]
    }

    pub(crate) fn dict(&self, index: u32) -> &[(Value, Value)] {
        &self.dicts[index as usize]
    }

    pub(crate) fn storage(&self, index: u32) -> &Storage {
        &self.storages[index as usize]
    }

    /// Every declared storage; a storage can be declared several times.
    pub(crate) fn storages(&self) -> &[Storage] {
        &self.storages
    }

    pub(crate) fn tensor(&self, index: u32) -> &TensorRecipe {
        &self.tensors[index as usize]
    }

    /// A class or a function, such as `os.system`, made safe for an error.
    pub(crate) fn quote_global(&self, name: Name) -> String {
        quote(&format!(
            "{}.{}",
            self.text(name.module),
            self.text(name.name)
        ))
    }

    /// The value of a text key in a dict.
    pub(crate) fn lookup(&self, dict: u32, key: &str) -> Option<Value> {
        let is_key =
            |candidate: &Value| matches!(candidate, Value::Text(text) if self.text(*text) == key);
        self.dict(dict)
            .iter()
            .rfind(|(candidate, _)| is_key(candidate))
            .map(|&(_, value)| value)
    }
}

/// Adds an item, and returns its index. One opcode adds at most two items, and `limits::opcodes` is far below `u32`.
fn add<T>(items: &mut Vec<T>, item: T) -> u32 {
    items.push(item);
    u32::try_from(items.len() - 1).expect("few items per opcode")
}

impl Value {
    /// Its number, if it is a non-negative integer.
    pub(crate) fn as_size(self) -> Option<usize> {
        match self {
            Self::Int(value) => usize::try_from(value).ok(),
            _ => None,
        }
    }

    /// A description for an error, such as "a list".
    pub(crate) fn describe(self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(value) => format!("the bool {value}"),
            Self::Int(value) => format!("the integer {value}"),
            Self::Magic | Self::HugeInt => "an integer of more than 64 bits".to_owned(),
            Self::Float => "a float".to_owned(),
            Self::Text(_) => "a string".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Tuple(_) => "a tuple".to_owned(),
            Self::List(_) => "a list".to_owned(),
            Self::Dict(_) => "a dict".to_owned(),
            Self::Set => "a set".to_owned(),
            Self::Setting => "a device or a layout".to_owned(),
            Self::Global(_) => "a class or a function".to_owned(),
            Self::Opaque(_) => "an object that is not data".to_owned(),
            Self::Storage(_) => "a storage".to_owned(),
            Self::Tensor(_) => "a tensor".to_owned(),
        }
    }
}
