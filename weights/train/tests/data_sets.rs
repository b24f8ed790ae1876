//! Reads data sets as annotation tools write them, complete and with faults.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use image::{ImageFormat, Rgb, RgbImage};
use ssd_train::data::{self, Dataset, Format, Part};
use tempfile::TempDir;

/// A data set in a temporary folder.
struct Set(TempDir);

impl Set {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// Writes a picture of 100 x 80 pixels, in a colour that depends on its name.
    fn picture(&self, name: &str) -> &Self {
        self.sized(name, 100, 80)
    }

    fn sized(&self, name: &str, width: u32, height: u32) -> &Self {
        let shade = name
            .bytes()
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(byte));
        let [r, g, b, _] = shade.to_le_bytes();
        let format = ImageFormat::from_path(name).unwrap();
        let picture = RgbImage::from_pixel(width, height, Rgb([r, g, b]));
        self.write(name, encoded(&picture, format))
    }

    /// Writes VOC's annotation of a picture of 100 x 80 pixels.
    fn xml(&self, name: &str, filename: &str, objects: &[(&str, [i32; 4])]) -> &Self {
        self.write(name, xml(filename, Some((100, 80)), objects))
    }

    fn open(&self) -> Dataset {
        data::open(self.path()).unwrap()
    }

    fn refused(&self) -> String {
        refused(self.path())
    }

    #[track_caller]
    fn assert_refused(&self, expected: &str) {
        let error = self.refused();
        assert!(error.contains(expected), "{error}");
    }
}

fn refused(path: &Path) -> String {
    format!("{:#}", data::open(path).unwrap_err())
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn xml(filename: &str, stated: Option<(u32, u32)>, labels: &[(&str, [i32; 4])]) -> String {
    let size = stated.map_or(String::new(), |(w, h)| {
        format!("<size><width>{w}</width><height>{h}</height><depth>3</depth></size>")
    });
    let objects: String = labels
        .iter()
        .map(|(name, [x1, y1, x2, y2])| {
            format!(
                "<object>\n<name>{name}</name><pose>Unspecified</pose><difficult>0</difficult>\n<bndbox><xmin>{x1}\
                 </xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
            )
        })
        .collect();
    format!(
        "<annotation verified=\"yes\">\n<filename>{filename}</filename><path></path>{size}\n{objects}</annotation>"
    )
}

/// A JPEG with an EXIF orientation.
fn turned(picture: &RgbImage, orientation: u8) -> Vec<u8> {
    let tiff = [
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".as_slice(),
        &[orientation],
        b"\0\0\0\0\0\0",
    ]
    .concat();
    let jpeg = encoded(picture, ImageFormat::Jpeg);
    let length = (tiff.len() as u16 + 2).to_be_bytes();
    [&jpeg[..2], b"\xff\xe1", &length, &tiff, &jpeg[2..]].concat()
}

/// The problems as lines, with paths relative to the folder of the data set.
fn problems(dataset: &Dataset, set: &Set) -> Vec<String> {
    let root = format!("{}/", set.path().display());
    let lines = dataset.problems.iter().map(ToString::to_string);
    lines.map(|line| line.replace(&root, "")).collect()
}

/// Asserts that one of the problems contains all of the texts.
#[track_caller]
fn assert_named(dataset: &Dataset, set: &Set, texts: &[&str]) {
    let all = problems(dataset, set);
    let is_named = all
        .iter()
        .any(|line| texts.iter().all(|text| line.contains(text)));
    assert!(is_named, "{texts:?} not in {all:#?}");
}

fn names(dataset: &Dataset) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    dataset.pictures.iter().map(|p| name(&p.path)).collect()
}

const TRAIN: Option<Part> = Some(Part::Train);
const VALIDATION: Option<Part> = Some(Part::Validation);
const TEST: Option<Part> = Some(Part::Test);

fn parts_of(dataset: &Dataset) -> Vec<Option<Part>> {
    let pictures = dataset.pictures.iter();
    pictures.map(|picture| picture.part).collect()
}

/// The boxes of a picture in its pixels, rounded, with their classes.
fn boxes(dataset: &Dataset, index: usize) -> Vec<(&str, [i32; 4])> {
    let picture = &dataset.pictures[index];
    let (w, h) = (picture.width as f32, picture.height as f32);
    let of = |object: &data::Object| {
        let c = object.corners.scale(w, h);
        let sides = [c.x1, c.y1, c.x2, c.y2].map(|side| side.round() as i32);
        (dataset.classes[object.class].as_str(), sides)
    };
    picture.objects.iter().map(of).collect()
}

const CAT: (&str, [i32; 4]) = ("cat", [10, 20, 30, 60]);

#[test]
fn every_format_gives_the_same_data_set() {
    let voc = Set::new();
    let coco = Set::new();
    let yolo = Set::new();
    for name in ["a.png", "b.png", "c.png"] {
        voc.picture(&format!("JPEGImages/{name}"));
        coco.picture(&format!("images/{name}"));
        yolo.picture(&format!("images/{name}"));
    }
    voc.xml(
        "Annotations/a.xml",
        "a.png",
        &[CAT, ("dog", [0, 0, 100, 80])],
    )
    .xml("Annotations/b.xml", "b.png", &[("dog", [50, 40, 75, 60])])
    .xml("Annotations/c.xml", "c.png", &[]);
    coco.write(
        "result.json",
        r#"{"images": [{"id": 1, "file_name": "a.png", "width": 100, "height": 80},
                       {"id": 2, "file_name": "images/b.png", "width": 100, "height": 80},
                       {"id": 3, "file_name": "images\\c.png", "width": 100, "height": 80}],
            "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 4, "bbox": [10, 20, 20, 40]},
                            {"id": 2, "image_id": 1, "category_id": 9, "bbox": [0, 0, 100, 80]},
                            {"id": 3, "image_id": 2, "category_id": 9, "bbox": [50, 40, 25, 20]}]}"#,
    );
    yolo.write("classes.txt", "cat\ndog\n")
        .write("labels/a.txt", "0 0.2 0.5 0.2 0.5\n1 0.5 0.5 1 1\n")
        .write("labels/b.txt", "1 0.625 0.625 0.25 0.25")
        .write("labels/c.txt", "");
    let sets = [
        (&voc, Format::Voc),
        (&coco, Format::Coco),
        (&yolo, Format::Yolo),
    ];
    for (set, format) in sets {
        let dataset = set.open();
        assert_eq!(dataset.format, format);
        assert_eq!(dataset.classes, ["cat", "dog"]);
        assert_eq!(names(&dataset), ["a.png", "b.png", "c.png"]);
        let found: Vec<_> = (0..3).map(|index| boxes(&dataset, index)).collect();
        let expected = [
            vec![("cat", [10, 20, 30, 60]), ("dog", [0, 0, 100, 80])],
            vec![("dog", [50, 40, 75, 60])],
            vec![],
        ];
        assert_eq!(found, expected, "{format}");
        let sizes: Vec<_> = dataset
            .pictures
            .iter()
            .map(|p| (p.width, p.height))
            .collect();
        assert_eq!(sizes, [(100, 80); 3]);
        // There is only one cat.
        assert_eq!(dataset.problems.len(), 1, "{:?}", problems(&dataset, set));
        assert_named(&dataset, set, &["`cat` has a single box"]);
    }
}

