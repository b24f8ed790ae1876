//! Every file below a folder, in a stable order; and what the names of folders say.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// The extensions of pictures that are read.
const PICTURES: [&str; 6] = ["jpg", "jpeg", "png", "webp", "bmp", "gif"];

/// How many folders deep files are looked for.
const DEEPEST: usize = 8;

/// The most files below a folder.
const MOST_FILES: usize = 2_000_000;

/// What a picture is for, by the name of a folder or list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Named {
    Train,
    Validation,
    Test,
}

/// A folder and every file below it.
pub(super) struct Folder {
    pub root: PathBuf,
    /// In the order of their paths. Hidden ones are left out: macOS leaves `._NAME.xml` beside what it copies.
    pub files: Vec<PathBuf>,
    /// Of pictures, by name in lower case, with and without the extension.
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

    /// The pictures of a name, with or without its extension, that are nearest to an annotation. More than one
    /// where several are as near.
    pub(super) fn nearest(&self, name: &str, annotation: &Path) -> Vec<&PathBuf> {
        let named = self.by_name.get(&name.to_lowercase());
        let all = named.into_iter().flatten().map(|&index| &self.files[index]);
        let mut best = (0, Vec::new());
        for file in all {
            let shared = shared(file, annotation);
            if shared > best.0 {
                best = (shared, Vec::new());
            }
            if shared == best.0 {
                best.1.push(file);
            }
        }
        best.1
    }

    /// What the folders above a file, below the root, say it is for.
    pub(super) fn named(&self, file: &Path) -> Option<Named> {
        let below = file.strip_prefix(&self.root).ok()?;
        let folders = below.parent()?.components().rev();
        let mut names = folders.map(|folder| named(&folder.as_os_str().to_string_lossy()));
        names.find_map(|named| named)
    }
}

/// How many folders two files have in common, from the root down and from the files up.
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

/// What the name of a folder or list says its pictures are for: `train`, `val2017`, `obj_valid_data`.
pub(super) fn named(name: &str) -> Option<Named> {
    let name = name.to_lowercase();
    let darknet = name
        .strip_prefix("obj_")
        .and_then(|name| name.strip_suffix("_data"));
    let year = |letter: char| letter.is_ascii_digit();
    match darknet.unwrap_or(&name).trim_end_matches(year) {
        "train" | "training" | "trainval" => Some(Named::Train),
        "val" | "valid" | "validation" => Some(Named::Validation),
        "test" | "testing" => Some(Named::Test),
        _ => None,
    }
}

pub(super) fn has_extension(file: &Path, wanted: &[&str]) -> bool {
    let extension = file
        .extension()
        .map(|extension| extension.to_string_lossy());
    extension.is_some_and(|own| wanted.iter().any(|wanted| own.eq_ignore_ascii_case(wanted)))
}

pub(super) fn is_picture(file: &Path) -> bool {
    has_extension(file, &PICTURES)
}

/// A file's name without its folder and extension.
pub(super) fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_string()
}

/// Links are followed, each folder is gone through once.
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
    // Of two links to one folder the same is followed on every machine.
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
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
