//! Fine-tuning: the model that ships learns shapes of one colour, drawn here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use image::{Rgb, RgbImage};
use ssd_server::detector::Model;
use ssd_server::detector::family::MOBILENET_V2;
use ssd_server::detector::labels::{COCO, Labels};
use ssd_server::weights::StateDict;
use ssd_train::data;
use ssd_train::evaluation::Set;
use ssd_train::fit::batches::{Diet, Example};
use ssd_train::fit::checkpoint::Checkpoint;
use ssd_train::fit::course::{Course, Run};
use ssd_train::fit::heads;
use ssd_train::training::targets::Truth;

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../ssd_mobilenet_v2_oidv4.safetensors")
}

/// A YOLO folder of `count` pictures, each of one square before a striped ground: red ones and blue ones,
/// in other places and sizes.
fn squares(folder: &Path, count: u32) {
    std::fs::write(folder.join("classes.txt"), "red square\nblue square\n").unwrap();
    for index in 0..count {
        let (side, blue) = (60 + index * 37 % 80, index % 2);
        let (x, y) = (index * 53 % (240 - side), index * 71 % (200 - side));
        let colour = if blue == 1 {
            [30, 60, 220]
        } else {
            [220, 40, 30]
        };
        let picture = RgbImage::from_fn(240, 200, |px, py| {
            let inside = (x..x + side).contains(&px) && (y..y + side).contains(&py);
            let stripe = 90 + ((px + py * 3 + index * 7) % 60) as u8;
            Rgb(if inside {
                colour
            } else {
                [stripe, stripe, 100]
            })
        });
        picture.save(folder.join(format!("{index}.png"))).unwrap();
        let (cx, cy) = ((x + side / 2) as f32 / 240.0, (y + side / 2) as f32 / 200.0);
        let (w, h) = (side as f32 / 240.0, side as f32 / 200.0);
        let line = format!("{blue} {cx} {cy} {w} {h}\n");
        std::fs::write(folder.join(format!("{index}.txt")), line).unwrap();
    }
}

fn fit(arguments: &[&str]) -> (bool, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_ssd-train"))
        .arg("fit")
        .args(arguments)
        .output()
        .unwrap();
    let said = [done.stdout, done.stderr].concat();
    (done.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn a_few_pictures_make_a_detector_that_the_server_loads_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    squares(folder.path(), 40);
    let output = folder.path().join("mine.safetensors");
    let (data, output) = (folder.path().to_str().unwrap(), output.to_str().unwrap());
    let from = shipped();
    let arguments = [
        data,
        "-o",
        output,
        "--epochs",
        "9",
        "--from",
        from.to_str().unwrap(),
    ];
    let (done, said) = fit(&arguments);
    assert!(done, "{said}");
    assert!(
        said.contains("32 pictures to learn from, 8 held out"),
        "{said}"
    );
    let state = StateDict::open(Path::new(output)).unwrap();
    // Whatever list the lab has, the names are the pictures' own.
    let lab: Vec<&str> = COCO.iter().map(|class| class.name).collect();
    let labels = Labels::parse(lab.join("\n").as_bytes()).unwrap();
    let (model, network) = Model::new(&state, &labels).unwrap();
    assert_eq!(model.labels(), ["red square", "blue square"]);
    assert_eq!((network.family(), network.classes()), (&MOBILENET_V2, 3));
    let accuracy = &state.metadata()["accuracy"];
    let map: f64 = accuracy.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(map > 0.5, "{accuracy}\n{said}");
    // Nothing is replaced unasked.
    let (again, said) = fit(&arguments);
    assert!(!again && said.contains("--force"), "{said}");
}

#[test]
fn a_check_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    squares(folder.path(), 6);
    let (done, said) = fit(&[folder.path().to_str().unwrap(), "--check"]);
    assert!(done && said.contains("YOLO: 6 pictures"), "{said}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 13);
}

#[test]
fn a_resumed_run_equals_an_unbroken_one_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    squares(folder.path(), 6);
    let dataset = data::open(folder.path()).unwrap();
    let start = heads::replace(&StateDict::open(&shipped()).unwrap(), 2, 1).unwrap();
    let examples = dataset.pictures.iter().map(|picture| Example {
        path: picture.path.clone(),
        truths: picture
            .objects
            .iter()
            .map(|object| Truth {
                class: object.class + 1,
                corners: object.corners,
                difficult: false,
            })
            .collect(),
    });
    let diet = Diet {
        examples: Arc::new(examples.collect()),
        family: &MOBILENET_V2,
        batch: 4,
        seed: 3,
    };
    let nothing = Set {
        classes: dataset.classes.clone(),
        pictures: Vec::new(),
        truths: Vec::new(),
    };
    let course = Course {
        epochs: 2,
        learning_rate: 0.001,
        freeze: 3,
        replicas: 2,
        patience: 9,
    };
    let (stop, path) = (
        AtomicBool::new(false),
        folder.path().join("kept.safetensors"),
    );
    let begin =
        |from: Option<&Checkpoint>| Run::new(&start, diet.clone(), &nothing, course, from).unwrap();
    let end = |mut run: Run| {
        while !run.is_over() {
            run.advance(&stop, |_, _| ()).unwrap().unwrap();
        }
        let state = run.checkpoint().unwrap().state.into_iter();
        let copied = state.map(|(name, tensor)| (name, tensor.detach().copy()));
        copied.collect::<Vec<_>>()
    };
    let unbroken = end(begin(None));
    let mut broken = begin(None);
    broken.advance(&stop, |_, _| ()).unwrap().unwrap();
    broken.checkpoint().unwrap().write(&path).unwrap();
    drop(broken);
    let resumed = end(begin(Some(&Checkpoint::read(&path).unwrap())));
    assert_eq!(unbroken.len(), resumed.len());
    for ((name, one), (other, two)) in unbroken.iter().zip(&resumed) {
        assert_eq!(name, other);
        assert!(one.equal(two), "{name}");
    }
    // The first layers were to stay as they are, and so are no part of what is learnt.
    assert!(
        unbroken
            .iter()
            .all(|(name, _)| !name.contains("backbone.conv."))
    );
    // A run with other settings is another run.
    let other = Course {
        epochs: 3,
        ..course
    };
    let refused = Run::new(
        &start,
        diet.clone(),
        &nothing,
        other,
        Some(&Checkpoint::read(&path).unwrap()),
    );
    assert!(refused.unwrap_err().to_string().contains("other settings"));
}
