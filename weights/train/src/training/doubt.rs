//! How much more the model that ships doubts than the network that was trained.
//!
//! Hard-negative mining shows a network three background priors for each that answers for an object;
//! a picture has thousands. What it then says is too sure by the ratio of the two (Saerens et al. 2002),
//! which lower logits of the classes make good. How much lower is chosen on validation scenes, class by
//! class, since a donut resembles more of what is no class than a stop sign does.

use crate::evaluation::{self, Detector, Set};
use crate::measure::{Found, voc};

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

/// What to take off each class's logits: as much as it takes until hardly any scene without objects
/// raises something, unless too little would be found in the others on the way.
///
/// # Errors
/// Where a scene cannot be drawn or libtorch fails.
pub fn choose(detector: &Detector, seed: u64) -> anyhow::Result<Vec<f64>> {
    let empty = evaluation::drawn(seed, EMPTY, true)?;
    let invented = evaluation::find(detector, &empty, None)?;
    let full = evaluation::drawn(seed, FULL, false)?;
    let found = evaluation::find(detector, &full, None)?;
    Ok(settle((&full, &found), (EMPTY, &invented)))
}

/// [`choose`], when everything has been looked at: scenes with objects and what was found in them, how
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
}
