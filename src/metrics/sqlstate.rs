//! The first two characters of a SQLSTATE as a bounded label.

/// The classes PostgreSQL defines (`src/backend/utils/errcodes.txt`), sorted for the search. A server-side function
/// may raise any five characters, so whatever is not listed is [`OTHER`].
const CLASSES: [&str; 44] = [
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22",
    "23", "24", "25", "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40",
    "42", "44", "53", "54", "55", "57", "58", "72", "F0", "HV", "P0", "XX",
];

/// The label of a class that PostgreSQL does not define.
const OTHER: &str = "other";

/// How many label values there are.
pub(super) const COUNT: usize = CLASSES.len() + 1;

/// The index of a SQLSTATE's class, below [`COUNT`]. Any text is fine, also one that is no SQLSTATE.
pub(super) fn index(sqlstate: &str) -> usize {
    sqlstate
        .get(..2)
        .and_then(|class| CLASSES.binary_search(&class).ok())
        .unwrap_or(CLASSES.len())
}

/// The label at an index.
pub(super) fn label(index: usize) -> &'static str {
    CLASSES.get(index).copied().unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_classes_are_found_and_everything_else_is_other() {
        assert!(CLASSES.windows(2).all(|pair| pair[0] < pair[1]));
        for class in CLASSES {
            assert_eq!(label(index(&format!("{class}000"))), class);
        }
        for hostile in ["", "2", "ZZ000", "é", "\u{1F600}", "4\n000", "a\"b"] {
            assert_eq!(label(index(hostile)), OTHER, "{hostile:?}");
        }
    }
}
