//! RESET gives a client what it logged in with.
//!
//! On a direct connection the startup packet's values are what RESET, RESET ALL, SET … TO DEFAULT and DISCARD ALL go back
//! to. A pool's server was opened by somebody else: it goes back to its own. So behind such a statement a query of ours
//! sets the client's values, in the same transaction. In the extended protocol it goes at once behind the Execute, and whatever
//! follows runs with the client's values. Behind a simple Query the client gets its ReadyForQuery, and is told of changed values,
//! when ours is answered; what the client sends meanwhile waits.

use tokio::time::Instant;

use super::phase::Request;
use super::pipeline::Owed;
use super::server_side::{Told, error_field};
use super::sharing::Noted;
use super::traffic::Traffic;
use crate::backend::{Server, TxStatus};
use crate::pgwire::{HEADER, Header, Outbox, cstr, frontend};

impl Traffic {
    /// Whether a message must wait until the client's values are given back. Only what is sure to be answered without it is
    /// waited for: within a batch that has no Sync yet, what follows a RESET runs with the server's defaults.
    #[inline]
    pub(super) fn must_wait_for_defaults(&self, request: Request) -> bool {
        self.state.is_defaulting()
            && self.pipeline.ready_owed() > 0
            && !matches!(
                request,
                Request::Flush | Request::CopyData | Request::CopyEnd
            )
    }

    /// What was given the server's default since the last ReadyForQuery is given the client's own.
    pub(super) fn restore_login(&mut self, status: TxStatus, server: &Server, now: Instant) {
        let mut statements = self.state.restoring(status, server);
        if statements.is_empty() && status == TxStatus::Idle {
            statements.extend(self.state.examining());
        }
        if statements.is_empty() {
            return;
        }
        self.gather();
        self.ahead.message(frontend::QUERY, 0, |body| {
            body.extend_from_slice(statements.join("; ").as_bytes());
            body.push(0);
        });
        self.pipeline.on_client(Owed::OwnQuery, now);
        // A Query drops the unnamed statement.
        self.unnamed.on_server_changed();
        self.withheld = true;
    }

    /// The client's own values could not be given back: it is told so, as an error of the statement before. Or parameters
    /// could not be examined: they stay what they are taken for, and nobody is told. True if the server is gone.
    pub(super) fn on_own_failed(
        &mut self,
        header: Header,
        server: &mut Server,
        told: &Told<'_>,
    ) -> bool {
        let bytes = &self.from_server.bytes()[self.to_client..];
        let message = &bytes[HEADER..header.total.min(bytes.len())];
        let fatal = matches!(error_field(message, b'V'), Some(b"FATAL" | b"PANIC"));
        if fatal {
            server.absorb(header.tag, message);
        } else if self.state.on_examination_failed() {
            self.withheld = true;
            return false;
        }
        let sqlstate = error_field(message, b'C').unwrap_or_default();
        let sqlstate = std::str::from_utf8(sqlstate).unwrap_or_default();
        told.proxy.query_error(sqlstate);
        server.doubt_parameters();
        fatal
    }

    /// An Execute; behind one that gives parameters the server's defaults, ours that gives them the client's.
    pub(super) fn note_execute(
        &mut self,
        header: Header,
        now: Instant,
        server: &mut Server,
    ) -> Noted {
        self.pipeline.on_client(Owed::Execute, now);
        if header.total > self.from_client.len() - self.to_server {
            return Noted::AsItIs;
        }
        let statements = self.state.restoring_behind(server);
        if statements.is_empty() {
            return Noted::AsItIs;
        }
        self.to_server += header.total;
        self.give_back_within(statements, now, server);
        Noted::Rewritten(0)
    }

    /// What is due before the client's next message is sent before it.
    #[inline]
    pub(super) fn give_back_due(
        &mut self,
        request: Request,
        header: Header,
        now: Instant,
        server: &mut Server,
    ) {
        let bytes = &self.from_client.bytes()[self.to_server..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let statements = self.state.due(request, body, server);
        if !statements.is_empty() {
            self.give_back_within(statements, now, server);
        }
    }

    /// Runs these within the client's batch, behind what is marked.
    fn give_back_within(&mut self, statements: Vec<String>, now: Instant, server: &mut Server) {
        self.gather();
        for statement in statements {
            let number = server.copies().scratch();
            let mut name = Vec::new();
            server.copies().write_name(number, &mut name);
            name.push(0);
            write_batch(&mut self.ahead, &name, &statement);
            self.pipeline.on_client(Owed::OwnBatch(2), now);
        }
    }

    /// Whether the ParameterStatus at the mark tells of a value that is the server's and not for long, or one that the
    /// client has been told. It is taken out then.
    pub(super) fn keeps_from_client(&mut self, header: Header, server: &mut Server) -> bool {
        let bytes = &self.from_server.bytes()[self.to_client..];
        let body = &bytes[HEADER..header.total.min(bytes.len())];
        let text = |bytes| std::str::from_utf8(bytes).ok();
        let status = cstr(body).and_then(|(name, rest)| {
            let (value, _) = cstr(rest)?;
            Some((text(name)?, text(value)?))
        });
        let Some((name, value)) = status else {
            return false;
        };
        if !self.state.keeps_status(name, value, server) {
            return false;
        }
        server.absorb(header.tag, body);
        server.set_applied(0);
        self.from_server.cut(self.to_client, header.total);
        true
    }
}

/// Parse, Bind, Execute and two Closes of a statement, which has this name with its NUL, as its portal has.
fn write_batch(ahead: &mut Outbox, name: &[u8], statement: &str) {
    ahead.message(frontend::PARSE, 0, |body| {
        body.extend_from_slice(name);
        body.extend_from_slice(statement.as_bytes());
        body.extend_from_slice(&[0; 3]);
    });
    ahead.message(frontend::BIND, 0, |body| {
        body.extend_from_slice(name);
        body.extend_from_slice(name);
        body.extend_from_slice(&[0; 6]);
    });
    ahead.message(frontend::EXECUTE, 0, |body| {
        body.extend_from_slice(name);
        body.extend_from_slice(&[0; 4]);
    });
    for kind in *b"PS" {
        ahead.message(frontend::CLOSE, 0, |body| {
            body.push(kind);
            body.extend_from_slice(name);
        });
    }
}
