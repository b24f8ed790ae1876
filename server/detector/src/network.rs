//! A network with its weights in single precision, as a weights file describes it. This form is trained;
//! [`inference`](super::inference) prepares it for serving.
//!
//! Convolutions run in `channels_last`, in which libtorch's CPU kernels are about 10 % faster than in NCHW. tch
//! has no memory formats, but libtorch recognises a permuted contiguous copy as `channels_last`.

use std::collections::HashSet;
use std::ops::Deref;

use tch::{Device, Kind, TchError, Tensor};

use super::architecture::{
    Activation, BatchNorm, Channels, Convolution, Geometry, Operation, Pool,
};
use super::family::{self, Family, Recognised};
use super::graph::{Graph, MapId, Node};
use state_dict::StateDict;
use state_dict::quote;

/// Why a state dict is not a network of any family.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tensor has the name of a known network's first tensor.
    #[error(
        "{path}: not the weights of a known network: none of its {count} tensors is called {expected}. \
         {found}{skipped}. The known networks are {}",
        family::ALL.map(|family| family.name).join(", ")
    )]
    Unrecognised {
        /// The weights file.
        path: String,
        /// How many tensors it has.
        count: usize,
        /// The names of the first tensors of the known networks.
        expected: String,
        /// The names of its own first tensors.
        found: String,
        /// The objects in it that were skipped, and what to do about them; empty if there are none.
        skipped: String,
    },
    /// Tensors are missing, unknown, not finite, or have the wrong shape. All are listed.
    #[error("{path}: not the state dict of {family}:{}", list(complaints))]
    Mismatch {
        /// The weights file.
        path: String,
        /// The recognised family.
        family: &'static str,
        /// One per tensor.
        complaints: Vec<String>,
    },
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// Maximum number of complaints that are printed, since another network's file has hundreds.
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

/// A tensor whose clones share its memory.
#[derive(Debug)]
pub(super) struct Shared(pub Tensor);

impl Clone for Shared {
    fn clone(&self) -> Self {
        Self(self.0.shallow_clone())
    }
}

impl Deref for Shared {
    type Target = Tensor;

    fn deref(&self) -> &Tensor {
        &self.0
    }
}

/// An operation with its weights.
#[derive(Debug, Clone)]
pub(super) enum Layer {
    Convolution {
        spec: Convolution,
        /// Outputs x inputs (1 if depthwise) x kernel x kernel.
        weight: Shared,
        bias: Shared,
    },
    MaxPool(Pool),
    Add,
    Mean,
    Scale,
    L2Norm {
        /// Its name in the file.
        name: String,
        /// One for each channel.
        factors: Shared,
    },
}

impl Layer {
    /// The name of its tensors in the file, without `.weight` and `.bias` for a convolution.
    pub(super) fn name(&self) -> Option<&str> {
        match self {
            Self::Convolution { spec, .. } => Some(&spec.name),
            Self::L2Norm { name, .. } => Some(name),
            Self::MaxPool(_) | Self::Add | Self::Mean | Self::Scale => None,
        }
    }

    fn forward(&self, inputs: &[&Tensor]) -> Result<Tensor, TchError> {
        match self {
            Self::Convolution { spec, weight, bias } => {
                let groups = spec.groups(weight);
                let sums = convolve(inputs[0], weight, bias, spec.geometry, groups)?;
                activate(sums, spec.activation)
            }
            Self::MaxPool(pool) => max_pool(inputs[0], *pool),
            Self::Add => inputs[0].f_add(inputs[1]),
            Self::Mean => mean(inputs[0]),
            Self::Scale => inputs[0].f_mul(inputs[1]),
            Self::L2Norm { factors, .. } => l2_norm(inputs[0], factors),
        }
    }
}

/// A convolution by the kernel that libtorch selects.
pub(super) fn convolve(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    geometry: Geometry,
    groups: i64,
) -> Result<Tensor, TchError> {
    let (before, after) = geometry.padding(x.size()[2]);
    let by = |x: &Tensor, padding: i64| {
        let (stride, dilation) = ([geometry.stride; 2], [geometry.dilation; 2]);
        x.f_conv2d(weight, Some(bias), stride, [padding; 2], dilation, groups)
    };
    if before == after {
        by(x, before)
    } else {
        by(&pad(x, (before, after))?, 0)
    }
}

/// Adds rows of zeros above and below a feature map, and as many columns left and right of it.
pub(super) fn pad(x: &Tensor, (before, after): (i64, i64)) -> Result<Tensor, TchError> {
    x.f_constant_pad_nd([before, after, before, after])
}

