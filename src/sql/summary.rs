//! `db.query.summary` of OpenTelemetry's semantic conventions: the verbs of a query and the tables they are about, in
//! the order of the text, as in `INSERT orders SELECT customers`.

use super::tokens::{Kind, Token};

/// Longer summaries are cut, as the conventions say.
const LENGTH: usize = 255;

/// Reads tokens and keeps what is to be said of them.
#[derive(Debug, Default)]
pub(super) struct Summary {
    out: String,
    operation: String,
    /// The first word has come.
    begun: bool,
    /// It was WITH: the verb of the main statement is still to come.
    with: bool,
    /// A statement that changes what there is: its second word says what.
    defines: bool,
    /// For each level of brackets, whether it holds a query: FROM is also a word of functions.
    queries: Vec<bool>,
    expects: Expects,
    /// The name under way.
    name: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Expects {
    #[default]
    Nothing,
    /// A table's name, which is none if a bracket follows it (a function), unless a list of columns may.
    Table { columns: bool },
    /// The rest of a name behind its dot.
    Qualified { columns: bool },
    /// What stands behind a name: a dot, a bracket or anything else.
    Named { columns: bool },
    /// Another table behind a comma.
    Comma,
}

impl Summary {
    /// A token that is no literal.
    pub(super) fn token(&mut self, token: Token<'_>, _keyword: bool) {
        match token.kind {
            Kind::Word => self.word(token.text),
            Kind::Quoted => self.named(token.text),
            _ => self.symbol(token.text),
        }
    }

    /// A literal.
    pub(super) fn literal(&mut self) {
        self.end_name(false);
        self.expects = Expects::Nothing;
    }

    /// The summary and the verb.
    pub(super) fn finish(mut self) -> (String, String) {
        self.end_name(false);
        if self.out.len() > LENGTH {
            let cut = self.out.floor_char_boundary(LENGTH);
            // No half of a name.
            let cut = self.out[..cut].rfind(' ').unwrap_or(cut);
            self.out.truncate(cut);
        }
        (self.out, self.operation)
    }

    fn word(&mut self, text: &[u8]) {
        let upper = text.to_ascii_uppercase();
        let depth = self.queries.len();
        if !self.begun {
            self.begun = true;
            self.with = upper == b"WITH";
            self.defines = matches!(&*upper, b"CREATE" | b"DROP" | b"ALTER");
            self.operation = lossy(&upper);
            if !self.with && !is_verb(&upper) {
                self.say(&upper);
                if matches!(
                    &*upper,
                    b"TRUNCATE" | b"COPY" | b"LOCK" | b"VACUUM" | b"ANALYZE" | b"REFRESH" | b"CALL"
                ) {
                    self.expects = Expects::Table { columns: true };
                }
                return;
            }
        }
        if self.defines {
            return self.definition(&upper, text);
        }
        match &*upper {
            b"SELECT" | b"INSERT" | b"DELETE" | b"UPDATE" | b"MERGE" | b"VALUES" => {
                self.verb(&upper, depth)
            }
            b"FROM" | b"JOIN" | b"INTO" | b"USING" if self.in_query() => {
                self.end_name(false);
                let columns = &*upper == b"INTO";
                self.expects = Expects::Table { columns };
            }
            // `FOR UPDATE`, `ON CONFLICT DO UPDATE` are no verbs.
            b"FOR" | b"DO" | b"WHERE" | b"SET" | b"ON" | b"GROUP" | b"ORDER" | b"LIMIT"
            | b"RETURNING" | b"HAVING" | b"UNION" => {
                self.end_name(false);
                self.expects = Expects::Nothing;
            }
            b"ONLY" | b"TABLE" | b"LATERAL" if matches!(self.expects, Expects::Table { .. }) => {}
            _ => self.named(text),
        }
    }

