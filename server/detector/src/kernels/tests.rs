use std::fmt;

use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use tch::Kind;

use super::numbers::Bf16;
use super::vector::{Bf16Level, Level, pair};
use super::winograd::{MaxPool, Plan};
use super::*;
use crate::architecture::Pool;
use crate::network;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
/// With the largest error of an output: twice that of the worst of two thousand random layers. Most comes from the
/// transforms, so it does not grow with the number of inputs.
const TILES: [(Tile, f64); 2] = [(Tile::F4, 2.5e-5), (Tile::F6, 9e-5)];
const TRANSFORMS: [Transforms; 2] = [Transforms::Once, Transforms::EachTime];
const ACTIVATIONS: [Activation; 5] = [
    Activation::Linear,
    Activation::Relu,
    Activation::Relu6,
    Activation::HardSigmoid,
    Activation::HardSwish,
];

/// Sides and channels are smaller than these.
const SIDE: usize = 20;
const CHANNELS: usize = 36;

/// Of libtorch, for this test's thread.
fn use_threads(count: i32) -> Threads {
    tch::set_num_threads(count);
    Threads::Own
}

/// The levels of this processor.
fn levels() -> Vec<Level> {
    let mut levels = vec![Level::Portable];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            levels.push(Level::Avx2);
        }
        if is_x86_feature_detected!("avx512f") {
            levels.push(Level::Avx512);
        }
    }
    #[cfg(target_arch = "aarch64")]
    levels.push(Level::Neon);
    levels
}

/// The levels of products: with that of bfloat16, if this processor has one.
fn product_levels() -> Vec<(Level, Option<Bf16Level>)> {
    let mut levels: Vec<_> = levels().into_iter().map(|level| (level, None)).collect();
    let bf16 = Bf16Level::of_this_machine();
    levels.extend(bf16.map(|level| (Level::of_this_machine(), Some(level))));
    levels
}

/// Rounds numbers to bfloat16.
fn round(numbers: &mut [f32]) {
    for number in numbers {
        *number = Bf16::from_f32(*number).to_f32();
    }
}

/// Numbers from -1 to 1: the middle square sequence with a Weyl sequence.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let (mut x, mut weyl) = (seed, seed);
    let mut next = || {
        weyl = weyl.wrapping_add(0xb5ad_4ece_da1c_e2a9);
        x = x.wrapping_mul(x).wrapping_add(weyl).rotate_left(32);
        (x as u32 >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count + 2).map(|_| next()).skip(2).collect()
}

/// A window of 3 x 3 with a pixel of padding on each side.
const CENTRED: Window = Window {
    kernel: 3,
    stride: 1,
    dilation: 1,
    before: 1,
    after: 1,
};

/// A layer's numbers.
#[derive(Clone)]
struct Layer {
    shape: Shape,
    window: Window,
    inputs: usize,
    input: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    other: Option<Vec<f32>>,
    activation: Activation,
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            shape,
            window,
            inputs,
            bias,
            activation,
            other,
            ..
        } = self;
        write!(
            f,
            "{inputs} > {}, {shape:?}, {window:?}, {activation:?}, adds {}",
            bias.len(),
            other.is_some()
        )
    }
}

fn maps_of<'a>(
    input: &'a [f32],
    shape: Shape,
    output: &'a mut [f32],
    other: Option<&'a [f32]>,
) -> Maps<'a> {
    Maps {
        input,
        shape,
        output,
        other,
    }
}

impl Layer {
    /// With weights so that outputs are about as large as inputs.
    fn new(
        shape: Shape,
        (inputs, outputs): (usize, usize),
        window: Window,
        activation: Activation,
    ) -> Self {
        let weights = inputs * window.kernel * window.kernel;
        let scale = 3.0 / (weights as f32).sqrt();
        Self {
            shape,
            window,
            inputs,
            input: numbers(1, shape.pixels() * inputs),
            weights: numbers(2, outputs * weights)
                .iter()
                .map(|w| w * scale)
                .collect(),
            bias: numbers(3, outputs),
            other: None,
            activation,
        }
    }

    fn output(&self) -> Vec<f32> {
        vec![f32::NAN; self.window.after(self.shape).pixels() * self.bias.len()]
    }

