//! The model that ships: it is what its metadata says, and it still sees.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ssd_server::detector::precision::Wanted;
use ssd_server::weights::StateDict;
use ssd_train::evaluation::{self, Accuracy, Detector, Set};
use ssd_train::measure::Found;
use ssd_train::scenes::CLASSES;

fn weights() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../server/tests/data/drawn/model.safetensors")
}

fn accuracy(set: &Set) -> Accuracy {
    let (detector, _) = Detector::open(&weights(), &set.classes, Wanted::REFERENCE).unwrap();
    let found = evaluation::find(&detector, set, None).unwrap();
    evaluation::summarise(set, &found, evaluation::THRESHOLD)
}

#[test]
fn the_demo_model_is_small_and_says_what_it_is() {
    assert!(std::fs::metadata(weights()).unwrap().len() <= 4_000_000);
    let state = StateDict::open(&weights()).unwrap();
    let facts = state.metadata();
    assert_eq!(facts["family"], "ssd300-voc");
    let classes: Vec<String> = serde_json::from_str(&facts["classes"]).unwrap();
    assert!(classes.iter().eq(CLASSES.iter().map(|class| class.name)));
    for fact in ["trained", "accuracy", "licence"] {
        assert!(!facts[fact].is_empty(), "{fact}");
    }
}

#[test]
fn the_demo_model_still_finds_what_is_drawn() {
    // Fewer scenes than its published figures are of, and a bound below them.
    let accuracy = accuracy(&evaluation::drawn(77, 40, false).unwrap());
    assert!(accuracy.voc10.unwrap() > 0.9, "{accuracy:?}");
    assert!(
        accuracy.at_threshold.precision.unwrap() > 0.9,
        "{accuracy:?}"
    );
    assert!(accuracy.at_threshold.recall.unwrap() > 0.8, "{accuracy:?}");
}

#[test]
fn the_demo_model_invents_no_more_than_its_figures_say() {
    let accuracy = accuracy(&evaluation::drawn(78, 40, true).unwrap());
    assert!(accuracy.at_threshold.raised <= 0.1, "{accuracy:?}");
}

#[test]
fn what_is_found_surest_is_what_one_of_the_feature_maps_finds_surest() {
    let set = evaluation::drawn(79, 5, false).unwrap();
    let (detector, _) = Detector::open(&weights(), &set.classes, Wanted::REFERENCE).unwrap();
    // Nothing suppresses the surest of a class, so that it is the same for all maps and for its own.
    let surest = |found: &[Found]| {
        let mut surest: BTreeMap<(usize, usize), (f64, [f64; 4])> = BTreeMap::new();
        for found in found {
            let best = surest.entry((found.picture, found.class)).or_default();
            if found.score > best.0 {
                *best = (found.score, found.corners);
            }
        }
        surest
    };
    let by_map = evaluation::find_by_map(&detector, &set).unwrap();
    assert!(by_map.iter().filter(|found| !found.is_empty()).count() > 1);
    let together = surest(&evaluation::find(&detector, &set, None).unwrap());
    assert_eq!(surest(&by_map.concat()), together);
}
