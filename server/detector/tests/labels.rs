//! Labels files, and how their labels are matched with a model's classes.

use ssd_detector::family::MOBILENET_V2;
use ssd_detector::labels::{COCO, Error, Labels, Matched, VOC};

fn parse(text: &str) -> Labels {
    Labels::parse(text.as_bytes()).unwrap()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn both_forms_of_line_give_the_same_labels() {
    let expected = names(&["person", "stop sign"]);
    assert_eq!(parse("person\nstop sign\n").names(), expected);
    assert_eq!(parse("1,1,person\n13,2,stop sign\n").names(), expected);
    assert_eq!(parse(" 1 , 1 , person\n 13,2,stop sign").names(), expected);
}

#[test]
fn windows_line_endings_a_byte_order_mark_and_blank_last_lines_are_accepted() {
    let file = b"\xef\xbb\xbfperson\r\nstop sign\r\n\r\n  \r\n";
    assert_eq!(
        Labels::parse(file).unwrap().names(),
        names(&["person", "stop sign"])
    );
}

#[test]
fn an_error_tells_the_line_and_what_is_wrong_with_it() {
    let cases: [(&[u8], &str); 10] = [
        (b"cat\ndog\ncat\n", "line 3 is `cat`, which repeats line 1;"),
        (
            b"1,1,cat\n2,2,cat\n",
            "line 2 is `2,2,cat`, which repeats line 1;",
        ),
        (b"cat\n\xff\xfe\n", "line 2 is not UTF-8 text"),
        (b"cat\n\ndog\n", "line 2 is ``, which has no name;"),
        (b"1,cat\n", "line 1 is `1,cat`, which has 2 fields;"),
        (b"1,2,3,cat\n", "line 1 is `1,2,3,cat`, which has 4 fields;"),
        (b"x,1,cat\n", "which has an id that is not a number;"),
        (
            b"1,1,cat\n2,3,dog\n",
            "which has the wrong index: expected 2;",
        ),
        (b"c\x07t\n", "which has a control character;"),
        (b"\n\n", "it has no labels;"),
    ];
    for (file, expected) in cases {
        let message = Labels::parse(file).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn an_error_fits_on_a_line_of_a_log_for_every_file() {
    let long = "x".repeat(10_000);
    for file in [
        format!("1,{long},cat\n"),
        "1,\u{1b}[2J,cat\n".to_owned(),
        format!("{long}\n{long}\n"),
    ] {
        let message = Labels::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(message.len() < 300, "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
}

#[test]
fn as_many_labels_as_classes_are_matched_by_position() {
    let labels = parse("chat\nchien\n");
    let expected = (names(&["chat", "chien"]), Matched::ByPosition);
    assert_eq!(labels.assign(2, None).unwrap(), expected);
    assert_eq!(
        labels.assign(2, Some(&names(&["cat", "dog"]))).unwrap(),
        expected
    );
}

#[test]
fn coco_s_list_gives_the_20_voc_classes_their_coco_names() {
    let text = include_str!("../../../data/coco_labels.txt");
    let (assigned, matched) = parse(text).assign(20, Some(&names(&VOC))).unwrap();
    assert_eq!(matched, Matched::ByName { unnamed: vec![] });
    let expected = names(&[
        "airplane",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "bus",
        "car",
        "cat",
        "chair",
        "cow",
        "dining table",
        "dog",
        "horse",
        "motorcycle",
        "person",
        "potted plant",
        "sheep",
        "couch",
        "train",
        "tv",
    ]);
    assert_eq!(assigned, expected);
}

#[test]
fn a_voc_list_gives_coco_classes_their_voc_names() {
    let labels = parse("tvmonitor\nAeroplane\nsofa\nperson\n");
    let (assigned, _) = labels.assign(2, Some(&names(&["airplane", "tv"]))).unwrap();
    assert_eq!(assigned, names(&["Aeroplane", "tvmonitor"]));
}

#[test]
fn a_coco_list_gives_names_to_the_open_images_classes_that_it_has() {
    let lines: Vec<&str> = COCO.iter().map(|class| class.name).collect();
    let known = (MOBILENET_V2.class_names)(MOBILENET_V2.outputs).unwrap();
    let (assigned, matched) = parse(&lines.join("\n")).assign(23, Some(&known)).unwrap();
    let expected = names(&[
        "bicycle",
        "Boot",
        "laptop",
        "person",
        "chair",
        "cow",
        "dining table",
        "cat",
        "mouse",
        "tv",
        "Box",
        "cup",
        "cup",
        "Stationary bicycle",
        "dining table",
        "bottle",
        "High heels",
        "Vehicle",
        "Footwear",
        "dog",
        "book",
        "Camera",
        "car",
    ]);
    assert_eq!(assigned, expected);
    assert_eq!(
        matched.to_string(),
        "by name; not in the file: Boot, Box, Stationary bicycle, High heels, Vehicle, Footwear, Camera"
    );
    // VOC's monitor matches through COCO's name.
    let (assigned, _) = parse("tvmonitor\ncow\n").assign(23, Some(&known)).unwrap();
    assert_eq!(
        (assigned[9].as_str(), assigned[5].as_str()),
        ("tvmonitor", "cow")
    );
    // As many lines as classes are the user's own names.
    let own: Vec<String> = (0..23).map(|class| format!("class {class}")).collect();
    let (assigned, matched) = parse(&own.join("\n")).assign(23, Some(&known)).unwrap();
    assert_eq!((assigned, matched), (own, Matched::ByPosition));
}

#[test]
fn a_class_that_is_not_in_the_file_keeps_its_name_and_is_reported() {
    let labels = parse("Dog\nfox\nwolf\n");
    let (assigned, matched) = labels.assign(2, Some(&names(&["cat", "dog"]))).unwrap();
    assert_eq!(assigned, names(&["cat", "Dog"]));
    assert_eq!(
        matched,
        Matched::ByName {
            unnamed: names(&["cat"])
        }
    );
    assert_eq!(matched.to_string(), "by name; not in the file: cat");
}

#[test]
fn labels_that_match_neither_by_number_nor_by_name_are_refused_with_both_counts() {
    let labels = parse("fox\nwolf\n");
    let unknown = labels.assign(3, None).unwrap_err();
    assert_eq!(
        unknown,
        Error::Mismatch {
            labels: 2,
            classes: 3,
            known: false
        }
    );
    let unrelated = labels
        .assign(3, Some(&names(&["a", "b", "c"])))
        .unwrap_err();
    assert!(unrelated.to_string().starts_with(
        "it has 2 labels, but the model has 3 classes, and the file contains none of their names;"
    ));
}

#[test]
fn coco_has_80_classes_and_gaps_in_its_ids() {
    assert_eq!(COCO.len(), 80);
    let known = |id: usize| {
        COCO.iter()
            .find(|class| class.id == id)
            .map(|class| class.name)
    };
    // From the COCO data set's own category list.
    assert_eq!(
        (known(1), known(13), known(90)),
        (Some("person"), Some("stop sign"), Some("toothbrush"))
    );
    for gap in [12, 26, 29, 30, 45, 66, 68, 69, 71, 83] {
        assert_eq!(known(gap), None);
    }
}
