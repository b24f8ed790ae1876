//! Eight bits: what scale each map and each weight gets.
//!
//! Maps after a `ReLU` are u8 with zero at 0; weights are i8, symmetric, with a scale for each output
//! channel. A map's scale is chosen on sample pictures: of all the values at which it could be cut
//! off, the one with the least mean square error over what was seen there.

use std::collections::BTreeMap;

use tch::{Kind, TchError, Tensor};

use super::inference::{numbers, tensor};
use super::network::Network;
use super::onednn::Scale;
use super::preprocess::Input;

/// Where a safetensors file keeps the scales: a JSON object of layers' names and numbers.
pub const METADATA: &str = "int8-scales";
/// Levels of a u8.
const LEVELS: f64 = 255.0;
/// Bins of a histogram between zero and the largest value seen.
const BINS: usize = 2048;

/// The scale of each map, by the name of the layer that puts it out.
#[derive(Debug, Clone, PartialEq)]
pub struct Scales(BTreeMap<String, f64>);

impl Scales {
    /// From a file's metadata: `None` where there is none.
    ///
    /// # Errors
    /// Where it is not what [`to_metadata`](Self::to_metadata) writes.
    #[must_use]
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Result<Self, String>> {
        let text = metadata.get(METADATA)?;
        let scales: Result<BTreeMap<String, f64>, _> = serde_json::from_str(text);
        Some(match scales {
            Ok(scales)
                if scales
                    .values()
                    .all(|scale| (*scale as f32).is_normal() && *scale > 0.0) =>
            {
                Ok(Self(scales))
            }
            Ok(_) => Err(format!(
                "`{METADATA}` has a scale that is not a number above zero in single precision"
            )),
            Err(error) => Err(format!(
                "`{METADATA}` is no JSON object of layers and numbers: {error}"
            )),
        })
    }

    /// As a file's metadata.
    #[must_use]
    pub fn to_metadata(&self) -> String {
        let scales = self.0.iter();
        let scales: serde_json::Map<_, _> = scales
            .map(|(layer, scale)| (layer.clone(), (*scale).into()))
            .collect();
        serde_json::Value::Object(scales).to_string()
    }

    /// The scale of a layer's map.
    pub(super) fn of(&self, layer: &str) -> Result<Scale, TchError> {
        match self.0.get(layer) {
            Some(&scale) => Ok(Scale {
                scale,
                zero_point: 0,
            }),
            None => Err(TchError::Torch(format!(
                "{METADATA} has no scale for layer {layer}: calibrate the weights again"
            ))),
        }
    }
}

/// A weight in eight bits: the numbers, and the scale of each output channel. `most` is the largest
/// number that is used: 127, or 63 where two products are summed in 16 bits.
pub(super) fn weight(weight: &Tensor, most: i64) -> Result<(Tensor, Tensor), TchError> {
    let largest = weight
        .f_abs()?
        .f_amax([1i64, 2, 3].as_slice(), true)?
        .f_clamp_min(f64::from(f32::MIN_POSITIVE) * most as f64)?;
    let scales = largest.f_div_scalar(most as f64)?;
    let numbers = weight.f_div(&scales)?.f_round()?.f_to_kind(Kind::Int8)?;
    Ok((numbers, scales.f_reshape([-1])?))
}

/// Numbers in eight bits, unsigned.
pub(super) fn map(x: &Tensor, scale: Scale) -> Result<Tensor, TchError> {
    x.f_mul_scalar(1.0 / scale.scale)?
        .f_add_scalar_(scale.zero_point as f64)?
        .f_round_()?
        .f_clamp_(0.0, LEVELS)?
        .f_to_kind(Kind::Uint8)
}

/// The scale of numbers from `low` to `high`, both sides of zero.
pub(super) fn around_zero(low: f32, high: f32) -> Scale {
    let (low, high) = (f64::from(low), f64::from(high));
    let scale = (high - low) / LEVELS;
    Scale {
        scale,
        zero_point: (-low / scale).round() as i64,
    }
}

