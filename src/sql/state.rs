//! Does a text name something that would outlive its transaction in the session?
//!
//! A command tag tells SET, LISTEN or CREATE TABLE, but `SELECT set_config(…)`, `SELECT pg_advisory_lock(…)`,
//! `SELECT … INTO TEMP t` and `CREATE TEMP TABLE t AS …` all answer `SELECT`. These are found in the text. The look is
//! deliberately coarse: a word in a comment or a literal counts too, because a session that is pinned for nothing is
//! slower, and one that is not pinned when it should be is wrong. What a function of the database hides is seen by no
//! pooler.

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateWord {
    /// `set_config`.
    SetConfig,
    /// `pg_advisory_lock` and its relatives, the `pg_try_…` ones included.
    AdvisoryLock,
    /// A temporary table is made: `INTO TEMP`, `TEMP TABLE`, or a name in `pg_temp`.
    IntoTemp,
}

/// Bytes at which a word of interest may stand: the `_` of set_config and pg_temp, the `v` of advisory, the `m` of temp,
/// the `o` that ends `into`. All others are passed over by one look into this table.
const ANCHOR: [bool; 256] = {
    let mut anchor = [false; 256];
    let bytes = b"_vVmMoO";
    let mut at = 0;
    while at < bytes.len() {
        anchor[bytes[at] as usize] = true;
        at += 1;
    }
    anchor
};

