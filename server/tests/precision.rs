//! The same network in every precision: the answers stay, and what is chosen is what suits.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ssd_server::detector::boxes::Criteria;
use ssd_server::detector::inference::{self, Inference};
use ssd_server::detector::labels::Labels;
use ssd_server::detector::network::Network;
use ssd_server::detector::precision::{Place, Precision, Processor, Wanted};
use ssd_server::detector::{Detection, Model};
use ssd_server::weights::{Dtype, NewTensor, StateDict, write_safetensors};

const CRITERIA: Criteria = Criteria {
    threshold: 0.6,
    iou: 0.45,
    top_k: 200,
};

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn demo() -> StateDict {
    StateDict::open(&repository().join("weights/demo.safetensors")).unwrap()
}

fn model() -> (Model, Network) {
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).unwrap();
    Model::new(&demo(), &labels).unwrap()
}

fn in_precision(precision: Precision) -> (Model, Inference) {
    // The tests share the cores.
    tch::set_num_threads(1);
    let (model, network) = model();
    let wanted = Wanted {
        precision: Some(precision),
        place: Place::Cpu,
    };
    let (inference, choice) = inference::prepare(network, model.family(), None, wanted).unwrap();
    assert_eq!(choice.precision, precision);
    (model, inference)
}

fn detections(precision: Precision, picture: &str) -> Vec<Detection> {
    let (model, inference) = in_precision(precision);
    let picture = image::open(repository().join("data/samples").join(picture)).unwrap();
    let picture = picture.into_rgb8();
    let output = inference.forward_one(&model.input(&picture)).unwrap();
    model.detections(&output, &CRITERIA, picture.dimensions())
}

#[test]
fn every_precision_finds_the_same_objects_in_the_same_places() {
    for picture in ["street.jpg", "counter.jpg"] {
        let exact = detections(Precision::F32, picture);
        assert!(exact.len() >= 3);
        for precision in [Precision::Bf16, Precision::Int8] {
            let found = detections(precision, picture);
            // Whatever is well above the threshold in one is there in the other.
            for (these, those) in [(&exact, &found), (&found, &exact)] {
                for object in these.iter().filter(|object| object.probability > 0.75) {
                    let same = those.iter().find(|other| {
                        other.class == object.class && other.corners.iou(&object.corners) > 0.85
                    });
                    let same = same.unwrap_or_else(|| panic!("{precision}: {object:?}"));
                    let apart = (same.probability - object.probability).abs();
                    assert!(apart < 0.1, "{precision}: {object:?} {same:?}");
                }
            }
        }
    }
}

#[test]
fn a_batch_gives_each_picture_what_it_gets_alone() {
    for precision in Precision::ALL {
        let (model, inference) = in_precision(precision);
        let inputs: Vec<_> = ["street.jpg", "cat.png", "counter.jpg"]
            .iter()
            .map(|name| {
                let picture = image::open(repository().join("data/samples").join(name)).unwrap();
                model.input(&picture.into_rgb8())
            })
            .collect();
        let together = inference
            .forward(&inputs.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(together.len(), inputs.len());
        for (output, input) in together.iter().zip(&inputs) {
            let alone = inference.forward_one(input).unwrap();
            let apart = output.conf.iter().zip(&alone.conf);
            let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 0.02, "{precision}: {apart}");
        }
    }
}

#[test]
fn every_layer_stays_near_single_precision() {
    let (model, network) = model();
    let picture = image::open(repository().join("data/samples/street.jpg")).unwrap();
    let input = model.input(&picture.into_rgb8());
    for (precision, most) in [
        (Precision::F32, 1e-4),
        (Precision::Bf16, 0.05),
        (Precision::Int8, 0.15),
    ] {
        let (_, inference) = in_precision(precision);
        let errors = inference.errors(&network, &input).unwrap();
        assert_eq!(errors.len(), 24);
        for layer in errors {
            assert!(layer.error <= most, "{precision}: {layer:?}");
        }
    }
}

/// The same function as the demo model, with every other factor of its normalisation negated, and with it
/// what the heads multiply that channel by.
fn demo_with_factors_below_zero() -> StateDict {
    let (folder, demo) = (tempfile::tempdir().unwrap(), demo());
    let path = folder.path().join("negated.safetensors");
    let tensors = demo.tensors().map(|tensor| {
        let mut new = NewTensor::from(tensor);
        let heads = ["loc.0.weight", "conf.0.weight"].contains(&&*new.name);
        if heads || new.name == "L2Norm.weight" {
            assert_eq!(new.dtype, Dtype::F16);
            let channels = new.shape[usize::from(heads)];
            let each: usize = new.shape.iter().skip(2).product();
            for (at, value) in new.bytes.to_mut().chunks_exact_mut(2).enumerate() {
                if (at / each % channels).is_multiple_of(2) {
                    value[1] ^= 0x80;
                }
            }
        }
        new
    });
    write_safetensors(&path, tensors.collect(), demo.metadata()).unwrap();
    StateDict::open(&path).unwrap()
}

