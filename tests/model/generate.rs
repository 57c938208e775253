//! Random programs.

use crate::catalogue::{BEGINS, CLEAN, COPIES, ENDS, Effect, INSIDE, PARAMETERS, Row, STATE};
use crate::holding::Holding;
use crate::numbers::Numbers;
use crate::pins::{KNOWN, Leaves, NAMES_ARE_SHARED, Pin, RESULT_TYPES_CHANGE};
use crate::program::{Action, Copying, Message, Program, Startup, Statement, Step};

/// What kind of programs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Clients at one time.
    pub at_once: usize,
    /// Steps, those at the end not counted.
    pub steps: usize,
    /// Only what leaves its server at once.
    pub autocommit: bool,
    /// The pool gives each client a server for as long as it stays.
    pub session_mode: bool,
}

/// How clients log in; the first ones name only what PostgreSQL reports.
const STARTUPS: &[Startup] = &[
    &[],
    &[("application_name", "model")],
    &[("TimeZone", "Europe/Paris"), ("DateStyle", "SQL, DMY")],
    &[
        ("IntervalStyle", "sql_standard"),
        ("client_encoding", "UTF8"),
    ],
    &[("extra_float_digits", "2")],
    &[("options", "-c work_mem=6MB -c search_path=public")],
    &[("statement_timeout", "300s"), ("application_name", "slow")],
];
const REPORTED_ONLY: usize = 4;

struct Generator<'a> {
    numbers: &'a mut Numbers,
    shape: Shape,
    program: Program,
    holding: Holding,
    /// The unnamed statement was parsed since the last Sync.
    unnamed_is_fresh: bool,
    /// The unnamed portal was bound since the last Sync and the last Query. An Execute of one that a failed Query left behind
    /// crashes PostgreSQL 15.
    portal_is_fresh: bool,
}

/// A program whose clients are numbered from `first` on.
pub(crate) fn generate(numbers: &mut Numbers, shape: Shape, first: usize) -> Program {
    let mut generator = Generator::new(numbers, shape, first);
    while generator.program.steps.len() < shape.steps {
        let client = generator.client();
        let action = generator.action(client);
        generator.step(client, action);
    }
    generator.ending();
    generator.program
}

/// A program in which two clients hold both servers and a third one asks for something: it is served when one of the two
/// lets go.
pub(crate) fn third_waits(numbers: &mut Numbers, shape: Shape, first: usize) -> Program {
    let mut generator = Generator::new(numbers, shape, first);
    generator.program.clients = vec![&[]; 3];
    let third = generator.numbers.below(3);
    let holders: Vec<usize> = (0..3).filter(|client| *client != third).collect();
    // The first login with these parameters needs a server, and a client without a login cannot wait.
    let greets = generator.query(third, CLEAN);
    generator.step(third, Action::Send(vec![greets]));
    for holder in &holders {
        let messages = generator.surely_holds();
        generator.step(*holder, Action::Send(messages));
    }
    let mut asks = vec![generator.query(third, CLEAN)];
    if generator.numbers.percent(70) {
        asks.extend(generator.batch(third, false));
    }
    generator.step(third, Action::Begin(asks));
    for _ in 0..generator.numbers.below(4) {
        let holder = *generator.numbers.pick(&holders);
        let message = generator.holding_on(holder);
        generator.step(holder, Action::Send(message));
    }
    let leaver = *generator.numbers.pick(&holders);
    let leave = generator.leave();
    generator.step(leaver, leave);
    generator.step(third, Action::Await);
    generator.ending();
    generator.program
}

impl<'a> Generator<'a> {
    fn new(numbers: &'a mut Numbers, shape: Shape, first: usize) -> Self {
        Self {
            numbers,
            shape,
            program: Program {
                first,
                clients: Vec::new(),
                steps: Vec::new(),
            },
            holding: Holding::new(shape.session_mode),
            unnamed_is_fresh: false,
            portal_is_fresh: false,
        }
    }

    fn step(&mut self, client: usize, action: Action) {
        let step = Step { client, action };
        self.holding.apply(&self.program, &step);
        self.program.steps.push(step);
    }

    /// What cannot fail to take a server and keep it.
    fn surely_holds(&mut self) -> Vec<Message> {
        let statement = |text: &str, effects| Statement {
            text: text.to_owned(),
            parameters: 0,
            effects,
        };
        if self.numbers.percent(50) {
            return vec![Message::Query(statement("BEGIN", &[Effect::Begins]))];
        }
        let statement = statement("SELECT 'flushed'", &[]);
        let mut messages = vec![Message::Parse {
            name: String::new(),
            statement: statement.clone(),
        }];
        let portal = self.portal();
        self.run(&mut messages, &portal, String::new(), &statement);
        messages.push(Message::Flush);
        messages
    }

