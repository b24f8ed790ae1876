//! int8: the scale of each layer's activations and weights.
//!
//! Activations after a `ReLU` are u8 with zero at 0. Weights are i8, symmetric, with a scale for each output
//! channel. Activations are clipped at the value that gives the least mean square error on the sample pictures; the
//! scale follows from it.

use std::collections::BTreeMap;

use state_dict::quote;
use tch::{Kind, TchError, Tensor};

use super::inference::{Error, numbers, tensor};
use super::network::Network;
use super::onednn::Scale;
use super::preprocess::Input;

/// The key of the scales in a safetensors file's metadata: a JSON object of layer names and numbers.
pub const METADATA: &str = "int8-scales";
/// Levels of a u8.
const LEVELS: f64 = 255.0;
/// Bins of a histogram, from zero to the largest value.
const BINS: usize = 2048;

/// The scale of each layer's activations, by the layer's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales(BTreeMap<String, f64>);

impl Scales {
    /// The scales of a network from a file's metadata; `None` if there are none.
    ///
    /// # Errors
    /// If they do not fit the network.
    pub fn from_metadata(
        metadata: &BTreeMap<String, String>,
        network: &Network,
    ) -> Result<Option<Self>, String> {
        let Some(text) = metadata.get(METADATA) else {
            return Ok(None);
        };
        serde_json::from_str(text)
            .map(Self)
            .map_err(|error| format!("is not a JSON object of layers and numbers: {error}"))
            .and_then(|scales| scales.check(network).map(|()| Some(scales)))
            .map_err(|problem| {
                format!("{problem}; run `ssd calibrate` to measure the scales again")
            })
    }

    /// The scales as a file's metadata.
    #[must_use]
    pub fn to_metadata(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// Checks that the scales are positive, and belong to exactly the hidden layers of a network.
    ///
    /// # Errors
    /// What is wrong, with the layers.
    pub(super) fn check(&self, network: &Network) -> Result<(), String> {
        let usable = |scale: f64| scale > 0.0 && (scale as f32).is_normal();
        if let Some((name, scale)) = self.0.iter().find(|(_, scale)| !usable(**scale)) {
            return Err(format!(
                "has the scale {scale:?} for layer {}; a scale must be a positive number in single precision",
                quote(name)
            ));
        }
        let layers: Vec<&str> = network.hidden_layers().collect();
        let missing: Vec<String> = layers
            .iter()
            .filter(|layer| !self.0.contains_key(**layer))
            .map(|layer| quote(layer))
            .collect();
        if !missing.is_empty() {
            return Err(format!("has no scale for layer {}", missing.join(", ")));
        }
        match self.0.keys().find(|name| !layers.contains(&name.as_str())) {
            Some(name) => Err(format!(
                "has a scale for {}, which is not a hidden layer of this network",
                quote(name)
            )),
            None => Ok(()),
        }
    }

    /// The scale of a layer's activations. The scales must have passed [`check`](Self::check).
    pub(super) fn of(&self, layer: &str) -> Scale {
        Scale {
            scale: self.0[layer],
            zero_point: 0,
        }
    }
}

/// A weight in int8, and the scale of each output channel. `most` is the largest number in the weight: 127, or 63
/// if two products are summed in 16 bits.
pub(super) fn weight(weight: &Tensor, most: i64) -> Result<(Tensor, Tensor), TchError> {
    let largest = weight
        .f_abs()?
        .f_amax([1i64, 2, 3].as_slice(), true)?
        .f_clamp_min(f64::from(f32::MIN_POSITIVE) * most as f64)?;
    let scales = largest.f_div_scalar(most as f64)?;
    let numbers = weight.f_div(&scales)?.f_round()?.f_to_kind(Kind::Int8)?;
    Ok((numbers, scales.f_reshape([-1])?))
}

/// The scale of values from `low`, which is negative, to `high`, which is positive.
pub(super) fn around_zero(low: f32, high: f32) -> Scale {
    let scale = (f64::from(high) - f64::from(low)) / LEVELS;
    Scale {
        scale,
        zero_point: (-f64::from(low) / scale).round() as i64,
    }
}

/// Measures the scales of a network's activations on several inputs. Runs each input twice, and calls `progress`
/// after every run.
///
/// # Errors
/// If the network has no int8 form, activations are not finite, or libtorch fails.
pub fn calibrate(
    network: &Network,
    inputs: &[Input],
    mut progress: impl FnMut(),
) -> Result<Scales, Error> {
    network.check_int8()?;
    let mut histograms: BTreeMap<String, Histogram> = BTreeMap::new();
    for add in [Histogram::measure, Histogram::count] {
        for input in inputs {
            tch::no_grad(|| {
                network.run(&tensor(&[input])?, |layer, output| {
                    let histogram = histograms.entry(layer.to_owned()).or_default();
                    add(histogram, &numbers(output)?);
                    Ok(())
                })
            })?;
            progress();
        }
    }
    let scales = histograms
        .into_iter()
        .map(|(layer, histogram)| match histogram.scale() {
            Some(scale) => Ok((layer, scale)),
            None => Err(Error::NotFinite { layer }),
        });
    scales.collect::<Result<_, _>>().map(Scales)
}

/// The values of a layer's activations over all inputs.
#[derive(Debug, Default)]
struct Histogram {
    largest: f32,
    /// From zero to the largest value. Zeros do not count, since they are exact with any scale.
    bins: Vec<u64>,
}

impl Histogram {
    /// Ignores signs: only a normalisation with a negative factor gives negative values. `f32::max` would skip a
    /// NaN.
    fn measure(&mut self, values: &[f32]) {
        for value in values.iter().map(|value| value.abs()) {
            if value > self.largest || value.is_nan() {
                self.largest = value;
            }
        }
    }

