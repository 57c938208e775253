//! The values that labels may have. Each is an enum, so the number of series is known when compiling.

/// Declares a fieldless enum with its label values, `ALL` and `COUNT`. `ALL` is in the order of the discriminants, so
/// `variant as usize` is an index into an array of `COUNT` handles.
macro_rules! label_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident => $label:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All values, in the order of their discriminants.
            pub const ALL: [$name; $name::COUNT] = [$($name::$variant,)+];
            /// How many values there are.
            pub const COUNT: usize = [$($label,)+].len();

            /// The label's value.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $label,)+ }
            }
        }
    };
}

label_enum! {
    /// Why a session keeps its server between transactions; the label `reason` of `poolwatch_pinned_sessions`.
    PinReason {
        /// It has an open prepared statement with a name.
        NamedStatement => "named_statement",
        /// It set a parameter for the session that does not follow the client.
        SetParameter => "set_parameter",
        /// It did so by `set_config`.
        SetConfig => "set_config",
        /// It set its role or session authorization.
        SetRole => "set_role",
        /// It listens to a channel.
        Listen => "listen",
        /// It may have made a temporary table, or something else in that schema.
        TemporaryTable => "temporary_table",
        /// It has a cursor that outlives its transaction.
        HoldCursor => "hold_cursor",
        /// A session-level advisory lock may be held.
        AdvisoryLock => "advisory_lock",
        /// It prepared a statement by SQL.
        SqlPrepare => "sql_prepare",
        /// It loaded a library.
        Load => "load",
        /// It ran a DO block that may leave something.
        DoBlock => "do_block",
        /// It used the FunctionCall message, whose effects cannot be seen.
        FunctionCall => "function_call",
        /// It ran a command that is not known to leave nothing.
        Command => "command",
        /// It is a replication connection, on a server of its own outside the pool.
        Replication => "replication",
        /// A statement too large to be looked at whole.
        LargeStatement => "large_statement",
        /// `pool.mode` is `session`.
        SessionMode => "session_mode",
    }
}

label_enum! {
    /// A part of a query's time that the proxy measures; two of the values of the label `phase` of
    /// `poolwatch_query_phase_seconds`.
    ///
    /// The other two, `wait` and `connect`, are taken from the pool's events and are not for callers to observe: they
    /// would be counted twice.
    Phase {
        /// From the last byte sent to the server to the first byte of its answer.
        Execute => "execute",
        /// From that first byte to the last one handed to the client.
        Transfer => "transfer",
    }
}

label_enum! {
    /// A message about a prepared statement with a name; the label `message` of `poolwatch_prepared_statements_total`.
    StatementMessage {
        /// A client's Parse.
        ClientParse => "client_parse",
        /// A Parse that a server answered, a client's or one of ours.
        ServerParse => "server_parse",
        /// A client's Bind.
        Bind => "bind",
    }
}

label_enum! {
    /// How a client's login ended; the label `outcome` of `poolwatch_logins_total`.
    LoginOutcome {
        /// The client may send queries.
        Ok => "ok",
        /// A wrong password, or a method the client does not speak.
        AuthenticationFailed => "authentication_failed",
        /// An unknown user, database or option.
        Rejected => "rejected",
        /// A limit of ours was reached.
        Limit => "limit",
        /// The client broke the wire protocol.
        Protocol => "protocol",
        /// PostgreSQL could not be reached for what a login needs of it.
        Upstream => "upstream",
        /// It took too long.
        Timeout => "timeout",
        /// The client went away.
        Gone => "gone",
        /// poolwatch is starting or stopping.
        Unavailable => "unavailable",
    }
}

label_enum! {
    /// Why a client could not prove who it is; the label `reason` of `poolwatch_authentication_failures_total`.
    AuthFailure {
        /// There is no such user.
        UnknownUser => "unknown_user",
        /// The password is wrong.
        WrongPassword => "wrong_password",
        /// The user has no password that the method can check.
        NoPassword => "no_password",
        /// No certificate, or another user's.
        Certificate => "certificate",
        /// SCRAM is not bound to our certificate, or somebody took the offer to bind it away.
        ChannelBinding => "channel_binding",
        /// A password would have come in clear.
        TlsRequired => "tls_required",
        /// PostgreSQL could not be asked for the user.
        Lookup => "lookup",
        /// An answer that is none.
        Malformed => "malformed",
        /// Too many logins wait because of failed ones.
        TooManyFailures => "too_many_failures",
    }
}