// PASCAL VOC

#[test]
fn annotations_are_beside_their_pictures_or_in_folders_for_each_part() {
    let beside = Set::new();
    beside.picture("a.png").xml("a.xml", "a.png", &[CAT]);
    assert_eq!(names(&beside.open()), ["a.png"]);

    let parts = Set::new();
    parts
        .picture("train/a.jpg")
        .xml("train/a.xml", "a.jpg", &[CAT])
        .picture("valid/images/a.png")
        .xml("valid/annotations/a.xml", "a.png", &[CAT])
        .picture("test/c.png")
        .xml("test/c.xml", "c.png", &[CAT]);
    let dataset = parts.open();
    // In the order of paths: test, train, valid.
    assert_eq!(parts_of(&dataset), [TEST, TRAIN, VALIDATION]);
    assert_eq!(data::split(&dataset, 1), (vec![1], vec![2]));
    assert_eq!(data::test_pictures(&dataset), [0]);
}

#[test]
fn the_lists_of_voc_decide_the_parts() {
    let set = Set::new();
    for name in ["a", "b", "c d", "e"] {
        set.picture(&format!("JPEGImages/train/{name}.png"));
        set.xml(&format!("Annotations/{name}.xml"), "", &[CAT]);
    }
    assert_eq!(parts_of(&set.open()), [None; 4]);
    set.write("ImageSets/Main/test.txt", "a\ne.png\ngone\n");
    let dataset = set.open();
    assert_eq!(parts_of(&dataset), [TEST, None, None, TEST]);
    assert_named(
        &dataset,
        &set,
        &["test.txt:3: `gone` is listed, but has no annotation"],
    );
    set.write("ImageSets/Main/trainval.txt", "a\nb 1\nc d\n");
    let dataset = set.open();
    assert_eq!(parts_of(&dataset), [TRAIN, TRAIN, TRAIN, TEST]);
    assert_named(
        &dataset,
        &set,
        &["test.txt:1: `a` is in more than one list"],
    );
    // `trainval` and `test`, as in VOC's benchmark, take precedence over `val`.
    set.write("ImageSets/Main/val.txt", "b\n");
    assert_eq!(parts_of(&set.open()), [TRAIN, TRAIN, TRAIN, TEST]);
    // Without `test`, `val` takes its pictures from `trainval`.
    fs::remove_file(set.path().join("ImageSets/Main/test.txt")).unwrap();
    let dataset = set.open();
    assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION, TRAIN, None]);
    assert!(!problems(&dataset, &set).concat().contains("trainval.txt"));
    set.write("ImageSets/Main/test.txt", "a\ne.png\n");
    fs::remove_file(set.path().join("ImageSets/Main/trainval.txt")).unwrap();
    set.write("ImageSets/Main/train.txt", "a\n");
    let dataset = set.open();
    assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION, None, TEST]);
    assert_named(&dataset, &set, &["1 picture is left out: not assigned to"]);
}

#[test]
fn pixels_are_counted_from_1_only_in_the_devkit_s_own_files() {
    let set = Set::new();
    for (name, database) in [
        ("a", "The VOC2007 Database"),
        ("b", " The VOC2012 Database\n"),
        ("c", "Unknown"),
        ("d", "The VOC2007 Database, relabelled"),
    ] {
        let source = format!("<source><database>{database}</database></source><size>");
        let text = xml(
            "",
            Some((100, 80)),
            &[("cat", [1, 1, 100, 80]), ("cat", [9, 9, 9, 9])],
        );
        set.picture(&format!("{name}.png"))
            .write(&format!("{name}.xml"), text.replace("<size>", &source));
    }
    let dataset = set.open();
    for picture in [0, 1] {
        // The last pixel is included.
        let expected = [("cat", [0, 0, 100, 80]), ("cat", [8, 8, 9, 9])];
        assert_eq!(boxes(&dataset, picture), expected);
    }
    for picture in [2, 3] {
        assert_eq!(boxes(&dataset, picture), [("cat", [1, 1, 100, 80])]);
    }
    assert_named(
        &dataset,
        &set,
        &["c.xml:6: ", "is empty or inverted: skipped"],
    );
}

#[test]
fn the_name_of_the_annotation_file_decides_the_picture_before_the_name_in_it() {
    let set = Set::new();
    set.picture("JPEGImages/a.png")
        .picture("JPEGImages/other.jpg")
        .picture("JPEGImages/b.PNG")
        .picture("JPEGImages/c.png")
        .xml("Annotations/a.xml", "other.jpg", &[CAT])
        .xml("Annotations/b.xml", "C:\\pictures\\b.PNG", &[CAT])
        .xml("Annotations/only-named.xml", "c.png", &[CAT]);
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "b.PNG", "c.png"]);
    assert_named(
        &dataset,
        &set,
        &[
            "Annotations/a.xml: the annotation names the picture `other.jpg`",
            "a.png has the name of the annotation file",
        ],
    );
    assert_named(
        &dataset,
        &set,
        &["other.jpg: 1 picture has no usable XML file"],
    );
    assert_eq!(dataset.problems.len(), 2, "{:?}", problems(&dataset, &set));
}

