//! A network with its weights, in single precision: what a file of weights describes, and what is
//! trained. [`inference`](super::inference) makes it ready to serve.
//!
//! Convolutions run in `channels_last`, which libtorch's CPU kernels prefer (about a tenth faster than
//! NCHW). tch cannot ask for a memory format; a permuted contiguous copy is recognised as one.

use std::collections::HashSet;

use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{Activation, Channels, Convolution, Geometry, Operation, Pool};
use super::family::{self, Family, Recognised};
use super::graph::{Graph, Map};
use state_dict::StateDict;
use state_dict::quote;

/// Why a state dict is not a network of any family.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tensor has the name of a first layer.
    #[error(
        "{path}: not the weights of a known network: none of its {count} tensors is called {first}. \
         {advice}"
    )]
    Unrecognised {
        /// The weights file.
        path: String,
        /// How many tensors it has.
        count: usize,
        /// The names that the first tensor of a known network has.
        first: String,
        /// What to do next.
        advice: String,
    },
    /// Tensors are missing, unknown or of the wrong shape: all are listed.
    #[error("{path}: not the state dict of {family}:{}", list(complaints))]
    Mismatch {
        /// The weights file.
        path: String,
        /// The family it was taken for.
        family: &'static str,
        /// One a tensor.
        complaints: Vec<String>,
    },
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// The most complaints that are printed: another network's file has hundreds.
const COMPLAINTS_SHOWN: usize = 100;

fn list(complaints: &[String]) -> String {
    let mut shown: String = complaints
        .iter()
        .take(COMPLAINTS_SHOWN)
        .map(|complaint| format!("\n  {complaint}"))
        .collect();
    if let Some(more @ 1..) = complaints.len().checked_sub(COMPLAINTS_SHOWN) {
        shown += &format!("\n  and {more} more");
    }
    shown
}

/// An operation with its weights.
#[derive(Debug)]
pub(super) enum Layer {
    Convolution {
        how: Convolution,
        /// Outputs x inputs (1 where depthwise) x kernel x kernel.
        weight: Tensor,
        bias: Tensor,
    },
    MaxPool(Pool),
    Add,
    L2Norm {
        /// In the file.
        name: String,
        /// One for each channel.
        scale: Tensor,
    },
}

impl Layer {
    /// What its tensors are called in the file: a convolution's without `.weight` and `.bias`.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Convolution { how, .. } => Some(&how.name),
            Self::L2Norm { name, .. } => Some(name),
            Self::MaxPool(_) | Self::Add => None,
        }
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution { how, weight, bias } => {
                let groups = how.groups(weight);
                let map = convolve(inputs[0], weight, bias, how.geometry, groups)?;
                match how.channels {
                    Channels::Offsets(_) | Channels::Logits(_) => Ok(map),
                    Channels::Free | Channels::Depthwise => activate(map, how.activation),
                }
            }
            Self::MaxPool(how) => max_pool(inputs[0], *how),
            Self::Add => inputs[0].f_add(inputs[1]),
            Self::L2Norm { scale, .. } => l2_norm(inputs[0], scale),
        }
    }

    fn shallow_clone(&self) -> Self {
        match self {
            Self::Convolution { how, weight, bias } => Self::Convolution {
                how: how.clone(),
                weight: weight.shallow_clone(),
                bias: bias.shallow_clone(),
            },
            Self::MaxPool(how) => Self::MaxPool(*how),
            Self::Add => Self::Add,
            Self::L2Norm { name, scale } => Self::L2Norm {
                name: name.clone(),
                scale: scale.shallow_clone(),
            },
        }
    }
}

/// A convolution by libtorch's own choice of kernel.
pub(super) fn convolve(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    how: Geometry,
    groups: i64,
) -> Result<Tensor, TchError> {
    let (before, after) = how.padding(x.size()[2]);
    let by = |x: &Tensor, padding: i64| {
        let (stride, dilation) = ([how.stride; 2], [how.dilation; 2]);
        x.f_conv2d(weight, Some(bias), stride, [padding; 2], dilation, groups)
    };
    if before == after {
        by(x, before)
    } else {
        by(&pad(x, (before, after))?, 0)
    }
}

