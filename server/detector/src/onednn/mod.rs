//! Convolutions of oneDNN with everything that makes them fast: weights in the order that the
//! processor wants, the activation and the sum with another map done on the way out, eight-bit products.
//!
//! libtorch has them as operators for `torch.compile`, which tch does not know; `shim.cpp` calls any
//! operator by its name. Their schemas, of libtorch 2.13, stand with each function. They are for
//! x86-64 only: elsewhere [`available`] says no.

use std::ffi::{CStr, c_char, c_void};

use tch::{Kind, TchError, Tensor};

use super::architecture::Activation;

/// Whether libtorch has these operators here.
pub(super) fn available() -> bool {
    cfg!(target_arch = "x86_64")
}

/// `x` in eight bits: `round(x / scale) + zero_point`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub scale: f64,
    pub zero_point: i64,
}

impl Scale {
    const ONE: Self = Self {
        scale: 1.0,
        zero_point: 0,
    };
}

/// How a kernel moves over maps of one side, in libtorch's terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moves {
    pub stride: i64,
    pub padding: i64,
    pub dilation: i64,
    /// Groups of channels that are convolved apart from each other.
    pub groups: i64,
}

/// A convolution in single precision or bfloat16, with weights in the processor's order.
#[derive(Debug)]
pub(super) struct Reordered {
    weight: Tensor,
    bias: Tensor,
    how: Moves,
    activation: Activation,
}

impl Reordered {
    /// Reorders weights for maps of `side` x `side`.
    ///
    /// `mkldnn::_reorder_convolution_weight(Tensor self, int[2] padding, int[2] stride, int[2]
    /// dilation, int groups, int[]? input_size) -> Tensor`
    pub(super) fn new(
        weight: &Tensor,
        bias: Tensor,
        how: Moves,
        activation: Activation,
        side: i64,
    ) -> Result<Self, TchError> {
        let input = [1, weight.size()[1] * how.groups, side, side];
        let weight = call(
            c"mkldnn::_reorder_convolution_weight",
            c"",
            &[
                Argument::tensor(weight),
                Argument::wholes(&[how.padding; 2]),
                Argument::wholes(&[how.stride; 2]),
                Argument::wholes(&[how.dilation; 2]),
                Argument::whole(how.groups),
                Argument::wholes(&input),
            ],
        )?;
        Ok(Self {
            weight,
            bias,
            how,
            activation,
        })
    }

    /// Convolves `x`, and applies the activation.
    ///
    /// `mkldnn::_convolution_pointwise(Tensor X, Tensor W, Tensor? B, int[] padding, int[] stride,
    /// int[] dilation, int groups, str attr, Scalar?[] scalars, str? algorithm) -> Tensor`
    pub(super) fn convolve(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (activation, bounds) = after(self.activation);
        call(
            c"mkldnn::_convolution_pointwise",
            c"",
            &[
                Argument::tensor(x),
                Argument::tensor(&self.weight),
                Argument::tensor(&self.bias),
                Argument::wholes(&[self.how.padding; 2]),
                Argument::wholes(&[self.how.stride; 2]),
                Argument::wholes(&[self.how.dilation; 2]),
                Argument::whole(self.how.groups),
                Argument::text(activation),
                Argument::scalars(bounds),
                Argument::NONE,
            ],
        )
    }

    /// Convolves `x`, and adds `other`. The activation must be linear.
    ///
    /// `mkldnn::_convolution_pointwise.binary(Tensor X, Tensor other, Tensor W, Tensor? B, int[]
    /// padding, int[] stride, int[] dilation, int groups, str binary_attr, Scalar? alpha, str?
    /// unary_attr, Scalar?[] unary_scalars, str? unary_algorithm) -> Tensor`
    pub(super) fn convolve_and_add(&self, x: &Tensor, other: &Tensor) -> Result<Tensor, TchError> {
        debug_assert_eq!(self.activation, Activation::Linear);
        call(
            c"mkldnn::_convolution_pointwise",
            c"binary",
            &[
                Argument::tensor(x),
                Argument::tensor(other),
                Argument::tensor(&self.weight),
                Argument::tensor(&self.bias),
                Argument::wholes(&[self.how.padding; 2]),
                Argument::wholes(&[self.how.stride; 2]),
                Argument::wholes(&[self.how.dilation; 2]),
                Argument::whole(self.how.groups),
                Argument::text("add"),
                Argument::NONE,
                Argument::NONE,
                Argument::scalars(&[]),
                Argument::NONE,
            ],
        )
    }

