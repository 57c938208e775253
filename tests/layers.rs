//! Who may import whom, checked: every path that starts at `crate` or climbs by `super` is resolved to the module it
//! reaches, and that module must stand in the row of the one that names it.
//!
//! Rust lets any module of a crate use any other, so the order of the parts (ARCHITECTURE.md tells the reasons) would
//! last only as long as everyone remembers it. Reading the source as tokens is enough here: a path outside its own module
//! has to begin with `crate`, `super` or, in the program, with the crate's name.

use std::fmt;
use std::path::{Path, PathBuf};

/// One row a module: its layer, and what it may import. A module imports only from layers below its own.
const TABLE: &[(u8, &str, &[&str])] = &[
    (0, "error", &[]),
    (0, "secret", &[]),
    (0, "tasks", &[]),
    (0, "telemetry", &[]),
    (0, "pgwire", &[]),
    (0, "sql", &[]),
    (1, "dsn", &["secret", "error"]),
    (1, "scram", &["secret"]),
    (1, "md5", &["secret"]),
    // libpq's sslmode is part of a URL, so dsn holds it.
    (2, "tls", &["dsn", "secret", "error"]),
    (1, "pool", &["error"]),
    (
        3,
        "backend",
        &[
            "pgwire", "pool", "tls", "scram", "md5", "secret", "dsn", "error", "tasks",
        ],
    ),
    (
        3,
        "control",
        &["pool", "tls", "secret", "dsn", "error", "tasks"],
    ),
    (3, "metrics", &["pool", "error"]),
    (
        4,
        "auth",
        // What a login reveals or a file holds is what servers are logged in to with: backend's `Credentials`.
        &[
            "pgwire", "control", "backend", "tls", "scram", "md5", "secret", "metrics", "error",
        ],
    ),
    (4, "query", &["sql", "metrics", "error", "tasks"]),
    (4, "migrate", &["control", "metrics", "error"]),
    (4, "clients", &["metrics", "error"]),
    (
        4,
        "cluster",
        &[
            // The base set: what a client sent at login, applied to a server at checkout.
            "pgwire", "control", "backend", "pool", "sql", "secret", "dsn", "metrics", "error",
            "tasks",
        ],
    ),
    (
        5,
        "diagnosis",
        &["sql", "query", "clients", "metrics", "error", "tasks"],
    ),
    // A view of a server and of a pool's counts is theirs who keep them.
    (
        6,
        "status",
        &[
            "sql",
            "pool",
            "backend",
            "metrics",
            "cluster",
            "query",
            "clients",
            "diagnosis",
        ],
    ),
    (
        7,
        "http",
        &[
            "status", "metrics", "cluster", "query", "clients", "tls", "secret", "error", "tasks",
        ],
    ),
    (
        7,
        "console",
        &[
            "status", "cluster", "clients", "metrics", "pgwire", "tls", "error",
        ],
    ),
    (
        8,
        "proxy",
        &[
            "console", "auth", "cluster", "clients", "query", "backend", "pool", "pgwire", "sql",
            "tls", "scram", "secret", "metrics", "error", "tasks",
        ],
    ),
    (
        9,
        "config",
        &[
            "error",
            "secret",
            "tasks",
            "telemetry",
            "pgwire",
            "sql",
            "dsn",
            "scram",
            "md5",
            "tls",
            "pool",
            "backend",
            "control",
            "metrics",
            "auth",
            "query",
            "migrate",
            "clients",
            "cluster",
            "diagnosis",
            "status",
            "http",
            "console",
            "proxy",
        ],
    ),
    // The command line turns into settings that override others; it starts nothing.
    (
        10,
        "cli",
        &["config", "dsn", "secret", "telemetry", "error"],
    ),
    (11, "app", &[EVERYTHING_BELOW]),
    (12, "ops", &[EVERYTHING_BELOW]),
];

/// Stands for all modules of lower layers.
const EVERYTHING_BELOW: &str = "*";