    fn count(&mut self, values: &[f32]) {
        self.bins.resize(BINS, 0);
        let per_unit = BINS as f32 / self.largest;
        for value in values.iter().filter(|value| **value != 0.0) {
            self.bins[((value.abs() * per_unit) as usize).min(BINS - 1)] += 1;
        }
    }

    /// `None` if a value was not finite.
    fn scale(&self) -> Option<f64> {
        if !self.largest.is_finite() {
            return None;
        }
        let scale = if self.largest > 0.0 {
            clip_at(&self.bins, f64::from(self.largest) / BINS as f64) / LEVELS
        } else {
            // Any scale suits activations that are always zero.
            1.0
        };
        Some(scale.max(f64::from(f32::MIN_POSITIVE)))
    }
}

/// The value at which to clip a histogram with bins of width `width`, so that the square error with [`LEVELS`]
/// levels is the least.
fn clip_at(histogram: &[u64], width: f64) -> f64 {
    // Within a step, errors are distributed evenly. Beyond the clipping value, the error is the distance to it.
    let error = |bins: usize| {
        let step = bins as f64 * width / LEVELS;
        let beyond = histogram[bins..].iter().enumerate().map(|(past, &count)| {
            let distance = (past as f64 + 0.5) * width;
            count as f64 * distance * distance
        });
        let within: u64 = histogram[..bins].iter().sum();
        within as f64 * step * step / 12.0 + beyond.sum::<f64>()
    };
    let best = (LEVELS as usize / 2..=histogram.len())
        .map(|bins| (bins, error(bins)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(1.0, |(bins, _)| bins as f64 * width)
}

#[cfg(test)]
mod tests {
    use super::super::kernels;
    use super::*;

    #[test]
    fn a_few_outliers_are_clipped_and_common_values_are_not() {
        let mut histogram = vec![100_000; BINS / 4];
        histogram.resize(BINS, 0);
        histogram[BINS - 1] = 1;
        let cut = clip_at(&histogram, 1.0);
        assert!((500.0..700.0).contains(&cut), "{cut}");
        // Many values of that size are kept.
        histogram[BINS - 1] = 10_000_000;
        assert!(clip_at(&histogram, 1.0) > 2000.0);
    }

    #[test]
    fn values_of_both_signs_count_and_a_nan_leaves_no_scale() {
        let mut seen = Histogram::default();
        seen.measure(&[-3.0, 2.0]);
        seen.count(&[-3.0, 2.0, 0.0]);
        assert_eq!((seen.largest, seen.bins.iter().sum()), (3.0, 2));
        assert!(seen.scale().is_some());
        seen.measure(&[f32::NAN, 1.0]);
        assert_eq!(seen.scale(), None);
    }

    #[test]
    fn weights_come_back_within_half_a_step_of_their_channel() {
        let original = Tensor::from_slice(&[1.0f32, -0.3, 0.02, 0.0, 100.0, -50.0, 0.0, 0.4])
            .view([2, 4, 1, 1]);
        for most in [63, 127] {
            let (numbers, scales) = weight(&original, most).unwrap();
            let back = numbers.to_kind(Kind::Float) * scales.view([2, 1, 1, 1]);
            let error = (back - &original).abs() / scales.view([2, 1, 1, 1]);
            assert!(error.max().double_value(&[]) <= 0.5 + 1e-4);
            assert_eq!(numbers.abs().max().int64_value(&[]), most);
        }
    }

    #[test]
    fn values_on_both_sides_of_zero_use_all_levels() {
        let scale = around_zero(-123.0, 151.0);
        let map = Tensor::from_slice(&[-123.0f32, 0.0, 151.0]).view([1, 3, 1, 1]);
        let ends = kernels::to_bytes(&map, (1.0 / scale.scale) as f32, scale.zero_point as f32)
            .unwrap()
            .view([3]);
        let zero = u8::try_from(scale.zero_point).unwrap();
        assert_eq!(Vec::<u8>::try_from(ends).unwrap(), [0, zero, 255]);
    }
}