/// So many rows of zeros above and below a map, and columns left and right of it.
pub(super) fn pad(x: &Tensor, (before, after): (i64, i64)) -> Result<Tensor, TchError> {
    x.f_constant_pad_nd([before, after, before, after])
}

/// What follows a convolution; in place.
pub(super) fn activate(mut map: Tensor, activation: Activation) -> Result<Tensor, TchError> {
    match activation {
        Activation::Linear => Ok(map),
        Activation::Relu => map.f_relu_(),
        Activation::Relu6 => map.f_relu6_(),
    }
}

/// A max pool, by libtorch's own kernel.
pub(super) fn max_pool(x: &Tensor, how: Pool) -> Result<Tensor, TchError> {
    x.f_max_pool2d(
        [how.window; 2],
        [how.stride; 2],
        [how.padding; 2],
        [1, 1],
        how.ceil,
    )
}

/// L2 normalisation over the channels in single precision, with a learned scale for each.
/// torchvision guards against zero in another way, which differs below 1e-10 only.
pub(super) fn l2_norm(x: &Tensor, scale: &Tensor) -> Result<Tensor, TchError> {
    let norm = x
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
        .f_sqrt()?;
    x.f_div(&norm.f_add_scalar(1e-10)?)?
        .f_mul(&scale.f_view([1, -1, 1, 1])?)
}

/// A network with its weights.
#[derive(Debug)]
pub struct Network {
    pub(super) graph: Graph<Layer>,
    family: &'static Family,
    classes: usize,
}

impl Network {
    /// Builds the network that the tensors of `state` describe.
    ///
    /// # Errors
    /// Where no tensor has the name of a family's; where a tensor is missing, has no place in the
    /// network, or has another shape than its neighbours ask for: all of them are listed, with both
    /// shapes.
    pub fn new(state: &StateDict) -> Result<Self, Error> {
        let Some(recognised) = Family::recognise(state) else {
            return Err(unrecognised(state));
        };
        let mut plan = Plan::new(state, &recognised);
        let graph = plan.layers();
        let network = Self {
            graph,
            family: recognised.family,
            classes: plan.classes,
        };
        plan.finish()?;
        Ok(network)
    }

    /// The family of its weights.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// Classes, the background included.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The same network: the weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            graph: self.graph.convert(Layer::shallow_clone),
            ..*self
        }
    }

    /// Every parameter with its name in the family's state dict. The tensors share the network's
    /// memory: a trainer asks for their gradients and updates them in place.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters = Vec::new();
        for (_, node) in self.graph.nodes() {
            match &node.operation {
                Layer::Convolution { how, weight, bias } => {
                    parameters.push((format!("{}.weight", how.name), weight.shallow_clone()));
                    parameters.push((format!("{}.bias", how.name), bias.shallow_clone()));
                }
                Layer::L2Norm { name, scale } => {
                    parameters.push((name.clone(), scale.shallow_clone()));
                }
                Layer::MaxPool(_) | Layer::Add => {}
            }
        }
        parameters
    }

    /// What the tensors of the operation that puts a map out are called in the file; `None` where it has
    /// none.
    pub(super) fn own_name(&self, map: Map) -> Option<&str> {
        self.graph.node(map)?.operation.name()
    }

    /// The name of the layer that puts a map out; of a sum, that of the layer before it.
    pub(super) fn name(&self, map: Map) -> Option<&str> {
        let before = || self.own_name(*self.graph.node(map)?.inputs.first()?);
        self.own_name(map).or_else(before)
    }

    /// The network's outputs for a batch, N x 3 x side x side: offsets N x priors x 4, and logits
    /// N x priors x classes. Differentiable where gradients are asked for.
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn outputs(&self, batch: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let outputs = self.graph.run(batch.shallow_clone(), |_, layer, inputs| {
            layer.forward(inputs)
        })?;
        let of = |head: usize, each: usize| {
            let outputs = outputs.iter().skip(head).step_by(2);
            let outputs = outputs.map(|output| by_prior(output, each));
            Tensor::f_cat(&outputs.collect::<Result<Vec<_>, _>>()?, 1)
        };
        Ok((of(0, 4)?, of(1, self.classes)?))
    }

    /// Shows every map of a pass but the heads' to `see`.
    ///
    /// # Errors
    /// Where libtorch or `see` fails.
    pub(super) fn watch(
        &self,
        batch: Tensor,
        mut see: impl FnMut(Map, &Tensor) -> Result<(), TchError>,
    ) -> Result<(), TchError> {
        self.graph.run(batch, |map, layer, inputs| {
            let output = layer.forward(inputs)?;
            if !self.graph.outputs().contains(&map) {
                see(map, &output)?;
            }
            Ok::<_, TchError>(output)
        })?;
        Ok(())
    }
}