label_enum! {
    /// A limit of ours that turned something away; the label `limit` of `poolwatch_limit_rejections_total`.
    Limit {
        /// `listen.max_clients`.
        Clients => "clients",
        /// The number of pools.
        Pools => "pools",
        /// The length of a message that must be held whole.
        MessageSize => "message_size",
        /// The size of a startup packet.
        StartupSize => "startup_size",
        /// Logins that wait because others failed (`auth.max_failure_delay`).
        FailedLogins => "failed_logins",
        /// `limits.clients_per_user`.
        ClientsPerUser => "clients_per_user",
        /// `limits.servers`: a wait for a connection that ended without one.
        Servers => "servers",
        /// `limits.idle_client`.
        IdleClient => "idle_client",
        /// `limits.idle_in_transaction`.
        IdleInTransaction => "idle_in_transaction",
        /// `limits.transaction_time`.
        TransactionTime => "transaction_time",
        /// `limits.query_time`.
        QueryTime => "query_time",
        /// Requests of the JSON API at once.
        HttpRequests => "http_requests",
        /// The size of an HTTP request's body.
        HttpSize => "http_size",
        /// The time an HTTP request may take.
        HttpTime => "http_time",
    }
}

label_enum! {
    /// What a client's session is doing; the label `state` of `poolwatch_clients`.
    ClientState {
        /// Before its first ReadyForQuery.
        Login => "login",
        /// A request of it is being served.
        Active => "active",
        /// Nothing asked, no transaction open.
        Idle => "idle",
        /// Nothing asked, a transaction open.
        IdleInTransaction => "idle_in_transaction",
        /// Waiting for a server.
        Waiting => "waiting",
    }
}

label_enum! {
    /// Whose migrations; the label `tool` of `poolwatch_migration_*`.
    MigrationTool {
        /// sqlx's migrator, of which `poolwatch migrate` is one.
        Sqlx => "sqlx",
        /// Alembic.
        Alembic => "alembic",
    }
}

label_enum! {
    /// Whose locks a migration waits for; the label `blocker` of `poolwatch_migration_blockers`.
    Blocker {
        /// A session that runs a statement.
        Active => "active",
        /// A session that has a transaction open and asks nothing.
        IdleInTransaction => "idle_in_transaction",
        /// An autovacuum worker.
        Autovacuum => "autovacuum",
        /// Another, a prepared transaction, or one that poolwatch may not look at.
        Other => "other",
    }
}

/// The value of `server_port`: empty for PostgreSQL's own port, as OpenTelemetry's `server.port` is then left out. One
/// rule for all metrics that have the label, so that they can be joined on it.
pub(super) fn server_port(port: u16) -> String {
    match port {
        5432 => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::error::Class;
    use crate::pool::{CloseReason, Outcome, PrePing};

    /// Handles are kept in arrays and found by discriminant, also for the enums declared elsewhere.
    #[test]
    fn discriminants_index_all_and_labels_differ() {
        fn check<const N: usize>(values: [(usize, &'static str); N]) {
            for (position, (discriminant, label)) in values.iter().enumerate() {
                assert_eq!(position, *discriminant, "{label}");
            }
            let distinct: BTreeSet<_> = values.iter().map(|(_, label)| label).collect();
            assert_eq!(distinct.len(), N);
        }
        check(PinReason::ALL.map(|v| (v as usize, v.label())));
        check(Phase::ALL.map(|v| (v as usize, v.label())));
        check(LoginOutcome::ALL.map(|v| (v as usize, v.label())));
        check(AuthFailure::ALL.map(|v| (v as usize, v.label())));
        check(Limit::ALL.map(|v| (v as usize, v.label())));
        check(ClientState::ALL.map(|v| (v as usize, v.label())));
        check(Outcome::ALL.map(|v| (v as usize, v.label())));
        check(CloseReason::ALL.map(|v| (v as usize, v.label())));
        check(PrePing::ALL.map(|v| (v as usize, v.label())));
        check(Class::ALL.map(|v| (v as usize, v.label())));
    }
}
