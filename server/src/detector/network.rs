//! SSD300 on VGG16 (Liu et al. 2016, figure 2), at any width: every channel count is read from
//! the weights.
//!
//! Convolutions run in `channels_last`, which libtorch's CPU kernels prefer (about a tenth faster
//! than NCHW). tch cannot ask for a memory format; a permuted contiguous copy is recognised as one.

use std::fmt::Write as _;

use tch::{Device, Kind, TchError, Tensor};

use super::boxes::RawOutput;
use super::priors::{self, INPUT_SIZE};
use crate::weights::StateDict;

/// Mean of the training pictures, red, green, blue, in levels of 0 to 255.
const MEAN: [f32; 3] = [123.0, 117.0, 104.0];

/// Where the VGG part pools: after the layer of this index in the original `vgg` list.
/// 16 is rounded up (38 cells from 75); 30 keeps the size.
const POOLS: [usize; 5] = [4, 9, 16, 23, 30];
const CEIL_POOL: usize = 16;
const STRIDE_ONE_POOL: usize = 30;
/// Indexes of the convolutions in the original `vgg` list; `conv4_3` feeds the first head.
const VGG: [usize; 15] = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28, 31, 33];
const CONV4_3: usize = 21;
const CONV6: usize = 31;
/// Stride and padding of the extra layers; each odd one feeds a head.
const EXTRAS: [(i64, i64); 8] = [
    (1, 0),
    (2, 1),
    (1, 0),
    (2, 1),
    (1, 0),
    (1, 0),
    (1, 0),
    (1, 0),
];

/// Why a state dict is not an SSD300.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Tensors are missing, unknown or of the wrong shape; all are listed.
    #[error("{path}: not the state dict of an SSD300 network:{list}")]
    Mismatch {
        /// The weights file.
        path: String,
        /// One line a tensor.
        list: String,
    },
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

#[derive(Debug)]
struct Convolution {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    dilation: i64,
}

impl Convolution {
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

/// The network with its weights. Inputs are 300x300; the outputs are those of one picture.
#[derive(Debug)]
pub struct Network {
    vgg: Vec<Convolution>,
    l2_norm: Tensor,
    extras: Vec<Convolution>,
    loc: Vec<Convolution>,
    conf: Vec<Convolution>,
    classes: usize,
}

impl Network {
    /// Builds the network that the tensors of `state` describe.
    ///
    /// # Errors
    /// Where a tensor is missing, has no place in the network, or has another shape than its
    /// neighbours ask for: all of them are listed, with both shapes.
    pub fn new(state: &StateDict) -> Result<Self, Error> {
        let mut plan = Plan::new(state);
        let mut input = 3;
        let mut vgg = Vec::new();
        let mut conv4_3 = 0;
        for index in VGG {
            let (size, padding, dilation) = match index {
                CONV6 => (3, 6, 6),
                33 => (1, 0, 1),
                _ => (3, 1, 1),
            };
            let (layer, output) = plan.convolution(
                &format!("vgg.{index}"),
                input,
                None,
                size,
                (1, padding, dilation),
            );
            vgg.push(layer);
            input = output;
            if index == CONV4_3 {
                conv4_3 = output;
            }
        }
        let l2_norm = plan.tensor("L2Norm.weight", &[conv4_3]);
        let mut sources = vec![conv4_3, input];
        let mut extras = Vec::new();
        for (index, (stride, padding)) in EXTRAS.into_iter().enumerate() {
            let size = if index % 2 == 0 { 1 } else { 3 };
            let (layer, output) = plan.convolution(
                &format!("extras.{index}"),
                input,
                None,
                size,
                (stride, padding, 1),
            );
            extras.push(layer);
            input = output;
            if index % 2 == 1 {
                sources.push(output);
            }
        }
        let per_cell = priors::boxes_per_cell();
        let classes = plan.rows("conf.0.weight").unwrap_or(2 * per_cell[0]) / per_cell[0];
        let (mut loc, mut conf) = (Vec::new(), Vec::new());
        for (index, (&source, boxes)) in sources.iter().zip(per_cell).enumerate() {
            let mut head = |kind: &str, outputs| {
                plan.convolution(
                    &format!("{kind}.{index}"),
                    source,
                    Some(outputs),
                    3,
                    (1, 1, 1),
                )
                .0
            };
            loc.push(head("loc", boxes * 4));
            conf.push(head("conf", boxes * classes));
        }
        plan.finish()?;
        Ok(Self {
            vgg,
            l2_norm,
            extras,
            loc,
            conf,
            classes,
        })
    }

    /// Classes, the background included.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The input tensor, 1x3x300x300, of a resized picture (300x300 RGB bytes), mean subtracted.
    ///
    /// # Errors
    /// Where libtorch fails.
    ///
    /// # Panics
    /// Where `pixels` is not 300 x 300 x 3 long.
    pub fn input(pixels: &[u8]) -> Result<Tensor, TchError> {
        assert_eq!(
            pixels.len(),
            INPUT_SIZE * INPUT_SIZE * 3,
            "a resized picture"
        );
        let side = INPUT_SIZE as i64;
        // Height, width, channel is channels_last already; the permutation only renames the axes.
        Tensor::f_from_slice(pixels)?
            .f_view([1, side, side, 3])?
            .f_to_kind(Kind::Float)?
            .f_sub(&Tensor::f_from_slice(&MEAN)?)?
            .f_permute([0, 3, 1, 2])
    }

