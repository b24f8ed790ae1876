//! A network prepared for serving in one precision on one device. Every operation has the form that runs fastest
//! there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Activation, Channels, Convolution, Geometry, Padding, Pool};
use super::boxes::RawOutput;
use super::family::Scores;
use super::fuse::fuse;
use super::graph::{Graph, MapId, Node};
use super::heads::{self, Heads};
use super::kernels::{self, Bf16Level, Own, Threads, Way, is_long};
use super::network::{self, Layer, Network, Shared, channels_last};
use super::onednn::{self, Moves, Quantised, Reordered, Scale};
use super::precision::{self, Precision, Processor, Requested, Selection};
use super::preprocess::{Input, Preprocessing};
use super::quantise::{self, Scales};
use super::samples;

/// A convolution that is ready to run.
#[derive(Debug, Clone)]
struct Prepared {
    form: Form,
    /// The type of its inputs. Those of another type are converted.
    kind: Kind,
    /// Rows of zeros that are added above and below the feature map first, and columns left and right of it.
    padding: (i64, i64),
}

/// The form in which a convolution runs.
#[derive(Debug, Clone)]
enum Form {
    /// libtorch's own form, which runs on every device.
    Plain {
        weight: Shared,
        bias: Shared,
        geometry: Geometry,
        groups: i64,
        activation: Activation,
    },
    /// oneDNN's form, with weights in the processor's order.
    Reordered(Reordered),
    /// This crate's form, in single precision.
    Own(Own),
    /// oneDNN's int8 form. The output is u8 with the scale `output`, or single precision if that is `None`.
    Quantised {
        convolution: Quantised,
        output: Option<Scale>,
    },
}

/// An operation that is ready to run.
#[derive(Debug, Clone)]
enum Kernel {
    /// A second input is added to the output.
    Convolution(Prepared),
    MaxPool(Pool),
    Add,
    Mean,
    Scale,
    L2Norm {
        factors: Shared,
        kind: Kind,
        /// The scale of the output in int8.
        output: Option<Scale>,
    },
}

/// A kernel, and the name of its layer in the file if the layer has tensors.
#[derive(Debug, Clone)]
struct Step {
    kernel: Kernel,
    layer: Option<String>,
}

impl Kernel {
    fn forward(&self, inputs: &[&Tensor], threads: Threads) -> Result<Tensor, TchError> {
        let x = inputs[0];
        match self {
            Self::Convolution(prepared) => prepared.forward(x, inputs.get(1).copied(), threads),
            Self::MaxPool(pool) => match x.device() {
                Device::Cpu => kernels::max_pool(x, *pool, threads),
                _ => network::max_pool(x, *pool),
            },
            Self::Add => x.f_add(inputs[1]),
            Self::Mean if is_single(x) => kernels::means(x, threads),
            Self::Mean => network::mean(x),
            Self::Scale if is_single(x) && is_single(inputs[1]) => {
                kernels::scale(x, inputs[1], threads)
            }
            Self::Scale => x.f_mul(inputs[1]),
            Self::L2Norm {
                factors,
                kind,
                output,
            } => match x.device() {
                // u8 loses the sign of a channel with a negative factor. The heads' weights contain it.
                Device::Cpu => {
                    kernels::l2_norm(x, factors, output.map(|output| output.scale), threads)
                }
                _ => network::l2_norm(&x.f_to_kind(Kind::Float)?, factors)?.f_to_kind(*kind),
            },
        }
    }

    /// Converts one of its outputs to single precision on the CPU.
    fn exact(&self, output: &Tensor) -> Result<Tensor, TchError> {
        let values = output.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        match self {
            Self::Convolution(Prepared {
                form:
                    Form::Quantised {
                        output: Some(output),
                        ..
                    },
                ..
            }) => values.f_mul_scalar(output.scale),
            Self::L2Norm {
                factors,
                output: Some(output),
                ..
            } => values.f_mul_scalar(output.scale)?.f_mul(&signs(factors)?),
            _ => Ok(values),
        }
    }
}

