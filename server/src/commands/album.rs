//! The folder that annotated pictures are written to.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use ssd_detector::picture::Encoding;
use state_dict::files;

use super::STANDARD_INPUT;

/// Keeps pictures that are read, or were just written, from being written over.
#[derive(Debug)]
pub struct Album {
    folder: PathBuf,
    force: bool,
    inputs: HashSet<PathBuf>,
    /// What was written, and of which picture.
    written: HashMap<PathBuf, PathBuf>,
}

impl Album {
    /// Makes the folder where it is not there.
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

    /// Where the picture of that name goes: a file of the same name, which ends as its format is
    /// called.
    pub fn place(&self, picture: &Path, encoding: Encoding) -> anyhow::Result<PathBuf> {
        let name = match picture == Path::new(STANDARD_INPUT) {
            true => Path::new("stdin"),
            false => Path::new(picture.file_name().unwrap_or_default()),
        };
        let place = self.folder.join(name).with_extension(match encoding {
            Encoding::Jpeg => "jpg",
            Encoding::Png => "png",
        });
        let shown = place.display();
        if let Some(other) = self.written.get(&place) {
            let other = other.display();
            anyhow::bail!("{shown} is that of {other} already; give them folders of their own");
        }
        let is_input = place
            .canonicalize()
            .is_ok_and(|place| self.inputs.contains(&place));
        ensure!(
            !is_input,
            "{shown} is one of the pictures to read; give another folder"
        );
        ensure!(
            self.force || place.symlink_metadata().is_err(),
            "{shown} exists; give --force to replace it"
        );
        Ok(place)
    }

    /// Writes a picture's annotated one: a whole file or none.
    pub fn write(&mut self, picture: &Path, place: PathBuf, bytes: &[u8]) -> anyhow::Result<()> {
        let written = files::replace(&place, |file| file.write_all(bytes));
        written.with_context(|| format!("cannot write {}", place.display()))?;
        self.written.insert(place, picture.to_owned());
        Ok(())
    }
}
