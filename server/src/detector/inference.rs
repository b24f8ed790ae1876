//! A network made ready to serve: in one precision, on one device, every part in the form that runs
//! fastest there.

use std::cell::RefCell;

use tch::{Device, Kind, TchError, Tensor};

use super::boxes::RawOutput;
use super::family::Family;
use super::network::{
    self, Convolution, Geometry, Layers, Network, Origin, Pool, Source, Watched, by_prior,
    channels_last,
};
use super::onednn::{self, Quantised, Scale};
use super::precision::{self, Choice, Precision, Processor, Wanted};
use super::preprocess::Input;
use super::priors::{self, INPUT_SIZE};
use super::quantise::{self, Scales};
use super::samples;

/// A convolution in the form in which it runs.
#[derive(Debug)]
enum Kernel {
    /// libtorch's own: on any device and any processor.
    Plain { weight: Tensor, bias: Tensor },
    /// oneDNN's, weights in the processor's order.
    Reordered { weight: Tensor, bias: Tensor },
    /// oneDNN's, in eight bits; to a map of eight bits again, or to single precision.
    Quantised {
        convolution: Quantised,
        output: Option<Scale>,
    },
}

#[derive(Debug)]
struct Layer {
    kernel: Kernel,
    geometry: Geometry,
}

impl Layer {
    fn forward(&self, x: &Tensor, relu: bool) -> Result<Tensor, TchError> {
        match &self.kernel {
            Kernel::Plain { weight, bias } => {
                let map = network::convolve(x, weight, bias, self.geometry)?;
                if relu { map.f_relu() } else { Ok(map) }
            }
            Kernel::Reordered { weight, bias } => {
                onednn::convolve(x, weight, bias, self.geometry, relu)
            }
            Kernel::Quantised {
                convolution,
                output,
            } => convolution.convolve(x, relu, *output),
        }
    }

    /// The scale of the map that it puts out, where that is in eight bits.
    fn output(&self) -> Option<Scale> {
        match self.kernel {
            Kernel::Quantised { output, .. } => output,
            Kernel::Plain { .. } | Kernel::Reordered { .. } => None,
        }
    }

    fn shallow_clone(&self) -> Self {
        let kernel = match &self.kernel {
            Kernel::Plain { weight, bias } => Kernel::Plain {
                weight: weight.shallow_clone(),
                bias: bias.shallow_clone(),
            },
            Kernel::Reordered { weight, bias } => Kernel::Reordered {
                weight: weight.shallow_clone(),
                bias: bias.shallow_clone(),
            },
            Kernel::Quantised {
                convolution,
                output,
            } => Kernel::Quantised {
                convolution: convolution.shallow_clone(),
                output: *output,
            },
        };
        Self {
            kernel,
            geometry: self.geometry,
        }
    }
}

/// Chooses an arithmetic for a network and makes it ready. A network that is asked for in eight bits
/// and has no `scales` is calibrated here on the bundled pictures.
///
/// # Errors
/// Where there is no such device, or as [`Inference::new`].
pub fn prepare(
    network: Network,
    family: &Family,
    scales: Option<Scales>,
    wanted: Wanted,
) -> Result<(Inference, Choice), Error> {
    let device = wanted.place.device().map_err(Error::Device)?;
    let processor = Processor::of_this_machine();
    let mut choice = precision::choose(wanted.precision, device, processor, scales.is_some());
    if choice.precision == Precision::Int8 && !(device == Device::Cpu && onednn::available()) {
        return Err(Error::NoEightBits);
    }
    let how = match (choice.precision, scales) {
        (Precision::F32, _) => How::F32,
        (Precision::Bf16, _) => How::Bf16,
        (Precision::Int8, Some(scales)) => How::Int8(scales),
        (Precision::Int8, None) => {
            choice.warning = choice.warning.or(Some(
                "the weights are not calibrated: it was done now, on bundled pictures, as at every \
                 start; `ssd calibrate` does it once, on pictures of yours",
            ));
            let inputs = samples::inputs(family);
            How::Int8(quantise::calibrate(&network, &inputs, || ())?)
        }
    };
    let inference = Inference::new(network, family, &how, device)?;
    Ok((inference, choice))
}