impl Prepared {
    fn forward(
        &self,
        x: &Tensor,
        other: Option<&Tensor>,
        threads: Threads,
    ) -> Result<Tensor, TchError> {
        let convert = |map: &Tensor| {
            let differs = map.kind() != self.kind;
            differs.then(|| map.f_to_kind(self.kind)).transpose()
        };
        let converted = convert(x)?;
        let x = converted.as_ref().unwrap_or(x);
        let pads = self.padding != (0, 0);
        let padded = pads.then(|| network::pad(x, self.padding)).transpose()?;
        let x = padded.as_ref().unwrap_or(x);
        let converted = other.map(convert).transpose()?.flatten();
        let other = converted.as_ref().or(other);
        self.form.forward(x, other, threads)
    }
}

impl Form {
    fn forward(
        &self,
        x: &Tensor,
        other: Option<&Tensor>,
        threads: Threads,
    ) -> Result<Tensor, TchError> {
        let output = match self {
            Self::Reordered(form) => return form.convolve(x, other),
            Self::Own(form) => return form.convolve(x, other, threads),
            Self::Quantised {
                convolution,
                output,
            } => convolution.convolve(x, *output)?,
            Self::Plain {
                weight,
                bias,
                geometry,
                groups,
                activation,
            } => {
                let sums = network::convolve(x, weight, bias, *geometry, *groups)?;
                network::activate(sums, *activation)?
            }
        };
        match other {
            Some(other) => output.f_add(other),
            None => Ok(output),
        }
    }
}

/// Selects a precision for a network and prepares it. If int8 is requested without `scales`, measures them on the
/// bundled pictures.
///
/// # Errors
/// If the device does not exist; also those of [`Inference::new`] and [`quantise::calibrate`].
pub fn prepare(
    network: Network,
    scales: Option<&Scales>,
    requested: Requested,
) -> Result<(Inference, Selection), Error> {
    let device = requested.device.device().map_err(Error::Device)?;
    let arithmetic_in = |precision| match (precision, scales) {
        (Precision::F32, _) => Ok(Arithmetic::F32),
        (Precision::Bf16, _) => Ok(Arithmetic::Bf16),
        (Precision::Int8, Some(scales)) => Ok(Arithmetic::Int8(scales.clone())),
        (Precision::Int8, None) => {
            let inputs = samples::inputs(network.family());
            quantise::calibrate(&network, &inputs, || ()).map(Arithmetic::Int8)
        }
    };
    let mut selection = precision::select(
        requested.precision,
        device,
        Processor::of_this_machine(),
        scales.is_some() && onednn::available(device),
        |precision| {
            Inference::new(network.shallow_clone(), &arithmetic_in(precision)?, device)?.time()
        },
    )?;
    if selection.precision == Precision::Int8 && scales.is_none() {
        selection.warning = selection.warning.or(Some(
            "the weights have no int8 scales. They are measured at every start, on bundled pictures. Run \
             `ssd calibrate` once, on your own pictures.",
        ));
    }
    let arithmetic = arithmetic_in(selection.precision)?;
    let inference = Inference::new(network, &arithmetic, device)?;
    let own = inference.own_convolutions();
    if !own.is_empty() {
        selection.reason += &format!("; convolutions that are faster here than in libtorch: {own}");
    }
    Ok((inference, selection))
}

