//! Which of a file's tensors make the network, and what is said about the others.

use std::collections::BTreeMap;
use std::path::Path;

use ssd_detector::boxes::{Criteria, detect, each_class};
use ssd_detector::family::{COCO_ORIGINAL, Family, VOC};
use ssd_detector::inference;
use ssd_detector::labels::{COCO, GAP, Labels};
use ssd_detector::network::Network;
use ssd_detector::precision::Requested;
use ssd_detector::{Model, notes};
use state_dict::{Dtype, NewTensor, StateDict, safetensors_bytes};

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name)
}

fn coco_labels() -> Labels {
    Labels::parse(include_bytes!("../../../data/coco_labels.txt")).unwrap()
}

/// Tensors, by name.
type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// The tensors of a file, under names with this prefix.
fn tensors(file: &str, prefix: &str) -> Tensors {
    let state = StateDict::open(&data(file)).unwrap();
    let tensors = state.tensors().map(|tensor| {
        let name = format!("{prefix}{}", tensor.name());
        (name, tensor.shape().to_vec(), tensor.to_f32())
    });
    tensors.collect()
}

/// The tensors of a small SSD300 with 21 outputs, under names with this prefix.
fn small(prefix: &str) -> Tensors {
    tensors("small.safetensors", prefix)
}

fn state(tensors: &Tensors) -> StateDict {
    let new = tensors.iter().map(|(name, shape, values)| NewTensor {
        name: name.into(),
        dtype: Dtype::F32,
        shape: shape.into(),
        bytes: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect::<Vec<_>>()
            .into(),
    });
    // Safetensors keep the order.
    let bytes = safetensors_bytes(new.collect(), &BTreeMap::new()).unwrap();
    StateDict::from_bytes(bytes).unwrap()
}

fn priors(family: &Family) -> Vec<f32> {
    let priors = family.priors();
    let sides = priors.iter().flat_map(|p| [p.cx, p.cy, p.w, p.h]);
    sides.collect()
}

#[test]
fn of_several_state_dicts_the_model_s_is_used_and_the_choice_is_told() {
    for (prefixes, expected, note) in [
        (
            &["ema.", "model."][..],
            "model.",
            "of 2 state dicts in the file, `model` is used; the others are `ema`. To select one: `<memory>#ema`",
        ),
        (
            &["ema_state_dict.", "state_dict.module.", "best."],
            "state_dict.module.",
            "of 3 state dicts in the file, `state_dict.module` is used; the others are `ema_state_dict`, `best`. To \
             select one: `<memory>#ema_state_dict`",
        ),
        (
            &["averaged.", "raw."],
            "averaged.",
            "of 2 state dicts in the file, `averaged` is used; the others are `raw`. To select one: `<memory>#raw`",
        ),
    ] {
        let tensors: Tensors = prefixes.iter().flat_map(|prefix| small(prefix)).collect();
        let state = state(&tensors);
        assert_eq!(Family::recognise(&state).unwrap().prefix, expected);
        assert_eq!(notes(&state), [note]);
        let (model, _) = Model::new(&state, &coco_labels()).unwrap();
        assert_eq!(model.notes(), [note]);
    }
    assert!(notes(&state(&small(""))).is_empty());
}

#[test]
fn an_incomplete_state_dict_is_not_preferred_for_its_name() {
    let mut tensors = small("model.");
    tensors.truncate(40);
    tensors.extend(small("ema."));
    let state = state(&tensors);
    assert_eq!(Family::recognise(&state).unwrap().prefix, "ema.");
    Network::new(&state).unwrap();
}

#[test]
fn thousands_of_state_dicts_are_compared_in_bounded_time() {
    let one = |index: usize| (format!("{index}.vgg.0.weight"), vec![0], Vec::new());
    let tensors: Tensors = (0..20_000).map(one).collect();
    let state = state(&tensors);
    let start = std::time::Instant::now();
    let note = notes(&state).concat();
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
    assert!(
        note.starts_with("of 64 state dicts") && note.len() < 1000,
        "{note}"
    );
}

