//! Which statement is under way, since when, and what came of it so far.
//!
//! Queries and Executes that are not answered stand in a queue, with what they run; replies are told apart by the
//! [`Pipeline`](super::pipeline) and end the oldest. A statement begins when its request came, or when the one before it
//! in a pipeline ended; its execution begins when a server was had. Time between a reply and the next request is the
//! client's own.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::pipeline::Failure;
use crate::clients::LastStatement;
use crate::metrics::{Phase, PoolMetrics};
use crate::pgwire::{backend as tag, cstr};
use crate::query::{Asked, Circumstances, Finished, Origin, Phases, Queries, SqlState};
use crate::sql::Dialect;

/// Portals of one transaction whose statements are remembered.
const PORTALS: usize = 1024;

/// Statements that end at once and are told of together, at most.
const TOGETHER: usize = 256;

/// Who is told of queries, and whose they are.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) queries: Queries,
    pub(super) origin: Arc<Origin>,
    /// The client's number.
    pub(super) client: u64,
    /// Where the statement that was sent last is noted.
    pub(super) last: LastStatement,
}

/// The times of one session's statements.
#[derive(Debug)]
pub(super) struct Timing {
    observed: Option<Observed>,
    /// Queries and Executes that are not answered, oldest first.
    flights: VecDeque<Flight>,
    /// What the unnamed portal runs, and the others.
    portal: Option<Asked>,
    portals: HashMap<Box<[u8]>, Asked>,
    /// What was parsed last: what fails without having been run.
    parsed: Option<Asked>,
    /// Bytes of messages whose Execute has not come yet.
    received: u64,
    /// Statements that ended at one moment, as far as can be told from outside.
    together: Vec<Ended>,
    /// Bytes and rows of replies whose statement has not ended yet.
    sent: u64,
    rows: u64,
    /// When the first byte of the current statement's result came.
    first_reply: Option<Instant>,
    /// When the last statement ended: the next one of a pipeline starts then at the earliest.
    last_done: Instant,
    /// When the session got its server, which process that is, and how long opening it took.
    leased: Instant,
    server_pid: i32,
    connect: Duration,
    /// When the first statement of the transaction came, or could begin in a pipeline.
    began: Option<Instant>,
    /// Since when a transaction waits for its client.
    idle_since: Option<Instant>,
}

/// A Query or Execute.
#[derive(Debug, Default)]
struct Flight {
    /// What it runs, as far as that is known.
    asked: Option<Asked>,
    /// A Query, which stays until its ReadyForQuery.
    simple: bool,
    /// How many of a Query's statements have ended.
    at: usize,
    /// Bytes of the messages that asked for it.
    received: u64,
}

