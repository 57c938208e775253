//! The look at a query's text.

use poolwatch::sql::{Scan, classify};

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
}