/// Why a network cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device does not exist.
    #[error("{0}")]
    Device(String),
    /// int8 does not run on the requested device.
    #[error(
        "int8 runs on x86-64 CPUs only, not on arm64 or a GPU; choose the precision auto, f32 or bf16 (on x86-64 also: the device cpu)"
    )]
    NoInt8,
    /// The network has operations without an int8 form.
    #[error(
        "int8 is for the SSD300 families; {family} has sums of feature maps, depthwise convolutions and \
         activations below zero, which have no int8 form here; choose the precision auto, f32 or bf16"
    )]
    NotForInt8 {
        /// The network's family.
        family: &'static str,
    },
    /// The int8 scales do not fit the network.
    #[error("the set of scales for int8 {0}; measure the scales on this network")]
    Scales(String),
    /// Calibration found activations that are not finite.
    #[error(
        "calibration for int8 found NaN or infinite activations in layer {layer}; choose the precision auto, f32 \
         or bf16, and check the weights with `ssd inspect`"
    )]
    NotFinite {
        /// The layer's name in the weights file, without `.weight`.
        layer: String,
    },
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl Network {
    /// Checks that every operation has an int8 form: activations are not negative, no convolution is depthwise,
    /// and no feature maps are added.
    ///
    /// # Errors
    /// If an operation has no int8 form.
    pub fn check_int8(&self) -> Result<(), Error> {
        let has_form = |layer: &Layer| match layer {
            Layer::Convolution { spec, .. } => match spec.channels {
                Channels::Offsets(_) | Channels::Logits(_) => true,
                Channels::Free => spec.activation == Activation::Relu,
                Channels::Depthwise => false,
            },
            Layer::MaxPool(_) | Layer::L2Norm { .. } => true,
            Layer::Add | Layer::Mean | Layer::Scale => false,
        };
        let family = self.family().name;
        if self
            .graph
            .nodes()
            .all(|(_, node)| has_form(&node.operation))
        {
            Ok(())
        } else {
            Err(Error::NotForInt8 { family })
        }
    }
}

/// The arithmetic of a forward pass.
#[derive(Debug, Clone)]
pub enum Arithmetic {
    /// Single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// int8, with the scales of the network's activations.
    Int8(Scales),
}

/// A network that is ready to serve.
#[derive(Debug)]
pub struct Inference {
    graph: Graph<Step>,
    /// In the order of the source feature maps.
    heads: Vec<Heads>,
    preprocessing: Preprocessing,
    scores: Scores,
    device: Device,
    threads: Threads,
    /// The scale of the input, in int8.
    scale: Option<Scale>,
    classes: usize,
}

impl Inference {
    /// Prepares a network. Consumes it layer by layer, so that its weights are never in memory twice.
    ///
    /// # Errors
    /// If libtorch fails; or, for int8, if the device is not an x86-64 CPU, the network has operations without an
    /// int8 form, or the scales are not the network's.
    pub fn new(network: Network, arithmetic: &Arithmetic, device: Device) -> Result<Self, Error> {
        if let Arithmetic::Int8(scales) = arithmetic {
            if !onednn::available(device) {
                return Err(Error::NoInt8);
            }
            network.check_int8()?;
            scales.check(&network).map_err(Error::Scales)?;
        }
        let processor = Processor::of_this_machine();
        let in_bf16 = matches!(arithmetic, Arithmetic::Bf16);
        let is_emulated = in_bf16 && !processor.bf16;
        let builder = Builder {
            arithmetic,
            device,
            largest_weight: if processor.vnni { 127 } else { 63 },
            reorders: onednn::available(device) && !is_emulated,
            has_own: device == Device::Cpu
                && !is_emulated
                && !matches!(arithmetic, Arithmetic::Int8(_)),
            bf16: Bf16Level::of_this_machine().filter(|_| in_bf16),
            room: Cell::new(ROOM),
        };
        Ok(tch::no_grad(|| builder.build(network))?)
    }

