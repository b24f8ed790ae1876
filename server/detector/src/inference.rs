//! A network made ready to serve: in one precision, on one device, every operation in the form that
//! runs fastest there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Activation, Channels, Convolution, Geometry, Padding, Pool};
use super::boxes::RawOutput;
use super::family::Scores;
use super::graph::{Graph, Map, Node};
use super::network::{self, Layer, Network, by_prior, channels_last};
use super::onednn::{self, Moves, Quantised, Reordered, Scale};
use super::precision::{self, Choice, Precision, Processor, Requested};
use super::preprocess::{Input, Preprocessing};
use super::quantise::{self, Scales};
use super::samples;

/// A convolution that is ready to run.
#[derive(Debug)]
struct Prepared {
    form: Form,
    /// Rows of zeros that are put above and below the map first, and columns left and right of it.
    padding: (i64, i64),
}

/// A convolution in the form in which it runs.
#[derive(Debug)]
enum Form {
    /// libtorch's own: on any device and any processor.
    Plain {
        weight: Tensor,
        bias: Tensor,
        how: Geometry,
        groups: i64,
        activation: Activation,
    },
    /// oneDNN's, weights in the processor's order.
    Reordered(Reordered),
    /// oneDNN's, in eight bits; to a map of eight bits again, or to single precision.
    Quantised {
        convolution: Quantised,
        output: Option<Scale>,
    },
}

/// What computes a map of the network.
#[derive(Debug)]
enum Kernel {
    /// Of one map; or of two, the second of which is added to the output.
    Convolution(Prepared),
    MaxPool(Pool),
    Add,
    L2Norm {
        scale: Tensor,
        kind: Kind,
        /// In eight bits: of the output.
        output: Option<Scale>,
    },
}

/// A kernel, and which map of the network it computes.
#[derive(Debug)]
struct Step {
    kernel: Kernel,
    computes: Map,
}

impl Step {
    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        let x = inputs[0];
        match &self.kernel {
            Kernel::Convolution(prepared) => prepared.forward(x, inputs.get(1).copied()),
            Kernel::MaxPool(how) => match x.kind() {
                Kind::Uint8 => pool_bytes(x, *how),
                _ => network::max_pool(x, *how),
            },
            Kernel::Add => x.f_add(inputs[1]),
            Kernel::L2Norm {
                scale,
                kind,
                output,
            } => {
                // Whatever the map's own scale is, it cancels out.
                let map = network::l2_norm(&x.f_to_kind(Kind::Float)?, scale)?;
                match output {
                    // A channel whose factor is below zero is so throughout: the heads' weights have
                    // its sign.
                    Some(output) => quantise::map(&map.f_abs()?, *output),
                    None => map.f_to_kind(*kind),
                }
            }
        }
    }

    /// A map that it computed, in single precision on the processor.
    fn exact(&self, map: &Tensor) -> Result<Tensor, TchError> {
        let map = map.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        match &self.kernel {
            Kernel::Convolution(Prepared {
                form:
                    Form::Quantised {
                        output: Some(output),
                        ..
                    },
                ..
            }) => map.f_mul_scalar(output.scale),
            Kernel::L2Norm {
                scale,
                output: Some(output),
                ..
            } => map.f_mul_scalar(output.scale)?.f_mul(&signs(scale)?),
            _ => Ok(map),
        }
    }

    fn shallow_clone(&self) -> Self {
        let kernel = match &self.kernel {
            Kernel::Convolution(prepared) => Kernel::Convolution(Prepared {
                form: prepared.form.shallow_clone(),
                ..*prepared
            }),
            Kernel::MaxPool(how) => Kernel::MaxPool(*how),
            Kernel::Add => Kernel::Add,
            Kernel::L2Norm {
                scale,
                kind,
                output,
            } => Kernel::L2Norm {
                scale: scale.shallow_clone(),
                kind: *kind,
                output: *output,
            },
        };
        Self { kernel, ..*self }
    }
}

