//! Divides a data set into pictures for training, for validation and for testing.

use super::{Dataset, Labelled, Part};

/// One picture in this many is held out.
const ONE_IN: usize = 5;

/// A class with fewer boxes need not have pictures on both sides.
const MIN_BOXES: usize = 5;

/// The indexes of the training pictures, and of the pictures that are held out for validation.
///
/// - A data set with training and validation parts is divided by these parts. Test pictures and pictures in no part are
///   on neither side.
/// - In a data set with only training and test parts, the test pictures are held out.
/// - In any other data set, a fifth of the pictures is held out. Test pictures are on neither side, unless the data set
///   has only test pictures.
///
/// The fifth depends only on the seed and the file names, not on the order or the folders of the files. Every class
/// with five boxes or more has pictures on both sides, unless one picture has all of its boxes. Every class keeps a
/// training picture.
#[must_use]
pub fn split(dataset: &Dataset, seed: u64) -> (Vec<usize>, Vec<usize>) {
    if let Some(held_out) = own_held_out(dataset) {
        return (
            indexes(dataset, |part| part == Some(Part::Train)),
            indexes(dataset, |part| part == Some(held_out)),
        );
    }
    let mut ordinary = indexes(dataset, |part| part != Some(Part::Test));
    if ordinary.is_empty() {
        ordinary = indexes(dataset, |_| true);
    }
    hold_out(dataset, ordinary, seed)
}

/// The indexes of the test pictures that [`split`] puts on neither side. Accuracy on them is unbiased: neither the
/// weights nor the threshold depend on them.
///
/// Empty if the data set has no test part, or `split` uses it.
#[must_use]
pub fn test_pictures(dataset: &Dataset) -> Vec<usize> {
    let test = indexes(dataset, |part| part == Some(Part::Test));
    let is_whole = test.len() == dataset.pictures.len();
    if is_whole || own_held_out(dataset) == Some(Part::Test) {
        Vec::new()
    } else {
        test
    }
}

/// The number of pictures that are left out because the data set has its own parts, but they are in none of these.
pub(super) fn in_no_part(dataset: &Dataset) -> usize {
    match own_held_out(dataset) {
        Some(_) => indexes(dataset, |part| part.is_none()).len(),
        None => 0,
    }
}

/// The part that is held out if the data set has its own parts.
fn own_held_out(dataset: &Dataset) -> Option<Part> {
    let has = |part| dataset.pictures.iter().any(|p| p.part == Some(part));
    [Part::Validation, Part::Test]
        .into_iter()
        .find(|&part| has(part) && has(Part::Train))
}

fn indexes(dataset: &Dataset, is_wanted: impl Fn(Option<Part>) -> bool) -> Vec<usize> {
    let pictures = dataset.pictures.iter().enumerate();
    pictures
        .filter(|(_, picture)| is_wanted(picture.part))
        .map(|(index, _)| index)
        .collect()
}

/// Divides the pictures with these indexes into training pictures and a fifth that is held out.
fn hold_out(dataset: &Dataset, of: Vec<usize>, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let pictures = &dataset.pictures;
    let mut order = of.clone();
    order.sort_by_cached_key(|&index| (rank(seed, &pictures[index]), index));
    let mut division = Division::new(dataset, &of);
    // The rarest class comes first, since it has the fewest pictures to choose from.
    let mut rarest: Vec<usize> = (0..division.boxes.len()).collect();
    rarest.sort_by_key(|&class| division.boxes[class]);
    for class in rarest {
        if division.boxes[class] < MIN_BOXES || division.held_out[class] > 0 {
            continue;
        }
        let has = |&&index: &&usize| pictures[index].objects.iter().any(|o| o.class == class);
        let mut candidates = order.iter().filter(has);
        candidates.any(|&index| division.hold_out(index, &pictures[index]));
    }
    let wanted = (of.len() / ONE_IN).max(usize::from(of.len() > 1));
    for &index in &order {
        if division.count >= wanted {
            break;
        }
        division.hold_out(index, &pictures[index]);
    }
    of.into_iter()
        .partition(|&index| !division.is_held_out[index])
}

/// The state of a division while pictures are being chosen.
struct Division {
    /// For each picture.
    is_held_out: Vec<bool>,
    /// The number of pictures that are held out.
    count: usize,
    /// For each class, its boxes.
    boxes: Vec<usize>,
    /// For each class, the number of training pictures with an object of the class.
    training: Vec<usize>,
    /// For each class, the number of held-out pictures with an object of the class.
    held_out: Vec<usize>,
}

impl Division {
    fn new(dataset: &Dataset, of: &[usize]) -> Self {
        let classes = dataset.classes.len();
        let mut division = Self {
            is_held_out: vec![false; dataset.pictures.len()],
            count: 0,
            boxes: vec![0; classes],
            training: vec![0; classes],
            held_out: vec![0; classes],
        };
        for &index in of {
            let picture = &dataset.pictures[index];
            for object in &picture.objects {
                division.boxes[object.class] += 1;
            }
            for class in classes_of(picture) {
                division.training[class] += 1;
            }
        }
        division
    }

    /// Holds out a picture, unless it is the last training picture of a class. Returns whether it did.
    fn hold_out(&mut self, index: usize, picture: &Labelled) -> bool {
        let classes = classes_of(picture);
        if self.is_held_out[index] || classes.iter().any(|&class| self.training[class] < 2) {
            return false;
        }
        self.is_held_out[index] = true;
        self.count += 1;
        for class in classes {
            self.training[class] -= 1;
            self.held_out[class] += 1;
        }
        true
    }
}

/// The classes in a picture, each once.
fn classes_of(picture: &Labelled) -> Vec<usize> {
    let mut classes: Vec<usize> = picture.objects.iter().map(|object| object.class).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// The key that orders the pictures for a seed: FNV-1a of the seed and the file name, mixed like in `SplitMix64`. The
/// standard library's hash may change between versions.
fn rank(seed: u64, picture: &Labelled) -> u64 {
    let name = picture.path.file_name().unwrap_or_default();
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for &byte in seed.to_le_bytes().iter().chain(name.as_encoded_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}
