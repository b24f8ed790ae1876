//! Formats a data set in numbers.

use std::fmt;

use super::{Dataset, Part, count, printable};

/// The maximum number of classes listed.
const MAX_CLASSES: usize = 100;

/// The maximum number of problems listed.
const MAX_PROBLEMS: usize = 20;

/// COCO's limits of small and medium boxes: the side of a square with the box's area, in pixels of the picture.
const SMALL: f64 = 32.0;
const MEDIUM: f64 = 96.0;

/// A data set as text: its pictures and parts, the boxes of each class, the sizes of boxes, and its problems.
#[derive(Debug, Clone, Copy)]
pub struct Summary<'a>(pub(super) &'a Dataset);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pictures(f)?;
        self.classes(f)?;
        self.sizes(f)?;
        self.problems(f)
    }
}

impl Summary<'_> {
    fn pictures(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pictures = &self.0.pictures;
        let background = pictures.iter().filter(|p| p.objects.is_empty()).count();
        write!(
            f,
            "{}: {}",
            self.0.format,
            count(pictures.len(), "picture", "pictures")
        )?;
        if background > 0 {
            write!(f, ", {background} of them without objects")?;
        }
        writeln!(f)?;
        if pictures.iter().all(|picture| picture.part.is_none()) {
            return Ok(());
        }
        let mut parts = Vec::new();
        for (part, purpose) in [
            (Some(Part::Train), "for training"),
            (Some(Part::Validation), "for validation"),
            (Some(Part::Test), "for testing"),
            (None, "in no part"),
        ] {
            let number = pictures.iter().filter(|p| p.part == part).count();
            if number > 0 {
                parts.push(format!("{number} {purpose}"));
            }
        }
        writeln!(f, "Parts of the data set: {}", parts.join(", "))
    }

    fn classes(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = vec![(0, 0); self.0.classes.len()];
        for picture in &self.0.pictures {
            let mut seen = vec![false; counts.len()];
            for object in &picture.objects {
                counts[object.class].0 += 1;
                counts[object.class].1 += usize::from(!seen[object.class]);
                seen[object.class] = true;
            }
        }
        let names: Vec<String> = self.0.classes.iter().map(|name| printable(name)).collect();
        let widths = names.iter().map(|name| name.chars().count());
        let width = widths.max().unwrap_or(0).clamp(5, 40);
        writeln!(f, "\n{:width$}  {:>8}  {:>8}", "class", "boxes", "pictures")?;
        for (name, (boxes, pictures)) in names.iter().zip(counts).take(MAX_CLASSES) {
            writeln!(f, "{name:width$}  {boxes:>8}  {pictures:>8}")?;
        }
        if names.len() > MAX_CLASSES {
            writeln!(f, "and {} more", names.len() - MAX_CLASSES)?;
        }
        Ok(())
    }

    fn sizes(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = [0_usize; 3];
        for picture in &self.0.pictures {
            let area = f64::from(picture.width) * f64::from(picture.height);
            for object in &picture.objects {
                let c = &object.corners;
                let side = (f64::from(c.x2 - c.x1) * f64::from(c.y2 - c.y1) * area).sqrt();
                counts[usize::from(side >= SMALL) + usize::from(side >= MEDIUM)] += 1;
            }
        }
        let total = counts.iter().sum::<usize>().max(1);
        let [small, medium, large] = counts.map(|count| 100.0 * count as f64 / total as f64);
        writeln!(
            f,
            "\nBoxes: {small:.0} % small (below {SMALL} x {SMALL} pixels), {medium:.0} % medium, {large:.0} % large \
             ({MEDIUM} x {MEDIUM} or more)"
        )
    }

    fn problems(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems = &self.0.problems;
        if problems.is_empty() {
            return Ok(());
        }
        writeln!(f, "\nProblems: {}", problems.len())?;
        for problem in problems.iter().take(MAX_PROBLEMS) {
            writeln!(f, "  {problem}")?;
        }
        if problems.len() > MAX_PROBLEMS {
            writeln!(f, "  and {} more", problems.len() - MAX_PROBLEMS)?;
        }
        Ok(())
    }
}
