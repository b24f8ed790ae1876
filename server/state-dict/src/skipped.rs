//! The report of what was skipped in a pickle.

use std::fmt;

use indexmap::IndexMap;

use super::limits;
use crate::quote::quote;

/// The objects of a `.pth` file that are not data: those of classes and functions outside the short list of names that
/// stand for data. They were skipped unread, with everything in them; nothing was imported or called.
#[derive(Debug, Default)]
pub struct Skipped {
    /// The class or function that made an object, quoted, by the object's dotted name.
    objects: IndexMap<String, String>,
    /// The number of objects, of which only the first are in `objects`.
    count: usize,
    names: Names,
}

/// The first distinct names of classes and functions in a pickle that are not on the list, quoted. They include those
/// of which no object is reachable.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub(super) first: Vec<String>,
    pub(super) has_more: bool,
}

impl Skipped {
    pub(super) fn new(names: Names) -> Self {
        Self {
            names,
            ..Self::default()
        }
    }

    /// Whether the name of the next object is kept.
    pub(super) fn has_room(&self) -> bool {
        self.count < limits::SKIPPED
    }

    /// Counts an object, and keeps its dotted name and what made it, if they are known.
    pub(super) fn add(&mut self, described: Option<(String, String)>) {
        self.count += 1;
        self.objects.extend(described);
    }

    /// The dotted name of the first object, and what made it.
    pub(super) fn first(&self) -> Option<(&str, &str)> {
        let (name, made_by) = self.objects.first()?;
        Some((name, made_by))
    }

    /// The class or function that made the object with this dotted name, quoted.
    pub(super) fn made_by(&self, name: &str) -> Option<&str> {
        self.objects.get(name).map(String::as_str)
    }

    /// Whether nothing was skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.first.is_empty()
    }
}

/// On one line: the first classes and functions, and the first entries with objects.
impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "skipped unread, and nothing was run: {}{}",
            self.names.first.join(", "),
            if self.names.has_more {
                " and others"
            } else {
                ""
            }
        )?;
        let shown = self.objects.keys().take(limits::SKIPPED_SHOWN);
        let shown: Vec<_> = shown.map(|name| quote(name)).collect();
        if !shown.is_empty() {
            write!(f, "; in the entries {}", shown.join(", "))?;
        }
        match self.count - shown.len() {
            more @ 1.. if !shown.is_empty() => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}
