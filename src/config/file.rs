//! Settings files: TOML, one table a section.

use std::collections::HashMap;
use std::path::Path;

use config::{File, FileFormat, Source, Value, ValueKind};

use super::load::Reading;
use super::origin::Origin;
use super::problem::Wrong;
use super::sources::Sources;

/// Hands every key of a file to `reading`.
pub(super) fn read(sources: &Sources, path: &Path, reading: &mut Reading) {
    let whole_file = Origin::File {
        path: path.to_owned(),
        line: None,
    };
    let text = match (sources.read)(path) {
        Ok(text) => text,
        Err(error) => {
            let cause = error.to_string();
            return reading.wrong(whole_file, None, Wrong::Unreadable { cause });
        }
    };
    let sections = match File::from_str(&text, FileFormat::Toml).collect() {
        Ok(sections) => sections,
        Err(error) => {
            let cause = without_the_line(&error.to_string());
            return reading.wrong(whole_file, None, Wrong::Syntax { cause });
        }
    };
    let lines = Lines::of(&text);
    for (section, value) in sorted(sections) {
        let at = |key: &str| Origin::File {
            path: path.to_owned(),
            line: lines.find(&section, key),
        };
        match value.kind {
            ValueKind::Table(keys) => {
                for (key, value) in sorted(keys) {
                    let name = format!("{section}.{key}");
                    match as_text(&value) {
                        Some(text) => reading.take(&name, &text, at(&key)),
                        None => reading.wrong(at(&key), Some(name), Wrong::NotOneValue),
                    }
                }
            }
            _ => reading.wrong(at(""), Some(section.clone()), Wrong::NoSection),
        }
    }
}

/// A value as the other layers would write it; a list becomes one text with commas.
fn as_text(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::Table(_) => None,
        ValueKind::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(as_text).collect();
            items.map(|items| items.join(","))
        }
        other => Some(other.to_string()),
    }
}

/// The parser's message shows the line that it stumbled over, which may hold a password: the position and the reason
/// are kept, the lines of the excerpt (`1 | url = …`) are not.
fn without_the_line(message: &str) -> String {
    let kept: Vec<_> = message
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.contains('|'))
        .collect();
    kept.join(": ")
}

/// So that problems come in the same order every time.
fn sorted<V>(map: impl IntoIterator<Item = (String, V)>) -> Vec<(String, V)> {
    let mut entries: Vec<_> = map.into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    entries
}

/// On which line each key stands. The parser does not tell, so the plain ways to write one are looked for:
/// `[section]` with `key =`, and `section.key =`.
struct Lines(HashMap<(String, String), usize>);

impl Lines {
    fn of(text: &str) -> Self {
        let mut found = HashMap::new();
        let mut section = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(rest) = line.strip_prefix('[') {
                let name = rest.split(']').next().unwrap_or(rest).trim();
                section = name.trim_matches(['"', '\'']).to_owned();
                continue;
            }
            let Some((key, _)) = line.split_once('=') else {
                continue;
            };
            let key = key.trim();
            let (section, key) = match key.split_once('.') {
                Some((first, rest)) if section.is_empty() => (first.trim(), rest.trim()),
                None if section.is_empty() => (key, ""),
                _ => (section.as_str(), key),
            };
            let key = key.trim_matches(['"', '\'']).to_owned();
            found.entry((section.to_owned(), key)).or_insert(at + 1);
        }
        Self(found)
    }

    fn find(&self, section: &str, key: &str) -> Option<usize> {
        self.0.get(&(section.to_owned(), key.to_owned())).copied()
    }
}
