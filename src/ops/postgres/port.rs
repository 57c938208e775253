//! A TCP port on loopback, chosen by the system and kept free for a server that comes, goes and comes back.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

/// A port that a server is about to listen on.
///
/// On Linux a socket that is bound with SO_REUSEADDR and does not listen keeps the system from giving the port to
/// anybody who asks for any port, and yet lets the server (which sets SO_REUSEADDR too) listen there; connecting to it
/// in the meantime is refused, as it should be. So a restarted server finds its port free. Elsewhere that is not so,
/// and the port is only likely to be free.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    _reservation: Option<Socket>,
}

impl Port {
    /// Asks the system for a free port.
    pub(super) fn reserve() -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        let number = socket
            .local_addr()?
            .as_socket()
            .map(|address| address.port())
            .ok_or_else(|| io::Error::other("the bound socket has no address"))?;
        Ok(Self {
            number,
            _reservation: cfg!(target_os = "linux").then_some(socket),
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}
