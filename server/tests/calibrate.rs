//! Calibration, precision and device in the program: what is written, selected and refused. On other processors there is
//! no int8.
#![cfg(target_arch = "x86_64")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use ssd_detector::inference;
use ssd_detector::network::Network;
use ssd_detector::precision::{Precision, Processor, Requested};
use state_dict::{NewTensor, StateDict, write_safetensors};

/// A narrow SSD300 of the VGG layout.
const SMALL: &str = "server/tests/data/small.safetensors";
/// The model that ships, and photographs.
const SHIPPED: &str = "weights/ssd_mobilenet_v2_oidv4.safetensors";
const PHOTOGRAPHS: [&str; 3] = [
    "data/samples/cat.png",
    "data/samples/astronaut.jpg",
    "data/samples/coffee.jpg",
];

fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
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
    let mut arguments = vec!["calibrate", SMALL];
    arguments.extend(PHOTOGRAPHS);
    arguments.extend(["-o", &output]);
    let done = ssd(&arguments, &[]);
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("vgg.33"), "{said}");
    assert!(
        said.ends_with("71 tensors, calibrated for int8 on 3 pictures\n"),
        "{said}"
    );
    // A file is replaced only with --force.
    let again = ssd(&arguments, &[]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("--force"));
    output
}

#[test]
fn calibrated_weights_are_timed_in_int8_and_run_in_int8_if_requested() {
    let folder = tempfile::tempdir().unwrap();
    let weights = calibrated(folder.path());
    let state = StateDict::open(Path::new(&weights)).unwrap();
    let network = Network::new(&StateDict::open(&repository().join(SMALL)).unwrap()).unwrap();
    let scales = ssd_detector::scales(&state, &network).unwrap();
    assert!(scales.is_some());
    let (_, selection) =
        inference::prepare(network, scales.as_ref(), Requested::default()).unwrap();
    let processor = Processor::of_this_machine();
    if processor.x86 && processor.avx2 {
        assert!(selection.reason.contains("int8"), "{selection:?}");
    } else {
        assert_eq!(selection.precision, Precision::F32, "{selection:?}");
    }
    let found = ssd(
        &["predict", PHOTOGRAPHS[0]],
        &[("WEIGHTS_PATH", &weights), ("PRECISION", "int8")],
    );
    assert!(found.status.success(), "{found:?}");
}

#[test]
fn calibration_keeps_a_file_s_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let small = StateDict::open(&repository().join(SMALL)).unwrap();
    let names: Vec<String> = (1..=20).map(|class| format!("part {class}")).collect();
    let own = [
        ("classes", serde_json::to_string(&names).unwrap()),
        ("threshold", "0.35".to_owned()),
        ("accuracy", "mAP@0.5 0.900".to_owned()),
    ];
    let mut metadata = small.metadata().clone();
    metadata.extend(own.clone().map(|(key, value)| (key.to_owned(), value)));
    let [before, after] =
        ["before", "after"].map(|name| folder.path().join(name).with_extension("safetensors"));
    let tensors = small.tensors().map(NewTensor::from);
    write_safetensors(&before, tensors.collect(), &metadata).unwrap();
    let [from, to] = [&before, &after].map(|path| path.to_str().unwrap());
    let done = ssd(&["calibrate", from, PHOTOGRAPHS[0], "-o", to], &[]);
    assert!(done.status.success(), "{done:?}");
    let calibrated = StateDict::open(&after).unwrap();
    for (key, value) in own {
        assert_eq!(calibrated.metadata()[key], value);
    }
}

#[test]
fn scales_that_are_not_the_network_s_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let small = StateDict::open(&repository().join(SMALL)).unwrap();
    for (scales, complaint) in [
        (
            "{\"vgg.0\": 0}",
            "the scale 0.0 for layer `vgg.0`; a scale must be a positive number",
        ),
        (
            "{\"vgg.0\": 1e-300}",
            "the scale 1e-300 for layer `vgg.0`; a scale must be a positive number",
        ),
        ("[1]", "is not a JSON object"),
        (
            "{\"vgg.0\": 0.1}",
            "has no scale for layer `vgg.2`, `vgg.5`, ",
        ),
        ("{}", "has no scale for layer `vgg.0`, `vgg.2`, "),
    ] {
        let path = folder.path().join("odd.safetensors");
        let mut metadata = small.metadata().clone();
        metadata.insert("int8-scales".to_owned(), scales.to_owned());
        let tensors = small.tensors().map(NewTensor::from);
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
        let metadata = "odd.safetensors: its metadata `int8-scales` ";
        for part in [metadata, complaint, "run `ssd calibrate`"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("libtorch"), "{error}");
    }
}

#[test]
fn int8_is_refused_with_a_reason_if_a_network_has_no_int8_form() {
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
fn a_missing_gpu_is_an_error_and_does_not_fall_back_to_the_cpu() {
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