impl Prepared {
    fn forward(&self, x: &Tensor, other: Option<&Tensor>) -> Result<Tensor, TchError> {
        match self.padding {
            (0, 0) => self.form.forward(x, other),
            padding => self.form.forward(&network::pad(x, padding)?, other),
        }
    }
}

impl Form {
    fn forward(&self, x: &Tensor, other: Option<&Tensor>) -> Result<Tensor, TchError> {
        let map = match (self, other) {
            (Self::Reordered(form), Some(other)) => return form.convolve_and_add(x, other),
            (Self::Reordered(form), None) => return form.convolve(x),
            (
                Self::Quantised {
                    convolution,
                    output,
                },
                _,
            ) => convolution.convolve(x, *output)?,
            (
                Self::Plain {
                    weight,
                    bias,
                    how,
                    groups,
                    activation,
                },
                _,
            ) => network::activate(
                network::convolve(x, weight, bias, *how, *groups)?,
                *activation,
            )?,
        };
        match other {
            Some(other) => map.f_add(other),
            None => Ok(map),
        }
    }

    fn shallow_clone(&self) -> Self {
        match self {
            Self::Plain {
                weight,
                bias,
                how,
                groups,
                activation,
            } => Self::Plain {
                weight: weight.shallow_clone(),
                bias: bias.shallow_clone(),
                how: *how,
                groups: *groups,
                activation: *activation,
            },
            Self::Reordered(form) => Self::Reordered(form.shallow_clone()),
            Self::Quantised {
                convolution,
                output,
            } => Self::Quantised {
                convolution: convolution.shallow_clone(),
                output: *output,
            },
        }
    }
}

/// Chooses a precision for a network and makes it ready. A network that is asked for in eight bits and
/// has no `scales` is calibrated here on the bundled pictures.
///
/// # Errors
/// Where there is no such device, or as [`Inference::new`].
pub fn prepare(
    network: Network,
    scales: Option<Scales>,
    requested: Requested,
) -> Result<(Inference, Choice), Error> {
    let device = requested.device.device().map_err(Error::Device)?;
    let processor = Processor::of_this_machine();
    let eight_bits = device == Device::Cpu && onednn::available();
    let calibrated = scales.is_some() && eight_bits;
    let how = |precision, scales: Option<Scales>| match precision {
        Precision::F32 => Ok(How::F32),
        Precision::Bf16 => Ok(How::Bf16),
        Precision::Int8 if !eight_bits => Err(Error::NoEightBits),
        Precision::Int8 => {
            if let Some(scales) = scales {
                return Ok(How::Int8(scales));
            }
            network.check_eight_bits()?;
            let inputs = samples::inputs(network.family());
            Ok(How::Int8(quantise::calibrate(&network, &inputs, || ())?))
        }
    };
    let mut choice = precision::choose(
        requested.precision,
        device,
        processor,
        calibrated,
        |precision| {
            let how = how(precision, scales.clone())?;
            let inference = Inference::new(network.shallow_clone(), &how, device)?;
            inference.time()
        },
    )?;
    if choice.precision == Precision::Int8 && scales.is_none() {
        choice.warning = choice.warning.or(Some(
            "the weights are not calibrated: it was done now, on bundled pictures, as at every start; \
             `ssd calibrate` does it once, on pictures of yours",
        ));
    }
    let how = how(choice.precision, scales)?;
    let inference = Inference::new(network, &how, device)?;
    Ok((inference, choice))
}

/// Why a network cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such device.
    #[error("{0}")]
    Device(String),
    /// This machine has no eight-bit operators.
    #[error(
        "PRECISION is int8, which runs on x86-64 processors only, and not on a GPU: give auto, f32 or \
         bf16, or DEVICE=cpu"
    )]
    NoEightBits,
    /// The network has operations without an eight-bit form.
    #[error(
        "int8 is for the SSD300 families. {family} has sums of maps, depthwise convolutions and maps with \
         values below zero, which have no eight-bit form here: give PRECISION=auto, f32 or bf16"
    )]
    NotInEightBits {
        /// The network's.
        family: &'static str,
    },
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

