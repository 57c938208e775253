//! A server in somebody's hands, and what is owed before it may go to the next one.
//!
//! A lease is armed from the start: dropped at any moment, by an error, a panic or a cancelled task, its server is
//! closed. Only [`Lease::give_back`] returns a clean one, and [`Lease::restore`] brings one that is not clean to that
//! state, within a limit, or closes it.

use std::future::poll_fn;
use std::io;
use std::time::Duration;

use super::{Carried, Reset, Server, ServerManager, TxStatus};
use crate::pgwire::{FrameError, Header, Inbox, backend, frontend};
use crate::pool::{Checkout, CloseReason};

/// A server that is checked out.
#[derive(Debug)]
pub struct Lease {
    checkout: Checkout<ServerManager>,
}

/// What becomes of a transaction that a client leaves open (SQLAlchemy's `reset_on_return`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenTransaction {
    /// It is rolled back.
    #[default]
    Rollback,
    /// It is committed.
    Commit,
    /// Nothing is decided for the client: the connection is closed, and PostgreSQL rolls back.
    Close,
}

/// How a lease ended that was not clean.
#[derive(Debug)]
pub struct Remains {
    /// Bytes from the server that nobody wants any more.
    pub inbox: Inbox,
    /// Bytes of the current message that are still to come, beyond those in the inbox.
    pub body: usize,
    /// ReadyForQuery messages still to come.
    pub ready_owed: usize,
    /// The server waits for a Sync that the client never sent.
    pub sync_missing: bool,
    /// What becomes of a transaction that is open.
    pub open_transaction: OpenTransaction,
    /// What was left in the session.
    pub reset: Reset,
}

/// Why a server could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The connection failed.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server hung up.
    #[error("the server hung up")]
    HungUp,
    /// The server sent something that is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A statement of ours failed.
    #[error("{statement} failed")]
    Statement {
        /// Which.
        statement: String,
        /// Why.
        #[source]
        source: super::QueryError,
    },
    /// A transaction is open, and the settings say to close the connection then.
    #[error("a transaction was left open")]
    InTransaction,
    /// Something was left that no statement takes away.
    #[error("the client left what cannot be taken away, as a library it loaded")]
    Stays,
    /// The deadline passed.
    #[error("not clean within {0:?}")]
    Deadline(Duration),
}

impl Lease {
    /// How long opening this server took, where it was opened for this lease.
    pub fn connect_time(&self) -> Duration {
        self.checkout.connect_time()
    }

    /// Takes charge of a checkout; from now on dropping it closes the server.
    pub fn new(mut checkout: Checkout<ServerManager>) -> Self {
        checkout.discard_on_drop(CloseReason::ClientAbort);
        checkout.hold();
        Self { checkout }
    }

    /// The server.
    #[inline]
    pub fn server(&mut self) -> &mut Server {
        &mut self.checkout
    }

    /// The server, to look at.
    #[inline]
    pub fn server_ref(&self) -> &Server {
        &self.checkout
    }

    /// Whether the server was opened by this very checkout.
    pub fn fresh(&self) -> bool {
        self.checkout.fresh()
    }

    /// Returns a server that is idle, with nothing owed and no state left.
    #[inline]
    pub fn give_back(mut self) {
        self.checkout.let_go();
        self.checkout.keep_on_drop();
    }

    /// The connection broke under its user: closes it, and has the pool check those of its age.
    pub fn broken(mut self) {
        self.checkout.discard_on_drop(CloseReason::Broken);
        self.checkout.invalidate_pool();
    }

    /// Closes the server.
    pub fn close(mut self, why: CloseReason) {
        self.checkout.discard_on_drop(why);
    }

