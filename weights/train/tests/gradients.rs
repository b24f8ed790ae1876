//! Compares the training losses and their gradients with those of `PyTorch`, see `tests/reference/gradients.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use ssd_detector::network::Network;
use ssd_train::fit::batches::Batch;
use ssd_train::fit::loss::loss;
use state_dict::StateDict;
use tch::{Kind, Tensor};

const SHIPPED: &str = "../ssd_mobilenet_v2_oidv4.safetensors";
const VGG: &str = "../../server/tests/data/small.safetensors";

/// The maximum deviation of a gradient, as a share of the largest gradient of its parameter.
const TOLERANCE: f64 = 1e-4;
/// The maximum relative deviation of a loss.
const LOSS_TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Golden {
    focal: Expected,
    multibox: Expected,
}

/// The results of `PyTorch` for the batch.
#[derive(Deserialize)]
struct Expected {
    loss: f64,
    gradients: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    largest: f64,
    /// Sixteen evenly spaced values, or all if there are fewer.
    values: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("data/gradients.json")).unwrap()
}

/// A network whose parameters require gradients.
fn network(file: &str) -> Network {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let network = Network::new(&StateDict::open(&path).unwrap()).unwrap();
    for (_, parameter) in network.parameters() {
        let _ = parameter.set_requires_grad(true);
    }
    network
}

/// The batch of the reference: two pictures of bent stripes, with whole numbers from -127 to 127 times `scale`; an
/// object's class for every 73rd prior box, -1 for every 31st.
fn batch(network: &Network, scale: f32) -> Batch {
    let mut pictures = Vec::new();
    for picture in 0..2 {
        for channel in 0..3 {
            for (y, x) in (0..300).flat_map(|y| (0..300).map(move |x| (y, x))) {
                let level = x * (3 + picture) + y * (7 + channel) + x * y / 16 + 50 * channel;
                pictures.push((level % 255 - 127) as f32 * scale);
            }
        }
    }
    let objects = network.classes() as i64 - 1;
    let priors = network.family().priors().len() as i64;
    let class = |prior: i64| match prior {
        _ if prior % 73 == 13 => 1 + prior % objects,
        _ if prior % 31 == 0 => -1,
        _ => 0,
    };
    let classes: Vec<i64> = (0..2 * priors).map(class).collect();
    let offset = |index: i64| (index * 29 % 129 - 64) as f32 / 32.0;
    let offsets: Vec<f32> = (0..2 * priors * 4).map(offset).collect();
    Batch {
        pictures: Tensor::from_slice(&pictures).view([2, 3, 300, 300]),
        classes: Tensor::from_slice(&classes).view([2, priors]),
        offsets: Tensor::from_slice(&offsets).view([2, priors, 4]),
    }
}

/// Adds the gradients of a batch, or of a part of one, to those of the parameters. Returns the loss.
fn backward(network: &Network, batch: &Batch, matched: f64) -> f64 {
    let (offsets, logits) = network.outputs(&batch.pictures).unwrap();
    let targets = (&batch.offsets, &batch.classes);
    let scores = network.family().scores;
    let loss = loss(scores, (&offsets, &logits), targets, matched).unwrap();
    loss.backward();
    loss.double_value(&[])
}

#[track_caller]
fn assert_loss(loss: f64, expected: f64) {
    let deviation = (loss - expected).abs() / expected;
    assert!(deviation <= LOSS_TOLERANCE, "{loss} instead of {expected}");
}

#[track_caller]
fn assert_gradients(network: &Network, golden: &BTreeMap<String, Gradient>) {
    let parameters = network.parameters();
    assert_eq!(parameters.len(), golden.len());
    for (name, parameter) in parameters {
        let expected = &golden[&name];
        let gradient = parameter.grad().reshape([-1]);
        // The sum of a million squares is not exact enough in single precision.
        let norm = gradient.to_kind(Kind::Double).norm().double_value(&[]);
        let deviation = (norm - expected.norm).abs() / expected.norm;
        assert!(deviation <= TOLERANCE, "{name}: the norm is {norm}");
        let values = Vec::<f32>::try_from(&gradient).unwrap();
        let stride = (values.len() / 16).max(1);
        let spaced: Vec<f32> = values.into_iter().step_by(stride).take(16).collect();
        assert_eq!(spaced.len(), expected.values.len(), "{name}");
        for (&value, expected_value) in spaced.iter().zip(&expected.values) {
            let deviation = (f64::from(value) - expected_value).abs() / expected.largest;
            assert!(
                deviation <= TOLERANCE,
                "{name}: {value} instead of {expected_value}"
            );
        }
    }
}

#[test]
fn gradients_of_focal_loss_in_the_model_that_ships_equal_those_of_pytorch() {
    let (network, expected) = (network(SHIPPED), golden().focal);
    let batch = batch(&network, 1.0 / 128.0);
    let loss = backward(&network, &batch, batch.matched().unwrap());
    assert_loss(loss, expected.loss);
    assert_gradients(&network, &expected.gradients);
}

#[test]
fn gradients_of_multibox_loss_in_the_vgg_layout_equal_those_of_pytorch() {
    let (network, expected) = (network(VGG), golden().multibox);
    let batch = batch(&network, 1.0);
    let loss = backward(&network, &batch, batch.matched().unwrap());
    assert_loss(loss, expected.loss);
    assert_gradients(&network, &expected.gradients);
}

#[test]
fn losses_and_gradients_of_single_pictures_add_up_to_those_of_the_batch() {
    let (network, expected) = (network(SHIPPED), golden().focal);
    let batch = batch(&network, 1.0 / 128.0);
    let (parts, matched) = (batch.split(1).unwrap(), batch.matched().unwrap());
    assert_eq!(parts.len(), 2);
    let losses = parts.iter().map(|part| backward(&network, part, matched));
    assert_loss(losses.sum(), expected.loss);
    assert_gradients(&network, &expected.gradients);
}