#[test]
fn counters_and_a_copy_of_the_prior_boxes_are_ignored_by_name_and_told() {
    for (prefix, named) in [("", ""), ("model.", "model.")] {
        let mut tensors = small(prefix);
        for counter in [
            "vgg.0.total_ops",
            "total_params",
            "vgg.1.num_batches_tracked",
            "n_averaged",
        ] {
            tensors.push((format!("{prefix}{counter}"), vec![1], vec![3.0]));
        }
        tensors.push((format!("{prefix}priors"), vec![1, 8732, 4], priors(&VOC)));
        let state = state(&tensors);
        Network::new(&state).unwrap();
        let expected = format!(
            "ignored, because the network has no use for them: `{named}vgg.0.total_ops`, `{named}total_params`, \
             `{named}vgg.1.num_batches_tracked`, `{named}n_averaged`, `{named}priors`"
        );
        assert_eq!(notes(&state), [expected]);
    }
}

#[test]
fn other_tensors_and_other_prior_boxes_are_refused() {
    for (name, shape, values) in [
        ("priors", vec![8732, 4], priors(&COCO_ORIGINAL)),
        ("priors", vec![8731, 4], priors(&VOC)[4..].to_vec()),
        ("priors", vec![4, 8732], priors(&VOC)),
        ("anchors", vec![1], vec![0.5]),
        ("vgg.1.running_mean", vec![1], vec![0.5]),
    ] {
        let mut tensors = small("");
        tensors.push((name.to_owned(), shape.clone(), values));
        let error = Network::new(&state(&tensors)).unwrap_err().to_string();
        assert!(
            error.contains(&format!("unexpected: `{name}` {shape:?}")),
            "{error}"
        );
    }
}

/// The scores of a network on a blank picture.
fn scores(network: Network) -> Vec<f32> {
    let (inference, _) = inference::prepare(network, None, Requested::REFERENCE).unwrap();
    inference.forward_one(&inference.blank()).unwrap().scores
}

#[test]
fn a_network_that_was_trained_here_has_biases_in_place_of_batch_normalisation() {
    let published = StateDict::open(&data("ssdlite.safetensors")).unwrap();
    assert_eq!(notes(&published), [""; 0], "its counters are its own");
    let network = Network::new(&published).unwrap();
    let saved = network.parameters().into_iter().map(|(name, tensor)| {
        let shape = tensor.size().iter().map(|side| *side as usize).collect();
        let values = Vec::<f32>::try_from(tensor.contiguous().view(-1)).unwrap();
        (name, shape, values)
    });
    let again = Network::new(&state(&saved.collect())).unwrap();
    assert_eq!(again.family(), network.family());
    assert_eq!(scores(again), scores(network));
}