impl Network {
    /// Whether every operation has an eight-bit form: maps from zero up, each of one convolution.
    ///
    /// # Errors
    /// Where one has none.
    pub fn check_eight_bits(&self) -> Result<(), Error> {
        let has = self.graph.nodes().all(|(_, node)| match &node.operation {
            Layer::Convolution { how, .. } => match how.channels {
                Channels::Offsets(_) | Channels::Logits(_) => true,
                Channels::Free => how.activation == Activation::Relu,
                Channels::Depthwise => false,
            },
            Layer::MaxPool(_) | Layer::L2Norm { .. } => true,
            Layer::Add => false,
        });
        let family = self.family().name;
        has.then_some(()).ok_or(Error::NotInEightBits { family })
    }
}

/// How a network is to run.
#[derive(Debug, Clone)]
pub enum How {
    /// In single precision.
    F32,
    /// In bfloat16.
    Bf16,
    /// In eight bits, with these scales, each map's.
    Int8(Scales),
}

/// A network that is ready to serve.
#[derive(Debug)]
pub struct Inference {
    graph: Graph<Step>,
    /// Source by source.
    heads: Vec<Heads>,
    preprocessing: Preprocessing,
    scores: Scores,
    /// The numbers between the layers.
    kind: Kind,
    device: Device,
    /// The input's, in eight bits.
    scale: Option<Scale>,
    classes: usize,
}

/// Where the outputs of a source's two heads are.
#[derive(Debug, Clone, Copy)]
struct Heads {
    offsets: Part,
    logits: Part,
}

/// Some channels of an output of the graph.
#[derive(Debug, Clone, Copy)]
struct Part {
    output: usize,
    first: i64,
    channels: i64,
}

impl Part {
    /// N x priors x `each`, in single precision.
    fn of(self, outputs: &[Tensor], each: usize) -> Result<Tensor, TchError> {
        let output = &outputs[self.output];
        let part = output.f_narrow(1, self.first, self.channels)?;
        by_prior(&part.f_to_kind(Kind::Float)?, each)
    }
}

impl Inference {
    /// Makes a network ready. It is taken apart on the way, so that at no time the whole of it is
    /// there twice.
    ///
    /// # Errors
    /// Where libtorch fails, or eight bits are asked for where there are none: off x86-64, with scales
    /// that lack a layer, or of a network whose operations have no such form.
    pub fn new(network: Network, how: &How, device: Device) -> Result<Self, Error> {
        if matches!(how, How::Int8(_)) {
            network.check_eight_bits()?;
        }
        let processor = Processor::of_this_machine();
        let builder = Builder {
            how,
            device,
            most: if processor.vnni { 127 } else { 63 },
            reorders: onednn::available()
                && device == Device::Cpu
                && (processor.bf16 || !matches!(how, How::Bf16)),
        };
        Ok(tch::no_grad(|| builder.build(network))?)
    }

    /// The same for another thread: the weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            graph: self.graph.convert(Step::shallow_clone),
            heads: self.heads.clone(),
            ..*self
        }
    }

    /// One forward pass over some pictures: an output for each, in their order.
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, TchError> {
        tch::no_grad(|| {
            let outputs = self
                .graph
                .run(self.input(inputs)?, |_, step, inputs| step.forward(inputs))?;
            let all = |part: fn(&Heads) -> Part, each| {
                let parts = self
                    .heads
                    .iter()
                    .map(|heads| part(heads).of(&outputs, each));
                Tensor::f_cat(&parts.collect::<Result<Vec<_>, _>>()?, 1)
            };
            let offsets = numbers(&all(|heads| heads.offsets, 4)?)?;
            let logits = all(|heads| heads.logits, self.classes)?;
            let scores = numbers(&match self.scores {
                Scores::Softmax => logits.f_softmax(-1, Kind::Float)?,
                Scores::Sigmoid => logits.f_sigmoid()?,
            })?;
            let pictures = inputs.len().max(1);
            let pairs = offsets
                .chunks(offsets.len() / pictures)
                .zip(scores.chunks(scores.len() / pictures));
            Ok(pairs
                .map(|(offsets, scores)| RawOutput {
                    offsets: offsets.to_vec(),
                    scores: scores.to_vec(),
                    classes: self.classes,
                })
                .collect())
        })
    }

    /// One forward pass over one picture.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_one(&self, input: &Input) -> Result<RawOutput, TchError> {
        let mut outputs = self.forward(&[input])?;
        outputs
            .pop()
            .ok_or_else(|| TchError::Torch("no output for an input".to_owned()))
    }

    /// The mean picture of the training, for a first forward pass that warms libtorch up.
    #[must_use]
    pub fn blank(&self) -> Input {
        self.preprocessing.blank()
    }

    /// How long a pass takes here: the shortest of some, after one that warms libtorch up.
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
        let input = tensor(inputs)?.f_to_device(self.device)?;
        match self.scale {
            Some(scale) => quantise::map(&input, scale),
            None => input.f_to_kind(self.kind),
        }
    }
}

