//! The same networks in every precision: the answers stay, and what is chosen is what suits.

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

/// An SSD300 that was trained on drawn scenes, and two of those.
const DRAWN: &str = "server/tests/data/drawn/model.safetensors";
const SCENES: [&str; 2] = [
    "server/tests/data/drawn/street.jpg",
    "server/tests/data/drawn/counter.jpg",
];
/// The model that ships, and photographs.
const SHIPPED: &str = "weights/ssd_mobilenet_v2_oidv4.safetensors";
const PHOTOGRAPHS: [&str; 3] = [
    "data/samples/cat.png",
    "data/samples/astronaut.jpg",
    "data/samples/coffee.jpg",
];

fn drawn() -> StateDict {
    StateDict::open(&repository().join(DRAWN)).unwrap()
}

fn model(weights: &str) -> (Model, Network) {
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).unwrap();
    let state = StateDict::open(&repository().join(weights)).unwrap();
    Model::new(&state, &labels).unwrap()
}

fn picture(name: &str) -> image::RgbImage {
    image::open(repository().join(name)).unwrap().into_rgb8()
}

fn in_precision(weights: &str, precision: Precision) -> (Model, Inference) {
    // The tests share the cores.
    tch::set_num_threads(1);
    let (model, network) = model(weights);
    let wanted = Wanted {
        precision: Some(precision),
        place: Place::Cpu,
    };
    let (inference, choice) = inference::prepare(network, None, wanted).unwrap();
    assert_eq!(choice.precision, precision);
    (model, inference)
}

fn detections(weights: &str, precision: Precision, name: &str, threshold: f32) -> Vec<Detection> {
    let (model, inference) = in_precision(weights, precision);
    let picture = picture(name);
    let output = inference.forward_one(&model.input(&picture)).unwrap();
    let criteria = Criteria {
        threshold,
        ..CRITERIA
    };
    model.detections(&output, &criteria, picture.dimensions())
}

#[test]
fn the_model_that_ships_finds_the_same_in_single_precision_and_bfloat16() {
    for name in PHOTOGRAPHS {
        let exact = detections(SHIPPED, Precision::F32, name, 0.5);
        let found = detections(SHIPPED, Precision::Bf16, name, 0.5);
        assert_eq!((exact.len(), found.len()), (1, 1), "{name}");
        assert_eq!(exact[0].label, found[0].label, "{name}");
        assert!(exact[0].corners.iou(&found[0].corners) > 0.95, "{name}");
        let apart = (exact[0].probability - found[0].probability).abs();
        assert!(apart < 0.02, "{name}: {apart}");
    }
}

