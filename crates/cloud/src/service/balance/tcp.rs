//! Connections, passed through as they are.

use std::net::SocketAddrV4;

use tokio::{io::copy_bidirectional, net::TcpStream, time::timeout};

use super::{Backends, CONNECT, TRIES, Use};

/// Passes one connection to a replica. Without one that takes it, it is closed.
pub(super) async fn serve(mut client: TcpStream, backends: &Backends, target: u16) {
    let Some((mut replica, _under_way)) = connect(backends, target).await else { return };
    let _ = replica.set_nodelay(true);
    // An error is an end of one of the two.
    let _ = copy_bidirectional(&mut client, &mut replica).await;
}

async fn connect(backends: &Backends, target: u16) -> Option<(TcpStream, Use)> {
    let mut tried = Vec::new();
    for _ in 0..TRIES {
        let chosen = backends.pick_or_wait(&tried).await?;
        let place = SocketAddrV4::new(chosen.address(), target);
        match timeout(CONNECT, TcpStream::connect(place)).await {
            Ok(Ok(stream)) => return Some((stream, chosen)),
            // Its health is somebody else's business.
            Ok(Err(_)) | Err(_) => tried.push(chosen.id()),
        }
    }
    None
}