/// What the program may name; it reaches the library by the crate's name.
const MAIN: &[&str] = &["cli", "app", "ops", "telemetry"];

#[test]
fn imports_go_down_only() {
    let files = sources();
    assert!(files.len() > 3, "the walk found next to nothing: {files:?}");
    let violations: Vec<String> = files
        .iter()
        .flat_map(|(path, text)| check(path, text))
        .map(|violation| violation.to_string())
        .collect();
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn every_module_of_the_crate_has_a_row() {
    let unknown: Vec<String> = sources()
        .iter()
        .filter_map(|(path, _)| module_of(path).into_iter().next())
        .filter(|module| row(module).is_none())
        .collect();
    assert!(
        unknown.is_empty(),
        "not in the table of tests/layers.rs: {unknown:?}"
    );
}

#[test]
fn the_table_itself_goes_down_only() {
    for (layer, module, imports) in TABLE {
        for import in imports.iter().filter(|import| **import != EVERYTHING_BELOW) {
            let (below, ..) = row(import)
                .unwrap_or_else(|| panic!("{module} may import {import}, which has no row"));
            assert!(
                below < layer,
                "{module} (layer {layer}) may import {import} (layer {below})"
            );
        }
    }
}

#[test]
fn planted_violations_are_found() {
    let planted: &[(&str, &str, &str)] = &[
        ("pool/gate.rs", "use crate::metrics::Metrics;", "metrics"),
        (
            "pool/gate.rs",
            "use crate::{error::Class, proxy::{relay, session}};",
            "proxy",
        ),
        (
            "pool/gate.rs",
            "fn f() { crate::config::Settings::default(); }",
            "config",
        ),
        ("pool/gate.rs", "use super::super::http;", "http"),
        (
            "pool/gate.rs",
            "use super::{event, super::backend::Server};",
            "backend",
        ),
        (
            "pool/gate.rs",
            "mod tests { use super::super::super::app; }",
            "app",
        ),
        (
            "pool/mod.rs",
            "macro_rules! m { () => { $crate::cluster::f() } }",
            "cluster",
        ),
        (
            "pool/mod.rs",
            "fn f<'a>(c: char) -> bool { c == '\"' } use crate::tls; // \"",
            "tls",
        ),
        ("pool/mod.rs", "use crate::*;", "the whole crate"),
        ("pool/mod.rs", "use crate::Something;", "Something"),
        (
            "pgwire/frames.rs",
            "use r#crate::x; use crate::error;",
            "error",
        ),
        ("proxy/relay.rs", "pub(in crate::app) fn f() {}", "app"),
        ("main.rs", "use poolwatch::proxy::Proxy;", "proxy"),
        (
            "pool/mod.rs",
            "#[path = \"../proxy/relay.rs\"] mod relay;",
            "#[path]",
        ),
    ];
    for (path, text, expected) in planted {
        let found = check(Path::new(path), text);
        assert!(
            found.len() == 1 && found[0].import == *expected,
            "{path}: `{text}` should be refused for {expected}, found {found:?}"
        );
    }
}

#[test]
fn what_is_no_import_is_left_alone() {
    let innocent: &[(&str, &str)] = &[
        (
            "pool/mod.rs",
            "// use crate::proxy;\n/* crate::app /* nested */ crate::http */ use crate::error;",
        ),
        (
            "pool/mod.rs",
            "/// See [`crate::metrics`].\nfn f() -> &'static str { \"crate::proxy \\\" crate::app\" }",
        ),
        (
            "pool/mod.rs",
            "const S: &str = r##\"use crate::proxy; \"# crate::app\"##; const B: &[u8] = b\"crate::app\";",
        ),
        (
            "pool/mod.rs",
            "pub(crate) fn f() {} pub(super) fn g() {} use crate::pool::Pool;",
        ),
        (
            "pool/gate.rs",
            "use super::event::CloseReason; mod tests { use super::*; use super::super::status; }",
        ),
        (
            "pool/gate.rs",
            "mod a { mod b {} } mod c { use super::super::event; }",
        ),
        ("main.rs", "use poolwatch::{cli, app::App};"),
        (
            "tls/mod.rs",
            "#[error(\"{path}\", path = path.display())] struct S;",
        ),
        ("ops/demo.rs", "use crate::app::App; use crate::cli;"),
    ];
    for (path, text) in innocent {
        let found = check(Path::new(path), text);
        assert!(found.is_empty(), "{path}: `{text}`: {found:?}");
    }
}

/// A path that its file's module may not use.
#[derive(Debug)]
struct Violation {
    file: PathBuf,
    line: usize,
    module: String,
    import: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            module,
            import,
        } = self;
        let allowed = if module == "main" {
            MAIN.to_vec()
        } else {
            row(module).map_or(vec![], |row| row.2.to_vec())
        };
        write!(
            f,
            "src/{}:{line}: {module} may not import {import}, only {allowed:?}",
            file.display()
        )
    }
}

