//! Accepts connections and hands each to a task.
//!
//! An accept that fails (no file descriptors, above all) is logged and tried again after a pause: a listener that gave
//! up would look like a dead sidecar.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;

use super::{Proxy, login};
use crate::clients::ClientAddr;
use crate::tls::Stream;

/// Connections the kernel keeps until they are accepted, enough for an application that starts all at once.
const BACKLOG: i32 = 1024;

/// The pause after a failed accept: long enough not to spin, short enough not to be noticed.
const PAUSE: Duration = Duration::from_millis(100);

/// Something that is bound and not accepted from yet.
#[derive(Debug)]
pub enum Listener {
    /// A TCP address.
    Tcp(std::net::TcpListener),
    /// A socket in the file system.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

/// Where a listener is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    /// A TCP address, with the port the system chose if none was named.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Bound::Tcp(address) => address.fmt(f),
            Bound::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Listener {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Tcp(socket.into()))
    }

    /// Binds a Unix socket. One that a dead process left is replaced; one that answers is not.
    ///
    /// # Errors
    /// The directory cannot be written, or somebody listens there.
    pub fn unix(directory: &Path, port: u16) -> io::Result<Self> {
        let path = directory.join(format!(".s.PGSQL.{port}"));
        match std::os::unix::net::UnixStream::connect(&path) {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "somebody listens there",
                ));
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(&path)?
            }
            Err(_) => {}
        }
        let listener = std::os::unix::net::UnixListener::bind(&path)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener, path))
    }

    /// Where it is bound.
    ///
    /// # Errors
    /// The system does not say.
    pub fn bound(&self) -> io::Result<Bound> {
        Ok(match self {
            Listener::Tcp(listener) => Bound::Tcp(listener.local_addr()?),
            Listener::Unix(_, path) => Bound::Unix(path.clone()),
        })
    }
}

impl Proxy {
    /// Accepts until the tasks are asked to stop, or it is closed to new ones. Connections go to the data path's runtimes in turn; each keeps its
    /// client's socket on the one it got.
    pub async fn accept(self, listener: Listener, runtimes: Vec<Handle>) -> io::Result<()> {
        let stopping = self.0.tasks.stopping();
        tokio::select! {
            result = self.accept_on(listener, &runtimes) => result,
            // A connection that was accepted is in a task of its own already.
            () = stopping => Ok(()),
            () = self.0.closed_to_new.cancelled() => Ok(()),
        }
    }

    async fn accept_on(&self, listener: Listener, runtimes: &[Handle]) -> io::Result<()> {
        let mut turn = runtimes.iter().cycle();
        match listener {
            Listener::Tcp(listener) => {
                let listener = TcpListener::from_std(listener)?;
                loop {
                    match listener.accept().await {
                        Ok((stream, address)) => self.start(
                            stream.into_std()?.into(),
                            ClientAddr::Tcp(address),
                            turn.next(),
                        ),
                        Err(error) => pause(&error).await,
                    }
                }
            }
            Listener::Unix(listener, path) => {
                let _removed_at_the_end = RemoveFile(path);
                let listener = UnixListener::from_std(listener)?;
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            self.start(stream.into_std()?.into(), ClientAddr::Unix, turn.next())
                        }
                        Err(error) => pause(&error).await,
                    }
                }
            }
        }
    }

    fn start(&self, socket: Accepted, address: ClientAddr, runtime: Option<&Handle>) {
        let Some(runtime) = runtime else { return };
        let shared = self.0.clone();
        self.0.tasks.spawn_on(runtime, "session", async move {
            // Registered with the reactor of the thread that will serve it.
            match socket.into_stream() {
                Ok(stream) => login::serve(shared, stream, address).await,
                Err(error) => tracing::warn!(%error, "accepted connection could not be set up"),
            }
        });
    }
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "accept failed, trying again");
    tokio::time::sleep(PAUSE).await;
}

/// An accepted socket that belongs to no reactor yet.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

impl Accepted {
    fn into_stream(self) -> io::Result<Stream> {
        match self {
            Accepted::Tcp(socket) => Stream::from_accepted_tcp(socket),
            Accepted::Unix(socket) => Ok(Stream::from(tokio::net::UnixStream::from_std(socket)?)),
        }
    }
}

impl From<std::net::TcpStream> for Accepted {
    fn from(socket: std::net::TcpStream) -> Self {
        Accepted::Tcp(socket)
    }
}

impl From<std::os::unix::net::UnixStream> for Accepted {
    fn from(socket: std::os::unix::net::UnixStream) -> Self {
        Accepted::Unix(socket)
    }
}

struct RemoveFile(PathBuf);

impl Drop for RemoveFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
