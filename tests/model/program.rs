//! A program: what several clients do, one step after the other.

use std::fmt;

use crate::catalogue::Effect;
use crate::support::raw;

/// Parameters of a login, by name and value.
pub(crate) type Startup = &'static [(&'static str, &'static str)];

/// What several clients do.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// The number of the first client; those that follow count on. Their tables, channels and locks are named by it, so
    /// no two programs on one server meet.
    pub first: usize,
    /// How each client logs in.
    pub clients: Vec<Startup>,
    /// One after the other; a client logs in at its first.
    pub steps: Vec<Step>,
}

/// What one client does.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Which client, as an index.
    pub client: usize,
    /// What.
    pub action: Action,
}

/// Something that is done, and whose replies are awaited.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Sends messages at once and reads what they must be answered by.
    Send(Vec<Message>),
    /// Sends messages for which no server is free. Their replies are awaited by [`Action::Await`].
    Begin(Vec<Message>),
    /// Reads what was begun.
    Await,
    /// Sends COPY, awaits the permission, then the data.
    Copy(Copying),
    /// Sends a cancel request while nothing runs.
    CancelIdle,
    /// Runs a statement that takes a minute, and cancels it.
    CancelRunning,
    /// Leaves, with or without a word.
    Leave {
        /// Says Terminate.
        politely: bool,
    },
}

/// A statement and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    /// Its text.
    pub text: String,
    /// How many parameters it has.
    pub parameters: usize,
    /// What it may do.
    pub effects: &'static [Effect],
}

impl Statement {
    /// Whether it sets a transaction's isolation level, which nothing that takes a snapshot may go before.
    pub(crate) fn isolates(&self) -> bool {
        self.text.contains("ISOLATION LEVEL")
    }
}

/// COPY … FROM STDIN with its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copying {
    /// The COPY statement.
    pub statement: Statement,
    /// By Parse, Bind and Execute, under a name of its own: whoever executes it without data waits for ever.
    pub extended: bool,
    /// Pieces of data.
    pub data: Vec<String>,
    /// Ends by CopyFail.
    pub fails: bool,
}

/// A message, or a few that only make sense together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    Query(Statement),
    Parse {
        name: String,
        statement: Statement,
    },
    Bind {
        portal: String,
        name: String,
        arguments: Vec<String>,
        /// Wants results in binary.
        binary: bool,
    },
    Describe {
        kind: u8,
        name: String,
    },
    Execute {
        portal: String,
        rows: u32,
    },
    Close {
        kind: u8,
        name: String,
    },
    /// All of a COPY at once.
    Copy(Copying),
    /// FunctionCall of int4pl.
    Call,
    Flush,
    Sync,
}

/// The name of statements and portals that copy.
pub(crate) const COPY: &str = "copy";

/// What must be read in answer to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owed {
    /// To one of these, or an error that lasts to the next Sync.
    One(&'static str),
    /// To ReadyForQuery.
    Ready,
    /// To ReadyForQuery or the server's wish for data.
    ReadyOrCopy,
    /// The end of what an error skips.
    Sync,
    /// Nothing, but what is owed so far will come.
    Flush,
}

impl Copying {
    /// The messages that ask.
    pub(crate) fn asks(&self) -> Vec<u8> {
        if self.extended {
            [
                raw::close(b'S', COPY),
                raw::parse(COPY, &self.statement.text),
                raw::bind(COPY, COPY, &[]),
                raw::execute(COPY, 0),
            ]
            .concat()
        } else {
            raw::query(&self.statement.text)
        }
    }

    /// The messages that carry data.
    pub(crate) fn brings(&self) -> Vec<u8> {
        let pieces = self.data.iter();
        let mut bytes: Vec<u8> = pieces
            .flat_map(|piece| raw::message(b'd', piece.as_bytes()))
            .collect();
        bytes.extend(if self.fails {
            raw::message(b'f', b"on purpose\0")
        } else {
            raw::message(b'c', b"")
        });
        if self.extended {
            bytes.extend(raw::close(b'S', COPY));
        }
        bytes
    }

    /// What is owed for it as a whole.
    pub(crate) fn owed(&self) -> &'static [Owed] {
        if self.extended {
            &[
                Owed::One("3"),
                Owed::One("1"),
                Owed::One("2"),
                Owed::One("CIs"),
                Owed::One("3"),
            ]
        } else {
            &[Owed::Ready]
        }
    }
}