/// Why a network cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such device.
    #[error("{0}")]
    Device(String),
    /// Eight bits are asked for where they cannot be had.
    #[error(
        "PRECISION is int8, which runs on x86-64 processors only, and not on a GPU: give auto, f32 or \
         bf16, or DEVICE=cpu"
    )]
    NoEightBits,
    /// libtorch failed.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
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
    backbone: Vec<Layer>,
    /// Those of offsets and of classes in one, source by source.
    heads: Vec<Layer>,
    l2_norm: Tensor,
    /// The numbers between the layers.
    kind: Kind,
    device: Device,
    /// The scales of the input and of the normalised map, in eight bits.
    scales: Option<(Scale, Scale)>,
    /// Boxes in a cell of each source.
    boxes: Vec<usize>,
    classes: usize,
}

impl Inference {
    /// Makes a network ready. It is taken apart on the way, so that at no time the whole of it is
    /// there twice.
    ///
    /// # Errors
    /// Where libtorch fails, or eight bits are asked for where there are none: off x86-64, or with
    /// scales that lack a layer.
    pub fn new(
        network: Network,
        family: &Family,
        how: &How,
        device: Device,
    ) -> Result<Self, TchError> {
        tch::no_grad(|| {
            let processor = Processor::of_this_machine();
            let builder = Builder {
                how,
                device,
                most: match processor.vnni {
                    true => 127,
                    false => 63,
                },
                reorders: onednn::available()
                    && device == Device::Cpu
                    && (processor.bf16 || !matches!(how, How::Bf16)),
            };
            builder.build(network, family)
        })
    }

    /// The same for another thread: the weights are shared, not copied.
    #[must_use]
    pub fn shallow_clone(&self) -> Self {
        let all = |layers: &[Layer]| layers.iter().map(Layer::shallow_clone).collect();
        Self {
            backbone: all(&self.backbone),
            heads: all(&self.heads),
            l2_norm: self.l2_norm.shallow_clone(),
            boxes: self.boxes.clone(),
            ..*self
        }
    }

