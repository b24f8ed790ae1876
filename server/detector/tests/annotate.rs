//! Annotated pictures, pixel by pixel.

use image::{GenericImageView as _, Rgb, RgbImage};
use ssd_detector::Detection;
use ssd_detector::annotate::{colour, draw, ink};
use ssd_detector::boxes::Corners;
use ssd_detector::labels::COCO;

fn found(class: usize, label: &str, [x1, y1, x2, y2]: [f32; 4]) -> Detection {
    Detection {
        label: label.to_owned(),
        class,
        score: 0.9876,
        corners: Corners { x1, y1, x2, y2 },
    }
}

/// No two neighbouring pixels are alike, and none is black, white or of a class's colour.
fn photograph(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([100 + (x % 32) as u8, 100 + (y % 32) as u8, 117])
    })
}

fn annotated(width: u32, height: u32, detections: &[Detection]) -> RgbImage {
    let mut picture = photograph(width, height);
    draw(&mut picture, detections);
    picture
}

fn count(picture: &RgbImage, wanted: Rgb<u8>) -> usize {
    picture.pixels().filter(|pixel| **pixel == wanted).count()
}

fn part(picture: &RgbImage, x: u32, y: u32, width: u32, height: u32) -> RgbImage {
    picture.view(x, y, width, height).to_image()
}

#[test]
fn the_edges_of_a_box_have_the_colour_of_its_class_inside_a_casing_that_contrasts() {
    let shown = annotated(640, 480, &[found(3, "car", [200.0, 150.0, 440.0, 330.0])]);
    let (own, casing) = (colour(3), ink(colour(3)));
    for (edge, outside) in [
        ((200, 240), (199, 240)),
        ((439, 240), (440, 240)),
        ((320, 329), (320, 330)),
    ] {
        assert_eq!(*shown.get_pixel(edge.0, edge.1), own, "{edge:?}");
        assert_eq!(
            *shown.get_pixel(outside.0, outside.1),
            casing,
            "{outside:?}"
        );
    }
}

#[test]
fn pixels_away_from_boxes_and_labels_do_not_change() {
    let (before, after) = (
        photograph(640, 480),
        annotated(640, 480, &[found(3, "car", [200.0, 150.0, 440.0, 330.0])]),
    );
    // A line and its casings are 5 wide, the label 20 high.
    let near = |x: u32, y: u32| {
        let frame = (199..=440).contains(&x) && (149..=330).contains(&y);
        let inside = (204..436).contains(&x) && (154..326).contains(&y);
        let label = (199..300).contains(&x) && (129..154).contains(&y);
        (frame && !inside) || label
    };
    for (x, y, pixel) in after.enumerate_pixels() {
        assert!(near(x, y) || pixel == before.get_pixel(x, y), "{x}, {y}");
    }
}

#[test]
fn a_box_at_the_picture_s_edges_shows_on_all_four_and_so_does_its_label() {
    let shown = annotated(640, 480, &[found(1, "person", [0.0, 0.0, 640.0, 480.0])]);
    for (x, y) in [(0, 240), (639, 240), (320, 479), (639, 0)] {
        assert_eq!(*shown.get_pixel(x, y), colour(1), "{x}, {y}");
    }
    let text = count(&part(&shown, 0, 0, 120, 22), ink(colour(1)));
    assert!(text > 100, "{text}");
}

#[test]
fn labels_do_not_hide_each_other_if_there_is_room() {
    let corners = [200.0, 150.0, 440.0, 330.0];
    let detections: Vec<Detection> = (1..=6)
        .map(|class| found(class, "person", corners))
        .collect();
    let alone = annotated(640, 480, &detections[..1]);
    let together = annotated(640, 480, &detections);
    // The boxes hide each other, so a class's colour is that of its plate.
    let plates: Vec<usize> = (2..=6)
        .map(|class| count(&together, colour(class)))
        .collect();
    assert!(plates.iter().all(|plate| *plate > 800), "{plates:?}");
    let best = |picture| part(picture, 199, 131, 80, 20);
    assert!(best(&together) == best(&alone));
}

#[test]
fn pictures_of_any_shape_keep_their_size_and_take_boxes_of_any_size() {
    for (width, height) in [
        (1, 1),
        (3, 2000),
        (2000, 3),
        (12, 12),
        (5000, 30),
        (30, 5000),
    ] {
        let (right, bottom) = (width as f32, height as f32);
        let whole = [0.0, 0.0, right, bottom];
        let thin = [right / 2.0, 0.0, right / 2.0 + 0.1, bottom];
        let corner = [right - 0.2, bottom - 0.2, right, bottom];
        let detections = [whole, thin, corner].map(|corners| found(7, "train", corners));
        let shown = annotated(width, height, &detections);
        assert_eq!(shown.dimensions(), (width, height));
        assert_eq!(*shown.get_pixel(width - 1, height - 1), colour(7));
    }
}

#[test]
fn a_picture_without_detections_does_not_change() {
    assert!(annotated(64, 48, &[]) == photograph(64, 48));
}

#[test]
fn the_best_two_hundred_are_drawn() {
    let small = found(1, "", [20.0, 20.0, 30.0, 30.0]);
    let mut detections = vec![small; 200];
    let two_hundred = annotated(640, 480, &detections);
    let elsewhere = found(2, "cat", [300.0, 300.0, 400.0, 400.0]);
    detections.push(elsewhere.clone());
    assert!(annotated(640, 480, &detections) == two_hundred);
    detections[199] = elsewhere;
    assert!(annotated(640, 480, &detections) != two_hundred);
}

