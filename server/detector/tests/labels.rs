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
            background: None,
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

/// COCO's names by id, from 1 to 90, with this text for the ids that it skips.
fn coco_by_id(gap: &str) -> Vec<String> {
    let mut names = vec![gap.to_owned(); 90];
    for class in COCO.iter() {
        class.name.clone_into(&mut names[class.id - 1]);
    }
    names
}

#[test]
fn the_91_names_of_torchvision_and_tensorflow_are_read_for_91_outputs() {
    for (background, gap) in [
        ("__background__", "N/A"),
        ("N/A", "N/A"),
        ("???", "???"),
        ("BackGround", "n/a"),
    ] {
        let file = [&[background.to_owned()][..], &coco_by_id(gap)].concat();
        let labels = parse(&file.join("\n"));
        let expected = (coco_by_id("N/A"), Matched::ByPosition);
        assert_eq!(labels.assign(90, None).unwrap(), expected, "{background}");
        // Without the gaps, they are the names of 81 outputs.
        let in_order: Vec<String> = COCO.iter().map(|class| class.name.to_owned()).collect();
        let expected = (in_order, Matched::ByPosition);
        assert_eq!(labels.assign(80, None).unwrap(), expected, "{background}");
        let (assigned, _) = labels.assign(20, Some(&names(&VOC))).unwrap();
        assert_eq!(assigned[19], "tv");
    }
}

#[test]
fn a_background_in_the_first_line_is_dropped_or_the_reason_for_a_mismatch() {
    for background in [
        "background",
        "__background__",
        "_background_",
        "BACKGROUND",
        "???",
        "N/A",
    ] {
        let labels = parse(&format!("{background}\ncat\ndog\n"));
        assert_eq!(labels.names(), names(&["cat", "dog"]));
        let expected = (names(&["cat", "dog"]), Matched::ByPosition);
        assert_eq!(labels.assign(2, None).unwrap(), expected);
        let error = labels.assign(3, None).unwrap_err().to_string();
        let first = if background == "???" {
            "N/A"
        } else {
            background
        };
        let expected = format!(
            "it has 2 labels (its first name, `{first}`, is no class), but the model has 3 classes"
        );
        assert!(error.starts_with(&expected), "{error}");
    }
    // Elsewhere it is a name.
    assert_eq!(
        parse("cat\nbackground\n").names(),
        names(&["cat", "background"])
    );
    assert_eq!(Labels::parse(b"background\n"), Err(Error::Empty));
}

#[test]
fn numbers_that_rise_from_0_or_1_on_every_line_are_not_part_of_the_names() {
    let expected = names(&["traffic light", "7 up"]);
    for file in [
        "0 traffic light\n1 7 up\n",
        "0: traffic light\n1: 7 up",
        "0:traffic light\n1:7 up",
        "1 traffic light\n2 7 up",
        "1:\ttraffic light\r\n2:\t7 up\r\n",
        "  1   traffic light\n  2\t7 up",
        "00 traffic light\n01 7 up",
        "0: background\n1: traffic light\n2: 7 up",
        "0: 'traffic light'\n1: '7 up'",
    ] {
        assert_eq!(parse(file).names(), expected, "{file:?}");
    }
    for file in [
        "7 up\ncola\n",
        "7 up\n",
        "2 cats\n3 dogs\n",
        "1 cat\n1 dog\n",
        "0 cat\n2 cow\n1 dog\n",
        "1st\n2nd\n",
        "0.5 l\n1.5 l\n",
        "99999 x\n100000 y\n",
    ] {
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(parse(file).names(), names(&lines), "{file:?}");
    }
    for broken in [
        "0: cat\n1:\n",
        "0\n1\n0\n",
        "0: cat\n1: cat\n",
        "0: cat, wild\n1: dog\n",
    ] {
        assert!(Labels::parse(broken.as_bytes()).is_err(), "{broken:?}");
    }
}

#[test]
fn numbers_that_are_left_out_are_gaps() {
    let lines: Vec<String> = COCO
        .iter()
        .map(|class| format!("{}: {}", class.id, class.name))
        .collect();
    let labels = parse(&lines.join("\n"));
    assert_eq!(labels.names(), coco_by_id("N/A"));
    assert_eq!(labels.assign(90, None).unwrap().0, coco_by_id("N/A"));
    assert_eq!(labels.assign(80, None).unwrap().0[79], "toothbrush");
    assert_eq!(parse("0 cat\n9999 dog\n").names().len(), 10_000);
}

#[test]
fn quotes_around_every_name_are_not_part_of_it() {
    for file in [
        "\"traffic light\"\n\"kite\"",
        "'traffic light'\n\"kite\"\n",
        "' traffic light'\n'kite '",
    ] {
        assert_eq!(
            parse(file).names(),
            names(&["traffic light", "kite"]),
            "{file:?}"
        );
    }
    assert_eq!(parse("\"a, b\"\n").names(), names(&["a, b"]));
    for file in ["\"quoted\"\nkite", "'n' roll\n'", "\"a\" or \"b\"\n\"c\""] {
        let lines: Vec<&str> = file.lines().collect();
        assert_eq!(parse(file).names(), names(&lines), "{file:?}");
    }
    for broken in ["\"\"\n", "\"cat\"\n\"cat\"\n"] {
        assert!(Labels::parse(broken.as_bytes()).is_err(), "{broken:?}");
    }
}

