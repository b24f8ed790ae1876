//! How much more the model that ships doubts than the network that was trained.
//!
//! Hard-negative mining shows a network three background priors for each that answers for an object;
//! a picture has thousands. What it then says is too sure by the ratio of the two (Saerens et al. 2002),
//! which lower logits of the classes make good. How much lower is chosen on validation scenes, class by
//! class, since a donut resembles more of what is no class than a stop sign does.
//!
//! Of what is never drawn that says nothing: on a photograph the network may be sure of anything, at any of its
//! boxes. So each feature map doubts all classes first, as far as costs hardly an object. The maps of
//! the large boxes are very sure where they are right, and can doubt a great deal.

use anyhow::anyhow;

use crate::evaluation::{self, Detector, Set};
use crate::measure::{Found, iou, voc};
use crate::scenes::CLASSES;

/// The share of the objects found that the feature maps' doubts may cost.
const COST: f64 = 0.02;
/// No feature map doubts more, though it cost nothing: odds of 150 to 1.
const MOST: f64 = 5.0;
/// By how much a feature map doubts more at a time.
const STEP: f64 = 0.25;

/// The share of scenes without objects that may raise something.
const RAISED: f64 = 0.01;
/// What must still be found of the objects in the others, which is what is asked of the model.
const RECALL: f64 = 0.80;
/// Scenes without objects, of which few raise anything and many are needed to tell how many.
const EMPTY: usize = 4000;
/// Scenes with objects.
const FULL: usize = 1000;
/// The factor by which the price of an invention grows until few enough are left.
const DEARER: f64 = 1.05;
/// How far below the threshold an invention is brought: more than half precision rounds a bias by.
const BELOW: f64 = 0.02;

/// What to take off the logits of a model.
#[derive(Debug, Clone)]
pub struct Doubts {
    /// Of each class, at every box.
    pub classes: Vec<f64>,
    /// Of all classes, at the boxes of each feature map; the finest map first.
    pub maps: [f64; 6],
}

impl Doubts {
    /// Nothing is taken off.
    #[must_use]
    pub fn none() -> Self {
        Self {
            classes: vec![0.0; CLASSES.len()],
            maps: [0.0; 6],
        }
    }
}

/// What a class says of validation scenes, as the doubts that would just leave it said.
#[derive(Debug, Default)]
struct Claims {
    right: Vec<f64>,
    invented: Vec<f64>,
}

/// The largest doubt under which a probability remains at the threshold.
fn bearable(probability: f64) -> f64 {
    logit(probability) - logit(evaluation::THRESHOLD)
}

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

fn left(claims: &[f64], doubt: f64) -> f64 {
    claims.iter().filter(|claim| **claim >= doubt).count() as f64
}

impl Claims {
    /// The doubt that is worth most where an invention costs as much as `price` objects not found.
    fn doubt(&self, price: f64) -> f64 {
        let worth = |doubt: f64| left(&self.right, doubt) - price * left(&self.invented, doubt);
        let mut best = 0.0;
        for doubt in self.invented.iter().map(|claim| claim + BELOW) {
            if doubt > 0.0 && worth(doubt) > worth(best) {
                best = doubt;
            }
        }
        best
    }
}

/// The scenes with objects that doubts are chosen on.
///
/// # Errors
/// Where one cannot be drawn.
pub fn scenes(seed: u64) -> anyhow::Result<Set> {
    evaluation::drawn(seed, FULL, false)
}

/// What to take off the logits at each feature map's boxes, of a model that doubts nothing yet, so that what is
/// in these scenes is still found.
///
/// # Errors
/// Where libtorch fails.
pub fn of_maps(detector: &Detector, full: &Set) -> anyhow::Result<[f64; 6]> {
    let found = evaluation::find_by_map(detector, full)?;
    let found =
        <[_; 6]>::try_from(found).map_err(|_| anyhow!("the demo model has six feature maps"))?;
    Ok(spread(&borne(full, &found)))
}

/// What to take off each class's logits: as much as it takes until hardly any scene without objects (of the
/// seed) raises something, unless too little would be found in the others on the way.
///
/// # Errors
/// Where a scene cannot be drawn or libtorch fails.
pub fn of_classes(detector: &Detector, full: &Set, seed: u64) -> anyhow::Result<Vec<f64>> {
    let empty = evaluation::drawn(seed, EMPTY, true)?;
    let invented = evaluation::find(detector, &empty, None)?;
    let found = evaluation::find(detector, full, None)?;
    Ok(settle((full, &found), (EMPTY, &invented)))
}

