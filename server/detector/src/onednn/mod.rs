//! oneDNN's fast convolutions: with weights in the processor's order, a fused activation, a fused addition of
//! another feature map, and int8 products.
//!
//! libtorch has them as operators for `torch.compile`, which tch has no functions for; `shim.cpp` calls any operator
//! by its name. Each function quotes the operator's schema from libtorch 2.13. The operators exist only on x86-64:
//! see [`available`].

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;

use tch::{Device, Kind, TchError, Tensor};

use super::architecture::Activation;
use super::network::Shared;

/// Whether libtorch has these operators on a device.
pub(super) fn available(device: Device) -> bool {
    cfg!(target_arch = "x86_64") && device == Device::Cpu
}

/// The number that an int8 value represents: `scale * (value - zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    pub scale: f64,
    pub zero_point: i64,
}

/// How a kernel moves over a feature map along rows and columns, in libtorch's terms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moves {
    pub stride: [i64; 2],
    pub padding: [i64; 2],
    pub dilation: [i64; 2],
    /// Groups of channels that are convolved separately.
    pub groups: i64,
}

impl Moves {
    /// In the order for `mkldnn` operators; `onednn` operators take the stride before the padding.
    fn arguments(&self) -> [Argument<'_>; 4] {
        [
            Argument::wholes(&self.padding),
            Argument::wholes(&self.stride),
            Argument::wholes(&self.dilation),
            Argument::Whole(self.groups),
        ]
    }

    fn onednn_arguments(&self) -> [Argument<'_>; 4] {
        let [padding, stride, dilation, groups] = self.arguments();
        [stride, padding, dilation, groups]
    }

    /// The shape of an input with `side` rows and columns for these weights.
    fn input(&self, weight: &Tensor, side: i64) -> [i64; 4] {
        [1, weight.size()[1] * self.groups, side, side]
    }
}

/// A convolution in single precision or bfloat16, with weights in the processor's order.
#[derive(Debug, Clone)]
pub(super) struct Reordered {
    weight: Shared,
    bias: Shared,
    moves: Moves,
    activation: Activation,
}

impl Reordered {
    /// Reorders weights for feature maps of `side` x `side`.
    ///
    /// `mkldnn::_reorder_convolution_weight(Tensor self, int[2] padding, int[2] stride, int[2]
    /// dilation, int groups, int[]? input_size) -> Tensor`
    pub(super) fn new(
        weight: &Tensor,
        bias: Tensor,
        moves: Moves,
        activation: Activation,
        side: i64,
    ) -> Result<Self, TchError> {
        let input = moves.input(weight, side);
        let mut arguments = vec![Argument::tensor(weight)];
        arguments.extend(moves.arguments());
        arguments.push(Argument::wholes(&input));
        let reordered = call(c"mkldnn::_reorder_convolution_weight", c"", &arguments)?;
        Ok(Self {
            weight: Shared(reordered),
            bias: Shared(bias),
            moves,
            activation,
        })
    }

    /// Convolves `x`, and applies the activation or, if that is linear, adds `other`.
    ///
    /// `mkldnn::_convolution_pointwise(Tensor X, Tensor W, Tensor? B, int[] padding, int[] stride,
    /// int[] dilation, int groups, str attr, Scalar?[] scalars, str? algorithm) -> Tensor`
    ///
    /// `mkldnn::_convolution_pointwise.binary(Tensor X, Tensor other, Tensor W, Tensor? B, int[]
    /// padding, int[] stride, int[] dilation, int groups, str binary_attr, Scalar? alpha, str?
    /// unary_attr, Scalar?[] unary_scalars, str? unary_algorithm) -> Tensor`
    pub(super) fn convolve(&self, x: &Tensor, other: Option<&Tensor>) -> Result<Tensor, TchError> {
        let mut arguments = vec![Argument::tensor(x)];
        arguments.extend(other.map(Argument::tensor));
        arguments.extend([&self.weight, &self.bias].map(|tensor| Argument::tensor(tensor)));
        arguments.extend(self.moves.arguments());
        let overload = if other.is_some() {
            debug_assert_eq!(self.activation, Activation::Linear);
            arguments.extend([Argument::text("add"), Argument::None]);
            arguments.extend([Argument::None, Argument::scalars(&[]), Argument::None]);
            c"binary"
        } else {
            arguments.extend(activation_arguments(self.activation));
            c""
        };
        call(c"mkldnn::_convolution_pointwise", overload, &arguments)
    }
}

/// A convolution of u8 feature maps with i8 weights, which have a scale for each output channel.
#[derive(Debug, Clone)]
pub(super) struct Quantised {
    weight: Shared,
    scales: Shared,
    zero_points: Shared,
    bias: Shared,
    input: Scale,
    moves: Moves,
    activation: Activation,
}

impl Quantised {
    /// Packs weights (i8, with `scales`, one for each output channel) for feature maps of `side` x `side` and
    /// the scale `input`.
    ///
    /// `onednn::qconv_prepack(Tensor weight, Tensor w_scales, float x_scale, int x_zp, int[] stride,
    /// int[] padding, int[] dilation, int groups, int[]? x_shape) -> Tensor`
    pub(super) fn pack(
        weight: &Tensor,
        scales: Tensor,
        bias: Tensor,
        input: Scale,
        (moves, activation): (Moves, Activation),
        side: i64,
    ) -> Result<Self, TchError> {
        let shape = moves.input(weight, side);
        let mut arguments = vec![Argument::tensor(weight), Argument::tensor(&scales)];
        arguments.extend(input.arguments());
        arguments.extend(moves.onednn_arguments());
        arguments.push(Argument::wholes(&shape));
        let packed = call(c"onednn::qconv_prepack", c"", &arguments)?;
        let zero_points = Tensor::f_zeros(scales.size(), (Kind::Int, scales.device()))?;
        Ok(Self {
            weight: Shared(packed),
            scales: Shared(scales),
            zero_points: Shared(zero_points),
            bias: Shared(bias),
            input,
            moves,
            activation,
        })
    }