#[test]
fn json_lists_and_maps_are_read() {
    let expected = names(&["traffic light", "kite"]);
    for file in [
        r#"["traffic light", "kite"]"#,
        " [\n  \"traffic light\",\n  \"kite\"\n]\n",
        r#"["__background__", "traffic light", "kite"]"#,
        r#"{"1": "kite", "0": "traffic light"}"#,
        r#"{"1": "traffic light", "2": "kite"}"#,
        r#"{"kite": 2, "traffic light": 1}"#,
        r#"{"0": "background", "1": "traffic light", "2": "kite"}"#,
    ] {
        assert_eq!(parse(file).names(), expected, "{file}");
    }
    let eleven: String = (0..11)
        .map(|index| format!("\"{index}\": \"class {index}\","))
        .collect();
    let labels = parse(&format!("{{{}}}", eleven.trim_end_matches(',')));
    assert_eq!(labels.names()[2], "class 2");
    assert_eq!(
        parse(r#"{"1": "cat", "3": "dog", "4": "N/A", "5": "N/A"}"#).names(),
        names(&["cat", "N/A", "dog", "N/A", "N/A"])
    );
}

#[test]
fn other_json_is_refused_with_what_is_wrong_and_what_is_read() {
    for (file, expected) in [
        ("['cat', 'dog']", "expected value at line 1 column 2"),
        (r#"["cat", "dog""#, "EOF"),
        (
            r#"["cat", 1]"#,
            "invalid type: integer `1`, expected a string",
        ),
        (
            r#"[{"id": 1, "name": "cat"}]"#,
            "invalid type: map, expected a string",
        ),
        (
            r#"{"names": ["cat"]}"#,
            "invalid type: sequence, expected a string",
        ),
        (r#"{"cat": "dog"}"#, "its key `cat` is not a number"),
        (r#"{"0": "cat", "1": "cat"}"#, "it has the name `cat` twice"),
        (r#"{"0": "cat", "00": "dog"}"#, "it has the number 0 twice"),
        (r#"{"cat": 0, "dog": 0}"#, "it has the number 0 twice"),
        (
            r#"{"2": "cat"}"#,
            "its first number is 2; 0 or 1 is expected",
        ),
        (
            r#"{"0": "cat", "10000": "dog"}"#,
            "it has the number 10000; the limit is 9999",
        ),
        (r#"["cat", ""]"#, "its name `` has no name"),
        (r#"["c\u0007t"]"#, "has a control character"),
        (r#"["cat", "cat"]"#, "it has the name `cat` twice"),
    ] {
        let message = Labels::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{file}: {message}");
        assert!(message.ends_with("or one name per line"), "{message}");
        assert!(
            message.len() < 300 && !message.contains(char::is_control),
            "{message}"
        );
    }
    for empty in ["[]", "{}", r#"["N/A", "???"]"#] {
        assert_eq!(Labels::parse(empty.as_bytes()), Err(Error::Empty));
    }
}

#[test]
fn other_formats_are_named_and_not_read_as_lines() {
    for (file, expected) in [
        (
            "item {\n  name: \"/m/0\"\n  id: 1\n  display_name: \"cat\"\n}\n",
            "a TensorFlow label map (pbtxt), not a list of names; write them one per line: sed -En \
             \"s/.*display_name: *",
        ),
        (
            "# mine\n\nitem{\n  id: 1\n  name: 'cat'\n}\n",
            "sed -En \"s/.*name: *",
        ),
        ("item { id: 1 name: 'cat' }\n", "a TensorFlow label map"),
        ("path: ../data\nnames: [cat, dog]\n", "it is YAML"),
        ("train: x\n\nnames:\n  0: cat\n  1: dog\n", "it is YAML"),
        ("names:\n- cat\n- dog\n", "it is YAML"),
        ("---\n- cat\n", "it is YAML"),
        ("- cat\n- dog\n", "it is YAML"),
        (
            "<!DOCTYPE html>\n<title>Not found</title>\n",
            "an HTML page or XML",
        ),
    ] {
        let message = Labels::parse(file.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{file}: {message}");
    }
    // The command makes a list that is read.
    for (file, expected) in [
        (
            "item {\n  name: '/m/0'\n  id: 1\n  display_name: \"traffic light\"\n}\n",
            "traffic light\n",
        ),
        ("item {\n  id: 1\n  name: 'kite'\n}\n", "kite\n"),
        ("names:\n  0: cat\n  1: dog\n", "cat\ndog\n"),
        ("names:\n- cat\n- dog\n", "cat\ndog\n"),
    ] {
        let message = Labels::parse(file.as_bytes()).unwrap_err().to_string();
        let (_, command) = message.split_once("per line: ").unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("FILE"), file).unwrap();
        let output = std::process::Command::new("sh")
            .args(["-c", command])
            .current_dir(folder.path())
            .output();
        assert_eq!(
            String::from_utf8_lossy(&output.unwrap().stdout),
            expected,
            "{command}"
        );
    }
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
