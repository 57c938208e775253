//! The statements that programs are made of. `{l}` is the number of the client that runs it, in whose own tables, channels
//! and locks it works; `{o}` that of any client; `{k}` a small number.

use crate::pins::Leaves;

/// What a statement may do to the one who runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It may leave this.
    Leaves(Leaves),
    /// Run alone outside of a transaction, it is sure to have cleared this.
    Clears(Leaves),
    /// It may open a transaction.
    Begins,
    /// Run alone, it is sure to have ended the transaction.
    Ends,
    /// It changes the type of a column.
    ChangesResults,
    /// It returns whatever columns there are.
    AllColumns,
    /// It works on a name that may be one of the protocol's statements.
    CrossesNames,
    /// It holds several statements, so it can only be a simple query.
    Several,
}

use Effect::{
    AllColumns, Begins, ChangesResults, Clears, CrossesNames, Ends, Leaves as L, Several,
};

/// One kind of statement.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its text, with places to fill.
    pub text: &'static str,
    /// How many parameters it has.
    pub parameters: usize,
    /// What it may do.
    pub effects: &'static [Effect],
}

const fn row(text: &'static str, parameters: usize, effects: &'static [Effect]) -> Row {
    Row {
        text,
        parameters,
        effects,
    }
}

/// Statements that begin a transaction.
pub(crate) const BEGINS: &[Row] = &[
    row("BEGIN", 0, &[Begins]),
    row(
        "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        0,
        &[Begins],
    ),
    row("BEGIN READ ONLY", 0, &[Begins]),
    row(
        "BEGIN; INSERT INTO t{l} VALUES (1{k}, 'in')",
        0,
        &[Begins, Several],
    ),
    row("BEGIN; SELECT 1/0", 0, &[Begins, Several]),
    row("COMMIT; BEGIN", 0, &[Begins, Several]),
];

/// Statements that are sure to end one.
pub(crate) const ENDS: &[Row] = &[
    row("COMMIT", 0, &[Ends]),
    row("ROLLBACK", 0, &[Ends]),
    row("END", 0, &[Ends]),
    row("ABORT", 0, &[Ends]),
];

/// Statements inside of one, and such as may be there by mistake.
pub(crate) const INSIDE: &[Row] = &[
    row("SAVEPOINT s{k}", 0, &[]),
    row("ROLLBACK TO s{k}", 0, &[]),
    row("RELEASE s{k}", 0, &[]),
    row("COMMIT AND CHAIN", 0, &[Begins]),
    row("ROLLBACK AND CHAIN", 0, &[Begins]),
    row("PREPARE TRANSACTION 'x{l}'", 0, &[L(Leaves::Command)]),
    row("SET LOCAL work_mem = '{k}MB'", 0, &[L(Leaves::Local)]),
    row(
        "SET LOCAL application_name = 'local{k}'",
        0,
        &[L(Leaves::Local)],
    ),
    row("SET LOCAL TimeZone = 'Asia/Tokyo'", 0, &[L(Leaves::Local)]),
    row("SET TRANSACTION READ ONLY", 0, &[L(Leaves::Local)]),
    row(
        "SELECT set_config('work_mem', '{k}MB', true)",
        0,
        &[L(Leaves::ConfiguredLocally)],
    ),
    row(
        "SELECT set_config('DateStyle', 'German', true)",
        0,
        &[L(Leaves::ConfiguredLocally)],
    ),
    row(
        "SELECT pg_advisory_xact_lock({l})",
        0,
        &[L(Leaves::AdvisoryForNow)],
    ),
    row(
        "DECLARE c{k} CURSOR FOR SELECT n, v FROM t{l} ORDER BY n",
        0,
        &[L(Leaves::Cursor)],
    ),
    row(
        "DECLARE c{k} SCROLL CURSOR FOR SELECT generate_series(1, 9)",
        0,
        &[L(Leaves::Cursor)],
    ),
    row(
        "CREATE TEMP TABLE now{l} ON COMMIT DROP AS SELECT 1 AS a",
        0,
        &[L(Leaves::TemporaryForNow)],
    ),
    row("SELECT count(*) FROM now{l}", 0, &[]),
    row("LOCK TABLE t{l}", 0, &[L(Leaves::Command)]),
];

