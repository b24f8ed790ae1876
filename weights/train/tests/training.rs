//! Training: it learns, and it can be interrupted.

use std::path::Path;

use ssd_server::weights::StateDict;
use ssd_train::training::batches::Diet;
use ssd_train::training::checkpoint::{Checkpoint, Settings, numbers};
use ssd_train::training::course::{self, Losses, Run};

/// A sixteenth of the width, four scenes.
fn settings(steps: usize) -> Settings {
    Settings {
        diet: Diet {
            seed: 3,
            batch: 2,
            pool: 4,
            empty: 4,
        },
        steps,
        learning_rate: 0.002,
        channels: 4,
        bfloat16: false,
        replicas: 2,
        frozen: 0,
    }
}

fn total(losses: &Losses) -> f64 {
    losses.localisation + losses.classification
}

#[test]
fn the_loss_falls_on_a_few_scenes() {
    let mut run = Run::new(settings(40)).unwrap();
    let losses: Vec<f64> = (0..40).map(|_| total(&run.advance().unwrap())).collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..8]), mean(&losses[32..]));
    assert!(last < 0.92 * first, "{first} fell to {last} only");
}

#[test]
fn a_run_resumed_from_a_checkpoint_goes_on_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("checkpoint.safetensors");
    let mut whole = Run::new(settings(6)).unwrap();
    for _ in 0..3 {
        whole.advance().unwrap();
    }
    whole.checkpoint().write(&file).unwrap();
    let mut resumed = Run::resume(settings(6), &Checkpoint::read(&file).unwrap()).unwrap();
    for _ in 3..6 {
        assert_eq!(whole.advance().unwrap(), resumed.advance().unwrap());
    }
    let (whole, resumed) = (whole.checkpoint(), resumed.checkpoint());
    assert_eq!(whole.step, resumed.step);
    assert_eq!(whole.state.len(), resumed.state.len());
    for (name, tensor) in &whole.state {
        let bits = |tensor| numbers(tensor).unwrap().into_iter().map(f32::to_bits);
        assert!(bits(tensor).eq(bits(&resumed.state[name])), "{name}");
    }
}

/// A model of the settings, after so many steps.
fn model(steps: usize, path: &Path) -> StateDict {
    // Two pictures at a time: the last layers put out a single number, and one has no variance.
    let settings = Settings {
        replicas: 1,
        ..settings(steps)
    };
    let mut run = Run::new(settings).unwrap();
    for _ in 0..steps {
        run.advance().unwrap();
    }
    course::export(&run.checkpoint(), 0.0, "unknown", path).unwrap();
    StateDict::open(path).unwrap()
}

#[test]
fn a_run_that_begins_with_a_model_goes_on_from_it_and_leaves_its_first_layers_alone() {
    let folder = tempfile::tempdir().unwrap();
    let model = model(3, &folder.path().join("model.safetensors"));
    let settings = Settings {
        frozen: 2,
        ..settings(4)
    };
    let mut run = Run::tune(settings, &model).unwrap();
    let weights = |run: &Run, layer: &str| numbers(&run.checkpoint().state[layer]).unwrap();
    let given = |layer: &str| model.get(layer).unwrap().to_f32();
    for layer in ["vgg.0.weight", "vgg.2.bias", "vgg.5.weight", "conf.3.bias"] {
        assert_eq!(weights(&run, layer), given(layer), "{layer}");
    }
    run.advance().unwrap();
    for layer in ["vgg.0.weight", "vgg.0.bias", "vgg.2.weight", "vgg.2.bias"] {
        assert_eq!(weights(&run, layer), given(layer), "{layer}");
    }
    for layer in ["vgg.5.weight", "extras.0.weight", "conf.3.bias"] {
        assert_ne!(weights(&run, layer), given(layer), "{layer}");
    }

    let file = folder.path().join("checkpoint.safetensors");
    run.checkpoint().write(&file).unwrap();
    let mut resumed = Run::resume(settings, &Checkpoint::read(&file).unwrap()).unwrap();
    assert_eq!(run.advance().unwrap(), resumed.advance().unwrap());
    let tuned = folder.path().join("tuned.safetensors");
    course::export(&resumed.checkpoint(), 0.0, "unknown", &tuned).unwrap();
    let tuned = StateDict::open(&tuned).unwrap();
    let trained = &tuned.metadata()["trained"];
    assert!(trained.starts_with("3 steps of 2"), "{trained}");
    assert!(trained.contains("; then 2 steps of 2"), "{trained}");
}

#[test]
fn a_run_does_not_begin_with_a_model_of_other_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    model(1, &path);
    let mut bytes = std::fs::read(&path).unwrap();
    let name = b"traffic light";
    let at = bytes.windows(name.len()).position(|part| part == name);
    bytes[at.unwrap()..][..name.len()].copy_from_slice(b"traffic night");
    let other = StateDict::from_bytes(bytes).unwrap();
    let error = Run::tune(settings(2), &other).unwrap_err().to_string();
    assert!(error.contains("traffic light, stop sign"), "{error}");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let run = Run::new(settings(6)).unwrap();
    let mut other = settings(6);
    other.diet.seed += 1;
    let error = Run::resume(other, &run.checkpoint())
        .unwrap_err()
        .to_string();
    assert!(error.contains("other settings"), "{error}");
}

#[test]
fn the_learning_rate_rises_falls_and_never_stops() {
    let settings = settings(100);
    let rate = |step| course::learning_rate(&settings, step);
    assert!(rate(0) > 0.0 && rate(0) < rate(2) && rate(2) < rate(5));
    assert!((rate(5) - settings.learning_rate).abs() < 1e-6);
    assert!(rate(50) < rate(20) && rate(99) < rate(50) && rate(99) > 0.0);
}