    /// A copy for another thread. The weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            heads: self.heads.clone(),
            ..*self
        }
    }

    /// Runs one forward pass over several pictures. Returns an output for each, in the same order.
    ///
    /// # Errors
    /// If libtorch fails, for example for lack of memory.
    pub fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, TchError> {
        tch::no_grad(|| {
            let outputs = self.graph.run(self.input(inputs)?, |_, step, x| {
                step.kernel.forward(x, self.threads)
            })?;
            let (classes, scores) = (self.classes, self.scores);
            heads::read(&self.heads, &outputs, classes, scores, self.threads)
        })
    }

    /// Runs one forward pass over one picture.
    ///
    /// # Errors
    /// Like [`forward`](Self::forward).
    pub fn forward_one(&self, input: &Input) -> Result<RawOutput, TchError> {
        let mut outputs = self.forward(&[input])?;
        outputs
            .pop()
            .ok_or_else(|| TchError::Torch("no output for an input".to_owned()))
    }

    /// The mean picture of the training data, for a forward pass that warms up libtorch.
    #[must_use]
    pub fn blank(&self) -> Input {
        self.preprocessing.blank()
    }

    /// How long a pass takes: the shortest of several passes, after one that warms up libtorch.
    fn time(&self) -> Result<Duration, Error> {
        const ENOUGH: Duration = Duration::from_millis(100);
        let blank = self.blank();
        self.forward_one(&blank)?;
        let (begun, mut best) = (Instant::now(), Duration::MAX);
        while best == Duration::MAX || begun.elapsed() < ENOUGH {
            let pass = Instant::now();
            self.forward_one(&blank)?;
            best = best.min(pass.elapsed());
        }
        Ok(best)
    }

    fn input(&self, inputs: &[&Input]) -> Result<Tensor, TchError> {
        let batch = tensor(inputs)?.f_to_device(self.device)?;
        match self.scale {
            Some(Scale { scale, zero_point }) => {
                kernels::to_bytes(&batch, (1.0 / scale) as f32, zero_point as f32)
            }
            None => Ok(batch),
        }
    }

    /// How many convolutions this crate computes rather than libtorch, by their way, for the log; empty if it computes
    /// none.
    #[must_use]
    pub fn own_convolutions(&self) -> String {
        let mut ways: BTreeMap<String, usize> = BTreeMap::new();
        for (_, step) in self.graph.nodes() {
            if let Kernel::Convolution(Prepared {
                form: Form::Own(own),
                ..
            }) = &step.operation.kernel
            {
                *ways.entry(own.to_string()).or_default() += 1;
            }
        }
        let ways = ways.iter().map(|(way, count)| format!("{count} {way}"));
        ways.collect::<Vec<_>>().join(", ")
    }

    /// The error of each layer's activations on one input, compared with the network in single precision.
    ///
    /// # Errors
    /// If libtorch fails.
    pub fn errors(&self, exact: &Network, input: &Input) -> Result<Vec<LayerError>, TchError> {
        tch::no_grad(|| {
            let mut all_expected = BTreeMap::new();
            exact.run(&tensor(&[input])?, |layer, output| {
                all_expected.insert(layer.to_owned(), output.shallow_clone());
                Ok(())
            })?;
            let mut errors = Vec::new();
            self.graph.run(self.input(&[input])?, |_, step, inputs| {
                let output = step.kernel.forward(inputs, self.threads)?;
                if let Some(layer) = &step.layer
                    && let Some(expected) = all_expected.get(layer)
                {
                    let distance = step.kernel.exact(&output)?.f_sub(expected)?.f_abs()?;
                    let mean = expected.f_abs()?.f_mean(Kind::Double)?;
                    let error = distance.f_mean(Kind::Double)?.f_div(&mean)?;
                    errors.push(LayerError {
                        layer: layer.clone(),
                        error: error.f_double_value(&[])?,
                    });
                }
                Ok::<_, TchError>(output)
            })?;
            Ok(errors)
        })
    }
}

/// The error of a layer's activations, compared with single precision.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// The layer's name in the weights file, without `.weight`.
    pub layer: String,
    /// The mean absolute error divided by the mean absolute activation in single precision.
    pub error: f64,
}

/// Whether feature maps are in single precision, on the CPU.
fn is_single(x: &Tensor) -> bool {
    (x.kind(), x.device()) == (Kind::Float, Device::Cpu)
}

/// The sign of each channel's factor, -1, 0 or 1, shaped for a product with feature maps and weights.
fn signs(factors: &Tensor) -> Result<Tensor, TchError> {
    factors.f_sign()?.f_view([1, -1, 1, 1])
}

/// Inputs as a batch, N x 3 x side x side. The values are stored in the order row, column, channel, which is
/// `channels_last`. The permutation only renames the axes.
pub(super) fn tensor(inputs: &[&Input]) -> Result<Tensor, TchError> {
    let side = inputs.first().map_or(0, |input| input.side() as i64);
    let pictures = inputs.len() as i64;
    let mut batch = Tensor::f_empty([pictures, side, side, 3], (Kind::Float, Device::Cpu))?;
    let each = (3 * side * side).max(1) as usize;
    for (into, input) in kernels::slice_mut(&mut batch).chunks_mut(each).zip(inputs) {
        into.copy_from_slice(input.values());
    }
    batch.f_permute([0, 3, 1, 2])
}

