//! Colours: red, green, blue, in levels of 0 to 255.

use super::dice::Dice;

/// Red, green, blue, 0 to 255 each.
pub type Rgb = [f32; 3];

/// From hue (0 to 360 degrees), saturation and value (0 to 1 each).
#[must_use]
pub fn hsv(hue: f32, saturation: f32, value: f32) -> Rgb {
    // Smith 1978, in the form that needs no cases.
    [5.0, 3.0, 1.0].map(|n| {
        let k = (n + hue.rem_euclid(360.0) / 60.0) % 6.0;
        255.0 * value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// `a` at 0, `b` at 1.
#[must_use]
pub fn mix(a: Rgb, b: Rgb, t: f32) -> Rgb {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t)
}

/// Darker below 1, lighter above.
#[must_use]
pub fn scaled(colour: Rgb, by: f32) -> Rgb {
    colour.map(|level| (level * by).clamp(0.0, 255.0))
}

/// Near `colour`: every level up to `by` away.
pub fn near(dice: &mut Dice, colour: Rgb, by: f32) -> Rgb {
    let shift = dice.between(-by, by) * 0.6;
    colour.map(|level| (level + shift + dice.between(-by, by) * 0.5).clamp(0.0, 255.0))
}

/// Any colour whose hue (degrees), saturation and value (0 to 1 each) lie in these ranges.
pub fn within(dice: &mut Dice, hue: (f32, f32), saturation: (f32, f32), value: (f32, f32)) -> Rgb {
    let [hue, saturation, value] =
        [hue, saturation, value].map(|(low, high)| dice.between(low, high));
    hsv(hue, saturation, value)
}

/// Any colour, the strong and the pale alike.
pub fn any(dice: &mut Dice) -> Rgb {
    let saturation = dice.between(0.0, 1.0).powi(2);
    let value = dice.between(0.12, 1.0);
    hsv(dice.between(0.0, 360.0), saturation, value)
}

/// A strong colour, as of toys, cloth and paint.
pub fn vivid(dice: &mut Dice) -> Rgb {
    let hue = dice.between(0.0, 360.0);
    let saturation = dice.between(0.65, 1.0);
    hsv(hue, saturation, dice.between(0.55, 1.0))
}