    fn verb(&mut self, upper: &[u8], depth: usize) {
        self.end_name(false);
        let said = !self.out.is_empty();
        // `INSERT … VALUES`, `FOR UPDATE`, `ON CONFLICT DO UPDATE`: the verb was said before.
        if said && (upper == b"VALUES" || upper == b"UPDATE" && depth == 0 && !self.with) {
            return;
        }
        match self.queries.last_mut() {
            Some(query) => *query = true,
            None if self.with => {
                self.with = false;
                self.operation = lossy(upper);
            }
            None => {}
        }
        self.say(upper);
        self.expects = match upper {
            b"UPDATE" => Expects::Table { columns: false },
            _ => Expects::Nothing,
        };
    }

    fn in_query(&self) -> bool {
        self.queries.last().copied().unwrap_or(true)
    }

    /// A word of CREATE, DROP or ALTER: what it is about, then its name.
    fn definition(&mut self, upper: &[u8], text: &[u8]) {
        if self.out.is_empty() {
            return self.say(upper);
        }
        match upper {
            b"OR" | b"REPLACE" | b"TEMP" | b"TEMPORARY" | b"UNLOGGED" | b"GLOBAL" | b"LOCAL"
            | b"UNIQUE" | b"CONCURRENTLY" | b"IF" | b"NOT" | b"EXISTS" | b"RECURSIVE"
            | b"FOREIGN" | b"CONSTRAINT" | b"ONLY" => {}
            b"TABLE" | b"INDEX" | b"VIEW" | b"SCHEMA" | b"SEQUENCE" | b"FUNCTION"
            | b"PROCEDURE" | b"TRIGGER" | b"TYPE" | b"DATABASE" | b"ROLE" | b"USER"
            | b"EXTENSION" | b"DOMAIN" | b"POLICY" | b"RULE" | b"PUBLICATION" | b"SUBSCRIPTION"
            | b"MATERIALIZED" | b"AGGREGATE" | b"OPERATOR"
                if self.expects == Expects::Nothing && self.out.split(' ').count() < 3 =>
            {
                self.say(upper);
                if upper != b"MATERIALIZED" {
                    self.expects = Expects::Table { columns: true };
                }
            }
            _ => self.named(text),
        }
    }

    /// A word or a quoted name that may be a table's.
    fn named(&mut self, text: &[u8]) {
        match self.expects {
            Expects::Table { columns } => {
                self.name = text.to_vec();
                self.expects = Expects::Named { columns };
            }
            Expects::Qualified { columns } => {
                self.name.push(b'.');
                self.name.extend_from_slice(text);
                self.expects = Expects::Named { columns };
            }
            // An alias.
            Expects::Named { .. } => self.end_name(false),
            Expects::Comma | Expects::Nothing => {}
        }
    }

    fn symbol(&mut self, text: &[u8]) {
        match text {
            b"." => {
                if let Expects::Named { columns } = self.expects {
                    self.expects = Expects::Qualified { columns };
                }
            }
            b"(" => {
                self.end_name(true);
                self.expects = Expects::Nothing;
                self.queries.push(false);
            }
            b")" => {
                self.end_name(false);
                self.queries.pop();
                self.expects = Expects::Nothing;
            }
            b"," => {
                self.end_name(false);
                if self.expects == Expects::Comma {
                    self.expects = Expects::Table { columns: false };
                }
            }
            _ => {
                self.end_name(false);
                self.expects = Expects::Nothing;
            }
        }
    }

    /// The name under way is whole; `bracket` says that one follows.
    fn end_name(&mut self, bracket: bool) {
        let Expects::Named { columns } = self.expects else {
            return;
        };
        let name = std::mem::take(&mut self.name);
        self.expects = Expects::Nothing;
        if !bracket || columns {
            self.say(&name);
            if !columns && !self.defines {
                self.expects = Expects::Comma;
            }
        }
    }

    fn say(&mut self, text: &[u8]) {
        if self.out.len() > LENGTH {
            return;
        }
        if !self.out.is_empty() {
            self.out.push(' ');
        }
        self.out.push_str(&lossy(text));
    }
}

fn is_verb(word: &[u8]) -> bool {
    matches!(
        word,
        b"SELECT"
            | b"INSERT"
            | b"DELETE"
            | b"UPDATE"
            | b"MERGE"
            | b"VALUES"
            | b"CREATE"
            | b"DROP"
            | b"ALTER"
    )
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}
