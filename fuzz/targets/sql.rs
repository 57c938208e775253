//! The looks at a query's text.

use poolwatch::sql::{Dialect, Scan, classify, describe, look, statements, tags};

/// Looks at a text whole and in pieces: what is seen in the whole is seen in the pieces too. The first byte says how long
/// those are.
pub fn sql(data: &[u8]) {
    let Some((length, text)) = data.split_first() else {
        return;
    };
    let mut scan = Scan::default();
    for piece in text.chunks(usize::from(*length).max(1)) {
        scan.feed(piece);
    }
    let found = scan.finish();
    if let Some(whole) = classify(text) {
        assert_eq!(found, Some(whole));
    }
    for (conforming, encoding) in [
        (Some("on"), Some("UTF8")),
        (Some("off"), Some("SJIS")),
        (None, None),
    ] {
        told_apart(text, Dialect::reported(conforming, encoding));
    }
}

/// Each statement of a text has one fingerprint, which the text that is shown has too.
fn told_apart(text: &[u8], dialect: Dialect) {
    statements(text, dialect, |one| {
        let described = describe(one, dialect);
        assert_eq!(look(one, dialect).fingerprint, described.fingerprint);
        assert!(described.text.len() < 8192 && described.summary.len() < 512);
    });
    assert!(tags(text, dialect).text.len() < 4096);
}
