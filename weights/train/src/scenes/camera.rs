//! From the drawn frame to a photograph: light, lens, sensor, and the file it is kept in.

use std::io::Cursor;

use anyhow::Context as _;
use image::RgbImage;
use image::codecs::jpeg::JpegEncoder;

use super::dice::Dice;
use super::frame::Frame;
use super::noise;

/// Takes the picture.
///
/// # Errors
/// Where the JPEG codec fails, which memory alone can make it do.
pub fn take(mut frame: Frame, dice: &mut Dice) -> anyhow::Result<RgbImage> {
    illuminate(&mut frame, dice);
    focus(&mut frame, dice);
    let picture = develop(&frame, dice);
    if dice.chance(0.7) {
        let quality = dice.between(35.0, 96.0) as u8;
        return through_jpeg(&picture, quality);
    }
    Ok(picture)
}

/// Patches of shade, the lamp's side, the lens's dark corners, and the light's colour.
fn illuminate(frame: &mut Frame, dice: &mut Dice) {
    let (w, h) = frame.size();
    let patchy = if dice.chance(0.4) {
        dice.between(0.1, 0.6)
    } else {
        0.0
    };
    let parts = dice.pick(&[2.0, 4.0, 8.0]);
    let shade = noise::field(dice, w, h, w as f32 / parts);
    let slope = (dice.between(-0.3, 0.3), dice.between(-0.3, 0.3));
    let corners = dice.between(0.0, 0.35);
    let exposure = dice.scale(0.72, 1.28);
    let cast = [(); 3].map(|()| exposure * (1.0 + dice.normal() * 0.05));
    let (half_w, half_h) = (w as f32 / 2.0, h as f32 / 2.0);
    frame.touch(0, h, |x, y, colour| {
        let (dx, dy) = (x as f32 / half_w - 1.0, y as f32 / half_h - 1.0);
        let shadow = 1.0 - patchy * ((shade[y * w + x] - 0.5) * 4.0).clamp(0.0, 1.0);
        let gain =
            (1.0 + slope.0 * dx + slope.1 * dy) * (1.0 - corners * (dx * dx + dy * dy) * 0.5);
        std::array::from_fn(|c| colour[c] * gain * shadow * cast[c])
    });
}

/// Out of focus, or moved, now and then.
fn focus(frame: &mut Frame, dice: &mut Dice) {
    let unit = frame.size().0.min(frame.size().1) as f32 / 300.0;
    match dice.below(10) {
        0..=2 => frame.soften(dice.between(0.4, 1.3) * unit),
        3 => {
            let upright = dice.chance(0.5);
            frame.smear((dice.between(1.0, 3.0) * unit) as usize, upright);
        }
        _ => {}
    }
}

/// Contrast, saturation, noise, and 8 bits.
fn develop(frame: &Frame, dice: &mut Dice) -> RgbImage {
    let contrast = dice.scale(0.75, 1.25);
    let saturation = if dice.chance(0.03) {
        0.0
    } else {
        dice.between(0.65, 1.25)
    };
    let grain = if dice.chance(0.7) {
        dice.between(0.0, 12.0)
    } else {
        0.0
    };
    let mut samples = Vec::with_capacity(frame.pixels().len() * 3);
    for &[r, g, b] in frame.pixels() {
        let grey = 0.299 * r + 0.587 * g + 0.114 * b;
        let bytes = dice.bits().to_le_bytes();
        let common = f32::from(bytes[3]);
        for (level, byte) in [r, g, b].into_iter().zip(bytes) {
            let coloured = grey + (level - grey) * saturation;
            // The sum of two uniform bytes is near enough to a bell; its deviation is 104.
            let noise = (f32::from(byte) + common - 255.0) / 104.0 * grain;
            let level = (coloured - 128.0) * contrast + 128.0 + noise;
            samples.push(level.round().clamp(0.0, 255.0) as u8);
        }
    }
    let (w, h) = frame.size();
    RgbImage::from_raw(w as u32, h as u32, samples).expect("three samples a pixel")
}

/// Compresses and decompresses.
fn through_jpeg(picture: &RgbImage, quality: u8) -> anyhow::Result<RgbImage> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, quality)
        .encode_image(picture)
        .context("compress a scene")?;
    let read = image::ImageReader::with_format(Cursor::new(file), image::ImageFormat::Jpeg);
    Ok(read.decode().context("decompress a scene")?.into_rgb8())
}
