//! `#` and the name of an entry after the name of a file.

use std::path::{Path, PathBuf};

use state_dict::{StateDict, split_entry};

use super::build::*;
use super::data;

/// A checkpoint with two state dicts, one of them nested, and an optimizer, in a folder that is removed at the end.
fn checkpoint() -> (tempfile::TempDir, PathBuf) {
    let one = |offset| tensor(storage("FloatStorage", "0", 3), offset, &[1], &[1]);
    let strange = || call("mine", "Strange", &[]);
    let object = dict(&[
        (
            text("ema"),
            dict(&[(text("a.b"), one(0)), (text("c"), one(1))]),
        ),
        (
            text("run"),
            dict(&[(
                text("model"),
                dict(&[(text("a.b"), one(1)), (text("c"), strange())]),
            )]),
        ),
        (text("optimizer"), list(&[one(2), one(2), one(2)])),
        (text("loss"), one(2)),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a#b.pth");
    std::fs::write(&path, legacy_floats(&object, &[1.0, 2.0, 3.0])).unwrap();
    (folder, path)
}

fn with_entry(path: &Path, entry: &str) -> PathBuf {
    format!("{}#{entry}", path.display()).into()
}

fn contents(weights: &StateDict) -> Vec<(&str, f32)> {
    let tensors = weights.tensors();
    tensors
        .map(|tensor| (tensor.name(), tensor.to_f32()[0]))
        .collect()
}

#[test]
fn an_entry_s_tensors_are_read_under_the_names_that_they_have_in_it() {
    let (_folder, path) = checkpoint();
    for (entry, expected) in [
        ("ema", [("a.b", 1.0), ("c", 2.0)].as_slice()),
        ("run", &[("model.a.b", 2.0)]),
        ("run.model", &[("a.b", 2.0)]),
        ("ema.a", &[("b", 1.0)]),
        ("optimizer", &[("0", 3.0), ("1", 3.0), ("2", 3.0)]),
    ] {
        let weights = StateDict::open(&with_entry(&path, entry)).unwrap();
        assert_eq!(contents(&weights), expected, "{entry}");
        assert_eq!(weights.path(), path);
    }
    let model = StateDict::open(&with_entry(&path, "run.model")).unwrap();
    assert_eq!(model.skipped_at("c"), Some("`mine.Strange`"));
    assert_eq!(model.get("a.b").unwrap().name(), "a.b");
}

#[test]
fn an_entry_without_tensors_is_refused_with_those_that_have_some() {
    let (_folder, path) = checkpoint();
    for entry in ["emma", "em", "ema.a.b", "loss", "epoch", ""] {
        let error = StateDict::open(&with_entry(&path, entry))
            .unwrap_err()
            .to_string();
        let expected = format!(
            "a#b.pth: it has no tensors under `{entry}`, the name after `#`; it has tensors under `optimizer` (3), \
             `ema` (2), `run.model` (1)"
        );
        assert!(error.ends_with(&expected), "{error}");
    }
    let flat = with_entry(&data("small-zip.pth"), "model");
    let error = StateDict::open(&flat).unwrap_err().to_string();
    assert!(error.contains("leave out `#`"), "{error}");
}

#[test]
fn a_list_of_many_entries_is_cut() {
    let one = || tensor(storage("FloatStorage", "0", 1), 0, &[1], &[1]);
    let entries: Vec<_> = (0..50).map(|index| (int(index), list(&[one()]))).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("many.pth");
    std::fs::write(&path, legacy_floats(&dict(&entries), &[1.0])).unwrap();
    let error = StateDict::open(&with_entry(&path, "x"))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("`6` (1), `7` (1), and 42 more"), "{error}");
}

#[test]
fn a_file_with_the_whole_name_is_that_file() {
    let (folder, path) = checkpoint();
    assert_eq!(split_entry(&path), (path.as_path(), None));
    assert_eq!(StateDict::open(&path).unwrap().len(), 7);
    let both = with_entry(&path, "ema");
    assert_eq!(split_entry(&both), (path.as_path(), Some("ema")));
    std::fs::copy(data("small-zip.pth"), &both).unwrap();
    assert_eq!(split_entry(&both), (both.as_path(), None));
    assert_eq!(StateDict::open(&both).unwrap().len(), 71);
    let in_a_folder = folder.path().join("no#folder/file.pth");
    assert_eq!(split_entry(&in_a_folder), (in_a_folder.as_path(), None));
}

#[test]
fn a_missing_file_is_named_without_the_entry() {
    let error = StateDict::open(Path::new("/nowhere/weights.pth#ema")).unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("/nowhere/weights.pth: cannot find the file: "),
        "{message}"
    );
}

#[test]
fn the_entries_of_a_safetensors_file_are_the_beginnings_of_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let header = r#"{"ema.x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "model.x":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#;
    std::fs::write(&path, safetensors_file(header, &[7, 8])).unwrap();
    let weights = StateDict::open(&with_entry(&path, "model")).unwrap();
    assert_eq!(contents(&weights), [("x", 8.0)]);
}
