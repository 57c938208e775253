//! Which statement does what to its session: texts are looked at when they are sent, and count when their command is
//! complete.
//!
//! A Query may hold several statements, each with a command tag; an Execute runs the statement that its portal was bound
//! to. So what was found in a text goes with the statement's name, then with the portal's, then with the Query or Execute
//! that is not answered yet. Nearly all texts say nothing: for them nothing is kept but a place in that queue.

use std::collections::VecDeque;
use std::sync::Arc;

use super::left::{Defaulted, Left};
use super::phase::Request;
use super::pins::{Pins, STATE};
use crate::backend::{Parameters, Reset, Server, TxStatus};
use crate::cluster::Base;
use crate::metrics::PoolMetrics;
use crate::pgwire::cstr;
use crate::sql::{Action, Found, Statement, classify};
use examining::Examining;
use tags::{fits, is_ambiguous, is_understood, leaves_nothing};
use texts::{Bound, Texts};
use withheld::Withheld;

mod examining;
mod running;
mod tags;
mod texts;
mod withheld;

/// What a session does to its servers.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The parameters that the client logged in with.
    login: Option<Arc<Base>>,
    /// Whether what is left keeps the server.
    pinning: bool,
    /// Queries and Executes that are not answered, oldest first.
    flights: VecDeque<Flight>,
    /// Some of them say something, or did since there were none.
    telling: bool,
    /// DISCARD ALL was sent, and neither the Sync behind it nor anything that runs with the values it takes away.
    due: bool,
    /// An error came since the last ReadyForQuery.
    failed: bool,
    /// Only of a session that has said something that counts.
    more: Option<Box<More>>,
}

#[derive(Debug, Default)]
struct More {
    texts: Texts,
    withheld: Withheld,
    left: Left,
    examining: Examining,
}

/// A statement that was run: what was found in its text, and which of several it is.
struct Done {
    bound: Bound,
    at: Option<usize>,
}

/// What an error ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// A Query.
    Query,
    /// An Execute, with so many Queries and Executes behind it, itself included.
    Execute(usize),
    /// Something else, with so many Queries and Executes behind it.
    Other(usize),
}

/// Something that is not answered.
#[derive(Debug)]
enum Flight {
    /// A Query, and how many of its statements are complete.
    Query(Option<Arc<Found>>, usize),
    Execute(Option<Bound>),
}

impl State {
    /// Of a session that logged in with these parameters.
    pub(super) fn new(login: Arc<Base>, pinning: bool) -> Self {
        Self {
            login: Some(login),
            pinning,
            ..Self::default()
        }
    }

    fn more(&mut self) -> &mut More {
        self.more.get_or_insert_default()
    }

    /// A Query is sent; this is its text, or the front of it.
    pub(super) fn on_query(&mut self, text: &[u8], whole: bool) {
        let found = if whole {
            classify(text).map(Arc::new)
        } else {
            self.more().texts.begin(text, None);
            None
        };
        self.telling |= found.is_some() || !whole;
        self.flights.push_back(Flight::Query(found, 0));
    }

    /// A Parse is sent; this is its text, or the front of it.
    pub(super) fn on_parse(&mut self, name: &[u8], text: &[u8], whole: bool) {
        if !whole {
            return self.more().texts.begin(text, Some(name.into()));
        }
        match classify(text) {
            Some(found) => self.more().texts.put(name, Some(found)),
            None => {
                if let Some(more) = &mut self.more {
                    more.texts.put(name, None);
                }
            }
        }
    }

    /// More of a text that comes in pieces.
    #[inline]
    pub(super) fn on_piece(&mut self, piece: &[u8], last: bool) {
        if let Some(more) = &mut self.more
            && let Some(found) = more.texts.on_piece(piece, last)
            && let Some(Flight::Query(query, _)) = self.flights.back_mut()
        {
            *query = Some(found);
        }
    }

    /// A Bind is sent.
    #[inline]
    pub(super) fn on_bind(&mut self, body: &[u8]) {
        if let Some(more) = &mut self.more {
            more.texts.on_bind(body);
        }
    }

