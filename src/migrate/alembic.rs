//! Alembic's directory of revisions: read for what is pending, never run.
//!
//! A revision is a Python module that names itself and those it follows in assignments at its top level:
//! `revision = "…"`, `down_revision = "…"`, a tuple of several where branches meet, `None` where it begins. Alembic's template
//! writes them, with or without type annotations, so they are read as text; what a program works out cannot be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The revisions of a directory, each with those it comes after.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revisions(BTreeMap<String, Vec<String>>);

/// Why revisions cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RevisionsError {
    /// The directory or a file.
    #[error("Alembic's revisions in {} cannot be read", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// An assignment that is no text.
    #[error("{}: {name} is neither a text, nor several, nor None", path.display())]
    Unclear {
        /// The file.
        path: PathBuf,
        /// What is assigned to.
        name: &'static str,
    },
}

impl Revisions {
    /// Reads all revisions of a directory; Python files that name none are passed over.
    ///
    /// # Errors
    /// See [`RevisionsError`].
    pub fn read(directory: &Path) -> Result<Self, RevisionsError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            |source| RevisionsError::Io { path, source }
        };
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir(directory).map_err(io(directory))? {
            let path = entry.map_err(io(directory))?.path();
            if path.extension().is_none_or(|extension| extension != "py") {
                continue;
            }
            let bytes = std::fs::read(&path).map_err(io(&path))?;
            let text = String::from_utf8_lossy(&bytes);
            let assigned = |name| match assignment(&text, name) {
                None => Ok(Vec::new()),
                Some(value) => texts(value).ok_or_else(|| RevisionsError::Unclear {
                    path: path.clone(),
                    name,
                }),
            };
            let Some(revision) = assigned("revision")?.into_iter().next() else {
                continue;
            };
            let mut after = assigned("down_revision")?;
            after.extend(assigned("depends_on")?);
            all.insert(revision, after);
        }
        Ok(Self(all))
    }

    /// How many of them a database at these heads has not seen. `None` if one of the heads is no revision of these: the
    /// database is ahead of the directory, or it is another's.
    pub fn pending(&self, heads: &[String]) -> Option<usize> {
        let mut seen = BTreeSet::new();
        let mut left: Vec<&str> = heads.iter().map(String::as_str).collect();
        if !left.iter().all(|head| self.0.contains_key(*head)) {
            return None;
        }
        while let Some(revision) = left.pop() {
            // What is depended on may be the name of a branch, which is no revision.
            if let Some(after) = self.0.get(revision)
                && seen.insert(revision)
            {
                left.extend(after.iter().map(String::as_str));
            }
        }
        Some(self.0.len() - seen.len())
    }
}

/// What stands behind the `=` of an assignment at the beginning of a line, to the end of the text.
fn assignment<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let begins = line.strip_prefix(name).map(str::trim_start);
        if begins.is_some_and(|rest| rest.starts_with([':', '=']))
            && let Some(equals) = line.find('=')
        {
            return Some(&text[start + equals + 1..]);
        }
        start += line.len();
    }
    None
}

/// The texts of a value: one, or those in brackets; none for `None`. Nothing where it is something else.
fn texts(value: &str) -> Option<Vec<String>> {
    let mut found = Vec::new();
    let mut depth = 0_usize;
    let mut chars = value.chars().peekable();
    while let Some(char) = chars.next() {
        match char {
            '\'' | '"' => {
                found.push(chars.by_ref().take_while(|next| *next != char).collect());
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '#' => while chars.next_if(|next| *next != '\n').is_some() {},
            '\n' if depth == 0 => break,
            'N' if depth == 0 && found.is_empty() => {
                let rest: String = chars.by_ref().take(3).collect();
                return (rest == "one").then(Vec::new);
            }
            ',' => {}
            other if other.is_whitespace() => {}
            _ => return None,
        }
    }
    (!found.is_empty() || value.trim_start().starts_with("()")).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(all: &[(&str, &[&str])]) -> Revisions {
        let owned = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let all = all
            .iter()
            .map(|(name, after)| (name.to_string(), owned(after)));
        Revisions(all.collect())
    }

    #[test]
    fn assignments_are_read_as_the_template_writes_them() {
        for (text, expected) in [
            ("revision = 'abc'\n", Some(&["abc"][..])),
            (
                "\"\"\"Doc.\n\nRevision ID: x\n\"\"\"\nrevision: str = \"abc\"  # it's\n",
                Some(&["abc"]),
            ),
            (
                "revision: Union[str, Sequence[str], None] = None\n",
                Some(&[]),
            ),
            (
                "revision = (\n    \"abc\",  # 'no'\n    'def',\n)\nother = 'ghi'\n",
                Some(&["abc", "def"]),
            ),
            ("revision = ()\n", Some(&[])),
            ("revision = make()\n", None),
            ("revision =\n", None),
            // Another name, a comparison in a function, an assignment within one.
            (
                "revisions = 'x'\n    revision = 'y'\nrevision = 'abc'",
                Some(&["abc"]),
            ),
        ] {
            let value = assignment(text, "revision").expect(text);
            let expected: Option<Vec<String>> =
                expected.map(|all| all.iter().map(ToString::to_string).collect());
            assert_eq!(texts(value), expected, "{text}");
        }
        assert_eq!(assignment("down_revision = 'abc'\n", "revision"), None);
    }

    #[test]
    fn what_is_pending_is_what_no_head_comes_after() {
        // a ─ b ─ d ─ e (d joins b and c), and f which depends on b by name of a branch, too.
        let all = revisions(&[
            ("a", &[]),
            ("b", &["a"]),
            ("c", &["a"]),
            ("d", &["b", "c"]),
            ("e", &["d"]),
            ("f", &["b", "reports"]),
        ]);
        let pending = |heads: &[&str]| {
            let heads: Vec<_> = heads.iter().map(ToString::to_string).collect();
            all.pending(&heads)
        };
        assert_eq!(pending(&[]), Some(6));
        assert_eq!(pending(&["a"]), Some(5));
        assert_eq!(pending(&["b", "c"]), Some(3));
        assert_eq!(pending(&["d"]), Some(2));
        assert_eq!(pending(&["e", "f"]), Some(0));
        assert_eq!(pending(&["e", "z"]), None);
        // Two that come after each other are no endless loop.
        assert_eq!(
            revisions(&[("a", &["b"]), ("b", &["a"])]).pending(&["a".to_owned()]),
            Some(0)
        );
    }
}
