//! Formats accuracy as tables, and draws curves as SVG.

use std::ops::Range;
use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::prelude::*;
use plotters::style::HSLColor;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use serde::{Deserialize, Serialize};

use super::Accuracy;
use crate::data::count;
use crate::measure::{mean, voc};

/// The table of `evaluate`: the average precisions of each class, and their means over the classes. Below it, precision
/// and recall over all classes at the threshold.
#[must_use]
pub fn table(accuracy: &Accuracy) -> String {
    let titles = [
        "class",
        "objects",
        "AP VOC07",
        "AP VOC10",
        "AP@0.5",
        "AP@0.5:0.95",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    for class in &accuracy.classes {
        let values = [class.voc07, class.voc10, class.coco50, class.coco];
        rows.push(row(&class.name, class.objects, values));
    }
    let means = [
        accuracy.voc07,
        accuracy.voc10,
        accuracy.coco50,
        accuracy.coco,
    ];
    rows.push(row("mean", objects(accuracy), means));
    let at = &accuracy.at_threshold;
    format!(
        "{}{}. At the threshold {}: precision {}, recall {}; {:.1} % of the pictures have detections.\n",
        aligned(&rows),
        count(accuracy.pictures, "picture", "pictures"),
        // Single precision prints without rounding errors: weights files state the threshold in it.
        accuracy.threshold as f32,
        number(at.precision),
        number(at.recall),
        100.0 * at.pictures_with_detections
    )
}

/// The table of `fit`: COCO's average precisions of each class, its precision and recall at the threshold, and the
/// means over the classes. Below it, precision and recall over all classes at the threshold. The threshold must give the
/// best F1.
#[must_use]
pub fn fitted(accuracy: &Accuracy) -> String {
    let titles = [
        "class",
        "objects",
        "AP@0.5",
        "AP@0.5:0.95",
        "precision",
        "recall",
    ];
    let mut rows = vec![titles.map(str::to_owned)];
    let threshold = accuracy.threshold;
    let each = accuracy.curves.iter().map(|curve| at(curve, threshold));
    let (precisions, recalls): (Vec<_>, Vec<_>) = each.unzip();
    for (index, class) in accuracy.classes.iter().enumerate() {
        let values = [class.coco50, class.coco, precisions[index], recalls[index]];
        rows.push(row(&class.name, class.objects, values));
    }
    let means = [
        accuracy.coco50,
        accuracy.coco,
        mean(precisions),
        mean(recalls),
    ];
    rows.push(row("mean", objects(accuracy), means));
    let total = &accuracy.at_threshold;
    let share = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.2}"));
    format!(
        "{}At the threshold {threshold:.2} (the best F1): precision {}, recall {}.\n",
        aligned(&rows),
        share(total.precision),
        share(total.recall)
    )
}

/// Precision and recall of one class at a threshold. Precision is `None` without detections, recall without objects.
fn at(curve: &voc::Curve, threshold: f64) -> (Option<f64>, Option<f64>) {
    let last = curve
        .scores
        .partition_point(|score| *score >= threshold)
        .checked_sub(1);
    let recall = last.map_or(0.0, |last| curve.recall[last]);
    (
        last.map(|last| curve.precision[last]),
        (curve.objects > 0).then_some(recall),
    )
}

fn objects(accuracy: &Accuracy) -> usize {
    accuracy.classes.iter().map(|class| class.objects).sum()
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |v| format!("{v:.3}"))
}

/// A row of a table. A name longer than 40 characters is cut.
fn row(name: &str, objects: usize, values: [Option<f64>; 4]) -> [String; 6] {
    const MAX_LENGTH: usize = 40;
    let cut = if name.chars().count() > MAX_LENGTH {
        name.chars().take(MAX_LENGTH - 1).chain(['…']).collect()
    } else {
        name.to_owned()
    };
    let [a, b, c, d] = values.map(number);
    [cut, objects.to_string(), a, b, c, d]
}

/// Rows as lines: the first column is aligned left, the others right. Each column is as wide as its longest cell, in
/// characters.
fn aligned(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 6] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |[first, others @ ..]: &[String; 6]| {
        let rest: String = others
            .iter()
            .zip(&widths[1..])
            .map(|(cell, width)| format!("  {cell:>width$}"))
            .collect();
        format!("{first:0$}{rest}\n", widths[0])
    };
    rows.iter().map(line).collect()
}

