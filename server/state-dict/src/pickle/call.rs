//! The effects of the known functions on their arguments, and the meaning of a persistent id.
//!
//! Errors are strings; the unpickler adds the byte offset.

use super::Machine;
use super::global::{Global, RebuildTensor};
use super::value::{Name, Storage, TensorRecipe, Value};
use crate::error::advice;
use crate::limits;
use crate::quote::quote;

impl Machine<'_> {
    /// The value of a call.
    pub(super) fn evaluate(
        &mut self,
        function: Value,
        arguments: &[Value],
    ) -> Result<Value, String> {
        match function {
            Value::Global(function) => self.evaluate_known(function, arguments),
            Value::Opaque(name) => Ok(self.opaque(name, arguments)),
            other => Err(format!(
                "a call of {}, which is not a function",
                other.describe()
            )),
        }
    }

    /// The value of a call of an unknown class or function. It has the name of its class, also if the class is the
    /// argument of a function that makes objects of any class.
    fn opaque(&self, name: Name, arguments: &[Value]) -> Value {
        let makes_any = matches!(
            (self.heap.text(name.module), self.heap.text(name.name)),
            (
                "copyreg" | "copy_reg",
                "_reconstructor" | "__newobj__" | "__newobj_ex__"
            ) | (
                "numpy.core.multiarray" | "numpy._core.multiarray",
                "_reconstruct"
            )
        );
        match arguments {
            [class @ Value::Opaque(_), ..] if makes_any => *class,
            _ => Value::Opaque(name),
        }
    }

    fn evaluate_known(&mut self, function: Global, arguments: &[Value]) -> Result<Value, String> {
        match (function, arguments) {
            // The type and the attributes of a tensor's subclass do not matter. `function` must differ, so
            // nesting ends here.
            (
                Global::RebuildFromType,
                &[
                    Value::Global(function),
                    _type,
                    Value::Tuple(arguments),
                    _state,
                ],
            ) if function != Global::RebuildFromType => {
                let arguments = self.arguments(arguments)?;
                self.evaluate_known(function, &arguments)
            }
            // What is made from an opaque value is opaque.
            (
                Global::RebuildFromType
                | Global::RebuildTensor(_)
                | Global::RebuildParameter
                | Global::RebuildParameterWithState
                | Global::Parameter
                | Global::Dict
                | Global::Size,
                &[opaque @ Value::Opaque(_), ..],
            ) => Ok(opaque),
            (Global::RebuildTensor(version), _) => self.rebuild_tensor(version, arguments),
            // Parameters are their tensors: `requires_grad` and hooks do not matter.
            (
                Global::RebuildParameter | Global::RebuildParameterWithState | Global::Parameter,
                &[tensor @ Value::Tensor(_), ..],
            ) => Ok(tensor),
            // The factory of a `defaultdict` makes the values of missing keys.
            (Global::Dict, []) | (Global::DefaultDict, [] | [_]) => {
                Ok(self.heap.add_dict(Vec::new()))
            }
            (Global::Dict, &[items]) | (Global::DefaultDict, &[_, items]) => self.dict_from(items),
            (Global::Size, [sizes @ (Value::Tuple(_) | Value::List(_))]) => Ok(*sizes),
            (Global::Set, _) => Ok(Value::Set),
            (Global::Bytes, _) => Ok(Value::Bytes),
            (Global::Setting, _) => Ok(Value::Setting),
            _ => {
                let arguments: Vec<_> = arguments
                    .iter()
                    .take(9)
                    .map(|value| value.describe())
                    .collect();
                Err(format!(
                    "{function:?} cannot be called with ({})",
                    arguments.join(", ")
                ))
            }
        }
    }

    /// `OrderedDict(items)`, from another dict, or from a list of pairs as in Python 2.
    fn dict_from(&mut self, items: Value) -> Result<Value, String> {
        let pairs = match items {
            Value::Dict(dict) => {
                self.charge_copies(self.heap.dict(dict).len())?;
                self.heap.dict(dict).to_vec()
            }
            Value::List(list) | Value::Tuple(list) => {
                self.charge_copies(self.heap.sequence(list).len())?;
                self.heap
                    .sequence(list)
                    .iter()
                    .map(|&pair| self.pair(pair))
                    .collect::<Result<_, _>>()?
            }
            other => return Err(format!("a dict cannot be made from {}", other.describe())),
        };
        Ok(self.heap.add_dict(pairs))
    }

    fn pair(&self, pair: Value) -> Result<(Value, Value), String> {
        if let Value::List(pair) | Value::Tuple(pair) = pair
            && let &[key, value] = self.heap.sequence(pair)
        {
            return Ok((key, value));
        }
        Err(format!(
            "a pair of key and value is expected, but this is {}",
            pair.describe()
        ))
    }

    fn charge_copies(&mut self, items: usize) -> Result<(), String> {
        self.copied = self.copied.saturating_add(items);
        if self.copied > limits::COPIED_ITEMS {
            return Err(format!(
                "more than {} items are copied, which is the limit",
                limits::COPIED_ITEMS
            ));
        }
        Ok(())
    }

    fn rebuild_tensor(
        &mut self,
        version: RebuildTensor,
        arguments: &[Value],
    ) -> Result<Value, String> {
        let (required, dtype) = match version {
            RebuildTensor::V1 => (4, None),
            RebuildTensor::V2 => (6, None),
            RebuildTensor::V3 => (7, arguments.get(6).copied()),
        };
        self.dialect.rebuild_tensor_v1 |= version == RebuildTensor::V1;
        let &[Value::Storage(storage), offset, shape, strides, ..] = arguments else {
            return Err(
                "a tensor is expected to have a storage, an offset, a shape and strides".to_owned(),
            );
        };
        match arguments.get(required..) {
            Some([]) => {}
            Some(&[metadata]) if version != RebuildTensor::V1 => self.check_metadata(metadata)?,
            _ => {
                return Err(format!(
                    "a tensor with {} arguments; {required} are expected",
                    arguments.len()
                ));
            }
        }
        Ok(self.heap.add_tensor(TensorRecipe {
            storage,
            offset,
            shape,
            strides,
            dtype,
        }))
    }

    /// Refuses tensors whose elements must be negated or conjugated on reading.
    fn check_metadata(&self, metadata: Value) -> Result<(), String> {
        let Value::Dict(metadata) = metadata else {
            return Ok(());
        };
        // PyTorch writes at most two flags. A longer dict would be searched for every tensor that shares it.
        if self.heap.dict(metadata).len() > 2 {
            return Err("a tensor with unknown metadata".to_owned());
        }
        for flag in ["neg", "conj"] {
            if self.heap.lookup(metadata, flag) == Some(Value::Bool(true)) {
                return Err(format!(
                    "a tensor with the `{flag}` bit set, which is not accepted; \
                     save `tensor.resolve_{flag}()`"
                ));
            }
        }
        Ok(())
    }

    /// The value of a persistent id: a storage, or the class of a whole model with its source, `('module', class,
    /// file, source)`.
    pub(super) fn persistent(&mut self, id: Value) -> Result<Value, String> {
        let Value::Tuple(id) = id else {
            return Err(format!(
                "a storage's description is {}, not a tuple",
                id.describe()
            ));
        };
        let (&kind, description) = self
            .heap
            .sequence(id)
            .split_first()
            .ok_or("a storage without a description")?;
        let kind = match kind {
            Value::Text(kind) => self.heap.text(kind),
            other => {
                return Err(format!(
                    "a storage is expected, but this is {}",
                    other.describe()
                ));
            }
        };
        match (kind, description) {
            ("storage", _) => {
                let (storage, is_cuda) = self.storage(description)?;
                self.dialect.cuda |= is_cuda;
                Ok(self.heap.add_storage(storage))
            }
            ("module", &[class @ (Value::Global(_) | Value::Opaque(_)), ..]) => Ok(class),
            _ => Err(format!(
                "a storage is expected, but this is {}",
                quote(kind)
            )),
        }
    }

    /// A storage, and whether it was on a GPU, from `('storage', type, key, location, count[, view])` without its first
    /// item.
    fn storage(&self, description: &[Value]) -> Result<(Storage, bool), String> {
        let (element, key, location, count, view) = match *description {
            [element, key, location, count] => (element, key, location, count, Value::None),
            [element, key, location, count, view] => (element, key, location, count, view),
            _ => {
                return Err(format!(
                    "a storage's description has {} items; 4 or 5 are expected",
                    description.len()
                ));
            }
        };
        let element = match element {
            Value::Global(Global::StorageType(element)) => element,
            // Without the size of its elements, the positions of the storages after it are unknown.
            Value::Opaque(name) => {
                let name = self.heap.quote_global(name);
                return Err(format!("a storage's type is {name}. {}", advice(&name)));
            }
            other => return Err(format!("a storage's type is {}", other.describe())),
        };
        let (Value::Text(key), Value::Text(location)) = (key, location) else {
            return Err("a storage's key and location are not strings".to_owned());
        };
        let key_length = self.heap.text(key).len();
        if key_length > limits::KEY {
            return Err(format!(
                "a storage's key has {key_length} bytes; the limit is {}",
                limits::KEY
            ));
        }
        let storage = Storage {
            element,
            key,
            count: size(count, "a storage's number of elements")?,
            view: self.view(view)?,
        };
        if storage.count.checked_mul(storage.element.size()).is_none() {
            return Err(format!(
                "a storage of {} elements, which exceeds the address space",
                storage.count
            ));
        }
        match storage.view {
            Some((offset, count))
                if offset
                    .checked_add(count)
                    .is_none_or(|end| end > storage.count) =>
            {
                Err(format!(
                    "a view of {count} elements from element {offset} of a storage with {} elements",
                    storage.count
                ))
            }
            _ => Ok((storage, self.heap.text(location).starts_with("cuda"))),
        }
    }

    /// The offset and the count, in elements, of `(key, offset, count)`; `None` for None.
    fn view(&self, view: Value) -> Result<Option<(usize, usize)>, String> {
        match view {
            Value::None => Ok(None),
            Value::Tuple(view) => match *self.heap.sequence(view) {
                [_key, offset, count] => Ok(Some((
                    size(offset, "a view's offset")?,
                    size(count, "a view's size")?,
                ))),
                ref other => Err(format!(
                    "a storage's view has {} items; 3 are expected",
                    other.len()
                )),
            },
            other => Err(format!("a storage's view is {}", other.describe())),
        }
    }
}

/// A non-negative integer.
fn size(value: Value, what: &str) -> Result<usize, String> {
    value
        .as_size()
        .ok_or_else(|| format!("{what} is {}", value.describe()))
}