/// How a statement ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End<'a> {
    /// With this command tag; an empty one has none.
    Done(Option<&'a [u8]>),
    /// With an error.
    Failed(&'a Failure, SqlState),
    /// Not yet: some of its rows came, and more may be asked for.
    Suspended,
}

/// A statement that ended.
#[derive(Debug)]
struct Ended {
    at: Instant,
    asked: Option<Asked>,
    /// Which of its text's statements it is.
    number: usize,
    finished: Finished,
    pinned: bool,
}

impl Timing {
    /// Of a session that nothing is known of.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            observed: None,
            flights: VecDeque::new(),
            portal: None,
            portals: HashMap::new(),
            parsed: None,
            received: 0,
            together: Vec::new(),
            sent: 0,
            rows: 0,
            first_reply: None,
            last_done: now,
            leased: now,
            server_pid: 0,
            connect: Duration::ZERO,
            began: None,
            idle_since: None,
        }
    }

    /// Tells this one of queries from now on.
    pub(super) fn observe(&mut self, observed: Option<Observed>) {
        self.observed = observed;
    }

    /// Another server from now on: had at this moment, this process, opened for it in so long or not at all.
    pub(super) fn on_server_changed(&mut self, leased: Instant, pid: i32, connect: Duration) {
        self.leased = leased;
        self.server_pid = pid;
        self.connect = connect;
        self.first_reply = None;
        self.began = None;
        self.idle_since = None;
        self.sent = 0;
        self.rows = 0;
    }

    /// A text that is about to be run, as PostgreSQL reads it.
    pub(super) fn ask(&self, text: &[u8], dialect: impl FnOnce() -> Dialect) -> Option<Asked> {
        let observed = self.observed.as_ref()?;
        Some(observed.queries.ask(text, dialect()))
    }

    /// A Query of so many bytes is sent.
    pub(super) fn on_query(&mut self, asked: Option<Asked>, length: usize) {
        self.on_run(asked, true, length);
    }

    #[inline]
    fn on_run(&mut self, asked: Option<Asked>, simple: bool, length: usize) {
        if let (Some(observed), Some(asked)) = (&self.observed, &asked) {
            observed
                .last
                .set(asked.query(0).description().fingerprint.0);
        }
        self.flights.push_back(Flight {
            asked,
            simple,
            at: 0,
            received: std::mem::take(&mut self.received) + length as u64,
        });
    }

    /// A Parse is sent.
    pub(super) fn on_parse(&mut self, asked: Option<&Asked>) {
        if self.observed.is_some() {
            self.parsed = asked.cloned();
        }
    }

    /// A Bind is sent, of a statement that this is known of.
    #[inline]
    pub(super) fn on_bind(&mut self, body: &[u8], asked: Option<&Asked>) {
        let Some(observed) = &self.observed else {
            return;
        };
        let asked = asked.map(|asked| match observed.queries.refreshed(asked) {
            Some(anew) => anew,
            None => asked.clone(),
        });
        match cstr(body).map_or(body, |(portal, _)| portal) {
            b"" => self.portal = asked,
            portal => match asked {
                Some(asked) if self.portals.len() < PORTALS => {
                    self.portals.insert(portal.into(), asked);
                }
                _ => drop(self.portals.remove(portal)),
            },
        }
    }

    /// An Execute of so many bytes is sent.
    #[inline]
    pub(super) fn on_execute(&mut self, body: &[u8], length: usize) {
        let asked = match cstr(body).map_or(body, |(portal, _)| portal) {
            b"" => self.portal.clone(),
            portal => self.portals.get(portal).cloned(),
        };
        self.on_run(asked, false, length);
    }

    /// So many bytes are sent that belong to the Query or Execute behind them.
    #[inline]
    pub(super) fn on_received(&mut self, length: usize) {
        self.received += length as u64;
    }

    /// So many bytes are sent that belong to the COPY under way.
    #[inline]
    pub(super) fn on_copy_data(&mut self, length: usize) {
        if let Some(flight) = self.flights.front_mut() {
            flight.received += length as u64;
        }
    }

    /// Something is asked that came at this moment. For how long its transaction had waited for it.
    #[inline]
    pub(super) fn on_asked(&mut self, came: Instant) -> Option<Duration> {
        let since = self.idle_since.take()?;
        Some(came.saturating_duration_since(since))
    }

    /// A reply for the client came: so many bytes with this tag. `simple` says that a Query is answered.
    #[inline]
    pub(super) fn on_reply(&mut self, tag: u8, length: usize, simple: bool, now: Instant) {
        self.sent += length as u64;
        self.rows += u64::from(tag == tag::DATA_ROW);
        if self.first_reply.is_none() && is_result(tag, simple) {
            self.first_reply = Some(now);
        }
    }

    /// A statement that was sent at this moment ended, or gave some of its rows; `pinned` says that the session keeps its server.
    pub(super) fn on_end(
        &mut self,
        sent: Instant,
        end: End<'_>,
        pinned: bool,
        (pool, now): (&PoolMetrics, Instant),
    ) {
        let (flight, more) = self.ended(end);
        let finished = self.finish(sent, end, flight.received, now);
        self.last_done = now;
        if self.together.first().is_some_and(|first| first.at != now) {
            self.tell_together(pool);
        }
        let ended = Ended {
            at: now,
            asked: flight.asked,
            number: flight.at,
            finished,
            pinned,
        };
        let goes_on = matches!(end, End::Done(_)) && more;
        if self.together.is_empty() && !goes_on {
            return self.tell(&ended, pool);
        }
        self.together.push(ended);
        if !goes_on || self.together.len() == TOGETHER {
            self.tell_together(pool);
        }
    }

    /// The figures of what ended.
    fn finish(&mut self, sent: Instant, end: End<'_>, received: u64, now: Instant) -> Finished {
        let started = sent.max(self.last_done);
        let running = started.max(self.leased);
        self.began.get_or_insert(started);
        let first = self.first_reply.take().unwrap_or(now).max(running);
        let waited = running.saturating_duration_since(started);
        let connect = std::mem::take(&mut self.connect).min(waited);
        let returned = std::mem::take(&mut self.rows);
        Finished {
            phases: Phases {
                wait: waited.saturating_sub(connect),
                connect,
                execute: first.saturating_duration_since(running),
                transfer: now.saturating_duration_since(first),
            },
            rows: match end {
                End::Done(Some(command)) => affected(command),
                End::Done(None) | End::Failed(..) => 0,
                End::Suspended => returned,
            },
            received,
            sent: std::mem::take(&mut self.sent),
            failure: match end {
                End::Failed(_, sqlstate) => Some(sqlstate),
                _ => None,
            },
            over: !matches!(end, End::Suspended),
        }
    }

    /// Tells of statements whose results came at once. PostgreSQL sends when its buffer is full or everything is done, so nobody
    /// outside can say which of them took the time: all of them have an equal part, but for those that take none.
    fn tell_together(&mut self, pool: &PoolMetrics) {
        let mut together = std::mem::take(&mut self.together);
        let times = together.iter().map(|ended| ended.finished.phases);
        let execute: Duration = times.clone().map(|phases| phases.execute).sum();
        let transfer: Duration = times.map(|phases| phases.transfer).sum();
        let working = together.iter().filter(|ended| !ended.is_idle()).count();
        let all = working == 0;
        let parts = u32::try_from(if all { together.len() } else { working }).unwrap_or(u32::MAX);
        for ended in &mut together {
            let part = all || !ended.is_idle();
            let of = |sum: Duration| if part { sum / parts } else { Duration::ZERO };
            ended.finished.phases.execute = of(execute);
            ended.finished.phases.transfer = of(transfer);
            self.tell(ended, pool);
        }
        // Its space is used again.
        together.clear();
        self.together = together;
    }

    fn tell(&self, ended: &Ended, pool: &PoolMetrics) {
        let finished = &ended.finished;
        if finished.over {
            let ok = finished.failure.is_none();
            let took = finished.phases.total().as_secs_f64();
            pool.query_finished(took, ok);
            if ok {
                pool.returned_rows(finished.rows);
            }
        }
        // The wait for a server and the opening of one are told by the pool.
        pool.phase(Phase::Execute, finished.phases.execute);
        pool.phase(Phase::Transfer, finished.phases.transfer);
        let (Some(observed), Some(asked)) = (&self.observed, &ended.asked) else {
            return;
        };
        let query = asked.query(ended.number);
        if finished.over {
            observed.queries.count_tags(query, asked);
        }
        let circumstances = || Circumstances {
            client: observed.client,
            server_pid: Some(self.server_pid),
            pinned: ended.pinned,
            ..asked.circumstances()
        };
        observed
            .queries
            .finished(query, finished, &observed.origin, ended.at, circumstances);
    }

    /// What ended, and whether something is behind it whose result may come at once. A Query stays in the queue until its
    /// ReadyForQuery.
    fn ended(&mut self, end: End<'_>) -> (Flight, bool) {
        if let End::Failed(failure, _) = end
            && !failure.simple
        {
            let dropped = failure.dropped_statements.min(self.flights.len());
            let first = self.flights.drain(..dropped).next();
            let parsed = || Flight {
                asked: self.parsed.clone(),
                received: self.received,
                ..Flight::default()
            };
            let ended = first.unwrap_or_else(parsed);
            self.received = 0;
            return (ended, false);
        }
        let Some(flight) = self.flights.front_mut() else {
            return (Flight::default(), false);
        };
        if !flight.simple {
            let ended = self.flights.pop_front().unwrap_or_default();
            let next = self.flights.front();
            return (ended, next.is_some_and(|next| !next.simple));
        }
        let ended = Flight {
            asked: flight.asked.clone(),
            received: std::mem::take(&mut flight.received),
            ..*flight
        };
        flight.at += 1;
        let of_text = flight.asked.as_ref().map_or(1, Asked::len);
        let more = flight.at < of_text;
        if let (true, Some(observed), Some(asked)) = (more, &self.observed, &flight.asked) {
            let next = asked.query(flight.at).description();
            observed.last.set(next.fingerprint.0);
        }
        (ended, more)
    }

    /// ReadyForQuery came; with `simple` it ends a Query. With `quiet` everything is answered; `idle` says that no transaction
    /// is open. Returns when the transaction that ended began.
    #[inline]
    pub(super) fn on_ready(
        &mut self,
        simple: bool,
        quiet: bool,
        idle: bool,
        (pool, now): (&PoolMetrics, Instant),
    ) -> Option<Instant> {
        if !self.together.is_empty() {
            self.tell_together(pool);
        }
        self.first_reply = None;
        self.sent = 0;
        self.rows = 0;
        if simple {
            self.flights.pop_front();
        }
        if !idle {
            self.idle_since = quiet.then_some(now);
            return None;
        }
        if quiet && !self.portals.is_empty() {
            self.portals.clear();
        }
        self.began.take()
    }

    /// What is under way will never end: the client left, or the server was lost.
    pub(super) fn abandon(&mut self, pool: &PoolMetrics) {
        self.tell_together(pool);
        let flights = std::mem::take(&mut self.flights);
        let (Some(observed), Some(flight)) = (&self.observed, flights.front()) else {
            return;
        };
        if let Some(asked) = &flight.asked {
            observed.queries.unfinished(asked.query(flight.at));
        }
    }
}