#[test]
fn a_normalisation_by_factors_below_zero_loses_nothing() {
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).unwrap();
    let picture = image::open(repository().join("data/samples/street.jpg")).unwrap();
    let picture = picture.into_rgb8();
    for precision in [Precision::F32, Precision::Int8] {
        let (model, inference) = in_precision(precision);
        let input = model.input(&picture);
        let expected = inference.forward_one(&input).unwrap();
        let negated = || Model::new(&demo_with_factors_below_zero(), &labels).unwrap();
        let (model, network) = negated();
        let wanted = Wanted {
            precision: Some(precision),
            place: Place::Cpu,
        };
        let (inference, _) = inference::prepare(network, model.family(), None, wanted).unwrap();
        let found = inference.forward_one(&input).unwrap();
        let apart = expected.conf.iter().zip(&found.conf);
        let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(apart < 1e-3, "{precision}: {apart}");
        for layer in inference.errors(&negated().1, &input).unwrap() {
            assert!(layer.error <= 0.15, "{precision}: {layer:?}");
        }
    }
}

fn ssd(arguments: &[&str], settings: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ssd"))
        .args(arguments)
        .envs(settings.iter().copied())
        .current_dir(repository())
        .output()
        .unwrap()
}

fn calibrated(folder: &Path) -> String {
    let output = folder.join("calibrated.safetensors");
    let output = output.to_str().unwrap().to_owned();
    let pictures = ["data/samples/street.jpg", "data/samples/counter.jpg"];
    let mut arguments = vec!["calibrate", "weights/demo.safetensors"];
    arguments.extend(pictures);
    arguments.extend(["-o", &output]);
    let done = ssd(&arguments, &[]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("vgg.33"), "{said}");
    assert!(
        said.ends_with("71 tensors, calibrated for int8 on 2 pictures\n"),
        "{said}"
    );
    // Nobody's weights are replaced unasked.
    let again = ssd(&arguments, &[]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    output
}

#[test]
fn calibrated_weights_run_in_eight_bits_where_the_processor_is_good_at_them() {
    let folder = tempfile::tempdir().unwrap();
    let weights = calibrated(folder.path());
    let state = StateDict::open(Path::new(&weights)).unwrap();
    let scales = ssd_server::detector::scales(&state).unwrap();
    assert!(scales.is_some());
    let (model, network) = model();
    let (_, choice) =
        inference::prepare(network, model.family(), scales, Wanted::default()).unwrap();
    let processor = Processor::of_this_machine();
    let eight = processor.x86 && processor.avx2;
    assert_eq!(choice.precision == Precision::Int8, eight, "{choice:?}");
    let found = ssd(
        &["predict", "data/samples/street.jpg"],
        &[("WEIGHTS_PATH", &weights), ("PRECISION", "int8")],
    );
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("stop sign"), "{found}");
}

#[test]
fn scales_that_nobody_could_have_measured_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let demo = demo();
    for (scales, complaint) in [
        ("{\"vgg.0\": 0}", "a scale that is not a number above zero"),
        (
            "{\"vgg.0\": 1e-300}",
            "a scale that is not a number above zero",
        ),
        ("[1]", "is no JSON object"),
        ("{\"vgg.0\": 0.1}", "has no scale for layer"),
    ] {
        let path = folder.path().join("odd.safetensors");
        let mut metadata = demo.metadata().clone();
        metadata.insert("int8-scales".to_owned(), scales.to_owned());
        let tensors = demo.tensors().map(NewTensor::from);
        write_safetensors(&path, tensors.collect(), &metadata).unwrap();
        let refused = ssd(
            &["predict", "data/samples/cat.png"],
            &[
                ("WEIGHTS_PATH", path.to_str().unwrap()),
                ("PRECISION", "int8"),
            ],
        );
        assert!(!refused.status.success());
        let error = String::from_utf8(refused.stderr).unwrap();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_not_the_processor() {
    let refused = ssd(
        &["predict", "data/samples/cat.png"],
        &[("DEVICE", "cuda:31")],
    );
    assert!(!refused.status.success());
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(
        error.contains("cuda:31") && error.contains("CUDA devices"),
        "{error}"
    );
}
