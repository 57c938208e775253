//! Words that stand for a value: names that a program makes up as it goes, and constants that are spelled as words.

/// Where the names of savepoints, cursors, prepared statements and channels stand in a statement. Programs number them, and
/// to tell them apart would make a fingerprint of each number.
#[derive(Debug, Default)]
pub(super) struct Naming {
    state: State,
    /// The word before the one that is asked about.
    before: Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// Nothing has come so far.
    #[default]
    Begin,
    /// The next word is a name, but for some that may stand before it.
    Next,
    /// ROLLBACK: a name follows TO.
    Rollback,
    /// FETCH and MOVE: every word is a name that is no direction.
    Cursor,
    /// No names.
    Over,
}

/// What stands before a word, as far as it decides whether that is a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Before {
    #[default]
    Other,
    /// IS, NOT, SET, NULLS: TRUE, FALSE and NULL behind it are part of the syntax.
    Syntax,
}

impl Naming {
    /// Whether a word, in lower case, is such a name. Every word must be asked about, in order.
    #[inline]
    pub(super) fn is_name(&mut self, word: &[u8], quoted: bool) -> bool {
        match self.state {
            State::Over => false,
            State::Begin => {
                self.state = match word {
                    b"savepoint" | b"release" | b"declare" | b"close" | b"prepare" | b"execute"
                    | b"deallocate" | b"listen" | b"unlisten" | b"notify" => State::Next,
                    b"rollback" => State::Rollback,
                    b"fetch" | b"move" => State::Cursor,
                    _ => State::Over,
                };
                false
            }
            State::Next => {
                // `RELEASE SAVEPOINT a`, `DEALLOCATE PREPARE a`.
                if !quoted && matches!(word, b"savepoint" | b"prepare") {
                    return false;
                }
                self.state = State::Over;
                // `CLOSE ALL`, `PREPARE TRANSACTION 'a'`.
                quoted || !matches!(word, b"all" | b"transaction")
            }
            State::Rollback => {
                if !quoted && word == b"to" {
                    self.state = State::Next;
                }
                false
            }
            State::Cursor => {
                quoted
                    || !matches!(
                        word,
                        b"next"
                            | b"prior"
                            | b"first"
                            | b"last"
                            | b"absolute"
                            | b"relative"
                            | b"forward"
                            | b"backward"
                            | b"all"
                            | b"from"
                            | b"in"
                    )
            }
        }
    }

    /// A literal came: where a name is waited for, it stands for one.
    #[inline]
    pub(super) fn on_literal(&mut self) {
        if matches!(self.state, State::Begin | State::Next) {
            self.state = State::Over;
        }
    }

    /// Whether a word without quotes, in lower case, is a constant: TRUE, FALSE or NULL as a value.
    #[inline]
    pub(super) fn is_constant(&mut self, word: &[u8]) -> bool {
        let before = std::mem::replace(
            &mut self.before,
            match word {
                b"is" | b"not" | b"set" | b"nulls" => Before::Syntax,
                _ => Before::Other,
            },
        );
        before == Before::Other && matches!(word, b"true" | b"false" | b"null")
    }
}