    /// What cannot let go of it.
    fn holding_on(&mut self, client: usize) -> Vec<Message> {
        if self.holding.client(client).open_batch {
            return vec![
                Message::Execute {
                    portal: String::new(),
                    rows: 0,
                },
                Message::Flush,
            ];
        }
        loop {
            let message = self.query(client, CLEAN);
            let ends = ["COMMIT", "ROLLBACK"].iter().any(
                |word| matches!(&message, Message::Query(statement) if statement.text.contains(word)),
            );
            if !ends {
                return vec![message];
            }
        }
    }

    /// Somebody who can be served now.
    fn client(&mut self) -> usize {
        let present = self.holding.present();
        let fresh = self.program.clients.len();
        let mut able: Vec<usize> = present.clone();
        able.retain(|client| self.holding.others(*client) < 2);
        let room = present.len() < self.shape.at_once && self.holding.others(fresh) < 2;
        if room && (able.is_empty() || present.len() < 2 || self.numbers.percent(30)) {
            let reported = self.shape.autocommit || self.numbers.percent(80);
            let count = if reported {
                REPORTED_ONLY
            } else {
                STARTUPS.len()
            };
            let startup = STARTUPS[self.numbers.below(count)];
            self.program.clients.push(startup);
            return fresh;
        }
        *self.numbers.pick(&able)
    }

    fn action(&mut self, client: usize) -> Action {
        let known = self.holding.client(client);
        let (open, within) = (known.open_batch, known.in_transaction);
        let crowded = self.holding.others(client) == 1 && self.holding.holds(client);
        if open {
            return Action::Send(self.batch(client, true));
        }
        if within && self.numbers.percent(25) {
            return Action::Send(vec![self.query(client, ENDS)]);
        }
        let safe_to_cancel = !KNOWN.cancels_hit_the_next
            || self.holding.present().contains(&client) && !self.holding.holds(client);
        match self.numbers.below(100) {
            0..4 if safe_to_cancel => Action::CancelIdle,
            4..5 => Action::CancelRunning,
            // Room is made for others, so that they share.
            5..8 => self.leave(),
            8..20 if crowded => self.leave(),
            20..23 => Action::Copy(self.copying(client, false)),
            23..55 => Action::Send(self.batch(client, false)),
            55..58 => self.several(client),
            _ => Action::Send(vec![self.any_query(client)]),
        }
    }

    fn leave(&mut self) -> Action {
        Action::Leave {
            politely: self.numbers.percent(50),
        }
    }

    /// Simple queries sent at once.
    fn several(&mut self, client: usize) -> Action {
        let count = 2 + self.numbers.below(3);
        Action::Send((0..count).map(|_| self.any_query(client)).collect())
    }

    fn any_query(&mut self, client: usize) -> Message {
        let table = self.table(client);
        self.query(client, table)
    }