#[test]
fn every_precision_finds_the_same_objects_in_the_same_places() {
    for picture in SCENES {
        let exact = detections(DRAWN, Precision::F32, picture, 0.6);
        assert!(exact.len() >= 3);
        for precision in [Precision::Bf16, Precision::Int8] {
            let found = detections(DRAWN, precision, picture, 0.6);
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
    for (weights, precision) in [
        (DRAWN, Precision::F32),
        (DRAWN, Precision::Bf16),
        (DRAWN, Precision::Int8),
        (SHIPPED, Precision::F32),
        (SHIPPED, Precision::Bf16),
    ] {
        let (model, inference) = in_precision(weights, precision);
        let pictures = [SCENES[0], PHOTOGRAPHS[0], SCENES[1]];
        let inputs = pictures.map(|name| model.input(&picture(name)));
        let together = inference
            .forward(&inputs.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(together.len(), inputs.len());
        for (output, input) in together.iter().zip(&inputs) {
            let alone = inference.forward_one(input).unwrap();
            let apart = output.scores.iter().zip(&alone.scores);
            let apart = apart.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(apart < 0.02, "{weights} {precision}: {apart}");
        }
    }
}

#[test]
fn every_layer_stays_near_single_precision() {
    for (weights, name, layers, precision, most) in [
        (DRAWN, SCENES[0], 24, Precision::F32, 1e-4),
        (DRAWN, SCENES[0], 24, Precision::Bf16, 0.05),
        (DRAWN, SCENES[0], 24, Precision::Int8, 0.15),
        // Of 60 convolutions ten run as one with a sum.
        (SHIPPED, PHOTOGRAPHS[0], 60, Precision::F32, 1e-4),
        (SHIPPED, PHOTOGRAPHS[0], 60, Precision::Bf16, 0.1),
    ] {
        let (model, network) = model(weights);
        let (_, inference) = in_precision(weights, precision);
        let errors = inference.errors(&network, &model.input(&picture(name)));
        let errors = errors.unwrap();
        assert_eq!(errors.len(), layers);
        for layer in errors {
            assert!(layer.error <= most, "{weights} {precision}: {layer:?}");
        }
    }
}

/// The same function as the drawn scenes' model, with every other factor of its normalisation negated, and with it
/// what the heads multiply that channel by.
fn drawn_with_factors_below_zero() -> StateDict {
    let (folder, drawn) = (tempfile::tempdir().unwrap(), drawn());
    let path = folder.path().join("negated.safetensors");
    let tensors = drawn.tensors().map(|tensor| {
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
    write_safetensors(&path, tensors.collect(), drawn.metadata()).unwrap();
    StateDict::open(&path).unwrap()
}

#[test]
fn a_normalisation_by_factors_below_zero_loses_nothing() {
    let labels = Labels::parse(include_bytes!("../../data/coco_labels.txt")).unwrap();
    let picture = picture(SCENES[0]);
    for precision in [Precision::F32, Precision::Int8] {
        let (model, inference) = in_precision(DRAWN, precision);
        let input = model.input(&picture);
        let expected = inference.forward_one(&input).unwrap();
        let negated = || Model::new(&drawn_with_factors_below_zero(), &labels).unwrap();
        let (_, network) = negated();
        let wanted = Wanted {
            precision: Some(precision),
            place: Place::Cpu,
        };
        let (inference, _) = inference::prepare(network, None, wanted).unwrap();
        let found = inference.forward_one(&input).unwrap();
        let apart = expected.scores.iter().zip(&found.scores);
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
    let mut arguments = vec!["calibrate", DRAWN];
    arguments.extend(SCENES);
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
fn calibrated_weights_are_timed_in_eight_bits_and_run_so_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let weights = calibrated(folder.path());
    let state = StateDict::open(Path::new(&weights)).unwrap();
    let scales = ssd_server::detector::scales(&state).unwrap();
    assert!(scales.is_some());
    let (_, network) = model(DRAWN);
    let (_, choice) = inference::prepare(network, scales, Wanted::default()).unwrap();
    let processor = Processor::of_this_machine();
    if processor.x86 && processor.avx2 {
        assert!(choice.why.contains("int8"), "{choice:?}");
    } else {
        assert_eq!(choice.precision, Precision::F32, "{choice:?}");
    }
    let found = ssd(
        &["predict", SCENES[0]],
        &[("WEIGHTS_PATH", &weights), ("PRECISION", "int8")],
    );
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(found.contains("stop sign"), "{found}");
}

#[test]
fn scales_that_nobody_could_have_measured_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = drawn();
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
        let mut metadata = drawn.metadata().clone();
        metadata.insert("int8-scales".to_owned(), scales.to_owned());
        let tensors = drawn.tensors().map(NewTensor::from);
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
fn eight_bits_are_refused_with_a_reason_where_a_network_has_no_such_form() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let calibrate = [
        "calibrate",
        SHIPPED,
        PHOTOGRAPHS[0],
        "-o",
        output.to_str().unwrap(),
    ];
    let predict = ["predict", PHOTOGRAPHS[0]];
    for (arguments, precision) in [(&calibrate[..], "auto"), (&predict, "int8")] {
        let refused = ssd(
            arguments,
            &[("PRECISION", precision), ("WEIGHTS_PATH", SHIPPED)],
        );
        assert!(!refused.status.success());
        let error = String::from_utf8(refused.stderr).unwrap();
        for part in ["ssd-mobilenet-v2", "int8", "f32 or bf16"] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(!output.exists());
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
