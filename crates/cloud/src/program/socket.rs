//! The folder of a container's socket.

use std::{
    fs::{self, File, Permissions},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{PermissionsExt, symlink},
    },
    path::Path,
};

use tokio::net::UnixListener;

use super::SOCKET;

/// Makes the folder, with the link that keeps its engine.
pub(super) fn make_folder(folder: &Path, engine: &Path) -> io::Result<()> {
    let shared = folder.join("shared");
    fs::create_dir_all(&shared)?;
    // Whoever is in the container comes to the socket. From the machine nobody does: the home keeps others out.
    fs::set_permissions(&shared, Permissions::from_mode(0o755))?;
    let link = folder.join("engine");
    // A start that is tried again, perhaps by another binary.
    let _ = fs::remove_file(&link);
    symlink(engine, link)
}

/// Listens in that folder, in place of whoever did before.
///
/// By way of the folder's file: the address of a socket has at most 108 bytes, and a home may be anywhere.
pub(super) fn listen(shared: &Path) -> io::Result<UnixListener> {
    let folder = File::open(shared)?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o666))?;
    Ok(listener)
}