/// Chooses the scales of a network's maps on some inputs. Each is run twice; `progress` hears of every
/// run.
///
/// # Errors
/// Where libtorch fails, or a map is not finite.
pub fn calibrate(
    network: &Network,
    inputs: &[Input],
    mut progress: impl FnMut(),
) -> Result<Scales, TchError> {
    let mut all: BTreeMap<String, Seen> = BTreeMap::new();
    for see in [Seen::measure, Seen::count] {
        for input in inputs {
            tch::no_grad(|| {
                network.watch(tensor(&[input])?, |map, values| {
                    if let Some(name) = network.own_name(map) {
                        see(all.entry(name.to_owned()).or_default(), &numbers(values)?);
                    }
                    Ok(())
                })
            })?;
            progress();
        }
    }
    let scale = |(name, seen): (String, Seen)| {
        if !seen.largest.is_finite() {
            return Err(TchError::Torch(format!(
                "what {name} puts out is not finite"
            )));
        }
        // Of a map that was zero throughout, any scale will do.
        let scale = match seen.largest > 0.0 {
            true => cut_off(&seen.histogram, f64::from(seen.largest) / BINS as f64) / LEVELS,
            false => 1.0,
        };
        Ok((name, scale.max(f64::from(f32::MIN_POSITIVE))))
    };
    Ok(Scales(
        all.into_iter().map(scale).collect::<Result<_, _>>()?,
    ))
}

/// What was seen of the values of a map, over all inputs.
#[derive(Debug, Default)]
struct Seen {
    largest: f32,
    /// Between zero and the largest; zeros, which are exact in any scale, not counted.
    histogram: Vec<u64>,
}

impl Seen {
    fn measure(&mut self, values: &[f32]) {
        // Below zero is only what a factor below zero has normalised. `max` would pass over a NaN.
        for value in values {
            let value = value.abs();
            if value > self.largest || value.is_nan() {
                self.largest = value;
            }
        }
    }

    fn count(&mut self, values: &[f32]) {
        self.histogram.resize(BINS, 0);
        let bins = BINS as f32 / self.largest;
        for value in values.iter().filter(|value| **value != 0.0) {
            self.histogram[((value.abs() * bins) as usize).min(BINS - 1)] += 1;
        }
    }
}

/// The value at which to cut a histogram off, whose bins are so wide, so that the square error of
/// [`LEVELS`] levels below it is the least.
fn cut_off(histogram: &[u64], width: f64) -> f64 {
    // Within a step the error is spread evenly; beyond the last one it is the distance.
    let error = |bins: usize| {
        let (top, step) = (bins as f64 * width, bins as f64 * width / LEVELS);
        let beyond = histogram[bins..].iter().enumerate().map(|(past, &count)| {
            let distance = (past as f64 + 0.5) * width;
            count as f64 * distance * distance
        });
        let within: u64 = histogram[..bins].iter().sum();
        debug_assert!(top > 0.0);
        within as f64 * step * step / 12.0 + beyond.sum::<f64>()
    };
    let best = (LEVELS as usize / 2..=histogram.len())
        .map(|bins| (bins, error(bins)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    best.map_or(1.0, |(bins, _)| bins as f64 * width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_outliers_are_cut_off_and_what_is_common_is_not() {
        let mut histogram = vec![100_000; BINS / 4];
        histogram.resize(BINS, 0);
        histogram[BINS - 1] = 1;
        let cut = cut_off(&histogram, 1.0);
        assert!((500.0..700.0).contains(&cut), "{cut}");
        // Where many are that large, they are kept.
        histogram[BINS - 1] = 10_000_000;
        assert!(cut_off(&histogram, 1.0) > 2000.0);
    }

    #[test]
    fn a_file_s_scales_are_numbers_above_zero_in_single_precision() {
        let read = |text: &str| {
            let metadata = BTreeMap::from([(METADATA.to_owned(), text.to_owned())]);
            Scales::from_metadata(&metadata).unwrap().is_ok()
        };
        assert!(read(r#"{"vgg.0": 0.5}"#));
        for scale in ["0", "-1", "1e-300", "1e-40", "1e300", "null", "[1]"] {
            assert!(!read(&format!(r#"{{"vgg.0": {scale}}}"#)), "{scale}");
        }
    }

    #[test]
    fn values_of_both_signs_are_seen_and_one_that_is_no_number_is_not_passed_over() {
        let mut seen = Seen::default();
        seen.measure(&[-3.0, 2.0]);
        seen.count(&[-3.0, 2.0, 0.0]);
        assert_eq!((seen.largest, seen.histogram.iter().sum()), (3.0, 2));
        seen.measure(&[f32::NAN, 1.0]);
        assert!(!seen.largest.is_finite());
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
    fn numbers_on_both_sides_of_zero_use_all_levels() {
        let scale = around_zero(-123.0, 151.0);
        let ends = map(&Tensor::from_slice(&[-123.0f32, 0.0, 151.0]), scale).unwrap();
        let ends = Vec::<u8>::try_from(ends).unwrap();
        assert_eq!((ends[0], ends[2]), (0, 255));
        assert!((f64::from(ends[1]) - scale.zero_point as f64).abs() < 1e-9);
    }
}