#[test]
fn a_faulty_annotation_is_skipped_and_reported() {
    let set = Set::new();
    for name in ["a", "b", "c", "d"] {
        set.picture(&format!("{name}.png"));
    }
    set.xml("a.xml", "a.png", &[CAT])
        .write("b.xml", "<annotation><object>")
        .write("c.xml", b"<annotation>\xff</annotation>")
        .write(
            "d.xml",
            "<annotation>\n<object><name>cat</name></object>\n<object><name> </name>\
             <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>\n\
             <object><name>cat</name><bndbox><xmin>x</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>\
             </object>\n</annotation>",
        )
        .write("cvat.xml", "<annotations><version>1.1</version></annotations>");
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png"]);
    assert_named(&dataset, &set, &["b.xml: the file is not a VOC annotation"]);
    assert_named(&dataset, &set, &["c.xml is not in UTF-8"]);
    assert_named(
        &dataset,
        &set,
        &["cvat.xml: the file is not a VOC annotation"],
    );
    assert_named(&dataset, &set, &["d.xml", "`cat` has no bndbox"]);
    assert_named(&dataset, &set, &["d.xml", "an object has no name"]);
    assert_named(
        &dataset,
        &set,
        &[
            "d.xml",
            "d.png is skipped: its labels have objects, but no usable box (0 of 3)",
        ],
    );
}

#[test]
fn difficult_objects_are_marked_and_classes_are_in_alphabetical_order() {
    let set = Set::new();
    let text = xml(
        "a.png",
        None,
        &[("zebra", [1, 1, 9, 9]), ("ape", [1, 1, 9, 9])],
    )
    .replacen("<difficult>0", "<difficult> 1 ", 1);
    set.picture("a.png")
        .write("a.xml", format!("\u{feff}{text}"));
    let dataset = set.open();
    assert_eq!(dataset.classes, ["ape", "zebra"]);
    let objects = &dataset.pictures[0].objects;
    let of: Vec<_> = objects.iter().map(|o| (o.class, o.difficult)).collect();
    assert_eq!(of, [(1, true), (0, false)]);
}

// COCO

fn coco(images: &str, categories: &str, annotations: &str) -> String {
    format!(
        r#"{{"images": [{images}], "categories": [{categories}], "annotations": [{annotations}]}}"#
    )
}

#[test]
fn roboflow_s_parts_are_one_data_set_and_its_grouping_category_is_no_class() {
    let set = Set::new();
    for (part, id) in [("train", 1), ("valid", 2), ("test", 2)] {
        let categories = r#"{"id": 0, "name": "animals", "supercategory": "none"},
                            {"id": 2, "name": "dog", "supercategory": "animals"},
                            {"id": 1, "name": "cat", "supercategory": "animals"}"#;
        let text = coco(
            r#"{"id": 0, "file_name": "a.png", "width": 100, "height": 80}"#,
            categories,
            &format!(
                r#"{{"id": 5, "image_id": 0, "category_id": {id}, "bbox": [1, 2, 30, 40], "iscrowd": 0}}"#
            ),
        );
        set.write(&format!("{part}/_annotations.coco.json"), text);
        set.picture(&format!("{part}/a.png"));
    }
    let dataset = set.open();
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(parts_of(&dataset), [TEST, TRAIN, VALIDATION]);
    assert_eq!(boxes(&dataset, 1), [("cat", [1, 2, 31, 42])]);
    assert_eq!(boxes(&dataset, 2), [("dog", [1, 2, 31, 42])]);
}

#[test]
fn coco_s_own_layout_is_read_and_one_file_of_it_by_its_path() {
    let set = Set::new();
    for (part, name) in [("train2017", "a.png"), ("val2017", "b.png")] {
        let image = format!(r#"{{"id": "x{name}", "file_name": "{name}"}}"#);
        let annotation =
            format!(r#"{{"image_id": "x{name}", "category_id": 7, "bbox": [0, 0, 9, 9]}}"#);
        let text = coco(&image, r#"{"id": 7, "name": "cat"}"#, &annotation);
        set.write(&format!("annotations/instances_{part}.json"), &text);
        set.write(&format!("annotations/captions_{part}.json"), &text);
        set.picture(&format!("images/{part}/{name}"));
    }
    let dataset = set.open();
    assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION]);
    let one = data::open(&set.path().join("annotations/instances_val2017.json")).unwrap();
    assert_eq!(names(&one), ["b.png"]);
    assert_eq!(parts_of(&one), [VALIDATION]);
}

#[test]
fn with_a_single_coco_file_the_folders_of_the_pictures_decide_the_parts() {
    let set = Set::new();
    let images = r#"{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}, {"id": 3, "file_name": "c.png"}"#;
    let annotation = r#"{"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9]}"#;
    let text = coco(images, r#"{"id": 7, "name": "cat"}"#, annotation);
    set.picture("images/train/a.png")
        .picture("images/test/b.png")
        .picture("images/c.png")
        .write("instances_trainval.json", text);
    assert_eq!(parts_of(&set.open()), [TRAIN, TEST, TRAIN]);
}

#[test]
fn coco_s_faulty_annotations_are_skipped_and_reported_and_crowds_are_difficult() {
    let set = Set::new();
    let images = r#"{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "gone.png"},
                    {"id": 3, "file_name": "crowd.png"}, {"id": 4, "file_name": "../a.png"}"#;
    let annotations = r#"{"id": 10, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"id": 11, "image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9]},
        {"id": 12, "image_id": 1, "category_id": 99, "bbox": [0, 0, 9, 9]},
        {"id": 13, "image_id": 1, "category_id": 1, "bbox": []},
        {"id": 14, "image_id": 1, "category_id": 1},
        {"id": 15, "image_id": 3, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": true},
        {"id": 16, "image_id": 3, "category_id": 1, "bbox": [0, 0, 8, 8], "iscrowd": 1}"#;
    let categories = r#"{"id": 1, "name": "cat"}, {"id": 3, "name": "yak"}"#;
    set.picture("a.png")
        .picture("crowd.png")
        .write("labels.json", coco(images, categories, annotations));
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "crowd.png"]);
    let difficult = |index: usize| -> Vec<bool> {
        let objects = dataset.pictures[index].objects.iter();
        objects.map(|object| object.difficult).collect()
    };
    assert_eq!(
        (difficult(0), difficult(1)),
        (vec![false], vec![true, true])
    );
    // A class without boxes keeps its index.
    assert_eq!(dataset.classes, ["cat", "yak"]);
    assert_named(
        &dataset,
        &set,
        &["labels.json: 1 class has no box", "`yak`"],
    );
    assert_named(
        &dataset,
        &set,
        &["`gone.png` was not found beside this file"],
    );
    assert_named(
        &dataset,
        &set,
        &["annotation 11 of picture 99 refers to a picture that is not listed"],
    );
    assert_named(&dataset, &set, &["annotation 12", "category 99"]);
    assert_named(&dataset, &set, &["annotation 13", "no bbox"]);
    assert_named(&dataset, &set, &["annotation 14", "no bbox"]);
    assert_named(
        &dataset,
        &set,
        &["a.png: the picture is listed more than once"],
    );
    assert_eq!(dataset.problems.len(), 7, "{:?}", problems(&dataset, &set));
}

#[test]
fn repeated_ids_and_two_coco_files_for_one_part_are_refused() {
    let set = Set::new();
    let picture = r#"{"id": 1, "file_name": "a.png"}"#;
    let category = r#"{"id": 1, "name": "cat"}"#;
    set.picture("a.png");
    set.write(
        "a.json",
        coco(&format!("{picture}, {picture}"), category, ""),
    );
    set.assert_refused("two pictures with the id 1");
    set.write(
        "a.json",
        coco(picture, &format!("{category}, {category}"), ""),
    );
    set.assert_refused("two categories with the id 1");
    set.write("b.json", coco(picture, category, ""));
    set.assert_refused("both contain COCO labels");
    set.write("a.json", r#"{"images": [], "annotations""#);
    let error = refused(&set.path().join("a.json"));
    assert!(
        error.contains("is not a COCO JSON file") && error.contains("line 1"),
        "{error}"
    );
}

// YOLO

#[test]
fn data_yaml_says_where_the_pictures_are_and_roboflow_s_extra_dots_are_ignored() {
    let set = Set::new();
    for (part, name) in [("train", "a"), ("valid", "b"), ("elsewhere", "c")] {
        set.picture(&format!("{part}/images/{name}.png"));
        set.write(&format!("{part}/labels/{name}.txt"), "7 0.5 0.5 0.2 0.2\n");
    }
    for (train, val) in [
        ("../train/images", "../valid/images"),
        ("train/images", "[./valid/images]"),
        ("\n- train/images", "valid/images # held out"),
    ] {
        let classes = "names:\n  7: cat\n  2: 'dog: big'\n";
        set.write(
            "data.yaml",
            format!("train: {train}\nval: {val}\ntest: ../test/images\nnc: 3\n{classes}"),
        );
        let dataset = set.open();
        assert_eq!(names(&dataset), ["a.png", "b.png"]);
        assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION]);
        assert_eq!(dataset.classes, ["dog: big", "cat"]);
        assert_eq!(boxes(&dataset, 0), [("cat", [40, 32, 60, 48])]);
        assert_named(
            &dataset,
            &set,
            &["data.yaml", "`../test/images` does not exist"],
        );
        assert_named(
            &dataset,
            &set,
            &["data.yaml", "nc is 3, but 2 names are given"],
        );
        assert_named(&dataset, &set, &["1 class has no box", "`dog: big`"]);
    }
    let by_path = data::open(&set.path().join("data.yaml")).unwrap();
    assert_eq!(by_path.pictures.len(), 2);
}

