//! Runs `ssd-train fit` from the command line: the model that ships learns squares.

mod squares;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ssd_detector::Model;
use ssd_detector::family::MOBILENET_V2;
use ssd_detector::labels::{COCO, Labels};
use state_dict::StateDict;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssd_mobilenet_v2_oidv4.safetensors")
}

/// `fit` on the data set in a folder, from the model that ships, to a file in that folder.
fn command(folder: &Path, output: &str, arguments: &[&str]) -> Command {
    command_from(&shipped(), folder, output, arguments)
}

fn command_from(from: &Path, folder: &Path, output: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssd-train"));
    command
        .current_dir(folder)
        .args(["fit", ".", "-o", output, "--from"])
        .arg(from)
        .args(arguments);
    command
}

/// Runs `fit`. Returns whether it succeeded, and its output and errors.
fn fit(folder: &Path, output: &str, arguments: &[&str]) -> (bool, String) {
    let done = command(folder, output, arguments).output().unwrap();
    let printed = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(printed).unwrap())
}

/// Runs `fit`, which must succeed. Returns its output and errors.
#[track_caller]
fn succeeds(folder: &Path, output: &str, arguments: &[&str]) -> String {
    let (success, printed) = fit(folder, output, arguments);
    assert!(success, "{printed}");
    printed
}

/// Runs `fit`, which must fail with this message before the first epoch.
#[track_caller]
fn fails(folder: &Path, output: &str, arguments: &[&str], message: &str) {
    let (success, printed) = fit(folder, output, arguments);
    assert!(!success && printed.contains(message), "{printed}");
    assert!(!printed.contains("epoch 1"), "{printed}");
}

#[test]
fn a_few_pictures_make_a_detector_that_the_server_loads_with_its_own_class_names() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 40);
    let printed = succeeds(folder.path(), "mine.safetensors", &["--epochs", "9"]);
    assert!(
        printed.contains("32 pictures for training, 8 held out for validation"),
        "{printed}"
    );
    let state = StateDict::open(&folder.path().join("mine.safetensors")).unwrap();
    // With the server's default list of labels, the file's own class names are used.
    let default: Vec<&str> = COCO.iter().map(|class| class.name).collect();
    let labels = Labels::parse(default.join("\n").as_bytes()).unwrap();
    let (model, network) = Model::new(&state, &labels).unwrap();
    assert_eq!(model.labels(), squares::CLASSES);
    assert_eq!((network.family(), network.classes()), (&MOBILENET_V2, 3));
    let accuracy = &state.metadata()["accuracy"];
    let map: f64 = accuracy.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(map > 0.7, "{accuracy}\n{printed}");
    let plot = std::fs::read_to_string(folder.path().join("mine.svg")).unwrap();
    assert!(plot.contains("mAP") && plot.contains("loss"));
    let sheet = image::open(folder.path().join("mine.sheet.jpg")).unwrap();
    assert!(sheet.width() > 300 && sheet.height() > 200);
    // A completed run leaves no checkpoint.
    assert!(!folder.path().join("mine.checkpoint.safetensors").exists());
    fails(folder.path(), "mine.safetensors", &[], "--force");
}

#[test]
fn a_check_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let printed = succeeds(folder.path(), "mine.safetensors", &["--check"]);
    assert!(printed.contains("YOLO: 6 pictures"), "{printed}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 13);
}

/// Starts `fit`, and interrupts it as Ctrl-C does after the first epoch. Returns the lines that it printed since.
fn interrupted(folder: &Path, output: &str, arguments: &[&str]) -> Vec<String> {
    let mut child = command(folder, output, arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().starts_with("epoch 1")));
    let interrupt = ["-INT", &child.id().to_string()];
    let killed = Command::new("kill").args(interrupt).status().unwrap();
    assert!(killed.success());
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    rest
}

#[test]
fn a_run_that_is_stopped_by_ctrl_c_and_resumed_gives_the_same_bits_as_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let arguments = ["--epochs", "5", "--freeze", "3"];
    succeeds(folder.path(), "whole.safetensors", &arguments);
    let rest = interrupted(folder.path(), "stopped.safetensors", &arguments);
    assert!(
        rest.iter().any(|line| line.contains("--resume")),
        "{rest:?}"
    );
    assert!(
        !rest.iter().any(|line| line.starts_with("epoch 4")),
        "the run was stopped too late to test anything: {rest:?}"
    );
    let output = "stopped.safetensors";
    fails(folder.path(), output, &arguments, "use --resume");
    let other = ["--epochs", "6", "--freeze", "3", "--resume"];
    fails(folder.path(), output, &other, "other settings");
    let resume = [&arguments[..], &["--resume"]].concat();
    succeeds(folder.path(), output, &resume);
    let read = |name: &str| StateDict::open(&folder.path().join(name)).unwrap();
    let (whole, resumed) = (read("whole.safetensors"), read(output));
    assert!(whole.len() > 100);
    for tensor in whole.tensors() {
        let other = resumed.get(tensor.name()).unwrap();
        assert!(tensor.to_bytes() == other.to_bytes(), "{}", tensor.name());
    }
    assert_eq!(whole.metadata(), resumed.metadata());
    // Only the first three layers are frozen.
    let from = StateDict::open(&shipped()).unwrap();
    let weights = |state: &StateDict| -> Vec<Vec<f32>> {
        from.tensors()
            .map(|tensor| tensor.name())
            .filter(|name| name.contains("backbone") && name.ends_with("weight"))
            .map(|name| state.get(name).unwrap().to_f32())
            .collect()
    };
    let pairs = weights(&from).into_iter().zip(weights(&whole));
    assert_eq!(pairs.filter(|(before, after)| before == after).count(), 3);
}

#[test]
fn weights_of_every_family_can_be_trained_and_trained_again() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/tests/data");
    for (from, output, family) in [
        (data.join("small-zip.pth"), "voc.safetensors", "ssd300-voc"),
        (
            data.join("torchvision.safetensors"),
            "torchvision.safetensors",
            "torchvision-ssd300-vgg16",
        ),
        (
            folder.path().join("torchvision.safetensors"),
            "again.safetensors",
            "torchvision-ssd300-vgg16",
        ),
        (
            data.join("ssdlite.safetensors"),
            "ssdlite.safetensors",
            "torchvision-ssdlite320-mobilenet-v3",
        ),
        (
            folder.path().join("ssdlite.safetensors"),
            "ssdlite-again.safetensors",
            "torchvision-ssdlite320-mobilenet-v3",
        ),
    ] {
        let mut command = command_from(&from, folder.path(), output, &["--epochs", "1"]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let written = StateDict::open(&folder.path().join(output)).unwrap();
        assert_eq!(written.metadata()["family"], family);
        let labels = Labels::parse(squares::CLASSES.join("\n").as_bytes()).unwrap();
        let (model, _) = Model::new(&written, &labels).unwrap();
        assert_eq!(model.labels(), squares::CLASSES);
    }
}

#[test]
fn wrong_arguments_are_refused_before_the_training() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let cases: [(&str, &[&str], &str); 5] = [
        (
            "mine.safetensors",
            &["--learning-rate", "nan"],
            "from 0.000001 to 1",
        ),
        ("mine.safetensors", &["--epochs", "0"], "a number from 1"),
        ("mine.safetensors", &["--device", "cuda:31"], "cuda:31"),
        ("mine.jpg", &[], ".safetensors"),
        ("no/mine.safetensors", &[], "in no"),
    ];
    for (output, arguments, message) in cases {
        fails(folder.path(), output, arguments, message);
    }
}
