//! COCO's annotations as they are read.

use ssd_train::evaluation::{Source, coco_file};

fn read(text: &str) -> anyhow::Result<ssd_train::evaluation::Set> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instances.json");
    std::fs::write(&file, text).unwrap();
    for picture in ["a.jpg", "b.jpg"] {
        std::fs::write(folder.path().join(picture), "").unwrap();
    }
    coco_file::read(&file, folder.path())
}

#[test]
fn boxes_become_corners_and_ids_with_gaps_become_indexes_in_their_order() {
    let set = read(
        r#"{"images": [{"id": 9, "file_name": "b.jpg"}, {"id": 4, "file_name": "a.jpg"}],
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 13, "name": "stop sign"}],
            "annotations": [
                {"image_id": 9, "category_id": 13, "bbox": [1.5, 2, 10, 20], "iscrowd": 0},
                {"image_id": 4, "category_id": 90, "bbox": [0, 0, 5, 5], "iscrowd": 1}]}"#,
    )
    .unwrap();
    assert_eq!(set.classes, ["stop sign", "toothbrush"]);
    let files: Vec<_> = set
        .pictures
        .iter()
        .map(|source| match source {
            Source::File(path) => path.file_name().unwrap().to_str().unwrap(),
            other => panic!("a picture that is in no file: {other:?}"),
        })
        .collect();
    assert_eq!(files, ["a.jpg", "b.jpg"]);
    let first = &set.truths[0];
    assert_eq!((first.picture, first.class), (1, 0));
    assert_eq!(
        first.corners.map(f64::to_bits),
        [1.5, 2.0, 11.5, 22.0].map(f64::to_bits)
    );
    assert!(!first.ignored && set.truths[1].ignored);
}

#[test]
fn an_annotation_of_a_picture_that_is_not_listed_is_an_error_that_names_it() {
    let error = read(
        r#"{"images": [], "categories": [{"id": 1, "name": "person"}],
            "annotations": [{"image_id": 7, "category_id": 1, "bbox": [0, 0, 1, 1]}]}"#,
    )
    .unwrap_err()
    .to_string();
    assert!(error.contains("picture 7"), "{error}");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let picture = r#"{"id": 4, "file_name": "a.jpg"}"#;
    let category = r#"{"id": 1, "name": "person"}"#;
    let cases = [
        (
            picture,
            category,
            "[0, 0, -5, 5]",
            "a box of picture 4 is none",
        ),
        (
            &*format!("{picture}, {picture}"),
            category,
            "[0, 0, 5, 5]",
            "picture 4 twice",
        ),
        (
            picture,
            &*format!("{category}, {category}"),
            "[0, 0, 5, 5]",
            "category 1 twice",
        ),
        (
            r#"{"id": 4, "file_name": "c.jpg"}"#,
            category,
            "[0, 0, 5, 5]",
            "c.jpg, which is missing",
        ),
    ];
    for (images, categories, bbox, expected) in cases {
        let error = read(&format!(
            r#"{{"images": [{images}], "categories": [{categories}],
                 "annotations": [{{"image_id": 4, "category_id": 1, "bbox": {bbox}}}]}}"#
        ));
        let error = error.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_other_tools_write_is_read() {
    // A mark before the text, a category that only groups others, a word for a crowd.
    let set = read(
        "\u{feff}{\"images\": [{\"id\": 4, \"file_name\": \"a.jpg\"}],
          \"categories\": [{\"id\": 0, \"name\": \"Banana\"}, {\"id\": 1, \"name\": \"banana\"},
                           {\"id\": 2, \"name\": \"tvmonitor\"}, {\"id\": 3, \"name\": \"TV\"}],
          \"annotations\": [
            {\"image_id\": 4, \"category_id\": 1, \"bbox\": [0, 0, 5, 5], \"iscrowd\": true},
            {\"image_id\": 4, \"category_id\": 3, \"bbox\": [0, 0, 5, 5], \"iscrowd\": false}]}",
    )
    .unwrap();
    assert_eq!(set.classes, ["Banana", "tvmonitor"]);
    let of: Vec<_> = set
        .truths
        .iter()
        .map(|truth| (truth.class, truth.ignored))
        .collect();
    assert_eq!(of, [(0, true), (1, false)]);
}