fn row(module: &str) -> Option<&'static (u8, &'static str, &'static [&'static str])> {
    TABLE.iter().find(|(_, name, _)| *name == module)
}

fn may_import(module: &str, import: &str) -> bool {
    if module == "main" {
        return MAIN.contains(&import);
    }
    let (Some((layer, _, imports)), Some((below, ..))) = (row(module), row(import)) else {
        return false;
    };
    module == import
        || imports.contains(&import)
        || (imports.contains(&EVERYTHING_BELOW) && below < layer)
}

/// All Rust files under `src`, their paths relative to it.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut files) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("src is readable") {
            let path = entry.expect("src is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("sources are UTF-8");
                files.push((
                    path.strip_prefix(&root).expect("found under it").to_owned(),
                    text,
                ));
            }
        }
    }
    files.sort();
    files
}

/// The module path of a file: `pool/gate.rs` is `[pool, gate]`, `pool/mod.rs` is `[pool]`, the two roots are `[]`.
fn module_of(file: &Path) -> Vec<String> {
    let mut path: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    let last = path.last().map(String::as_str);
    if last == Some("mod") || (path.len() == 1 && matches!(last, Some("lib" | "main"))) {
        path.pop();
    }
    path
}

/// Every import in `text` that the table does not grant to the module of `file`.
fn check(file: &Path, text: &str) -> Vec<Violation> {
    let home = module_of(file);
    let module = match home.first() {
        Some(module) => module.clone(),
        None if file == Path::new("main.rs") => "main".to_owned(),
        // The root of the library only declares and re-exports.
        None => return Vec::new(),
    };
    let mut found = imports(&tokens(text), &home);
    // `use crate::proxy::{relay, session}` names one module twice.
    found.dedup();
    found
        .into_iter()
        .filter(|(_, import)| !may_import(&module, import))
        .map(|(line, import)| Violation {
            file: file.to_owned(),
            line,
            module: module.clone(),
            import,
        })
        .collect()
}

/// A word or a single punctuation mark, and its line. `::` is one token.
struct Token<'a> {
    line: usize,
    text: &'a str,
}