    /// A Close is sent.
    pub(super) fn on_close(&mut self, body: &[u8]) {
        if let Some(more) = &mut self.more
            && let Some((b'S', name)) = body.split_first()
        {
            more.texts
                .put(cstr(name).map_or(name, |(name, _)| name), None);
        }
    }

    /// An Execute is sent.
    #[inline]
    pub(super) fn on_execute(&mut self, body: &[u8]) {
        let bound = self.more.as_mut().and_then(|more| {
            let portal = cstr(body).map_or(body, |(portal, _)| portal);
            more.texts.on_execute(portal)
        });
        self.telling |= bound.is_some();
        self.flights.push_back(Flight::Execute(bound));
    }

    /// The statements that give parameters the client's own values, behind the Execute that was sent last and is going to
    /// give them the server's. Whoever asks sends them. DISCARD ALL is committed at once, so that another may follow it, and
    /// would not behind one of ours: what it takes away is due before something else.
    pub(super) fn restoring_behind(&mut self, server: &Server) -> Vec<String> {
        let (Some(Flight::Execute(Some(bound))), Some(login)) =
            (self.flights.back_mut(), &self.login)
        else {
            return Vec::new();
        };
        let [statement] = bound.found.statements.as_slice() else {
            return Vec::new();
        };
        if statement.action == Action::DiscardAll {
            self.due = true;
            return Vec::new();
        }
        let Some(defaulted) = Defaulted::by(&statement.action) else {
            return Vec::new();
        };
        bound.restored = true;
        login.restoring(server.initial_parameters(), |name| defaulted.has(name))
    }

    /// The statements that are due before a message.
    #[inline]
    pub(super) fn due(&mut self, request: Request, body: &[u8], server: &Server) -> Vec<String> {
        if !self.due || self.may_go_before(request, body) {
            return Vec::new();
        }
        self.due = false;
        let login = self.login.as_ref();
        login.map_or_else(Vec::new, |login| {
            login.restoring(server.initial_parameters(), |_| true)
        })
    }

    fn may_go_before(&self, request: Request, body: &[u8]) -> bool {
        let texts = self.more.as_ref().map(|more| &more.texts);
        let (first, rest) = cstr(body).unwrap_or((body, &[]));
        let found = match request {
            Request::Parse => classify(cstr(rest).map_or(rest, |(text, _)| text)).map(Arc::new),
            Request::Bind => {
                let name = cstr(rest).map_or(rest, |(name, _)| name);
                texts.and_then(|texts| texts.statement(name))
            }
            Request::Execute => texts.and_then(|texts| texts.portal(first)),
            Request::Query | Request::FunctionCall => return false,
            _ => return true,
        };
        let discards = |found: Arc<Found>| matches!(found.statements.as_slice(), [one] if one.action == Action::DiscardAll);
        found.is_some_and(discards)
    }

    /// A Sync is sent.
    #[inline]
    pub(super) fn on_sync(&mut self) {
        self.due = false;
    }

    /// A FunctionCall is sent: what it does cannot be seen.
    pub(super) fn on_function_call(&mut self) {
        self.more().left.on_function_call();
    }

    /// A statement was run to its end. Without a command tag it was empty.
    #[inline]
    pub(super) fn on_done(&mut self, tag: Option<&[u8]>, reported: &Parameters) {
        let done = match self.flights.front_mut() {
            Some(Flight::Query(found, at)) if tag.is_some() => {
                *at += 1;
                let at = *at - 1;
                found.clone().map(|found| Done {
                    bound: Bound::of(found, 0),
                    at: Some(at),
                })
            }
            Some(Flight::Query(..)) => return,
            Some(Flight::Execute(_)) => self.executed(),
            None => None,
        };
        let Some(tag) = tag else {
            return;
        };
        // The rule: most statements say nothing, and most sessions have nothing that the end of a transaction could change.
        let idle = match &self.more {
            None => tag != b"DISCARD ALL" && is_understood(tag, None),
            Some(more) => !more.texts.too_many && leaves_nothing(tag),
        };
        if done.is_none() && idle {
            return;
        }
        self.on_tag(tag, done, reported);
    }

