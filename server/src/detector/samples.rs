//! The pictures that ship, for weights that nobody has calibrated.

use super::family::Family;
use super::preprocess::Input;

const PICTURES: [&[u8]; 3] = [
    include_bytes!("../../../data/samples/cat.png"),
    include_bytes!("../../../data/samples/street.jpg"),
    include_bytes!("../../../data/samples/counter.jpg"),
];

/// Each as a network's input.
pub(super) fn inputs(family: &Family) -> Vec<Input> {
    PICTURES
        .into_iter()
        .map(|bytes| {
            let picture = image::load_from_memory(bytes).expect("a picture that ships");
            family.preprocessing.input(&picture.into_rgb8())
        })
        .collect()
}