#[test]
fn data_yaml_may_name_lists_of_pictures_and_a_base() {
    let set = Set::new();
    for name in ["a", "b"] {
        set.picture(&format!("all/images/{name}.png"));
        set.write(&format!("all/labels/{name}.txt"), "0 0.5 0.5 0.2 0.2");
    }
    set.write(
        "data.yaml",
        "path: all\ntrain: train.txt\nval: val.txt\nnames: [cat]",
    )
    .write("all/train.txt", "./images/a.png\nimages/gone.png\n")
    .write("all/val.txt", "images\\b.png\n./images/a.png\n");
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "b.png"]);
    assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION]);
    assert_named(
        &dataset,
        &set,
        &["train.txt:2: the picture `images/gone.png` does not exist"],
    );
    assert_named(
        &dataset,
        &set,
        &["data.yaml:3: 1 picture is also in an earlier part"],
    );
    // `test` is a part of its own.
    set.write(
        "data.yaml",
        "path: all\ntrain: train.txt\ntest: val.txt\nnames: [cat]",
    );
    assert_eq!(parts_of(&set.open()), [TRAIN, TEST]);
}

#[test]
fn if_the_paths_of_data_yaml_do_not_exist_all_pictures_of_the_folder_are_used() {
    let set = Set::new();
    set.picture("images/train/a.png")
        .write("labels/train/a.txt", "0 0.5 0.5 0.2 0.2")
        .picture("images/val/b.png")
        .write("labels/val/b.txt", "0 0.5 0.5 0.2 0.2")
        .write(
            "data.yaml",
            "path: /home/somebody/set\ntrain: tr\nval: va\nnames: [cat]",
        );
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "b.png"]);
    assert_eq!(parts_of(&dataset), [TRAIN, VALIDATION]);
    assert_named(&dataset, &set, &["data.yaml:2: `tr` does not exist"]);
    assert_named(&dataset, &set, &["none of its paths has pictures"]);
}

#[test]
fn cvat_s_and_labelimg_s_yolo_have_labels_beside_the_pictures() {
    let set = Set::new();
    set.write("obj.names", "cat\ndog\n")
        .write("obj.data", "classes = 2\ntrain = data/train.txt\n")
        .write("train.txt", "data/obj_train_data/a.png\n")
        .picture("obj_train_data/a.png")
        .write("obj_train_data/a.txt", "1 0.5 0.5 0.2 0.2")
        .picture("obj_Validation_data/b.png")
        .write("obj_Validation_data/b.txt", "0 0.5 0.5 0.2 0.2");
    let dataset = set.open();
    assert_eq!(names(&dataset), ["b.png", "a.png"]);
    assert_eq!(parts_of(&dataset), [VALIDATION, TRAIN]);

    let set = Set::new();
    set.write("classes.txt", "cat\r\ndog\r\n")
        .picture("a.png")
        .write("a.txt", "1 0.5 0.5 0.2 0.2\r\n")
        .write("gone.txt", "1 0.5 0.5 0.2 0.2")
        .picture("background.png");
    let dataset = set.open();
    assert_eq!(boxes(&dataset, 0), [("dog", [40, 32, 60, 48])]);
    assert!(dataset.pictures[1].objects.is_empty());
    assert_named(
        &dataset,
        &set,
        &["gone.txt: the data set has no picture of this name"],
    );
    assert_named(
        &dataset,
        &set,
        &["background.png: 1 picture has no label file"],
    );
}

