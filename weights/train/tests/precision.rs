//! Runs a network of the VGG layout in every precision: the detections stay the same.
//!
//! The network is first trained on squares, from random weights: the activations of an untrained network do not show
//! what eight bits cost. Only x86-64 has all precisions.
#![cfg(target_arch = "x86_64")]

mod squares;

use std::path::Path;
use std::sync::OnceLock;

use ssd_detector::boxes::Criteria;
use ssd_detector::inference::{self, Inference};
use ssd_detector::labels::Labels;
use ssd_detector::network::Network;
use ssd_detector::precision::{Precision, Requested, RequestedDevice};
use ssd_detector::{Detection, Model};
use ssd_train::fit::random::Random;
use state_dict::{Dtype, NewTensor, StateDict, safetensors_bytes, write_safetensors};

/// A narrow SSD300, whose values are not used.
fn layout() -> StateDict {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/tests/data/small.safetensors");
    StateDict::open(&path).unwrap()
}

/// Writes random weights that come in pairs, W and -W: one of the two `ReLU`s lets each value pass, and the whole
/// network starts as a linear one (Balduzzi et al. 2017, section 4). Without normalisation, the output of fifteen
/// layers of independent random weights is nearly the same for all pictures.
fn write_untrained(path: &Path) {
    let random = &mut Random::new(1, 0);
    let layout = layout();
    let tensors = layout.tensors().map(|tensor| {
        let values = match *tensor.shape() {
            [outputs, inputs, height, width] => {
                let area = height * width;
                let head = tensor.name().starts_with("loc") || tensor.name().starts_with("conf");
                let first = inputs == 3;
                // The inputs of the first layer are from 0 to 255, and those of the first heads have a norm of 20. The
                // outputs of all heads start near 0.
                let gain = match tensor.name() {
                    _ if first => 1.0 / 64.0,
                    "loc.0.weight" | "conf.0.weight" => 0.02,
                    _ if head => 0.1,
                    _ => 1.0,
                };
                let (out_twin, in_twin) = (
                    if head { outputs } else { outputs / 2 },
                    if first { inputs } else { inputs / 2 },
                );
                let deviation = gain * (2.0 / (inputs * area) as f32).sqrt();
                let count = out_twin * in_twin * area;
                let base: Vec<f32> = (0..count).map(|_| random.normal() * deviation).collect();
                let value = |index: usize| {
                    let (output, input) = (index / area / inputs, index / area % inputs);
                    let same = (output < out_twin) == (input < in_twin);
                    let at = (output % out_twin * in_twin + input % in_twin) * area + index % area;
                    if same { base[at] } else { -base[at] }
                };
                (0..outputs * inputs * area).map(value).collect()
            }
            _ if tensor.name() == "L2Norm.weight" => vec![20.0; tensor.element_count()],
            _ => vec![0.0f32; tensor.element_count()],
        };
        NewTensor {
            name: tensor.name().into(),
            dtype: Dtype::F32,
            shape: tensor.shape().into(),
            bytes: values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
                .into(),
        }
    });
    write_safetensors(path, tensors.collect(), layout.metadata()).unwrap();
}

/// The weights that `fit` trains from the random ones.
fn trained() -> &'static StateDict {
    static TRAINED: OnceLock<StateDict> = OnceLock::new();
    TRAINED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        squares::write(folder.path(), 60);
        write_untrained(&folder.path().join("untrained.safetensors"));
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_ssd-train"))
            .current_dir(folder.path())
            .args(["fit", ".", "-o", "trained.safetensors"])
            .args(["--from", "untrained.safetensors", "--freeze", "1"])
            .args(["--learning-rate", "0.004", "--epochs", "24"])
            .output()
            .unwrap();
        let printed = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(done.status.success(), "{printed}");
        let bytes = std::fs::read(folder.path().join("trained.safetensors")).unwrap();
        StateDict::from_bytes(bytes).unwrap()
    })
}

/// Pictures that the network was not trained on.
fn pictures() -> [image::RgbImage; 3] {
    [100, 103, 106].map(|index| squares::picture(index).0)
}

fn model(state: &StateDict) -> (Model, Network) {
    let labels = Labels::parse(squares::CLASSES.join("\n").as_bytes()).unwrap();
    Model::new(state, &labels).unwrap()
}

