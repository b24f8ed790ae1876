//! Training: it learns, and it can be interrupted.

use ssd_server::weights::StateDict;
use ssd_train::scenes::CLASSES;
use ssd_train::training::batches::Diet;
use ssd_train::training::checkpoint::{Checkpoint, Settings, numbers};
use ssd_train::training::course::{self, Losses, Run};
use ssd_train::training::doubt::Doubts;

/// A sixteenth of the width, four scenes.
fn settings(steps: usize) -> Settings {
    Settings {
        diet: Diet {
            seed: 3,
            batch: 4,
            pool: 4,
            empty: 4,
        },
        steps,
        learning_rate: 0.002,
        channels: 4,
        bfloat16: false,
        replicas: 2,
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

#[test]
fn a_model_doubts_each_class_and_feature_map_as_much_as_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        replicas: 1,
        ..settings(1)
    };
    let checkpoint = Run::new(settings).unwrap().checkpoint();
    let exported = |doubts: &Doubts, name: &str| {
        let path = folder.path().join(name);
        course::export(&checkpoint, doubts, "unknown", &path).unwrap();
        StateDict::open(&path).unwrap()
    };
    let doubts = Doubts {
        classes: (0..CLASSES.len()).map(|class| class as f64 / 8.0).collect(),
        maps: [0.5, 0.0, 0.0, 0.0, 0.0, 2.0],
    };
    let sure = exported(&Doubts::none(), "sure");
    let doubting = exported(&doubts, "doubting");
    for map in [0, 5] {
        let head = format!("conf.{map}.bias");
        let biases = |model: &StateDict| model.get(&head).unwrap().to_f32();
        for (output, (before, after)) in biases(&sure).iter().zip(biases(&doubting)).enumerate() {
            // For each box the background first, then the classes.
            let class = (output % (CLASSES.len() + 1)).checked_sub(1);
            let expected = class.map_or(0.0, |class| {
                (doubts.classes[class] + doubts.maps[map]) as f32
            });
            assert!((before - after - expected).abs() < 2e-3, "{head} {output}");
        }
    }
    let trained = &doubting.metadata()["trained"];
    assert!(trained.contains("0.00, 0.12, 0.25"), "{trained}");
    assert!(
        trained.contains("0.50, 0.00, 0.00, 0.00, 0.00, 2.00"),
        "{trained}"
    );
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

#[test]
fn a_run_that_stops_early_leaves_a_checkpoint_of_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let files = course::Files {
        checkpoint: folder.path().join("new/checkpoint.safetensors"),
        log: folder.path().join("log.csv"),
        checkpoint_every: 0,
        validate_every: 0,
        validation_scenes: 0,
        until: Some(3),
    };
    course::train(settings(6), &files).unwrap();
    assert_eq!(Checkpoint::read(&files.checkpoint).unwrap().step, 3);
    let log = std::fs::read_to_string(&files.log).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
}

#[test]
fn a_run_that_has_diverged_replaces_no_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    let mut checkpoint = Run::new(settings(6)).unwrap().checkpoint();
    checkpoint.write(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let (name, tensor) = checkpoint.state.iter_mut().next().unwrap();
    let name = name.clone();
    let _ = tensor.f_fill_(f64::NAN).unwrap();
    let error = checkpoint.write(&path).unwrap_err().to_string();
    assert!(
        error.contains(&name) && error.contains("diverged"),
        "{error}"
    );
    assert_eq!(std::fs::read(&path).unwrap(), whole);
}