impl Message {
    /// Its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Message::Query(statement) => raw::query(&statement.text),
            Message::Parse { name, statement } => raw::parse(name, &statement.text),
            Message::Bind {
                portal,
                name,
                arguments,
                binary,
            } => {
                let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                let mut bytes = raw::bind(portal, name, &arguments);
                if *binary {
                    // One format for all results, instead of none.
                    bytes.truncate(bytes.len() - 2);
                    bytes.extend_from_slice(&[0, 1, 0, 1]);
                    let length = u32::try_from(bytes.len() - 1).expect("a short message");
                    bytes[1..5].copy_from_slice(&length.to_be_bytes());
                }
                bytes
            }
            Message::Describe { kind, name } => raw::describe(*kind, name),
            Message::Execute { portal, rows } => raw::execute(portal, *rows),
            Message::Close { kind, name } => raw::close(*kind, name),
            Message::Copy(copying) => [copying.asks(), copying.brings()].concat(),
            Message::Call => call(),
            Message::Flush => raw::flush(),
            Message::Sync => raw::sync(),
        }
    }

    /// What is owed for it.
    pub(crate) fn owed(&self) -> &'static [Owed] {
        match self {
            Message::Query(_) | Message::Call => &[Owed::Ready],
            Message::Parse { .. } => &[Owed::One("1")],
            Message::Bind { .. } => &[Owed::One("2")],
            Message::Describe { .. } => &[Owed::One("Tn")],
            Message::Execute { .. } => &[Owed::One("CIs")],
            Message::Close { .. } => &[Owed::One("3")],
            Message::Copy(copying) => copying.owed(),
            Message::Flush => &[Owed::Flush],
            Message::Sync => &[Owed::Sync],
        }
    }
}

/// FunctionCall: 20 + 3 by int4pl, as text.
fn call() -> Vec<u8> {
    let mut body = 177_u32.to_be_bytes().to_vec();
    body.extend_from_slice(&[0, 0, 0, 2]);
    for argument in ["20", "3"] {
        body.extend_from_slice(&u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    raw::message(b'F', &body)
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Query(statement) => write!(f, "Query `{}`", statement.text),
            Message::Parse { name, statement } => write!(f, "Parse {name:?} `{}`", statement.text),
            Message::Bind {
                portal,
                name,
                arguments,
                binary,
            } => {
                let format = if *binary { " in binary" } else { "" };
                write!(f, "Bind {portal:?} to {name:?} {arguments:?}{format}")
            }
            Message::Describe { kind, name } => {
                write!(f, "Describe {} {name:?}", char::from(*kind))
            }
            Message::Execute { portal, rows } => write!(f, "Execute {portal:?} {rows}"),
            Message::Close { kind, name } => write!(f, "Close {} {name:?}", char::from(*kind)),
            Message::Copy(copying) => write!(f, "{copying}"),
            Message::Call => write!(f, "FunctionCall"),
            Message::Flush => write!(f, "Flush"),
            Message::Sync => write!(f, "Sync"),
        }
    }
}

impl fmt::Display for Copying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if self.extended { "extended" } else { "simple" };
        let end = if self.fails { "CopyFail" } else { "CopyDone" };
        write!(f, "({how}) `{}` {:?} {end}", self.statement.text, self.data)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |messages: &[Message]| {
            let each: Vec<String> = messages.iter().map(Message::to_string).collect();
            each.join(", ")
        };
        write!(f, "client {}: ", self.client)?;
        match &self.action {
            Action::Send(messages) => write!(f, "{}", list(messages)),
            Action::Begin(messages) => write!(f, "without an answer yet: {}", list(messages)),
            Action::Await => write!(f, "awaits the answer"),
            Action::Copy(copying) => write!(f, "COPY by and by {copying}"),
            Action::CancelIdle => write!(f, "cancels while nothing runs"),
            Action::CancelRunning => write!(f, "cancels what runs"),
            Action::Leave { politely: true } => write!(f, "says Terminate"),
            Action::Leave { politely: false } => write!(f, "vanishes"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (client, startup) in self.clients.iter().enumerate() {
            writeln!(f, "client {client} logs in with {startup:?}")?;
        }
        for (number, step) in self.steps.iter().enumerate() {
            writeln!(f, "{number:3} {step}")?;
        }
        Ok(())
    }
}
