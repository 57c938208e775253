//! A TCP proxy on loopback that misbehaves on order, to stand between poolwatch and PostgreSQL (or a client and
//! poolwatch).
//!
//! One task accepts, one task relays for each connection; they watch two channels: the trouble that reigns, and orders
//! to cut what is open.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the network does from now on, to open connections and new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It works.
    None,
    /// Each piece of data is held for so long, each way.
    Delay(Duration),
    /// Data comes in pieces of so many bytes, each way.
    Pieces(usize),
    /// Connections are accepted and stay open, but nothing comes through. What was sent arrives when the trouble ends.
    BlackHole,
    /// New connections are refused. Open ones go on.
    Refuse,
    /// New connections are accepted and reset at once. Open ones go on.
    Reset,
}

/// The proxy. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct Faults {
    shared: Arc<Shared>,
    port: u16,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    target: SocketAddr,
    trouble: watch::Sender<Trouble>,
    /// Counts orders to cut; the flag says how.
    cut: watch::Sender<(u64, Cut)>,
    accepted: AtomicU64,
    open: AtomicU64,
    to_server: AtomicU64,
    to_client: AtomicU64,
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    Close,
    Reset,
}

impl Faults {
    /// A proxy to a port of 127.0.0.1. At first it works.
    pub async fn before(port: u16) -> Self {
        // Bound, never listening: keeps the port ours while we refuse (see the launcher's `port`).
        let reservation = bind(0).expect("a free port");
        let local = reservation.local_addr().expect("its address").as_socket();
        let own = local.expect("an IP address").port();
        let shared = Arc::new(Shared {
            target: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            trouble: watch::Sender::new(Trouble::None),
            cut: watch::Sender::new((0, Cut::Close)),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            to_server: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
        });
        let listener = listen(own).expect("listen");
        let accepting = tokio::spawn(accept(listener, reservation, own, shared.clone()));
        Self {
            shared,
            port: own,
            accepting,
        }
    }

    /// The port to connect to.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A URL of the server behind, led through here.
    pub fn through(&self, url: &str) -> String {
        url.replace(
            &format!("@127.0.0.1:{}/", self.shared.target.port()),
            &format!("@127.0.0.1:{}/", self.port),
        )
    }

    /// Changes the trouble.
    pub fn set(&self, trouble: Trouble) {
        self.shared.trouble.send_replace(trouble);
    }

    /// Closes every open connection in an orderly way (FIN).
    pub fn close_all(&self) {
        self.order(Cut::Close);
    }

    /// Resets every open connection (RST).
    pub fn reset_all(&self) {
        self.order(Cut::Reset);
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.shared.open.load(Ordering::Relaxed)
    }

    /// Bytes passed on to the server so far.
    pub fn bytes_to_server(&self) -> u64 {
        self.shared.to_server.load(Ordering::Relaxed)
    }

    /// Bytes passed on to the client so far.
    pub fn bytes_to_client(&self) -> u64 {
        self.shared.to_client.load(Ordering::Relaxed)
    }

    fn order(&self, cut: Cut) {
        self.shared.cut.send_modify(|(number, how)| {
            *number += 1;
            *how = cut;
        });
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        self.accepting.abort();
        self.close_all();
    }
}

fn bind(port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = bind(port)?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

async fn accept(first: TcpListener, _reservation: Socket, port: u16, shared: Arc<Shared>) {
    let mut listener = Some(first);
    let mut trouble = shared.trouble.subscribe();
    loop {
        let now = *trouble.borrow_and_update();
        if now == Trouble::Refuse {
            listener = None;
            if trouble.changed().await.is_err() {
                return;
            }
            continue;
        }
        let listening = match &listener {
            Some(listening) => listening,
            None => listener.insert(listen(port).expect("listen again")),
        };
        tokio::select! {
            changed = trouble.changed() => if changed.is_err() { return },
            accepted = listening.accept() => if let Ok((client, _)) = accepted {
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                if now == Trouble::Reset {
                    reset_on_drop(&client);
                } else {
                    tokio::spawn(relay(client, shared.clone()));
                }
            },
        }
    }
}

async fn relay(mut client: TcpStream, shared: Arc<Shared>) {
    let _open = Open::start(&shared);
    let mut cut = shared.cut.subscribe();
    let passing = async {
        light(&shared).await;
        let mut server = TcpStream::connect(shared.target).await?;
        server.set_nodelay(true)?;
        client.set_nodelay(true)?;
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pass(from_client, to_server, &shared, &shared.to_server);
        let down = pass(from_server, to_client, &shared, &shared.to_client);
        tokio::try_join!(up, down).map(|_| ())
    };
    let order = tokio::select! {
        // The peers' own errors end the relay; both are closed by the drop.
        _ = passing => None,
        changed = cut.changed() => changed.ok().map(|()| cut.borrow().1),
    };
    if matches!(order, Some(Cut::Reset)) {
        reset_on_drop(&client);
    }
}

/// Passes one direction on until its end of file, under the trouble that reigns when data comes.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    shared: &Shared,
    counter: &AtomicU64,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        light(shared).await;
        if length == 0 {
            return to.shutdown().await;
        }
        let piece = match *shared.trouble.borrow() {
            Trouble::Pieces(piece) => piece,
            _ => length,
        };
        for piece in buffer[..length].chunks(piece) {
            to.write_all(piece).await?;
            // The reader's turn.
            tokio::task::yield_now().await;
        }
        counter.fetch_add(length as u64, Ordering::Relaxed);
    }
}

/// Waits as long as the trouble wants data to wait.
async fn light(shared: &Shared) {
    let mut trouble = shared.trouble.subscribe();
    let now = *trouble.borrow_and_update();
    if let Trouble::Delay(delay) = now {
        tokio::time::sleep(delay).await;
    }
    // The sender lives in `shared`, so waiting fails never.
    let _ = trouble.wait_for(|now| *now != Trouble::BlackHole).await;
}

/// A zero linger makes the drop send RST.
fn reset_on_drop(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .expect("SO_LINGER");
}

struct Open<'a>(&'a Shared);

impl<'a> Open<'a> {
    fn start(shared: &'a Shared) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        Self(shared)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}