/// Statements that leave nothing, and begin nothing.
pub(crate) const CLEAN: &[Row] = &[
    row("SELECT n, v FROM t{l} ORDER BY n", 0, &[]),
    row("SELECT * FROM t{l} ORDER BY n", 0, &[AllColumns]),
    row("TABLE t{l}", 0, &[AllColumns]),
    row("SELECT count(*), sum(n) FROM t{l}", 0, &[]),
    row("SELECT $1::int + {k}", 1, &[]),
    row("SELECT $1::text || $2::text", 2, &[]),
    row(
        "SELECT n, v FROM t{l} WHERE n >= $1::int ORDER BY n",
        1,
        &[],
    ),
    row("SELECT generate_series(1, 7)", 0, &[]),
    row(
        "SELECT g, repeat('x', g) FROM generate_series(1, 20) g",
        0,
        &[],
    ),
    row("SELECT repeat('y', 40000), {k}", 0, &[]),
    row("SELECT g FROM generate_series(1, 3000) g", 0, &[]),
    row(
        "SELECT NULL, ''::text, 1.5::float8, true, '2020-02-02'::date, '1h'::interval",
        0,
        &[],
    ),
    row("SELECT '2020-02-02 02:02:02+00'::timestamptz", 0, &[]),
    row("VALUES (1, 'a'), (2, NULL)", 0, &[]),
    row("INSERT INTO t{l} VALUES ({k}, 'again')", 0, &[]),
    row(
        "INSERT INTO t{l} VALUES (2{k}, 'new') ON CONFLICT DO NOTHING",
        0,
        &[],
    ),
    row(
        "INSERT INTO t{l} VALUES ($1::int, $2::text) ON CONFLICT (n) DO UPDATE SET v = excluded.v RETURNING n, v",
        2,
        &[],
    ),
    row(
        "UPDATE t{l} SET v = v || '{k}' WHERE n = {k} RETURNING v",
        0,
        &[],
    ),
    row("DELETE FROM t{l} WHERE n = 2{k}", 0, &[]),
    row(
        "MERGE INTO t{l} USING (SELECT 3{k} AS b) s ON n = b WHEN NOT MATCHED THEN INSERT VALUES (b, 'merged')",
        0,
        &[],
    ),
    row("SELECT 1/0", 0, &[]),
    row("SELECT 10 / $1::int", 1, &[]),
    row("SELEKT {k}", 0, &[]),
    row("SELECT * FROM nowhere{k}", 0, &[]),
    row("SELECT 'abc'::int", 0, &[]),
    row("", 0, &[]),
    row(
        "SELECT {k}; SELECT 'two'; SELECT 1/0; SELECT 4",
        0,
        &[Several],
    ),
    row(
        "INSERT INTO t{l} VALUES (4{k}, 'lost'); SELECT 1/0",
        0,
        &[Several],
    ),
    row("SELECT 1; SELECT 2", 0, &[Several]),
    row(";;", 0, &[]),
    row(
        "BEGIN; DELETE FROM t{l} WHERE n = {k}; ROLLBACK",
        0,
        &[Several],
    ),
    row(
        "BEGIN; INSERT INTO t{l} VALUES (5{k}, 'kept') ON CONFLICT DO NOTHING; COMMIT",
        0,
        &[Several],
    ),
    row("SHOW work_mem", 0, &[]),
    row("SHOW application_name", 0, &[]),
    row("SHOW DateStyle", 0, &[]),
    row("SHOW TimeZone", 0, &[]),
    row("SHOW search_path", 0, &[]),
    row("SHOW statement_timeout", 0, &[]),
    row("SHOW transaction_isolation", 0, &[]),
    row("SHOW no_such_parameter", 0, &[]),
    row(
        "SELECT current_setting('IntervalStyle'), current_setting('extra_float_digits'), coalesce(current_setting('model.mark', true), '')",
        0,
        &[],
    ),
    row("SELECT current_user, session_user", 0, &[]),
    row(
        "SELECT name, is_holdable FROM pg_cursors ORDER BY 1",
        0,
        &[],
    ),
    row(
        "SELECT name, statement FROM pg_prepared_statements WHERE from_sql ORDER BY 1",
        0,
        &[],
    ),
    row(
        "SELECT objid, mode FROM pg_locks WHERE locktype LIKE 'advi%' AND pid = pg_backend_pid() ORDER BY 1",
        0,
        &[],
    ),
    row("SELECT count(*) FROM pg_listening_channels()", 0, &[]),
    row("COPY t{l} TO STDOUT", 0, &[]),
    row(
        "COPY (SELECT n, v FROM t{l} ORDER BY n) TO STDOUT (FORMAT csv)",
        0,
        &[],
    ),
    row("COPY (SELECT 1/0) TO STDOUT", 0, &[]),
    row(
        "COPY (SELECT g FROM generate_series(1, 500) g) TO STDOUT",
        0,
        &[],
    ),
    row("COMMIT", 0, &[]),
    row("ROLLBACK", 0, &[]),
];

