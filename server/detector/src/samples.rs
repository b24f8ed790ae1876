//! Bundled pictures, for measuring missing int8 scales and for the playground.

use super::family::Family;
use super::preprocess::Input;

/// Each picture's name, media type and bytes.
pub const SAMPLES: [(&str, &str, &[u8]); 3] = [
    (
        "cat.png",
        "image/png",
        include_bytes!("../../../data/samples/cat.png"),
    ),
    (
        "astronaut.jpg",
        "image/jpeg",
        include_bytes!("../../../data/samples/astronaut.jpg"),
    ),
    (
        "coffee.jpg",
        "image/jpeg",
        include_bytes!("../../../data/samples/coffee.jpg"),
    ),
];

/// The pictures as a network's inputs.
pub(super) fn inputs(family: &Family) -> Vec<Input> {
    SAMPLES
        .into_iter()
        .map(|(_, _, bytes)| {
            let picture = image::load_from_memory(bytes).expect("a picture that ships");
            family.preprocessing.input(&picture.into_rgb8())
        })
        .collect()
}
