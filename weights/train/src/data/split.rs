//! Which pictures are trained on and which are held out.

use super::{Dataset, Labelled, Part};

/// One picture of so many is held out.
const ONE_OF: usize = 5;

/// Classes with fewer boxes are too rare to ask for in both parts.
const FEW: usize = 5;

/// The indexes of the pictures to train on, and of those to validate on.
///
/// The set's own parts, where it has both; pictures in neither are left out. Else a fifth is held out, the
/// same for the same seed and names of files, whatever the order or place of the files. Every class with five boxes or
/// more is then in both parts, unless one picture has all of its boxes: no class is held out altogether.
#[must_use]
pub fn split(dataset: &Dataset, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let of = |part: Part| -> Vec<usize> {
        let all = 0..dataset.pictures.len();
        all.filter(|&index| dataset.pictures[index].part == Some(part))
            .collect()
    };
    let (train, validation) = (of(Part::Train), of(Part::Validation));
    if train.is_empty() || validation.is_empty() {
        held_out(dataset, seed)
    } else {
        (train, validation)
    }
}

fn held_out(dataset: &Dataset, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let pictures = &dataset.pictures;
    let mut order: Vec<usize> = (0..pictures.len()).collect();
    order.sort_by_cached_key(|&index| (rank(seed, &pictures[index]), index));
    let classes: Vec<Vec<usize>> = pictures.iter().map(classes_of).collect();
    let mut boxes = vec![0; dataset.classes.len()];
    for object in pictures.iter().flat_map(|picture| &picture.objects) {
        boxes[object.class] += 1;
    }
    // Pictures of each class that are still trained on, and that are held out.
    let (mut left, mut out) = (vec![0; boxes.len()], vec![0; boxes.len()]);
    for &class in classes.iter().flatten() {
        left[class] += 1;
    }
    let mut held = vec![false; pictures.len()];
    let mut take = |index: usize, left: &mut [usize], out: &mut [usize]| {
        let may = !held[index] && classes[index].iter().all(|&class| left[class] > 1);
        if may {
            held[index] = true;
            for &class in &classes[index] {
                left[class] -= 1;
                out[class] += 1;
            }
        }
        may
    };
    let mut count = 0;
    // The rarest first: it has the fewest pictures to choose from.
    let mut rarest: Vec<usize> = (0..boxes.len()).collect();
    rarest.sort_by_key(|&class| boxes[class]);
    for class in rarest {
        if boxes[class] < FEW || out[class] > 0 {
            continue;
        }
        let mut having = order
            .iter()
            .filter(|&&index| classes[index].contains(&class));
        count += usize::from(having.any(|&index| take(index, &mut left, &mut out)));
    }
    let wanted = (pictures.len() / ONE_OF).max(usize::from(pictures.len() > 1));
    for &index in &order {
        if count >= wanted {
            break;
        }
        count += usize::from(take(index, &mut left, &mut out));
    }
    (0..pictures.len()).partition(|&index| !held[index])
}

/// The classes in a picture, each once.
fn classes_of(picture: &Labelled) -> Vec<usize> {
    let mut classes: Vec<usize> = picture.objects.iter().map(|object| object.class).collect();
    classes.sort_unstable();
    classes.dedup();
    classes
}

/// A picture's place in the order of a seed: FNV-1a of both, mixed as by `SplitMix64`, so that it is the same with
/// any version of any library.
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
