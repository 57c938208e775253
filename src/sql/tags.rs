//! SQLCommenter's tags: `/*action='index',traceparent='00-…'*/` behind a query, as frameworks write them.
//!
//! Source: google.github.io/sqlcommenter/spec. Only the keys that it defines are read, and a few that are widely used: any
//! other comment may hold anything, and is never kept.

use super::tokens::{Dialect, Kind, Tokens};

/// The keys that are tags, in alphabetical order.
const KEYS: [&str; 10] = [
    "action",
    "application",
    "controller",
    "db_driver",
    "framework",
    "job",
    "queue",
    "route",
    "service",
    "worker",
];

/// Longer values are cut.
const VALUE: usize = 128;

/// What comments say of a query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tags {
    /// `key='value',…` in the order of the keys; empty where there are none.
    pub text: String,
    /// The trace of `traceparent`: 32 hexadecimal digits.
    pub trace_id: Option<String>,
    /// Its span, the query's parent: 16 hexadecimal digits.
    pub parent_id: Option<String>,
    /// Whether that trace is recorded.
    pub sampled: bool,
}

/// The tags in a text's comments. Of a key that stands in several places the last value counts.
pub fn tags(text: &[u8], dialect: Dialect) -> Tags {
    let mut values: [Option<String>; KEYS.len()] = Default::default();
    let mut tags = Tags::default();
    for token in Tokens::new(text, dialect) {
        let inner = match token.kind {
            Kind::Comment => token.text.strip_prefix(b"/*"),
            _ => None,
        };
        let Some(inner) = inner.and_then(|inner| inner.strip_suffix(b"*/")) else {
            continue;
        };
        for (key, value) in pairs(inner).unwrap_or_default() {
            match KEYS.binary_search(&key.as_str()) {
                Ok(place) => values[place] = Some(value),
                Err(_) if key == "traceparent" => tags.trace(&value),
                Err(_) => {}
            }
        }
    }
    for (key, value) in KEYS.iter().zip(values) {
        if let Some(value) = value {
            let comma = if tags.text.is_empty() { "" } else { "," };
            tags.text.push_str(&format!("{comma}{key}='{value}'"));
        }
    }
    tags
}

/// The pairs of a comment; none unless all of it is pairs.
fn pairs(comment: &[u8]) -> Option<Vec<(String, String)>> {
    let comment = std::str::from_utf8(comment).ok()?.trim();
    let mut pairs = Vec::new();
    let mut rest = comment;
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        let after = after.strip_prefix('\'')?;
        let end = closing_quote(after)?;
        let (value, behind) = (&after[..end], &after[end + 1..]);
        pairs.push((decoded(key.trim()), decoded(&value.replace("\\'", "'"))));
        rest = match behind.trim_start() {
            "" => "",
            behind => behind.strip_prefix(',')?.trim_start(),
        };
    }
    Some(pairs)
}

/// Where a value ends: at a quote without a backslash.
fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    memchr::memchr_iter(b'\'', bytes).find(|at| *at == 0 || bytes[at - 1] != b'\\')
}

fn decoded(text: &str) -> String {
    let mut value = percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .replace(|c: char| c.is_control(), " ");
    if value.len() > VALUE {
        value.truncate(value.floor_char_boundary(VALUE));
    }
    value
}

impl Tags {
    /// W3C's `traceparent`: version, trace, parent and flags, in hexadecimal digits.
    fn trace(&mut self, value: &str) {
        let parts: Vec<_> = value.split('-').collect();
        let [version, trace, parent, flags, ..] = parts.as_slice() else {
            return;
        };
        let hex = |part: &str, length| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let zero = |part: &str| part.bytes().all(|byte| byte == b'0');
        if !hex(version, 2)
            || *version == "ff"
            || !hex(trace, 32)
            || !hex(parent, 16)
            || !hex(flags, 2)
            || zero(trace)
            || zero(parent)
        {
            return;
        }
        self.trace_id = Some((*trace).to_owned());
        self.parent_id = Some((*parent).to_owned());
        self.sampled = u8::from_str_radix(flags, 16).is_ok_and(|flags| flags & 1 == 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Tags {
        tags(text.as_bytes(), Dialect::reported(Some("on"), Some("UTF8")))
    }

    #[test]
    fn what_a_framework_says_is_read() {
        let found = of(
            "SELECT 1 /*action='%2Findex%20it',framework='django',route='^polls/%24',unknown='x',\
             traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-c532cb4098ac3dd2-01'*/",
        );
        assert_eq!(
            found.text,
            "action='/index it',framework='django',route='^polls/$'"
        );
        let trace = found.trace_id.as_deref();
        assert_eq!(trace, Some("5bd66ef5095369c7b0d1f8f4bd33716a"));
        assert_eq!(found.parent_id.as_deref(), Some("c532cb4098ac3dd2"));
        assert!(found.sampled);
    }

    #[test]
    fn other_comments_are_not_kept() {
        for text in [
            "SELECT 1 /* action = 'secret' and more */",
            "SELECT 1 /*password='secret'*/",
            "SELECT 1 -- action='secret'",
            "SELECT '/*action=''secret''*/'",
            "SELECT 1 /*action='secret'",
            "SELECT 1 /*action='secret' controller='x'*/",
            "SELECT 1 /*traceparent='00-00000000000000000000000000000000-c532cb4098ac3dd2-01'*/",
            "SELECT 1 /*traceparent='secret'*/",
        ] {
            assert_eq!(of(text), Tags::default(), "{text}");
        }
    }

    #[test]
    fn the_last_of_a_key_counts_and_quotes_may_be_escaped() {
        assert_eq!(
            of("/*action='a'*/ SELECT 1 /* action='it\\'s' , job='b' */").text,
            "action='it's',job='b'"
        );
    }
}