    /// The same for another thread: memory is shared.
    pub(super) fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            ..*self
        }
    }
}

/// A convolution of u8 maps with i8 weights, a scale for each output channel.
#[derive(Debug)]
pub(super) struct Quantised {
    weight: Tensor,
    scales: Tensor,
    zero_points: Tensor,
    bias: Tensor,
    input: Scale,
    how: Moves,
    activation: Activation,
}

impl Quantised {
    /// Packs weights (i8, with `scales`, one for each output channel) for maps of `side` x `side` in
    /// `input`'s eight bits.
    ///
    /// `onednn::qconv_prepack(Tensor weight, Tensor w_scales, float x_scale, int x_zp, int[] stride,
    /// int[] padding, int[] dilation, int groups, int[]? x_shape) -> Tensor`
    pub(super) fn pack(
        weight: &Tensor,
        scales: Tensor,
        bias: Tensor,
        input: Scale,
        (how, activation): (Moves, Activation),
        side: i64,
    ) -> Result<Self, TchError> {
        let shape = [1, weight.size()[1] * how.groups, side, side];
        let weight = call(
            c"onednn::qconv_prepack",
            c"",
            &[
                Argument::tensor(weight),
                Argument::tensor(&scales),
                Argument::float(input.scale),
                Argument::whole(input.zero_point),
                Argument::wholes(&[how.stride; 2]),
                Argument::wholes(&[how.padding; 2]),
                Argument::wholes(&[how.dilation; 2]),
                Argument::whole(how.groups),
                Argument::wholes(&shape),
            ],
        )?;
        let zero_points = Tensor::f_zeros(scales.size(), (Kind::Int, scales.device()))?;
        Ok(Self {
            weight,
            scales,
            zero_points,
            bias,
            input,
            how,
            activation,
        })
    }

    /// Convolves `x` (u8, `channels_last`), and applies the activation; to u8 with that scale, or to
    /// single precision where there is none.
    ///
    /// `onednn::qconv2d_pointwise(Tensor qx, float x_scale, int x_zero_point, Tensor qw, Tensor
    /// w_scale, Tensor w_zero_point, Tensor? bias, int[] stride, int[] padding, int[] dilation, int
    /// groups, float output_scale, int output_zero_point, ScalarType? output_dtype, str attr,
    /// Scalar?[] scalars, str? algorithm) -> Tensor`
    pub(super) fn convolve(&self, x: &Tensor, output: Option<Scale>) -> Result<Tensor, TchError> {
        let (activation, bounds) = after(self.activation);
        let (scale, dtype) = match output {
            Some(scale) => (scale, BYTE),
            None => (Scale::ONE, FLOAT),
        };
        call(
            c"onednn::qconv2d_pointwise",
            c"",
            &[
                Argument::tensor(x),
                Argument::float(self.input.scale),
                Argument::whole(self.input.zero_point),
                Argument::tensor(&self.weight),
                Argument::tensor(&self.scales),
                Argument::tensor(&self.zero_points),
                Argument::tensor(&self.bias),
                Argument::wholes(&[self.how.stride; 2]),
                Argument::wholes(&[self.how.padding; 2]),
                Argument::wholes(&[self.how.dilation; 2]),
                Argument::whole(self.how.groups),
                Argument::float(scale.scale),
                Argument::whole(scale.zero_point),
                Argument::whole(dtype),
                Argument::text(activation),
                Argument::scalars(bounds),
                Argument::NONE,
            ],
        )
    }

    /// The same for another thread: memory is shared.
    pub(super) fn shallow_clone(&self) -> Self {
        Self {
            weight: self.weight.shallow_clone(),
            scales: self.scales.shallow_clone(),
            zero_points: self.zero_points.shallow_clone(),
            bias: self.bias.shallow_clone(),
            ..*self
        }
    }
}

