//! Merges class names that differ only in spelling into one class.

use std::collections::HashMap;

use super::raw::{Raw, Uses};
use super::{Format, Problem, count, quote};

/// How many classes without boxes a message names.
const NAMED: usize = 5;

/// The classes of a data set.
pub(super) struct Classes {
    pub names: Vec<String>,
    /// The class of each name in [`Raw::names`]. A VOC name without boxes has no class; its entry is unused.
    pub of_name: Vec<usize>,
    pub problems: Vec<Problem>,
}

/// A class, and the indexes of its names in [`Raw::names`].
struct Class {
    spelling: String,
    names: Vec<usize>,
}

/// Merges names that differ only in case and surrounding spaces. The class gets the spelling with the most boxes.
pub(super) fn merge(raw: &Raw, uses: &[Uses]) -> Classes {
    let mut classes: Vec<Class> = groups(raw, uses)
        .into_iter()
        .map(|names| Class {
            spelling: spelling(raw, uses, &names),
            names,
        })
        .collect();
    if raw.format == Format::Voc {
        classes.sort_by(|a, b| a.spelling.cmp(&b.spelling));
    }
    let mut of_name = vec![0; raw.names.len()];
    for (index, class) in classes.iter().enumerate() {
        for &name in &class.names {
            of_name[name] = index;
        }
    }
    Classes {
        problems: problems(raw, uses, &classes),
        names: classes.into_iter().map(|class| class.spelling).collect(),
        of_name,
    }
}

/// The names of each class. The classes are in the order of their first names. VOC has no list of classes, so a VOC
/// name without a usable box is left out.
fn groups(raw: &Raw, uses: &[Uses]) -> Vec<Vec<usize>> {
    let mut group_of: HashMap<String, usize> = HashMap::new();
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (name, spelled) in raw.names.iter().enumerate() {
        if raw.format == Format::Voc && uses[name].boxes == 0 {
            continue;
        }
        let group = *group_of
            .entry(spelled.trim().to_lowercase())
            .or_insert(groups.len());
        if group == groups.len() {
            groups.push(Vec::new());
        }
        groups[group].push(name);
    }
    groups
}

/// The spelling with the most boxes; if several have as many, the first.
fn spelling(raw: &Raw, uses: &[Uses], names: &[usize]) -> String {
    let mut spellings: Vec<(&str, usize)> = Vec::new();
    for &name in names {
        let spelled = raw.names[name].trim();
        match spellings.iter_mut().find(|(known, _)| *known == spelled) {
            Some((_, boxes)) => *boxes += uses[name].boxes,
            None => spellings.push((spelled, uses[name].boxes)),
        }
    }
    let most_used = spellings.iter().rev().max_by_key(|(_, boxes)| *boxes);
    most_used.map_or(String::new(), |(spelled, _)| (*spelled).to_owned())
}

fn problems(raw: &Raw, uses: &[Uses], classes: &[Class]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut without = Vec::new();
    for class in classes {
        let shown = quote(&class.spelling);
        let total: usize = class.names.iter().map(|&name| uses[name].boxes).sum();
        let mut is_spelled = false;
        for &name in &class.names {
            // The first name with the spelling of the class is not a problem.
            let is_class = raw.names[name] == class.spelling;
            if is_class && !is_spelled {
                is_spelled = true;
                continue;
            }
            if class.names.len() > 1 {
                let what = format!(
                    "{} ({}) counts as the class {shown} ({total} in total)",
                    quote(&raw.names[name]),
                    count(uses[name].boxes, "box", "boxes"),
                );
                let file = uses[name].first.as_ref().unwrap_or(&raw.source);
                problems.push(Problem::new(file, None, what));
            }
        }
        match total {
            0 => without.push(shown),
            1 => {
                let mut files = class.names.iter().filter_map(|&n| uses[n].first.as_ref());
                let what = format!(
                    "the class {shown} has a single box, too few for training: label more objects, or remove the class"
                );
                let file = files.next().unwrap_or(&raw.source);
                problems.push(Problem::new(file, None, what));
            }
            _ => {}
        }
    }
    if !without.is_empty() {
        let more = if without.len() > NAMED { ", …" } else { "" };
        let what = format!(
            "{} no boxes and cannot be learnt: {}{more}",
            count(without.len(), "class has", "classes have"),
            without[..without.len().min(NAMED)].join(", ")
        );
        problems.push(Problem::new(&raw.source, None, what));
    }
    problems
}