#[test]
fn outlines_become_the_boxes_around_them_and_key_points_are_ignored() {
    let set = Set::new();
    let outline = "0 0.1 0.5 0.5 0.1 0.9 0.5 0.5 0.75\n";
    set.write("data.yaml", "names: [cat]")
        .picture("images/a.png")
        .write("labels/a.txt", outline)
        .picture("images/b.png")
        .write("labels/b.txt", outline);
    let dataset = set.open();
    assert_eq!(boxes(&dataset, 0), [("cat", [10, 8, 90, 60])]);
    assert_eq!(dataset.problems.len(), 1);
    assert_named(
        &dataset,
        &set,
        &["labels/a.txt:1: 2 label files contain outlines"],
    );
    set.write("data.yaml", "names: [cat]\nkpt_shape: [2, 2]");
    let dataset = set.open();
    assert_eq!(boxes(&dataset, 0), [("cat", [0, 36, 35, 44])]);
}

#[test]
fn a_faulty_line_loses_only_its_own_object() {
    let set = Set::new();
    let lines = "0 0.5 0.5 0.2 0.2\n\n0 0.5 0.5 0.2\n9 0.5 0.5 0.2 0.2\nx 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 y\n\
                 0 0.5 0.5 0.2 0.2 0.98\n0 nan 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n0.0 0.3 0.3 0.2 0.2\n-1 0 0 0 0\n";
    set.write("classes.txt", "cat")
        .picture("images/a.png")
        .write("labels/a.txt", lines)
        .picture("images/b.png")
        .write("labels/b.txt", b"\xff\xfe");
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png"]);
    assert_eq!(dataset.pictures[0].objects.len(), 2);
    for (line, what) in [
        (3, "3 numbers follow the class"),
        (4, "the data set has 1 class, but no class 9"),
        (5, "`x` is not a class number"),
        (6, "`y` is not a number"),
        (7, "a score follows the box"),
        (8, "a side that is not a number"),
        (9, "the line repeats an earlier line"),
        (11, "`-1` is not a class number"),
    ] {
        assert_named(&dataset, &set, &[&format!("labels/a.txt:{line}: "), what]);
    }
    assert_named(
        &dataset,
        &set,
        &["labels/b.txt is not in UTF-8", "its picture is skipped"],
    );
}

#[test]
fn faults_of_data_yaml_are_refused_with_their_line() {
    let set = Set::new();
    set.picture("a.png").write("a.txt", "0 0.5 0.5 0.2 0.2");
    for (yaml, expected) in [
        ("nc: 1\nnames: cat", "data.yaml:2: invalid type: string"),
        ("names: [[cat]]", "data.yaml:1: expected string"),
        (
            "names:\n  a: cat",
            "data.yaml:2: a whole number is expected",
        ),
        ("names: []", "names no classes"),
        (
            "names: [cat]\nnames: [dog]",
            "data.yaml:2: duplicate mapping key `names`",
        ),
        (
            "names: [cat]\ntrain:\n  a: b",
            "data.yaml:3: invalid type: map",
        ),
        (
            "names: [cat]\nnonsense",
            "as a folder, a list file, or a list of these",
        ),
        (
            "names: [\"a\\u001bb\"]",
            "`a\\u{1b}b`, which is empty, longer",
        ),
        ("names: [cat, '']", "which is empty"),
    ] {
        set.write("data.yaml", yaml);
        let error = refused(&set.path().join("data.yaml"));
        assert!(error.contains(expected), "{yaml}: {error}");
        assert_eq!(set.refused(), error);
    }
}

// Boxes

#[test]
fn boxes_outside_the_picture_are_skipped_and_those_partly_outside_are_clipped() {
    let set = Set::new();
    set.picture("a.png").xml(
        "a.xml",
        "a.png",
        &[
            ("cat", [90, 70, 110, 90]),
            ("cat", [0, 0, 102, 82]),
            ("cat", [101, 1, 120, 20]),
            ("cat", [-20, 1, 0, 20]),
            ("cat", [30, 10, 20, 40]),
            ("cat", [504, 33, 504, 33]),
        ],
    );
    let dataset = set.open();
    assert_eq!(
        boxes(&dataset, 0),
        [("cat", [90, 70, 100, 80]), ("cat", [0, 0, 100, 80])]
    );
    // The second reaches beyond the picture by no more than rounding explains.
    assert_eq!(dataset.problems.len(), 5, "{:#?}", problems(&dataset, &set));
    assert_named(
        &dataset,
        &set,
        &["a.xml:3: the box extends 10 pixels beyond the picture: clipped"],
    );
    assert_named(
        &dataset,
        &set,
        &["a.xml:9: ", "outside the picture of 100 x 80: skipped"],
    );
    assert_named(&dataset, &set, &["a.xml:12: ", "outside the picture"]);
    assert_named(
        &dataset,
        &set,
        &["a.xml:15: ", "empty or inverted: skipped"],
    );
    assert_named(
        &dataset,
        &set,
        &["a.xml:18: ", "empty or inverted: skipped"],
    );
}

// Pictures

#[test]
fn missing_truncated_and_invalid_pictures_are_skipped_and_reported() {
    let set = Set::new();
    let whole = Set::new();
    whole
        .sized("x.jpg", 100, 80)
        .sized("x.png", 100, 80)
        .sized("x.webp", 100, 80);
    for (name, extension) in [("jpeg", "jpg"), ("png", "png"), ("webp", "webp")] {
        let bytes = fs::read(whole.path().join(format!("x.{extension}"))).unwrap();
        set.write(&format!("{name}.{extension}"), &bytes[..bytes.len() / 2]);
    }
    set.write("none.png", "hello")
        .write("empty.png", "")
        .picture("a.png");
    for name in ["jpeg", "png", "webp", "none", "empty", "missing", "a"] {
        set.xml(&format!("{name}.xml"), "", &[CAT]);
    }
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png"]);
    for (name, format) in [
        ("jpeg.jpg", "JPEG"),
        ("png.png", "PNG"),
        ("webp.webp", "WebP"),
    ] {
        let problem = format!("{name}: the {format} picture cannot be decoded: it is cut short");
        assert_named(&dataset, &set, &[&problem]);
    }
    assert_named(&dataset, &set, &["none.png: the bytes are not a picture"]);
    assert_named(&dataset, &set, &["empty.png: the picture is empty"]);
    assert_named(
        &dataset,
        &set,
        &["missing.xml: there is no picture `missing`"],
    );
}

