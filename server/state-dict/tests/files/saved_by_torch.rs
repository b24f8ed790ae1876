//! Files by `PyTorch` and safetensors, compared with their contents according to `PyTorch`.

use serde_json::Value;
use state_dict::{Format, StateDict, Tensor};

use super::data;

const SMALL: [&str; 3] = ["small-legacy.pth", "small-zip.pth", "small.safetensors"];

fn open(name: &str) -> StateDict {
    StateDict::open(&data(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn golden(name: &str) -> serde_json::Map<String, Value> {
    let text = std::fs::read_to_string(data(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Checks each tensor of `file` against its entry in `golden`, after its name and shape.
fn each_tensor(
    file: &str,
    golden: &serde_json::Map<String, Value>,
    check: impl Fn(Tensor<'_>, &Value),
) {
    let weights = open(file);
    assert_eq!(weights.len(), golden.len(), "{file}");
    for (name, facts) in golden {
        let tensor = weights
            .get(name)
            .unwrap_or_else(|| panic!("{file}: no {name}"));
        assert_eq!(
            serde_json::json!(tensor.shape()),
            facts["shape"],
            "{file}: {name}"
        );
        check(tensor, facts);
    }
}

#[test]
fn one_state_dict_in_three_formats_has_the_same_bits() {
    let golden = golden("small-weights.json");
    for file in SMALL {
        each_tensor(file, &golden, |tensor, facts| {
            assert_eq!(
                u64::from(crc32fast::hash(&tensor.to_bytes())),
                facts["crc32"],
                "{file}: {tensor:?}"
            );
            let bits: Vec<u8> = tensor
                .to_f32()
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            assert_eq!(bits, *tensor.to_bytes(), "{file}: {tensor:?}");
        });
    }
}

#[test]
fn statistics_equal_torch_s() {
    let golden = golden("small-weights.json");
    let weights = open("small-legacy.pth");
    for tensor in weights.tensors() {
        let (stats, facts) = (tensor.stats(), &golden[tensor.name()]);
        assert_eq!(stats.min, Some(exact(&facts["min"])), "{tensor:?}");
        assert_eq!(stats.max, Some(exact(&facts["max"])), "{tensor:?}");
        assert_eq!(stats.non_finite, 0, "{tensor:?}");
        let sum = stats.mean.unwrap() * tensor.element_count() as f64;
        let expected = facts["sum"].as_f64().unwrap();
        assert!(
            (sum - expected).abs() <= 1e-9 * (1.0 + expected.abs()),
            "{tensor:?}: {sum}, {expected}"
        );
    }
}

#[test]
fn pth_files_keep_the_order_of_the_state_dict() {
    for file in ["small-legacy.pth", "small-zip.pth"] {
        let weights = open(file);
        let names: Vec<_> = weights.tensors().map(|tensor| tensor.name()).collect();
        assert_eq!(
            names[..3],
            ["vgg.0.weight", "vgg.0.bias", "vgg.2.weight"],
            "{file}"
        );
        assert_eq!(names.last(), Some(&"conf.5.bias"), "{file}");
    }
}

#[test]
fn the_format_is_recognised_by_the_bytes_not_by_the_name() {
    let folder = tempfile::tempdir().unwrap();
    for (file, name) in SMALL
        .into_iter()
        .zip(["pth-legacy", "pth-zip", "safetensors"])
    {
        let path = folder.path().join(format!("{name}.jpg"));
        std::fs::copy(data(file), &path).unwrap();
        let weights = StateDict::open(&path).unwrap();
        assert_eq!(weights.format().name(), name);
        assert_eq!(weights.path(), path);
        assert!(weights.metadata().is_empty());
    }
}

#[test]
fn every_element_type_stride_and_nesting_is_read_as_by_torch() {
    let golden = golden("variants.json");
    for file in [
        "variants-legacy-protocol1.pth",
        "variants-legacy-protocol3.pth",
        "variants-legacy-protocol4.pth",
        "variants-zip-protocol2.pth",
        "variants-zip-protocol5.pth",
        "variants.safetensors",
    ] {
        each_tensor(file, &golden, |tensor, facts| {
            assert_eq!(
                tensor.dtype().to_string(),
                facts["dtype"],
                "{file}: {tensor:?}"
            );
            let expected: Vec<f32> = facts["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(number)
                .collect();
            let found = tensor.to_f32();
            let same =
                |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
            let all_same = found.len() == expected.len() && found.iter().zip(&expected).all(same);
            assert!(
                all_same,
                "{file}: {tensor:?}: {found:?}, expected {expected:?}"
            );
        });
    }
}

/// A float that was an `f32`. `serde_json` reads an `f64` only to within its last bit.
fn exact(value: &Value) -> f64 {
    number(value).into()
}

/// JSON has no infinity and no NaN: they are strings there.
fn number(value: &Value) -> f32 {
    let number = value
        .as_f64()
        .unwrap_or_else(|| value.as_str().unwrap().parse().unwrap());
    number as f32
}

#[test]
fn tensors_of_a_checkpoint_come_in_its_order_under_dotted_names() {
    for file in [
        "variants-legacy-protocol1.pth",
        "variants-zip-protocol5.pth",
    ] {
        let weights = open(file);
        let names: Vec<_> = weights
            .tensors()
            .map(|tensor| tensor.name().to_owned())
            .collect();
        assert_eq!(names[0], "state_dict.bool", "{file}");
        let last = [
            "model.0.bias",
            "optimizer.state.0.momentum",
            "history.0",
            "history.1.0",
        ];
        assert_eq!(names[names.len() - 4..], last, "{file}");
    }
}

#[test]
fn the_protocol_is_recognised() {
    for (file, expected) in [
        ("variants-legacy-protocol1.pth", 0),
        ("variants-legacy-protocol4.pth", 4),
        ("variants-zip-protocol5.pth", 5),
    ] {
        let weights = open(file);
        let (Format::PthLegacy(dialect) | Format::PthZip(dialect)) = weights.format() else {
            panic!("{file}: {}", weights.format());
        };
        assert_eq!(dialect.protocol, expected, "{file}");
        assert!(
            !dialect.python2_strings && !dialect.rebuild_tensor_v1 && !dialect.cuda,
            "{file}: {dialect:?}"
        );
    }
}

#[test]
fn safetensors_metadata_is_read() {
    let weights = open("variants.safetensors");
    let metadata: Vec<_> = weights
        .metadata()
        .iter()
        .map(|(key, value)| (&**key, &**value))
        .collect();
    assert_eq!(metadata, [("classes", "cat\ndog"), ("format", "pt")]);
}