    /// The output number `index` in double precision, without an activation.
    fn sum(&self, index: usize) -> f64 {
        let (after, kernel) = (self.window.after(self.shape), self.window.kernel);
        let (pixel, output) = (index / self.bias.len(), index % self.bias.len());
        let (map, y, x) = (
            pixel / (after.height * after.width),
            pixel / after.width % after.height,
            pixel % after.width,
        );
        // The kernel's row or column, in the feature map.
        let at = |output: usize, tap: usize, side: usize| {
            let padded = output * self.window.stride + tap * self.window.dilation;
            let place = padded.checked_sub(self.window.before)?;
            (place < side).then_some(place)
        };
        let mut sum = f64::from(self.bias[output]);
        for tap in 0..kernel * kernel {
            let row = at(y, tap / kernel, self.shape.height);
            if let (Some(y), Some(x)) = (row, at(x, tap % kernel, self.shape.width)) {
                let pixel = (map * self.shape.height + y) * self.shape.width + x;
                for input in 0..self.inputs {
                    let weight = (output * self.inputs + input) * kernel * kernel + tap;
                    sum += f64::from(self.input[pixel * self.inputs + input])
                        * f64::from(self.weights[weight]);
                }
            }
        }
        sum
    }

    fn expected(&self, index: usize) -> f64 {
        let sum = self.sum(index);
        let active = match self.activation {
            Activation::Linear => sum,
            Activation::Relu => sum.max(0.0),
            Activation::Relu6 => sum.clamp(0.0, 6.0),
            Activation::HardSigmoid => (sum + 3.0).clamp(0.0, 6.0) / 6.0,
            Activation::HardSwish => sum * (sum + 3.0).clamp(0.0, 6.0) / 6.0,
        };
        active
            + self
                .other
                .as_ref()
                .map_or(0.0, |other| f64::from(other[index]))
    }

    /// To write `output`.
    fn maps<'a>(&'a self, output: &'a mut [f32]) -> Maps<'a> {
        maps_of(&self.input, self.shape, output, self.other.as_deref())
    }

    fn winograd(&self, level: Level, how: (Tile, Transforms)) -> Winograd {
        Winograd::new(
            level,
            &self.weights,
            self.inputs,
            &self.bias,
            how,
            self.activation,
        )
    }

    /// The error of a sum of products in single precision, and of its activation, whose slope is at most 1.5. It
    /// grows with the root of the number of roundings (Higham & Mary, "A new approach to probabilistic rounding error
    /// analysis", 2019). Half of their bound: the worst of 170,000 random layers had a quarter of it. Inputs and the
    /// other map are at most 1.
    fn error_bound(&self) -> f64 {
        let products = self.weights.len() / self.bias.len();
        let largest = self
            .weights
            .chunks(products)
            .map(|weights| weights.iter().map(|w| f64::from(w.abs())).sum())
            .fold(0.0, f64::max);
        // The bias, the other map, and hard swish's two products, sum and constant 3.
        let (roundings, terms) = (products as f64 + 5.0, largest + 1.0 + 1.0 + 3.0);
        0.5 * 1.5 * roundings.sqrt() * 2.0_f64.powi(-24) * terms
    }

    fn check(&self, output: &[f32], tolerance: f64) -> TestCaseResult {
        for (index, output) in output.iter().enumerate() {
            let expected = self.expected(index);
            prop_assert!(
                (f64::from(*output) - expected).abs() <= tolerance,
                "number {index} is {output} rather than {expected}"
            );
        }
        Ok(())
    }
}

