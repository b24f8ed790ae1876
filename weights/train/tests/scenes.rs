//! Scenes: the same for a seed, and annotated where the objects are.

use ssd_train::evaluation::voc_folder;
use ssd_train::scenes::{self, CLASSES, Scene, Style};

fn some(seed: u64, count: u64, style: &Style) -> Vec<Scene> {
    (0..count)
        .map(|index| scenes::draw(seed, index, style).unwrap())
        .collect()
}

#[test]
fn a_seed_and_a_number_draw_the_same_scene_every_time() {
    for (first, second) in some(5, 6, &Style::default())
        .iter()
        .zip(some(5, 6, &Style::default()))
    {
        assert!(first.picture == second.picture);
        assert_eq!(first.objects, second.objects);
    }
}

#[test]
fn other_seeds_and_other_numbers_draw_other_scenes() {
    let style = Style {
        size: Some((300, 300)),
        ..Style::default()
    };
    let here = some(5, 3, &style);
    let there = some(6, 3, &style);
    for (index, scene) in here.iter().enumerate() {
        assert!(there.iter().all(|other| other.picture != scene.picture));
        assert!(
            here[..index]
                .iter()
                .all(|other| other.picture != scene.picture)
        );
    }
}

#[test]
fn every_box_lies_inside_its_picture_and_is_not_empty() {
    for scene in some(7, 40, &Style::default()) {
        let (w, h) = scene.picture.dimensions();
        for object in &scene.objects {
            let c = &object.corners;
            assert!(c.x1 >= 0.0 && c.y1 >= 0.0 && c.x1 < c.x2 && c.y1 < c.y2);
            assert!(c.x2 <= w as f32 && c.y2 <= h as f32);
        }
    }
}

#[test]
fn every_class_occurs_and_some_objects_are_difficult_truncated_or_occluded() {
    let objects: Vec<_> = some(8, 80, &Style::default())
        .into_iter()
        .flat_map(|s| s.objects)
        .collect();
    for (class, what) in CLASSES.iter().enumerate() {
        assert!(objects.iter().any(|o| o.class == class), "{}", what.name);
    }
    assert!(objects.iter().any(|o| o.difficult));
    assert!(objects.iter().any(|o| o.truncated));
    assert!(objects.iter().any(|o| o.occluded));
    let asked_for = objects.iter().filter(|o| !o.difficult).count();
    assert!(
        asked_for * 10 > objects.len() * 7,
        "{asked_for} of {}",
        objects.len()
    );
}

#[test]
fn scenes_of_distractors_only_have_no_objects() {
    let style = Style {
        distractors_only: true,
        ..Style::default()
    };
    assert!(
        some(9, 10, &style)
            .iter()
            .all(|scene| scene.objects.is_empty())
    );
}

#[test]
fn scenes_have_the_size_asked_for() {
    let style = Style {
        size: Some((640, 480)),
        ..Style::default()
    };
    assert_eq!(some(10, 1, &style)[0].picture.dimensions(), (640, 480));
}

#[test]
fn every_class_is_one_of_cocos() {
    for class in CLASSES {
        assert!(
            ssd_server::detector::labels::COCO
                .iter()
                .any(|coco| coco.name == class.name),
            "{}",
            class.name
        );
    }
}

