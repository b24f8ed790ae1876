//! SSD300 on VGG16 (Liu et al. 2016, figure 2), at any width: every channel count is read from
//! the weights.
//!
//! Convolutions run in `channels_last`, which libtorch's CPU kernels prefer (about a tenth faster
//! than NCHW). tch cannot ask for a memory format; a permuted contiguous copy is recognised as one.

use std::collections::HashSet;

use tch::{Device, Kind, TchError, Tensor};

use super::boxes::RawOutput;
use super::family::{Family, Recognised};
use super::preprocess::Input;
use super::priors::{self, INPUT_SIZE};
use crate::weights::StateDict;

/// A max pool: side of its window, stride, padding, whether the output's size is rounded up.
struct Pool(i64, i64, i64, bool);

const HALVE: Option<Pool> = Some(Pool(2, 2, 0, false));

/// The fifteen convolutions of VGG16's part, `conv1_1` to `conv7`: side of the kernel, padding,
/// dilation, and the pool after it. All have stride 1.
const VGG: [(usize, i64, i64, Option<Pool>); 15] = [
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
const EXTRAS: [(usize, i64, i64); 8] = [
    (1, 1, 0),
    (3, 2, 1),
    (1, 1, 0),
    (3, 2, 1),
    (1, 1, 0),
    (3, 1, 0),
    (1, 1, 0),
    (3, 1, 0),
];

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

#[derive(Debug)]
struct Convolution {
    name: String,
    weight: Tensor,
    bias: Tensor,
    outputs: usize,
    stride: i64,
    padding: i64,
    dilation: i64,
}

impl Convolution {
    fn shallow_clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            weight: self.weight.shallow_clone(),
            bias: self.bias.shallow_clone(),
            ..*self
        }
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let both = |value: i64| [value, value];
        x.f_conv2d(
            &self.weight,
            Some(&self.bias),
            both(self.stride),
            both(self.padding),
            both(self.dilation),
            1,
        )
    }
}

/// What a trainer does between a convolution, by its name, and its `ReLU`.
pub type Between<'a> = dyn Fn(&str, Tensor) -> Result<Tensor, TchError> + 'a;

/// The network with its weights. Inputs are 300x300.
#[derive(Debug)]
pub struct Network {
    vgg: Vec<Convolution>,
    l2_norm: (String, Tensor),
    extras: Vec<Convolution>,
    loc: Vec<Convolution>,
    conf: Vec<Convolution>,
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
                .map(|tensor| format!("`{}`", tensor.name().escape_debug()))
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

    /// The same network for another thread: the weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let all = |layers: &[Convolution]| layers.iter().map(Convolution::shallow_clone).collect();
        Self {
            vgg: all(&self.vgg),
            l2_norm: (self.l2_norm.0.clone(), self.l2_norm.1.shallow_clone()),
            extras: all(&self.extras),
            loc: all(&self.loc),
            conf: all(&self.conf),
            classes: self.classes,
        }
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
        let layers = [&self.vgg, &self.extras, &self.loc, &self.conf];
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
        let sources = self.sources(batch, between)?;
        let loc = flatten(&self.loc, &sources, 4)?;
        let logits = flatten(&self.conf, &sources, self.classes)?;
        Ok((loc, logits))
    }

    /// One forward pass over one picture.
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn forward(&self, input: &Input) -> Result<RawOutput, TchError> {
        tch::no_grad(|| {
            let (loc, logits) = self.outputs(&tensor(input)?)?;
            Ok(RawOutput {
                loc: numbers(&loc)?,
                conf: numbers(&logits.f_softmax(-1, Kind::Float)?)?,
                classes: self.classes,
            })
        })
    }

    fn sources(&self, batch: &Tensor, between: &Between) -> Result<Vec<Tensor>, TchError> {
        let mut sources = Vec::with_capacity(self.loc.len());
        let mut x = batch.shallow_clone();
        for (index, (layer, (.., pool))) in self.vgg.iter().zip(&VGG).enumerate() {
            x = between(&layer.name, layer.forward(&x)?)?.f_relu_()?;
            if index == CONV4_3 {
                sources.push(self.normalise(&x)?);
            }
            if let Some(Pool(window, stride, padding, ceil)) = *pool {
                x = x.f_max_pool2d([window; 2], [stride; 2], [padding; 2], [1, 1], ceil)?;
            }
        }
        sources.push(x.shallow_clone());
        for (index, layer) in self.extras.iter().enumerate() {
            x = between(&layer.name, layer.forward(&x)?)?.f_relu_()?;
            if index % 2 == 1 {
                sources.push(x.shallow_clone());
            }
        }
        Ok(sources)
    }

    /// L2 normalisation over the channels, with a learned scale (Liu et al. 2015, `ParseNet`).
    /// torchvision guards against zero in another way, which differs below 1e-10 only.
    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let norm = x
            .f_square()?
            .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
            .f_sqrt()?;
        x.f_div(&norm.f_add_scalar(1e-10)?)?
            .f_mul(&self.l2_norm.1.f_view([1, -1, 1, 1])?)
    }
}