impl Ended {
    /// Whether it took no time worth a mention: it only says what is to be done later.
    fn is_idle(&self) -> bool {
        let operation = self.asked.as_ref().map(|asked| {
            let description = asked.query(self.number).description();
            &*description.operation
        });
        matches!(
            operation,
            Some("BEGIN" | "START" | "SAVEPOINT" | "RELEASE" | "SET" | "RESET")
        )
    }
}

/// Whether a reply is part of a statement's result. Those to Parse, Bind, Describe and Close come before it runs; to a Query
/// the columns come as it begins.
#[inline]
fn is_result(tag: u8, simple: bool) -> bool {
    match tag {
        tag::ROW_DESCRIPTION => simple,
        tag::PARSE_COMPLETE
        | tag::BIND_COMPLETE
        | tag::CLOSE_COMPLETE
        | tag::NO_DATA
        | tag::PARAMETER_DESCRIPTION
        | tag::NOTICE
        | tag::NOTIFICATION
        | tag::PARAMETER_STATUS => false,
        _ => true,
    }
}

/// The rows that a statement returned or changed, by its command tag. What a MOVE passed over is neither.
fn affected(command: &[u8]) -> u64 {
    if command.starts_with(b"MOVE ") {
        return 0;
    }
    let Some(at) = memchr::memrchr(b' ', command) else {
        return 0;
    };
    let digits = &command[at + 1..];
    let number = std::str::from_utf8(digits).ok();
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_the_tag() {
        for (command, rows) in [
            (&b"SELECT 12"[..], 12),
            (b"INSERT 0 3", 3),
            (b"UPDATE 0", 0),
            (b"FETCH 7", 7),
            (b"MOVE 7", 0),
            (b"COPY 100", 100),
            (b"CREATE TABLE", 0),
            (b"BEGIN", 0),
            (b"", 0),
        ] {
            assert_eq!(affected(command), rows, "{}", command.escape_ascii());
        }
    }
}