pub(super) fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let flat = tensor
        .f_reshape([-1])?
        .f_to_device(Device::Cpu)?
        .f_contiguous()?;
    let mut values = vec![0.0; flat.numel()];
    let count = values.len();
    flat.f_copy_data(&mut values, count)?;
    Ok(values)
}

/// Maximum bytes of a network's weights that are transformed by Winograd's algorithm before the first pass, which makes them
/// four to seven times as large. SSD300's last layers gain the least by it, and have the most weights: theirs are transformed
/// in every pass.
const ROOM: usize = 72 << 20;

/// A convolution, for the choice of its form: whether in bfloat16, this crate's way, the size of the weights, the side of the
/// input, the stride, the dilation, and the number of threads.
type Measured = (bool, Way, Vec<i64>, [i64; 3], i32);

struct Builder<'a> {
    arithmetic: &'a Arithmetic,
    device: Device,
    /// The largest number in an int8 weight.
    largest_weight: i64,
    /// Whether oneDNN gets weights in its own order. It does not if it emulates bfloat16.
    reorders: bool,
    /// Whether a convolution may have this crate's form.
    has_own: bool,
    /// That of this crate's convolutions in bfloat16, if it has any.
    bf16: Option<Bf16Level>,
    /// What is left of [`ROOM`].
    room: Cell<usize>,
}

/// What is known about a feature map before the network runs.
struct Known {
    side: i64,
    /// The type of its numbers.
    kind: Kind,
    /// In int8 only.
    scale: Option<Scale>,
    /// The sign of each channel of a normalised feature map in int8, since u8 has lost it.
    signs: Option<Tensor>,
}

