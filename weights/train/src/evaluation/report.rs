//! Accuracy as a table, and curves as SVG.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::anyhow;
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::HSLColor;

use super::Accuracy;

/// The table that people read.
#[must_use]
pub fn table(accuracy: &Accuracy) -> String {
    let mut text = String::new();
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
    let wide = accuracy
        .classes
        .iter()
        .map(|class| class.name.len())
        .max()
        .unwrap_or(0)
        .max(5);
    let mut row = |name: &str, objects: String, values: [String; 4]| {
        let [voc07, voc10, coco50, coco] = values;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{name:wide$}  {objects:>7}  {voc07:>7}  {voc10:>7}  {coco50:>7}  {coco:>10}"
        );
    };
    let titles = ["VOC07", "VOC10", "COCO50", "COCO50:95"].map(str::to_owned);
    row("class", "objects".to_owned(), titles);
    for class in &accuracy.classes {
        let values = [class.voc07, class.voc10, class.coco50, class.coco].map(number);
        row(&class.name, class.objects.to_string(), values);
    }
    let objects: usize = accuracy.classes.iter().map(|class| class.objects).sum();
    let means = [
        accuracy.voc07,
        accuracy.voc10,
        accuracy.coco50,
        accuracy.coco,
    ]
    .map(number);
    row("mean", objects.to_string(), means);
    let at = &accuracy.at_threshold;
    let _ = writeln!(
        text,
        "{} pictures. At {}: precision {}, recall {}; {:.1}% of the pictures raise something.",
        accuracy.pictures,
        accuracy.threshold,
        number(at.precision),
        number(at.recall),
        100.0 * at.raised
    );
    text
}

const SIZE: (u32, u32) = (760, 480);

/// So many curves can be told apart, and have room for their names.
const MOST_CURVES: usize = 30;

/// Draws the precision-recall curve of every class that has objects, of the first 30 if there are more.
///
/// # Errors
/// Where the file cannot be written.
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
        let there = accuracy
            .curves
            .iter()
            .zip(&accuracy.classes)
            .filter(|(curve, _)| curve.objects > 0)
            .take(MOST_CURVES);
        for (index, (curve, class)) in there.enumerate() {
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
    drawn(&root).map_err(|error| anyhow!("draw {}: {error}", path.display()))
}

/// The points of a curve that are farther apart than the plot can show.
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

/// Draws a training log: the losses, and mAP where it was measured.
///
/// # Errors
/// Where the log is not one, or the file cannot be written.
pub fn plot_training(log: &str, path: &Path) -> anyhow::Result<()> {
    let field = |line: &str, column: usize| -> Option<f64> {
        let number: f64 = line.split(',').nth(column)?.parse().ok()?;
        number.is_finite().then_some(number)
    };
    let column = |column: usize| -> Vec<(f64, f64)> {
        let lines = log.lines().skip(1);
        lines
            .filter_map(|line| Some((field(line, 0)?, field(line, column)?)))
            .collect()
    };
    let (localisation, classification, accuracy) = (column(2), column(3), column(5));
    let last = localisation
        .last()
        .ok_or_else(|| anyhow!("the log has no lines"))?
        .0;
    let most = classification
        .iter()
        .map(|point| point.1)
        .fold(1.0, f64::max);
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    let drawn = |root: &DrawingArea<SVGBackend, Shift>| -> Result<(), DrawingAreaErrorKind<_>> {
        root.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(root)
            .margin(12)
            .x_label_area_size(36)
            .y_label_area_size(44)
            .right_y_label_area_size(44)
            .build_cartesian_2d(0.0..last, 0.0..most)?
            .set_secondary_coord(0.0..last, 0.0..1.0);
        chart
            .configure_mesh()
            .x_desc("step")
            .x_label_formatter(&|step| format!("{step:.0}"))
            .y_desc("loss")
            .light_line_style(TRANSPARENT)
            .draw()?;
        chart.configure_secondary_axes().y_desc("mAP").draw()?;
        for (index, (points, name)) in [(localisation, "offsets"), (classification, "classes")]
            .into_iter()
            .enumerate()
        {
            let colour = colour(index);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
                .label(name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 14, y)], colour.stroke_width(2))
                });
        }
        chart
            .draw_secondary_series(LineSeries::new(accuracy, BLACK.stroke_width(2)))?
            .label("mAP, validation scenes")
            .legend(|(x, y)| PathElement::new([(x, y), (x + 14, y)], BLACK.stroke_width(2)));
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .background_style(WHITE)
            .border_style(BLACK.mix(0.3))
            .draw()?;
        root.present()
    };
    drawn(&root).map_err(|error| anyhow!("draw {}: {error}", path.display()))
}

/// Colours that differ from their neighbours: the golden angle apart.
fn colour(index: usize) -> HSLColor {
    let hue = (0.58 + index as f64 * 0.381_966).fract();
    HSLColor(hue, 0.75, if index.is_multiple_of(2) { 0.42 } else { 0.55 })
}