/// Applies an activation, in place if a gradient allows it.
pub(super) fn activate(mut x: Tensor, activation: Activation) -> Result<Tensor, TchError> {
    match activation {
        Activation::Linear => Ok(x),
        Activation::Relu => x.f_relu_(),
        Activation::Relu6 => x.f_relu6_(),
        Activation::HardSigmoid => x.f_hardsigmoid(),
        Activation::HardSwish => x.f_hardswish(),
    }
}

/// The mean of each channel, N x C x 1 x 1.
pub(super) fn mean(x: &Tensor) -> Result<Tensor, TchError> {
    x.f_mean_dim([2i64, 3].as_slice(), true, x.kind())
}

/// A max-pool by libtorch's own kernel.
pub(super) fn max_pool(x: &Tensor, pool: Pool) -> Result<Tensor, TchError> {
    x.f_max_pool2d(
        [pool.window; 2],
        [pool.stride; 2],
        [pool.padding; 2],
        [1, 1],
        pool.ceil,
    )
}

/// L2 normalisation over the channels in single precision, with a learned factor for each channel. torchvision
/// avoids division by zero differently; results only differ for norms near 1e-10.
pub(super) fn l2_norm(x: &Tensor, factors: &Tensor) -> Result<Tensor, TchError> {
    let norm = x
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
        .f_sqrt()?;
    x.f_div(&norm.f_add_scalar(1e-10)?)?
        .f_mul(&factors.f_view([1, -1, 1, 1])?)
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
    /// If no family is recognised; or if tensors are missing, unknown, not finite, or have the wrong shape. The
    /// error lists all of them.
    pub fn new(state: &StateDict) -> Result<Self, Error> {
        let Some(recognised) = Family::recognise(state) else {
            return Err(unrecognised(state));
        };
        let mut loader = Loader::new(state, &recognised);
        let network = Self {
            graph: loader.layers(),
            family: recognised.family,
            classes: loader.classes,
        };
        loader.finish()?;
        Ok(network)
    }

    /// The family of its weights.
    #[must_use]
    pub fn family(&self) -> &'static Family {
        self.family
    }

    /// The number of classes, the background included.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// A copy of the network. The weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        Self {
            graph: self.graph.clone(),
            ..*self
        }
    }

    /// Every parameter, with its name in the family's state dict. The tensors share the network's memory, so
    /// training can update them in place.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let mut parameters = Vec::new();
        for (_, node) in self.graph.nodes() {
            match &node.operation {
                Layer::Convolution { spec, weight, bias } => {
                    parameters.push((format!("{}.weight", spec.name), weight.shallow_clone()));
                    parameters.push((format!("{}.bias", spec.name), bias.shallow_clone()));
                }
                Layer::L2Norm { name, factors } => {
                    parameters.push((name.clone(), factors.shallow_clone()));
                }
                Layer::MaxPool(_) | Layer::Add | Layer::Mean | Layer::Scale => {}
            }
        }
        parameters
    }

    /// The network's outputs for a batch, N x 3 x side x side: offsets N x priors x 4, and logits
    /// N x priors x classes. Differentiable if the parameters require gradients.
    ///
    /// # Errors
    /// If libtorch fails, for example for lack of memory.
    pub fn outputs(&self, batch: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let outputs = self.run(batch, |_, _| Ok(()))?;
        let heads = |first: usize, each: usize| {
            let parts = outputs.iter().skip(first).step_by(2);
            let by_prior = parts.map(|output| by_prior(output, each));
            Tensor::f_cat(&by_prior.collect::<Result<Vec<_>, _>>()?, 1)
        };
        Ok((heads(0, 4)?, heads(1, self.classes)?))
    }

    /// Runs a batch and returns the heads' outputs, alternately offsets and logits. `watch` gets the output of
    /// every other layer that has tensors, with the layer's name in the file. It also gets every sum, with the
    /// name of the layer before it and after that layer's own output.
    ///
    /// # Errors
    /// If libtorch or `watch` fails.
    pub(super) fn run(
        &self,
        batch: &Tensor,
        mut watch: impl FnMut(&str, &Tensor) -> Result<(), TchError>,
    ) -> Result<Vec<Tensor>, TchError> {
        self.graph.run(batch.shallow_clone(), |map, layer, inputs| {
            let output = layer.forward(inputs)?;
            if !self.graph.outputs().contains(&map)
                && let Some(name) = self.name(map)
            {
                watch(name, &output)?;
            }
            Ok(output)
        })
    }

    fn name(&self, map: MapId) -> Option<&str> {
        let node = self.graph.node(map)?;
        match node.operation {
            Layer::Add => self.name(node.inputs[0]),
            _ => node.operation.name(),
        }
    }

    /// The names of the layers that have tensors, except the heads.
    pub(super) fn hidden_layers(&self) -> impl Iterator<Item = &str> {
        self.graph
            .nodes()
            .filter(|(map, _)| !self.graph.outputs().contains(map))
            .filter_map(|(_, node)| node.operation.name())
    }
}