#[test]
fn a_picture_with_objects_is_skipped_if_the_labels_state_another_size() {
    let set = Set::new();
    for name in ["a", "b", "c", "d"] {
        set.picture(&format!("{name}.png"));
    }
    set.xml("a.xml", "", &[CAT])
        .write("b.xml", xml("", Some((200, 160)), &[CAT]))
        .write("c.xml", xml("", Some((200, 160)), &[]))
        // Some tools write 0 for an unknown size.
        .write("d.xml", xml("", Some((0, 0)), &[CAT]));
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "c.png", "d.png"]);
    assert_named(
        &dataset,
        &set,
        &[
            "b.xml: the labels state a picture of 200 x 160",
            "has 100 x 80: skipped",
        ],
    );
}

/// A picture of 96 x 64 pixels, black but for a white box from (8, 16) to (40, 56).
fn stored() -> RgbImage {
    RgbImage::from_fn(96, 64, |x, y| {
        let inside = (8..40).contains(&x) && (16..56).contains(&y);
        Rgb([if inside { 255 } else { 0 }; 3])
    })
}

/// The sides of the white box.
fn white(picture: &RgbImage) -> [i32; 4] {
    picture
        .enumerate_pixels()
        .filter(|(_, _, pixel)| pixel[0] > 127)
        .map(|(x, y, _)| (x as i32, y as i32))
        .fold([i32::MAX, i32::MAX, 0, 0], |[x1, y1, x2, y2], (x, y)| {
            [x1.min(x), y1.min(y), x2.max(x + 1), y2.max(y + 1)]
        })
}

#[test]
fn the_stated_size_shows_whether_boxes_must_be_turned_by_the_exif_orientation() {
    for orientation in 5..=8 {
        let set = Set::new();
        set.write("a.jpg", turned(&stored(), orientation));
        set.write(
            "a.xml",
            xml("a.jpg", Some((96, 64)), &[("cat", [8, 16, 40, 56]); 2]),
        );
        let dataset = set.open();
        let picture = &dataset.pictures[0];
        let pixels = data::pixels(&picture.path).unwrap();
        assert_eq!((picture.width, picture.height), (64, 96));
        assert_eq!(pixels.dimensions(), (64, 96));
        let expected = white(&pixels);
        assert_eq!(boxes(&dataset, 0)[0].1, expected, "{orientation}");
        assert_named(
            &dataset,
            &set,
            &["a.xml: ", "a.jpg, 96 x 64: turned by its EXIF"],
        );

        let upright = xml("a.jpg", Some((64, 96)), &[("cat", expected); 2]);
        set.write("a.xml", upright);
        let dataset = set.open();
        assert_eq!(boxes(&dataset, 0)[0].1, expected, "{orientation}");
        assert_named(
            &dataset,
            &set,
            &["a.xml: ", "the upright picture", "64 x 96: used unchanged"],
        );
    }
}

#[test]
fn pictures_are_skipped_if_the_labels_do_not_show_whether_boxes_must_be_turned() {
    let set = Set::new();
    set.picture("good.png").xml("good.xml", "", &[CAT]);
    // Upside down, so that both sizes are equal; turned, without a size; upside down without objects.
    set.write("half.jpg", turned(&stored(), 3))
        .write("half.xml", xml("", Some((96, 64)), &[CAT]))
        .write("none.jpg", turned(&stored(), 6))
        .write("none.xml", xml("", None, &[CAT]))
        .write("background.jpg", turned(&stored(), 4))
        .write("background.xml", xml("", Some((96, 64)), &[]));
    let dataset = set.open();
    assert_eq!(names(&dataset), ["background.jpg", "good.png"]);
    for name in ["half", "none"] {
        assert_named(
            &dataset,
            &set,
            &[
                &format!("{name}.xml: "),
                "or to the upright picture: skipped",
            ],
        );
    }
}

#[test]
fn yolo_s_boxes_refer_to_the_upright_picture() {
    let set = Set::new();
    set.write("classes.txt", "cat")
        .write("a.jpg", turned(&stored(), 6))
        .write("a.txt", "0 0.5 0.25 0.5 0.25");
    let dataset = set.open();
    assert_eq!(boxes(&dataset, 0), [("cat", [16, 12, 48, 36])]);
    assert_named(
        &dataset,
        &set,
        &["a.txt: ", "assumed to refer to the upright picture"],
    );
}

#[test]
fn of_copies_of_a_picture_the_first_is_used() {
    let set = Set::new();
    set.picture("train/a.png").picture("valid/other.png");
    let copy = fs::read(set.path().join("train/a.png")).unwrap();
    set.write("train/b.png", &copy).write("valid/c.png", &copy);
    for name in ["train/a", "train/b", "valid/other"] {
        set.xml(&format!("{name}.xml"), "", &[CAT]);
    }
    set.xml("valid/c.xml", "", &[("cat", [1, 1, 9, 9])]);
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png", "other.png"]);
    let all = problems(&dataset, &set);
    assert_eq!(
        all,
        [
            "train/b.png: the picture is a copy of train/a.png: only the first is used",
            "valid/c.png: the picture is a copy of train/a.png, which is in another part of the data set (a training \
             picture cannot measure accuracy), with other labels: only the first is used"
        ]
    );
}

#[test]
fn damaged_huge_and_missing_pictures_are_not_decoded() {
    let set = Set::new();
    set.sized("a.jpg", 100, 80);
    let path = set.path().join("a.jpg");
    assert_eq!(data::pixels(&path).unwrap().dimensions(), (100, 80));
    let error = || format!("{:#}", data::pixels(&path).unwrap_err());
    let bytes = fs::read(&path).unwrap();
    set.write("a.jpg", &bytes[..bytes.len() - 2]);
    assert!(data::pixels(&path).is_ok(), "without its end marker");
    set.write("a.jpg", &bytes[..bytes.len() / 2]);
    assert!(error().contains("cut short"), "{}", error());
    // The header of a BMP file of 20,000 x 20,000 pixels.
    let side = 20_000_i32.to_le_bytes();
    let bmp = [
        b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".as_slice(),
        &side,
        &side,
        b"\x01\0\x18\0",
        &[0; 24],
    ];
    set.write("a.jpg", bmp.concat());
    assert!(
        error().contains("the limit is 200000000 pixels"),
        "{}",
        error()
    );
    fs::remove_file(&path).unwrap();
    assert!(error().contains("a.jpg cannot be decoded"), "{}", error());
}

// Classes

