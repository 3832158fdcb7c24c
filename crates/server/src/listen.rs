//! The server's side of the socket.

use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use axum::Router;
use tandem_cloud::Cloud;
use tokio::{net::UnixListener, sync::watch};

use crate::api;

/// Binds the control socket. The caller holds the cloud's lock, so a socket that is there is nobody's.
///
/// # Errors
/// [`io::Error`] if the folder cannot be written, or the path is longer than a socket's name may be.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Bound under a private name, closed to others, and only then given its name: it is never open to others.
    let private = path.with_extension("new");
    let _ = fs::remove_file(&private);
    let listener = UnixListener::bind(&private)?;
    fs::set_permissions(&private, fs::Permissions::from_mode(0o600))?;
    fs::rename(&private, path)?;
    Ok(listener)
}

/// Answers until `stop` turns true, then finishes the requests under way.
///
/// # Errors
/// [`io::Error`] if the socket fails.
pub async fn serve(listener: UnixListener, cloud: Arc<Cloud>, stop: watch::Sender<bool>) -> io::Result<()> {
    let router: Router = api::router(cloud, stop.clone());
    let mut stopping = stop.subscribe();
    axum::serve(listener, router)
        .with_graceful_shutdown(async move {
            let _ = stopping.wait_for(|stop| *stop).await;
        })
        .await
}