impl Builder<'_> {
    fn build(&self, network: Network) -> Result<Inference, TchError> {
        let (family, classes) = (network.family(), network.classes());
        let (low, high) = family.preprocessing.range();
        let scale = matches!(self.arithmetic, Arithmetic::Int8(_))
            .then(|| quantise::around_zero(low, high));
        let input = Known {
            side: family.preprocessing.side as i64,
            kind: scale.map_or(Kind::Float, |_| Kind::Uint8),
            scale,
            signs: None,
        };
        let (graph, heads) = fuse(network.graph, classes)?;
        let outputs = graph.outputs().to_vec();
        let mut maps = BTreeMap::from([(MapId::INPUT, input)]);
        let mut steps: Vec<Node<Step>> = Vec::new();
        for (map, Node { operation, inputs }) in graph.into_nodes() {
            let layer = operation.name().map(str::to_owned);
            let output = match (&layer, self.arithmetic) {
                (Some(name), Arithmetic::Int8(scales)) if !outputs.contains(&map) => {
                    Some(scales.of(name))
                }
                _ => None,
            };
            let (kernel, known) = self.kernel(operation, &maps[&inputs[0]], output)?;
            maps.insert(map, known);
            steps.push(Node {
                operation: Step { kernel, layer },
                inputs,
            });
        }
        let is_own = |step: &Node<Step>| match &step.operation.kernel {
            Kernel::Convolution(Prepared { form, .. }) => matches!(form, Form::Own(_)),
            _ => true,
        };
        let threads = if steps.iter().all(is_own) {
            Threads::Own
        } else {
            Threads::Libtorch
        };
        Ok(Inference {
            graph: join(Graph::new(steps, outputs), |map| maps[&map].side),
            threads,
            heads,
            preprocessing: family.preprocessing,
            scores: family.scores,
            device: self.device,
            scale,
            classes,
        })
    }

    /// The kernel of a layer that reads the feature map `x`, and what is known about its output. `output` is the
    /// output's scale in int8.
    fn kernel(
        &self,
        layer: Layer,
        x: &Known,
        output: Option<Scale>,
    ) -> Result<(Kernel, Known), TchError> {
        let mut known = Known {
            side: x.side,
            kind: x.kind,
            scale: output,
            signs: None,
        };
        let kernel = match layer {
            Layer::Convolution { spec, weight, bias } => {
                known.side = spec.geometry.side_after(x.side);
                let signed = match &x.signs {
                    Some(signs) => weight.f_mul(signs)?,
                    None => weight.0,
                };
                let prepared = if self.has_own {
                    self.fastest(&spec, signed, &bias, x)?
                } else {
                    self.in_libtorch(&spec, signed, &bias, x, output)?
                };
                known.kind = match &prepared.form {
                    Form::Own(_) => Kind::Float,
                    _ => self.kind_of(output),
                };
                Kernel::Convolution(prepared)
            }
            Layer::MaxPool(pool) => {
                known.side = pool.side_after(x.side);
                known.scale = x.scale;
                Kernel::MaxPool(pool)
            }
            Layer::Add => Kernel::Add,
            Layer::Mean => {
                known.side = 1;
                Kernel::Mean
            }
            Layer::Scale => Kernel::Scale,
            Layer::L2Norm { factors, .. } => {
                known.signs = output.map(|_| signs(&factors)).transpose()?;
                Kernel::L2Norm {
                    factors: Shared(factors.f_to_device(self.device)?),
                    kind: self.kind(),
                    output,
                }
            }
        };
        Ok((kernel, known))
    }

    /// The type of the activations, except in int8.
    fn kind(&self) -> Kind {
        match self.arithmetic {
            Arithmetic::Bf16 => Kind::BFloat16,
            Arithmetic::F32 | Arithmetic::Int8(_) => Kind::Float,
        }
    }

    /// The type of a feature map with this scale.
    fn kind_of(&self, scale: Option<Scale>) -> Kind {
        match scale {
            Some(_) => Kind::Uint8,
            None => self.kind(),
        }
    }

    /// A convolution of the feature map `x` in libtorch. `output` is the output's scale in int8.
    fn in_libtorch(
        &self,
        spec: &Convolution,
        weight: Tensor,
        bias: &Tensor,
        x: &Known,
        output: Option<Scale>,
    ) -> Result<Prepared, TchError> {
        let groups = spec.groups(&weight);
        let (before, after) = spec.geometry.padding(x.side);
        // libtorch pads all sides equally. Otherwise the feature map is padded, which copies it; or the kernel
        // is padded, which takes more products. Depthwise convolutions have few products, but large feature
        // maps, so their kernels are padded.
        let (kernel, padding, outside) = if before == after {
            (weight, before, (0, 0))
        } else if spec.channels == Channels::Depthwise {
            (pad_kernel(&weight, after - before)?, after, (0, 0))
        } else {
            (weight, 0, (before, after))
        };
        let side = x.side + outside.0 + outside.1;
        let moves = Moves {
            stride: [spec.geometry.stride; 2],
            padding: [padding; 2],
            dilation: [spec.geometry.dilation; 2],
            groups,
        };
        let activation = spec.activation;
        let cast = |tensor: &Tensor| tensor.f_to_kind(self.kind());
        let form = if let Some(input) = x.scale {
            let (numbers, scales) = quantise::weight(&kernel, self.largest_weight)?;
            let (own_bias, how) = (bias.shallow_clone(), (moves, activation));
            Form::Quantised {
                convolution: Quantised::pack(&numbers, scales, own_bias, input, how, side)?,
                output,
            }
        } else if self.reorders {
            let (weight, own_bias) = (cast(&kernel)?, cast(bias)?);
            Form::Reordered(Reordered::new(&weight, own_bias, moves, activation, side)?)
        } else {
            Form::Plain {
                weight: Shared(cast(&kernel)?.f_to_device(self.device)?),
                bias: Shared(cast(bias)?.f_to_device(self.device)?),
                geometry: Geometry {
                    kernel: kernel.size()[2],
                    padding: Padding::Each(padding),
                    ..spec.geometry
                },
                groups,
                activation,
            }
        };
        Ok(Prepared {
            form,
            kind: self.kind_of(x.scale),
            padding: outside,
        })
    }

    /// A convolution in single precision or bfloat16 on the CPU: this crate's form, or libtorch's if that is faster. Long
    /// convolutions are measured, those of one size once. In bfloat16, where this crate has no form for it, only Winograd's
    /// algorithm can be faster, in single precision.
    fn fastest(
        &self,
        spec: &Convolution,
        weight: Tensor,
        bias: &Tensor,
        x: &Known,
    ) -> Result<Prepared, TchError> {
        static IS_FASTER: Mutex<BTreeMap<Measured, bool>> = Mutex::new(BTreeMap::new());
        let (shape, side) = (weight.size(), x.side);
        let (groups, room) = (spec.groups(&weight), self.room.get());
        let in_bf16 = self.kind() == Kind::BFloat16;
        let way = Way::of(&shape, groups, spec.geometry, side, room)
            .filter(|way| !in_bf16 || self.bf16.is_some() || matches!(way, Way::Winograd(..)));
        let Some(way) = way else {
            return self.in_libtorch(spec, weight, bias, x, None);
        };
        let own = |weight: &Tensor| {
            let how = (spec.geometry, spec.activation);
            let form = Own::new(way, weight, bias, how, side, self.bf16)?;
            Ok::<_, TchError>(Prepared {
                form: Form::Own(form),
                kind: Kind::Float,
                padding: (0, 0),
            })
        };
        let known = || IS_FASTER.lock().unwrap_or_else(PoisonError::into_inner);
        let Geometry {
            stride, dilation, ..
        } = spec.geometry;
        let moves = [side, stride, dilation];
        let threads = tch::get_num_threads();
        let layer = (in_bf16, way, shape.clone(), moves, threads);
        let measured = if is_long(&shape, spec.geometry, side) {
            known().get(&layer).copied()
        } else {
            Some(true)
        };
        let (is_faster, prepared) = match measured {
            Some(true) => (true, own(&weight)?),
            Some(false) => (false, self.in_libtorch(spec, weight, bias, x, None)?),
            None => {
                let map = [1, shape[1], side, side];
                let input = Tensor::f_rand(map, (Kind::Float, Device::Cpu))?;
                let input = channels_last(&input).f_to_kind(x.kind)?;
                let own = own(&weight)?;
                let direct = self.in_libtorch(spec, weight, bias, x, None)?;
                let [time, rival] = times([&own, &direct], &input)?;
                // Where all convolutions are this crate's, its own threads do the whole pass.
                let advantage = rival / 8;
                let is_faster = time < rival + advantage;
                known().insert(layer, is_faster);
                (is_faster, if is_faster { own } else { direct })
            }
        };
        if is_faster {
            self.room.set(room - way.transformed(&shape));
        }
        Ok(prepared)
    }
}

