//! Which statement of a text was run, and what of it counts.

use super::tags::{fits, is_understood};
use super::texts::Bound;
use crate::cluster::Base;
use crate::proxy::left::{Defaulted, Left};
use crate::sql::{Action, Found, Statement};

impl Left {
    /// A statement was run, and which one is known.
    pub(super) fn on_one(&mut self, statement: &Statement, bound: &Bound, login: Option<&Base>) {
        let tracked = |name: &str| login.is_some_and(|login| login.tracks(name));
        if bound.begun {
            return self.on_more_rows(statement, tracked);
        }
        // Where the client logged in with a role, to have none is not what RESET ROLE gives it.
        let role = login.and_then(|login| login.value("role"));
        if statement.action == Action::NoRole && role.is_some() {
            let action = Action::Set("role".to_owned());
            let set = Statement {
                action,
                ..statement.clone()
            };
            return self.on_statement(&set, bound.parameters, tracked);
        }
        self.on_statement(statement, bound.parameters, tracked);
        if bound.restored && statement.action != Action::DiscardAll {
            self.on_restored(&statement.action);
        }
    }

    /// One of several was run, or none of them. Whether one of them has this tag.
    pub(super) fn on_several(
        &mut self,
        tag: &[u8],
        found: &Found,
        parameters: u64,
        login: Option<&Base>,
    ) -> bool {
        let tracked = |name: &str| login.is_some_and(|login| login.tracks(name));
        let fitting = found.statements.iter();
        for statement in fitting.filter(|one| fits(tag, &one.action)) {
            self.on_maybe(statement, parameters, tracked);
            if Defaulted::by(&statement.action).is_some() {
                // Which parameters have whose values is not known any more.
                self.on_unknown();
            }
        }
        let mut several = found.statements.iter();
        several.any(|one| is_understood(tag, Some(&one.action)))
    }
}
