//! One tensor of a file.

use std::borrow::Cow;
use std::fmt;

use half::{bf16, f16};

use super::dtype::Dtype;
use super::layout;

/// One tensor: a view into its [`StateDict`](super::StateDict), cheap to copy.
#[derive(Clone, Copy)]
pub struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: Dtype,
    pub(super) shape: &'a [usize],
    pub(super) strides: &'a [usize],
    /// From the first element to the last, `layout::span` elements, unaligned.
    pub(super) data: &'a [u8],
}

/// The smallest, greatest and mean value of a tensor's finite values.
///
/// A `bool` counts as 0 or 1. Integers beyond 2⁵³ are rounded to the nearest `f64`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stats {
    /// The smallest finite value; `None` if there is none.
    pub min: Option<f64>,
    /// The greatest finite value; `None` if there is none.
    pub max: Option<f64>,
    /// The mean of the finite values; `None` if there is none, or their sum overflows.
    pub mean: Option<f64>,
    /// How many values are NaN or infinite. Usable weights have none.
    pub non_finite: usize,
}

impl<'a> Tensor<'a> {
    /// Its name in the state dict, such as `vgg.0.weight`. Names of nested dicts and lists are joined by dots.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The type of its elements in the file.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Its size along each axis; empty for a scalar.
    #[must_use]
    pub fn shape(&self) -> &'a [usize] {
        self.shape
    }

    /// The distance from one index to the next along each axis, in elements; 0 for an expanded axis.
    #[must_use]
    pub fn strides(&self) -> &'a [usize] {
        self.strides
    }

    /// The number of its elements: 1 for a scalar, 0 if an axis is empty.
    #[must_use]
    pub fn element_count(&self) -> usize {
        // Never `None`: checked when the file was opened.
        layout::element_count(self.shape).unwrap_or(0)
    }

    /// Its elements as little-endian bytes in row-major order. Borrowed if they have this order in the file.
    #[must_use]
    pub fn to_bytes(&self) -> Cow<'a, [u8]> {
        if layout::is_contiguous(self.shape, self.strides) {
            Cow::Borrowed(self.data)
        } else {
            Cow::Owned(self.gather())
        }
    }

    /// Its elements as `f32` in row-major order.
    ///
    /// Values that `f32` cannot represent are rounded to the nearest `f32` (64-bit integers through `f64`). A `bool`
    /// becomes 0 or 1.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        let bytes = self.to_bytes();
        match self.dtype {
            // Compiles to a copy: on a little-endian machine the conversion is the identity.
            Dtype::F32 => elements(&bytes, f32::from_le_bytes).collect(),
            Dtype::F16 => elements(&bytes, |bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
            Dtype::BF16 => elements(&bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()).collect(),
            _ => {
                let mut values = Vec::with_capacity(self.element_count());
                for_each(self.dtype, &bytes, |value| values.push(value as f32));
                values
            }
        }
    }

    /// Its smallest, greatest and mean value.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut tally = Tally::default();
        for_each(self.dtype, &self.to_bytes(), |value| tally.add(value));
        tally.stats()
    }

    /// Copies the elements together, in row-major order.
    fn gather(&self) -> Vec<u8> {
        let size = self.dtype.size();
        let mut gathered = Vec::with_capacity(self.element_count() * size);
        // Called only if the tensor is not contiguous, so there is an axis, and no axis is empty.
        let (&inner, outer) = self.shape.split_last().expect("a scalar is contiguous");
        let inner_stride = self.strides[outer.len()];
        let mut index = vec![0; outer.len()];
        let mut start = 0;
        loop {
            for position in 0..inner {
                let at = (start + position * inner_stride) * size;
                gathered.extend_from_slice(&self.data[at..at + size]);
            }
            // Advances `index` to the next row, and `start` with it.
            let mut axis = outer.len();
            loop {
                if axis == 0 {
                    return gathered;
                }
                axis -= 1;
                index[axis] += 1;
                start += self.strides[axis];
                if index[axis] < outer[axis] {
                    break;
                }
                start -= index[axis] * self.strides[axis];
                index[axis] = 0;
            }
        }
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({:?}, {}, {:?})",
            self.name, self.dtype, self.shape
        )
    }
}

/// The elements of little-endian `bytes`, each of `N` bytes.
fn elements<const N: usize, T>(
    bytes: &[u8],
    from: impl Fn([u8; N]) -> T,
) -> impl Iterator<Item = T> {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(move |&element| from(element))
}

/// Calls `visit` with every element, as the nearest `f64`.
fn for_each(dtype: Dtype, bytes: &[u8], visit: impl FnMut(f64)) {
    match dtype {
        Dtype::Bool => elements(bytes, |[byte]| f64::from(u8::from(byte != 0))).for_each(visit),
        Dtype::U8 => elements(bytes, |bytes| u8::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::I8 => elements(bytes, |bytes| i8::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::U16 => elements(bytes, |bytes| u16::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::I16 => elements(bytes, |bytes| i16::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::U32 => elements(bytes, |bytes| u32::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::I32 => elements(bytes, |bytes| i32::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::U64 => elements(bytes, |bytes| u64::from_le_bytes(bytes) as f64).for_each(visit),
        Dtype::I64 => elements(bytes, |bytes| i64::from_le_bytes(bytes) as f64).for_each(visit),
        Dtype::F16 => elements(bytes, |bytes| f16::from_le_bytes(bytes).to_f64()).for_each(visit),
        Dtype::BF16 => elements(bytes, |bytes| bf16::from_le_bytes(bytes).to_f64()).for_each(visit),
        Dtype::F32 => elements(bytes, |bytes| f32::from_le_bytes(bytes).into()).for_each(visit),
        Dtype::F64 => elements(bytes, f64::from_le_bytes).for_each(visit),
    }
}

/// Collects [`Stats`] value by value.
struct Tally {
    min: f64,
    max: f64,
    sum: f64,
    finite: usize,
    non_finite: usize,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            finite: 0,
            non_finite: 0,
        }
    }
}

impl Tally {
    fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.min = self.min.min(value);
            self.max = self.max.max(value);
            self.sum += value;
            self.finite += 1;
        } else {
            self.non_finite += 1;
        }
    }

    fn stats(self) -> Stats {
        let any = |value: f64| (self.finite > 0).then_some(value);
        let mean = self.sum / self.finite as f64;
        Stats {
            min: any(self.min),
            max: any(self.max),
            mean: any(mean).filter(|mean| mean.is_finite()),
            non_finite: self.non_finite,
        }
    }
}
