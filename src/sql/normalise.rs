//! The text of a query as it is shown: without literals and comments, and with lists of equal items cut short.

use super::fingerprint::{Fingerprint, Sink, walk};
use super::summary::Summary;
use super::tokens::{Dialect, Token};

/// So much of a text is written; a summary is made of all of it.
const TEXT: usize = 4096;

/// What is left out of a list. A comment, so that the text that is shown has the fingerprint of the one it was made of.
const REPEATED: &str = " /*, ... */";

/// What a query looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The fingerprint.
    pub fingerprint: Fingerprint,
    /// The text, with `$1`, `$2` … for literals; at most about 4 KiB of it.
    pub text: String,
    /// OpenTelemetry's `db.query.summary`: what is done to which tables.
    pub summary: String,
    /// The verb in capitals: of a WITH, that of its main statement. Empty where the text begins with no word.
    pub operation: String,
}

/// Describes a statement, for showing it to people.
pub fn describe(text: &[u8], dialect: Dialect) -> Described {
    let mut writer = Writer::default();
    let look = walk(text, dialect, &mut writer);
    let (summary, operation) = writer.summary.finish();
    let mut text = writer.out;
    if writer.cut {
        text.push('…');
    }
    Described {
        fingerprint: look.fingerprint,
        text,
        summary,
        operation,
    }
}

#[derive(Default)]
struct Writer {
    out: String,
    /// There was no more room.
    cut: bool,
    literals: usize,
    /// Where the last comma of each level stands, and whether something was left out behind it.
    commas: Vec<Comma>,
    /// What was written last.
    last: Last,
    summary: Summary,
}

#[derive(Default, Clone, Copy)]
struct Comma {
    at: usize,
    /// How many literals stand before it.
    literals: usize,
    shortened: bool,
}

#[derive(Default, Clone, Copy, PartialEq)]
enum Last {
    /// Nothing, or an opening bracket.
    #[default]
    Open,
    /// A dot, or the two colons of a cast.
    Dot,
    /// A word that may be a function's or a table's name.
    Name,
    /// A literal, or a closing bracket.
    Value,
    Other,
}

impl Writer {
    fn write(&mut self, text: &str, joined: bool) {
        if self.cut || self.out.len() + text.len() >= TEXT {
            self.cut = true;
            return;
        }
        if !joined {
            self.out.push(' ');
        }
        self.out.push_str(text);
    }

    /// Whether a token stands directly behind the last one. Two of them must not become another.
    fn joins(&self, text: &[u8]) -> bool {
        match text {
            b"," | b")" | b"]" => true,
            b"." | b"::" | b"[" => matches!(self.last, Last::Name | Last::Value),
            b"(" => matches!(self.last, Last::Name | Last::Open),
            b"*" => matches!(self.last, Last::Dot | Last::Open),
            text if text.first().is_some_and(|first| is_name(*first)) => {
                matches!(self.last, Last::Dot | Last::Open)
            }
            _ => self.last == Last::Open,
        }
    }
}

impl Sink for Writer {
    fn token(&mut self, token: Token<'_>, keyword: bool) {
        self.summary.token(token, keyword);
        let text = String::from_utf8_lossy(token.text);
        self.write(&text, self.joins(token.text));
        self.last = match token.text {
            b"(" | b"[" => Last::Open,
            b"." | b"::" => Last::Dot,
            b")" | b"]" => Last::Value,
            text if !keyword && text.first().is_some_and(|first| is_name(*first)) => Last::Name,
            _ => Last::Other,
        };
    }

    fn literal(&mut self) {
        self.summary.literal();
        self.literals += 1;
        let text = format!("${}", self.literals);
        self.write(&text, matches!(self.last, Last::Open | Last::Dot));
        self.last = Last::Value;
    }

    fn comma(&mut self, depth: usize) {
        self.commas.resize(depth + 1, Comma::default());
        let shortened = self.commas[depth].shortened && self.out.len() == self.commas[depth].at;
        self.commas[depth] = Comma {
            at: self.out.len(),
            literals: self.literals,
            shortened,
        };
    }

    fn repeated(&mut self, depth: usize) {
        let Some(comma) = self.commas.get_mut(depth) else {
            return;
        };
        if self.cut {
            return;
        }
        self.out.truncate(comma.at);
        self.literals = comma.literals;
        if !comma.shortened {
            comma.shortened = true;
            self.out.push_str(REPEATED);
        }
        comma.at = self.out.len();
        self.last = Last::Other;
    }
}

fn is_name(first: u8) -> bool {
    first.is_ascii_alphabetic() || matches!(first, b'_' | b'"') || first >= 0x80
}