/// How far a map is from what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// The layer that puts it out, in the weights' file, without `.weight`.
    pub layer: String,
    /// The mean distance from the map in single precision, over that map's mean.
    pub error: f64,
}

impl Inference {
    /// How far each map is from that of the network in single precision, on one input, layer by layer.
    ///
    /// # Errors
    /// Where libtorch fails.
    pub fn errors(&self, exact: &Network, input: &Input) -> Result<Vec<LayerError>, TchError> {
        tch::no_grad(|| {
            let mut expected = BTreeMap::new();
            exact.watch(tensor(&[input])?, |map, values| {
                expected.insert(map, values.shallow_clone());
                Ok(())
            })?;
            let mut errors = Vec::new();
            self.graph.run(self.input(&[input])?, |_, step, inputs| {
                let output = step.forward(inputs)?;
                let layer = match step.kernel {
                    Kernel::MaxPool(_) => None,
                    _ => exact.name(step.computes),
                };
                if let (Some(expected), Some(layer)) = (expected.get(&step.computes), layer) {
                    let distance = step.exact(&output)?.f_sub(expected)?.f_abs()?;
                    let mean = expected.f_abs()?.f_mean(Kind::Double)?;
                    errors.push(LayerError {
                        layer: layer.to_owned(),
                        error: distance
                            .f_mean(Kind::Double)?
                            .f_div(&mean)?
                            .f_double_value(&[])?,
                    });
                }
                Ok::<_, TchError>(output)
            })?;
            Ok(errors)
        })
    }
}

/// A max pool over bytes, which libtorch refuses for large maps: rows, then columns. What is beyond a
/// map counts as 0, the least.
fn pool_bytes(x: &Tensor, how: Pool) -> Result<Tensor, TchError> {
    let Pool {
        window,
        stride,
        padding,
        ..
    } = how;
    let outputs = |size: i64| how.side_after(size);
    let beyond = |size: i64| ((outputs(size) - 1) * stride + window - size - padding).max(0);
    let size = x.size();
    let (rows, columns) = (size[2], size[3]);
    let beyond = [padding, beyond(columns), padding, beyond(rows)];
    let mut map = match beyond {
        [0, 0, 0, 0] => x.shallow_clone(),
        _ => x.f_constant_pad_nd(beyond)?,
    };
    for (axis, outputs) in [(2, outputs(rows)), (3, outputs(columns))] {
        let member =
            |first: i64| map.f_slice(axis, first, first + (outputs - 1) * stride + 1, stride);
        let mut largest = member(0)?;
        for first in 1..window {
            largest = largest.f_maximum(&member(first)?)?;
        }
        map = largest;
    }
    Ok(map)
}

/// Of each channel's factor: -1, 0 or 1, for maps and weights to be multiplied by.
fn signs(factors: &Tensor) -> Result<Tensor, TchError> {
    factors.f_sign()?.f_view([1, -1, 1, 1])
}