    /// Convolves `x` (u8, `channels_last`), and applies the activation. The output is u8 with the scale
    /// `output`, or single precision if that is `None`.
    ///
    /// `onednn::qconv2d_pointwise(Tensor qx, float x_scale, int x_zero_point, Tensor qw, Tensor
    /// w_scale, Tensor w_zero_point, Tensor? bias, int[] stride, int[] padding, int[] dilation, int
    /// groups, float output_scale, int output_zero_point, ScalarType? output_dtype, str attr,
    /// Scalar?[] scalars, str? algorithm) -> Tensor`
    pub(super) fn convolve(&self, x: &Tensor, output: Option<Scale>) -> Result<Tensor, TchError> {
        let (scale, dtype) = match output {
            Some(scale) => (scale, BYTE),
            None => (Scale::ONE, FLOAT),
        };
        let weights = [&self.weight, &self.scales, &self.zero_points, &self.bias];
        let mut arguments = vec![Argument::tensor(x)];
        arguments.extend(self.input.arguments());
        arguments.extend(weights.map(|tensor| Argument::tensor(tensor)));
        arguments.extend(self.moves.onednn_arguments());
        arguments.extend(scale.arguments());
        arguments.push(Argument::Whole(dtype));
        arguments.extend(activation_arguments(self.activation));
        call(c"onednn::qconv2d_pointwise", c"", &arguments)
    }
}

/// Values of `c10::ScalarType`.
const BYTE: i64 = 0;
const FLOAT: i64 = 6;

impl Scale {
    const ONE: Self = Self {
        scale: 1.0,
        zero_point: 0,
    };

    fn arguments(self) -> [Argument<'static>; 2] {
        [
            Argument::Float(self.scale),
            Argument::Whole(self.zero_point),
        ]
    }
}

/// An activation in libtorch's terms: its name, its bounds and its algorithm.
fn activation_arguments(activation: Activation) -> [Argument<'static>; 3] {
    let (name, bounds): (_, &[f64]) = match activation {
        Activation::Linear => ("none", &[]),
        Activation::HardSigmoid => ("hardsigmoid", &[]),
        Activation::HardSwish => ("hardswish", &[]),
        Activation::Relu => ("relu", &[]),
        Activation::Relu6 => ("hardtanh", &[0.0, 6.0]),
    };
    [
        Argument::text(name),
        Argument::scalars(bounds),
        Argument::None,
    ]
}

/// An operator's argument. `shim.cpp` declares the same.
#[expect(dead_code, reason = "the shim reads the fields")]
#[repr(C, i32)]
enum Argument<'a> {
    None,
    Tensor(*const c_void, PhantomData<&'a Tensor>),
    Float(f64),
    Whole(i64),
    Wholes(Slice<'a, i64>),
    Text(Slice<'a, u8>),
    /// A `Scalar?[]`.
    Scalars(Slice<'a, f64>),
}

#[repr(C)]
struct Slice<'a, T> {
    first: *const T,
    length: usize,
    borrowed: PhantomData<&'a [T]>,
}

impl<'a, T> Slice<'a, T> {
    fn of(slice: &'a [T]) -> Self {
        Self {
            first: slice.as_ptr(),
            length: slice.len(),
            borrowed: PhantomData,
        }
    }
}

impl<'a> Argument<'a> {
    fn tensor(tensor: &'a Tensor) -> Self {
        Self::Tensor(tensor.as_ptr().cast(), PhantomData)
    }

    fn wholes(wholes: &'a [i64]) -> Self {
        Self::Wholes(Slice::of(wholes))
    }

    fn text(text: &'a str) -> Self {
        Self::Text(Slice::of(text.as_bytes()))
    }

    fn scalars(scalars: &'a [f64]) -> Self {
        Self::Scalars(Slice::of(scalars))
    }
}

/// Calls an operator that returns one tensor, by its name and the name of its overload.
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
    let mut message = [0; 1024];
    // SAFETY: `Argument` has the C layout on both sides, and its pointers refer to a tensor, slice or text
    // that it borrows. The shim throws nothing, writes at most `room` bytes with a 0 at the end, and returns
    // null or a tensor that the caller owns.
    #[expect(unsafe_code, reason = "the call")]
    let (tensor, error) = unsafe {
        let tensor = ssd_call(
            name.as_ptr(),
            overload.as_ptr(),
            arguments.as_ptr(),
            arguments.len(),
            message.as_mut_ptr(),
            message.len(),
        );
        (tensor, CStr::from_ptr(message.as_ptr()))
    };
    if tensor.is_null() {
        let text = error.to_string_lossy();
        let first = text.lines().next().unwrap_or_default();
        let operator = name.to_string_lossy();
        return Err(TchError::Torch(format!("{operator}: {first}")));
    }
    // SAFETY: `ssd_call` passed the ownership of the tensor to its caller.
    #[expect(unsafe_code, reason = "takes the tensor over")]
    Ok(unsafe { Tensor::from_ptr(tensor.cast()) })
}
