"""psql and pgbench, as people and scripts use them, on every road (routes.py)."""

import concurrent.futures
import re
import subprocess

from harness import environment, postgres_bin
from routes import CLIENTS, Transcript, on_every_road, shared_by


def program(route, name, *arguments, script=None, **more):
    """Runs one of PostgreSQL's own programs on a road: what it said, with what differs from run to run taken out."""
    done = subprocess.run([postgres_bin(name), *arguments], input=script, capture_output=True, text=True, timeout=90,
                          env=environment(**route.libpq(), PGCONNECT_TIMEOUT="20", **more))
    said = [re.sub(r'psql:<stdin>:|connection to server at "[^"]*"[^:]*: ', "", line) for line in done.stderr.splitlines()]
    return [done.returncode, done.stdout.splitlines(), said]


def psql(route, script, *arguments):
    return program(route, "psql", "-XAtq", *arguments, script=script)


SETTING_UP = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE account (id integer PRIMARY KEY, owner text NOT NULL, balance numeric(12,2) NOT NULL DEFAULT 0, mood mood, tags text[], body jsonb);
CREATE TABLE event (client integer, step integer, note text, UNIQUE (client, step));
INSERT INTO account SELECT n, 'owner ' || n, n * 1.25, (enum_range(NULL::mood))[1 + n % 3], ARRAY['a' || n, NULL, 'b"\\'], jsonb_build_object('n', n) FROM generate_series(1, 500) n;
CREATE FUNCTION shout(message text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'heard %', message; RETURN upper(message); END $$;
"""

# What each of the clients runs at the same time as all others: {me} is its number.
SESSION = r"""
\set VERBOSITY verbose
\set me {me}
SELECT count(*) AS before FROM account \gset
\echo before :before
INSERT INTO event VALUES (:me, 1, 'begun');
BEGIN;
INSERT INTO event VALUES (:me, 2, 'kept');
SAVEPOINT here;
INSERT INTO event VALUES (:me, 2, 'twice');
ROLLBACK TO here;
INSERT INTO event VALUES (:me, 3, 'after the savepoint');
RELEASE here;
COMMIT;
BEGIN;
DELETE FROM event WHERE client = :me;
SELECT 1 / 0;
SELECT 'not reached';
ROLLBACK;
SELECT step, note FROM event WHERE client = :me ORDER BY step;
\set ON_ERROR_ROLLBACK on
BEGIN;
INSERT INTO event VALUES (:me, 4, 'kept in spite of');
INSERT INTO event VALUES (:me, 4, 'an error');
COMMIT;
\set ON_ERROR_ROLLBACK off
BEGIN;
DECLARE steps SCROLL CURSOR FOR SELECT id, owner FROM account ORDER BY id;
FETCH 3 FROM steps;
MOVE FORWARD 100 IN steps;
FETCH BACKWARD 2 FROM steps;
CLOSE steps;
SET LOCAL work_mem = '8MB';
SHOW work_mem;
COMMIT;
SHOW work_mem;
\set FETCH_COUNT 64
SELECT id, tags, body FROM account WHERE id % 3 = :me % 3 ORDER BY id;
\unset FETCH_COUNT
SELECT shout('client {me}');
SELECT format('INSERT INTO event VALUES (%s, %s, %L)', :me, n, 'by gexec') FROM generate_series(10, 12) n \gexec
SELECT :me % 2 = 0 AS even \gset
\if :even
SELECT 'even';
\else
SELECT 'odd';
\endif
SELECT length(string_agg(md5(n::text), '')) FROM generate_series(1, 40000) n;
\copy (SELECT id, owner FROM account WHERE id < 20 ORDER BY id) TO STDOUT
\copy event FROM STDIN
{me}	20	copied
{me}	21	copied \\N
\.
\copy event FROM STDIN
{me}	22	fine
{me}	20	again
\.
SELECT count(*), sum(step) FROM event WHERE client = :me;
SELECT nothing FROM nowhere;
SELECT 1 \; SELECT 2 \; SELECT 3;
SELECT 4 \; SELECT 1 / 0 \; SELECT 5;
"""

# State that lasts longer than a transaction, and what takes it away again.
STATEFUL = r"""
\set me {me}
PREPARE by_number (integer) AS SELECT owner FROM account WHERE id = $1;
EXECUTE by_number({me});
BEGIN;
EXECUTE by_number(499);
COMMIT;
SET statement_timeout = '{me}s';
SHOW statement_timeout;
CREATE TEMP TABLE mine (n integer);
INSERT INTO mine SELECT {me} FROM generate_series(1, {me});
BEGIN;
DECLARE held CURSOR WITH HOLD FOR SELECT n FROM generate_series(1, 5) n;
COMMIT;
SELECT sum(n) FROM mine;
FETCH 2 FROM held;
SELECT pg_try_advisory_lock(7, {me});
SET search_path = pg_catalog;
SHOW search_path;
LISTEN here;
NOTIFY here, 'for all who listen';
DEALLOCATE by_number;
EXECUTE by_number(1);
DISCARD ALL;
SHOW statement_timeout;
SHOW search_path;
SELECT * FROM mine;
FETCH 1 FROM held;
SELECT pg_advisory_unlock(7, {me});
SET TimeZone = 'Asia/Tokyo';
SELECT '2020-01-01 00:00+00'::timestamptz;
RESET TimeZone;
SET DateStyle = 'German';
SELECT '2020-01-02'::date;
"""

# A prepared statement and what it reads changed beneath it.
STALE = r"""
\set VERBOSITY verbose
CREATE TABLE stale (a integer);
INSERT INTO stale VALUES (1);
PREPARE every AS SELECT * FROM stale;
EXECUTE every;
ALTER TABLE stale ADD COLUMN b text DEFAULT 'new';
EXECUTE every;
BEGIN;
EXECUTE every;
ROLLBACK;
DEALLOCATE ALL;
PREPARE every AS SELECT * FROM stale;
EXECUTE every;
"""


def at_once(clients, task):
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        return list(pool.map(task, range(1, clients + 1)))


def check_psql_everywhere(world):
    """psql: scripts of twelve clients at once, errors and all; state that lasts; pg_dump and --single-transaction."""
    def workload(route):
        seen = Transcript()
        seen.note("set up", psql(route, SETTING_UP, "-v", "ON_ERROR_STOP=1"))
        for me, said in enumerate(at_once(CLIENTS, lambda me: psql(route, SESSION.replace("{me}", str(me)))), 1):
            seen.note(f"client {me}", said)
        for me, said in enumerate(at_once(CLIENTS, lambda me: psql(route, STATEFUL.replace("{me}", str(me)))), 1):
            # Who else notifies while one listens is chance, and so is the process that did.
            said[1] = [line for line in said[1] if not line.startswith("Asynchronous notification")]
            seen.note(f"state of {me}", said)
        seen.note("a stale plan", psql(route, STALE))
        seen.note("one transaction", psql(route, "INSERT INTO event VALUES (0, 1, 'x'); SELECT 1 / 0;", "-1", "-v", "ON_ERROR_STOP=1"))
        seen.note("none of it", psql(route, "SELECT * FROM event WHERE client = 0"))
        # Without TLS: where it is on offer, libpq tries a second time without, and says both.
        seen.note("wrong database", psql(route, "SELECT 1", "-d", "dbname=no_such_database sslmode=disable"))
        seen.note("options", program(route, "psql", "-XAtqc", "SHOW statement_timeout", PGOPTIONS="-c statement_timeout=4321ms"))
        seen.note("dump", dumped(route))
        return seen

    on_every_road(world, workload)


def dumped(route):
    """pg_dump without the two lines that carry a key made at random; the order of events was chance."""
    status, out, err = program(route, "pg_dump", "--exclude-table-data=event")
    return [status, [line for line in out if not re.match(r"\\(un)?restrict ", line)], err]


BENCH_TABLES = """
CREATE TABLE bench_account (id integer PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE bench_history (client integer, id integer, delta integer);
INSERT INTO bench_account SELECT n, 0 FROM generate_series(1, 200) n;
"""

TRANSFER = r"""
\set id random(1, 200)
\set delta random(-500, 500)
BEGIN;
UPDATE bench_account SET balance = balance + :delta WHERE id = :id;
SAVEPOINT s;
INSERT INTO bench_history VALUES (:client_id, :id, :delta);
SELECT balance FROM bench_account WHERE id = :id \gset
\if :delta % 7 = 0
ROLLBACK TO SAVEPOINT s;
INSERT INTO bench_history VALUES (:client_id, :id, :delta);
\endif
COMMIT;
SELECT count(*) AS seen FROM bench_history WHERE client = :client_id AND id = :id AND delta = :delta \gset
\if :seen = 0
SELECT 1 / 0;
\endif
"""

# pgbench has pipelines in its extended protocols only.
PIPELINE = r"""
\set id random(1, 200)
\set delta random(-500, 500)
\startpipeline
SELECT balance FROM bench_account WHERE id = :id;
BEGIN;
UPDATE bench_account SET balance = balance + :delta WHERE id = :id;
INSERT INTO bench_history VALUES (:client_id, :id, :delta);
COMMIT;
SELECT count(*) FROM bench_history WHERE client = :client_id;
\endpipeline
"""


def check_pgbench_everywhere(world):
    """pgbench, its clients' choices fixed by a seed, in every protocol and in pipelines: the same rows on every road."""
    scripts = {name: world.scratch / f"{name}.sql" for name in ("transfer", "pipeline")}
    scripts["transfer"].write_text(TRANSFER)
    scripts["pipeline"].write_text(PIPELINE)

    def workload(route):
        seen = Transcript()
        seen.note("set up", psql(route, BENCH_TABLES))
        for protocol, name in (("simple", "transfer"), ("extended", "transfer"), ("prepared", "transfer"), ("extended", "pipeline"), ("prepared", "pipeline")):
            # A thread for each client: pgbench waits for an answer to Parse with its thread, and so for clients of other threads that
            # hold the servers, but not for those of its own.
            status, out, err = program(route, "pgbench", "-n", "-M", protocol, "-c", str(CLIENTS), "-j", str(CLIENTS), "-t", "60", "--random-seed=7",
                                       "-f", str(scripts[name]))
            done = [line for line in out if line.startswith(("number of transactions actually", "number of failed"))]
            sums = psql(route, "SELECT sum(balance) FROM bench_account; SELECT count(*), sum(delta) FROM bench_history; "
                               "SELECT md5(string_agg(id || ' ' || balance, ',' ORDER BY id)) FROM bench_account")
            seen.note(f"{name} {protocol}", [status, done, err, sums])
        return seen

    on_every_road(world, workload, servers=shared_by(CLIENTS))


CHECKS = [check_psql_everywhere, check_pgbench_everywhere]