/// The size of a plot, in pixels.
const SIZE: (u32, u32) = (760, 480);

/// The maximum number of curves in a plot. More would be indistinguishable, and their names would not fit.
const MAX_CURVES: usize = 30;

/// Draws the precision-recall curves of the classes with objects as SVG; at most 30 curves.
///
/// # Errors
/// If the file cannot be written.
pub fn plot_curves(accuracy: &Accuracy, path: &Path) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = |root: &DrawingArea<SVGBackend, Shift>| -> Result<(), DrawingAreaErrorKind<_>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .right_y_label_area_size(130)
            .build_cartesian_2d(0.0..1.0, 0.0..1.02)?;
        chart
            .configure_mesh()
            .x_desc("recall")
            .y_desc("precision")
            .light_line_style(TRANSPARENT)
            .draw()?;
        let with_objects = accuracy
            .curves
            .iter()
            .zip(&accuracy.classes)
            .filter(|(curve, _)| curve.objects > 0)
            .take(MAX_CURVES);
        for (index, (curve, class)) in with_objects.enumerate() {
            let colour = colour(index);
            let points = thinned(&curve.recall, &curve.precision);
            let name = format!("{} {:.2}", class.name, class.voc10.unwrap_or(0.0));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::Coordinate(590, 4))
            .draw()?;
        root.present()
    };
    drawn(&root).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

/// The points of a curve, without points so close to the previous one that the plot cannot show the difference.
fn thinned(recall: &[f64], precision: &[f64]) -> Vec<(f64, f64)> {
    const STEP: f64 = 0.002;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (&x, &y) in recall.iter().zip(precision) {
        let apart = |last: &(f64, f64)| x - last.0 >= STEP || (y - last.1).abs() >= STEP;
        if points.last().is_none_or(apart) {
            points.push((x, y));
        }
    }
    points
}

/// The loss and the accuracy of an epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EpochMetrics {
    /// The number of the epoch, from 1.
    pub epoch: usize,
    /// The mean loss over its steps.
    pub loss: f64,
    /// The mean average precision at an IoU of 0.5 on the validation pictures, 0 to 1.
    pub map: f64,
    /// Like [`map`](Self::map), but the mean over ten IoU thresholds from 0.5 to 0.95.
    pub map_strict: f64,
}

impl EpochMetrics {
    /// The number that is highest for the best epoch. Both average precisions count: on an easy data set, `map` alone
    /// reaches 1 long before the boxes fit and the scores are high.
    #[must_use]
    pub fn quality(&self) -> f64 {
        self.map + self.map_strict
    }
}

/// The best epoch of a run; if several are equally good, the first.
#[must_use]
pub fn best(epochs: &[EpochMetrics]) -> Option<&EpochMetrics> {
    epochs.iter().reduce(|best, epoch| {
        if epoch.quality() > best.quality() {
            epoch
        } else {
            best
        }
    })
}

/// Blue and vermilion, which colour-blind people can distinguish (Okabe and Ito 2008).
const LOSS: RGBColor = RGBColor(0, 114, 178);
const MAP: RGBColor = RGBColor(213, 94, 0);

/// The number of parts into which the grid divides both vertical axes of a run's plot.
const PARTS: u32 = 5;

/// The free space above the highest tick, as a share of the axis, for the text of a mark.
const HEADROOM: f64 = 0.08;