/// Inputs as a batch, N x 3 x side x side. Row, column, channel is `channels_last` already; the
/// permutation only renames the axes.
pub(super) fn tensor(inputs: &[&Input]) -> Result<Tensor, TchError> {
    let side = inputs.first().map_or(0, |input| input.side() as i64);
    let each = |input: &&Input| Tensor::f_from_slice(input.values());
    let batch = match inputs {
        [one] => each(one)?,
        _ => Tensor::f_cat(&inputs.iter().map(each).collect::<Result<Vec<_>, _>>()?, 0)?,
    };
    batch.f_view([-1, side, side, 3])?.f_permute([0, 3, 1, 2])
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

/// An operation of the network, or two that run as one.
struct Fused {
    layer: Layer,
    /// The map of the network that comes out.
    computes: Map,
}

/// Makes one of a convolution and the sum behind it, and of the two heads of a source. Tells where the
/// heads' outputs are then.
fn fuse(graph: Graph<Layer>, classes: usize) -> Result<(Graph<Fused>, Vec<Heads>), TchError> {
    let (sums, sources) = (sums(&graph), head_pairs(&graph));
    let mut nodes: BTreeMap<Map, Node<Layer>> = graph.into_nodes().collect();
    let mut fused: Vec<Node<Fused>> = Vec::new();
    let mut renamed = BTreeMap::from([(Map::INPUT, Map::INPUT)]);
    while let Some((map, mut node)) = nodes.pop_first() {
        let mut computes = map;
        if let Some(&(sum, other)) = sums.get(&map) {
            nodes.remove(&sum);
            node.inputs.push(other);
            computes = sum;
        }
        let pair = sources
            .iter()
            .find(|pair| pair.offsets == map && pair.joined);
        if let Some(other) = pair.and_then(|pair| nodes.remove(&pair.logits)) {
            node.operation = join(node.operation, other.operation)?;
        }
        fused.push(Node {
            operation: Fused {
                layer: node.operation,
                computes,
            },
            inputs: node.inputs.iter().map(|input| renamed[input]).collect(),
        });
        renamed.insert(computes, Map::after(fused.len()));
    }
    let (mut outputs, mut heads) = (Vec::new(), Vec::new());
    for pair in sources {
        let (offsets, logits) = (4 * pair.boxes as i64, (classes * pair.boxes) as i64);
        outputs.push(renamed[&pair.offsets]);
        let offsets = Part {
            output: outputs.len() - 1,
            first: 0,
            channels: offsets,
        };
        let first = if pair.joined {
            offsets.channels
        } else {
            outputs.push(renamed[&pair.logits]);
            0
        };
        let logits = Part {
            output: outputs.len() - 1,
            first,
            channels: logits,
        };
        heads.push(Heads { offsets, logits });
    }
    Ok((Graph::new(fused, outputs), heads))
}

/// For each linear convolution that is only read by a sum: the sum, and the map that it adds.
fn sums(graph: &Graph<Layer>) -> BTreeMap<Map, (Map, Map)> {
    let mut sums = BTreeMap::new();
    for (sum, node) in graph.nodes() {
        let (Layer::Add, &[map, other]) = (&node.operation, node.inputs.as_slice()) else {
            continue;
        };
        let linear = graph
            .node(map)
            .is_some_and(|before| match &before.operation {
                Layer::Convolution { how, .. } => how.activation == Activation::Linear,
                _ => false,
            });
        if linear && other < map && graph.readers(map) == 1 {
            sums.insert(map, (sum, other));
        }
    }
    sums
}

/// The two heads of a source.
struct HeadPair {
    offsets: Map,
    logits: Map,
    /// Boxes in a cell.
    boxes: usize,
    /// Whether they are convolutions that can run as one.
    joined: bool,
}

fn head_pairs(graph: &Graph<Layer>) -> Vec<HeadPair> {
    let convolution = |map: Map| match graph.node(map) {
        Some(Node {
            operation: Layer::Convolution { how, .. },
            inputs,
        }) => Some((how, inputs)),
        _ => None,
    };
    let pairs = graph.outputs().as_chunks::<2>().0.iter();
    let pairs = pairs.filter_map(|&[offsets, logits]| {
        let ((how, inputs), (other, others)) = (convolution(offsets)?, convolution(logits)?);
        let Channels::Offsets(boxes) = how.channels else {
            return None;
        };
        Some(HeadPair {
            offsets,
            logits,
            boxes,
            joined: inputs == others && how.geometry == other.geometry,
        })
    });
    pairs.collect()
}

/// Two convolutions of one map as one, whose outputs stand one after the other.
fn join(one: Layer, other: Layer) -> Result<Layer, TchError> {
    match (one, other) {
        (
            Layer::Convolution { how, weight, bias },
            Layer::Convolution {
                weight: more,
                bias: biases,
                ..
            },
        ) => Ok(Layer::Convolution {
            how,
            weight: channels_last(&Tensor::f_cat(&[weight, more], 0)?),
            bias: Tensor::f_cat(&[bias, biases], 0)?,
        }),
        (one, _) => Ok(one),
    }
}

struct Builder<'a> {
    how: &'a How,
    device: Device,
    /// The largest number of an eight-bit weight.
    most: i64,
    /// Whether oneDNN takes weights in an order of its own: it emulates bfloat16, but not with those.
    reorders: bool,
}

