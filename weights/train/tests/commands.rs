//! Runs `ssd-train evaluate` from the command line.

use std::path::{Path, PathBuf};
use std::process::Command;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs `ssd-train` in a folder. Returns the exit code, the output and the errors.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_ssd-train"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        done.status.code().unwrap(),
        text(done.stdout),
        text(done.stderr),
    )
}

/// Runs `evaluate` with the model that ships, in single precision.
fn evaluate(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let weights = repository().join("weights/ssd_mobilenet_v2_oidv4.safetensors");
    let shipped = ["evaluate", weights.to_str().unwrap(), "--precision", "f32"];
    run(folder, &[&shipped[..], arguments].concat())
}

/// Writes a VOC data set of two photographs that ship: a cat in the test part, and a cup of coffee in no part.
fn photographs(folder: &Path) {
    for part in ["Annotations", "JPEGImages", "ImageSets/Main"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
    }
    std::fs::write(folder.join("ImageSets/Main/test.txt"), "cat\n").unwrap();
    for (file, class, [x1, y1, x2, y2]) in [
        ("cat.png", "Cat", [110, 2, 430, 298]),
        ("coffee.jpg", "Coffee cup", [130, 20, 470, 360]),
    ] {
        let from = repository().join("data/samples").join(file);
        std::fs::copy(from, folder.join("JPEGImages").join(file)).unwrap();
        let (stem, _) = file.split_once('.').unwrap();
        let text = format!(
            "<annotation><filename>{file}</filename><object><name>{class}</name><bndbox><xmin>{x1}</xmin>\
             <ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object></annotation>"
        );
        std::fs::write(folder.join(format!("Annotations/{stem}.xml")), text).unwrap();
    }
}

/// The cells of a class in a table, without its name.
fn row(table: &str, name: &str) -> Vec<String> {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let cells = line.unwrap_or_else(|| panic!("no row {name}: {table}"));
    cells.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_usage_names_arguments_in_the_order_in_which_they_are_read() {
    let (code, output, _) = run(Path::new("."), &["evaluate", "--help"]);
    assert_eq!(code, 0);
    let usage = output.find("<WEIGHTS> <DATA>");
    let described = ["\n  <WEIGHTS>", "\n  [DATA]"].map(|argument| output.find(argument));
    assert!(usage.is_some() && described[0] < described[1], "{output}");
}

#[test]
fn the_model_that_ships_finds_the_cat_and_the_cup_of_its_sample_photographs() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let (code, output, errors) = evaluate(folder.path(), &["."]);
    assert_eq!(code, 0, "{errors}");
    for name in ["Cat", "Coffee cup"] {
        assert_eq!(row(&output, name)[..2], ["1", "1.000"], "{output}");
    }
    // The threshold is that of the weights.
    assert!(
        output.contains("2 pictures. At the threshold 0.5: precision 1.000, recall 1.000"),
        "{output}"
    );
    assert!(
        errors.contains("not counted") && errors.contains("Person"),
        "{errors}"
    );
}

#[test]
fn a_single_part_of_the_data_set_can_be_measured() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let (code, output, errors) = evaluate(folder.path(), &[".", "--part", "test"]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("1 picture"), "{output}");
    let (code, _, errors) = evaluate(folder.path(), &[".", "--part", "train"]);
    assert_eq!(code, 1);
    assert!(errors.contains("no pictures"), "{errors}");
}

#[test]
fn every_detection_in_a_background_picture_is_a_false_positive() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let grey = image::RgbImage::from_pixel(200, 200, image::Rgb([128; 3]));
    grey.save(folder.path().join("JPEGImages/grey.png"))
        .unwrap();
    let (code, output, errors) = evaluate(folder.path(), &["--background", "."]);
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("precision 0.000"), "{output}");
    assert!(output.contains("66.7 % of the pictures"), "{output}");
}

#[test]
fn a_truncated_picture_is_reported_and_left_out() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let picture = folder.path().join("JPEGImages/coffee.jpg");
    let bytes = std::fs::read(&picture).unwrap();
    std::fs::write(&picture, &bytes[..bytes.len() / 2]).unwrap();
    let (code, output, errors) = evaluate(folder.path(), &["."]);
    assert_eq!(code, 0);
    assert!(
        errors.contains("coffee.jpg") && errors.contains("cut short"),
        "{errors}"
    );
    assert!(output.contains("1 picture"), "{output}");
}

#[test]
fn wrong_arguments_and_missing_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    photographs(folder.path());
    let cases: [(&[&str], i32, &str); 4] = [
        (&[".", "--threshold", "7"], 2, "a number from 0 to 1"),
        (&[".", "--json", "no/folder.json"], 1, "in no"),
        (&["--background", "Annotations"], 1, "no pictures"),
        (&[".", "--device", "cuda:31"], 1, "cuda:31"),
    ];
    for (arguments, expected, message) in cases {
        let (code, _, errors) = evaluate(folder.path(), arguments);
        assert_eq!(code, expected, "{errors}");
        assert!(errors.contains(message), "{errors}");
    }
    let (code, _, errors) = run(folder.path(), &["evaluate", "lost.pth", "."]);
    assert_eq!(code, 1);
    assert!(errors.contains("lost.pth"), "{errors}");
}
