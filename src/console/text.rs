//! A command's text, taken apart: `verb [argument] [;]`, or `SET key = value [;]`.

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    /// A verb, in lower case, and what it is to act on.
    Command {
        verb: String,
        argument: Option<String>,
    },
    /// A setting and its new value.
    Set { key: String, value: String },
}

/// No name of a database or of a setting is longer; PgBouncer takes 63 bytes.
const LONGEST: usize = 255;

impl Text {
    /// Takes a text apart; `None` where it is no command.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let verb = word(&mut rest)?;
        let verb = verb.to_ascii_lowercase();
        let mut rest_of_set = rest;
        if verb == "set"
            && let Some(set) = setting(&mut rest_of_set)
        {
            return Some(set);
        }
        let argument = match ends(rest) {
            true => None,
            // Between the two there must be space.
            false if rest.starts_with(space) => Some(word(&mut rest)?),
            false => return None,
        };
        ends(rest).then_some(Text::Command { verb, argument })
    }
}

fn setting(rest: &mut &str) -> Option<Text> {
    let key = word(rest)?.to_ascii_lowercase();
    let trimmed = rest.trim_start_matches(space);
    *rest = match trimmed.strip_prefix('=') {
        Some(after) => after,
        None => {
            let after = trimmed.get(2..)?;
            let to = trimmed.get(..2)?.eq_ignore_ascii_case("to");
            (to && after.starts_with(|c: char| space(c) || c == '\'')).then_some(after)?
        }
    };
    let trimmed = rest.trim_start_matches(space);
    let value = match trimmed.strip_prefix('\'') {
        Some(inside) => {
            let (value, after) = quoted(inside, '\'')?;
            *rest = after;
            value
        }
        None => word(rest)?,
    };
    ends(rest).then_some(Text::Set { key, value })
}

/// The next word: a name in quotation marks, or letters, digits and the like.
fn word(rest: &mut &str) -> Option<String> {
    let trimmed = rest.trim_start_matches(space);
    let (text, after) = match trimmed.strip_prefix('"') {
        Some(inside) => quoted(inside, '"')?,
        None => {
            let end = trimmed.find(|c: char| !plain(c)).unwrap_or(trimmed.len());
            (trimmed[..end].to_owned(), &trimmed[end..])
        }
    };
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    *rest = after;
    Some(text)
}

/// What a word may be made of without quotation marks; PgBouncer takes fewer.
fn plain(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$')
}

/// Up to the closing mark, of which two stand for one.
fn quoted(inside: &str, mark: char) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut rest = inside;
    loop {
        let (before, after) = rest.split_once(mark)?;
        text.push_str(before);
        match after.strip_prefix(mark) {
            Some(more) => {
                text.push(mark);
                rest = more;
            }
            None => return Some((text, after)),
        }
    }
}

fn space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}

/// Whether nothing follows but space and one semicolon.
fn ends(rest: &str) -> bool {
    let rest = rest.trim_matches(space);
    rest.strip_suffix(';')
        .unwrap_or(rest)
        .trim_end_matches(space)
        .is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn command(verb: &str, argument: Option<&str>) -> Option<Text> {
        Some(Text::Command {
            verb: verb.to_owned(),
            argument: argument.map(str::to_owned),
        })
    }

    #[test]
    fn verbs_have_an_argument_or_none() {
        assert_eq!(Text::parse("SHOW Pools"), command("show", Some("Pools")));
        assert_eq!(
            Text::parse("\n show\tpools ; "),
            command("show", Some("pools"))
        );
        assert_eq!(Text::parse("PAUSE;"), command("pause", None));
        assert_eq!(Text::parse("\"show\" help"), command("show", Some("help")));
        let name = Some("my \"own\" db");
        assert_eq!(
            Text::parse("PAUSE \"my \"\"own\"\" db\";"),
            command("pause", name)
        );
        assert_eq!(
            Text::parse("kill_client 17"),
            command("kill_client", Some("17"))
        );
        for wrong in [
            "",
            ";",
            "show lists;;",
            "foo 1; bar",
            "show a b",
            "pause\"x\"",
            "show \"a",
            "pause ''",
            "\"\"",
        ] {
            assert_eq!(Text::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn settings_have_a_value() {
        let set = |key: &str, value: &str| {
            Some(Text::Set {
                key: key.to_owned(),
                value: value.to_owned(),
            })
        };
        assert_eq!(Text::parse("SET verbose=1"), set("verbose", "1"));
        assert_eq!(Text::parse("set Pool.Size = 30;"), set("pool.size", "30"));
        assert_eq!(Text::parse("set a to 'it''s'"), set("a", "it's"));
        assert_eq!(Text::parse("set a to b"), set("a", "b"));
        assert_eq!(Text::parse("set a = ''"), set("a", ""));
        assert_eq!(Text::parse("set a = -1"), set("a", "-1"));
        for wrong in [
            "set a = ",
            "set = b",
            "set a tob",
            "set a = 'b",
            "set a = b c",
        ] {
            assert_eq!(Text::parse(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}", kind in 0_usize..3) {
            let start = ["", "SET a ", "PAUSE \""][kind];
            let _ = Text::parse(&format!("{start}{text}"));
        }
    }
}
