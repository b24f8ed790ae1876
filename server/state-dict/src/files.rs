//! Files that are written whole or not at all.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The folder that a file is in.
#[must_use]
pub fn folder(of: &Path) -> &Path {
    match of.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Writes a file beside `path`, and renames it to `path` when it is whole and on the disk.
///
/// # Errors
/// Where that fails; what `path` was is still there.
pub fn replace(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    // Like any new file: what the umask leaves, not `tempfile`'s owner-only.
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