/// Joins the convolutions of this crate that run faster as a bottleneck, and convolutions with the max-pools after them.
/// `side` is that of a feature map.
fn join(graph: Graph<Step>, side: impl Fn(MapId) -> i64) -> Graph<Step> {
    let own = |map: MapId| match graph.node(map) {
        Some(Node { operation, inputs }) => match &operation.kernel {
            Kernel::Convolution(Prepared {
                form: Form::Own(own),
                ..
            }) => Some((own, inputs.as_slice())),
            _ => None,
        },
        None => None,
    };
    // A convolution that only the next operation reads, and which adds nothing.
    let inner = |map: MapId| match own(map) {
        Some((own, &[input])) if graph.readers(map) == 1 => Some((own, input)),
        _ => None,
    };
    let mut joints = BTreeMap::new();
    let mut joined = Vec::new();
    for (map, Node { operation, inputs }) in graph.nodes() {
        if let Kernel::MaxPool(pool) = operation.kernel
            && let Some((convolution, input)) = inner(inputs[0])
            && let Some(joint) = convolution.with_max_pool(pool, side(inputs[0]))
        {
            joints.insert(map, (joint, input));
            joined.push(inputs[0]);
        }
        if let Some((last, inputs)) = own(map)
            && let Some((depthwise, before)) = inner(inputs[0])
            && let Some((first, input)) = inner(before)
            && let Some(joint) = Own::bottleneck([first, depthwise, last], side(input))
        {
            joints.insert(map, (joint, input));
            joined.extend([before, inputs[0]]);
        }
    }
    let outputs = graph.outputs().to_vec();
    let nodes = graph
        .into_nodes()
        .filter(|(map, _)| !joined.contains(map))
        .map(|(map, mut node)| {
            if let Some((joint, input)) = joints.remove(&map) {
                node.operation.kernel = Kernel::Convolution(Prepared {
                    form: Form::Own(joint),
                    kind: Kind::Float,
                    padding: (0, 0),
                });
                node.inputs[0] = input;
            }
            (map, node)
        });
    Graph::rebuild(nodes, &outputs)
}