fn in_precision(state: &StateDict, precision: Precision) -> (Model, Inference) {
    // The tests share the cores.
    tch::set_num_threads(1);
    let (model, network) = model(state);
    let wanted = Requested {
        precision: Some(precision),
        device: RequestedDevice::Cpu,
    };
    let (inference, choice) = inference::prepare(network, None, wanted).unwrap();
    assert_eq!(choice.precision, precision);
    (model, inference)
}

/// The detection in a picture that has one object.
fn only_detection(precision: Precision, picture: &image::RgbImage) -> Detection {
    let (model, inference) = in_precision(trained(), precision);
    let output = inference.forward_one(&model.input(picture)).unwrap();
    let criteria = Criteria {
        threshold: 0.5,
        iou: 0.45,
        top_k: 200,
        classes_by_label: None,
    };
    let detections = model.detections(&output, &criteria, picture.dimensions());
    assert_eq!(detections.len(), 1, "{precision}: {detections:?}");
    detections[0].clone()
}

#[test]
fn every_precision_gives_nearly_the_same_labels_boxes_and_scores() {
    for picture in &pictures() {
        let exact = only_detection(Precision::F32, picture);
        for precision in [Precision::Bf16, Precision::Int8] {
            let found = only_detection(precision, picture);
            assert_eq!(found.label, exact.label, "{precision}");
            assert!(
                found.corners.iou(&exact.corners) > 0.85,
                "{precision}: {found:?}"
            );
            let apart = (found.score - exact.score).abs();
            assert!(apart < 0.1, "{precision}: {exact:?} {found:?}");
        }
    }
}

#[test]
fn a_batch_gives_each_picture_the_same_output_as_alone() {
    for precision in Precision::ALL {
        let (model, inference) = in_precision(trained(), precision);
        let inputs = pictures().map(|picture| model.input(&picture));
        let together = inference
            .forward(&inputs.iter().collect::<Vec<_>>())
            .unwrap();
        assert_eq!(together.len(), inputs.len());
        for (output, input) in together.iter().zip(&inputs) {
            let alone = inference.forward_one(input).unwrap();
            let apart = largest_difference(&output.scores, &alone.scores);
            assert!(apart < 0.02, "{precision}: {apart}");
        }
    }
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    // `max` ignores NaN.
    assert!(a.iter().chain(b).all(|value| value.is_finite()));
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

/// The largest error of a layer in int8. The last feature maps have a few dozen numbers, and training gives slightly other
/// weights on other processors.
const INT8: f64 = 0.2;

#[test]
fn every_layer_stays_close_to_single_precision() {
    for (precision, limit) in [
        (Precision::F32, 1e-4),
        (Precision::Bf16, 0.05),
        (Precision::Int8, INT8),
    ] {
        let (model, network) = model(trained());
        let (_, inference) = in_precision(trained(), precision);
        let input = model.input(&pictures()[0]);
        let errors = inference.errors(&network, &input).unwrap();
        assert_eq!(errors.len(), 24);
        for layer in errors {
            assert!(layer.error <= limit, "{precision}: {layer:?}");
        }
    }
}

/// A network that computes the same, with every other factor of the L2 normalisation negated, and the weights of the
/// heads for these channels too.
fn with_negative_factors(state: &StateDict) -> StateDict {
    let tensors = state.tensors().map(|tensor| {
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
    let bytes = safetensors_bytes(tensors.collect(), state.metadata()).unwrap();
    StateDict::from_bytes(bytes).unwrap()
}

#[test]
fn negative_factors_of_the_normalisation_lose_no_precision() {
    let negated = with_negative_factors(trained());
    let picture = &pictures()[0];
    for precision in [Precision::F32, Precision::Int8] {
        let (model, inference) = in_precision(trained(), precision);
        let input = model.input(picture);
        let expected = inference.forward_one(&input).unwrap();
        let (_, negated_inference) = in_precision(&negated, precision);
        let found = negated_inference.forward_one(&input).unwrap();
        let apart = largest_difference(&expected.scores, &found.scores);
        assert!(apart < 1e-3, "{precision}: {apart}");
        let (_, network) = self::model(&negated);
        for layer in negated_inference.errors(&network, &input).unwrap() {
            assert!(layer.error <= INT8, "{precision}: {layer:?}");
        }
    }
}