    /// The portal has more rows: another Execute may ask for them, or none.
    pub(super) fn on_suspended(&mut self, reported: &Parameters) {
        if let Some(done) = self.executed() {
            self.on_tag(b"SELECT", Some(done), reported);
        }
    }

    fn executed(&mut self) -> Option<Done> {
        match self.flights.pop_front() {
            Some(Flight::Execute(bound)) => bound.map(|bound| Done { bound, at: None }),
            _ => None,
        }
    }

    fn on_tag(&mut self, tag: &[u8], done: Option<Done>, reported: &Parameters) {
        let login = self.login.clone();
        let more = self.more.get_or_insert_default();
        let left = &mut more.left;
        let mut action = None;
        let mut understood = false;
        if let Some(Done { bound, at }) = &done {
            let found = &bound.found;
            if is_ambiguous(found, reported) {
                left.on_unknown();
            }
            let one = match (at, found.statements.as_slice()) {
                (Some(at), statements) => statements.get(*at),
                (None, [statement]) => Some(statement),
                (None, statements) => {
                    let mut fitting = statements.iter().filter(|one| fits(tag, &one.action));
                    fitting.next().filter(|_| fitting.next().is_none())
                }
            };
            match one {
                Some(statement) => {
                    action = Some(&statement.action);
                    left.on_one(statement, bound, login.as_deref());
                }
                None => {
                    understood = left.on_several(tag, found, bound.parameters, login.as_deref());
                    // The text has fewer than there were answers.
                    if at.is_some() {
                        left.on_unknown();
                    }
                }
            }
        }
        match tag {
            b"COMMIT" | b"PREPARE TRANSACTION" => left.on_commit(),
            b"ROLLBACK" if !matches!(action, Some(Action::RollbackTo(_))) => left.on_rollback(),
            b"DISCARD ALL" if action.is_none() => left.on_discard_all(),
            _ => {}
        }
        if more.texts.too_many || !understood && !is_understood(tag, action) {
            left.on_unknown();
        }
    }

    /// An error came.
    pub(super) fn on_failed(&mut self, ended: Ended) {
        self.failed = true;
        let (ran, behind) = match ended {
            Ended::Query => (true, 0),
            Ended::Execute(behind) => (true, behind),
            Ended::Other(behind) => (false, behind),
        };
        let failed = match self.flights.front() {
            Some(Flight::Query(Some(found), at)) if ran => {
                Some((Bound::of(found.clone(), 0), Some(*at)))
            }
            Some(Flight::Execute(Some(bound))) if ran => Some((bound.clone(), None)),
            _ => None,
        };
        self.flights.drain(..behind.min(self.flights.len()));
        if let Some((bound, at)) = failed {
            let all = bound.found.statements.iter().enumerate();
            let ran = all.filter(|(place, _)| at.is_none_or(|at| at == *place));
            ran.for_each(|(_, statement)| self.more().left.on_failed(statement, bound.parameters));
        }
        if let Some(more) = &mut self.more {
            more.texts.doubt_names();
        }
    }

    /// ReadyForQuery. With `quiet`, everything is answered.
    #[inline]
    pub(super) fn on_ready(&mut self, status: TxStatus, simple: bool, quiet: bool) {
        if simple {
            self.flights.pop_front();
        }
        self.telling &= !self.flights.is_empty();
        let failed = std::mem::take(&mut self.failed);
        let Some(more) = &mut self.more else {
            return;
        };
        if status == TxStatus::Idle {
            if failed {
                more.left.on_rollback();
            } else {
                more.left.on_commit();
            }
        }
        if quiet {
            more.texts.on_quiet(status == TxStatus::Idle);
        }
    }

