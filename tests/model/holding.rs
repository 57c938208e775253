//! Who may hold a server: reckoned from what was sent, never from what was answered, and on the safe side.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalogue::Effect;
use crate::pins::{Leaves, Pin};
use crate::program::{Action, COPY, Message, Program, Statement, Step};

/// What is known of all clients of a program.
#[derive(Debug)]
pub(crate) struct Holding {
    clients: Vec<Client>,
    session_mode: bool,
}

/// What is known of one.
#[derive(Debug, Default)]
pub(crate) struct Client {
    connected: bool,
    left: bool,
    /// A transaction may be open.
    pub in_transaction: bool,
    /// Messages were sent that no Sync has ended.
    pub open_batch: bool,
    /// One of them describes a statement.
    pub describes: bool,
    /// What each name may stand for: a Parse may have failed, or been skipped, and then what was there before it stays.
    names: BTreeMap<String, Vec<Statement>>,
    /// What portals may run.
    portals: BTreeMap<String, Vec<Statement>>,
    kept: BTreeSet<Leaves>,
    /// What was sent while no server was free: it holds one when its turn comes.
    begun: Vec<Message>,
}

impl Client {
    fn holds(&self) -> bool {
        self.in_transaction || self.open_batch || !self.kept.is_empty()
    }

    /// The last statement that was given this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Statement> {
        self.names.get(name)?.last()
    }

    /// Whether what has this name may set a transaction's isolation level.
    pub(crate) fn isolates(&self, name: &str) -> bool {
        let all = self.names.get(name).into_iter().flatten();
        all.into_iter().any(Statement::isolates)
    }

    fn names(&mut self, name: &str, statement: &Statement) {
        let all = self.names.entry(name.to_owned()).or_default();
        all.push(statement.clone());
        if !name.is_empty() {
            self.leaves(Leaves::Named);
        }
    }

    fn leaves(&mut self, what: Leaves) {
        if what.pin() != Pin::Never {
            self.kept.insert(what);
        }
    }

    fn clears(&mut self, what: Leaves) {
        if what == Leaves::Named {
            self.names.clear();
        }
        if what.pin() == Pin::WhileThere {
            self.kept.remove(&what);
        }
    }

    fn runs(&mut self, statement: &Statement) {
        for effect in statement.effects {
            match effect {
                Effect::Leaves(what) => self.leaves(*what),
                Effect::Begins => self.in_transaction = true,
                _ => {}
            }
        }
    }

    /// A query that is all of what is sent, outside of any batch: what it clears is cleared.
    fn runs_alone(&mut self, statement: &Statement) {
        let was_in_transaction = self.in_transaction;
        self.runs(statement);
        for effect in statement.effects {
            match effect {
                Effect::Ends => self.in_transaction = false,
                Effect::Clears(what) if !was_in_transaction => self.clears(*what),
                _ => {}
            }
        }
    }

    fn message(&mut self, message: &Message) {
        match message {
            Message::Query(statement) => self.runs(statement),
            Message::Copy(copying) => {
                self.runs(&copying.statement);
                if copying.extended {
                    self.names(COPY, &copying.statement);
                }
            }
            Message::Parse { name, statement } => {
                self.runs(statement);
                self.names(name, statement);
            }
            Message::Bind { portal, name, .. } => {
                let bound = self.names.get(name).cloned().unwrap_or_default();
                for statement in &bound {
                    self.runs(statement);
                }
                self.portals
                    .entry(portal.clone())
                    .or_default()
                    .extend(bound);
            }
            Message::Execute { portal, .. } => {
                for statement in self.portals.get(portal).cloned().unwrap_or_default() {
                    self.runs(&statement);
                }
            }
            Message::Call => self.leaves(Leaves::Call),
            Message::Describe { kind, .. } => self.describes |= *kind == b'S',
            Message::Sync => self.describes = false,
            Message::Close { .. } | Message::Flush => {}
        }
    }

    fn sent(&mut self, messages: &[Message]) {
        let simple = |message: &Message| matches!(message, Message::Query(_) | Message::Call);
        match messages {
            [Message::Query(statement)] if !self.open_batch => return self.runs_alone(statement),
            _ if !self.open_batch && messages.iter().all(is_close_or_sync) => {
                for message in messages {
                    self.closed(message);
                }
            }
            _ => {}
        }
        for message in messages {
            self.message(message);
        }
        let ends = matches!(messages.last(), Some(Message::Sync));
        self.open_batch = !ends && (self.open_batch || !messages.iter().all(simple));
    }

    /// A Close that nothing can have made the server skip.
    fn closed(&mut self, message: &Message) {
        if let Message::Close { kind: b'S', name } = message {
            self.names.remove(name);
            if self.names.keys().all(String::is_empty) {
                self.clears(Leaves::Named);
            }
        }
    }
}