    fn table(&mut self, client: usize) -> &'static [Row] {
        if self.shape.autocommit {
            return CLEAN;
        }
        let within = self.holding.client(client).in_transaction;
        // Some clients leave nothing, so that there are always some who share.
        let tidy = client.is_multiple_of(3);
        match self.numbers.below(100) {
            0..12 => BEGINS,
            12..14 => ENDS,
            14..40 if within => INSIDE,
            14..17 => INSIDE,
            40..52 if !tidy => PARAMETERS,
            52..75 if !tidy => STATE,
            _ => CLEAN,
        }
    }

    fn query(&mut self, client: usize, table: &'static [Row]) -> Message {
        loop {
            let statement = self.statement(client, table);
            if statement.parameters == 0 {
                return Message::Query(statement);
            }
        }
    }

    fn extended_statement(&mut self, client: usize, messages: &[Message]) -> Statement {
        let keeps_level = self.describes(client, messages);
        loop {
            let table = self.table(client);
            let statement = self.statement(client, table);
            let effects = statement.effects;
            let changes = !RESULT_TYPES_CHANGE && effects.contains(&Effect::AllColumns);
            let isolates = keeps_level && statement.isolates();
            if !changes && !isolates && !effects.contains(&Effect::Several) {
                return statement;
            }
        }
    }

    /// A statement is described behind the last Sync: it may be parsed again, and no isolation level be set from then on.
    fn describes(&mut self, client: usize, messages: &[Message]) -> bool {
        let is_sync = |message: &Message| matches!(message, Message::Sync);
        let synced = messages.iter().rposition(is_sync);
        let batch = &messages[synced.map_or(0, |at| at + 1)..];
        let describes = |message: &Message| matches!(message, Message::Describe { kind: b'S', .. });
        KNOWN.parses_again
            && (batch.iter().any(describes)
                || synced.is_none() && self.holding.client(client).describes)
    }

    fn statement(&mut self, client: usize, table: &'static [Row]) -> Statement {
        let row = loop {
            let row = self.numbers.pick(table);
            if self.allowed(client, row) {
                break row;
            }
        };
        let number = self.program.first + client;
        let other = self.program.first + self.numbers.below(self.program.clients.len().max(1));
        let text = row
            .text
            .replace("{l}", &number.to_string())
            .replace("{o}", &other.to_string())
            .replace("{k}", &(1 + self.numbers.below(3)).to_string());
        Statement {
            text,
            parameters: row.parameters,
            effects: row.effects,
        }
    }

    fn allowed(&self, client: usize, row: &Row) -> bool {
        let resets = [Leaves::Reset, Leaves::Discard].map(Effect::Leaves);
        let plain = self.program.clients[client].is_empty();
        if KNOWN.reset_forgets_the_login && !plain && row.effects.iter().any(|e| resets.contains(e))
        {
            return false;
        }
        row.effects.iter().all(|effect| match effect {
            Effect::Leaves(what) => !self.shape.autocommit || what.pin() == Pin::Never,
            Effect::Begins => !self.shape.autocommit,
            Effect::ChangesResults => RESULT_TYPES_CHANGE,
            Effect::CrossesNames => NAMES_ARE_SHARED,
            Effect::AllColumns | Effect::Clears(_) | Effect::Ends | Effect::Several => true,
        })
    }

    /// Messages of the extended protocol, with a few Syncs.
    fn batch(&mut self, client: usize, open: bool) -> Vec<Message> {
        let mut messages = Vec::new();
        self.synced();
        let parts = 1 + self.numbers.below(3);
        for part in 0..parts {
            // An open batch may be ended by a Sync alone.
            let pieces = self.numbers.below(4) + usize::from(!open || part > 0);
            for _ in 0..pieces {
                self.piece(client, &mut messages);
            }
            messages.push(Message::Sync);
            self.synced();
        }
        if !self.shape.autocommit && self.numbers.percent(15) {
            messages.pop();
            messages.push(Message::Flush);
        }
        messages
    }

    fn piece(&mut self, client: usize, messages: &mut Vec<Message>) {
        let (portal, kind) = (self.portal(), *self.numbers.pick(b"SP"));
        match self.numbers.below(100) {
            0..45 => {
                let name = self.name();
                self.unnamed_is_fresh |= name.is_empty();
                let statement = self.extended_statement(client, messages);
                messages.push(Message::Parse {
                    name: name.clone(),
                    statement: statement.clone(),
                });
                if self.numbers.percent(30) {
                    messages.push(Message::Describe {
                        kind: b'S',
                        name: name.clone(),
                    });
                }
                self.run(messages, &portal, name, &statement);
            }
            45..53 => {
                let name = self.name();
                self.unnamed_is_fresh |= name.is_empty();
                let statement = self.extended_statement(client, messages);
                messages.push(Message::Parse { name, statement });
            }
            53..75 => {
                let name = self.used_name();
                let keeps_level = self.describes(client, messages);
                let known = self.holding.client(client);
                if keeps_level && (known.isolates(&name) || isolates(messages, &name)) {
                    return;
                }
                let known = known.named(&name).cloned();
                let statement = known.unwrap_or_else(|| self.extended_statement(client, messages));
                self.run(messages, &portal, name, &statement);
            }
            75..80 => {
                let portal = self.used_portal(portal);
                messages.push(self.execute(portal));
            }
            80..85 => {
                let name = match kind {
                    b'S' => self.used_name(),
                    _ => self.used_portal(portal),
                };
                messages.push(Message::Describe { kind, name });
            }
            85..91 => {
                let name = if kind == b'S' { self.name() } else { portal };
                messages.push(Message::Close { kind, name });
            }
            91..94 => messages.push(Message::Flush),
            94..96 if self.named() => messages.push(Message::Copy(self.copying(client, true))),
            96..97 if !self.shape.autocommit => messages.push(Message::Call),
            97..98 => {
                messages.push(self.any_query(client));
                self.portal_is_fresh = false;
            }
            _ => {
                messages.push(Message::Sync);
                self.synced();
            }
        }
    }

    /// Bind, perhaps Describe, and Execute.
    fn run(
        &mut self,
        messages: &mut Vec<Message>,
        portal: &str,
        name: String,
        statement: &Statement,
    ) {
        self.portal_is_fresh |= portal.is_empty();
        messages.push(Message::Bind {
            portal: portal.to_owned(),
            name,
            arguments: self.arguments(statement),
            binary: self.numbers.percent(10),
        });
        if self.numbers.percent(50) {
            messages.push(Message::Describe {
                kind: b'P',
                name: portal.to_owned(),
            });
        }
        let mut execute = self.execute(portal.to_owned());
        if let Message::Execute { rows, .. } = &mut execute
            && statement.text.contains("RETURNING")
        {
            // What it wrote is not seen until it is read to its end or a Parse follows, which may be one of poolwatch's.
            *rows = 0;
        }
        messages.push(execute);
    }

    fn execute(&mut self, portal: String) -> Message {
        let rows = if self.numbers.percent(35) {
            1 + u32::try_from(self.numbers.below(4)).expect("a few")
        } else {
            0
        };
        Message::Execute { portal, rows }
    }

    fn arguments(&mut self, statement: &Statement) -> Vec<String> {
        if statement.text.contains("set_config($1") {
            let name = *self.numbers.pick(&["application_name", "work_mem", "none"]);
            return vec![name.to_owned(), "7MB".to_owned()];
        }
        let mut count = statement.parameters;
        if self.numbers.percent(4) {
            count += 1;
        }
        let values = ["0", "1", "2", "3", "41"];
        (0..count)
            .map(|_| {
                let wrong = self.numbers.percent(5);
                let value = if wrong {
                    "x"
                } else {
                    *self.numbers.pick(&values)
                };
                value.to_owned()
            })
            .collect()
    }

    /// Whether statements may have names.
    fn named(&self) -> bool {
        !self.shape.autocommit || Leaves::Named.pin() == Pin::Never
    }

    fn name(&mut self) -> String {
        let named = self.named();
        let chance = if named { 45 } else { 0 };
        if self.numbers.percent(chance) {
            format!("s{}", 1 + self.numbers.below(3))
        } else if NAMES_ARE_SHARED && named && self.numbers.percent(4) {
            format!("p{}", 1 + self.numbers.below(3))
        } else {
            String::new()
        }
    }

    fn synced(&mut self) {
        self.unnamed_is_fresh = false;
        self.portal_is_fresh = false;
    }

    /// The name of a portal that is used, not made.
    fn used_portal(&self, portal: String) -> String {
        if portal.is_empty() && !self.portal_is_fresh {
            return "a".to_owned();
        }
        portal
    }

    /// The name of a statement that is used, not made.
    fn used_name(&mut self) -> String {
        let name = self.name();
        let again = !self.unnamed_is_fresh && !self.shape.autocommit;
        if KNOWN.parses_again && again && name.is_empty() {
            return "s1".to_owned();
        }
        name
    }

    fn portal(&mut self) -> String {
        let named = self.numbers.percent(25);
        let name = if named {
            *self.numbers.pick(&["a", "b", "c1"])
        } else {
            ""
        };
        name.to_owned()
    }

    fn copying(&mut self, client: usize, extended: bool) -> Copying {
        let statement = self.statement(client, COPIES);
        let lines = [
            "61\tone\n",
            "62,two\n",
            "6",
            "3\tthree\n",
            "\\.\n",
            "bad\n",
            "",
        ];
        let count = self.numbers.below(4);
        Copying {
            statement,
            extended,
            data: (0..count)
                .map(|_| (*self.numbers.pick(&lines)).to_owned())
                .collect(),
            fails: self.numbers.percent(20),
        }
    }

    /// Everybody ends what is open, is asked once more, so that what was due has come, and leaves: holders first.
    fn ending(&mut self) {
        let mut present = self.holding.present();
        present.sort_by_key(|client| !self.holding.holds(*client));
        for client in present {
            if self.holding.client(client).open_batch {
                self.step(client, Action::Send(vec![Message::Sync]));
            }
            for text in ["ROLLBACK", "SELECT 'the end'"] {
                let last = Statement {
                    text: text.to_owned(),
                    parameters: 0,
                    effects: if text == "ROLLBACK" {
                        &[Effect::Ends]
                    } else {
                        &[]
                    },
                };
                self.step(client, Action::Send(vec![Message::Query(last)]));
            }
            self.step(client, Action::Leave { politely: true });
        }
    }
}

/// Whether one of these messages gives this name to what sets a transaction's isolation level.
fn isolates(messages: &[Message], name: &str) -> bool {
    messages.iter().any(|message| {
        matches!(message, Message::Parse { name: parsed, statement } if parsed == name && statement.isolates())
    })
}