/// Windows that are not larger than a feature map of one pixel with its zeros.
fn windows(kernels: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Window> {
    let zeros = (0..3_usize, 0..3_usize);
    (kernels, 1..4_usize, 1..4_usize, zeros).prop_map(
        |(kernel, stride, dilation, (before, more))| {
            let extent = dilation * (kernel - 1);
            Window {
                kernel,
                stride,
                dilation,
                before,
                after: extent.saturating_sub(before) + more,
            }
        },
    )
}

prop_compose! {
    fn layers(windows: impl Strategy<Value = Window>)(
        window in windows,
        maps in 1..3_usize,
        height in 1..SIDE,
        width in 1..SIDE,
        inputs in 1..CHANNELS,
        outputs in 1..CHANNELS,
        activation in prop::sample::select(&ACTIVATIONS[..]),
        adds: bool,
    ) -> Layer {
        let mut layer = Layer::new(Shape { maps, height, width }, (inputs, outputs), window, activation);
        layer.other = adds.then(|| numbers(4, layer.output().len()));
        layer
    }
}

prop_compose! {
    fn plans()(
        rows in 1..4_usize,
        columns in 1..5_usize,
        together: bool,
    ) -> Plan {
        Plan { rows, columns, together }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn winograds_convolution_is_the_direct_one(
        layer in layers(Just(CENTRED)),
        threads in 1..4,
        plan in plans(),
        transforms in prop::sample::select(&TRANSFORMS[..]),
    ) {
        let threads = use_threads(threads);
        for level in levels() {
            for (tile, bound) in TILES {
                let winograd = layer.winograd(level, (tile, transforms));
                let mut output = layer.output();
                winograd.convolve(layer.maps(&mut output), MaxPool::Of1, threads);
                layer.check(&output, bound)?;
                let mut again = layer.output();
                winograd.convolve_by(plan, layer.maps(&mut again), MaxPool::Of1, threads);
                prop_assert_eq!(output, again, "however the work is divided");
            }
        }
    }

    #[test]
    fn a_max_pool_with_winograds_convolution_is_the_one_after_it(
        mut layer in layers(Just(CENTRED)),
        wrong in prop::option::of((0..SIDE * SIDE, prop::sample::select(&[f32::NAN, f32::INFINITY][..]))),
        threads in 1..4,
        plan in plans(),
        transforms in prop::sample::select(&TRANSFORMS[..]),
    ) {
        let threads = use_threads(threads);
        let Shape { maps, height, width } = layer.shape;
        layer.other = None;
        if let Some((at, wrong)) = wrong {
            let at = at % layer.input.len();
            layer.input[at] = wrong;
        }
        let outputs = layer.bias.len();
        let pool = Pool { window: 2, stride: 2, padding: 0, ceil: true };
        for level in levels() {
            for (tile, _) in TILES {
                let winograd = layer.winograd(level, (tile, transforms));
                let mut output = layer.output();
                winograd.convolve(layer.maps(&mut output), MaxPool::Of1, threads);
                let size = [maps, height, width, outputs].map(|side| side as i64);
                let map = Tensor::from_slice(&output).view(size).permute([0, 3, 1, 2]);
                let expected = network::max_pool(&map, pool).unwrap().permute([0, 2, 3, 1]).contiguous();
                let mut pooled = vec![0.0; expected.numel()];
                winograd.convolve_by(plan, layer.maps(&mut pooled), MaxPool::Of2, threads);
                let bits = |numbers: &[f32]| -> Vec<_> {
                    // NaN of any payload, and 0 of either sign.
                    numbers.iter().map(|n| if n.is_nan() { f32::NAN.to_bits() } else { (n + 0.0).to_bits() }).collect()
                };
                prop_assert_eq!(bits(&pooled), bits(slice(&expected)));
            }
        }
    }

    #[test]
    fn sums_of_products_are_a_convolution(
        mut layer in prop_oneof![layers(windows(1..=1)), layers(windows(2..=4)), layers(Just(CENTRED))],
        threads in 1..4,
    ) {
        let threads = use_threads(threads);
        for level in product_levels() {
            if level.1.is_some() {
                // The last level. Products of numbers in bfloat16 are exact in single precision.
                round(&mut layer.input);
                round(&mut layer.weights);
            }
            let Layer { ref weights, inputs, ref bias, window, activation, .. } = layer;
            let direct = Direct::new(level, weights, inputs, bias, window, activation);
            let mut output = layer.output();
            direct.convolve(layer.maps(&mut output), threads);
            layer.check(&output, layer.error_bound())?;
        }
    }

    #[test]
    fn a_depthwise_convolution_is_one_of_each_channel(
        (maps, height, width) in (1..3_usize, 1..SIDE, 1..SIDE),
        channels in 1..CHANNELS,
        (kernel, stride) in (prop::sample::select(&[3_usize, 5][..]), 1..3_usize),
        (before, after) in (0..3_usize, 2..5_usize),
        activation in prop::sample::select(&ACTIVATIONS[..]),
        adds: bool,
        threads in 1..4,
    ) {
        let shape = Shape { maps, height, width };
        let window = Window { kernel, stride, before, after: after + 2 - before, ..CENTRED };
        let (input, bias) = (numbers(1, shape.pixels() * channels), numbers(2, channels));
        let taps = kernel * kernel;
        let weights = numbers(3, channels * taps);
        for level in levels() {
            let depthwise = Depthwise::new(level, &weights, &bias, window, activation);
            let mut output = vec![f32::NAN; window.after(shape).pixels() * channels];
            let other = adds.then(|| numbers(4, output.len()));
            depthwise.convolve(maps_of(&input, shape, &mut output, other.as_deref()), use_threads(threads));
            let of = |numbers: &[f32], channel| -> Vec<f32> {
                numbers.iter().skip(channel).step_by(channels).copied().collect()
            };
            for channel in 0..channels {
                let alone = Layer {
                    input: of(&input, channel),
                    weights: weights[channel * taps..][..taps].to_vec(),
                    bias: vec![bias[channel]],
                    other: other.as_ref().map(|other| of(other, channel)),
                    ..Layer::new(shape, (1, 1), window, activation)
                };
                alone.check(&of(&output, channel), alone.error_bound())?;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bottleneck_is_its_three_convolutions(
        first in layers(prop_oneof![
            Just(CENTRED),
            windows(1..=3).prop_map(|window| Window { dilation: 1, ..window }),
        ]),
        (stride, before) in (1..3_usize, 0..2_usize),
        outputs in 1..CHANNELS,
        adds: bool,
        threads in 1..4,
    ) {
        let threads = use_threads(threads);
        let channels = first.bias.len();
        let window = Window { stride, before, ..CENTRED };
        let point = Window { kernel: 1, before: 0, after: 0, ..CENTRED };
        let between = first.window.after(first.shape);
        prop_assume!(between.height + before >= 2 && between.width + before >= 2);
        let after = window.after(between);
        let (taps, weights) = (numbers(5, channels * 9), numbers(6, outputs * channels));
        let other = adds.then(|| numbers(7, after.pixels() * outputs));
        for level in product_levels() {
            let (bias, other) = (numbers(8, outputs), other.as_deref());
            let (one, two, three) = (
                Direct::new(
                    level, &first.weights, first.inputs, &first.bias, first.window, first.activation,
                ),
                Depthwise::new(level.0, &taps, &first.bias, window, Activation::Relu6),
                Direct::new(level, &weights, channels, &bias, point, Activation::Linear),
            );
            let mut expanded = vec![f32::NAN; between.pixels() * channels];
            one.convolve(maps_of(&first.input, first.shape, &mut expanded, None), threads);
            let mut convolved = vec![f32::NAN; after.pixels() * channels];
            two.convolve(maps_of(&expanded, between, &mut convolved, None), threads);
            let mut expected = vec![f32::NAN; after.pixels() * outputs];
            three.convolve(maps_of(&convolved, after, &mut expected, other), threads);
            let bottleneck = Bottleneck {
                first: Arc::new(one),
                depthwise: Arc::new(two),
                last: Arc::new(three),
            };
            let mut output = vec![f32::NAN; expected.len()];
            bottleneck.convolve(maps_of(&first.input, first.shape, &mut output, other), threads);
            prop_assert_eq!(&output, &expected);
        }
    }
}

#[test]
fn pairs_are_of_the_nearest_numbers_in_bfloat16() {
    let Some(level) = Bf16Level::of_this_machine() else {
        return;
    };
    for count in (0..200).step_by(2) {
        let mut all = numbers(count, count as usize);
        // One between two numbers in bfloat16, the largest number, and infinity.
        let special = [f32::from_bits(0x3f80_8000), f32::MAX, f32::NEG_INFINITY];
        for (number, special) in all.iter_mut().skip(1).step_by(7).zip(special) {
            *number = special;
        }
        let mut found = vec![0.0; all.len() / 2];
        level.round(&all, &mut found);
        let expected = all.as_chunks().0.iter().map(|numbers| pair(*numbers));
        let bits = |pairs: Vec<f32>| pairs.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(found), bits(expected.collect()), "{count}");
    }
    let mut found = [0.0; 16];
    level.round(&[f32::NAN; 32], &mut found);
    let halves = found.map(|pair| [pair.to_bits() << 16, pair.to_bits() & 0xffff_0000]);
    assert!(
        halves
            .as_flattened()
            .iter()
            .all(|half| f32::from_bits(*half).is_nan())
    );
}

#[test]
fn nan_and_infinity_reach_the_outputs_that_they_are_a_part_of() {
    let shape = Shape {
        maps: 1,
        height: 14,
        width: 14,
    };
    for activation in ACTIVATIONS {
        for wrong in [f32::NAN, f32::INFINITY] {
            let mut layer = Layer::new(shape, (4, 4), CENTRED, activation);
            layer.input[(7 * 14 + 7) * 4] = wrong;
            for (level, tile) in levels()
                .into_iter()
                .flat_map(|level| TILES.map(|(tile, _)| (level, tile)))
            {
                let mut output = layer.output();
                let winograd = layer.winograd(level, (tile, Transforms::EachTime));
                winograd.convolve(layer.maps(&mut output), MaxPool::Of1, use_threads(1));
                for index in 0..output.len() {
                    let sum = layer.sum(index);
                    if sum.is_nan() {
                        assert!(
                            output[index].is_nan(),
                            "{level:?} {tile:?} {activation:?} {index}"
                        );
                    }
                }
                let far = &output[..4];
                assert!(
                    far.iter().all(|number| number.is_finite()),
                    "a tile that has only numbers"
                );
            }
        }
    }
}

#[test]
fn several_callers_share_threads() {
    let layer = Layer::new(
        Shape {
            maps: 1,
            height: SIDE,
            width: SIDE,
        },
        (8, 8),
        CENTRED,
        Activation::Relu,
    );
    let (tile, bound) = TILES[0];
    let how = (tile, Transforms::EachTime);
    let winograd = layer.winograd(Level::of_this_machine(), how);
    let threads = use_threads(2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut output = layer.output();
                    winograd.convolve(layer.maps(&mut output), MaxPool::Of1, threads);
                    layer.check(&output, bound).unwrap();
                }
            });
        }
    });
}