/// A map, before the network runs.
struct Known {
    side: i64,
    /// In eight bits.
    scale: Option<Scale>,
    /// In eight bits, of a normalised map: the sign of each channel, which it has lost.
    signs: Option<Tensor>,
}

impl Builder<'_> {
    fn build(&self, network: Network) -> Result<Inference, TchError> {
        let (family, classes) = (network.family(), network.classes());
        let (low, high) = family.preprocessing.range();
        let input = Known {
            side: family.preprocessing.side as i64,
            scale: matches!(self.how, How::Int8(_)).then(|| quantise::around_zero(low, high)),
            signs: None,
        };
        let scale = input.scale;
        let (graph, heads) = fuse(network.graph, classes)?;
        let outputs = graph.outputs().to_vec();
        let mut maps = BTreeMap::from([(Map::INPUT, input)]);
        let mut steps: Vec<Node<Step>> = Vec::new();
        for (map, Node { operation, inputs }) in graph.into_nodes() {
            let x = &maps[&inputs[0]];
            let Fused { layer, computes } = operation;
            let (kernel, known) = match layer {
                Layer::Convolution { how, weight, bias } => {
                    let known = Known {
                        side: how.geometry.side_after(x.side),
                        scale: if outputs.contains(&map) {
                            None
                        } else {
                            self.scale(&how.name)?
                        },
                        signs: None,
                    };
                    let weight = match &x.signs {
                        Some(signs) => weight.f_mul(signs)?,
                        None => weight,
                    };
                    let form = self.form(&how, &weight, &bias, x, known.scale)?;
                    (Kernel::Convolution(form), known)
                }
                Layer::MaxPool(how) => {
                    let known = Known {
                        side: how.side_after(x.side),
                        scale: x.scale,
                        signs: None,
                    };
                    (Kernel::MaxPool(how), known)
                }
                Layer::Add => (
                    Kernel::Add,
                    Known {
                        side: x.side,
                        scale: None,
                        signs: None,
                    },
                ),
                Layer::L2Norm { name, scale } => {
                    let output = self.scale(&name)?;
                    let known = Known {
                        side: x.side,
                        scale: output,
                        signs: output.map(|_| signs(&scale)).transpose()?,
                    };
                    let kernel = Kernel::L2Norm {
                        scale: scale.f_to_device(self.device)?,
                        kind: self.kind(),
                        output,
                    };
                    (kernel, known)
                }
            };
            maps.insert(map, known);
            steps.push(Node {
                operation: Step { kernel, computes },
                inputs,
            });
        }
        Ok(Inference {
            graph: Graph::new(steps, outputs),
            heads,
            preprocessing: family.preprocessing,
            scores: family.scores,
            kind: self.kind(),
            device: self.device,
            scale,
            classes,
        })
    }

    /// The numbers between the layers, but in eight bits.
    fn kind(&self) -> Kind {
        match self.how {
            How::Bf16 => Kind::BFloat16,
            How::F32 | How::Int8(_) => Kind::Float,
        }
    }

    /// Of a layer's map, in eight bits.
    fn scale(&self, layer: &str) -> Result<Option<Scale>, TchError> {
        match self.how {
            How::Int8(scales) => scales.of(layer).map(Some),
            How::F32 | How::Bf16 => Ok(None),
        }
    }

    /// A convolution of the map `x`; in eight bits, to a map of the scale `output`.
    fn form(
        &self,
        how: &Convolution,
        weight: &Tensor,
        bias: &Tensor,
        x: &Known,
        output: Option<Scale>,
    ) -> Result<Prepared, TchError> {
        let groups = how.groups(weight);
        let (before, after) = how.geometry.padding(x.side);
        // libtorch pads alike on every side. A padded map costs a copy of it, a padded kernel more
        // products: those of a depthwise one are few, and its maps the largest.
        let (weight, padding, side, outside) = if before == after {
            (weight.shallow_clone(), before, x.side, (0, 0))
        } else if how.channels == Channels::Depthwise {
            (pad_kernel(weight, after - before)?, after, x.side, (0, 0))
        } else {
            let side = x.side + before + after;
            (weight.shallow_clone(), 0, side, (before, after))
        };
        let prepared = |form| Prepared {
            form,
            padding: outside,
        };
        let moves = Moves {
            stride: how.geometry.stride,
            padding,
            dilation: how.geometry.dilation,
            groups,
        };
        let activation = how.activation;
        if let Some(input) = x.scale {
            let (numbers, scales) = quantise::weight(&weight, self.most)?;
            let bias = bias.shallow_clone();
            let how = (moves, activation);
            return Ok(prepared(Form::Quantised {
                convolution: Quantised::pack(&numbers, scales, bias, input, how, side)?,
                output,
            }));
        }
        let (weight, bias) = (weight.f_to_kind(self.kind())?, bias.f_to_kind(self.kind())?);
        if self.reorders {
            let form = Reordered::new(&weight, bias, moves, activation, side)?;
            return Ok(prepared(Form::Reordered(form)));
        }
        Ok(prepared(Form::Plain {
            weight: weight.f_to_device(self.device)?,
            bias: bias.f_to_device(self.device)?,
            how: Geometry {
                kernel: weight.size()[2],
                padding: Padding::Each(padding),
                ..how.geometry
            },
            groups,
            activation,
        }))
    }
}