/// Statements that change parameters.
pub(crate) const PARAMETERS: &[Row] = &[
    row("SET application_name = 'app{k}'", 0, &[L(Leaves::Reported)]),
    row("SET DateStyle = 'German'", 0, &[L(Leaves::Reported)]),
    row(
        "SET SESSION TimeZone TO 'Asia/Tokyo'",
        0,
        &[L(Leaves::Reported)],
    ),
    row(
        "SET TIME ZONE 'America/New_York'",
        0,
        &[L(Leaves::Reported)],
    ),
    row("SET IntervalStyle = 'iso_8601'", 0, &[L(Leaves::Reported)]),
    row("SET client_encoding = 'LATIN1'", 0, &[L(Leaves::Reported)]),
    row("SET NAMES 'UTF8'", 0, &[L(Leaves::Reported)]),
    row(
        "SET standard_conforming_strings = off",
        0,
        &[L(Leaves::Reported)],
    ),
    row(
        "SET default_transaction_read_only = off",
        0,
        &[L(Leaves::Reported)],
    ),
    row("SET TimeZone = 'nowhere at all'", 0, &[L(Leaves::Reported)]),
    row("SET work_mem = '{k}MB'", 0, &[L(Leaves::Unreported)]),
    row(
        "SET statement_timeout = '{k}min'",
        0,
        &[L(Leaves::Unreported)],
    ),
    row(
        "SET search_path = pg_catalog, public",
        0,
        &[L(Leaves::Unreported)],
    ),
    row("SET extra_float_digits = {k}", 0, &[L(Leaves::Unreported)]),
    row("SET model.mark = 'mark{k}'", 0, &[L(Leaves::Unreported)]),
    row(
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        0,
        &[L(Leaves::Unreported)],
    ),
    row("SET work_mem = 'much'", 0, &[L(Leaves::Unreported)]),
    row("SET no_such_parameter = 1", 0, &[L(Leaves::Unreported)]),
    row(
        "SELECT set_config('application_name', 'set{k}', false)",
        0,
        &[L(Leaves::Configured)],
    ),
    row(
        "SELECT set_config('work_mem', '{k}MB', false)",
        0,
        &[L(Leaves::Configured)],
    ),
    row(
        "SELECT set_config($1::text, $2::text, false)",
        2,
        &[L(Leaves::Configured)],
    ),
    row("RESET application_name", 0, &[L(Leaves::Reset)]),
    row("RESET work_mem", 0, &[L(Leaves::Reset)]),
    row("RESET TimeZone", 0, &[L(Leaves::Reset)]),
    row("SET DateStyle TO DEFAULT", 0, &[L(Leaves::Reset)]),
    row(
        "RESET ALL",
        0,
        &[
            L(Leaves::Reset),
            Clears(Leaves::Unreported),
            Clears(Leaves::Configured),
            Clears(Leaves::Reported),
        ],
    ),
    row("SET ROLE model", 0, &[L(Leaves::Role)]),
    row("RESET ROLE", 0, &[L(Leaves::Role)]),
    row("SET SESSION AUTHORIZATION model", 0, &[L(Leaves::Role)]),
    row("SET SESSION AUTHORIZATION DEFAULT", 0, &[L(Leaves::Role)]),
];