    /// One forward pass over some pictures: an output for each, in their order.
    ///
    /// # Errors
    /// Where libtorch fails, for lack of memory say.
    pub fn forward(&self, inputs: &[&Input]) -> Result<Vec<RawOutput>, TchError> {
        tch::no_grad(|| {
            let (offsets, logits) = self.outputs(inputs)?;
            let offsets = numbers(&offsets)?;
            let probabilities = numbers(&logits.f_softmax(-1, Kind::Float)?)?;
            let pictures = inputs.len().max(1);
            let pairs = offsets
                .chunks(offsets.len() / pictures)
                .zip(probabilities.chunks(probabilities.len() / pictures));
            Ok(pairs
                .map(|(loc, conf)| RawOutput {
                    loc: loc.to_vec(),
                    conf: conf.to_vec(),
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

    fn input(&self, inputs: &[&Input]) -> Result<Tensor, TchError> {
        let input = tensor(inputs)?.f_to_device(self.device)?;
        match self.scales {
            Some((scale, _)) => quantise::map(&input, scale),
            None => input.f_to_kind(self.kind),
        }
    }

    /// Offsets, N x 8732 x 4, and logits, N x 8732 x classes, in single precision.
    fn outputs(&self, inputs: &[&Input]) -> Result<(Tensor, Tensor), TchError> {
        let sources = network::sources(self, self.input(inputs)?)?;
        let (mut offsets, mut logits) = (Vec::new(), Vec::new());
        for ((head, source), &boxes) in self.heads.iter().zip(&sources).zip(&self.boxes) {
            let both = head.forward(source, false)?.f_to_kind(Kind::Float)?;
            let (split, all) = (4 * boxes as i64, (4 + self.classes) as i64 * boxes as i64);
            offsets.push(by_prior(&both.f_narrow(1, 0, split)?, 4)?);
            logits.push(by_prior(
                &both.f_narrow(1, split, all - split)?,
                self.classes,
            )?);
        }
        Ok((Tensor::f_cat(&offsets, 1)?, Tensor::f_cat(&logits, 1)?))
    }
}

/// How far a map is from what it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerError {
    /// What puts it out, in the weights' file, without `.weight`.
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
            let expected = RefCell::new(Vec::new());
            let note = |origin: Origin, map: &Tensor| {
                expected.borrow_mut().push((origin, map.shallow_clone()));
                Ok(())
            };
            let layers = Watched {
                layers: &exact.layers(&|_, map| Ok(map)),
                see: &note,
            };
            network::sources(&layers, tensor(&[input])?)?;
            let expected = RefCell::new(expected.into_inner().into_iter());
            let errors = RefCell::new(Vec::new());
            let compare = |origin: Origin, map: &Tensor| {
                let Some((same, exactly)) = expected.borrow_mut().next() else {
                    return Ok(());
                };
                debug_assert_eq!(same, origin);
                let map = self.plain(origin, map)?;
                let distance = map.f_sub(&exactly)?.f_abs()?.f_mean(Kind::Double)?;
                let mean = exactly.f_abs()?.f_mean(Kind::Double)?;
                errors.borrow_mut().push(LayerError {
                    layer: exact.name(origin).to_owned(),
                    error: distance.f_div(&mean)?.f_double_value(&[])?,
                });
                Ok(())
            };
            let layers = Watched {
                layers: self,
                see: &compare,
            };
            network::sources(&layers, self.input(&[input])?)?;
            Ok(errors.into_inner())
        })
    }

    /// A map of its own in single precision, on the processor.
    fn plain(&self, origin: Origin, map: &Tensor) -> Result<Tensor, TchError> {
        let map = map.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?;
        let scale = match origin {
            Origin::Layer(index) => self.backbone[index].output(),
            Origin::Normalisation => self.scales.map(|(_, scale)| scale),
        };
        match (scale, origin) {
            (Some(scale), Origin::Layer(_)) => map.f_mul_scalar(scale.scale),
            (Some(scale), Origin::Normalisation) => {
                map.f_mul_scalar(scale.scale)?.f_mul(&signs(&self.l2_norm)?)
            }
            (None, _) => Ok(map),
        }
    }
}

impl Layers for Inference {
    fn convolve(&self, index: usize, x: &Tensor) -> Result<Tensor, TchError> {
        self.backbone[index].forward(x, true)
    }

    fn pool(&self, pool: &Pool, x: &Tensor) -> Result<Tensor, TchError> {
        match x.kind() {
            Kind::Uint8 => pool_bytes(x, pool),
            _ => network::pool(x, pool),
        }
    }

    fn normalise(&self, x: &Tensor) -> Result<Tensor, TchError> {
        // Whatever the map's own scale is, it cancels out.
        let map = network::normalise(&x.f_to_kind(Kind::Float)?, &self.l2_norm)?;
        match self.scales {
            // A channel whose factor is below zero is so throughout: the heads' weights have its sign.
            Some((_, scale)) => quantise::map(&map.f_abs()?, scale),
            None => map.f_to_kind(self.kind),
        }
    }
}

/// A max pool over bytes, which libtorch refuses for large maps: rows, then columns. What is beyond a
/// map counts as 0, the least.
fn pool_bytes(x: &Tensor, pool: &Pool) -> Result<Tensor, TchError> {
    let &Pool(window, stride, padding, _) = pool;
    let outputs = |size: i64| pool.side_after(size);
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

/// Inputs as a batch, N x 3 x 300 x 300. Row, column, channel is `channels_last` already; the
/// permutation only renames the axes.
pub(super) fn tensor(inputs: &[&Input]) -> Result<Tensor, TchError> {
    let side = INPUT_SIZE as i64;
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

struct Builder<'a> {
    how: &'a How,
    device: Device,
    /// The largest number of an eight-bit weight.
    most: i64,
    /// Whether oneDNN takes weights in an order of its own: it emulates bfloat16, but not with those.
    reorders: bool,
}

impl Builder<'_> {
    fn build(&self, network: Network, family: &Family) -> Result<Inference, TchError> {
        let classes = network.classes();
        let Network {
            backbone,
            l2_norm: (l2_name, l2_norm),
            loc,
            conf,
            ..
        } = network;
        let (low, high) = family.preprocessing.range();
        let input = quantise::around_zero(low, high);
        // The scale of the map that comes into a layer, and its side.
        let (mut scale, mut side) = (input, INPUT_SIZE as i64);
        let mut layers = Vec::new();
        let mut sources = Vec::new();
        let normalised = match self.how {
            How::Int8(scales) => scales.of(&l2_name)?,
            _ => input,
        };
        for (index, (convolution, (geometry, pool))) in
            backbone.into_iter().zip(network::backbone()).enumerate()
        {
            let output = match self.how {
                How::Int8(scales) => Some(scales.of(&convolution.name)?),
                _ => None,
            };
            let Convolution { weight, bias, .. } = convolution;
            layers.push(self.layer((weight, bias), geometry, side, (scale, output))?);
            side = geometry.side_after(side);
            scale = output.unwrap_or(scale);
            match network::source(index) {
                Some(Source::Normalised) => sources.push((side, normalised)),
                Some(Source::AsItIs) => sources.push((side, scale)),
                None => {}
            }
            if let Some(pool) = pool {
                side = pool.side_after(side);
            }
        }
        let boxes: Vec<usize> = priors::boxes_per_cell().to_vec();
        let heads = loc.into_iter().zip(conf).zip(sources).enumerate();
        let heads = heads.map(|(index, ((loc, conf), (side, scale)))| {
            let mut weight = Tensor::f_cat(&[loc.weight, conf.weight], 0)?;
            // The first source is the normalised map.
            if index == 0 && matches!(self.how, How::Int8(_)) {
                weight = weight.f_mul(&signs(&l2_norm)?)?;
            }
            let weight = channels_last(&weight);
            let bias = Tensor::f_cat(&[loc.bias, conf.bias], 0)?;
            self.layer((weight, bias), loc.geometry, side, (scale, None))
        });
        let heads = heads.collect::<Result<Vec<_>, _>>()?;
        Ok(Inference {
            backbone: layers,
            heads,
            l2_norm: l2_norm.f_to_device(self.device)?,
            kind: match self.how {
                How::Bf16 => Kind::BFloat16,
                _ => Kind::Float,
            },
            device: self.device,
            scales: matches!(self.how, How::Int8(_)).then_some((input, normalised)),
            boxes,
            classes,
        })
    }

    /// A convolution for maps of `side` x `side`; in eight bits, of these scales before and after.
    fn layer(
        &self,
        (weight, bias): (Tensor, Tensor),
        geometry: Geometry,
        side: i64,
        (input, output): (Scale, Option<Scale>),
    ) -> Result<Layer, TchError> {
        let kind = match self.how {
            How::Bf16 => Kind::BFloat16,
            _ => Kind::Float,
        };
        let kernel = match self.how {
            How::Int8(_) => {
                let (numbers, scales) = quantise::weight(&weight, self.most)?;
                Kernel::Quantised {
                    convolution: Quantised::pack(&numbers, scales, bias, input, geometry, side)?,
                    output,
                }
            }
            _ if self.reorders => Kernel::Reordered {
                weight: onednn::reorder(&weight.f_to_kind(kind)?, geometry, side)?,
                bias: bias.f_to_kind(kind)?,
            },
            _ => Kernel::Plain {
                weight: weight.f_to_kind(kind)?.f_to_device(self.device)?,
                bias: bias.f_to_kind(kind)?.f_to_device(self.device)?,
            },
        };
        Ok(Layer { kernel, geometry })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_pooled_as_numbers_are() {
        for side in [1, 2, 5, 19, 38, 75, 300] {
            let map = Tensor::randint(256, [2, 3, side, side], (Kind::Float, Device::Cpu));
            let map = channels_last(&map);
            for pool in network::backbone().filter_map(|(_, pool)| pool) {
                let &Pool(window, _, padding, _) = pool;
                if side + 2 * padding < window {
                    continue;
                }
                let expected = network::pool(&map, pool).unwrap();
                let bytes = pool_bytes(&map.to_kind(Kind::Uint8), pool).unwrap();
                assert_eq!(bytes.size(), expected.size());
                assert!(bytes.to_kind(Kind::Float).equal(&expected), "{side}");
            }
        }
    }
}
