//! Every file below a folder, in a stable order, and the part of a data set that a folder's name denotes.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

use super::Part;

/// The extensions of picture files.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// How many levels of subfolders are searched.
const MAX_DEPTH: usize = 8;

/// The maximum number of files below a folder.
const MAX_FILES: usize = 2_000_000;

/// A folder and every file below it.
pub(super) struct Folder {
    pub root: PathBuf,
    /// In the order of their paths, without hidden files: macOS writes `._NAME.xml` beside a file that it copies.
    pub files: Vec<PathBuf>,
    /// Indexes of pictures by name, in lower case, both with and without the extension.
    by_name: HashMap<String, Vec<usize>>,
}

impl Folder {
    pub(super) fn open(root: &Path) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        walk(root, MAX_DEPTH, &mut HashSet::new(), &mut files)?;
        files.sort();
        let mut by_name: HashMap<String, Vec<usize>> = HashMap::new();
        for (index, file) in files
            .iter()
            .enumerate()
            .filter(|(_, file)| is_picture(file))
        {
            for name in [file.file_name(), file.file_stem()].into_iter().flatten() {
                let key = name.to_string_lossy().to_lowercase();
                by_name.entry(key).or_default().push(index);
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
        self.files
            .iter()
            .filter(move |file| has_extension(file, &[extension]))
    }

    pub(super) fn pictures(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().filter(|file| is_picture(file))
    }

    /// The pictures with this name that are nearest to a label file; several if they are equally near. The name may
    /// have the extension or not.
    pub(super) fn nearest(&self, name: &str, label: &Path) -> Vec<&PathBuf> {
        let (mut highest, mut nearest) = (0, Vec::new());
        for &index in self.by_name.get(&name.to_lowercase()).into_iter().flatten() {
            let file = &self.files[index];
            let shared = shared_folders(file, label);
            if shared > highest {
                highest = shared;
                nearest.clear();
            }
            if shared == highest {
                nearest.push(file);
            }
        }
        nearest
    }

    /// The part that a folder between the root and a file denotes. The innermost such folder decides.
    pub(super) fn part(&self, file: &Path) -> Option<Part> {
        let below = file.strip_prefix(&self.root).ok()?;
        let mut folders = below.parent()?.components().rev();
        folders.find_map(|folder| part_named(&folder.as_os_str().to_string_lossy()))
    }
}

/// How near two files are: the number of folders that their paths share, counted from the root down and from the files
/// up.
fn shared_folders(a: &Path, b: &Path) -> usize {
    let folders = |file: &Path| -> Vec<String> {
        let parent = file.parent().unwrap_or(Path::new(""));
        let name = |part: std::path::Component<'_>| part.as_os_str().to_string_lossy().to_string();
        parent.components().map(name).collect()
    };
    let (of_a, of_b) = (folders(a), folders(b));
    let is_same = |(a, b): &(&String, &String)| a == b;
    let down = of_a.iter().zip(&of_b).take_while(is_same).count();
    if down == of_a.len() && down == of_b.len() {
        return usize::MAX;
    }
    let upwards = of_a.iter().rev().zip(of_b.iter().rev());
    down + upwards.take_while(is_same).count()
}

/// The part that a folder or list with this name denotes: `train`, `val2017`, `obj_valid_data`.
pub(super) fn part_named(name: &str) -> Option<Part> {
    let lower = name.to_lowercase();
    let darknet = lower
        .strip_prefix("obj_")
        .and_then(|name| name.strip_suffix("_data"));
    let is_of_year = |letter: char| letter.is_ascii_digit();
    match darknet.unwrap_or(&lower).trim_end_matches(is_of_year) {
        "train" | "training" | "trainval" => Some(Part::Train),
        "val" | "valid" | "validation" => Some(Part::Validation),
        "test" | "testing" => Some(Part::Test),
        _ => None,
    }
}

pub(super) fn has_extension(file: &Path, accepted: &[&str]) -> bool {
    let is_own = |own: &OsStr| accepted.iter().any(|one| own.eq_ignore_ascii_case(one));
    file.extension().is_some_and(is_own)
}

/// The suffix of the contact sheets that `fit` writes. They do not count as pictures of a data set in the same folder.
pub const SHEET_SUFFIX: &str = ".sheet.jpg";

pub(super) fn is_picture(file: &Path) -> bool {
    has_extension(file, &PICTURES)
}

/// A file's name without its folder and extension.
pub(super) fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_string()
}

/// Collects the files of a folder and of `depth` levels of subfolders. Links are followed; each folder is read once.
fn walk(
    folder: &Path,
    depth: usize,
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
    // If two links lead to one folder, the order decides which is followed. It must be the same on every machine.
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().to_string();
        if name.starts_with('.') || name.ends_with(SHEET_SUFFIX) {
            continue;
        }
        let is_folder = path.is_dir();
        if is_folder && depth > 0 {
            walk(&path, depth - 1, seen, files)?;
        } else if !is_folder {
            files.push(path);
        }
        ensure!(
            files.len() <= MAX_FILES,
            "{} contains more than {MAX_FILES} files; give the folder of one data set",
            folder.display()
        );
    }
    Ok(())
}