#[test]
fn a_voc_folder_reads_back_as_the_scenes_that_were_written() {
    let folder = tempfile::tempdir().unwrap();
    voc_folder::create(folder.path()).unwrap();
    let scenes = some(11, 4, &Style::default());
    let names: Vec<String> = (0..scenes.len())
        .map(|index| format!("scene{index}"))
        .collect();
    for (name, scene) in names.iter().zip(&scenes) {
        voc_folder::write_scene(folder.path(), name, scene).unwrap();
    }
    voc_folder::write_set(folder.path(), "test", &names).unwrap();
    for set in [None, Some("test")] {
        let set = voc_folder::read(folder.path(), set).unwrap();
        assert_eq!(set.pictures.len(), scenes.len());
        let drawn = scenes
            .iter()
            .enumerate()
            .flat_map(|(i, s)| s.objects.iter().map(move |o| (i, o)));
        let mut truths = set.truths.iter();
        for (picture, object) in drawn {
            let truth = truths.next().unwrap();
            let c = &object.corners;
            assert_eq!(truth.picture, picture);
            assert_eq!(set.classes[truth.class], CLASSES[object.class].name);
            assert_eq!(
                truth.corners.map(f64::to_bits),
                [c.x1, c.y1, c.x2, c.y2].map(|side| f64::from(side).to_bits())
            );
            assert_eq!(truth.ignored, object.difficult);
        }
        assert!(truths.next().is_none());
    }
}

#[test]
fn a_voc_folder_that_lacks_a_picture_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    voc_folder::create(folder.path()).unwrap();
    let scene = &some(12, 1, &Style::default())[0];
    voc_folder::write_scene(folder.path(), "lost", scene).unwrap();
    std::fs::remove_file(folder.path().join("JPEGImages/lost.jpg")).unwrap();
    let error = voc_folder::read(folder.path(), None)
        .unwrap_err()
        .to_string();
    assert!(error.contains("lost.jpg"), "{error}");
}

/// A folder with one picture and this annotation of it.
fn annotated(xml: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    voc_folder::create(folder.path()).unwrap();
    std::fs::write(folder.path().join("Annotations/one.xml"), xml).unwrap();
    std::fs::write(folder.path().join("JPEGImages/one.jpeg"), "").unwrap();
    folder
}

#[test]
fn a_voc_folder_of_other_tools_is_read() {
    let folder = annotated(
        "\u{feff}<?xml version=\"1.0\"?>\r\n<annotation><filename>one.jpeg</filename>
         <object><name> dog </name><difficult>Unspecified</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>
         <xmax>9</xmax><ymax>9</ymax></bndbox></object><segmented>0</segmented>
         <object><name>dog</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>
         <xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>",
    );
    std::fs::write(folder.path().join("Annotations/._one.xml"), [0, 255]).unwrap();
    std::fs::write(
        folder.path().join("ImageSets/Main/test.txt"),
        "\u{feff}one -1\r\n",
    )
    .unwrap();
    for set in [None, Some("test")] {
        let set = voc_folder::read(folder.path(), set).unwrap();
        assert_eq!(
            (set.classes, set.pictures.len()),
            (vec!["dog".to_owned()], 1)
        );
        let ignored: Vec<bool> = set.truths.iter().map(|truth| truth.ignored).collect();
        assert_eq!(ignored, [false, true]);
    }
}

#[test]
fn what_is_no_annotation_is_refused_and_named() {
    let boxed = |bounds: &str| {
        format!(
            "<annotation><object><name>dog</name><bndbox>{bounds}</bndbox></object></annotation>"
        )
    };
    let cases = [
        (
            "<html><body>404</body></html>".to_owned(),
            "is no VOC annotation",
        ),
        (
            boxed("<xmin>9</xmin><ymin>1</ymin><xmax>1</xmax><ymax>9</ymax>"),
            "the box of a dog is none",
        ),
        (
            boxed("<xmin>NaN</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"),
            "the box of a dog is none",
        ),
    ];
    for (xml, expected) in cases {
        let folder = annotated(&xml);
        let error = format!("{:#}", voc_folder::read(folder.path(), None).unwrap_err());
        assert!(
            error.contains("one.xml") && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn a_list_that_names_a_picture_twice_is_refused() {
    let folder = annotated("<annotation><filename>one.jpeg</filename></annotation>");
    std::fs::write(folder.path().join("ImageSets/Main/test.txt"), "one\none\n").unwrap();
    let error = voc_folder::read(folder.path(), Some("test"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("names one more than once"), "{error}");
}
