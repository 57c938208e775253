//! Values of parameters that a client is not told, because they are the server's and not for long.

use crate::backend::Server;
use crate::cluster::Base;
use crate::proxy::left::Defaulted;

/// What the client knows of them.
#[derive(Debug, Default)]
pub(super) struct Withheld {
    /// What it was last told of parameters that have the server's defaults now.
    former: Vec<(String, String)>,
    /// And of those that are being given back their values.
    told: Vec<(String, String)>,
}

impl Withheld {
    pub(super) fn is_empty(&self) -> bool {
        self.former.is_empty() && self.told.is_empty()
    }

    /// What had the server's default is given back, or nothing is.
    pub(super) fn on_restoring(&mut self, restoring: bool) {
        let former = std::mem::take(&mut self.former);
        self.told = if restoring { former } else { Vec::new() };
    }

    /// In a transaction that failed nothing is given back until it has ended.
    pub(super) fn on_failed(&mut self) {
        self.told.clear();
    }

    /// Whether this value is not for the client to know: it is the server's default, in place of the client's own; or the
    /// client's own, back again, and the client was told nothing else.
    pub(super) fn keeps(
        &mut self,
        (name, value): (&str, &str),
        defaulted: &Defaulted,
        login: &Base,
        server: &Server,
    ) -> bool {
        if !defaulted.has(name) {
            let mut told = self.told.iter();
            return told.any(|(known, told)| known == name && told == value);
        }
        let keeps = login.value(name).is_some_and(|own| own != value);
        if keeps
            && !self.former.iter().any(|(known, _)| known == name)
            && let Some(before) = server.parameters().get(name)
        {
            self.former.push((name.to_owned(), before.to_owned()));
        }
        keeps
    }
}