impl Convolution {
    /// Groups of channels that are convolved separately.
    pub(super) fn groups(&self, weight: &Tensor) -> i64 {
        match self.channels {
            Channels::Depthwise => weight.size()[0],
            Channels::Free | Channels::Offsets(_) | Channels::Logits(_) => 1,
        }
    }
}

/// The outputs of a head in the order of the prior boxes: from N x (boxes * each) x H x W to
/// N x (H * W * boxes) x `each`.
fn by_prior(output: &Tensor, each: usize) -> Result<Tensor, TchError> {
    output
        .f_permute([0, 2, 3, 1])?
        .f_reshape([output.size()[0], -1, each as i64])
}

pub(super) fn channels_last(tensor: &Tensor) -> Tensor {
    tensor
        .permute([0, 2, 3, 1])
        .contiguous()
        .permute([0, 3, 1, 2])
}

fn unrecognised(state: &StateDict) -> Error {
    let mut expected: Vec<String> = Vec::new();
    for family in family::ALL {
        let quoted = family
            .first_tensor()
            .map_or_else(String::new, |first| quote(&first));
        if !expected.contains(&quoted) {
            expected.push(quoted);
        }
    }
    let first: Vec<String> = state
        .tensors()
        .take(3)
        .map(|tensor| quote(tensor.name()))
        .collect();
    Error::Unrecognised {
        path: state.path().display().to_string(),
        count: state.len(),
        expected: expected.join(", "),
        found: if first.is_empty() {
            "It has no tensors".to_owned()
        } else {
            format!("Its first are {}", first.join(", "))
        },
        skipped: if state.skipped().is_empty() {
            String::new()
        } else {
            format!(
                "; {}. If a whole model was saved, save `model.state_dict()`, not `model`",
                state.skipped()
            )
        },
    }
}

/// Takes tensors from a state dict by name and shape, and collects all complaints.
struct Loader<'a> {
    state: &'a StateDict,
    recognised: &'a Recognised,
    /// The background included.
    classes: usize,
    taken: HashSet<String>,
    complaints: Vec<String>,
}

impl<'a> Loader<'a> {
    fn new(state: &'a StateDict, recognised: &'a Recognised) -> Self {
        Self {
            state,
            recognised,
            // If the shape of the first head is wrong, 2 makes it a complaint.
            classes: recognised.outputs(state).unwrap_or(2),
            taken: HashSet::new(),
            complaints: Vec::new(),
        }
    }

    /// All layers in order. The layers before it determine a layer's input channels.
    fn layers(&mut self) -> Graph<Layer> {
        let architecture = (self.recognised.family.architecture)();
        let mut layers = Vec::new();
        let Ok(_) = architecture.run(3, |_, operation, inputs: &[&usize]| {
            let channels = *inputs[0];
            let (layer, outputs) = match operation {
                Operation::Convolution(spec) => self.convolution(spec, channels),
                Operation::MaxPool(pool) => (Layer::MaxPool(*pool), channels),
                Operation::Add => {
                    let sum = "to which they are added";
                    self.check_outputs(&layers, channels, *inputs[1], sum);
                    (Layer::Add, channels)
                }
                Operation::Mean => (Layer::Mean, channels),
                Operation::Scale => {
                    self.check_outputs(&layers, *inputs[1], channels, "that they scale");
                    (Layer::Scale, channels)
                }
                Operation::L2Norm { name } => {
                    let layer = Layer::L2Norm {
                        name: name.clone(),
                        factors: Shared(self.tensor(name, &[channels])),
                    };
                    (layer, channels)
                }
            };
            layers.push(layer);
            Ok::<_, std::convert::Infallible>(outputs)
        });
        let outputs = architecture.outputs().to_vec();
        let nodes = architecture
            .into_nodes()
            .zip(layers)
            .map(|((_, Node { inputs, .. }), operation)| Node { operation, inputs })
            .collect();
        Graph::new(nodes, outputs)
    }

