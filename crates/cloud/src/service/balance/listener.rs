//! What the machine listens on for services.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener as StdListener, UdpSocket as StdUdpSocket},
    sync::Arc,
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt};
use tandem_model::inputs::{Port, Protocol};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{Backends, http, tcp, udp};

/// How many connections a port has at once; further ones wait to be taken.
const CONNECTIONS: usize = 4096;
/// How long requests under way may take when their port is closed.
const GRACE: Duration = Duration::from_secs(5);

/// A published port. Closed when dropped.
#[derive(Debug)]
pub(in crate::service) struct Listener {
    pub(in crate::service) port: Port,
    stop: CancellationToken,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Listener {
    /// # Errors
    /// If the port cannot be had.
    pub(in crate::service) fn open(port: &Port, backends: Arc<Backends>) -> io::Result<Self> {
        let host = if port.external { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        if port.protocol == Protocol::Udp {
            let socket = StdUdpSocket::bind(SocketAddrV4::new(host, port.port))?;
            socket.set_nonblocking(true)?;
            let stop = CancellationToken::new();
            let relay = udp::Relay::new(UdpSocket::from_std(socket)?, backends, port.target());
            tokio::spawn(relay.serve(stop.clone()));
            return Ok(Self { port: port.clone(), stop });
        }
        let listener = StdListener::bind(SocketAddrV4::new(host, port.port))?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let stop = CancellationToken::new();
        let (target, protocol) = (port.target(), port.protocol);
        let proxy = Arc::new(http::Proxy::new(backends.clone(), target));
        let serve = move |stream: TcpStream, peer: SocketAddr, stop: CancellationToken| {
            let (backends, proxy) = (backends.clone(), proxy.clone());
            async move {
                match protocol {
                    Protocol::Http => proxy.serve(stream, peer, stop, GRACE).await,
                    Protocol::Tcp | Protocol::Udp => {
                        let done = tcp::serve(stream, &backends, target);
                        tokio::select! {
                            () = done => {}
                            () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => {}
                        }
                    }
                }
            }
        };
        tokio::spawn(accept(listener, stop.clone(), serve));
        Ok(Self { port: port.clone(), stop })
    }
}

async fn accept<F>(
    listener: TcpListener,
    stop: CancellationToken,
    serve: impl Fn(TcpStream, SocketAddr, CancellationToken) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let place = room.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            (Ok((stream, peer)), place) => {
                let _ = stream.set_nodelay(true);
                let serving = serve(stream, peer, stop.clone());
                tokio::spawn(async move {
                    serving.await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                // Out of file descriptors, most likely: they come back when other connections end.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Passes connections to an address of a bridge on to the cloud itself, until `stop`. The address need not be there yet.
///
/// # Errors
/// If the port cannot be had.
pub(in crate::service) fn forward(
    from: SocketAddrV4,
    to: SocketAddr,
    stop: CancellationToken,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    socket.bind(from.into())?;
    let listener = socket.listen(128)?;
    let serve = move |mut stream: TcpStream, _: SocketAddr, stop: CancellationToken| async move {
        let pass = async {
            let mut cloud = TcpStream::connect(to).await?;
            cloud.set_nodelay(true)?;
            tokio::io::copy_bidirectional(&mut stream, &mut cloud).await
        };
        // An error is an end of one of the two.
        let _ = stop.run_until_cancelled(pass).await;
    };
    tokio::spawn(accept(listener, stop, serve));
    Ok(())
}