/// A kernel with `more` rows and columns of zeros before it: they stand for padding that is missing
/// before the map.
fn pad_kernel(weight: &Tensor, more: i64) -> Result<Tensor, TchError> {
    Ok(channels_last(
        &weight.f_constant_pad_nd([more, 0, more, 0])?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pooled_as_numbers_are() {
        let pools = [(2, 2, 0, false), (2, 2, 0, true), (3, 1, 1, false)];
        for side in [1, 2, 5, 19, 38, 75, 300] {
            let map = Tensor::randint(256, [2, 3, side, side], (Kind::Float, Device::Cpu));
            let map = channels_last(&map);
            for (window, stride, padding, ceil) in pools {
                let how = Pool {
                    window,
                    stride,
                    padding,
                    ceil,
                };
                if side + 2 * padding < window {
                    continue;
                }
                let expected = network::max_pool(&map, how).unwrap();
                let bytes = pool_bytes(&map.to_kind(Kind::Uint8), how).unwrap();
                assert_eq!(bytes.size(), expected.size());
                assert!(bytes.to_kind(Kind::Float).equal(&expected), "{side}");
            }
        }
    }

    #[test]
    fn zeros_before_a_kernel_stand_for_padding_that_is_missing_before_a_map() {
        let weight = Tensor::randn([4, 3, 3, 3], (Kind::Float, Device::Cpu));
        let bias = Tensor::randn([4], (Kind::Float, Device::Cpu));
        for side in [2, 10, 37, 300] {
            let x = Tensor::randn([1, 3, side, side], (Kind::Float, Device::Cpu));
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
                (found - expected).abs().max().double_value(&[]) < 1e-5,
                "{side}"
            );
        }
    }
}
