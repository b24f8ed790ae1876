//! Every file below a folder, in a stable order, and the part of a set that a folder's name tells.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::Part;

/// The extensions of picture files.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// How many levels of folders are searched.
const DEEPEST: usize = 8;

/// The maximum number of files below a folder.
const MOST_FILES: usize = 2_000_000;

/// A folder and every file below it.
pub(super) struct Folder {
    pub root: PathBuf,
    /// In the order of their paths. Hidden files are left out: macOS leaves `._NAME.xml` beside a file it copies.
    pub files: Vec<PathBuf>,
    /// Indexes of pictures by name, in lower case, both with and without the extension.
    by_name: HashMap<String, Vec<usize>>,
}

impl Folder {
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        walk(root, DEEPEST, &mut HashSet::new(), &mut files)?;
        files.sort();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, file) in files
            .iter()
            .enumerate()
            .filter(|(_, file)| is_picture(file))
        {
            for name in [file.file_name(), file.file_stem()].into_iter().flatten() {
                let name = name.to_string_lossy().to_lowercase();
                by_name.entry(name).or_default().push(index);
            }
        }
        Ok(Self {
            root: root.to_owned(),
            files,
            by_name,
        })
    }

    pub(super) fn with_extension<'a>(
        &'a self,
        extension: &'a str,
    ) -> impl Iterator<Item = &'a PathBuf> {
        let of = move |file: &&PathBuf| has_extension(file, &[extension]);
        self.files.iter().filter(of)
    }

    pub(super) fn pictures(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().filter(|file| is_picture(file))
    }

    /// The pictures of a name, given with or without the extension, that are nearest to an annotation. Several where
    /// they are equally near.
    pub(super) fn nearest(&self, name: &str, annotation: &Path) -> Vec<&PathBuf> {
        let (mut most, mut nearest) = (0, Vec::new());
        for &index in self.by_name.get(&name.to_lowercase()).into_iter().flatten() {
            let file = &self.files[index];
            let shared = shared(file, annotation);
            if shared > most {
                most = shared;
                nearest.clear();
            }
            if shared == most {
                nearest.push(file);
            }
        }
        nearest
    }

    /// The part that the folders between the root and a file name, the innermost first.
    pub(super) fn part(&self, file: &Path) -> Option<Part> {
        let below = file.strip_prefix(&self.root).ok()?;
        let mut folders = below.parent()?.components().rev();
        folders.find_map(|folder| part_named(&folder.as_os_str().to_string_lossy()))
    }
}

/// How near two files are: the folders they have in common, counted from the root down and from the files up.
fn shared(a: &Path, b: &Path) -> usize {
    let folders = |file: &Path| -> Vec<String> {
        let parent = file.parent().unwrap_or(Path::new(""));
        let name = |part: std::path::Component<'_>| part.as_os_str().to_string_lossy().to_string();
        parent.components().map(name).collect()
    };
    let (a, b) = (folders(a), folders(b));
    let alike = |(a, b): &(&String, &String)| a == b;
    let down = a.iter().zip(&b).take_while(alike).count();
    if down == a.len() && down == b.len() {
        return usize::MAX;
    }
    let up = a.iter().rev().zip(b.iter().rev()).take_while(alike).count();
    down + up
}

/// The part that a folder or list of this name holds: `train`, `val2017`, `obj_valid_data`.
pub(super) fn part_named(name: &str) -> Option<Part> {
    let name = name.to_lowercase();
    let darknet = name
        .strip_prefix("obj_")
        .and_then(|name| name.strip_suffix("_data"));
    let year = |letter: char| letter.is_ascii_digit();
    match darknet.unwrap_or(&name).trim_end_matches(year) {
        "train" | "training" | "trainval" => Some(Part::Train),
        "val" | "valid" | "validation" => Some(Part::Validation),
        "test" | "testing" => Some(Part::Test),
        _ => None,
    }
}

pub(super) fn has_extension(file: &Path, wanted: &[&str]) -> bool {
    let extension = file
        .extension()
        .map(|extension| extension.to_string_lossy());
    extension.is_some_and(|own| wanted.iter().any(|wanted| own.eq_ignore_ascii_case(wanted)))
}

/// The end of the names of the sheets that `fit` writes. They are not pictures of a set, even in its folder.
pub const SHEET: &str = ".sheet.jpg";

pub(super) fn is_picture(file: &Path) -> bool {
    has_extension(file, &PICTURES)
}

/// A file's name without its folder and extension.
pub(super) fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_string()
}

/// Collects the files below a folder. Links are followed; each folder is read once.
fn walk(
    folder: &Path,
    deeper: usize,
    seen: &mut HashSet<PathBuf>,
    files: &mut Vec<PathBuf>,
) -> anyhow::Result<()> {
    let context = || format!("{} cannot be read", folder.display());
    if !seen.insert(folder.canonicalize().with_context(context)?) {
        return Ok(());
    }
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        entries.push(entry.with_context(context)?);
    }
    // The order decides which of two links to one folder is followed, on every machine the same.
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with('.') || name.ends_with(SHEET) {
            continue;
        }
        let is_folder = path.is_dir();
        if is_folder && deeper > 0 {
            walk(&path, deeper - 1, seen, files)?;
        } else if !is_folder {
            files.push(path);
        }
        ensure!(
            files.len() <= MOST_FILES,
            "{} holds more than {MOST_FILES} files; give the folder of one set",
            folder.display()
        );
    }
    Ok(())
}