/// SSD300's layers: input channels, output channels, side.
const SSD300: [(usize, usize, usize); 8] = [
    (64, 64, 300),
    (64, 128, 150),
    (128, 128, 150),
    (128, 256, 75),
    (256, 256, 75),
    (256, 512, 38),
    (512, 512, 38),
    (512, 512, 19),
];

#[test]
fn errors_are_small_in_the_layers_of_ssd300() {
    for (inputs, outputs, side) in SSD300 {
        let shape = Shape {
            maps: 1,
            height: side,
            width: side,
        };
        let mut layer = Layer::new(shape, (inputs, outputs), CENTRED, Activation::Relu);
        // Activations after a ReLU.
        for number in &mut layer.input {
            *number = number.max(0.0);
        }
        let (tile, bound) = match side {
            75.. => (Tile::F6, 6e-5),
            _ => (Tile::F4, 2e-5),
        };
        let mut output = layer.output();
        let some: Vec<usize> = (0..output.len()).step_by(output.len() / 3001).collect();
        let expected: Vec<f64> = some.iter().map(|&index| layer.expected(index)).collect();
        let square: f64 = expected.iter().map(|number| number * number).sum();
        let scale = (square / expected.len() as f64).sqrt();
        for transforms in TRANSFORMS {
            let winograd = layer.winograd(Level::of_this_machine(), (tile, transforms));
            winograd.convolve(layer.maps(&mut output), MaxPool::Of1, use_threads(2));
            let errors = some
                .iter()
                .zip(&expected)
                .map(|(&index, expected)| (f64::from(output[index]) - expected).abs());
            let greatest = errors.fold(0.0, f64::max) / scale;
            assert!(
                greatest < bound,
                "{inputs} > {outputs}, {side}, {transforms:?}: {greatest}"
            );
        }
    }
}

