//! How much is read from clients: less while an operator suspends them.

use std::sync::atomic::{AtomicU8, Ordering};

/// What is read from clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reading {
    /// All they send.
    #[default]
    Everything,
    /// What goes on with something that has begun: a transaction, a COPY, a message. Others wait for servers that are tied up in
    /// those.
    Begun,
    /// Nothing.
    Nothing,
}

/// A [`Reading`] that is changed from outside its session.
#[derive(Debug, Default)]
pub(crate) struct ReadingCell(AtomicU8);

impl ReadingCell {
    pub(crate) fn get(&self) -> Reading {
        match self.0.load(Ordering::Relaxed) {
            0 => Reading::Everything,
            1 => Reading::Begun,
            _ => Reading::Nothing,
        }
    }

    pub(crate) fn set(&self, reading: Reading) {
        self.0.store(reading as u8, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_set_is_there() {
        let cell = ReadingCell::default();
        assert_eq!(cell.get(), Reading::default());
        for reading in [Reading::Nothing, Reading::Begun, Reading::Everything] {
            cell.set(reading);
            assert_eq!(cell.get(), reading);
        }
    }
}
