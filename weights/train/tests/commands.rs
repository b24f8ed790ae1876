//! The `ssd-train` command as a shell user meets it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ssd_train::training::batches::Diet;
use ssd_train::training::checkpoint::{Checkpoint, Settings};
use ssd_train::training::course::Run;

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../server/tests/data/drawn/model.safetensors")
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ssd-train"));
    command.args(arguments).current_dir(folder);
    command
}

/// Exit code, output and errors.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command(folder, arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

/// Draws scenes of seed 2 into a folder.
fn draw(folder: &Path, name: &str, how: &[&str]) {
    let (code, _, errors) = run(folder, &[&["scenes", name, "--seed", "2"], how].concat());
    assert_eq!(code, 0, "{errors}");
}

/// `evaluate` of the demo model in single precision.
fn evaluate(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let weights = weights();
    let demo = ["evaluate", weights.to_str().unwrap(), "--precision", "f32"];
    run(folder, &[&demo[..], arguments].concat())
}

#[test]
fn inventions_count_where_no_picture_has_an_object() {
    let folder = tempfile::tempdir().unwrap();
    draw(
        folder.path(),
        "empty",
        &["--distractors-only", "--count", "20"],
    );
    let last = |arguments: &[&str]| {
        let all = [arguments, &["--threshold", "0.05"]].concat();
        let (code, output, errors) = evaluate(folder.path(), &all);
        assert_eq!(code, 0, "{errors}");
        output.lines().last().unwrap().to_owned()
    };
    let voc = last(&["--voc", "empty", "--set", "test"]);
    assert!(
        voc.contains("precision 0.000"),
        "the seed invents something: {voc}"
    );
    let pictures = last(&["--folder", "empty/JPEGImages"]);
    assert_eq!(voc, pictures);
}

#[test]
fn classes_that_no_annotation_is_of_are_named_since_they_do_not_count() {
    let folder = tempfile::tempdir().unwrap();
    let xml = "<annotation><object><name>Clock</name><bndbox><xmin>1</xmin><ymin>1</ymin>\
               <xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>";
    draw(folder.path(), "voc", &["--count", "1", "--size", "64x64"]);
    std::fs::write(folder.path().join("voc/Annotations/2_000000.xml"), xml).unwrap();
    let (code, _, errors) = evaluate(folder.path(), &["--voc", "voc"]);
    assert_eq!(code, 0, "{errors}");
    let line = errors.lines().find(|line| line.starts_with("not counted"));
    let line = line.expect("told");
    assert!(
        line.contains("stop sign") && !line.contains("clock"),
        "{line}"
    );
}

#[test]
fn a_picture_that_the_server_would_refuse_is_no_measure_of_anything() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path(), "voc", &["--count", "1", "--size", "640x480"]);
    let picture = folder.path().join("voc/JPEGImages/2_000000.jpg");
    let bytes = std::fs::read(&picture).unwrap();
    std::fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    let (code, _, errors) = evaluate(folder.path(), &["--voc", "voc"]);
    assert_eq!(code, 1);
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("ssd-train: read voc/JPEGImages"), "{last}");
    assert!(last.contains("cut short"), "{last}");
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let weights = weights();
    let evaluate = ["evaluate", weights.to_str().unwrap(), "--scenes", "100000"];
    let lost = ["evaluate", "lost.pth", "--scenes", "100000"];
    let train = ["train", "--checkpoint", "run/c.safetensors"];
    let cases: [(&[&str], &[&str], i32, &str); 9] = [
        (&evaluate, &["--threshold", "7"], 2, "a number from 0 to 1"),
        (
            &evaluate,
            &["--json", "no/folder.json"],
            1,
            "write a file in no",
        ),
        (&lost, &[], 1, "lost.pth"),
        (
            &["evaluate"],
            &[weights.to_str().unwrap(), "--folder", "."],
            1,
            "no pictures",
        ),
        (&train, &["--batch", "0"], 2, "a number from 1 to"),
        (
            &train,
            &["--channels", "100000000000000000"],
            2,
            "from 2 to 256",
        ),
        (&train, &["--learning-rate", "nan"], 2, "from 0.000001 to 1"),
        (
            &train,
            &["--batch", "2", "--replicas", "2"],
            1,
            "two at least",
        ),
        (
            &["scenes", "s"],
            &["--set", "../escaped"],
            1,
            "without a folder",
        ),
    ];
    for (command, more, expected, message) in cases {
        let (code, _, errors) = run(folder.path(), &[command, more].concat());
        assert_eq!(code, expected, "{errors}");
        assert!(errors.contains(message), "{errors}");
    }
    assert!(!folder.path().join("run/c.safetensors").exists());
}

#[test]
fn a_log_never_replaces_a_file_that_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let notes = folder.path().join("notes.txt");
    std::fs::write(&notes, "mine\n").unwrap();
    let train = [
        "train",
        "--checkpoint",
        "c.safetensors",
        "--log",
        "notes.txt",
    ];
    let small = ["--batch", "4", "--pool", "4", "--channels", "2"];
    let (code, _, errors) = run(folder.path(), &[&train[..], &small].concat());
    assert_eq!(code, 1);
    assert!(errors.contains("no log of a training run"), "{errors}");
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "mine\n");
}

#[test]
fn a_model_stays_as_it_was_until_the_new_one_is_measured() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        diet: Diet {
            seed: 1,
            batch: 2,
            pool: 2,
            empty: 3,
        },
        steps: 1,
        learning_rate: 0.001,
        channels: 2,
        bfloat16: false,
        replicas: 1,
    };
    let checkpoint: Checkpoint = Run::new(settings).unwrap().checkpoint();
    checkpoint
        .write(&folder.path().join("c.safetensors"))
        .unwrap();
    let model = folder.path().join("model.safetensors");
    std::fs::write(&model, "the model").unwrap();
    let export = [
        "export",
        "--checkpoint",
        "c.safetensors",
        "model.safetensors",
    ];
    let mut process = command(folder.path(), &export).spawn().unwrap();
    let is_draft = |path: &Path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with(".draft-") && path.metadata().is_ok_and(|file| file.len() > 0)
    };
    let until = Instant::now() + Duration::from_mins(1);
    let drafted = loop {
        let mut files = std::fs::read_dir(folder.path()).unwrap();
        if files.any(|file| is_draft(&file.unwrap().path())) {
            break true;
        }
        if process.try_wait().unwrap().is_some() || Instant::now() > until {
            break false;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(drafted);
    assert_eq!(std::fs::read_to_string(&model).unwrap(), "the model");
}