/// For each object the largest doubt under which each feature map finds it, below 0 where it does not.
fn borne(full: &Set, found: &[Vec<Found>; 6]) -> Vec<[f64; 6]> {
    let asked = full.truths.iter().filter(|truth| !truth.ignored);
    let on_maps = asked.map(|truth| {
        let is_right = |found: &&Found| {
            (found.picture, found.class) == (truth.picture, truth.class)
                && iou(&truth.corners, &found.corners) >= voc::OVERLAP
        };
        found.each_ref().map(|found| {
            let right = found.iter().filter(is_right);
            right
                .map(|found| bearable(found.score))
                .fold(f64::NEG_INFINITY, f64::max)
        })
    });
    on_maps.collect()
}

/// Has the feature maps doubt more, step by step, always that one next which loses the fewest objects by it
/// and of several the coarsest, until more would cost too many.
fn spread(borne: &[[f64; 6]]) -> [f64; 6] {
    let found = |maps: &[f64; 6]| {
        let is_found = |borne: &&[f64; 6]| borne.iter().zip(maps).any(|(borne, map)| borne >= map);
        borne.iter().filter(is_found).count()
    };
    let mut maps = [0.0; 6];
    let enough = (1.0 - COST) * found(&maps) as f64;
    loop {
        let more = (0..6).filter(|map| maps[*map] < MOST).map(|map| {
            let mut maps = maps;
            maps[map] += STEP;
            (found(&maps), maps)
        });
        match more.max_by_key(|(left, _)| *left) {
            Some((left, more)) if left as f64 >= enough => maps = more,
            _ => return maps,
        }
    }
}

/// [`of_classes`], when everything has been looked at: scenes with objects and what was found in them, how
/// many without objects and what was found in those.
fn settle((full, found): (&Set, &[Found]), (empty, invented): (usize, &[Found])) -> Vec<f64> {
    let claims = claims(full, found, invented);
    let objects = full.truths.iter().filter(|truth| !truth.ignored).count();
    let mut chosen = vec![0.0; claims.len()];
    let mut price = 0.1;
    loop {
        let raised: std::collections::HashSet<usize> = invented
            .iter()
            .filter(|found| bearable(found.score) >= chosen[found.class])
            .map(|found| found.picture)
            .collect();
        let dearer: Vec<f64> = claims.iter().map(|claims| claims.doubt(price)).collect();
        let still: f64 = claims
            .iter()
            .zip(&dearer)
            .map(|(claims, doubt)| left(&claims.right, *doubt))
            .sum();
        let few = raised.len() as f64 <= RAISED * empty as f64;
        if few || still < RECALL * objects as f64 {
            return chosen;
        }
        (chosen, price) = (dearer, price * DEARER);
    }
}

