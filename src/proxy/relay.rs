//! Moves one session's bytes while it has a server.
//!
//! One loop looks at both directions until neither moves: look at what the client sent, send it, read more; look at what
//! the server sent, pass it on, read more. A side that cannot take bytes stops the other from being read (its buffer
//! fills up), so a large result costs two buffers, whatever its size. Dropping the loop at any moment loses nothing: what
//! was read or not yet written is in [`Traffic`].

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::Shared;
use super::client_side::Looked;
use super::demand::DemandError;
use super::server_side::{Scanned, ServerJunk, Told};
use super::session::Session;
use super::traffic::Traffic;
use crate::backend::{Server, TxStatus};
use crate::clients::ClientState;
use crate::tls::Stream;

/// Why a session has no use for its server any more.
#[derive(Debug)]
pub(super) enum Parting {
    /// All answered, nothing left behind: the server may go to the next.
    Settled,
    /// The client said goodbye, and everything before that was answered.
    Goodbye,
    /// The client is gone.
    ClientGone,
    /// The client broke the protocol.
    Violation(DemandError),
    /// The server ended the connection; what it said of it was passed on.
    ServerFatal,
    /// The server is gone without a word.
    ServerGone(Option<io::Error>),
    /// The server sent something that makes no sense.
    ServerJunk(ServerJunk),
    /// The client took longer than it may.
    Overdue(super::limits::Overdue),
    /// The process is stopping and the client is between transactions, or has no more time for one.
    Stopping,
}

/// Up to so many bytes in all are rather copied behind bytes of ours than written by a call of their own. A limit, for a
/// side that does not read must not make the copies grow.
const COPIED: usize = 8 * 1024;

/// With so many bytes of ours waiting for a client that does not read, the server is not read either.
const REPLIES: usize = 64 * 1024;

impl Session {
    /// Relays until the server is free or somebody is gone.
    pub(super) async fn relay(&mut self, server: &mut Server) -> Parting {
        poll_fn(|cx| self.poll_relay(cx, server)).await
    }

    fn poll_relay(&mut self, cx: &mut Context<'_>, server: &mut Server) -> Poll<Parting> {
        // At every poll: a wake-up takes the waker away.
        self.registered.control.register(cx.waker());
        // Once the request is sent it is mostly the server that wakes us, and often its answer is the end of it: the
        // client need not be asked for more then.
        let mut asked = self.traffic.from_client.is_empty() && self.traffic.is_sent();
        if asked && let Err(parting) = self.poll_downstream(cx, server) {
            return Poll::Ready(parting);
        }
        loop {
            let sent = match self.poll_upstream(cx, server) {
                Ok(moved) => moved,
                Err(parting) => return Poll::Ready(parting),
            };
            // The server was asked a moment ago; with nothing sent since, it has nothing more.
            let received = if asked && !sent {
                false
            } else {
                match self.poll_downstream(cx, server) {
                    Ok(moved) => moved,
                    Err(parting) => return Poll::Ready(parting),
                }
            };
            asked = false;
            if let Some(parting) = self.heed_limits(server).or_else(|| self.at_rest(server)) {
                return Poll::Ready(parting);
            }
            if !sent && !received {
                return Poll::Pending;
            }
        }
    }

    /// What ends a lease that nobody is in the middle of.
    fn at_rest(&self, server: &Server) -> Option<Parting> {
        let traffic = &self.traffic;
        if self.registered.control.killed() {
            return Some(Parting::Stopping);
        }
        if traffic.goodbye && traffic.is_sent() {
            // A COPY that nobody will end, or a Sync that nobody will send, is not waited for.
            let over = traffic.pipeline.is_answered() || traffic.pipeline.is_copying();
            return over.then_some(Parting::Goodbye);
        }
        let unfinished = traffic.pipeline.ready_owed() == 0 || traffic.pipeline.is_copying();
        if self.registered.control.stopping_now() && unfinished {
            // A batch without its Sync, a COPY without its end, half a message: nobody is waited for any more. A query
            // that runs was cancelled, and its answer is on the way.
            return Some(Parting::Stopping);
        }
        let settled = traffic.settled() && !traffic.pipeline.is_open();
        let passed = traffic.server_body == 0 && traffic.from_server.len() == traffic.to_client;
        let kept = self.session_pooling || traffic.pins.any();
        if settled && passed && !kept && traffic.touched && server.status() == TxStatus::Idle {
            // ReadyForQuery came while the client was still sending what PostgreSQL ignores: the rest of a failed COPY.
            return Some(Parting::Settled);
        }
        (settled && server.status() == TxStatus::Idle && self.registered.control.stopping())
            .then_some(Parting::Stopping)
    }

