//! SSD300 on VGG16 (Liu et al. 2016, figure 2), at any width: every channel count is read from
//! the weights.
//!
//! Here it is a thing of tensors in single precision, which can be trained; `inference` makes it
//! ready to serve. Convolutions run in `channels_last`, which libtorch's CPU kernels prefer (about a
//! tenth faster than NCHW). tch cannot ask for a memory format; a permuted contiguous copy is
//! recognised as one.

use std::collections::HashSet;

use tch::{Device, Kind, TchError, Tensor};

use super::family::{Family, Recognised};
use super::priors;
use crate::quote::quote;
use crate::weights::StateDict;

/// A max pool: side of its window, stride, padding, whether the output's size is rounded up.
pub(super) struct Pool(pub i64, pub i64, pub i64, pub bool);

impl Pool {
    /// The side of what comes out of a square map.
    pub(super) fn side_after(&self, side: i64) -> i64 {
        let &Self(window, stride, padding, ceil) = self;
        let rounded = if ceil { stride - 1 } else { 0 };
        (side + 2 * padding - window + rounded) / stride + 1
    }
}

/// How a kernel moves over a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    /// The side of the kernel.
    pub kernel: i64,
    pub stride: i64,
    pub padding: i64,
    pub dilation: i64,
}

impl Geometry {
    /// The side of what comes out of a square map.
    pub(super) fn side_after(self, side: i64) -> i64 {
        (side + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) / self.stride + 1
    }
}

/// Of the heads.
const HEAD: Geometry = Geometry {
    kernel: 3,
    stride: 1,
    padding: 1,
    dilation: 1,
};

const HALVE: Option<Pool> = Some(Pool(2, 2, 0, false));

/// The fifteen convolutions of VGG16's part, `conv1_1` to `conv7`: side of the kernel, padding,
/// dilation, and the pool after it. All have stride 1.
const VGG: [(i64, i64, i64, Option<Pool>); 15] = [
    (3, 1, 1, None),
    (3, 1, 1, HALVE),
    (3, 1, 1, None),
    (3, 1, 1, HALVE),
    (3, 1, 1, None),
    (3, 1, 1, None),
    // Rounded up: 38 cells from 75.
    (3, 1, 1, Some(Pool(2, 2, 0, true))),
    (3, 1, 1, None),
    (3, 1, 1, None),
    (3, 1, 1, HALVE),
    (3, 1, 1, None),
    (3, 1, 1, None),
    // Keeps the size; conv6 is dilated instead.
    (3, 1, 1, Some(Pool(3, 1, 1, false))),
    (3, 6, 6, None),
    (1, 0, 1, None),
];
/// Which of them feeds the first head, L2-normalised.
const CONV4_3: usize = 9;
/// The extra layers: side of the kernel, stride, padding. Each odd one feeds a head.
const EXTRAS: [(i64, i64, i64); 8] = [
    (1, 1, 0),
    (3, 2, 1),
    (1, 1, 0),
    (3, 2, 1),
    (1, 1, 0),
    (3, 1, 0),
    (1, 1, 0),
    (3, 1, 0),
];

/// The 23 convolutions before the heads: how each moves, and the pool after it.
pub(super) fn backbone() -> impl Iterator<Item = (Geometry, Option<&'static Pool>)> {
    let vgg = VGG.iter().map(|(kernel, padding, dilation, pool)| {
        ((*kernel, 1, *padding, *dilation), pool.as_ref())
    });
    let extras = EXTRAS
        .iter()
        .map(|&(kernel, stride, padding)| ((kernel, stride, padding, 1), None));
    vgg.chain(extras)
        .map(|((kernel, stride, padding, dilation), pool)| {
            let geometry = Geometry {
                kernel,
                stride,
                padding,
                dilation,
            };
            (geometry, pool)
        })
}

