//! How much more the model that ships doubts than the network that was trained.
//!
//! Hard-negative mining shows a network three background priors for each that answers for an object;
//! a picture has thousands. What it then says is too sure by the ratio of the two (Saerens et al. 2002),
//! which a larger logit of the background makes good. How much larger is chosen on validation scenes.

use crate::evaluation::{self, Detector};

/// The share of scenes without objects that may raise something.
const RAISED: f64 = 0.01;
/// What must still be found of the objects in the others: a little more than is asked of the model.
const RECALL: f64 = 0.81;
/// Scenes of each kind.
const SCENES: usize = 400;
/// The steps in which it grows.
const STEP: f64 = 0.05;

fn logit(probability: f64) -> f64 {
    (probability / (1.0 - probability)).ln()
}

/// The probability that `doubt` brings down to the threshold.
fn threshold(doubt: f64) -> f64 {
    1.0 / (1.0 + (-(logit(evaluation::THRESHOLD) + doubt)).exp())
}

/// What to add to the background's logits: as much as it takes until hardly any scene without objects
/// raises something, unless too little would be found in the others on the way.
///
/// # Errors
/// Where a scene cannot be drawn or libtorch fails.
pub fn choose(detector: &Detector, seed: u64) -> anyhow::Result<f64> {
    let empty = evaluation::drawn(seed, SCENES, true)?;
    let invented = evaluation::find(detector, &empty, None)?;
    let full = evaluation::drawn(seed, SCENES, false)?;
    let found = evaluation::find(detector, &full, None)?;
    let mut doubt = 0.0;
    loop {
        let at = |doubt: f64| threshold(doubt);
        let raised = evaluation::summarise(&empty, &invented, at(doubt))
            .at_threshold
            .raised;
        let next = evaluation::summarise(&full, &found, at(doubt + STEP))
            .at_threshold
            .recall;
        if raised <= RAISED || next.is_none_or(|recall| recall < RECALL) {
            return Ok(doubt);
        }
        doubt += STEP;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_doubt_leaves_the_threshold_and_more_raises_it() {
        assert!((threshold(0.0) - 0.6).abs() < 1e-12);
        // Odds of 3 to 2, times e.
        let odds = 1.5 * std::f64::consts::E;
        assert!((threshold(1.0) - odds / (1.0 + odds)).abs() < 1e-12);
    }
}