/// Of `c10::ScalarType`.
const BYTE: i64 = 0;
const FLOAT: i64 = 6;

/// An activation in libtorch's terms: its name, and the bounds it is given.
fn after(activation: Activation) -> (&'static str, &'static [f64]) {
    match activation {
        Activation::Linear => ("none", &[]),
        Activation::Relu => ("relu", &[]),
        Activation::Relu6 => ("hardtanh", &[0.0, 6.0]),
    }
}

/// The same in shim.cpp.
#[repr(C)]
struct Argument<'a> {
    kind: ArgumentKind,
    tensor: *const c_void,
    number: f64,
    whole: i64,
    wholes: *const i64,
    scalars: *const f64,
    length: usize,
    text: *const c_char,
    lives: std::marker::PhantomData<&'a ()>,
}

#[derive(Clone, Copy)]
#[repr(i32)]
enum ArgumentKind {
    None,
    Tensor,
    Float,
    Whole,
    Wholes,
    Text,
    Scalars,
}

impl<'a> Argument<'a> {
    const NONE: Self = Self {
        kind: ArgumentKind::None,
        tensor: std::ptr::null(),
        number: 0.0,
        whole: 0,
        wholes: std::ptr::null(),
        scalars: std::ptr::null(),
        length: 0,
        text: std::ptr::null(),
        lives: std::marker::PhantomData,
    };

    fn tensor(tensor: &'a Tensor) -> Self {
        Self {
            kind: ArgumentKind::Tensor,
            tensor: tensor.as_ptr().cast(),
            ..Self::NONE
        }
    }

    fn float(number: f64) -> Self {
        Self {
            kind: ArgumentKind::Float,
            number,
            ..Self::NONE
        }
    }

    fn whole(whole: i64) -> Self {
        Self {
            kind: ArgumentKind::Whole,
            whole,
            ..Self::NONE
        }
    }

    fn wholes(wholes: &'a [i64]) -> Self {
        Self {
            kind: ArgumentKind::Wholes,
            wholes: wholes.as_ptr(),
            length: wholes.len(),
            ..Self::NONE
        }
    }

    /// A `Scalar?[]`.
    fn scalars(scalars: &'a [f64]) -> Self {
        Self {
            kind: ArgumentKind::Scalars,
            scalars: scalars.as_ptr(),
            length: scalars.len(),
            ..Self::NONE
        }
    }

    fn text(text: &'a str) -> Self {
        Self {
            kind: ArgumentKind::Text,
            text: text.as_ptr().cast(),
            length: text.len(),
            ..Self::NONE
        }
    }
}

/// Calls an operator, by its name and that of its overload, which returns one tensor.
fn call(name: &CStr, overload: &CStr, arguments: &[Argument]) -> Result<Tensor, TchError> {
    #[expect(unsafe_code, reason = "tch reaches no operator by its name")]
    unsafe extern "C" {
        fn ssd_call(
            name: *const c_char,
            overload: *const c_char,
            arguments: *const Argument,
            count: usize,
            error: *mut c_char,
            room: usize,
        ) -> *mut c_void;
    }
    let mut error = [0; 1024];
    // SAFETY: both sides lay `Argument` out as C does, and every pointer in one is to a tensor, slice
    // or text that it borrows. The shim throws nothing, writes at most `room` bytes with a 0 at the
    // end, and returns null or a tensor that nobody else owns.
    #[expect(unsafe_code, reason = "the call")]
    let (tensor, error) = unsafe {
        let tensor = ssd_call(
            name.as_ptr(),
            overload.as_ptr(),
            arguments.as_ptr(),
            arguments.len(),
            error.as_mut_ptr(),
            error.len(),
        );
        (tensor, CStr::from_ptr(error.as_ptr()))
    };
    if tensor.is_null() {
        let error = error.to_string_lossy();
        let first = error.lines().next().unwrap_or_default();
        return Err(TchError::Torch(format!(
            "{}: {first}",
            name.to_string_lossy()
        )));
    }
    // SAFETY: as said, a tensor that is now this one's.
    #[expect(unsafe_code, reason = "takes the tensor over")]
    let tensor = unsafe { Tensor::from_ptr(tensor.cast()) };
    Ok(tensor)
}