#[test]
fn names_that_differ_in_case_or_spaces_are_one_class_with_the_most_common_spelling() {
    let set = Set::new();
    let at = [1, 1, 9, 9];
    set.picture("a.png").picture("b.png");
    set.xml("a.xml", "", &[("Cat", at), ("dog ", at), (" dog", at)])
        .xml("b.xml", "", &[("cat", at), ("cat", at)]);
    let dataset = set.open();
    assert_eq!(dataset.classes, ["cat", "dog"]);
    assert_eq!(
        boxes(&dataset, 0)
            .iter()
            .map(|(name, _)| *name)
            .collect::<Vec<_>>(),
        ["cat", "dog", "dog"]
    );
    assert_named(
        &dataset,
        &set,
        &["a.xml: `Cat` (1 box) counts as the class `cat` (3 in total)"],
    );
    assert_named(
        &dataset,
        &set,
        &["a.xml: `dog ` (1 box) counts as the class `dog`"],
    );
}

#[test]
fn a_name_that_is_too_long_or_contains_control_characters_is_refused() {
    let set = Set::new();
    set.picture("a.png")
        .xml("a.xml", "", &[("c\u{202e}at", [1, 1, 9, 9])]);
    let error = set.refused();
    assert!(
        error.contains("a.xml") && error.contains("`c\\u{202e}at`"),
        "{error}"
    );
    set.xml("a.xml", "", &[(&"x".repeat(101), [1, 1, 9, 9])]);
    set.assert_refused("longer than 100 characters");
}

#[test]
fn a_folder_without_boxes_without_labels_or_with_several_formats_is_refused() {
    let set = Set::new();
    set.assert_refused("contains no labels in a known format; give a folder");
    let gone = refused(&set.path().join("gone"));
    assert!(
        gone.contains("gone cannot be read; give a folder with PASCAL VOC"),
        "{gone}"
    );
    set.picture("a.png")
        .xml("a.xml", "", &[("cat", [200, 1, 300, 9])]);
    let error = set.refused();
    assert!(
        error.contains("has no usable box in 1 picture;") && error.contains("a.xml:3: "),
        "{error}"
    );
    let file = refused(&set.path().join("a.png"));
    assert!(file.contains("a.png is not a label file"), "{file}");
    set.write("a.txt", "0 0.5 0.5 0.5 0.5")
        .write("classes.txt", "cat");
    set.assert_refused("both PASCAL VOC and YOLO");
    assert_eq!(
        data::open(&set.path().join("classes.txt")).unwrap().format,
        Format::Yolo
    );
    set.write("x.json", coco("", "", ""));
    set.assert_refused("more than one format");

    let nameless = Set::new();
    nameless
        .picture("images/a.png")
        .write("labels/a.txt", "0 0.5 0.5 0.5 0.5");
    nameless.assert_refused("no file names the classes");
    nameless.write("data.yaml", "names: [cat]");
    fs::remove_dir_all(nameless.path().join("labels")).unwrap();
    nameless.assert_refused("found no label file for 1 picture;");
}

#[test]
fn label_files_larger_than_64_mb_are_refused() {
    let set = Set::new();
    set.picture("a.png")
        .xml("a.xml", "", &[CAT])
        .picture("b.png")
        .xml("b.xml", "", &[CAT]);
    let long = |name: &str| {
        let file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(set.path().join(name));
        file.unwrap().set_len((64 << 20) + 1).unwrap();
    };
    long("b.xml");
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png"]);
    assert_named(
        &dataset,
        &set,
        &["b.xml cannot be read: it is larger than the limit of 64 MB"],
    );
    long("long.json");
    let error = refused(&set.path().join("long.json"));
    assert!(error.contains("larger than the limit of 64 MB"), "{error}");
}

#[test]
fn a_picture_with_too_many_objects_is_skipped() {
    let set = Set::new();
    let mut long = String::new();
    for index in 0..10_001 {
        long += &format!("0 0.5 0.5 0.2 0.{}\n", index + 10_000);
    }
    set.write("classes.txt", "cat")
        .picture("a.png")
        .write("a.txt", &long)
        .picture("b.png")
        .write("b.txt", long.split_once('\n').unwrap().1);
    let dataset = set.open();
    assert_eq!(names(&dataset), ["b.png"]);
    assert_eq!(dataset.pictures[0].objects.len(), 10_000);
    assert_named(
        &dataset,
        &set,
        &["a.txt: 10001 objects are more than the limit of 10000"],
    );
}

#[cfg(unix)]
#[test]
fn links_are_followed_without_loops_and_hidden_files_are_ignored() {
    let (set, elsewhere) = (Set::new(), Set::new());
    elsewhere.picture("a.png");
    set.xml("Annotations/a.xml", "", &[CAT])
        .write("Annotations/._a.xml", "macOS")
        .write("JPEGImages/._a.png", "macOS");
    std::os::unix::fs::symlink(elsewhere.path(), set.path().join("images")).unwrap();
    std::os::unix::fs::symlink(set.path(), set.path().join("again")).unwrap();
    let dataset = set.open();
    assert_eq!(names(&dataset), ["a.png"]);
    assert_eq!(dataset.problems.len(), 1, "{:?}", problems(&dataset, &set));
}

// Summary and division

#[test]
fn the_summary_counts_and_lists_at_most_twenty_problems() {
    let set = Set::new();
    let mut objects = vec![
        ("cat", [1, 1, 10, 10]),
        ("cat", [1, 1, 100, 80]),
        ("dog", [1, 1, 9, 9]),
    ];
    objects.extend([("cat", [50, 1, 40, 9]); 30]);
    set.picture("a.png")
        .xml("a.xml", "", &objects)
        .sized("b.png", 200, 200);
    set.write("b.xml", xml("", None, &[]));
    set.write("esc\u{1b}.xml", "<annotation></x>");
    let text = set.open().summary().to_string();
    for expected in [
        "PASCAL VOC: 2 pictures, 1 of them without objects\n\nclass",
        "cat           2         1\n",
        "dog           1         1\n",
        "67 % small (below 32 x 32 pixels), 33 % medium, 0 % large",
        "Problems: 32\n",
        "  and 12 more\n",
    ] {
        assert!(text.contains(expected), "{expected:?} not in {text}");
    }
    assert!(text.lines().count() < 35, "{text}");
    assert!(!text.contains('\u{1b}'));
}

/// A data set with folders of these names, each with a number of pictures.
fn in_folders(folders: &[(&str, usize)]) -> Set {
    let set = Set::new();
    for (folder, count) in folders {
        for index in 0..*count {
            let name = format!("{folder}/{folder}{index}");
            set.picture(&format!("{name}.png"));
            set.xml(&format!("{name}.xml"), "", &[CAT]);
        }
    }
    set
}