    /// Client to server. Returns whether anything moved.
    fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Server,
    ) -> Result<bool, Parting> {
        let mut moved = false;
        loop {
            let rested = self.traffic.pipeline.is_empty();
            let scanned = self
                .traffic
                .scan_client(self.asked, &self.pool.metrics, server);
            if rested && !self.traffic.pipeline.is_empty() {
                self.under_way(ClientState::Active);
            }
            if let Some(database) = self.traffic.vacates.take() {
                // Before the command goes: PostgreSQL would wait for our idle servers.
                let Shared { cluster, tasks, .. } = &*self.context;
                self.traffic.vacated = Some(cluster.vacate(&database, tasks));
            }
            if !self.send_marked(cx, server)? {
                return Ok(moved);
            }
            let looked = scanned.map_err(Parting::Violation)?;
            if looked == Looked::SendFirst {
                continue;
            }
            if self.traffic.goodbye || looked == Looked::Held && self.traffic.ends_with_goodbye() {
                // Nothing more comes, and the end of the stream must not overtake what did.
                return Ok(moved);
            }
            let traffic = &self.traffic;
            let begun = || {
                let idle = server.status() == TxStatus::Idle && traffic.pipeline.is_empty();
                !idle || !traffic.from_client.is_empty()
            };
            if !self.registered.control.reads(begun) {
                return Ok(moved);
            }
            match self.traffic.from_client.poll_fill(cx, &mut self.client) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(Parting::ClientGone),
                Poll::Ready(Err(_)) => return Err(Parting::ClientGone),
                Poll::Ready(Ok(read)) => {
                    self.count_received(read);
                    self.now = Instant::now();
                    self.asked = self.now;
                    moved = true;
                }
            }
        }
    }

    /// Writes what is marked for the server. False when it takes no more now.
    fn send_marked(&mut self, cx: &mut Context<'_>, server: &mut Server) -> Result<bool, Parting> {
        let traffic = &mut self.traffic;
        if !traffic.ahead.is_empty() && traffic.ahead.bytes().len() + traffic.to_server <= COPIED {
            // One write instead of two.
            traffic.gather();
        }
        while !traffic.ahead.is_empty() || traffic.to_server > 0 {
            let injected = !traffic.ahead.is_empty();
            let bytes = if injected {
                traffic.ahead.bytes()
            } else {
                &traffic.from_client.bytes()[..traffic.to_server]
            };
            match write(cx, server.stream_mut(), bytes) {
                Poll::Pending => return Ok(false),
                Poll::Ready(Err(error)) => return self.server_write_failed(cx, server, error),
                Poll::Ready(Ok(written)) => {
                    self.context.metrics.bytes_sent_to_server(written);
                    if injected {
                        traffic.ahead.consume(written);
                    } else {
                        traffic.from_client.consume(written);
                        traffic.to_server -= written;
                    }
                }
            }
        }
        if flush(cx, server.stream_mut()).is_pending() {
            return Ok(false);
        }
        Ok(true)
    }

    /// A server that closed may have said why before: that is what the client should hear.
    fn server_write_failed(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Server,
        error: io::Error,
    ) -> Result<bool, Parting> {
        self.poll_downstream(cx, server)?;
        Err(Parting::ServerGone(Some(error)))
    }

    /// Server to client. Returns whether anything moved.
    fn poll_downstream(
        &mut self,
        cx: &mut Context<'_>,
        server: &mut Server,
    ) -> Result<bool, Parting> {
        let mut moved = false;
        loop {
            let passed = self.pass_marked(cx)?;
            let traffic = &self.traffic;
            if !passed && (traffic.from_server.is_full() || traffic.own.bytes().len() > REPLIES) {
                return Ok(moved);
            }
            match self.traffic.from_server.poll_fill(cx, server.stream_mut()) {
                Poll::Pending => return Ok(moved),
                Poll::Ready(Ok(0)) => return Err(Parting::ServerGone(None)),
                Poll::Ready(Err(error)) => return Err(Parting::ServerGone(Some(error))),
                Poll::Ready(Ok(read)) => self.context.metrics.bytes_received_from_server(read),
            }
            moved = true;
            self.now = Instant::now();
            self.look_downstream(server)?;
        }
    }

    fn look_downstream(&mut self, server: &mut Server) -> Result<(), Parting> {
        let told = Told {
            now: self.now,
            client: &self.registration,
            pool: &self.pool.metrics,
            proxy: &self.context.metrics,
        };
        let keeps_server = |traffic: &Traffic| self.session_pooling || traffic.pins.any();
        loop {
            let scanned = self.traffic.scan_server(server, &told);
            match scanned.map_err(Parting::ServerJunk)? {
                Scanned::All => return Ok(()),
                Scanned::Fatal => return Err(Parting::ServerFatal),
                // What follows belongs to a client that keeps its server: notifications, above all.
                Scanned::Settled if keeps_server(&self.traffic) => {}
                Scanned::Settled => return Err(Parting::Settled),
            }
        }
    }

    /// Writes what is marked for the client. False when it takes no more now.
    fn pass_marked(&mut self, cx: &mut Context<'_>) -> Result<bool, Parting> {
        match self.poll_pass(cx) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(Parting::ClientGone),
        }
    }

    /// Writes our own replies and what is marked for the client.
    pub(super) fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let traffic = &mut self.traffic;
        if !traffic.own.is_empty() && traffic.own.bytes().len() + traffic.to_client <= COPIED {
            traffic.gather_replies();
        }
        while !traffic.own.is_empty() || traffic.to_client > 0 {
            let ours = !traffic.own.is_empty();
            let bytes = if ours {
                traffic.own.bytes()
            } else {
                &traffic.from_server.bytes()[..traffic.to_client]
            };
            match write(cx, &mut self.client, bytes) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Ready(Ok(written)) => {
                    self.context.metrics.bytes_sent_to_client(written);
                    self.pool.metrics.bytes_sent_to_client(written);
                    if ours {
                        traffic.own.consume(written);
                    } else {
                        traffic.from_server.consume(written);
                        traffic.to_client -= written;
                    }
                }
            }
        }
        flush(cx, &mut self.client)
    }
}

/// One write; a write of nothing is an error, as for `write_all`.
fn write(cx: &mut Context<'_>, to: &mut Stream, bytes: &[u8]) -> Poll<io::Result<usize>> {
    match Pin::new(to).poll_write(cx, bytes) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        other => other,
    }
}

/// TLS keeps bytes back until it is flushed; a plain socket does not.
#[inline]
fn flush(cx: &mut Context<'_>, to: &mut Stream) -> Poll<io::Result<()>> {
    if to.is_tls() {
        Pin::new(to).poll_flush(cx)
    } else {
        Poll::Ready(Ok(()))
    }
}