#[test]
fn max_pools_are_libtorchs_in_every_kind() {
    let pools = [(2, 2, 0, false), (2, 2, 0, true), (3, 1, 1, false)];
    for side in [1, 2, 5, 19, 38, 75] {
        for (window, stride, padding, ceil) in pools {
            let pool = Pool {
                window,
                stride,
                padding,
                ceil,
            };
            if side + 2 * padding < window {
                continue;
            }
            let values = Tensor::randint_low(-128, 128, [2, 5, side, side], CPU);
            let _ = values.get(1).get(0).get(0).get(0).fill_(f64::NAN);
            for kind in [Kind::Float, Kind::BFloat16, Kind::Uint8] {
                let map = match kind {
                    Kind::Uint8 => (values.nan_to_num(0.0, None, None) + 128).to_kind(kind),
                    _ => values.to_kind(kind),
                };
                let expected = network::max_pool(&map.to_kind(Kind::Float), pool).unwrap();
                let found = max_pool(&map, pool, Threads::Libtorch).unwrap();
                assert_eq!((found.kind(), found.size()), (kind, expected.size()));
                let equal = found
                    .to_kind(Kind::Float)
                    .isclose(&expected, 0.0, 0.0, true);
                assert!(
                    bool::try_from(equal.all()).unwrap(),
                    "{kind:?}, {side}, {pool:?}"
                );
            }
        }
    }
}

