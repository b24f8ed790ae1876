//! An unpickler that cannot run code: it knows a short list of names (`global`), and imports and calls nothing.
//!
//! It reads protocols 0 to 5. The source is `CPython`'s `Lib/pickletools.py`, which describes every opcode. Differences
//! from Python:
//!
//! - It drops values that state dicts do not need: floats, bytes, the members of sets.
//! - `BUILD` changes nothing: it sets attributes, such as `_metadata`, which are not items.
//! - `call` evaluates calls of the known functions on data.
//! - A name that is not on the list is an opaque value, and so is every object made from it. The arguments, attributes
//!   and items of an opaque value are dropped, so no tensor is found in it.
//!
//! Values are in a [`Heap`] and refer to each other by index. Hence there is no recursion, a value can contain itself,
//! and the numbers of opcodes (`limits::opcodes`) and of copies (`limits::COPIED_ITEMS`) limit the memory.

mod call;
mod cursor;
mod global;
mod opcode;
mod text;
mod value;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::error::{ErrorKind, quote_bytes};
use super::limits;
use super::skipped::Names;
use super::state_dict::Dialect;

use cursor::Cursor;
pub(super) use global::{Global, StorageType};
#[allow(clippy::wildcard_imports, reason = "the module has opcodes only")]
use opcode::*;
pub(super) use value::{Heap, Name, Storage, TensorRecipe, Value};

/// The magic number of the format before `PyTorch` 1.6, `0x1950a86a20f9469cfc6c`, in the opcodes for long integers.
const MAGIC_BYTES: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same in protocols 0 and 1.
const MAGIC_DECIMAL: &[u8] = b"119547037146038801333356";

/// Why an extension code is refused.
const EXTENSION: &str =
    "an extension code of copyreg, whose meaning only the program that wrote the file knows";

/// Why a storage named by text is refused.
const TEXT_ID: &str = "a storage named by text (opcode PERSID), which PyTorch cannot read either; \
                       save again with pickle protocol 2";

/// A pickle that has been read.
pub(super) struct Pickle<'a> {
    /// The value that it describes.
    pub(super) root: Value,
    /// The contents of the value.
    pub(super) heap: Heap<'a>,
    /// The offset of the first byte after it, in the file.
    pub(super) end: usize,
    /// The number of its opcodes.
    pub(super) opcodes: usize,
    /// What it reveals about its writer.
    pub(super) dialect: Dialect,
    /// The names in it that are not on the list.
    pub(super) unknown: Names,
}

/// Reads the pickle at the beginning of `range`. The opcodes of the file's other pickles in memory, `others`, count
/// towards the limit.
pub(super) fn unpickle(
    file: &[u8],
    range: Range<usize>,
    others: usize,
) -> Result<Pickle<'_>, ErrorKind> {
    let most = limits::opcodes(file.len());
    let mut machine = Machine {
        cursor: Cursor::new(file, range),
        opcode_at: 0,
        heap: Heap::default(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
        dialect: Dialect::default(),
        unknown: Vec::new(),
        has_more_unknown: false,
    };
    let (root, opcodes) = machine.run(most.saturating_sub(others))?;
    let names = machine.unknown.iter();
    let unknown = Names {
        first: names.map(|&name| machine.heap.quote_global(name)).collect(),
        has_more: machine.has_more_unknown,
    };
    Ok(Pickle {
        root,
        opcodes,
        heap: machine.heap,
        end: machine.cursor.at(),
        dialect: machine.dialect,
        unknown,
    })
}

/// The pickle machine.
struct Machine<'a> {
    cursor: Cursor<'a>,
    /// The position of the current opcode in the file.
    opcode_at: usize,
    heap: Heap<'a>,
    stack: Vec<Value>,
    /// The heights of the stack at each MARK.
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    /// Items copied from container to container so far.
    copied: usize,
    dialect: Dialect,
    /// The first distinct names that are not on the list.
    unknown: Vec<Name>,
    has_more_unknown: bool,
}