    /// Pins for what is left, and for nothing else. Called between transactions.
    #[inline]
    pub(super) fn pin(&mut self, pins: &mut Pins, metrics: &Arc<PoolMetrics>) {
        let Some(more) = &self.more else {
            return;
        };
        if self.pinning {
            let left: Vec<_> = more.left.reasons().collect();
            for reason in STATE {
                if left.contains(&reason) {
                    pins.pin(reason, metrics);
                } else {
                    pins.unpin(reason);
                }
            }
        }
        let More {
            texts,
            withheld,
            left,
            examining,
        } = &**more;
        if texts.is_empty() && withheld.is_empty() && left.is_empty() && examining.is_empty() {
            self.more = None;
        }
    }

    /// Whether what comes next must wait: something that is not answered gives parameters the server's defaults.
    #[inline]
    pub(super) fn is_defaulting(&self) -> bool {
        let left = self.more.as_ref().map(|more| &more.left);
        left.is_some_and(|left| left.defaulted().any())
            || self.telling
                && self.flights.iter().any(|flight| {
                    let (found, restored) = match flight {
                        Flight::Query(found, _) => (found.as_ref(), false),
                        Flight::Execute(bound) => (
                            bound.as_ref().map(|bound| &bound.found),
                            bound.as_ref().is_some_and(|bound| bound.restored),
                        ),
                    };
                    // What is run behind DISCARD ALL may fail without it.
                    let waits = |statement: &Statement| {
                        Defaulted::by(&statement.action).is_some()
                            && (!restored || statement.action == Action::DiscardAll)
                    };
                    found.is_some_and(|found| found.statements.iter().any(waits))
                })
    }

    /// The statement that gives back what was given the server's default since the last ReadyForQuery.
    pub(super) fn restoring(&mut self, status: TxStatus, server: &Server) -> Vec<String> {
        let (Some(more), Some(login)) = (&mut self.more, &self.login) else {
            return Vec::new();
        };
        // In a transaction that failed nothing can be done; its end takes them back.
        if status == TxStatus::Failed {
            more.withheld.on_failed();
            return Vec::new();
        }
        let statements = if more.left.defaulted().any() {
            let defaulted = more.left.take_defaulted(status == TxStatus::InTransaction);
            login.restoring(server.parameters(), |name| defaulted.has(name))
        } else {
            Vec::new()
        };
        more.withheld.on_restoring(!statements.is_empty());
        statements
    }

    /// A query about parameters that may have been set back, or what gives them their defaults.
    pub(super) fn examining(&mut self) -> Option<String> {
        let more = self.more.as_mut().filter(|_| self.pinning)?;
        more.examining.next(&mut more.left)
    }

    /// A statement of ours was completed.
    pub(super) fn on_examined(&mut self, tag: &[u8]) {
        if let Some(more) = &mut self.more {
            more.examining.on_done(tag, &mut more.left);
        }
    }

    /// A query of ours failed. Whether it was about parameters.
    pub(super) fn on_examination_failed(&mut self) -> bool {
        let more = self.more.as_mut();
        more.is_some_and(|more| more.examining.on_failed())
    }

    /// Whether this value of a parameter is not for the client to know.
    pub(super) fn keeps_status(&mut self, name: &str, value: &str, server: &Server) -> bool {
        let (Some(more), Some(login)) = (&mut self.more, &self.login) else {
            return false;
        };
        // PostgreSQL tells of parameters when a transaction has ended, ahead of the ReadyForQuery.
        let defaulted = match self.failed {
            true => more.left.defaulted_after_failure(),
            false => more.left.defaulted(),
        };
        more.withheld.keeps((name, value), defaulted, login, server)
    }

    /// What must be done to the server before others use it. What is under way may leave anything.
    pub(super) fn reset(&self) -> Reset {
        let mut flights = self.flights.iter();
        let under_way = flights
            .any(|flight| matches!(flight, Flight::Query(Some(_), _) | Flight::Execute(Some(_))));
        let more = self.more.as_ref();
        let left = more.map_or(Reset::NOTHING, |more| more.left.reset());
        let unknown = under_way || more.is_some_and(|more| more.texts.is_coming());
        left.with(Reset::EVERYTHING, unknown)
    }

    /// The server was reset.
    pub(super) fn on_reset(&mut self) {
        if let Some(more) = &mut self.more {
            more.left = Left::default();
        }
    }
}

#[cfg(test)]
mod tests;
