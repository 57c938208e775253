//! The look at a query's text.

use poolwatch::sql::{StateScan, state_word};

/// Looks at a text whole and in pieces: what is seen in the whole is seen in the pieces too. The first byte says how long
/// those are.
pub fn sql(data: &[u8]) {
    let Some((length, text)) = data.split_first() else {
        return;
    };
    let whole = state_word(text);
    let mut scan = StateScan::default();
    let mut pieces = text.chunks(usize::from(*length).max(1));
    let found = pieces.any(|piece| scan.feed(piece).is_some());
    assert!(found || whole.is_none(), "{whole:?}");
}
