//! What a session has left in its server, as far as that can be seen.
//!
//! PostgreSQL undoes some of it with a transaction (parameters, channels, temporary tables, cursors that are held) and some
//! not (advisory locks, prepared statements, libraries). This does the same, by command tags; where it cannot know, it
//! takes what may be left for left.

use crate::backend::Reset;
use crate::metrics::PinReason;
use crate::sql::{Action, Call, LockKey, Statement};
use names::{NAMES, Names};

mod defaulted;
mod names;

pub(super) use defaulted::Defaulted;

/// Savepoints that are remembered; of older ones it is not known what a rollback to them undoes.
const SAVEPOINTS: usize = 1_000;

/// What a rollback undoes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    /// By SET.
    parameters: Names,
    /// By `set_config`.
    configured: Names,
    /// Some of these, set once more: perhaps to what they were before.
    again: Names,
    role: bool,
    authorization: bool,
    channels: Names,
    temporary: Names,
    cursors: Names,
    /// Parameters that have the server's default and not the client's own value.
    defaulted: Defaulted,
}

/// What a rollback does not undo.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lasting {
    /// Locks that are written so that they are known again, and how often each was taken.
    locks: Vec<(LockKey, u64, u32)>,
    other_locks: bool,
    prepared: Names,
    library: bool,
    block: bool,
    function_call: bool,
    /// A command that is not known, or that was not seen, or that runs when another one asks for it.
    unknown: bool,
    /// The search path may begin with the schema of temporary objects.
    temporary_path: bool,
}

/// What a session has left.
#[derive(Debug, Default)]
pub(super) struct Left {
    kept: Kept,
    /// What there was when the transaction began, if it has changed since.
    before: Option<Box<Kept>>,
    /// What there was at each savepoint.
    saved: Vec<(String, Kept)>,
    lasting: Lasting,
}

impl Left {
    /// Whether there is nothing, and nothing to come back.
    pub(super) fn is_empty(&self) -> bool {
        self.before.is_none()
            && self.saved.is_empty()
            && self.kept == Kept::default()
            && self.lasting == Lasting::default()
    }

    /// Parameters that have the server's default since the client's own values were last given back.
    pub(super) fn defaulted(&self) -> &Defaulted {
        &self.kept.defaulted
    }

    /// The same, as the rollback leaves it that an error has brought about before it is told of.
    pub(super) fn defaulted_after_failure(&self) -> &Defaulted {
        let before = self.before.as_deref();
        &before.unwrap_or(&self.kept).defaulted
    }

    /// They are given the client's own, in the transaction that is open, if one is.
    pub(super) fn take_defaulted(&mut self, in_transaction: bool) -> Defaulted {
        if in_transaction && self.kept.defaulted.any() {
            // A rollback takes that away again.
            self.change();
        }
        std::mem::take(&mut self.kept.defaulted)
    }

    /// What this gave the server's default was given the client's own right behind it.
    pub(super) fn on_restored(&mut self, action: &Action) {
        if let Some(by) = Defaulted::by(action) {
            self.change().defaulted.forget(&by);
        }
    }