/// What computes the parts of a pass, in some arithmetic.
pub(super) trait Layers {
    /// Convolution `index` of the [`backbone`], and its `ReLU`.
    fn convolve(&self, index: usize, x: &Tensor) -> Result<Tensor, TchError>;
    /// The largest in each window.
    fn pool(&self, pool: &Pool, x: &Tensor) -> Result<Tensor, TchError>;
    /// L2 normalisation over the channels, with a learned scale (Liu et al. 2015, `ParseNet`).
    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError>;
}

/// Where a map comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// Convolution of that index in the [`backbone`].
    Layer(usize),
    /// The L2 normalisation.
    Normalisation,
}

/// Layers, and somebody who is shown every map that they put out.
pub(super) struct Watched<'a, L> {
    pub layers: &'a L,
    pub see: &'a dyn Fn(Origin, &Tensor) -> Result<(), TchError>,
}

impl<L: Layers> Layers for Watched<'_, L> {
    fn convolve(&self, index: usize, x: &Tensor) -> Result<Tensor, TchError> {
        let map = self.layers.convolve(index, x)?;
        (self.see)(Origin::Layer(index), &map)?;
        Ok(map)
    }

    fn pool(&self, pool: &Pool, x: &Tensor) -> Result<Tensor, TchError> {
        self.layers.pool(pool, x)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let map = self.layers.normalise(x)?;
        (self.see)(Origin::Normalisation, &map)?;
        Ok(map)
    }
}

/// The maps that the six heads look at, finest first.
pub(super) fn sources(layers: &impl Layers, input: Tensor) -> Result<Vec<Tensor>, TchError> {
    let mut sources = Vec::with_capacity(6);
    let mut x = input;
    for (index, (_, pool)) in backbone().enumerate() {
        x = layers.convolve(index, &x)?;
        match source(index) {
            Some(Source::Normalised) => sources.push(layers.normalise(&x)?),
            Some(Source::AsItIs) => sources.push(x.shallow_clone()),
            None => {}
        }
        if let Some(pool) = pool {
            x = layers.pool(pool, &x)?;
        }
    }
    Ok(sources)
}

/// What a head looks at.
pub(super) enum Source {
    /// A layer's map.
    AsItIs,
    /// That map, L2-normalised.
    Normalised,
}

/// Whether a head looks at what layer `index` of the backbone puts out: at `conv4_3`, conv7, and every
/// second one of the extra layers.
pub(super) fn source(index: usize) -> Option<Source> {
    let past = (index + 1).checked_sub(VGG.len());
    match past {
        _ if index == CONV4_3 => Some(Source::Normalised),
        Some(past) if past % 2 == 0 => Some(Source::AsItIs),
        _ => None,
    }
}

/// Why a state dict is not an SSD300.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No tensor has the name of a first layer.
    #[error(
        "{path}: not the weights of an SSD300: none of its {count} tensors is called `vgg.0.weight` \
         (the original implementation) or `backbone.features.0.weight` (torchvision). {advice}"
    )]
    Unrecognised {
        /// The weights file.
        path: String,
        /// How many tensors it has.
        count: usize,
        /// What to do next.
        advice: String,
    },
    /// Tensors are missing, unknown or of the wrong shape; all are listed.
    #[error(
        "{path}: not the state dict of an SSD300 network ({family}):{}",
        list(complaints)
    )]
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

/// A convolution's parameters.
#[derive(Debug)]
pub(super) struct Convolution {
    /// In the file, without `.weight` and `.bias`.
    pub name: String,
    pub weight: Tensor,
    pub bias: Tensor,
    outputs: usize,
    pub geometry: Geometry,
}

impl Convolution {
    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        convolve(x, &self.weight, &self.bias, self.geometry)
    }
}

/// A convolution by libtorch's own choice of kernel.
pub(super) fn convolve(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    how: Geometry,
) -> Result<Tensor, TchError> {
    x.f_conv2d(
        weight,
        Some(bias),
        [how.stride; 2],
        [how.padding; 2],
        [how.dilation; 2],
        1,
    )
}

/// The largest in each window, by libtorch's own kernel.
pub(super) fn pool(x: &Tensor, pool: &Pool) -> Result<Tensor, TchError> {
    let Pool(window, stride, padding, ceil) = *pool;
    x.f_max_pool2d([window; 2], [stride; 2], [padding; 2], [1, 1], ceil)
}

