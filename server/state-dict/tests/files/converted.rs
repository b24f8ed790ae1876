//! Conversion: to `f32`, to statistics, and to safetensors files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use state_dict::{Dtype, NewTensor, StateDict, Stats, write_safetensors};

use super::build::*;
use super::{data, read};

fn floats(values: &[f32]) -> StateDict {
    let count = i64::try_from(values.len()).unwrap();
    let tensor = tensor(storage("FloatStorage", "0", count), 0, &[count], &[1]);
    read(legacy_floats(&dict(&[(text("x"), tensor)]), values))
}

#[test]
fn elements_come_in_row_major_order_for_all_strides() {
    for (offset, shape, strides, expected) in [
        (
            0,
            [2, 2, 3].as_slice(),
            [6, 3, 1].as_slice(),
            (0..12_u8).collect::<Vec<_>>(),
        ),
        (
            0,
            &[4, 3],
            &[1, 4],
            vec![0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11],
        ),
        (1, &[2, 2], &[6, 2], vec![1, 3, 7, 9]),
        (5, &[2, 3], &[0, 0], vec![5; 6]),
        (2, &[1, 3, 1], &[99, 2, 99], vec![2, 4, 6]),
        (11, &[], &[], vec![11]),
    ] {
        let weights = read(legacy_with(offset, shape, strides));
        let tensor = weights.get("x").unwrap();
        let expected: Vec<f32> = expected.into_iter().map(f32::from).collect();
        assert_eq!(tensor.to_f32(), expected, "{shape:?} {strides:?}");
        assert_eq!(
            *tensor.to_bytes(),
            floats_bytes(&expected),
            "{shape:?} {strides:?}"
        );
    }
}

#[test]
fn to_bytes_copies_only_strided_tensors() {
    let borrowed = |shape: &[i64], strides: &[i64]| {
        let weights = read(legacy_with(0, shape, strides));
        matches!(weights.get("x").unwrap().to_bytes(), Cow::Borrowed(_))
    };
    assert!(borrowed(&[3, 1, 4], &[4, 77, 1]));
    assert!(!borrowed(&[3, 4], &[1, 3]));
}

#[test]
fn statistics_are_of_the_finite_values() {
    let weights = floats(&[1.0, f32::NAN, -3.0, f32::INFINITY, 5.0]);
    let expected = Stats {
        min: Some(-3.0),
        max: Some(5.0),
        mean: Some(1.0),
        non_finite: 2,
    };
    assert_eq!(weights.get("x").unwrap().stats(), expected);
}

#[test]
fn statistics_without_finite_values_are_none() {
    for (values, non_finite) in [([].as_slice(), 0), (&[f32::NAN, f32::NEG_INFINITY], 2)] {
        let expected = Stats {
            min: None,
            max: None,
            mean: None,
            non_finite,
        };
        assert_eq!(floats(values).get("x").unwrap().stats(), expected);
    }
}

#[test]
fn statistics_of_bools_and_integers_are_defined() {
    let weights = StateDict::open(&data("variants.safetensors")).unwrap();
    let stats = |name: &str| weights.get(name).unwrap().stats();
    let bools = stats("state_dict.bool");
    assert_eq!((bools.min, bools.max), (Some(0.0), Some(1.0)));
    assert!((bools.mean.unwrap() - 2.0 / 3.0).abs() < 1e-15);
    let bytes = stats("state_dict.int8");
    assert_eq!(
        (bytes.min, bytes.max, bytes.mean),
        (Some(-128.0), Some(127.0), Some(-0.5))
    );
}

#[test]
fn a_bool_that_is_not_zero_is_one() {
    let tensor = tensor(storage("BoolStorage", "0", 3), 0, &[3], &[1]);
    let weights = read(legacy_file(
        &dict(&[(text("x"), tensor)]),
        &[("0", 3, vec![0, 1, 255])],
    ));
    assert_eq!(weights.get("x").unwrap().to_f32(), [0.0, 1.0, 1.0]);
}

