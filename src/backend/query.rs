//! Questions of our own on a server connection: the ping, ROLLBACK, DISCARD ALL, SET; and finding back to a known state.

use bytes::Buf;

use super::error::{HangUp, ProtocolError, QueryError};
use super::server::{Server, TxStatus};
use super::wire::{HEADER, Message, SMALL, peek, take_i32, take_text};
use crate::pgwire::fields::ServerMessage;
use crate::pgwire::frontend;

/// The most one answer may hold; questions of our own have small answers.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// What a simple query was answered with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SimpleReply {
    /// The command tags, one a statement (`SELECT 1`, `ROLLBACK`).
    pub commands: Vec<String>,
    /// The rows of all statements, as text; `None` is null.
    pub rows: Vec<Vec<Option<String>>>,
    /// Whether the query held no statement at all.
    pub empty: bool,
}

impl Server {
    /// Asks a simple query and reads the answer to its end. The caller sets the deadline.
    ///
    /// Not cancel-safe, but safe: dropped on the way, the server stays marked busy and is never used again.
    pub async fn simple_query(&mut self, sql: &str) -> Result<SimpleReply, QueryError> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone().into());
        }
        if self.busy {
            return Err(QueryError::Busy);
        }
        let request = frontend::query(sql)?;
        self.mark_busy();
        let answer = self.ask(&request).await;
        if let Err(QueryError::Lost(hang_up)) = &answer {
            self.mark_broken(hang_up.clone());
        }
        answer
    }

    async fn ask(&mut self, request: &[u8]) -> Result<SimpleReply, QueryError> {
        self.wire.send(request).await?;
        let mut reply = SimpleReply::default();
        let mut refused = None;
        let mut size = 0;
        loop {
            let message = self.wire.receive(ANSWER_LIMIT).await?;
            size += message.body.len();
            if size > ANSWER_LIMIT {
                return Err(QueryError::TooLarge {
                    limit: ANSWER_LIMIT,
                });
            }
            match message.tag {
                b'Z' => {
                    self.apply_ready(&message)?;
                    self.mark_idle();
                    return match refused {
                        Some(message) => Err(QueryError::Server(message)),
                        None => Ok(reply),
                    };
                }
                b'E' => {
                    self.absorb(message.tag, &message.body);
                    if let Some(broken) = &self.broken {
                        return Err(broken.clone().into());
                    }
                    refused.get_or_insert(Box::new(ServerMessage::parse(&message.body)));
                }
                b'S' | b'N' | b'A' => self.apply_unasked(&message)?,
                b'G' | b'W' => {
                    let refusal = frontend::copy_fail("no data for a COPY here")?;
                    self.wire.send(&refusal).await?;
                }
                _ => reply.take_in(&message)?,
            }
        }
    }

    /// Reads and throws away until `owed` ReadyForQuery were seen, and leaves the server idle with the last one's status.
    /// A message of any length is passed over without being held. The caller sets the deadline.
    ///
    /// Cancel-safe in the sense of [`simple_query`](Self::simple_query): dropped, the server stays busy. A COPY that wants
    /// data from us is an error: the data is not ours to give.
    pub async fn recover_to_ready(&mut self, owed: usize) -> Result<(), HangUp> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        self.mark_busy();
        let recovered = self.discard_until_ready(owed).await;
        match &recovered {
            Ok(()) => self.mark_idle(),
            Err(hang_up) => self.mark_broken(hang_up.clone()),
        }
        recovered
    }

    async fn discard_until_ready(&mut self, mut owed: usize) -> Result<(), HangUp> {
        while owed > 0 {
            if self.skip > 0 {
                let now = self
                    .wire
                    .unread
                    .len()
                    .min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                self.wire.unread.advance(now);
                self.skip -= now as u64;
                if self.skip > 0 {
                    self.wire.fill().await?;
                }
                continue;
            }
            let Some((tag, body)) = peek(&self.wire.unread)? else {
                self.wire.fill().await?;
                continue;
            };
            match tag {
                b'Z' => {
                    let message = self.wire.receive(SMALL).await?;
                    self.apply_ready(&message)?;
                    owed -= 1;
                }
                b'S' | b'E' => {
                    let message = self.wire.receive(SMALL).await?;
                    self.absorb(message.tag, &message.body);
                    if let Some(broken) = &self.broken {
                        return Err(broken.clone());
                    }
                }
                b'G' | b'W' => {
                    let expected = "the end of a reply";
                    return Err(ProtocolError::Unexpected { tag, expected }.into());
                }
                _ => {
                    self.wire.unread.advance(HEADER);
                    self.skip = body as u64;
                }
            }
        }
        Ok(())
    }

    fn apply_ready(&mut self, message: &Message) -> Result<(), HangUp> {
        let status = message.body.first().copied().and_then(TxStatus::from_byte);
        self.status = status.ok_or(ProtocolError::Malformed { tag: message.tag })?;
        Ok(())
    }
}

impl SimpleReply {
    fn take_in(&mut self, message: &Message) -> Result<(), HangUp> {
        match message.tag {
            b'C' => {
                let tag = take_text(&mut &message.body[..]);
                let tag = tag.ok_or(ProtocolError::Malformed { tag: b'C' })?;
                self.commands
                    .push(String::from_utf8_lossy(tag).into_owned());
            }
            b'D' => {
                let row = read_row(&message.body);
                self.rows
                    .push(row.ok_or(ProtocolError::Malformed { tag: b'D' })?);
            }
            b'I' => self.empty = true,
            // RowDescription, and the data of a COPY out that nobody here wants.
            b'T' | b'H' | b'd' | b'c' => {}
            tag => {
                let expected = "the answer to a simple query";
                return Err(ProtocolError::Unexpected { tag, expected }.into());
            }
        }
        Ok(())
    }
}

fn read_row(body: &[u8]) -> Option<Vec<Option<String>>> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    // At most 65,535 values by the format, and each needs four bytes of the message before it costs memory.
    let count = u16::from_be_bytes(*count);
    let mut row = Vec::new();
    for _ in 0..count {
        row.push(match take_i32(&mut rest)? {
            -1 => None,
            length => {
                let (value, tail) = rest.split_at_checked(usize::try_from(length).ok()?)?;
                rest = tail;
                Some(String::from_utf8_lossy(value).into_owned())
            }
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_row_with_a_null() {
        let row = read_row(b"\0\x02\0\0\0\x02ab\xff\xff\xff\xff").unwrap();
        assert_eq!(row, [Some("ab".to_owned()), None]);
    }

    #[test]
    fn a_row_that_promises_more_than_it_holds_is_malformed() {
        assert_eq!(read_row(b"\0\x02\0\0\0\x02ab"), None);
        assert_eq!(read_row(b"\0\x01\x7f\xff\xff\xffab"), None);
        assert_eq!(read_row(b"\0\x01\xff\xff\xff\xfeab"), None);
    }

    proptest! {
        #[test]
        fn no_row_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = read_row(&bytes);
        }
    }
}