/// L2 normalisation over the channels in single precision, with a learned scale for each.
/// torchvision guards against zero in another way, which differs below 1e-10 only.
pub(super) fn normalise(x: &Tensor, scale: &Tensor) -> Result<Tensor, TchError> {
    let norm = x
        .f_square()?
        .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
        .f_sqrt()?;
    x.f_div(&norm.f_add_scalar(1e-10)?)?
        .f_mul(&scale.f_view([1, -1, 1, 1])?)
}

/// What a trainer does between a convolution, by its name, and its `ReLU`.
pub type Between<'a> = dyn Fn(&str, Tensor) -> Result<Tensor, TchError> + 'a;

/// The network with its weights. Inputs are 300x300.
#[derive(Debug)]
pub struct Network {
    pub(super) backbone: Vec<Convolution>,
    /// Its name in the file, and the scales.
    pub(super) l2_norm: (String, Tensor),
    pub(super) loc: Vec<Convolution>,
    pub(super) conf: Vec<Convolution>,
    classes: usize,
}

impl Network {
    /// Builds the network that the tensors of `state` describe, and tells its family.
    ///
    /// # Errors
    /// Where no tensor has an SSD300's name; where a tensor is missing, has no place in the
    /// network, or has another shape than its neighbours ask for: all of them are listed, with both
    /// shapes.
    pub fn new(state: &StateDict) -> Result<(Self, &'static Family), Error> {
        let Some(recognised) = Family::recognise(state) else {
            let names: Vec<String> = state
                .tensors()
                .take(3)
                .map(|tensor| quote(tensor.name()))
                .collect();
            return Err(Error::Unrecognised {
                path: state.path().display().to_string(),
                count: state.len(),
                advice: match names.is_empty() {
                    true => "It holds no tensors at all".to_owned(),
                    false => format!("Its first are {}", names.join(", ")),
                },
            });
        };
        let family = recognised.family;
        let mut plan = Plan::new(state, &recognised);
        let network = plan.network();
        plan.finish()?;
        Ok((network, family))
    }

    /// Classes, the background included.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Every parameter with its name in the family's state dict. The tensors share the network's
    /// memory: a trainer asks for their gradients and updates them in place.
    #[must_use]
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        let layers = [&self.backbone, &self.loc, &self.conf];
        let convolutions = layers.into_iter().flatten().flat_map(|layer| {
            [
                (
                    format!("{}.weight", layer.name),
                    layer.weight.shallow_clone(),
                ),
                (format!("{}.bias", layer.name), layer.bias.shallow_clone()),
            ]
        });
        let (name, scale) = &self.l2_norm;
        convolutions
            .chain([(name.clone(), scale.shallow_clone())])
            .collect()
    }

    pub(super) fn layers<'a>(&'a self, between: &'a Between<'a>) -> Trained<'a> {
        Trained {
            network: self,
            between,
        }
    }

    /// What puts a map out, in the file, without `.weight`.
    pub(super) fn name(&self, origin: Origin) -> &str {
        match origin {
            Origin::Layer(index) => &self.backbone[index].name,
            Origin::Normalisation => &self.l2_norm.0,
        }
    }

    /// The network's outputs for a batch, N x 3 x 300 x 300: offsets N x 8732 x 4, and logits
    /// (before softmax) N x 8732 x classes. Differentiable where gradients are asked for.
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn outputs(&self, batch: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        self.outputs_through(batch, &|_, output| Ok(output))
    }

    /// As [`outputs`](Self::outputs), with `between` applied to what each convolution but the heads
    /// puts out, before its `ReLU`: a trainer normalises batches there. It is told the layer's name.
    ///
    /// # Errors
    /// Where libtorch or `between` fails.
    pub fn outputs_through(
        &self,
        batch: &Tensor,
        between: &Between,
    ) -> Result<(Tensor, Tensor), TchError> {
        let layers = self.layers(between);
        let sources = sources(&layers, batch.shallow_clone())?;
        let heads = |heads: &[Convolution], each: usize| {
            let outputs = heads.iter().zip(&sources).map(|(head, source)| {
                let output = head.forward(source)?;
                by_prior(&output, each)
            });
            Tensor::f_cat(&outputs.collect::<Result<Vec<_>, _>>()?, 1)
        };
        Ok((heads(&self.loc, 4)?, heads(&self.conf, self.classes)?))
    }
}