/// Statements that leave other things than parameters.
pub(crate) const STATE: &[Row] = &[
    row("LISTEN c{l}", 0, &[L(Leaves::Listen)]),
    row("LISTEN x{l}", 0, &[L(Leaves::Listen)]),
    row("UNLISTEN c{l}", 0, &[L(Leaves::Unlisten)]),
    row(
        "UNLISTEN *",
        0,
        &[L(Leaves::Unlisten), Clears(Leaves::Listen)],
    ),
    row("NOTIFY c{l}, 'note{k}'", 0, &[L(Leaves::Command)]),
    row("NOTIFY x{o}, 'note{k} of {l}'", 0, &[L(Leaves::Command)]),
    row("SELECT pg_notify('x{o}', 'call{k} of {l}')", 0, &[]),
    row("SELECT pg_notify('c{l}', $1::text)", 1, &[]),
    row(
        "CREATE TEMP TABLE tmp{k} (a int)",
        0,
        &[L(Leaves::Temporary)],
    ),
    row(
        "CREATE TEMPORARY TABLE tmp{k} AS SELECT {k} AS a",
        0,
        &[L(Leaves::Temporary)],
    ),
    row(
        "SELECT {k} AS a INTO TEMP tmp{k}",
        0,
        &[L(Leaves::Temporary)],
    ),
    row("INSERT INTO tmp{k} VALUES ({k})", 0, &[]),
    row("SELECT a FROM tmp{k} ORDER BY a", 0, &[]),
    row("DROP TABLE tmp{k}", 0, &[L(Leaves::Command)]),
    row("SELECT pg_advisory_lock({l})", 0, &[L(Leaves::Advisory)]),
    row(
        "SELECT pg_try_advisory_lock_shared({l})",
        0,
        &[L(Leaves::Advisory)],
    ),
    row(
        "SELECT pg_advisory_lock($1::int, {l})",
        1,
        &[L(Leaves::Advisory)],
    ),
    row("SELECT pg_advisory_unlock({l})", 0, &[L(Leaves::Unlock)]),
    row(
        "SELECT pg_advisory_unlock_all()",
        0,
        &[L(Leaves::Unlock), Clears(Leaves::Advisory)],
    ),
    row(
        "DECLARE h{k} CURSOR WITH HOLD FOR SELECT n, v FROM t{l} ORDER BY n",
        0,
        &[L(Leaves::Hold)],
    ),
    row("FETCH 2 FROM h{k}", 0, &[L(Leaves::Command)]),
    row("FETCH ALL FROM h{k}", 0, &[L(Leaves::Command)]),
    row("FETCH 2 FROM c{k}", 0, &[L(Leaves::Command)]),
    row("FETCH BACKWARD 1 FROM c{k}", 0, &[L(Leaves::Command)]),
    row("MOVE 1 IN c{k}", 0, &[L(Leaves::Command)]),
    row("CLOSE h{k}", 0, &[L(Leaves::Command)]),
    row("CLOSE c{k}", 0, &[L(Leaves::Command)]),
    row("CLOSE ALL", 0, &[L(Leaves::Command), Clears(Leaves::Hold)]),
    row("PREPARE p{k} AS SELECT {k}", 0, &[L(Leaves::Prepare)]),
    row(
        "PREPARE p{k} (int) AS SELECT n, v FROM t{l} WHERE n >= $1 ORDER BY n",
        0,
        &[L(Leaves::Prepare)],
    ),
    row("EXECUTE p{k}", 0, &[L(Leaves::Command)]),
    row("EXECUTE p{k} (2)", 0, &[L(Leaves::Command)]),
    row("EXECUTE s{k}", 0, &[L(Leaves::Command), CrossesNames]),
    row(
        "PREPARE s{k} AS SELECT 'sql {k}'",
        0,
        &[L(Leaves::Prepare), CrossesNames],
    ),
    row("DEALLOCATE p{k}", 0, &[L(Leaves::Deallocate)]),
    row("DEALLOCATE s{k}", 0, &[L(Leaves::Deallocate), CrossesNames]),
    row(
        "DEALLOCATE ALL",
        0,
        &[
            L(Leaves::Deallocate),
            Clears(Leaves::Named),
            Clears(Leaves::Prepare),
        ],
    ),
    row("DISCARD PLANS", 0, &[L(Leaves::Discard)]),
    row(
        "DISCARD TEMP",
        0,
        &[L(Leaves::Discard), Clears(Leaves::Temporary)],
    ),
    row("DISCARD SEQUENCES", 0, &[L(Leaves::Discard)]),
    row(
        "DISCARD ALL",
        0,
        &[
            L(Leaves::Discard),
            Clears(Leaves::Named),
            Clears(Leaves::Prepare),
            Clears(Leaves::Temporary),
            Clears(Leaves::Hold),
            Clears(Leaves::Advisory),
            Clears(Leaves::Listen),
            Clears(Leaves::Unreported),
            Clears(Leaves::Configured),
            Clears(Leaves::Reported),
            Clears(Leaves::Role),
        ],
    ),
    row(
        "DO $$ BEGIN RAISE NOTICE 'note {k}'; END $$",
        0,
        &[L(Leaves::Command)],
    ),
    row(
        "DO $$ BEGIN RAISE WARNING 'mind' USING HINT = 'h', DETAIL = 'd'; END $$",
        0,
        &[L(Leaves::Command)],
    ),
    row(
        "DO $$ BEGIN RAISE EXCEPTION 'no {k}' USING ERRCODE = 'PX04{k}'; END $$",
        0,
        &[L(Leaves::Command)],
    ),
    row("EXPLAIN (COSTS OFF) SELECT {k}", 0, &[L(Leaves::Command)]),
    row(
        "ALTER TABLE t{l} ADD COLUMN x{k} int DEFAULT {k}",
        0,
        &[L(Leaves::Command)],
    ),
    row(
        "ALTER TABLE t{l} DROP COLUMN IF EXISTS x{k}",
        0,
        &[L(Leaves::Command)],
    ),
    row(
        "ALTER TABLE t{l} ALTER COLUMN v TYPE varchar(200)",
        0,
        &[L(Leaves::Command), ChangesResults],
    ),
    row(
        "CREATE INDEX IF NOT EXISTS i{l} ON t{l} (v)",
        0,
        &[L(Leaves::Command)],
    ),
    row("DROP INDEX IF EXISTS i{l}", 0, &[L(Leaves::Command)]),
    row("TRUNCATE t{l}", 0, &[L(Leaves::Command)]),
    row("DROP TABLE IF EXISTS t{l}", 0, &[L(Leaves::Command)]),
    row(
        "CREATE TABLE IF NOT EXISTS t{l} (n int PRIMARY KEY, v text)",
        0,
        &[L(Leaves::Command)],
    ),
    row("ANALYZE t{l}", 0, &[L(Leaves::Command)]),
    row("VACUUM t{l}", 0, &[L(Leaves::Command)]),
    row("LOAD 'plpgsql'", 0, &[L(Leaves::Library)]),
];

/// COPY … FROM STDIN, and the data that comes with it.
pub(crate) const COPIES: &[Row] = &[
    row("COPY t{l} (n, v) FROM STDIN", 0, &[]),
    row("COPY t{l} (n, v) FROM STDIN (FORMAT csv)", 0, &[]),
    row("COPY nowhere{k} FROM STDIN", 0, &[]),
];
