//! The folder for annotated pictures.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ssd_detector::picture::Encoding;
use state_dict::files;

use super::STANDARD_INPUT;

/// Never overwrites a picture of the same run, whether it is read or written.
#[derive(Debug)]
pub struct Album {
    folder: PathBuf,
    force: bool,
    inputs: HashSet<PathBuf>,
    /// Each file that was written, and the picture that it came from.
    written: HashMap<PathBuf, PathBuf>,
}

impl Album {
    /// Makes the folder if it does not exist.
    pub fn open(folder: &Path, force: bool, inputs: &[PathBuf]) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{}: cannot make the folder", folder.display()))?;
        let inputs = inputs.iter().filter_map(|input| input.canonicalize().ok());
        Ok(Self {
            folder: folder.to_owned(),
            force,
            inputs: inputs.collect(),
            written: HashMap::new(),
        })
    }

    /// The path for an annotated picture: the picture's name, with the extension of the encoding.
    pub fn path(&self, picture: &Path, encoding: Encoding) -> anyhow::Result<PathBuf> {
        let name = if picture == Path::new(STANDARD_INPUT) {
            Path::new("stdin")
        } else {
            Path::new(picture.file_name().unwrap_or_default())
        };
        let path = self.folder.join(name).with_extension(match encoding {
            Encoding::Jpeg => "jpg",
            Encoding::Png => "png",
        });
        let shown = path.display();
        if let Some(other) = self.written.get(&path) {
            let other = other.display();
            anyhow::bail!(
                "{shown} already holds the annotated copy of {other}; annotate the two pictures into \
                 different folders"
            );
        }
        let is_input = path
            .canonicalize()
            .is_ok_and(|file| self.inputs.contains(&file));
        ensure!(
            !is_input,
            "{shown} is one of the given pictures; give another folder"
        );
        ensure!(
            self.force || path.symlink_metadata().is_err(),
            "{shown} exists; give --force to replace it"
        );
        Ok(path)
    }

    /// Writes the annotated copy of a picture, completely or not at all.
    pub fn write(&mut self, picture: &Path, path: PathBuf, bytes: &[u8]) -> anyhow::Result<()> {
        files::replace(&path, |file| file.write_all(bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
        self.written.insert(path, picture.to_owned());
        Ok(())
    }
}