/// The layers of a network as it is trained, or was.
pub(super) struct Trained<'a> {
    network: &'a Network,
    between: &'a Between<'a>,
}

impl Layers for Trained<'_> {
    fn convolve(&self, index: usize, x: &Tensor) -> Result<Tensor, TchError> {
        let layer = &self.network.backbone[index];
        (self.between)(&layer.name, layer.forward(x)?)?.f_relu_()
    }

    fn pool(&self, how: &Pool, x: &Tensor) -> Result<Tensor, TchError> {
        pool(x, how)
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        normalise(x, &self.network.l2_norm.1)
    }
}

/// What a head says of its source, prior by prior: from N x (boxes * each) x H x W to N x (H * W *
/// boxes) x `each`.
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

/// Takes tensors out of a state dict by name and shape, and remembers every disagreement.
struct Plan<'a> {
    state: &'a StateDict,
    recognised: &'a Recognised,
    taken: HashSet<String>,
    complaints: Vec<String>,
}

impl<'a> Plan<'a> {
    fn new(state: &'a StateDict, recognised: &'a Recognised) -> Self {
        Self {
            state,
            recognised,
            taken: HashSet::new(),
            complaints: Vec::new(),
        }
    }

    /// Layer after layer; each takes its input channels from the one before it.
    fn network(&mut self) -> Network {
        let names = &self.recognised.family.tensors;
        let mut channels = 3;
        let mut layers: Vec<Convolution> = Vec::new();
        let mut sources = Vec::new();
        let order = names.vgg.into_iter().chain(names.extras);
        for (index, (name, (geometry, _))) in order.zip(backbone()).enumerate() {
            let layer = self.free_convolution(name, channels, geometry);
            channels = layer.outputs;
            if source(index).is_some() {
                sources.push(channels);
            }
            layers.push(layer);
        }
        let l2_norm = (
            names.l2_norm.to_owned(),
            self.tensor(names.l2_norm, &[sources[0]]),
        );
        // Where the first head cannot say, the fewest, so that its shape is complained of.
        let classes = self.recognised.outputs(self.state).unwrap_or(2);
        let mut heads = |name, each: usize| -> Vec<Convolution> {
            let sources = sources.iter().zip(priors::boxes_per_cell()).enumerate();
            sources
                .map(|(index, (&source, boxes))| {
                    let name = format!("{name}.{index}");
                    self.convolution(&name, (boxes * each, source), HEAD)
                })
                .collect()
        };
        Network {
            loc: heads(names.loc, 4),
            conf: heads(names.conf, classes),
            backbone: layers,
            l2_norm,
            classes,
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

    /// A convolution with as many outputs as the file has (one where it does not say, which is then
    /// complained of).
    fn free_convolution(&mut self, name: &str, inputs: usize, geometry: Geometry) -> Convolution {
        let outputs = self
            .rows(&format!("{name}.weight"))
            .or_else(|| self.rows(&format!("{name}.bias")));
        self.convolution(name, (outputs.unwrap_or(1), inputs), geometry)
    }

    /// A convolution with so many channels.
    fn convolution(
        &mut self,
        name: &str,
        (outputs, inputs): (usize, usize),
        geometry: Geometry,
    ) -> Convolution {
        let side = geometry.kernel as usize;
        let weight = self.tensor(&format!("{name}.weight"), &[outputs, inputs, side, side]);
        Convolution {
            name: name.to_owned(),
            weight: match weight.dim() {
                4 => channels_last(&weight),
                _ => weight,
            },
            bias: self.tensor(&format!("{name}.bias"), &[outputs]),
            outputs,
            geometry,
        }
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
