//! Datagrams: each client's go to one replica, whose answers go back to it.
//!
//! A client is an address and a port. It keeps its replica until it was silent for a minute, or the replica is not able any
//! more; then its next datagram chooses another one. What comes while no replica is healthy is lost, as UDP allows.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Backends, Use};

/// The largest datagram.
const LARGEST: usize = 64 << 10;
/// How long a client may be silent, both ways, and keep its replica.
const IDLE: Duration = Duration::from_secs(60);
/// How often it is looked whether a replica is still able.
const LOOK: Duration = Duration::from_millis(500);
/// How many clients a port has at once; datagrams of further ones are lost.
const CLIENTS: usize = 4096;

/// Passes the datagrams to one port on.
pub(super) struct Relay {
    socket: UdpSocket,
    backends: Arc<Backends>,
    target: u16,
    clients: Mutex<HashMap<SocketAddr, Arc<Session>>>,
}

/// What one client has.
struct Session {
    /// Connected to the replica.
    socket: UdpSocket,
    chosen: Use,
    /// When something went either way.
    last: Mutex<Instant>,
    over: CancellationToken,
}

impl Session {
    fn touch(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_idle(&self) -> bool {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).elapsed() >= IDLE
    }
}

impl Relay {
    pub(super) fn new(socket: UdpSocket, backends: Arc<Backends>, target: u16) -> Arc<Self> {
        Arc::new(Self { socket, backends, target, clients: Mutex::default() })
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<SocketAddr, Arc<Session>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until `stop`.
    pub(super) async fn serve(self: Arc<Self>, stop: CancellationToken) {
        let mut datagram = vec![0; LARGEST];
        while let Some(received) = stop.run_until_cancelled(self.socket.recv_from(&mut datagram)).await {
            match received {
                Ok((size, client)) => self.pass(client, &datagram[..size], &stop).await,
                // What a client that is gone answers to an answer.
                Err(error) => tracing::debug!(%error, "cannot receive a datagram"),
            }
        }
        for (_, session) in self.clients().drain() {
            session.over.cancel();
        }
    }

    async fn pass(self: &Arc<Self>, client: SocketAddr, datagram: &[u8], stop: &CancellationToken) {
        // A replica that ended refuses what is sent to it: then another one gets it.
        for _ in 0..2 {
            let session = match self.session(client, stop).await {
                Ok(Some(session)) => session,
                Ok(None) => return,
                Err(error) => {
                    tracing::debug!(%client, %error, "no way to a replica");
                    return;
                }
            };
            if session.socket.send(datagram).await.is_ok() {
                session.touch();
                return;
            }
            self.forget(client, &session);
        }
    }

    /// The client's session, begun if it has none to a replica that is able.
    async fn session(
        self: &Arc<Self>,
        client: SocketAddr,
        stop: &CancellationToken,
    ) -> io::Result<Option<Arc<Session>>> {
        {
            let mut clients = self.clients();
            match clients.get(&client) {
                Some(session) if self.backends.still_able(&session.chosen) => {
                    return Ok(Some(session.clone()));
                }
                Some(session) => {
                    session.over.cancel();
                    clients.remove(&client);
                }
                None if clients.len() >= CLIENTS => return Ok(None),
                None => {}
            }
        }
        let Some(chosen) = self.backends.pick(&[]) else { return Ok(None) };
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect(SocketAddrV4::new(chosen.address(), self.target)).await?;
        let (last, over) = (Mutex::new(Instant::now()), stop.child_token());
        let session = Arc::new(Session { socket, chosen, last, over });
        self.clients().insert(client, session.clone());
        let (relay, answering) = (self.clone(), session.clone());
        tokio::spawn(async move {
            answering.over.run_until_cancelled(relay.answer(client, &answering)).await;
            relay.forget(client, &answering);
        });
        Ok(Some(session))
    }

    /// Passes answers back, until nothing went either way for long or the replica is not able any more.
    async fn answer(&self, client: SocketAddr, session: &Session) {
        let mut datagram = vec![0; LARGEST];
        while !session.is_idle() && self.backends.still_able(&session.chosen) {
            match timeout(LOOK, session.socket.recv(&mut datagram)).await {
                Err(_) => {}
                Ok(Err(_)) => return,
                Ok(Ok(size)) => {
                    session.touch();
                    let _ = self.socket.send_to(&datagram[..size], client).await;
                }
            }
        }
    }

    fn forget(&self, client: SocketAddr, session: &Arc<Session>) {
        let mut clients = self.clients();
        if clients.get(&client).is_some_and(|now| Arc::ptr_eq(now, session)) {
            clients.remove(&client);
        }
        session.over.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers with its name and what it was told.
    async fn echo(name: &'static str, address: Ipv4Addr, port: u16) -> u16 {
        let socket = UdpSocket::bind(SocketAddrV4::new(address, port)).await.unwrap();
        let port = socket.local_addr().unwrap().port();
        tokio::spawn(async move {
            let mut datagram = [0; 64];
            while let Ok((size, from)) = socket.recv_from(&mut datagram).await {
                let said = String::from_utf8_lossy(&datagram[..size]).into_owned();
                socket.send_to(format!("{name} {said}").as_bytes(), from).await.unwrap();
            }
        });
        port
    }

    #[tokio::test]
    async fn a_client_keeps_its_replica_as_long_as_that_is_able_and_gets_its_answers() {
        let [one, two] = [1, 2].map(|last| Ipv4Addr::new(127, 77, 0, last));
        let port = echo("one", one, 0).await;
        echo("two", two, port).await;
        let backends = Arc::new(Backends::default());
        let [first, second] = [("1", one), ("2", two)].map(|(id, at)| backends.add(id, "v", at));
        backends.set_current("v");
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let relayed = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let relay = Relay::new(socket, backends.clone(), port);
        let serving = tokio::spawn(relay.serve(stop.clone()));
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        client.connect(relayed).await.unwrap();
        let ask = async || {
            let mut answer = [0; 64];
            // A closed port refuses.
            client.send(b"hello").await.ok()?;
            let answered = timeout(Duration::from_millis(300), client.recv(&mut answer)).await;
            let size = answered.ok()?.ok()?;
            Some(String::from_utf8_lossy(&answer[..size]).into_owned())
        };
        assert_eq!(ask().await, None, "no replica is healthy");
        backends.set_healthy(&first, true);
        for _ in 0..3 {
            assert_eq!(ask().await.as_deref(), Some("one hello"));
        }
        backends.set_healthy(&second, true);
        assert_eq!(ask().await.as_deref(), Some("one hello"), "it keeps its replica");
        backends.set_healthy(&first, false);
        assert_eq!(ask().await.as_deref(), Some("two hello"));
        stop.cancel();
        serving.await.unwrap();
        assert_eq!(ask().await, None, "the port is closed");
    }
}