#[test]
fn a_state_dict_survives_conversion_to_safetensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("converted.safetensors");
    for source in [
        "small-legacy.pth",
        "variants-zip-protocol2.pth",
        "variants-legacy-protocol4.pth",
    ] {
        let before = StateDict::open(&data(source)).unwrap();
        let metadata = BTreeMap::from([
            ("source".to_owned(), source.to_owned()),
            ("a".to_owned(), "\"é\"\n".to_owned()),
        ]);
        write_safetensors(
            &path,
            before.tensors().map(NewTensor::from).collect(),
            &metadata,
        )
        .unwrap();
        let after = StateDict::open(&path).unwrap();
        assert_eq!(after.metadata(), &metadata);
        assert_eq!(after.len(), before.len());
        for tensor in before.tensors() {
            let same = after.get(tensor.name()).unwrap();
            assert_eq!(
                (same.dtype(), same.shape()),
                (tensor.dtype(), tensor.shape()),
                "{source}: {tensor:?}"
            );
            assert_eq!(same.to_bytes(), tensor.to_bytes(), "{source}: {tensor:?}");
        }
    }
}

#[test]
fn a_converted_file_keeps_the_order_and_is_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        let before = StateDict::open(&data("small-zip.pth")).unwrap();
        let metadata = BTreeMap::from([
            ("b".to_owned(), "1".to_owned()),
            ("a".to_owned(), "2".to_owned()),
        ]);
        write_safetensors(
            &path,
            before.tensors().map(NewTensor::from).collect(),
            &metadata,
        )
        .unwrap();
        let names = |weights: &StateDict| {
            weights
                .tensors()
                .map(|tensor| tensor.name().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(&StateDict::open(&path).unwrap()), names(&before));
        std::fs::read(path).unwrap()
    };
    assert_eq!(write("one"), write("two"));
}

#[test]
fn a_converted_file_is_aligned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aligned.safetensors");
    let double = 1.5_f64.to_le_bytes();
    let tensors = vec![
        new_tensor("byte", Dtype::U8, &[3], &[1, 2, 3]),
        new_tensor("double", Dtype::F64, &[1], &double),
    ];
    write_safetensors(&path, tensors, &BTreeMap::new()).unwrap();
    let file = std::fs::read(path).unwrap();
    // The double comes first, at a multiple of 8.
    assert_eq!(file.len() % 8, 3);
    assert_eq!(file[file.len() - 11..file.len() - 3], double);
}

fn new_tensor<'a>(
    name: &'a str,
    dtype: Dtype,
    shape: &'a [usize],
    bytes: &'a [u8],
) -> NewTensor<'a> {
    NewTensor {
        name: name.into(),
        dtype,
        shape: shape.into(),
        bytes: bytes.into(),
    }
}

#[test]
fn a_replaced_file_has_the_permissions_of_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, "old").unwrap();
    let tensors = vec![new_tensor("x", Dtype::U8, &[2], &[1, 2])];
    write_safetensors(&path, tensors, &BTreeMap::new()).unwrap();
    assert_eq!(
        StateDict::open(&path).unwrap().get("x").unwrap().to_f32(),
        [1.0, 2.0]
    );
    // Those of a new file, not `tempfile`'s owner-only ones.
    let plain = folder.path().join("plain");
    std::fs::write(&plain, "").unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
}

#[test]
fn a_file_that_cannot_be_written_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    for (tensors, words) in [
        (
            vec![new_tensor("x", Dtype::F32, &[2], &[0; 7])],
            "7 bytes do not fit the shape [2] of float32",
        ),
        (
            vec![
                new_tensor("x", Dtype::U8, &[1], &[0]),
                new_tensor("x", Dtype::U8, &[1], &[0]),
            ],
            "`x`: its name is taken",
        ),
        (
            vec![new_tensor("__metadata__", Dtype::U8, &[1], &[0])],
            "its name is taken",
        ),
    ] {
        let error = write_safetensors(&path, tensors, &BTreeMap::new()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let nowhere = folder.path().join("no/such/folder");
    let error = write_safetensors(&nowhere, vec![], &BTreeMap::new()).unwrap_err();
    assert!(
        error.to_string().contains("cannot write the file"),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