    /// Brings the server back to idle and clean, then returns it; closes it where that fails or takes too long.
    ///
    /// A statement that still runs is cancelled, what it sends is thrown away, an open transaction is rolled back,
    /// session state is discarded, and every cancel request that is aimed at this server is waited for.
    ///
    /// # Errors
    /// See [`RestoreError`]; the server is closed then.
    pub async fn restore(mut self, remains: Remains, limit: Duration) -> Result<(), RestoreError> {
        self.checkout.discard_on_drop(CloseReason::ResetFailed);
        match tokio::time::timeout(limit, restore(&mut self.checkout, remains)).await {
            Ok(Ok(())) => {
                self.give_back();
                Ok(())
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(RestoreError::Deadline(limit)),
        }
    }
}

async fn restore(server: &mut Server, mut remains: Remains) -> Result<(), RestoreError> {
    if remains.sync_missing {
        send_sync(server).await?;
        remains.ready_owed += 1;
    }
    if remains.ready_owed > 0 {
        cancel_running(server).await;
        drain(server, &mut remains).await?;
        // What was cancelled may have been ours, which gave back parameters.
        server.doubt_parameters();
    }
    let rest = remains.inbox.split_off(0);
    server.keep_unread(&rest);
    server.cancels().quiet().await;
    server.mark_idle();
    if server.status() != TxStatus::Idle {
        match remains.open_transaction {
            OpenTransaction::Rollback => run(server, "ROLLBACK").await?,
            OpenTransaction::Commit => run(server, "COMMIT").await?,
            OpenTransaction::Close => return Err(RestoreError::InTransaction),
        }
    }
    if remains.reset.has(Reset::CLOSE) {
        return Err(RestoreError::Stays);
    }
    if let Some(statement) = remains.reset.statement() {
        run(server, &statement).await?;
    }
    let everything = remains.reset.has(Reset::EVERYTHING);
    if remains.reset.has(Reset::PARAMETERS) || remains.reset.has(Reset::ROLE) {
        // RESET ALL leaves a role alone, and each may have been the client's by its login.
        server.doubt_parameters();
    }
    if everything {
        server.set_applied(0);
        server.set_carried(Carried::default());
        server.copies().clear();
    }
    Ok(())
}

/// Asks PostgreSQL to cancel; whether it does is seen by the answer, not here.
async fn cancel_running(server: &Server) {
    if let Err(error) = server.cancels().aim().send().await {
        tracing::debug!(error = crate::error::chain(&error), "cancel request failed");
    }
}

async fn run(server: &mut Server, statement: &str) -> Result<(), RestoreError> {
    server
        .simple_query(statement)
        .await
        .map_err(|source| RestoreError::Statement {
            statement: statement.to_owned(),
            source,
        })
}

async fn send_sync(server: &mut Server) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let sync = [frontend::SYNC, 0, 0, 0, 4];
    server.stream_mut().write_all(&sync).await
}

async fn send_copy_fail(server: &mut Server) -> io::Result<()> {
    use tokio::io::AsyncWriteExt;
    let fail = [frontend::COPY_FAIL, 0, 0, 0, 5, 0];
    server.stream_mut().write_all(&fail).await
}

/// Whether a command with this tag leaves no prepared statement.
fn drops_statements(tag: &[u8]) -> bool {
    matches!(tag, b"DISCARD ALL\0" | b"DEALLOCATE ALL\0")
}

/// Reads and throws away until the last ReadyForQuery that is owed; applies what the server says of itself.
pub(super) async fn drain(server: &mut Server, remains: &mut Remains) -> Result<(), RestoreError> {
    loop {
        while let Some((tag, total)) = next_message(remains)? {
            let message = remains
                .inbox
                .bytes()
                .get(crate::pgwire::HEADER..total)
                .unwrap_or_default();
            if tag == backend::READY_FOR_QUERY {
                server.set_status(TxStatus::from_byte(
                    message.first().copied().unwrap_or_default(),
                ));
                remains.ready_owed = remains.ready_owed.saturating_sub(1);
            } else {
                if tag == backend::COMMAND_COMPLETE && drops_statements(message) {
                    server.copies().forget();
                }
                server.absorb(tag, message);
            }
            remains.inbox.consume(total);
            if tag == backend::COPY_IN {
                // PostgreSQL waits for data that nobody will send, and heeds no cancel request meanwhile.
                send_copy_fail(server).await?;
            }
            if remains.ready_owed == 0 {
                return Ok(());
            }
        }
        let inbox = &mut remains.inbox;
        if poll_fn(|cx| inbox.poll_fill(cx, server.stream_mut())).await? == 0 {
            return Err(RestoreError::HungUp);
        }
    }
}

/// The next whole message, after skipping the body of one that passes in pieces; `None` when more must be read.
fn next_message(remains: &mut Remains) -> Result<Option<(u8, usize)>, FrameError> {
    loop {
        if remains.body > 0 {
            let skipped = remains.body.min(remains.inbox.len());
            remains.inbox.consume(skipped);
            remains.body -= skipped;
            if remains.body > 0 {
                return Ok(None);
            }
        }
        let Some(header) = Header::parse(remains.inbox.bytes())? else {
            return Ok(None);
        };
        if header.total <= remains.inbox.len() {
            return Ok(Some((header.tag, header.total)));
        }
        let may_be_skipped = matches!(
            header.tag,
            backend::DATA_ROW | backend::COPY_DATA | backend::ROW_DESCRIPTION
        );
        if !may_be_skipped && !remains.inbox.is_full() {
            return Ok(None);
        }
        remains.body = header.total;
    }
}
