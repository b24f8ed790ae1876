//! `ssd-train fit` as a shell user meets it: the model that ships learns squares.

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

/// `fit` of the squares in a folder, from the model that ships, to a file in that folder.
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

/// Whether it went well, and what it said.
fn fit(folder: &Path, output: &str, arguments: &[&str]) -> (bool, String) {
    let done = command(folder, output, arguments).output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_few_pictures_make_a_detector_that_the_server_loads_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 40);
    let (done, said) = fit(folder.path(), "mine.safetensors", &["--epochs", "9"]);
    assert!(done, "{said}");
    let told = said.contains("32 pictures to learn from, 8 held out");
    assert!(told, "{said}");
    let state = StateDict::open(&folder.path().join("mine.safetensors")).unwrap();
    // Whatever list the lab has, the names are the pictures' own.
    let lab: Vec<&str> = COCO.iter().map(|class| class.name).collect();
    let labels = Labels::parse(lab.join("\n").as_bytes()).unwrap();
    let (model, network) = Model::new(&state, &labels).unwrap();
    assert_eq!(model.labels(), squares::CLASSES);
    assert_eq!((network.family(), network.classes()), (&MOBILENET_V2, 3));
    let accuracy = &state.metadata()["accuracy"];
    let map: f64 = accuracy.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(map > 0.7, "{accuracy}\n{said}");
    // The plot and the sheet.
    let plot = std::fs::read_to_string(folder.path().join("mine.svg")).unwrap();
    assert!(plot.contains("mAP") && plot.contains("loss"));
    let sheet = image::open(folder.path().join("mine.sheet.jpg")).unwrap();
    assert!(sheet.width() > 300 && sheet.height() > 200);
    // The checkpoint of a run that is over is of no use.
    assert!(!folder.path().join("mine.checkpoint.safetensors").exists());
    // Nothing is replaced unasked.
    let (again, said) = fit(folder.path(), "mine.safetensors", &[]);
    assert!(!again && said.contains("--force"), "{said}");
}

#[test]
fn a_check_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let (done, said) = fit(folder.path(), "mine.safetensors", &["--check"]);
    assert!(done && said.contains("YOLO: 6 pictures"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 13);
}

#[test]
fn a_run_stopped_by_ctrl_c_and_resumed_equals_an_unbroken_one_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    squares::write(folder.path(), 6);
    let arguments = ["--epochs", "5", "--freeze", "3"];
    let (done, said) = fit(folder.path(), "unbroken.safetensors", &arguments);
    assert!(done, "{said}");
    // The first line of an epoch, then Ctrl-C.
    let mut broken = command(folder.path(), "broken.safetensors", &arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(broken.stdout.take().unwrap()).lines();
    let is_epoch = |line: &std::io::Result<String>| line.as_ref().unwrap().starts_with("epoch 1");
    assert!(lines.any(|line| is_epoch(&line)));
    let interrupt = ["-INT", &broken.id().to_string()];
    assert!(
        Command::new("kill")
            .args(interrupt)
            .status()
            .unwrap()
            .success()
    );
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(broken.wait().unwrap().success(), "{rest:?}");
    assert!(
        rest.iter().any(|line| line.contains("--resume")),
        "{rest:?}"
    );
    let read = |name: &str| StateDict::open(&folder.path().join(name)).unwrap();
    let stopped: Vec<_> = rest
        .iter()
        .filter(|line| line.starts_with("epoch 4"))
        .collect();
    assert!(
        stopped.is_empty(),
        "it was stopped too late to tell anything: {rest:?}"
    );
    // Another run would lose what was learnt, and other arguments are another run.
    let (done, said) = fit(folder.path(), "broken.safetensors", &arguments);
    assert!(!done && said.contains("--resume goes on"), "{said}");
    let other = ["--epochs", "6", "--freeze", "3", "--resume"];
    let (done, said) = fit(folder.path(), "broken.safetensors", &other);
    assert!(!done && said.contains("other settings"), "{said}");
    let resume = [&arguments[..], &["--resume"]].concat();
    let (done, said) = fit(folder.path(), "broken.safetensors", &resume);
    assert!(done, "{said}");
    let (unbroken, resumed) = (read("unbroken.safetensors"), read("broken.safetensors"));
    assert!(unbroken.len() > 100);
    for tensor in unbroken.tensors() {
        let other = resumed.get(tensor.name()).unwrap();
        assert!(tensor.to_bytes() == other.to_bytes(), "{}", tensor.name());
    }
    assert_eq!(unbroken.metadata(), resumed.metadata());
    // The first three layers are as they were, and the fourth is not.
    let from = StateDict::open(&shipped()).unwrap();
    let weights = |state: &StateDict| -> Vec<Vec<f32>> {
        let names = from.tensors().map(|tensor| tensor.name());
        let backbone = names.filter(|name| name.contains("backbone") && name.ends_with("weight"));
        backbone
            .map(|name| state.get(name).unwrap().to_f32())
            .collect()
    };
    let same = weights(&from).into_iter().zip(weights(&unbroken));
    assert_eq!(same.filter(|(from, now)| from == now).count(), 3);
}

#[test]
fn weights_of_every_family_can_be_trained_and_the_result_again() {
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
    ] {
        let arguments = ["--epochs", "1"];
        let done = command_from(&from, folder.path(), output, &arguments).output();
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        let written = StateDict::open(&folder.path().join(output)).unwrap();
        assert_eq!(written.metadata()["family"], family);
        let labels = Labels::parse(squares::CLASSES.join("\n").as_bytes()).unwrap();
        let (model, _) = Model::new(&written, &labels).unwrap();
        assert_eq!(model.labels(), squares::CLASSES);
    }
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_learnt() {
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
        let (done, said) = fit(folder.path(), output, arguments);
        assert!(!done && said.contains(message), "{said}");
        assert!(!said.contains("epoch 1"), "{said}");
    }
}