#[test]
fn the_summary_counts_the_pictures_of_each_part() {
    let line = |folders: &[(&str, usize)]| {
        let text = in_folders(folders).open().summary().to_string();
        let lines: Vec<&str> = text.lines().take(2).collect();
        lines.join("|")
    };
    assert_eq!(
        line(&[("train", 4), ("valid", 3), ("test", 2)]),
        "PASCAL VOC: 9 pictures|Parts of the data set: 4 for training, 3 for validation, 2 for testing"
    );
    assert_eq!(
        line(&[("test", 1), ("other", 2)]),
        "PASCAL VOC: 3 pictures|Parts of the data set: 1 for testing, 2 in no part"
    );
    assert_eq!(line(&[("other", 1)]), "PASCAL VOC: 1 picture|");
}

#[test]
fn the_parts_of_the_data_set_are_used_if_one_can_be_held_out() {
    // Folders with their numbers of pictures; the numbers of training, held-out and test pictures.
    for (folders, expected) in [
        (
            vec![("train", 6), ("valid", 2), ("test", 3), ("other", 1)],
            (6, 2, 3),
        ),
        (vec![("train", 6), ("test", 3), ("other", 1)], (6, 3, 0)),
        (vec![("train", 6), ("valid", 2)], (6, 2, 0)),
        (vec![("train", 8), ("other", 2)], (8, 2, 0)),
        (vec![("valid", 5), ("test", 3)], (4, 1, 3)),
        (vec![("test", 3), ("other", 5)], (4, 1, 3)),
        (vec![("valid", 5)], (4, 1, 0)),
        (vec![("test", 5)], (4, 1, 0)),
        (vec![("other", 5)], (4, 1, 0)),
    ] {
        let set = in_folders(&folders);
        let dataset = set.open();
        let (train, held_out) = data::split(&dataset, 1);
        let test = data::test_pictures(&dataset);
        let all: BTreeSet<_> = train.iter().chain(&held_out).chain(&test).collect();
        assert_eq!(all.len(), train.len() + held_out.len() + test.len());
        assert!(
            test.iter()
                .all(|&index| dataset.pictures[index].part == TEST)
        );
        assert_eq!(
            (train.len(), held_out.len(), test.len()),
            expected,
            "{folders:?}"
        );
        let left_out = dataset.pictures.len() - all.len();
        let named = problems(&dataset, &set).concat();
        assert_eq!(
            left_out == 1,
            named.contains("1 picture is left out: not assigned to"),
            "{named}"
        );
    }
}

/// Pictures with these numbers and a cat each. Every fourth also has a dog, and number 7 has six yaks.
fn cats(numbers: impl Iterator<Item = usize>) -> Set {
    let set = Set::new();
    for index in numbers {
        set.picture(&format!("{index}.png"));
        let mut objects = vec![CAT];
        if index % 4 == 0 {
            objects.push(("dog", [1, 1, 9, 9]));
        }
        if index == 7 {
            objects.extend([("yak", [1, 1, 9, 9]); 6]);
        }
        set.xml(&format!("{index}.xml"), "", &objects);
    }
    set
}

#[test]
fn the_same_fifth_is_held_out_in_every_folder_but_not_for_every_seed() {
    let (one, other) = (cats(0..20), cats((0..20).rev()));
    let held_out = |set: &Set, seed| -> BTreeSet<String> {
        let dataset = set.open();
        let (train, validation) = data::split(&dataset, seed);
        assert_eq!((train.len(), validation.len()), (16, 4));
        let both: BTreeSet<_> = train.iter().chain(&validation).collect();
        assert_eq!(both.len(), 20);
        let names = names(&dataset);
        validation
            .into_iter()
            .map(|index| names[index].clone())
            .collect()
    };
    assert_eq!(held_out(&one, 1), held_out(&other, 1));
    assert!((2..9).any(|seed| held_out(&one, seed) != held_out(&one, 1)));
}

#[test]
fn a_class_of_five_boxes_has_pictures_on_both_sides_of_the_division() {
    let set = cats(0..20);
    let dataset = set.open();
    for seed in 0..50 {
        let (train, validation) = data::split(&dataset, seed);
        let having = |part: &[usize], name: &str| {
            let class = dataset
                .classes
                .iter()
                .position(|class| class == name)
                .unwrap();
            let has = |&&index: &&usize| {
                dataset.pictures[index]
                    .objects
                    .iter()
                    .any(|o| o.class == class)
            };
            part.iter().filter(has).count()
        };
        assert!(having(&validation, "dog") > 0, "{seed}");
        assert!(having(&train, "dog") > 0, "{seed}");
        // All yaks are in one picture.
        assert_eq!((having(&train, "yak"), having(&validation, "yak")), (1, 0));
    }
}

#[test]
fn a_single_picture_is_used_for_training() {
    let set = cats(0..1);
    assert_eq!(data::split(&set.open(), 1), (vec![0], vec![]));
}

#[test]
fn no_content_of_a_file_makes_the_reader_panic() {
    let set = Set::new();
    set.picture("a.png").picture("images/b.png");
    let xml = xml("a.png", Some((100, 80)), &[CAT, CAT]);
    let json = coco(
        r#"{"id": 1, "file_name": "a.png", "width": 100}"#,
        r#"{"id": 1, "name": "cat"}"#,
        r#"{"image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}"#,
    );
    let yaml = "names: {0: 'c', 1: \"d\"} # x\ntrain: [images, '../b']\nval:\n - a\n".to_owned();
    let label = "0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.2 0.2 0.3 0.3\n".to_owned();
    set.write("classes.txt", "cat\ndog")
        .write("labels/b.txt", &label)
        .write("a.txt", &label);
    for (name, whole, path) in [
        ("a.xml", &xml, "."),
        ("x.json", &json, "x.json"),
        ("data.yaml", &yaml, "data.yaml"),
        ("labels/b.txt", &label, "classes.txt"),
    ] {
        for at in 0..whole.len() {
            // A byte is deleted, or replaced by each of these in turn.
            let replacement = ["\u{0}", "é", "-", "9e999", "[", "\"", "'", "\n", ":"][at % 9];
            for with in ["", replacement] {
                let text = format!("{}{with}{}", &whole[..at], &whole[at + 1..]);
                set.write(name, text);
                let opened = data::open(&set.path().join(path));
                let _ = opened.map(|dataset| dataset.summary().to_string());
            }
        }
        if name != "labels/b.txt" {
            fs::remove_file(set.path().join(name)).unwrap();
        }
    }
}
