//! A synthetic data set: pictures of a red or a blue square on a striped background.

use std::path::Path;

use image::{Rgb, RgbImage};

/// The class names.
pub const CLASSES: [&str; 2] = ["red square", "blue square"];

/// Picture `index`, 240 x 200 pixels, with the square's class, left edge, top edge and side.
#[must_use]
pub fn picture(index: u32) -> (RgbImage, [u32; 4]) {
    let (side, class) = (60 + index * 37 % 80, index % 2);
    let (x, y) = (index * 53 % (240 - side), index * 71 % (200 - side));
    let colour = [[220, 40, 30], [30, 60, 220]][class as usize];
    let picture = RgbImage::from_fn(240, 200, |px, py| {
        let inside = (x..x + side).contains(&px) && (y..y + side).contains(&py);
        let stripe = 90 + ((px + py * 3 + index * 7) % 60) as u8;
        Rgb(if inside {
            colour
        } else {
            [stripe, stripe, 100]
        })
    });
    (picture, [class, x, y, side])
}

/// Writes the first `count` pictures into a folder, with labels in YOLO's format.
///
/// # Panics
/// If a file cannot be written.
pub fn write(folder: &Path, count: u32) {
    std::fs::write(folder.join("classes.txt"), CLASSES.join("\n")).unwrap();
    for index in 0..count {
        let (picture, [class, left, top, pixels]) = picture(index);
        picture.save(folder.join(format!("{index}.png"))).unwrap();
        let [x, y, side] = [left, top, pixels].map(f64::from);
        let (cx, cy) = ((x + side / 2.0) / 240.0, (y + side / 2.0) / 200.0);
        let line = format!("{class} {cx} {cy} {} {}\n", side / 240.0, side / 200.0);
        std::fs::write(folder.join(format!("{index}.txt")), line).unwrap();
    }
}