/// The modules of the crate that `tokens` reach by a path, each with its line.
fn imports(tokens: &[Token<'_>], home: &[String]) -> Vec<(usize, String)> {
    let text = |at: usize| tokens.get(at).map_or("", |token: &Token<'_>| token.text);
    let mut found = Vec::new();
    // Inline modules lengthen the path that `super` climbs; each is left at the depth it was entered at.
    let (mut here, mut depth, mut entered) = (home.to_vec(), 0usize, Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        match text(at) {
            "mod" if text(at + 2) == "{" => {
                here.push(text(at + 1).to_owned());
                entered.push(depth);
                at += 2;
                continue;
            }
            "{" => depth += 1,
            "}" => {
                depth = depth.saturating_sub(1);
                if entered.last() == Some(&depth) {
                    entered.pop();
                    here.pop();
                }
            }
            // A file taken from elsewhere would be read here under the wrong module.
            "path"
                if text(at + 1) == "=" && at > 1 && text(at - 1) == "[" && text(at - 2) == "#" =>
            {
                found.push((tokens[at].line, "#[path]".to_owned()));
            }
            "crate" | "poolwatch" if text(at + 1) == "::" => {
                at = follow(tokens, at + 2, &[], &mut found);
                continue;
            }
            "super" if text(at + 1) == "::" => {
                at = follow(tokens, at, &here, &mut found);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one path, or one tree of `use`, that starts at `at` and is relative to `base`; returns where it ends.
fn follow(
    tokens: &[Token<'_>],
    mut at: usize,
    base: &[String],
    found: &mut Vec<(usize, String)>,
) -> usize {
    let mut path = base.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.line);
    loop {
        match tokens.get(at).map_or("", |token| token.text) {
            "super" => drop(path.pop()),
            "self" => {}
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = follow(tokens, at, &path, found);
                    // What stands between two branches: `as name`, the comma.
                    while tokens
                        .get(at)
                        .is_some_and(|token| !matches!(token.text, "," | "}"))
                    {
                        at += 1;
                    }
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            // `crate::Something` in the middle of code, `use crate::*`: the first name decides.
            word => path.push(if word == "*" {
                "the whole crate".to_owned()
            } else {
                word.to_owned()
            }),
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token.text != "::") {
            break;
        }
        at += 1;
    }
    found.push((
        line,
        path.into_iter()
            .next()
            .unwrap_or_else(|| "the whole crate".to_owned()),
    ));
    at
}

/// Splits Rust source into words and marks, without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let bytes = text.as_bytes();
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while at < bytes.len() {
        let rest = &text[at..];
        let length = match skipped(rest) {
            Some(length) => length,
            None => {
                let length = if is_word(bytes[at]) {
                    rest.bytes().take_while(|byte| is_word(*byte)).count()
                } else {
                    1 + usize::from(rest.starts_with("::"))
                };
                found.push(Token {
                    line,
                    text: &rest[..length],
                });
                length
            }
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

fn is_word(byte: u8) -> bool {
    byte == b'_' || byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// The length of what stands at the start of `rest` and holds no code: white space, a comment, a literal.
fn skipped(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    if bytes[0].is_ascii_whitespace() {
        return Some(1);
    }
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment(bytes));
    }
    // A prefix belongs to the literal (`b"…"`, `r#"…"#`, `c"…"`), but `r#name` is a word.
    let prefix = bytes
        .iter()
        .take_while(|byte| matches!(byte, b'b' | b'r' | b'c'))
        .count()
        .min(2);
    let hashes = bytes[prefix..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    if bytes.get(prefix + hashes) == Some(&b'"') {
        let open = prefix + hashes + 1;
        if bytes[..prefix].contains(&b'r') {
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(
                rest[open..]
                    .find(&end)
                    .map_or(rest.len(), |found| open + found + end.len()),
            );
        }
        return (hashes == 0).then(|| quoted(bytes, open, b'"'));
    }
    if rest.starts_with("r#") {
        return Some(2 + bytes[2..].iter().take_while(|byte| is_word(**byte)).count());
    }
    if bytes[0] == b'\'' {
        // `'a'` is a character, `'a` a lifetime: the character ends with a quote after one char or after an escape.
        let mut chars = rest[1..].chars();
        let is_char = chars.next() == Some('\\') || chars.next() == Some('\'');
        return Some(if is_char { quoted(bytes, 1, b'\'') } else { 1 });
    }
    None
}

/// The length of a literal whose text starts at `at` and ends with an unescaped `quote`.
fn quoted(bytes: &[u8], mut at: usize, quote: u8) -> usize {
    while at < bytes.len() && bytes[at] != quote {
        at += 1 + usize::from(bytes[at] == b'\\');
    }
    (at + 1).min(bytes.len())
}

/// The length of a block comment; those of Rust nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}