impl<'a> Machine<'a> {
    /// Returns the value, and the number of its opcodes, at most `limit`.
    fn run(&mut self, limit: usize) -> Result<(Value, usize), ErrorKind> {
        for count in 1..=limit {
            self.opcode_at = self.cursor.at();
            let [opcode] = self.cursor.array()?;
            if opcode == STOP {
                return Ok((self.pop()?, count));
            }
            self.execute(opcode)?;
        }
        Err(self.error(format!(
            "more than {limit} opcodes, the limit for a file of this size"
        )))
    }

    fn execute(&mut self, opcode: u8) -> Result<(), ErrorKind> {
        let value = match opcode {
            PROTO => return self.protocol(),
            FRAME => return self.frame(),
            MARK => {
                self.marks.push(self.stack.len());
                return Ok(());
            }
            POP => return self.discard(),
            POP_MARK => return self.pop_mark().map(drop),
            APPEND | APPENDS => return self.append(opcode),
            SETITEM | SETITEMS => return self.set_items(opcode),
            PUT | BINPUT | LONG_BINPUT | MEMOIZE => return self.put(opcode),
            BUILD => return self.build(),
            DUP => self.top()?,
            NONE => Value::None,
            NEWTRUE => Value::Bool(true),
            NEWFALSE => Value::Bool(false),
            INT | BININT | BININT1 | BININT2 | LONG | LONG1 | LONG4 => self.integer(opcode)?,
            FLOAT | BINFLOAT => self.float(opcode)?,
            STRING | BINSTRING | SHORT_BINSTRING => self.python2_text(opcode)?,
            UNICODE | BINUNICODE | SHORT_BINUNICODE | BINUNICODE8 => self.text(opcode)?,
            BINBYTES | SHORT_BINBYTES | BINBYTES8 | BYTEARRAY8 => self.bytes(opcode)?,
            EMPTY_TUPLE | TUPLE | TUPLE1 | TUPLE2 | TUPLE3 => self.tuple(opcode)?,
            EMPTY_LIST | LIST => self.list(opcode)?,
            EMPTY_DICT | DICT => self.dict(opcode)?,
            EMPTY_SET | ADDITEMS | FROZENSET => self.set(opcode)?,
            GET | BINGET | LONG_BINGET => self.get(opcode)?,
            GLOBAL | STACK_GLOBAL => self.global(opcode)?,
            REDUCE | NEWOBJ | NEWOBJ_EX | INST | OBJ => self.call(opcode)?,
            BINPERSID => self.persistent_id()?,
            PERSID => return Err(self.error(TEXT_ID)),
            EXT1..=EXT4 => return Err(self.error(EXTENSION)),
            _ => {
                return Err(self.error(format!(
                    "opcode 0x{opcode:02x}, which state dicts do not have"
                )));
            }
        };
        self.stack.push(value);
        Ok(())
    }

    // Errors.

    fn error(&self, problem: impl Into<String>) -> ErrorKind {
        ErrorKind::Pickle {
            offset: self.opcode_at,
            problem: problem.into(),
        }
    }

    // The stack.