#[test]
fn a_label_wider_than_the_picture_is_cut_and_keeps_its_score() {
    let whole = [0.0, 0.0, 100.0, 80.0];
    let shown = |label: &str| annotated(100, 80, &[found(5, label, whole)]);
    let long = "a hovercraft full of eels and ".repeat(1000);
    assert!(shown(&long) == shown(&long[..200]));
    let (cut, short) = (shown(&long), shown("eel"));
    assert!(cut != short);
    let plate_at_the_right = |picture: &RgbImage| count(&part(picture, 85, 3, 8, 9), colour(5));
    assert!(plate_at_the_right(&cut) > 20 && plate_at_the_right(&short) == 0);
    let mut other = found(5, &long, whole);
    other.score = 0.5;
    assert!(annotated(100, 80, &[other]) != cut);
}

#[test]
fn latin_greek_and_cyrillic_are_drawn_and_other_characters_show_as_missing() {
    let shown = |label: &str| annotated(640, 480, &[found(2, label, [50.0, 99.0, 600.0, 400.0])]);
    let scripts = [
        "кошка",
        "γάτα",
        "Straßenköter",
        "mèo rừng",
        "žába",
        "Ѣ",
        "ἵππος",
    ];
    for label in scripts {
        let missing = "漢".repeat(label.chars().count());
        assert!(shown(label) != shown(&missing), "{label}");
    }
    assert!(shown("漢字") == shown("猫🐈"));
    let plain = |label| count(&part(&shown(label), 55, 85, 12, 12), colour(2)) == 12 * 12;
    assert!(plain("     ") && !plain("漢字"));
}

#[test]
fn a_class_has_the_same_colour_in_every_picture_and_with_every_label() {
    let corners = [10.0, 30.0, 80.0, 70.0];
    for (class, colour_of_every_release) in
        [(1, [225, 75, 0]), (20, [105, 15, 165]), (80, [30, 105, 45])]
    {
        for label in ["cat", "кошка"] {
            let shown = annotated(100, 100, &[found(class, label, corners)]);
            assert_eq!(shown.get_pixel(10, 50).0, colour_of_every_release);
        }
    }
    // Models may have more classes than there are colours.
    assert_eq!(colour(81), colour(1));
}

#[test]
fn the_text_of_every_plate_contrasts_as_wcag_asks() {
    for class in 1..=80 {
        let luminance = |colour: Rgb<u8>| {
            let [r, g, b] = linear(colour);
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(colour(class)), luminance(ink(colour(class))));
        let ratio = (a.max(b) + 0.05) / (a.min(b) + 0.05);
        assert!(ratio >= 4.5, "{class}: {ratio}");
    }
}

#[test]
fn colours_can_be_told_apart_with_colour_blindness() {
    // Machado, Oliveira and Fernandes 2009, severity 1: of linear red, green and blue.
    const VISIONS: [(&str, [[f64; 3]; 3]); 4] = [
        ("all", [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
        (
            "no long cones",
            [
                [0.152_286, 1.052_583, -0.204_868],
                [0.114_503, 0.786_281, 0.099_216],
                [-0.003_882, -0.048_116, 1.051_998],
            ],
        ),
        (
            "no medium cones",
            [
                [0.367_322, 0.860_646, -0.227_968],
                [0.280_085, 0.672_501, 0.047_413],
                [-0.011_820, 0.042_940, 0.968_881],
            ],
        ),
        (
            "no short cones",
            [
                [1.255_528, -0.076_749, -0.178_779],
                [-0.078_411, 0.930_809, 0.147_602],
                [0.004_733, 0.691_367, 0.303_900],
            ],
        ),
    ];
    assert_eq!(COCO.len(), 80);
    for (who, vision) in VISIONS {
        let seen: Vec<[f64; 3]> = (1..=80)
            .map(|class| oklab(times(&vision, linear(colour(class)))))
            .collect();
        for (a, b) in (0..80).flat_map(|b| (0..b).map(move |a| (a, b))) {
            let square = |axis: usize| (seen[a][axis] - seen[b][axis]).powi(2);
            let distance = (0..3).map(square).sum::<f64>().sqrt();
            // About 0.02 is just noticeable side by side.
            let least = if b - a <= 8 {
                0.07
            } else if b < 20 {
                0.05
            } else {
                0.029
            };
            let names = (COCO[a].name, COCO[b].name);
            assert!(distance >= least, "{who}: {names:?} by {distance:.4}");
        }
    }
}

fn linear(colour: Rgb<u8>) -> [f64; 3] {
    colour.0.map(|level| match f64::from(level) / 255.0 {
        dark if dark <= 0.04045 => dark / 12.92,
        light => ((light + 0.055) / 1.055).powf(2.4),
    })
}

fn times(matrix: &[[f64; 3]; 3], vector: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| (0..3).map(|column| row[column] * vector[column]).sum())
}

/// Ottosson 2020, of linear red, green and blue.
fn oklab(colour: [f64; 3]) -> [f64; 3] {
    const CONES: [[f64; 3]; 3] = [
        [0.412_221_470_8, 0.536_332_536_3, 0.051_445_992_9],
        [0.211_903_498_2, 0.680_699_545_1, 0.107_396_956_6],
        [0.088_302_461_9, 0.281_718_837_6, 0.629_978_700_5],
    ];
    const LAB: [[f64; 3]; 3] = [
        [0.210_454_255_3, 0.793_617_785_0, -0.004_072_046_8],
        [1.977_998_495_1, -2.428_592_205_0, 0.450_593_709_9],
        [0.025_904_037_1, 0.782_771_766_2, -0.808_675_766_0],
    ];
    let inside = colour.map(|part| part.clamp(0.0, 1.0));
    times(&LAB, times(&CONES, inside).map(f64::cbrt))
}