/// How long two forms of a convolution take: the shortest of two runs or more. They take turns, since the processor's speed
/// changes. The first run also warms up libtorch; it is enough if one takes half as long again as the other.
fn times(forms: [&Prepared; 2], input: &Tensor) -> Result<[Duration; 2], TchError> {
    const ENOUGH: Duration = Duration::from_millis(4);
    let (begun, mut runs) = (Instant::now(), 0);
    let mut least = [Duration::MAX; 2];
    loop {
        for (least, form) in least.iter_mut().zip(forms) {
            let run = Instant::now();
            drop(form.forward(input, None, Threads::Libtorch)?);
            *least = run.elapsed().min(*least);
        }
        runs += 1;
        let [one, other] = least;
        let is_clear = 2 * one.max(other) > 3 * one.min(other);
        if is_clear || runs >= 2 && begun.elapsed() > ENOUGH {
            return Ok(least);
        }
    }
}

/// A kernel with `more` rows of zeros above and columns of zeros on the left, which replace the missing padding
/// of the feature map.
fn pad_kernel(weight: &Tensor, more: i64) -> Result<Tensor, TchError> {
    Ok(channels_last(
        &weight.f_constant_pad_nd([more, 0, more, 0])?,
    ))
}

#[cfg(test)]
mod tests {
    use super::super::kernels::{Tile, Transforms};
    use super::*;

    #[test]
    fn a_convolution_converts_feature_maps_of_another_type() {
        let exact = (Kind::Float, Device::Cpu);
        let in_bf16 = |tensor: Tensor| channels_last(&tensor).to_kind(Kind::BFloat16);
        let x = in_bf16(Tensor::randn([1, 64, 12, 12], exact));
        let other = in_bf16(Tensor::randn([1, 64, 12, 12], exact));
        let weight = Tensor::randn([64, 64, 3, 3], exact) / 24.0;
        let bias = Tensor::randn([64], exact);
        let geometry = Geometry {
            kernel: 3,
            stride: 1,
            padding: Padding::Each(1),
            dilation: 1,
        };
        let way = Way::Winograd(Tile::F4, Transforms::Once);
        let how = (geometry, Activation::Linear);
        let convolution = Prepared {
            form: Form::Own(Own::new(way, &weight, &bias, how, 12, None).unwrap()),
            kind: Kind::Float,
            padding: (0, 0),
        };
        let [x_f32, other_f32] = [&x, &other].map(|map| map.to_kind(Kind::Float));
        let found = convolution.forward(&x, Some(&other), Threads::Own).unwrap();
        let expected = network::convolve(&x_f32, &weight, &bias, geometry, 1).unwrap() + other_f32;
        assert_eq!(found.kind(), Kind::Float);
        assert!((found - expected).abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn zeros_before_a_kernel_equal_padding_before_the_feature_map() {
        let numbers = (Kind::Double, Device::Cpu);
        let weight = Tensor::randn([4, 3, 3, 3], numbers);
        let bias = Tensor::randn([4], numbers);
        for side in [2, 10, 37, 300] {
            let x = Tensor::randn([1, 3, side, side], numbers);
            let same = Geometry {
                kernel: 3,
                stride: 2,
                padding: Padding::Same,
                dilation: 1,
            };
            let expected = network::convolve(&x, &weight, &bias, same, 1).unwrap();
            let (before, after) = same.padding(side);
            let padded = pad_kernel(&weight, after - before).unwrap();
            let even = Geometry {
                kernel: padded.size()[2],
                padding: Padding::Each(after),
                ..same
            };
            let found = network::convolve(&x, &padded, &bias, even, 1).unwrap();
            assert!(
                (found - expected).abs().max().double_value(&[]) < 1e-12,
                "{side}"
            );
        }
    }
}
