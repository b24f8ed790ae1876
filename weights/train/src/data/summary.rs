//! A set in numbers, for people.

use std::fmt;

use super::{Dataset, Labelled, Part, printable};

/// The most classes that are listed.
const CLASSES: usize = 100;

/// The most problems that are listed.
const LISTED: usize = 20;

/// Below these sides, of a square of the same area in the picture's own pixels, a box is small or medium: COCO's.
const SMALL: f64 = 32.0;
const MEDIUM: f64 = 96.0;

/// Pictures, boxes by class, sizes of boxes and problems of a set, as text.
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
        let count = |is: &dyn Fn(&Labelled) -> bool| pictures.iter().filter(|p| is(p)).count();
        let background = count(&|picture| picture.objects.is_empty());
        write!(f, "{}: {} pictures", self.0.format, pictures.len())?;
        if background > 0 {
            write!(f, ", {background} of them without objects")?;
        }
        writeln!(f)?;
        let train = count(&|picture| picture.part == Some(Part::Train));
        let validation = count(&|picture| picture.part == Some(Part::Validation));
        if train > 0 && validation > 0 {
            let neither = pictures.len() - train - validation;
            write!(
                f,
                "The set's own parts: {train} for training, {validation} for validation"
            )?;
            if neither > 0 {
                write!(f, ", {neither} for neither")?;
            }
            writeln!(f)?;
        }
        Ok(())
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
        for (name, (boxes, pictures)) in names.iter().zip(counts).take(CLASSES) {
            writeln!(f, "{name:width$}  {boxes:>8}  {pictures:>8}")?;
        }
        if names.len() > CLASSES {
            writeln!(f, "and {} more", names.len() - CLASSES)?;
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
        let all = counts.iter().sum::<usize>().max(1);
        let [small, medium, large] = counts.map(|count| 100.0 * count as f64 / all as f64);
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
        for problem in problems.iter().take(LISTED) {
            writeln!(f, "  {problem}")?;
        }
        if problems.len() > LISTED {
            writeln!(f, "  and {} more", problems.len() - LISTED)?;
        }
        Ok(())
    }
}
