//! Exponentials of many numbers. libm's function computes them one by one.

use std::f32::consts::LOG2_E;

use super::numbers::WHOLE;
use super::vector::{Level, Vector, Work};

/// Replaces numbers by their exponentials, with a relative error below 2e-7. Those of numbers below -87 and above 88 are
/// those of -87 and 88. NaN stays NaN.
pub(crate) fn exponentials(numbers: &mut [f32]) {
    Level::of_this_machine().run(Exponentials(numbers));
}

struct Exponentials<'a>(&'a mut [f32]);

impl Work for Exponentials<'_> {
    #[inline(always)]
    fn run<V: Vector<LANES>, const LANES: usize, const ROWS: usize>(self) {
        for number in self.0 {
            *number = exponential(*number);
        }
    }
}

/// `2^n * e^r`, where `n` is a whole number and `r` is at most half of ln 2 (Cody & Waite 1980).
#[inline(always)]
fn exponential(number: f32) -> f32 {
    const LEAST: f32 = -87.0;
    const GREATEST: f32 = 88.0;
    /// ln 2 in two parts. The first one has so few bits that its products with whole numbers are exact.
    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // Comparisons with NaN are false.
    let number = if number < LEAST { LEAST } else { number };
    let number = if number > GREATEST { GREATEST } else { number };
    let shifted = number * LOG2_E + WHOLE;
    let whole = shifted - WHOLE;
    let rest = number - whole * LN_2[0] - whole * LN_2[1];
    // Taylor's series.
    let mut sum = 1.0 / 5040.0;
    for factor in [
        1.0 / 720.0,
        1.0 / 120.0,
        1.0 / 24.0,
        1.0 / 6.0,
        0.5,
        1.0,
        1.0,
    ] {
        sum = sum * rest + factor;
    }
    let exponent = shifted.to_bits().wrapping_sub(WHOLE.to_bits());
    sum * f32::from_bits(exponent.wrapping_add(127) << 23)
}