    /// A statement was run. `tracked` tells the parameters that follow the client; `parameters` stands for those that the
    /// statement was bound to.
    pub(super) fn on_statement(
        &mut self,
        statement: &Statement,
        parameters: u64,
        tracked: impl Fn(&str) -> bool,
    ) {
        self.lasting.temporary_path |= statement.temporary_path;
        for call in &statement.calls {
            self.on_call(call, parameters, &tracked);
        }
        match &statement.action {
            Action::Other | Action::SetLocal => {}
            Action::Savepoint(name) => {
                if self.saved.len() >= SAVEPOINTS {
                    self.saved.drain(..SAVEPOINTS / 2);
                }
                self.saved.push((name.clone(), self.kept.clone()));
            }
            Action::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.saved.truncate(at);
                }
            }
            Action::RollbackTo(name) => self.on_rollback_to(name),
            Action::Prepare(name) => self.lasting.prepared.insert(name),
            Action::Deallocate(Some(name)) => self.lasting.prepared.remove(name),
            Action::Deallocate(None) => self.lasting.prepared.clear(),
            Action::Load => self.lasting.library = true,
            Action::Do { .. } => self.lasting.block = true,
            Action::DiscardAll => self.on_discard_all(),
            Action::Create if !self.lasting.temporary_path => {}
            action => self.on_undoable(action, tracked),
        }
    }

    fn on_undoable(&mut self, action: &Action, tracked: impl Fn(&str) -> bool) {
        let temporary_path = self.lasting.temporary_path;
        let kept = self.change();
        kept.defaulted.note(action);
        match action {
            Action::Set(name) if name == "role" => kept.role = true,
            Action::Set(name) if name == "session_authorization" => kept.authorization = true,
            Action::Set(name) if tracked(name) => {}
            Action::Set(name) => {
                kept.note_again(name);
                kept.parameters.insert(name);
            }
            Action::SetCharacteristics => kept.parameters.others = true,
            Action::Reset(name) if name == "role" => kept.role = false,
            Action::NoRole => kept.role = false,
            Action::Reset(name) if name == "session_authorization" => kept.authorization = false,
            Action::Reset(name) => {
                kept.parameters.remove(name);
                kept.configured.remove(name);
            }
            Action::ResetAll => {
                kept.parameters.clear();
                kept.configured.clear();
            }
            Action::Listen(name) => kept.channels.insert(name),
            Action::Unlisten(Some(name)) => kept.channels.remove(name),
            Action::Unlisten(None) => kept.channels.clear(),
            Action::Temporary(Some(name)) => kept.temporary.insert(name),
            Action::Temporary(None) | Action::Create => kept.temporary.others = true,
            // Which table is dropped is for the search path to say.
            Action::DropTables(_) if temporary_path => {}
            Action::DropTables(names) => names.iter().for_each(|name| kept.temporary.remove(name)),
            Action::DiscardTemporary => kept.temporary.clear(),
            Action::HoldCursor(name) => kept.cursors.insert(name),
            Action::Close(Some(name)) => kept.cursors.remove(name),
            Action::Close(None) => kept.cursors.clear(),
            _ => {}
        }
    }

    fn on_call(&mut self, call: &Call, parameters: u64, tracked: impl Fn(&str) -> bool) {
        match call {
            Call::SetConfig(None) => self.change().configured.others = true,
            Call::SetConfig(Some(name)) if name == "role" => self.change().role = true,
            Call::SetConfig(Some(name)) if name == "session_authorization" => {
                self.change().authorization = true;
            }
            Call::SetConfig(Some(name)) => {
                if !tracked(name) {
                    let kept = self.change();
                    kept.note_again(name);
                    kept.configured.insert(name);
                }
                if self.kept.defaulted.any() {
                    self.change().defaulted.set(name);
                }
            }
            Call::Later => self.on_unknown(),
            Call::Lock(key) => self.on_lock(key.as_ref(), parameters),
            Call::Unlock(Some(key)) => {
                let bound = bound(key, parameters);
                for (held, with, times) in &mut self.lasting.locks {
                    if held == key && *with == bound {
                        *times = times.saturating_sub(1);
                    }
                }
                self.lasting.locks.retain(|(_, _, times)| *times > 0);
            }
            Call::Unlock(None) => {}
            Call::UnlockAll => {
                self.lasting.locks.clear();
                self.lasting.other_locks = false;
            }
        }
    }

    fn on_lock(&mut self, key: Option<&LockKey>, parameters: u64) {
        let locks = &mut self.lasting.locks;
        let Some(key) = key.filter(|_| locks.len() < NAMES) else {
            self.lasting.other_locks = true;
            return;
        };
        let bound = bound(key, parameters);
        let held = locks
            .iter_mut()
            .find(|(held, with, _)| held == key && *with == bound);
        match held {
            Some((_, _, times)) => *times = times.saturating_add(1),
            None => locks.push((key.clone(), bound, 1)),
        }
    }

    /// A statement failed. A lock that it took before stays, and so does what a block committed.
    pub(super) fn on_failed(&mut self, statement: &Statement, parameters: u64) {
        for call in &statement.calls {
            if let Call::Lock(key) = call {
                self.on_lock(key.as_ref(), parameters);
            }
        }
        self.lasting.block |= statement.action == Action::Do { survives: true };
    }

    /// A portal that gave some of its rows gave others. What is called once was counted with the first.
    pub(super) fn on_more_rows(&mut self, statement: &Statement, tracked: impl Fn(&str) -> bool) {
        for call in &statement.calls {
            if matches!(call, Call::SetConfig(_) | Call::Lock(None) | Call::Later) {
                self.on_call(call, 0, &tracked);
            }
        }
    }

    /// Whatever this statement may do, in some order or not at all: what it could leave is taken for left.
    pub(super) fn on_maybe(
        &mut self,
        statement: &Statement,
        parameters: u64,
        tracked: impl Fn(&str) -> bool,
    ) {
        let creates = matches!(
            statement.action,
            Action::Set(_)
                | Action::SetCharacteristics
                | Action::Listen(_)
                | Action::Temporary(_)
                | Action::Create
                | Action::HoldCursor(_)
                | Action::Prepare(_)
                | Action::Load
                | Action::Do { .. }
        );
        let mut calls = statement.calls.clone();
        calls.retain(|call| matches!(call, Call::SetConfig(_) | Call::Lock(_) | Call::Later));
        let action = match creates {
            true => statement.action.clone(),
            false => Action::Other,
        };
        let maybe = Statement {
            action,
            calls,
            temporary_path: statement.temporary_path,
        };
        self.on_statement(&maybe, parameters, tracked);
    }

    /// A command was completed that is not known, or that nothing was seen of.
    pub(super) fn on_unknown(&mut self) {
        self.lasting.unknown = true;
    }

    /// A FunctionCall message was sent.
    pub(super) fn on_function_call(&mut self) {
        self.lasting.function_call = true;
    }

    /// DISCARD ALL. Libraries stay.
    pub(super) fn on_discard_all(&mut self) {
        let library = self.lasting.library;
        *self = Left::default();
        self.lasting.library = library;
        // Committed at once: no rollback of what is run behind it takes this away.
        self.kept.defaulted = Defaulted::all();
    }

    /// The transaction was committed.
    pub(super) fn on_commit(&mut self) {
        self.before = None;
        self.saved.clear();
    }

    /// The transaction was rolled back.
    pub(super) fn on_rollback(&mut self) {
        if let Some(before) = self.before.take() {
            self.kept = *before;
        }
        self.saved.clear();
    }

    fn on_rollback_to(&mut self, name: &str) {
        match self.savepoint(name) {
            Some(at) => {
                self.saved.truncate(at + 1);
                self.kept = self.saved[at].1.clone();
            }
            // One that was not seen: what was undone cannot be told, what was there before may be back.
            None => self.on_unknown(),
        }
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.saved.iter().rposition(|(saved, _)| saved == name)
    }

    /// What a rollback undoes, about to be changed.
    fn change(&mut self) -> &mut Kept {
        if self.before.is_none() {
            self.before = Some(Box::new(self.kept.clone()));
        }
        &mut self.kept
    }

    /// Parameters that are all that is left, each of which was set more than once since this was last asked.
    pub(super) fn perhaps_set_back(&mut self) -> Vec<String> {
        let again = std::mem::take(&mut self.kept.again);
        let parameters = [PinReason::SetParameter, PinReason::SetConfig];
        let alone = again.any() && self.reasons().all(|reason| parameters.contains(&reason));
        let Kept {
            parameters,
            configured,
            ..
        } = &self.kept;
        if !alone || parameters.others || configured.others {
            return Vec::new();
        }
        let mut all = Vec::new();
        parameters.each(|name| all.push(name.to_owned()));
        configured.each(|name| all.push(name.to_owned()));
        all.sort_unstable();
        all.dedup();
        if all.iter().all(|name| again.has(name)) {
            all
        } else {
            Vec::new()
        }
    }

    /// They have the values again that the server had.
    pub(super) fn on_set_back(&mut self) {
        self.kept.parameters.clear();
        self.kept.configured.clear();
    }

    /// Why the session needs its server.
    pub(super) fn reasons(&self) -> impl Iterator<Item = PinReason> {
        let (kept, lasting) = (&self.kept, &self.lasting);
        [
            (PinReason::SetParameter, kept.parameters.any()),
            (PinReason::SetConfig, kept.configured.any()),
            (PinReason::SetRole, kept.role || kept.authorization),
            (PinReason::Listen, kept.channels.any()),
            (PinReason::TemporaryTable, kept.temporary.any()),
            (PinReason::HoldCursor, kept.cursors.any()),
            (
                PinReason::AdvisoryLock,
                lasting.other_locks || !lasting.locks.is_empty(),
            ),
            (PinReason::SqlPrepare, lasting.prepared.any()),
            (PinReason::Load, lasting.library),
            (PinReason::DoBlock, lasting.block),
            (PinReason::FunctionCall, lasting.function_call),
            (PinReason::Command, lasting.unknown),
        ]
        .into_iter()
        .filter_map(|(reason, there)| there.then_some(reason))
    }

    /// What clears it, whichever way the transaction ends that is open.
    pub(super) fn reset(&self) -> Reset {
        let of = |kept: &Kept| {
            Reset::NOTHING
                .with(
                    Reset::PARAMETERS,
                    kept.parameters.any() || kept.configured.any(),
                )
                .with(Reset::ROLE, kept.role || kept.authorization)
                .with(Reset::CHANNELS, kept.channels.any())
                .with(Reset::TEMPORARY, kept.temporary.any())
                .with(Reset::CURSORS, kept.cursors.any())
        };
        let lasting = &self.lasting;
        let everything = lasting.prepared.any() || lasting.block || lasting.function_call;
        of(&self.kept)
            .and(self.before.as_deref().map_or(Reset::NOTHING, of))
            .with(
                Reset::LOCKS,
                lasting.other_locks || !lasting.locks.is_empty(),
            )
            .with(Reset::EVERYTHING, everything || lasting.unknown)
            .with(Reset::CLOSE, lasting.library)
    }
}

/// What tells apart two locks that are written the same.
fn bound(key: &LockKey, parameters: u64) -> u64 {
    if key.parameters { parameters } else { 0 }
}

impl Kept {
    fn note_again(&mut self, name: &str) {
        if self.parameters.has(name) || self.configured.has(name) {
            self.again.insert(name);
        }
    }
}

#[cfg(test)]
mod tests;