fn is_close_or_sync(message: &Message) -> bool {
    matches!(message, Message::Close { .. } | Message::Sync)
}

impl Holding {
    /// Nobody has logged in yet.
    pub(crate) fn new(session_mode: bool) -> Self {
        Self {
            clients: Vec::new(),
            session_mode,
        }
    }

    /// One client.
    pub(crate) fn client(&mut self, client: usize) -> &mut Client {
        while self.clients.len() <= client {
            self.clients.push(Client::default());
        }
        &mut self.clients[client]
    }

    /// Those who logged in and did not leave.
    pub(crate) fn present(&self) -> Vec<usize> {
        let all = self.clients.iter().enumerate();
        all.filter(|(_, client)| client.connected && !client.left)
            .map(|(number, _)| number)
            .collect()
    }

    /// Whether this client may hold a server.
    pub(crate) fn holds(&self, client: usize) -> bool {
        self.clients.get(client).is_some_and(|known| {
            known.connected && !known.left && (self.session_mode || known.holds())
        })
    }

    /// How many others may.
    pub(crate) fn others(&self, client: usize) -> usize {
        let all = 0..self.clients.len();
        all.filter(|other| *other != client && self.holds(*other))
            .count()
    }

    /// Takes note of a step.
    pub(crate) fn apply(&mut self, program: &Program, step: &Step) {
        let startup = program.clients[step.client];
        let client = self.client(step.client);
        if !client.connected {
            client.connected = true;
            if startup.iter().any(|(name, _)| !REPORTED.contains(name)) {
                client.leaves(Leaves::Startup);
            }
        }
        match &step.action {
            Action::Send(messages) => client.sent(messages),
            Action::Begin(messages) => client.begun.clone_from(messages),
            Action::Copy(copying) => client.runs(&copying.statement),
            Action::Leave { .. } => client.left = true,
            Action::Await => {
                let begun = std::mem::take(&mut client.begun);
                client.sent(&begun);
            }
            Action::CancelIdle | Action::CancelRunning => {}
        }
    }

    /// Whether a program keeps to what the pool can serve: a step by one client while at most one other holds a server, and
    /// nothing by one who left. What is begun may wait for its turn.
    pub(crate) fn admits(program: &Program, session_mode: bool) -> bool {
        let mut holding = Self::new(session_mode);
        let mut waiting = BTreeSet::new();
        program.steps.iter().all(|step| {
            let others = holding.others(step.client);
            let left = holding.client(step.client).left;
            let open = holding.client(step.client).open_batch;
            let fits = match &step.action {
                Action::Begin(_) => others == 2 && waiting.insert(step.client),
                Action::Await => waiting.remove(&step.client) && others < 2,
                Action::Leave { .. } => !waiting.contains(&step.client),
                // These begin with a query, which must not come in the middle of a batch.
                Action::Copy(_) | Action::CancelRunning => {
                    others < 2 && !open && !waiting.contains(&step.client)
                }
                _ => others < 2 && !waiting.contains(&step.client),
            };
            holding.apply(program, step);
            fits && !left
        }) && waiting.is_empty()
    }
}

/// Parameters of a login that PostgreSQL reports.
const REPORTED: &[&str] = &[
    "application_name",
    "TimeZone",
    "DateStyle",
    "IntervalStyle",
    "client_encoding",
];