fn claims(full: &Set, found: &[Found], invented: &[Found]) -> Vec<Claims> {
    let mut claims: Vec<Claims> = full
        .classes
        .iter()
        .enumerate()
        .map(|(class, _)| Claims {
            right: voc::judge(&full.truths, found, class)
                .into_iter()
                .filter(|(_, verdict)| *verdict == voc::Verdict::Right)
                .map(|(index, _)| bearable(found[index].score))
                .collect(),
            ..Claims::default()
        })
        .collect();
    for found in invented {
        claims[found.class].invented.push(bearable(found.score));
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Truth;

    const CORNERS: [f64; 4] = [0.0, 0.0, 10.0, 10.0];

    /// The probability whose largest bearable doubt is this.
    fn bearing(doubt: f64) -> f64 {
        let odds = 1.5 * doubt.exp();
        odds / (1.0 + odds)
    }

    /// One in each picture, from the first on: class and doubt borne.
    fn found(finds: &[(usize, f64)]) -> Vec<Found> {
        let one = |(picture, &(class, doubt)): (usize, &(usize, f64))| Found {
            picture,
            class,
            corners: CORNERS,
            score: bearing(doubt),
        };
        finds.iter().enumerate().map(one).collect()
    }

    /// What two classes doubt where all that was found is right, and so much was invented in a hundred
    /// pictures.
    fn settled(right: &[(usize, f64)], invented: &[(usize, f64)]) -> Vec<f64> {
        let right = found(right);
        let truth = |found: &Found| Truth {
            picture: found.picture,
            class: found.class,
            corners: CORNERS,
            ignored: false,
        };
        let full = Set {
            classes: vec!["cup".to_owned(), "donut".to_owned()],
            pictures: Vec::new(),
            truths: right.iter().map(truth).collect(),
        };
        settle((&full, &right), (100, &found(invented)))
    }

    #[test]
    fn a_class_doubts_as_soon_as_an_invention_costs_more_than_the_objects_that_go_with_it() {
        let claims = Claims {
            right: vec![0.1, 0.5, 2.0, 3.0],
            invented: vec![0.2, 1.0],
        };
        assert!(claims.doubt(0.9).abs() < 1e-12);
        assert!((claims.doubt(1.1) - (1.0 + BELOW)).abs() < 1e-12);
    }

    #[test]
    fn only_the_class_that_invents_doubts() {
        let sure = [(0, 0.1), (0, 3.0), (1, 3.0), (1, 3.0)].repeat(5);
        let doubts = settled(&sure, &[(1, 0.5), (1, 0.7), (1, 1.2)]);
        assert!(doubts[0].abs() < 1e-12, "{doubts:?}");
        assert!(
            bearing(1.2 - doubts[1]) < evaluation::THRESHOLD,
            "{doubts:?}"
        );
    }

    #[test]
    fn a_class_doubts_no_more_than_leaves_enough_of_the_objects_found() {
        // All inventions could be silenced, but only with a third of the objects.
        let doubts = settled(
            &[(0, 0.4), (0, 2.0), (0, 2.0)],
            &[(0, 0.5), (0, 0.6), (0, 0.7)],
        );
        assert_eq!(doubts, [0.0, 0.0]);
    }

    #[test]
    fn without_inventions_nothing_is_doubted() {
        assert_eq!(settled(&[(0, 0.4)], &[]), [0.0, 0.0]);
    }

    #[test]
    fn a_feature_map_that_is_surer_of_what_it_finds_doubts_more() {
        // Each of a hundred objects is found on one of two maps.
        let borne: Vec<[f64; 6]> = (0..100)
            .map(|object| {
                let mut borne = [f64::NEG_INFINITY; 6];
                let doubt = 0.1 * f64::from(object);
                match object % 2 {
                    0 => borne[0] = doubt,
                    _ => borne[2] = 3.0 + doubt,
                }
                borne
            })
            .collect();
        let maps = spread(&borne);
        assert!(maps[0] < 0.5, "{maps:?}");
        assert!((3.0..=3.5).contains(&maps[2]), "{maps:?}");
        // Those that find nothing doubt as much as any may.
        assert!(
            [1, 3, 4, 5].iter().all(|map| maps[*map] >= MOST),
            "{maps:?}"
        );
    }

    #[test]
    fn of_two_feature_maps_that_find_the_same_the_coarser_doubts() {
        let both = [1.0, f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0, 0.0, 0.0];
        let maps = spread(&[both; 10]);
        assert_eq!((maps[0], maps[3]), (1.0, MOST));
    }

    #[test]
    fn a_feature_map_finds_an_object_where_its_box_and_its_class_are_right() {
        let object = |picture, corners| Truth {
            picture,
            class: 1,
            corners,
            ignored: false,
        };
        let full = Set {
            classes: vec!["cup".to_owned(), "donut".to_owned()],
            pictures: Vec::new(),
            truths: vec![object(0, CORNERS), object(0, [50.0, 0.0, 60.0, 10.0])],
        };
        let mut on_maps: [Vec<Found>; 6] = Default::default();
        on_maps[4] = found(&[(1, 2.0), (1, 3.0)]);
        on_maps[5] = found(&[(0, 2.0)]);
        let borne = borne(&full, &on_maps);
        assert!((borne[0][4] - 2.0).abs() < 1e-9, "{borne:?}");
        assert!(
            borne[0][5] < 0.0 && borne[1].iter().all(|doubt| *doubt < 0.0),
            "{borne:?}"
        );
    }
}