/// Draws the loss and the accuracy of a run's epochs as SVG, and marks the best epoch. `epochs` is in order. If it is
/// empty, nothing is written.
///
/// # Errors
/// If the file cannot be written.
pub fn plot_run(epochs: &[EpochMetrics], path: &Path) -> anyhow::Result<()> {
    let Some(best) = best(epochs) else {
        return Ok(());
    };
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = || {
        root.fill(&WHITE)?;
        let (key, plot) = root.split_vertically(34);
        draw_key(&key, best)?;
        draw_epochs(&plot, epochs, best)?;
        root.present()
    };
    drawn().map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The key: the meaning of the curves and of the mark, in one line above them.
fn draw_key(area: &DrawingArea<SVGBackend, Shift>, best: &EpochMetrics) -> Drawn {
    const MIDDLE: i32 = 20;
    let style = text(HPos::Left, VPos::Center);
    let line = |x: i32, colour: RGBColor| {
        PathElement::new([(x, MIDDLE), (x + 28, MIDDLE)], colour.stroke_width(2))
    };
    let name = |x: i32, name: String| Text::new(name, (x + 36, MIDDLE), style.clone());
    area.draw(&line(56, LOSS))?;
    area.draw(&Circle::new((70, MIDDLE), 3, LOSS.filled()))?;
    area.draw(&name(56, "training loss (left axis)".to_owned()))?;
    area.draw(&line(280, MAP))?;
    area.draw(&TriangleMarker::new((294, MIDDLE), 5, MAP.filled()))?;
    area.draw(&name(280, "mAP@0.5 (right axis)".to_owned()))?;
    area.draw(&Circle::new((502, MIDDLE), 8, BLACK.stroke_width(1)))?;
    area.draw(&TriangleMarker::new((502, MIDDLE), 5, MAP.filled()))?;
    let which = format!("best: {:.3} after epoch {}", best.map, best.epoch);
    area.draw(&name(484, which))
}

fn draw_epochs(
    area: &DrawingArea<SVGBackend, Shift>,
    epochs: &[EpochMetrics],
    best: &EpochMetrics,
) -> Drawn {
    let x = || Axis::epochs(epochs[0].epoch, epochs[epochs.len() - 1].epoch);
    let highest_loss = epochs.iter().map(|epoch| epoch.loss).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_top(0)
        .x_label_area_size(40)
        .y_label_area_size(54)
        .right_y_label_area_size(54)
        .build_cartesian_2d(x(), Axis::up_to(highest_loss))?
        .set_secondary_coord(x(), Axis::up_to(1.0));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_desc("epoch")
        .x_label_formatter(&|epoch| format!("{epoch:.0}"))
        .y_desc("training loss")
        .y_label_formatter(&|loss| ((loss * 1e6).round() / 1e6).to_string())
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_desc("mAP@0.5")
        .y_label_formatter(&|map| format!("{map:.1}"))
        .label_style(("sans-serif", 13))
        .axis_desc_style(("sans-serif", 14))
        .draw()?;
    let points = |value: fn(&EpochMetrics) -> f64| {
        epochs
            .iter()
            .map(move |epoch| (epoch.epoch as f64, value(epoch)))
    };
    let (loss, map) = (points(|epoch| epoch.loss), points(|epoch| epoch.map));
    chart.draw_series(LineSeries::new(loss.clone(), LOSS.stroke_width(2)))?;
    chart.draw_series(loss.map(|point| Circle::new(point, 3, LOSS.filled())))?;
    chart.draw_secondary_series(LineSeries::new(map.clone(), MAP.stroke_width(2)))?;
    chart.draw_secondary_series(map.map(|point| TriangleMarker::new(point, 5, MAP.filled())))?;
    let mark = EmptyElement::at((best.epoch as f64, best.map))
        + Circle::new((0, 0), 8, BLACK.stroke_width(1))
        + Text::new(
            format!("{:.3}", best.map),
            (0, -11),
            text(HPos::Center, VPos::Bottom),
        );
    chart.draw_secondary_series([mark])?;
    Ok(())
}

fn text(horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    let style = ("sans-serif", 14).into_font().color(&BLACK);
    style.pos(Pos::new(horizontal, vertical))
}

/// An axis with given ticks.
struct Axis {
    range: Range<f64>,
    ticks: Vec<f64>,
}

impl Axis {
    /// Ticks for every epoch or for the multiples of a round number, at most 15.
    fn epochs(first: usize, last: usize) -> Self {
        let round = (0..18).flat_map(|power| [1, 2, 5].map(|digit| digit * 10usize.pow(power)));
        let mut multiples = round.map(|step| (first.next_multiple_of(step)..=last).step_by(step));
        let few = multiples.find(|epochs| epochs.clone().count() <= 15);
        let ticks = few.into_iter().flatten();
        // Room for a mark at the first or the last epoch.
        let margin = ((last - first) as f64 * 0.03).max(0.5);
        Self {
            range: first as f64 - margin..last as f64 + margin,
            ticks: ticks.map(|epoch| epoch as f64).collect(),
        }
    }

    /// From 0 to `highest` or a little more, in [`PARTS`] parts of a round size, and [`HEADROOM`].
    fn up_to(highest: f64) -> Self {
        let min_part = (highest / f64::from(PARTS)).max(1e-6);
        let power = 10f64.powf(min_part.log10().floor());
        let digits = [1.0, 2.0, 2.5, 5.0, 10.0];
        let round = digits.iter().find(|digit| *digit * power >= min_part);
        let part = round.unwrap_or(&10.0) * power;
        Self {
            range: 0.0..part * f64::from(PARTS) * (1.0 + HEADROOM),
            ticks: (0..=PARTS).map(|parts| part * f64::from(parts)).collect(),
        }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        let share = (value - self.range.start) / (self.range.end - self.range.start);
        from + (share * f64::from(to - from)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.clone()
        }
    }
}

/// The colour of a curve. The hues of successive curves are the golden angle apart, so that neighbours differ most.
fn colour(index: usize) -> HSLColor {
    let hue = (0.58 + index as f64 * 0.381_966).fract();
    HSLColor(hue, 0.75, if index.is_multiple_of(2) { 0.42 } else { 0.55 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{Set, summarise};
    use crate::measure::{Detection, GroundTruth};

    const BOX: [f64; 4] = [0.0, 0.0, 10.0, 10.0];

    fn detection((picture, class, score): (usize, usize, f64)) -> Detection {
        Detection {
            picture,
            class,
            corners: BOX,
            score,
        }
    }

    fn epochs(maps: &[f64]) -> Vec<EpochMetrics> {
        let metrics = |(index, map): (usize, &f64)| EpochMetrics {
            epoch: index + 1,
            loss: 1.0 / (index + 1) as f64,
            map: *map,
            map_strict: 0.0,
        };
        maps.iter().enumerate().map(metrics).collect()
    }

    #[test]
    fn each_class_in_the_table_of_fit_has_its_own_precision_and_recall_at_the_threshold() {
        let truth = |picture, class| GroundTruth {
            picture,
            class,
            corners: BOX,
            ignored: false,
        };
        let set = Set {
            classes: ["Bär", "cat"].map(str::to_owned).to_vec(),
            pictures: vec!["a.png".into(), "b.png".into()],
            ground_truths: vec![truth(0, 0), truth(1, 0), truth(1, 1)],
        };
        // For bears, a true and a false positive at the threshold, and a true positive below. For cats, one below.
        let detections = [(0, 0, 0.9), (0, 0, 0.8), (1, 0, 0.3), (1, 1, 0.4)].map(detection);
        let expected = "\
class  objects  AP@0.5  AP@0.5:0.95  precision  recall
Bär          2   0.835        0.835      0.500   0.500
cat          1   1.000        1.000          -   0.000
mean         3   0.917        0.917      0.500   0.250
At the threshold 0.50 (the best F1): precision 0.50, recall 0.33.
";
        assert_eq!(fitted(&summarise(&set, &detections, 0.5)), expected);
    }

    #[test]
    fn columns_are_as_wide_as_their_cells_in_characters_and_long_names_are_cut() {
        let rows = [
            row("ä".repeat(50).as_str(), 1, [Some(0.5); 4]),
            row("b", 10, [None; 4]),
        ];
        let lines: Vec<usize> = aligned(&rows)
            .lines()
            .map(|line| line.chars().count())
            .collect();
        // A name, a number of two digits, four numbers of five characters, and two spaces before each number.
        assert_eq!(lines, [40 + 4 + 4 * 7; 2]);
        assert!(rows[0][0].ends_with("ä…"));
    }

    #[test]
    fn the_first_of_the_most_accurate_epochs_is_marked_even_if_it_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.svg");
        for (maps, text) in [
            (&[0.5, 0.75, 0.75, 0.25][..], "best: 0.750 after epoch 2"),
            (&[0.0], "best: 0.000 after epoch 1"),
        ] {
            plot_run(&epochs(maps), &path).unwrap();
            let svg = std::fs::read_to_string(&path).unwrap();
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn a_run_without_epochs_has_no_plot() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.svg");
        plot_run(&[], &path).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn axes_end_at_round_numbers_and_have_few_ticks() {
        let ends = [0.31, 1.0, 3.5, 60.0].map(|most| *Axis::up_to(most).ticks.last().unwrap());
        assert_eq!(
            ends.map(|end| format!("{end:.1}")),
            ["0.5", "1.0", "5.0", "100.0"]
        );
        assert_eq!(Axis::epochs(1, 3).ticks, [1.0, 2.0, 3.0]);
        assert_eq!(
            Axis::epochs(1, 40).ticks,
            [5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0, 40.0]
        );
    }
}
