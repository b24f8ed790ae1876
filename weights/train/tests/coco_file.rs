//! COCO's annotations as they are read.

use ssd_train::evaluation::{Source, coco_file};

fn read(text: &str) -> anyhow::Result<ssd_train::evaluation::Set> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("instances.json");
    std::fs::write(&file, text).unwrap();
    coco_file::read(&file, std::path::Path::new("pictures"))
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
            Source::File(path) => path.to_str().unwrap(),
            other => panic!("a picture that is in no file: {other:?}"),
        })
        .collect();
    assert_eq!(files, ["pictures/a.jpg", "pictures/b.jpg"]);
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
