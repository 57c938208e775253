//! Statements of our own on a server: pings, rollbacks, resets, parameters.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt;

use super::error::QueryError;
use super::server::{Server, TxStatus};
use crate::pgwire::{HEADER, Header, Inbox, ServerMessage, backend, frontend};

/// The longest message in an answer to a statement of ours; none of them fetches anything large.
const ANSWER_MESSAGE: usize = 1 << 20;

impl Server {
    /// Runs a simple query and throws its rows away. The caller sets the limit.
    ///
    /// The server counts as busy until the answer is complete: a future that is dropped half-way leaves a server that is
    /// closed, never one that is out of step.
    ///
    /// # Errors
    /// See [`QueryError`]; after [`QueryError::Server`] the server is in step again, unless the error was FATAL.
    pub async fn simple_query(&mut self, sql: &str) -> Result<(), QueryError> {
        if sql.as_bytes().contains(&0) {
            return Err(QueryError::ZeroByte);
        }
        self.mark_busy();
        let mut message = Vec::with_capacity(sql.len() + HEADER + 1);
        message.push(frontend::QUERY);
        message.extend_from_slice(
            &u32::try_from(sql.len() + 5)
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        message.extend_from_slice(sql.as_bytes());
        message.push(0);
        self.stream.write_all(&message).await?;
        self.stream.flush().await?;
        let result = self.read_to_ready().await?;
        self.mark_idle();
        result
    }

    /// The outer error is of the connection, the inner one PostgreSQL's answer.
    async fn read_to_ready(&mut self) -> Result<Result<(), QueryError>, QueryError> {
        let mut pending = self.take_unread();
        let mut inbox = Inbox::default();
        let mut result = Ok(());
        loop {
            let mut at = 0;
            while let Some(header) = Header::parse(&pending[at..])? {
                header.at_most(ANSWER_MESSAGE)?;
                let Some(body) = pending.get(at + HEADER..at + header.total) else {
                    break;
                };
                match header.tag {
                    backend::READY_FOR_QUERY => {
                        self.set_status(TxStatus::from_byte(
                            body.first().copied().unwrap_or_default(),
                        ));
                        self.keep_unread(&pending[at + header.total..]);
                        return Ok(result);
                    }
                    backend::ERROR => {
                        self.absorb(header.tag, body);
                        let error = ServerMessage::parse(body);
                        if error.is_fatal() {
                            return Err(QueryError::Server(error));
                        }
                        result = Err(QueryError::Server(error));
                    }
                    // The data is not ours to give; waiting for the answer would last for ever.
                    tag @ (backend::COPY_IN | backend::COPY_BOTH) => {
                        return Err(QueryError::Unexpected(tag));
                    }
                    tag => self.absorb(tag, body),
                }
                at += header.total;
            }
            pending.drain(..at);
            let read = poll_fn(|cx| inbox.poll_fill(cx, &mut self.stream)).await?;
            if read == 0 {
                return Err(QueryError::Closed);
            }
            pending.extend_from_slice(inbox.bytes());
            inbox.consume(read);
        }
    }
}