impl Convolution {
    /// Groups of channels that are convolved apart from each other.
    pub(super) fn groups(&self, weight: &Tensor) -> i64 {
        match self.channels {
            Channels::Depthwise => weight.size()[0],
            Channels::Free | Channels::Offsets(_) | Channels::Logits(_) => 1,
        }
    }
}

/// The outputs of a head, prior by prior: from N x (boxes * each) x H x W to N x (H * W * boxes) x
/// `each`.
pub(super) fn by_prior(output: &Tensor, each: usize) -> Result<Tensor, TchError> {
    let output = output.f_permute([0, 2, 3, 1])?;
    output.f_reshape([output.size()[0], -1, each as i64])
}

pub(super) fn channels_last(tensor: &Tensor) -> Tensor {
    tensor
        .permute([0, 2, 3, 1])
        .contiguous()
        .permute([0, 3, 1, 2])
}

fn unrecognised(state: &StateDict) -> Error {
    let mut first: Vec<String> = Vec::new();
    for tensor in family::ALL.into_iter().filter_map(Family::first_tensor) {
        let tensor = format!("`{tensor}`");
        if !first.contains(&tensor) {
            first.push(tensor);
        }
    }
    let held = state.tensors().take(3).map(|tensor| quote(tensor.name()));
    let held: Vec<String> = held.collect();
    Error::Unrecognised {
        path: state.path().display().to_string(),
        count: state.len(),
        first: first.join(", "),
        advice: if held.is_empty() {
            "It holds no tensors at all".to_owned()
        } else {
            format!("Its first are {}", held.join(", "))
        },
    }
}

/// Takes tensors out of a state dict by name and shape, and remembers every disagreement.
struct Plan<'a> {
    state: &'a StateDict,
    recognised: &'a Recognised,
    /// The background included.
    classes: usize,
    taken: HashSet<String>,
    complaints: Vec<String>,
}

impl<'a> Plan<'a> {
    fn new(state: &'a StateDict, recognised: &'a Recognised) -> Self {
        Self {
            state,
            recognised,
            // Where the first head cannot say, the fewest, so that its shape is complained of.
            classes: recognised.outputs(state).unwrap_or(2),
            taken: HashSet::new(),
            complaints: Vec::new(),
        }
    }

    /// Layer after layer; each takes its input channels from those before it.
    fn layers(&mut self) -> Graph<Layer> {
        let architecture = (self.recognised.family.architecture)();
        let mut layers = Vec::new();
        architecture.trace(3, |operation, inputs: &[&usize]| {
            let channels = *inputs[0];
            let (layer, outputs) = match operation {
                Operation::Convolution(how) => self.convolution(how, channels),
                Operation::MaxPool(how) => (Layer::MaxPool(*how), channels),
                Operation::Add => {
                    self.check_sum(&layers, channels, *inputs[1]);
                    (Layer::Add, channels)
                }
                Operation::L2Norm { scale } => {
                    let layer = Layer::L2Norm {
                        name: scale.clone(),
                        scale: self.tensor(scale, &[channels]),
                    };
                    (layer, channels)
                }
            };
            layers.push(layer);
            outputs
        });
        let mut layers = layers.into_iter();
        architecture.convert(|_| layers.next().expect("a layer for each operation"))
    }

