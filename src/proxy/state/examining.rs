//! Parameters that were set back by their values, and not by RESET.
//!
//! What value a parameter had is not told where PostgreSQL does not report it. But drivers do set some aside for a moment:
//! asyncpg sets `jit` by `set_config` around each look at a type, and would keep its server for the rest of its session.
//! So where parameters are all that keeps a server, and each was set more than once, PostgreSQL itself is asked whether they
//! have the values that RESET would give. Those that do are reset, so that they follow the configuration again.

use crate::proxy::left::Left;

/// In a row; a session that toggles parameters between other values is not asked about for ever.
const IN_VAIN: u32 = 3;

/// What is asked, if anything.
#[derive(Debug, Default)]
pub(super) struct Examining {
    /// These, about which a query is under way.
    asked: Vec<String>,
    /// These are to be reset.
    back: Vec<String>,
    in_vain: u32,
}

impl Examining {
    /// Whether all that it remembers may be forgotten.
    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.back.is_empty() && self.in_vain == 0
    }

    /// The query to send, between transactions.
    pub(super) fn next(&mut self, left: &mut Left) -> Option<String> {
        if !self.back.is_empty() {
            let back = std::mem::take(&mut self.back);
            let resets: Vec<String> = back.iter().map(|name| format!("RESET {name}")).collect();
            return Some(resets.join("; "));
        }
        if self.in_vain >= IN_VAIN {
            return None;
        }
        let names = left.perhaps_set_back();
        // A parameter of an extension, or of the application itself, is gone on a server that has not seen it.
        let plain = |name: &String| {
            let mut bytes = name.bytes();
            bytes.all(|byte| byte == b'_' || byte.is_ascii_lowercase() || byte.is_ascii_digit())
        };
        if names.is_empty() || !names.iter().all(plain) {
            return None;
        }
        let list = names.join("', '");
        self.asked = names;
        Some(format!(
            "SELECT FROM pg_catalog.pg_settings WHERE name IN ('{list}') AND setting = reset_val"
        ))
    }

    /// A statement of ours was completed.
    pub(super) fn on_done(&mut self, tag: &[u8], left: &mut Left) {
        let asked = std::mem::take(&mut self.asked);
        if asked.is_empty() {
            return;
        }
        if tag == format!("SELECT {}", asked.len()).as_bytes() {
            left.on_set_back();
            self.back = asked;
            self.in_vain = 0;
        } else {
            self.in_vain += 1;
        }
    }

    /// The query failed. Whether one was under way.
    pub(super) fn on_failed(&mut self) -> bool {
        let asked = !std::mem::take(&mut self.asked).is_empty();
        self.in_vain += u32::from(asked);
        asked
    }
}
