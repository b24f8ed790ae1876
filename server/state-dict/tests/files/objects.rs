//! Checkpoints with objects that are not data: they are skipped unread, and no tensor is taken from them.

use state_dict::StateDict;

use super::build::*;
use super::{assert_object, assert_refused, data, read};

/// One `float32` of the storage that `legacy_floats` writes.
fn one() -> Value {
    tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1])
}

fn with(entries: &[(&str, Value)]) -> Vec<u8> {
    let pairs: Vec<_> = entries
        .iter()
        .map(|(name, value)| (text(name), value.clone()))
        .collect();
    legacy_floats(&dict(&pairs), &[1.0])
}

fn names(weights: &StateDict) -> Vec<&str> {
    weights.tensors().map(|tensor| tensor.name()).collect()
}

#[test]
fn the_state_dict_of_a_checkpoint_is_read_beside_every_kind_of_object() {
    for file in [
        "checkpoint-legacy-protocol1.pth",
        "checkpoint-legacy-protocol2.pth",
        "checkpoint-zip-protocol2.pth",
        "checkpoint-zip-protocol5.pth",
    ] {
        let weights = StateDict::open(&data(file)).unwrap_or_else(|error| panic!("{error}"));
        let expected = [
            "model.conv.weight",
            "model.conv.bias",
            "optimizer.state.0.momentum_buffer",
            "optimizer.state.1.momentum_buffer",
            "by_layer.conv.scale",
        ];
        assert_eq!(names(&weights), expected, "{file}");
        assert_eq!(weights.get("model.conv.bias").unwrap().to_f32(), [1.0, 2.0]);
        let skipped = weights.skipped().to_string();
        let shown = [
            "`argparse.Namespace`",
            "in the entries `args`, `best`, `random.1`, `started`,",
        ];
        for words in shown {
            assert!(skipped.contains(words), "{file}: {skipped}");
        }
    }
}

#[test]
fn a_whole_model_is_refused_with_advice_and_its_tensors_are_not_taken() {
    for file in ["whole-legacy.pth", "whole-zip.pth"] {
        let error = StateDict::open(&data(file)).unwrap_err().to_string();
        for words in [
            "it is an object of `__main__.Net`",
            "nothing was run",
            "save `model.state_dict()`, not `model`",
        ] {
            assert!(error.contains(words), "{file}: {error}");
        }
    }
    let class = [
        text("module"),
        global("net", "Net"),
        text("net.py"),
        text("class Net: ..."),
    ];
    let new = [&*tuple(&class), b"Q)\x81"].concat();
    let model = [
        new,
        dict(&[(text("_parameters"), dict(&[(text("x"), one())]))]),
    ]
    .concat();
    let model = [&*model, b"b"].concat();
    assert_object(legacy_floats(&model, &[1.0]), "net.Net");
    let in_a_dict = with(&[("epoch", int(3)), ("model", model.clone())]);
    assert_refused(
        in_a_dict,
        &[
            "no tensors, and its entry `model` is an object of `net.Net`",
            "state_dict()",
        ],
    );
    let beside = read(with(&[
        ("model", model),
        ("state_dict", dict(&[(text("x"), one())])),
    ]));
    assert_eq!(names(&beside), ["state_dict.x"]);
    assert_eq!(beside.skipped_at("model"), Some("`net.Net`"));
}

#[test]
fn nothing_that_belongs_to_an_object_is_a_tensor() {
    let object = || call("mine", "Config", &[one()]);
    let inside = [
        object(),
        [object(), dict(&[(text("x"), one())]), b"b".to_vec()].concat(),
        [object(), one(), b"a".to_vec()].concat(),
        [object(), b"(".to_vec(), one(), one(), b"e".to_vec()].concat(),
        [object(), text("x"), one(), b"s".to_vec()].concat(),
        [object(), b"(".to_vec(), text("x"), one(), b"u".to_vec()].concat(),
        [object(), b"(".to_vec(), one(), vec![0x90]].concat(),
        [object(), tuple(&[one()]), b"R".to_vec()].concat(),
        [
            global("mine", "Config"),
            tuple(&[]),
            dict(&[(text("x"), one())]),
            vec![0x92],
        ]
        .concat(),
        call("collections", "OrderedDict", &[object()]),
        call("torch", "Size", &[object()]),
        call(
            "torch._utils",
            "_rebuild_parameter",
            &[object(), vec![0x88], dict(&[])],
        ),
        call(
            "torch._utils",
            "_rebuild_tensor_v2",
            &[object(), int(0), ints(&[1]), ints(&[1])],
        ),
        call(
            "copy_reg",
            "_reconstructor",
            &[global("mine", "Config"), global("x", "y"), one()],
        ),
    ];
    for object in inside {
        let weights = read(with(&[("object", object), ("x", one())]));
        assert_eq!(names(&weights), ["x"]);
        assert_eq!(weights.skipped_at("object"), Some("`mine.Config`"));
    }
}

#[test]
fn what_has_an_object_for_its_key_is_skipped() {
    let key = || call("mine", "Phase", &[int(1)]);
    for value in [one(), dict(&[(text("x"), one())]), key()] {
        let weights = read(with(&[("losses", dict(&[(key(), value)])), ("x", one())]));
        assert_eq!(names(&weights), ["x"]);
        let skipped = weights.skipped().to_string();
        assert!(skipped.ends_with(": `mine.Phase`"), "{skipped}");
    }
}

#[test]
fn an_object_in_the_place_of_a_tensor_is_found_by_its_name() {
    let function = "_rebuild_something_v9";
    let strange = call("torch._utils", function, &[storage("FloatStorage", "0", 1)]);
    let weights = read(with(&[(
        "model",
        dict(&[(text("x"), strange), (text("y"), one())]),
    )]));
    assert_eq!(names(&weights), ["model.y"]);
    let made_by = Some("`torch._utils._rebuild_something_v9`");
    assert_eq!(weights.skipped_at("model.x"), made_by);
    assert_eq!(weights.skipped_at("model.y"), None);
}

#[test]
fn a_tensor_of_a_class_of_its_own_is_its_tensor() {
    let arguments = [&tensor_arguments()[..], &[call("mine", "Hooks", &[])]].concat();
    let rebuild = [
        global("torch._utils", "_rebuild_tensor_v2"),
        global("mine", "Annotated"),
        tuple(&arguments),
        call("mine", "Attributes", &[]),
    ];
    let tensor = call("torch._tensor", "_rebuild_from_type_v2", &rebuild);
    assert_eq!(names(&read(with(&[("x", tensor)]))), ["x"]);
}

#[test]
fn the_report_of_what_was_skipped_is_short() {
    assert!(read(with(&[("x", one())])).skipped().is_empty());
    let long = "é\u{1b}".repeat(200);
    let objects: Vec<_> = (0..5_000)
        .map(|index| call("mine", &format!("Class{index}"), &[]))
        .collect();
    let weights = read(with(&[(&long, list(&objects)), ("x", one())]));
    let report = weights.skipped().to_string();
    assert!(
        !report.contains(char::is_control) && report.len() < 10_000,
        "{report}"
    );
    assert!(
        report.contains("`mine.Class9` and others; in the entries"),
        "{report}"
    );
    assert!(report.ends_with(" and 4990 more"), "{report}");
}