#[test]
fn norms_are_the_reference_codes_in_every_kind() {
    let (map, factors) = (
        Tensor::rand([2, 37, 9, 7], CPU) * 50,
        Tensor::randn([37], CPU) * 20,
    );
    let norm = |map: &Tensor| network::l2_norm(&map.to_kind(Kind::Float), &factors).unwrap();
    let distance = |found: &Tensor, expected: &Tensor| {
        (found.to_kind(Kind::Float) - expected)
            .abs()
            .max()
            .double_value(&[])
    };
    let found = l2_norm(&map, &factors, None, Threads::Own).unwrap();
    assert!(bool::try_from(found.isclose(&norm(&map), 1e-5, 1e-6, false).all()).unwrap());
    let bf16 = map.to_kind(Kind::BFloat16);
    let found = l2_norm(&bf16, &factors, None, Threads::Libtorch).unwrap();
    assert_eq!(found.kind(), Kind::BFloat16);
    let expected = norm(&bf16).to_kind(Kind::BFloat16);
    assert!(distance(&found, &expected.to_kind(Kind::Float)) <= 0.0625);
    let bytes = map.to_kind(Kind::Uint8);
    let found = l2_norm(&bytes, &factors, Some(0.125), Threads::Libtorch).unwrap();
    assert_eq!(found.kind(), Kind::Uint8);
    let scaled = (norm(&bytes).abs() / 0.125).round().clamp(0.0, 255.0);
    assert!(distance(&found, &scaled) <= 1.0);
}

#[test]
fn exponentials_are_those_of_double_precision() {
    let mut numbers: Vec<f32> = (-87_000..=88_000).map(|n| n as f32 / 1000.0).collect();
    let expected: Vec<f64> = numbers.iter().map(|n| f64::from(*n).exp()).collect();
    exponentials(&mut numbers);
    for (found, expected) in numbers.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs() / expected;
        assert!(error < 2e-7, "{found}, {expected}");
    }
    let mut others = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0];
    exponentials(&mut others);
    assert!(others[0].is_nan());
    assert!(others[1] < 2e-38 && others[2] > 1e38);
    assert_eq!(others[3].to_bits(), 1.0_f32.to_bits());
}

#[test]
fn bytes_are_the_nearest_whole_numbers() {
    let numbers = [-1e9, -1.25, -1.0, 0.24, 0.25, 0.75, 1.25, 1e9].map(|number: f32| number);
    let map = Tensor::from_slice(&numbers).view([1, 2, 2, 2]);
    let bytes = to_bytes(&map, 2.0, 2.0).unwrap().contiguous();
    assert_eq!(slice::<u8>(&bytes), [0, 0, 0, 2, 2, 4, 4, 255]);
}

#[test]
fn squeeze_and_excitation_equals_libtorchs() {
    let map = Tensor::randn([2, 70, 5, 7], CPU);
    let map = network::channels_last(&map);
    use_threads(2);
    let found = means(&map, Threads::Own).unwrap();
    let apart = (&found - network::mean(&map).unwrap()).abs().max();
    assert!(apart.double_value(&[]) < 1e-6);
    let scaled = scale(&map, &found, Threads::Own).unwrap();
    assert_eq!(scaled, &map * &found);
}