    /// One forward pass over `input` (1x3x300x300).
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn forward(&self, input: &Tensor) -> Result<RawOutput, TchError> {
        tch::no_grad(|| {
            let sources = self.sources(input)?;
            let loc = flatten(&self.loc, &sources)?;
            let conf = flatten(&self.conf, &sources)?
                .f_view([-1, self.classes as i64])?
                .f_softmax(-1, Kind::Float)?;
            Ok(RawOutput {
                loc: numbers(&loc)?,
                conf: numbers(&conf)?,
                classes: self.classes,
            })
        })
    }

    fn sources(&self, input: &Tensor) -> Result<Vec<Tensor>, TchError> {
        let mut sources = Vec::with_capacity(self.loc.len());
        let mut x = input.shallow_clone();
        for (layer, index) in self.vgg.iter().zip(VGG) {
            x = layer.forward(&x)?.f_relu_()?;
            if index == CONV4_3 {
                sources.push(self.normalise(&x)?);
            }
            // A pool follows the convolution's ReLU, two places on in the original list.
            if let Some(&pool) = POOLS.iter().find(|&&pool| pool == index + 2) {
                let (size, stride, padding) = if pool == STRIDE_ONE_POOL {
                    (3, 1, 1)
                } else {
                    (2, 2, 0)
                };
                x = x.f_max_pool2d(
                    [size; 2],
                    [stride; 2],
                    [padding; 2],
                    [1, 1],
                    pool == CEIL_POOL,
                )?;
            }
        }
        sources.push(x.shallow_clone());
        for (index, layer) in self.extras.iter().enumerate() {
            x = layer.forward(&x)?.f_relu_()?;
            if index % 2 == 1 {
                sources.push(x.shallow_clone());
            }
        }
        Ok(sources)
    }

    /// L2 normalisation over the channels, with a learned scale (Liu et al. 2015, `ParseNet`).
    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let norm = x
            .f_square()?
            .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?
            .f_sqrt()?;
        x.f_div(&norm.f_add_scalar(1e-10)?)?
            .f_mul(&self.l2_norm.f_view([1, -1, 1, 1])?)
    }
}

fn flatten(heads: &[Convolution], sources: &[Tensor]) -> Result<Tensor, TchError> {
    let parts: Vec<Tensor> = heads
        .iter()
        .zip(sources)
        .map(|(head, source)| {
            head.forward(source)?
                .f_permute([0, 2, 3, 1])?
                .f_reshape([-1])
        })
        .collect::<Result<_, _>>()?;
    Tensor::f_cat(&parts, 0)
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
    taken: std::collections::HashSet<String>,
    complaints: String,
}

impl<'a> Plan<'a> {
    fn new(state: &'a StateDict) -> Self {
        Self {
            state,
            taken: std::collections::HashSet::new(),
            complaints: String::new(),
        }
    }

    fn rows(&self, name: &str) -> Option<usize> {
        self.state.get(name)?.shape().first().copied()
    }

    fn complain(&mut self, line: std::fmt::Arguments) {
        // Writing to a String cannot fail.
        let _ = write!(self.complaints, "\n  {line}");
    }

    /// A tensor of this shape; an empty one, and a complaint, where there is none.
    fn tensor(&mut self, name: &str, shape: &[usize]) -> Tensor {
        self.taken.insert(name.to_owned());
        match self.state.get(name) {
            None => self.complain(format_args!("missing: {name} {shape:?}")),
            Some(found) if found.shape() != shape => {
                let is = found.shape().to_vec();
                self.complain(format_args!("{name} is {is:?}, expected {shape:?}"));
            }
            Some(found) => {
                let dims: Vec<i64> = shape.iter().map(|&dim| dim as i64).collect();
                return Tensor::from_slice(&found.to_f32()).view(dims.as_slice());
            }
        }
        Tensor::empty([0], (Kind::Float, Device::Cpu))
    }

    /// A convolution and its output channels: `outputs`, or as many as the file has.
    /// `how` is stride, padding, dilation.
    fn convolution(
        &mut self,
        name: &str,
        inputs: usize,
        outputs: Option<usize>,
        size: usize,
        how: (i64, i64, i64),
    ) -> (Convolution, usize) {
        let weight_name = format!("{name}.weight");
        let outputs = outputs.or_else(|| self.rows(&weight_name)).unwrap_or(0);
        let weight = self.tensor(&weight_name, &[outputs, inputs, size, size]);
        let weight = if weight.dim() == 4 {
            channels_last(&weight)
        } else {
            weight
        };
        let bias = self.tensor(&format!("{name}.bias"), &[outputs]);
        let (stride, padding, dilation) = how;
        (
            Convolution {
                weight,
                bias,
                stride,
                padding,
                dilation,
            },
            outputs,
        )
    }

    fn finish(mut self) -> Result<(), Error> {
        let state = self.state;
        for tensor in state.tensors() {
            if !self.taken.contains(tensor.name()) {
                let shape = tensor.shape().to_vec();
                self.complain(format_args!("unexpected: {} {shape:?}", tensor.name()));
            }
        }
        if self.complaints.is_empty() {
            return Ok(());
        }
        Err(Error::Mismatch {
            path: state.path().display().to_string(),
            list: self.complaints,
        })
    }
}