#[test]
fn batch_normalisation_that_is_incomplete_or_impossible_is_refused() {
    let norm = "backbone.features.0.0.1";
    let variances = format!("{norm}.running_var");
    let mut negative = tensors("ssdlite.safetensors", "");
    let named = negative.iter_mut().find(|(name, ..)| *name == variances);
    named.unwrap().2[0] = -0.5;
    let mut missing = tensors("ssdlite.safetensors", "");
    missing.retain(|(name, ..)| *name != format!("{norm}.running_mean"));
    for (tensors, expected) in [
        (
            negative,
            "`backbone.features.0.0.1.running_var` has negative variances",
        ),
        (
            missing,
            "missing: `backbone.features.0.0.1.running_mean` [8]",
        ),
    ] {
        let error = Network::new(&state(&tensors)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A small SSD300 whose classification heads have random weights for this number of outputs, large enough for scores
/// near 1.
fn lively(outputs: usize) -> Tensors {
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let mut tensors = small("");
    for (_, shape, values) in tensors
        .iter_mut()
        .filter(|(name, ..)| name.starts_with("conf."))
    {
        shape[0] = shape[0] / 21 * outputs;
        let count = shape.iter().product();
        *values = (0..count).map(|_| 20.0 * random()).collect();
    }
    tensors
}

#[test]
fn gaps_are_never_detected() {
    let criteria = Criteria {
        threshold: 0.3,
        iou: 0.45,
        top_k: 10_000,
        classes_by_label: None,
    };
    let picture = image::open(data("cat.png")).unwrap().into_rgb8();
    for outputs in [201, 91] {
        let (model, network) = Model::new(&state(&lively(outputs)), &coco_labels()).unwrap();
        let (inference, _) = inference::prepare(network, None, Requested::REFERENCE).unwrap();
        let output = inference.forward_one(&model.input(&picture)).unwrap();
        let all = detect(
            &output,
            &model.family().priors(),
            model.family(),
            &each_class(outputs),
            &criteria,
        );
        let is_gap = |class: usize| model.labels()[class - 1] == GAP;
        assert!(all.iter().any(|found| is_gap(found.class)), "{outputs}");
        let shown = model.detections(&output, &criteria, picture.dimensions());
        assert!(shown.len() > 50, "{outputs}: {}", shown.len());
        for found in shown {
            assert!(!is_gap(found.class));
            assert!(
                COCO.iter().any(|class| class.name == found.label),
                "{found:?}"
            );
        }
    }
}

#[test]
fn the_201_outputs_of_the_original_coco_weights_are_80_classes_and_gaps() {
    let state = state(&lively(201));
    let (model, network) = Model::new(&state, &coco_labels()).unwrap();
    assert_eq!((model.family(), network.classes()), (&COCO_ORIGINAL, 201));
    let names: Vec<_> = COCO.iter().map(|class| class.name).collect();
    assert_eq!(model.labels()[..80], names);
    assert!(model.labels()[80..].iter().all(|label| label == GAP));
    assert_eq!(model.matched().to_string(), "by name");
    // A list of 200 names is the user's own.
    let own: Vec<String> = (0..200).map(|class| format!("class {class}")).collect();
    let labels = Labels::parse(own.join("\n").as_bytes()).unwrap();
    assert_eq!(Model::new(&state, &labels).unwrap().0.labels(), own);
}

/// A file of the format before `PyTorch` 1.6 whose object is a dict of these opcodes, and which has one storage of one
/// float, `0`.
fn legacy(items: &[u8]) -> StateDict {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let (version, system) = (b"\x80\x02M\xe9\x03.", b"\x80\x02}.");
    let object = [b"\x80\x02}(", items, b"u."].concat();
    let keys = b"\x80\x02]U\x010a.";
    let storage = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let file = [magic, &version[..], system, &object, keys, &storage].concat();
    StateDict::from_bytes(file).unwrap()
}

/// The opcodes of a tensor of one float.
const TENSOR: &[u8] =
    b"ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQK\0\
    (K\x01t(K\x01ttR";

#[test]
fn a_tensor_of_an_unknown_kind_is_named_and_not_called_missing() {
    let strange = b"U\x0avgg.0.biasctorch._utils\n_rebuild_something_v9\n)R";
    let state = legacy(&[b"U\x0cvgg.0.weight", TENSOR, strange].concat());
    let error = Network::new(&state).unwrap_err().to_string();
    let expected = "`vgg.0.bias` is an object of `torch._utils._rebuild_something_v9`, which is not read; only dense \
                    tensors are";
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains("missing: `vgg.0.bias`"), "{error}");
}

#[test]
fn where_no_state_dict_remains_the_skipped_objects_are_named() {
    let state = legacy(&[b"U\x04loss", TENSOR, b"U\x05modelcssd\nSSD\n)R"].concat());
    let error = Network::new(&state).unwrap_err().to_string();
    let expected = "Its first are `loss`; skipped unread, and nothing was run: `ssd.SSD`; in the entries `model`. If a \
                    whole model was saved, save `model.state_dict()`, not `model`. The known networks are ";
    assert!(error.contains(expected), "{error}");
}
