//! Replaces whole files. Readers see the old file or the complete new file.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The folder of a file.
#[must_use]
pub fn folder(of: &Path) -> &Path {
    match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a temporary file beside `path`, and renames it to `path` when it is complete and on disk.
///
/// # Errors
/// If a step fails. `path` is then unchanged.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // The umask applies, as to any new file. `tempfile`'s default mode is for the owner only.
    let permissions = Permissions::from_mode(0o666);
    let temporary = tempfile::Builder::new()
        .permissions(permissions)
        .tempfile_in(folder(path))?;
    let mut file = BufWriter::new(temporary.as_file());
    write(&mut file)?;
    file.flush()?;
    drop(file);
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}