    /// Complains if the last layer has not as many outputs as another feature map, `map`, has channels.
    fn check_outputs(&mut self, layers: &[Layer], outputs: usize, expected: usize, map: &str) {
        if outputs != expected {
            let name = layers.last().and_then(Layer::name).unwrap_or_default();
            let weight = quote(&self.in_file(&format!("{name}.weight")));
            self.complaints.push(format!(
                "{weight} has {outputs} outputs, expected {expected}: the channels of the feature map {map}"
            ));
        }
    }

    fn in_file(&self, name: &str) -> String {
        format!("{}{name}", self.recognised.prefix)
    }

    /// The size of the first axis of a tensor in the file; `None` if it is 0 or there is none.
    fn rows(&self, name: &str) -> Option<usize> {
        let tensor = self.state.get(&self.in_file(name))?;
        tensor.shape().first().copied().filter(|&rows| rows > 0)
    }

    /// The tensor with this name, which must be finite and have this shape. Otherwise adds a complaint and
    /// returns an empty tensor.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Tensor {
        let in_file = self.in_file(name);
        let quoted = quote(&in_file);
        let found = self.state.get(&in_file);
        self.taken.insert(in_file.clone());
        self.complaints.push(match found {
            Some(found) if found.shape() == shape => {
                let values = found.to_f32();
                if values.iter().all(|value| value.is_finite()) {
                    let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
                    return Tensor::from_slice(&values).view(dims.as_slice());
                }
                format!("{quoted} has values that are NaN or infinite")
            }
            Some(found) => format!(
                "{quoted} has the shape {:?}, expected {shape:?}",
                found.shape()
            ),
            None => match self.state.skipped_at(&in_file) {
                Some(made_by) => format!(
                    "{quoted} is an object of {made_by}, which is not read; only dense tensors are"
                ),
                None => format!("missing: {quoted} {shape:?}"),
            },
        });
        Tensor::empty([0], (Kind::Float, Device::Cpu))
    }

    /// A convolution and its number of outputs. A free number comes from the file; if the file has none, 1 makes
    /// the shape a complaint.
    fn convolution(&mut self, spec: &Convolution, inputs: usize) -> (Layer, usize) {
        let [weight_name, bias_name] =
            ["weight", "bias"].map(|part| format!("{}.{part}", spec.name));
        let outputs = match spec.channels {
            Channels::Free => {
                let rows = self.rows(&weight_name);
                rows.or_else(|| self.rows(&bias_name)).unwrap_or(1)
            }
            Channels::Depthwise => inputs,
            Channels::Offsets(boxes) => boxes * 4,
            Channels::Logits(boxes) => boxes * self.classes,
        };
        let each = match spec.channels {
            Channels::Depthwise => 1,
            Channels::Free | Channels::Offsets(_) | Channels::Logits(_) => inputs,
        };
        let side = spec.geometry.kernel as usize;
        let weight = self.tensor(&weight_name, &[outputs, each, side, side]);
        let (weight, bias) = match &spec.norm {
            Some(norm) if self.state.get(&self.in_file(&bias_name)).is_none() => {
                self.fold(weight, norm, outputs)
            }
            _ => (weight, self.tensor(&bias_name, &[outputs])),
        };
        let layer = Layer::Convolution {
            spec: spec.clone(),
            weight: Shared(if weight.dim() == 4 {
                channels_last(&weight)
            } else {
                weight
            }),
            bias: Shared(bias),
        };
        (layer, outputs)
    }

    /// A weight and a bias that do what the weight and its batch normalisation do.
    fn fold(&mut self, weight: Tensor, norm: &BatchNorm, outputs: usize) -> (Tensor, Tensor) {
        let names = norm.tensor_names();
        let complaints = self.complaints.len();
        let [factors, biases, means, variances] =
            names.each_ref().map(|name| self.tensor(name, &[outputs]));
        if self.complaints.len() > complaints || weight.dim() != 4 {
            return (weight, biases);
        }
        if f64::try_from(variances.min()).is_ok_and(|least| least < 0.0) {
            let quoted = quote(&self.in_file(&names[3]));
            self.complaints
                .push(format!("{quoted} has negative variances"));
        }
        let factors = factors / (variances + norm.epsilon).sqrt();
        let biases = biases - means * &factors;
        (weight * factors.view([-1, 1, 1, 1]), biases)
    }

    fn finish(mut self) -> Result<(), Error> {
        let prefix = &self.recognised.prefix;
        for tensor in self.state.tensors() {
            let name = tensor.name();
            if name.starts_with(prefix)
                && !self.taken.contains(name)
                && !self.recognised.is_redundant(tensor)
            {
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