    /// The value on top. Values below the last MARK are inaccessible.
    fn top(&self) -> Result<Value, ErrorKind> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let top = self.stack[floor..].last().copied();
        top.ok_or_else(|| self.error("a value is taken from an empty stack"))
    }

    fn pop(&mut self) -> Result<Value, ErrorKind> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// The values pushed since the last MARK.
    fn pop_mark(&mut self) -> Result<Vec<Value>, ErrorKind> {
        let mark = self
            .marks
            .pop()
            .ok_or_else(|| self.error("a MARK is expected, but there is none"))?;
        Ok(self.stack.split_off(mark))
    }

    /// POP takes the MARK itself if no value is above it.
    fn discard(&mut self) -> Result<(), ErrorKind> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            Ok(())
        } else {
            self.pop().map(drop)
        }
    }

    // Protocol and frames.

    fn protocol(&mut self) -> Result<(), ErrorKind> {
        let [protocol] = self.cursor.array()?;
        if protocol > 5 {
            return Err(self.error(format!("pickle protocol {protocol}; 0 to 5 are accepted")));
        }
        self.dialect.protocol = protocol;
        Ok(())
    }

    /// A frame only states how many bytes to fetch at once.
    fn frame(&mut self) -> Result<(), ErrorKind> {
        let length = u64::from_le_bytes(self.cursor.array()?);
        self.cursor.peek(length).map(drop)
    }

    // Scalars.

    fn integer(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        Ok(match opcode {
            BININT => Value::Int(i32::from_le_bytes(self.cursor.array()?).into()),
            BININT1 => Value::Int(u8::from_le_bytes(self.cursor.array()?).into()),
            BININT2 => Value::Int(u16::from_le_bytes(self.cursor.array()?).into()),
            INT => match self.cursor.line()? {
                b"00" => Value::Bool(false),
                b"01" => Value::Bool(true),
                line => self.decimal(line)?,
            },
            LONG => {
                let line = self.cursor.line()?;
                self.decimal(line.strip_suffix(b"L").unwrap_or(line))?
            }
            LONG1 => {
                let [length] = self.cursor.array()?;
                long(self.cursor.take(length.into())?)
            }
            _ => {
                let length = self.signed_length("an integer")?;
                long(self.cursor.take(length)?)
            }
        })
    }

    fn decimal(&self, line: &[u8]) -> Result<Value, ErrorKind> {
        let digits = line.strip_prefix(b"-").unwrap_or(line);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(self.error(format!(
                "an integer is expected, but this is {}",
                quote_bytes(line)
            )));
        }
        let parsed = std::str::from_utf8(line)
            .ok()
            .and_then(|line| line.parse().ok());
        Ok(match parsed {
            Some(value) => Value::Int(value),
            None if line == MAGIC_DECIMAL => Value::Magic,
            None => Value::HugeInt,
        })
    }

    fn float(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        if opcode == FLOAT {
            self.cursor.line()?;
        } else {
            self.cursor.take(8)?;
        }
        Ok(Value::Float)
    }

    // Text and bytes.

    /// Reads a little-endian length of `N` bytes, then that number of bytes.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], ErrorKind> {
        let mut length = [0; 8];
        length[..N].copy_from_slice(&self.cursor.array::<N>()?);
        self.cursor.take(u64::from_le_bytes(length))
    }

    fn signed_length(&mut self, what: &str) -> Result<u64, ErrorKind> {
        let length = i32::from_le_bytes(self.cursor.array()?);
        u64::try_from(length)
            .map_err(|_| self.error(format!("{what} of {length} bytes; at least 0 are expected")))
    }

    fn python2_text(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        self.dialect.python2_strings = true;
        let text = match opcode {
            STRING => {
                let line = self.cursor.line()?;
                let bytes = text::unescape_literal(line).ok_or_else(|| {
                    self.error(format!(
                        "a string literal is expected, but this is {}",
                        quote_bytes(line)
                    ))
                })?;
                Cow::Owned(text::from_python2(&bytes).into_owned())
            }
            SHORT_BINSTRING => text::from_python2(self.counted::<1>()?),
            _ => {
                let length = self.signed_length("a string")?;
                text::from_python2(self.cursor.take(length)?)
            }
        };
        Ok(self.heap.add_text(text))
    }

    fn text(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let bytes = match opcode {
            UNICODE => self.cursor.line()?,
            BINUNICODE => self.counted::<4>()?,
            SHORT_BINUNICODE => self.counted::<1>()?,
            _ => self.counted::<8>()?,
        };
        let decoded = if opcode == UNICODE {
            text::from_raw_unicode_escape(bytes).map(Cow::Owned)
        } else {
            std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
        };
        let text = decoded.ok_or_else(|| {
            self.error(format!(
                "text is expected, but this is {}",
                quote_bytes(bytes)
            ))
        })?;
        Ok(self.heap.add_text(text))
    }

    fn bytes(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        match opcode {
            SHORT_BINBYTES => self.counted::<1>()?,
            BINBYTES => self.counted::<4>()?,
            _ => self.counted::<8>()?,
        };
        Ok(Value::Bytes)
    }

    // Containers.

    fn tuple(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let items = match opcode {
            EMPTY_TUPLE => Vec::new(),
            TUPLE => self.pop_mark()?,
            _ => {
                let mut items = Vec::with_capacity(3);
                for _ in TUPLE1..=opcode {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        Ok(self.heap.add_tuple(items))
    }

    fn list(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let items = if opcode == LIST {
            self.pop_mark()?
        } else {
            Vec::new()
        };
        Ok(self.heap.add_list(items))
    }

    fn append(&mut self, opcode: u8) -> Result<(), ErrorKind> {
        let items = if opcode == APPEND {
            vec![self.pop()?]
        } else {
            self.pop_mark()?
        };
        match self.top()? {
            Value::List(list) => self.heap.sequence_mut(list).extend(items),
            Value::Opaque(_) => {}
            other => {
                let found = other.describe();
                return Err(self.error(format!("items are added to {found}, not to a list")));
            }
        }
        Ok(())
    }

    fn dict(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let items = if opcode == DICT {
            self.pop_mark()?
        } else {
            Vec::new()
        };
        let pairs = self.pairs(&items)?;
        Ok(self.heap.add_dict(pairs))
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), ErrorKind> {
        let items = if opcode == SETITEM {
            let value = self.pop()?;
            vec![self.pop()?, value]
        } else {
            self.pop_mark()?
        };
        let pairs = self.pairs(&items)?;
        match self.top()? {
            Value::Dict(dict) => self.heap.dict_mut(dict).extend(pairs),
            Value::Opaque(_) => {}
            other => {
                let found = other.describe();
                return Err(self.error(format!("keys are set in {found}, not in a dict")));
            }
        }
        Ok(())
    }

    fn pairs(&self, items: &[Value]) -> Result<Vec<(Value, Value)>, ErrorKind> {
        let (pairs, rest) = items.as_chunks();
        if !rest.is_empty() {
            return Err(self.error("a dict's key has no value"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn set(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        if opcode != EMPTY_SET {
            self.pop_mark()?;
        }
        if opcode != ADDITEMS {
            return Ok(Value::Set);
        }
        match self.pop()? {
            set @ (Value::Set | Value::Opaque(_)) => Ok(set),
            other => Err(self.error(format!(
                "members are added to {}, not to a set",
                other.describe()
            ))),
        }
    }

    // The memo.

    fn put(&mut self, opcode: u8) -> Result<(), ErrorKind> {
        let index = match opcode {
            PUT => self.memo_line()?,
            BINPUT => u8::from_le_bytes(self.cursor.array()?).into(),
            LONG_BINPUT => u32::from_le_bytes(self.cursor.array()?),
            _ => u32::try_from(self.memo.len()).expect("fewer memo entries than opcodes"),
        };
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn get(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let index = match opcode {
            GET => self.memo_line()?,
            BINGET => u8::from_le_bytes(self.cursor.array()?).into(),
            _ => u32::from_le_bytes(self.cursor.array()?),
        };
        self.memo
            .get(&index)
            .copied()
            .ok_or_else(|| self.error(format!("memo entry {index} is read before it is written")))
    }

    /// A memo entry's number, as a line of decimal digits.
    fn memo_line(&mut self) -> Result<u32, ErrorKind> {
        let line = self.cursor.line()?;
        let index = match self.decimal(line)? {
            Value::Int(index) => u32::try_from(index).ok(),
            _ => None,
        };
        index.ok_or_else(|| self.error(format!("{} is not a valid memo number", quote_bytes(line))))
    }

    // Names and calls.

    fn global(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        if opcode == GLOBAL {
            return self.named_by_lines();
        }
        let (name, module) = (self.pop()?, self.pop()?);
        let (Value::Text(module), Value::Text(name)) = (module, name) else {
            return Err(self.error("a global is not named by two strings"));
        };
        match self.meaning([module, name].map(|text| self.heap.text(text)))? {
            Some(meaning) => Ok(meaning),
            None => Ok(self.opaque_class(Name { module, name })),
        }
    }

    fn named_by_lines(&mut self) -> Result<Value, ErrorKind> {
        let lines = [self.cursor.line()?, self.cursor.line()?];
        let [Ok(module), Ok(name)] = lines.map(std::str::from_utf8) else {
            return Err(self.error("a global is named by bytes that are not UTF-8"));
        };
        if let Some(meaning) = self.meaning([module, name])? {
            return Ok(meaning);
        }
        let name = Name {
            module: self.heap.text_index(module.into()),
            name: self.heap.text_index(name.into()),
        };
        Ok(self.opaque_class(name))
    }

    /// The value of a name (module and name) that is on the list, or among the first that are not. Else `None`.
    fn meaning(&self, name: [&str; 2]) -> Result<Option<Value>, ErrorKind> {
        if let Some(long) = name.into_iter().find(|part| part.len() > limits::GLOBAL) {
            let (length, most) = (long.len(), limits::GLOBAL);
            return Err(self.error(format!(
                "a global's name has {length} bytes; the limit is {most}"
            )));
        }
        let known = Global::find(name[0], name[1]).map(Value::Global);
        let same =
            |other: &&Name| [other.module, other.name].map(|text| self.heap.text(text)) == name;
        Ok(known.or_else(|| self.unknown.iter().find(same).copied().map(Value::Opaque)))
    }

    /// The value of a name without a meaning.
    fn opaque_class(&mut self, name: Name) -> Value {
        if self.unknown.len() < limits::SKIPPED_SHOWN {
            self.unknown.push(name);
        } else {
            self.has_more_unknown = true;
        }
        Value::Opaque(name)
    }

    fn call(&mut self, opcode: u8) -> Result<Value, ErrorKind> {
        let (function, arguments) = match opcode {
            INST => (self.named_by_lines()?, self.pop_mark()?),
            OBJ => {
                let mut items = self.pop_mark()?.into_iter();
                let class = items
                    .next()
                    .ok_or_else(|| self.error("an object without a class"))?;
                (class, items.collect())
            }
            _ => return self.call_with_tuple(opcode == NEWOBJ_EX),
        };
        self.evaluate(function, &arguments)
            .map_err(|problem| self.error(problem))
    }

    /// REDUCE, NEWOBJ and `NEWOBJ_EX`.
    fn call_with_tuple(&mut self, has_keywords: bool) -> Result<Value, ErrorKind> {
        let keywords = has_keywords.then(|| self.pop()).transpose()?;
        let (arguments, function) = (self.pop()?, self.pop()?);
        let arguments = match (function, arguments) {
            // An unknown class or function takes any arguments, of which only the first can matter.
            (Value::Opaque(_), Value::Tuple(tuple)) => {
                let arguments = self.heap.sequence(tuple).iter();
                arguments.take(1).copied().collect()
            }
            (Value::Opaque(_), _) => Vec::new(),
            (_, Value::Tuple(tuple)) => {
                match keywords {
                    None => {}
                    Some(Value::Dict(keywords)) if self.heap.dict(keywords).is_empty() => {}
                    Some(_) => return Err(self.error("a call with keyword arguments")),
                }
                self.arguments(tuple)
                    .map_err(|problem| self.error(problem))?
            }
            (_, other) => {
                return Err(self.error(format!(
                    "a call's arguments are {}, not a tuple",
                    other.describe()
                )));
            }
        };
        self.evaluate(function, &arguments)
            .map_err(|problem| self.error(problem))
    }

    /// A copy of a call's arguments. The known functions take at most nine.
    fn arguments(&self, tuple: u32) -> Result<Vec<Value>, String> {
        let arguments = self.heap.sequence(tuple);
        if arguments.len() > 9 {
            let count = arguments.len();
            return Err(format!("a call with {count} arguments; the limit is 9"));
        }
        Ok(arguments.to_vec())
    }

    /// Drops attributes (`_metadata`, hooks, `requires_grad`), which do not matter.
    fn build(&mut self) -> Result<(), ErrorKind> {
        self.pop()?;
        match self.top()? {
            Value::Dict(_) | Value::Tensor(_) | Value::Set | Value::Setting | Value::Opaque(_) => {
                Ok(())
            }
            other => Err(self.error(format!("attributes are set on {}", other.describe()))),
        }
    }

    fn persistent_id(&mut self) -> Result<Value, ErrorKind> {
        let id = self.pop()?;
        self.persistent(id).map_err(|problem| self.error(problem))
    }
}

/// An integer of any length, in little-endian two's complement.
fn long(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return if bytes == MAGIC_BYTES {
            Value::Magic
        } else {
            Value::HugeInt
        };
    }
    let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
    let mut extended = if negative { [0xff; 8] } else { [0; 8] };
    extended[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(extended))
}