    /// Complains where the last layer's map cannot be added to another.
    fn check_sum(&mut self, layers: &[Layer], channels: usize, other: usize) {
        let name = layers.last().and_then(Layer::name).unwrap_or_default();
        if channels != other {
            let name = quote(&self.in_file(&format!("{name}.weight")));
            self.complaints.push(format!(
                "{name} has {channels} outputs, expected {other}, which they are added to"
            ));
        }
    }

    fn in_file(&self, name: &str) -> String {
        format!("{}{name}", self.recognised.prefix)
    }

    /// The first axis of a tensor in the file, unless it is empty.
    fn rows(&self, name: &str) -> Option<usize> {
        let tensor = self.state.get(&self.in_file(name))?;
        tensor.shape().first().copied().filter(|&rows| rows > 0)
    }

    /// The tensor of that name; an empty one, and a complaint, where there is none of this shape.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Tensor {
        let name = self.in_file(name);
        let found = self.state.get(&name);
        self.taken.insert(name.clone());
        match found.map(|found| (found, found.shape())) {
            Some((found, is)) if is == shape => {
                let values = found.to_f32();
                if values.iter().all(|value| value.is_finite()) {
                    let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
                    return Tensor::from_slice(&values).view(dims.as_slice());
                }
                self.complaints.push(format!(
                    "{} has values that are NaN or infinite",
                    quote(&name)
                ));
            }
            Some((_, is)) => self
                .complaints
                .push(format!("{} is {is:?}, expected {shape:?}", quote(&name))),
            None => self
                .complaints
                .push(format!("missing: {} {shape:?}", quote(&name))),
        }
        Tensor::empty([0], (Kind::Float, Device::Cpu))
    }

    /// A convolution and its number of outputs: where it is free, as many as the file has (one where it
    /// does not say, which is then complained of).
    fn convolution(&mut self, how: &Convolution, inputs: usize) -> (Layer, usize) {
        let (weight, bias) = (format!("{}.weight", how.name), format!("{}.bias", how.name));
        let outputs = match how.channels {
            Channels::Free => {
                let rows = self.rows(&weight).or_else(|| self.rows(&bias));
                rows.unwrap_or(1)
            }
            Channels::Depthwise => inputs,
            Channels::Offsets(boxes) => boxes * 4,
            Channels::Logits(boxes) => boxes * self.classes,
        };
        let each = match how.channels {
            Channels::Depthwise => 1,
            Channels::Free | Channels::Offsets(_) | Channels::Logits(_) => inputs,
        };
        let side = how.geometry.kernel as usize;
        let weight = self.tensor(&weight, &[outputs, each, side, side]);
        let layer = Layer::Convolution {
            how: how.clone(),
            weight: if weight.dim() == 4 {
                channels_last(&weight)
            } else {
                weight
            },
            bias: self.tensor(&bias, &[outputs]),
        };
        (layer, outputs)
    }

    fn finish(mut self) -> Result<(), Error> {
        let prefix = &self.recognised.prefix;
        for tensor in self.state.tensors() {
            let name = tensor.name();
            if name.starts_with(prefix) && !self.taken.contains(name) {
                let shape = tensor.shape();
                self.complaints
                    .push(format!("unexpected: {} {shape:?}", quote(name)));
            }
        }
        if self.complaints.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch {
            path: self.state.path().display().to_string(),
            family: self.recognised.family.about,
            complaints: self.complaints,
        })
    }
}
