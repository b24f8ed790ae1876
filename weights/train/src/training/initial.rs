//! A network that has seen nothing: the published SSD300, narrower.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use half::f16;
use safetensors::tensor::{Dtype, TensorView};
use ssd_server::detector::family;
use ssd_server::weights::StateDict;

use crate::scenes::Dice;

/// The first layer's weights over those of a layer whose inputs have deviation 1.
pub const FIRST_LAYER: f64 = 1.0 / 64.0;
/// The learned scale of the L2 normalisation at the start, as in the original code.
const L2_SCALE: f32 = 20.0;
/// The stream of the dice that initialisation uses; scenes use those below.
const STREAM: u64 = u64::MAX;

/// Convolutions of the full-width network in order: name, inputs, outputs, side of the kernel.
const LAYERS: [(&str, usize, usize, usize); 23] = [
    ("vgg.0", 3, 64, 3),
    ("vgg.2", 64, 64, 3),
    ("vgg.5", 64, 128, 3),
    ("vgg.7", 128, 128, 3),
    ("vgg.10", 128, 256, 3),
    ("vgg.12", 256, 256, 3),
    ("vgg.14", 256, 256, 3),
    ("vgg.17", 256, 512, 3),
    ("vgg.19", 512, 512, 3),
    ("vgg.21", 512, 512, 3),
    ("vgg.24", 512, 512, 3),
    ("vgg.26", 512, 512, 3),
    ("vgg.28", 512, 512, 3),
    ("vgg.31", 512, 1024, 3),
    ("vgg.33", 1024, 1024, 1),
    ("extras.0", 1024, 256, 1),
    ("extras.1", 256, 512, 3),
    ("extras.2", 512, 128, 1),
    ("extras.3", 128, 256, 3),
    ("extras.4", 256, 128, 1),
    ("extras.5", 128, 256, 3),
    ("extras.6", 256, 128, 1),
    ("extras.7", 128, 256, 3),
];
/// Channels of its first layer, a divisor of all the others.
const PUBLISHED: usize = 64;
/// Channels of the six sources that the heads read.
const SOURCES: [usize; 6] = [512, 1024, 512, 256, 256, 256];

/// Random weights of He's variance (He et al. 2015), in pairs, for `classes` outputs (the background
/// included): the published network with `channels` in its first layer for 64 there, and all others
/// in proportion.
///
/// # Errors
/// Where `channels` is odd or zero.
pub fn state(seed: u64, classes: usize, channels: usize) -> anyhow::Result<StateDict> {
    ensure!(
        channels > 0 && channels.is_multiple_of(2),
        "{channels} channels in the first layer: an even number is needed, weights come in pairs"
    );
    let narrow = |published: usize| published * channels / PUBLISHED;
    let dice = &mut Dice::new(seed, STREAM);
    let mut tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)> = BTreeMap::new();
    for (name, inputs, outputs, side) in LAYERS {
        let inputs = if inputs == 3 { 3 } else { narrow(inputs) };
        let gain = if inputs == 3 { FIRST_LAYER as f32 } else { 1.0 };
        add(
            &mut tensors,
            dice,
            name,
            [narrow(outputs), inputs, side, side],
            gain,
        );
    }
    let scale = vec![L2_SCALE; narrow(512)];
    tensors.insert("L2Norm.weight".to_owned(), (vec![scale.len()], scale));
    let maps = (family::VOC.prior_maps)();
    for (index, (source, map)) in SOURCES.into_iter().zip(&maps).enumerate() {
        let boxes = map.shapes.len();
        // The first source has been normalised to length 20; all heads start quiet.
        let gain = if index == 0 { 0.02 } else { 0.1 };
        for (head, each) in [("loc", 4), ("conf", classes)] {
            let name = format!("{head}.{index}");
            add(
                &mut tensors,
                dice,
                &name,
                [boxes * each, narrow(source), 3, 3],
                gain,
            );
        }
        // Nearly every prior is background: saying so at first spares the first hundred steps.
        let bias = &mut tensors
            .get_mut(&format!("conf.{index}.bias"))
            .context("just added")?
            .1;
        bias.iter_mut().step_by(classes).for_each(|b| *b = 3.0);
    }
    read(&tensors)
}

fn add(
    tensors: &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>,
    dice: &mut Dice,
    name: &str,
    shape: [usize; 4],
    gain: f32,
) {
    let values = mirrored(
        dice,
        shape,
        gain,
        name.starts_with("loc") || name.starts_with("conf"),
    );
    tensors.insert(format!("{name}.weight"), (shape.to_vec(), values));
    tensors.insert(
        format!("{name}.bias"),
        (vec![shape[0]], vec![0.0; shape[0]]),
    );
}

/// Weights that come in pairs, W and -W, so that what one `ReLU` drops its twin keeps and the
/// whole network begins as a linear one ("looks linear": Balduzzi et al. 2017, section 4). Without
/// normalisation or pretrained weights, fifteen layers of independent random weights make all
/// pictures look alike to the last of them.
fn mirrored(dice: &mut Dice, shape: [usize; 4], gain: f32, head: bool) -> Vec<f32> {
    let [outputs, inputs, height, width] = shape;
    let (area, colours) = (height * width, inputs == 3);
    let deviation = gain * (2.0 / (inputs * area) as f32).sqrt();
    let (out_twin, in_twin) = (
        if head { outputs } else { outputs / 2 },
        if colours { inputs } else { inputs / 2 },
    );
    let base: Vec<f32> = (0..out_twin * in_twin * area)
        .map(|_| dice.normal() * deviation)
        .collect();
    let mut values = Vec::with_capacity(outputs * inputs * area);
    for output in 0..outputs {
        for input in 0..inputs {
            let sign = if (output < out_twin) == (input < in_twin) {
                1.0
            } else {
                -1.0
            };
            let at = (output % out_twin * in_twin + input % in_twin) * area;
            values.extend(base[at..at + area].iter().map(|value| value * sign));
        }
    }
    values
}

/// A state dict in memory.
fn read(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> anyhow::Result<StateDict> {
    let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = tensors
        .iter()
        .map(|(name, (shape, values))| {
            (
                name,
                shape,
                values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            )
        })
        .collect();
    let views = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            Ok((
                name.as_str(),
                TensorView::new(Dtype::F32, (*shape).clone(), bytes)?,
            ))
        })
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    let file = safetensors::serialize(views, None).context("lay out the first weights")?;
    Ok(StateDict::from_bytes(file)?)
}

/// The nearest half-precision numbers, little-endian.
#[must_use]
pub fn halves(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|&value| f16::from_f32(value).to_le_bytes())
        .collect()
}