/// Looks through a whole text. Linear; each byte is looked at once, but for the word after an `INTO`.
pub fn state_word(text: &[u8]) -> Option<StateWord> {
    let mut start = 0;
    while let Some(offset) = text[start..]
        .iter()
        .position(|byte| ANCHOR[usize::from(*byte)])
    {
        let at = start + offset;
        start = at + 1;
        // The letter before the anchor tells most of them apart already. 0x7f is `_` in this lower case.
        let before = at
            .checked_sub(1)
            .map_or(0, |previous| text[previous] | 0x20);
        let found = match (text[at] | 0x20, before) {
            (0x7f, b't') => around(text, at, 3, b"set_config").then_some(StateWord::SetConfig),
            (0x7f, b'g') => around(text, at, 2, b"pg_temp").then_some(StateWord::IntoTemp),
            (b'v', b'd') => around(text, at, 2, b"advisory").then_some(StateWord::AdvisoryLock),
            (b'm', b'e') if around(text, at, 2, b"temp") && table_follows(&text[at + 2..]) => {
                Some(StateWord::IntoTemp)
            }
            (b'o', b't') if around(text, at, 3, b"into") && into_temporary(&text[at + 1..]) => {
                Some(StateWord::IntoTemp)
            }
            _ => None,
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

/// Whether `word` stands at `at`, `before` bytes of it in front; letters of either case.
fn around(text: &[u8], at: usize, before: usize, word: &[u8]) -> bool {
    at.checked_sub(before)
        .and_then(|start| text.get(start..start + word.len()))
        .is_some_and(|found| found.eq_ignore_ascii_case(word))
}

/// Whether `temp`, cut off in front, goes on as in `CREATE TEMP TABLE` or `TEMPORARY TABLE`. A text that ends too early to
/// say is taken for one.
fn table_follows(after: &[u8]) -> bool {
    let gap = match after.split_at_checked(5) {
        Some((ending, rest)) if ending.eq_ignore_ascii_case(b"orary") => rest,
        _ => after,
    };
    let Some(word) = skip_space(gap) else {
        return true;
    };
    let length = word.len().min(5);
    word.len() < gap.len() && word[..length].eq_ignore_ascii_case(&b"table"[..length])
}

/// Whether what follows `into` names a temporary table: TEMP, TEMPORARY, LOCAL or GLOBAL TEMP, pg_temp.
/// A text that ends before the word does is taken for one.
fn into_temporary(after: &[u8]) -> bool {
    let Some(rest) = skip_space(after) else {
        return true;
    };
    if rest.len() == after.len()
        && rest
            .first()
            .is_none_or(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return rest.is_empty(); // "intox": another word
    }
    let rest = rest.strip_prefix(b"\"").unwrap_or(rest);
    let length = rest
        .iter()
        .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_')
        .unwrap_or(rest.len());
    let word = &rest[..length];
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    let starts = |name: &str| {
        word.len() >= name.len() && word[..name.len()].eq_ignore_ascii_case(name.as_bytes())
    };
    let escaped = is("u") && rest.get(1) == Some(&b'&');
    length == rest.len() && "pg_temporary".len() > length && could_become_temporary(word)
        || is("temp")
        || is("temporary")
        || is("local")
        || is("global")
        || starts("pg_temp")
        || escaped
}

/// Whether a word that the text breaks off in could go on to be one of those that matter.
fn could_become_temporary(word: &[u8]) -> bool {
    ["temporary", "local", "global", "pg_temp", "u&"]
        .iter()
        .any(|name| {
            word.len() <= name.len() && name.as_bytes()[..word.len()].eq_ignore_ascii_case(word)
        })
}

/// Skips white space and comments; `None` when the text ends inside them.
fn skip_space(mut text: &[u8]) -> Option<&[u8]> {
    loop {
        text = text.trim_ascii_start();
        if let Some(comment) = text.strip_prefix(b"--") {
            text = &comment[memchr::memchr2(b'\n', b'\r', comment)?..];
        } else if let Some(comment) = text.strip_prefix(b"/*") {
            text = skip_block_comment(comment)?;
        } else {
            return (!text.is_empty()).then_some(text);
        }
    }
}

/// Skips to the end of a block comment; they nest in PostgreSQL.
fn skip_block_comment(mut text: &[u8]) -> Option<&[u8]> {
    let mut depth = 1;
    while depth > 0 {
        let at = memchr::memchr2(b'*', b'/', text)?;
        match text.get(at..at + 2)? {
            b"*/" => depth -= 1,
            b"/*" => depth += 1,
            _ => {
                text = &text[at + 1..];
                continue;
            }
        }
        text = &text[at + 2..];
    }
    Some(text)
}

/// The same look at a text that passes in pieces, because it is larger than a buffer.
#[derive(Debug, Default)]
pub struct StateScan {
    tail: Vec<u8>,
}

impl StateScan {
    /// Longer than any of the words, so that one that lies across two pieces is seen whole.
    const OVERLAP: usize = 32;

    /// Looks at the next piece. An `INTO` whose table is not in sight yet counts as temporary.
    pub fn feed(&mut self, piece: &[u8]) -> Option<StateWord> {
        let joint_end = piece.len().min(Self::OVERLAP);
        let carried = std::mem::take(&mut self.tail);
        let mut joint = carried;
        joint.extend_from_slice(&piece[..joint_end]);
        let found = state_word(&joint).or_else(|| state_word(piece));
        let source = if piece.len() >= Self::OVERLAP {
            piece
        } else {
            &joint
        };
        self.tail = source[source.len().saturating_sub(Self::OVERLAP)..].to_vec();
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_that_leave_state_are_found_in_either_case() {
        for (text, word) in [
            ("select set_config('a','b',false)", StateWord::SetConfig),
            (
                "SELECT Pg_Catalog.SET_CONFIG($1,$2,$3)",
                StateWord::SetConfig,
            ),
            ("select pg_advisory_lock(1)", StateWord::AdvisoryLock),
            (
                "select pg_try_advisory_lock_shared(1)",
                StateWord::AdvisoryLock,
            ),
            ("select 1 INTO TEMP t", StateWord::IntoTemp),
            (
                "select 1 into/* x /* y */ */temporary t",
                StateWord::IntoTemp,
            ),
            ("select 1 into -- why\n local temp t", StateWord::IntoTemp),
            ("select 1 into pg_temp.t", StateWord::IntoTemp),
            ("select 1 into \"pg_temp_3\".t", StateWord::IntoTemp),
            ("create temp table t as select 1", StateWord::IntoTemp),
            (
                "CREATE GLOBAL TEMPORARY/**/TABLE t AS EXECUTE p",
                StateWord::IntoTemp,
            ),
            ("create table pg_temp.t as select 1", StateWord::IntoTemp),
            ("select 1 into U&\"pg\\005ftemp\".t", StateWord::IntoTemp),
        ] {
            assert_eq!(state_word(text.as_bytes()), Some(word), "{text}");
        }
    }

    #[test]
    fn ordinary_statements_are_left_alone() {
        for text in [
            "select 1",
            "insert into temperature values (1)",
            "select temp, attempt from template table_of_temps",
            "select temporary, temps table from t\0",
            "insert into t values ('o')",
            "select \"offset\", config from set_of_configs",
            "insert into localities select * from t",
            "update t set v = v + 1 where intox = 1",
            "",
        ] {
            assert_eq!(state_word(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_word_is_seen_wherever_the_pieces_are_cut(cut in 0usize..60, pad in 0usize..50) {
            let text = format!("select {}pg_advisory_lock(1) from t", "x".repeat(pad));
            let cut = cut.min(text.len());
            let mut scan = StateScan::default();
            let first = scan.feed(&text.as_bytes()[..cut]);
            let second = scan.feed(&text.as_bytes()[cut..]);
            prop_assert!(first.or(second).is_some());
        }

        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = state_word(&text);
        }
    }
}