/// The input as a tensor, 1x3x300x300. Row, column, channel is `channels_last` already; the
/// permutation only renames the axes.
fn tensor(input: &Input) -> Result<Tensor, TchError> {
    let side = INPUT_SIZE as i64;
    Tensor::f_from_slice(input.values())?
        .f_view([1, side, side, 3])?
        .f_permute([0, 3, 1, 2])
}

/// What the heads say of their sources, prior by prior: N x 8732 x `each`.
fn flatten(heads: &[Convolution], sources: &[Tensor], each: usize) -> Result<Tensor, TchError> {
    let parts: Vec<Tensor> = heads
        .iter()
        .zip(sources)
        .map(|(head, source)| {
            let output = head.forward(source)?.f_permute([0, 2, 3, 1])?;
            output.f_reshape([output.size()[0], -1, each as i64])
        })
        .collect::<Result<_, _>>()?;
    Tensor::f_cat(&parts, 1)
}

fn numbers(tensor: &Tensor) -> Result<Vec<f32>, TchError> {
    let flat = tensor.f_reshape([-1])?.f_contiguous()?;
    let mut values = vec![0.0; flat.numel()];
    let count = values.len();
    flat.f_copy_data(&mut values, count)?;
    Ok(values)
}

fn channels_last(tensor: &Tensor) -> Tensor {
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
        let mut vgg = Vec::new();
        for (name, (size, padding, dilation, _)) in names.vgg.into_iter().zip(&VGG) {
            let layer = self.free_convolution(name, (channels, *size), (1, *padding, *dilation));
            channels = layer.outputs;
            vgg.push(layer);
        }
        let conv4_3 = vgg[CONV4_3].outputs;
        let l2_norm = (
            names.l2_norm.to_owned(),
            self.tensor(names.l2_norm, &[conv4_3]),
        );
        let mut sources = vec![conv4_3, channels];
        let mut extras = Vec::new();
        for (name, (size, stride, padding)) in names.extras.into_iter().zip(EXTRAS) {
            let layer = self.free_convolution(name, (channels, size), (stride, padding, 1));
            channels = layer.outputs;
            extras.push(layer);
            if extras.len() % 2 == 0 {
                sources.push(channels);
            }
        }
        // Where the first head cannot say, the fewest, so that its shape is complained of.
        let classes = self.recognised.outputs(self.state).unwrap_or(2);
        let mut heads = |name, each: usize| -> Vec<Convolution> {
            let sources = sources.iter().zip(priors::boxes_per_cell()).enumerate();
            sources
                .map(|(index, (&source, boxes))| {
                    let kernel = [boxes * each, source, 3, 3];
                    self.convolution(&format!("{name}.{index}"), kernel, (1, 1, 1))
                })
                .collect()
        };
        Network {
            loc: heads(names.loc, 4),
            conf: heads(names.conf, classes),
            vgg,
            l2_norm,
            extras,
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
                self.complaints
                    .push(format!("{name} has values that are NaN or infinite"));
            }
            Some((_, is)) => self
                .complaints
                .push(format!("{name} is {is:?}, expected {shape:?}")),
            None => self.complaints.push(format!("missing: {name} {shape:?}")),
        }
        Tensor::empty([0], (Kind::Float, Device::Cpu))
    }

    /// A convolution with as many outputs as the file has (one where it does not say, which is then
    /// complained of). `how` is stride, padding, dilation.
    fn free_convolution(
        &mut self,
        name: &str,
        (inputs, size): (usize, usize),
        how: (i64, i64, i64),
    ) -> Convolution {
        let outputs = self
            .rows(&format!("{name}.weight"))
            .or_else(|| self.rows(&format!("{name}.bias")));
        self.convolution(name, [outputs.unwrap_or(1), inputs, size, size], how)
    }

    /// A convolution of that kernel: outputs, inputs, height, width.
    fn convolution(
        &mut self,
        name: &str,
        kernel: [usize; 4],
        (stride, padding, dilation): (i64, i64, i64),
    ) -> Convolution {
        let weight = self.tensor(&format!("{name}.weight"), &kernel);
        Convolution {
            name: name.to_owned(),
            weight: match weight.dim() {
                4 => channels_last(&weight),
                _ => weight,
            },
            bias: self.tensor(&format!("{name}.bias"), &kernel[..1]),
            outputs: kernel[0],
            stride,
            padding,
            dilation,
        }
    }

    fn finish(mut self) -> Result<(), Error> {
        let prefix = &self.recognised.prefix;
        for tensor in self.state.tensors() {
            let name = tensor.name();
            if name.starts_with(prefix) && !self.taken.contains(name) {
                let shape = tensor.shape();
                self.complaints
                    .push(format!("unexpected: {name} {shape:?}"));
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
