"""psycopg 3 with its automatic preparation and pipelines, and pg8000, in many threads, on every road (routes.py)."""

import concurrent.futures
import datetime
import decimal
import logging
import threading
import uuid

import pg8000.native
import psycopg
from psycopg.types.composite import CompositeInfo, register_composite
from psycopg.types.enum import EnumInfo, register_enum
from psycopg.types.json import Jsonb

from harness import until
from routes import CLIENTS, Transcript, on_every_road, shared_by

TABLES = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TYPE place AS (x integer, label text);
CREATE TABLE item (id integer PRIMARY KEY, owner integer NOT NULL, name text, amount numeric, at timestamptz, tags text[], body jsonb, raw bytea, mood mood, place place);
CREATE TABLE log (owner integer, step integer, UNIQUE (owner, step));
"""
# Pipelines are broken off here on purpose, which it warns of.
logging.getLogger("psycopg").setLevel(logging.ERROR)
MOMENT = datetime.datetime(1999, 12, 31, 23, 59, 59, 1, datetime.timezone.utc)


def in_threads(task):
    """`task(number)` for every client at once, the results in order."""
    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(task, range(1, CLIENTS + 1)))


def state(error):
    return [type(error).__name__, error.sqlstate, error.diag.message_primary]


def refused(call, *arguments):
    """The error that a call ends with."""
    try:
        result = call(*arguments)
        return ["no error", repr(result.fetchall() if isinstance(result, psycopg.Cursor) else result)]
    except psycopg.Error as error:
        return state(error)


def connector(route, threshold):
    # UTC, so that what comes back does not depend on who runs this.
    return lambda: psycopg.connect(route.url(), prepare_threshold=threshold, connect_timeout=30, autocommit=True, options="-c TimeZone=UTC")


def work(connection, me, together, turns=12):
    """One client's transactions: the same statements again and again, so that the driver prepares them."""
    seen = []
    for turn in range(turns):
        if turn == 8:
            # All of them have their statements prepared now, and none leaves before the last has.
            together.wait(90)
        key = me * 1000 + turn
        with connection.transaction():
            connection.execute("INSERT INTO item VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, ROW(%s, %s))",
                               (key, me, f"name {key}", decimal.Decimal(key) / 8, MOMENT, ["a", None], Jsonb({"key": key}), bytes(range(turn)), "ok", key, "here"))
            seen.append(refused(nested, connection, me, turn // 2))
        rows = connection.execute("SELECT id, name, amount, at, tags, body, raw, mood, place FROM item WHERE id = %s", (key,), binary=turn % 2 == 1).fetchall()
        seen.append(repr(rows))
        seen.append(connection.execute(f"SELECT %s::integer * {me}", (turn,)).fetchone())
        seen.append(refused(connection.execute, "SELECT 1 / (%s - 3)", (turn,)))
    with connection.transaction(), connection.cursor(name="of_server") as cursor:
        cursor.execute("SELECT n FROM generate_series(1, %s) n", (500,))
        seen.append([cursor.fetchmany(100)[-1], cursor.fetchone()])
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO log VALUES (%s, %s)", [(me, step) for step in range(100, 150)])
        with cursor.copy("COPY log FROM STDIN") as copy:
            for step in range(300, 900):
                copy.write_row((me, step))
    seen.append(refused(copy_twice, connection, me))
    seen.append(pipelined(connection, me))
    seen.append(connection.execute("SELECT count(*), sum(step) FROM log WHERE owner = %s", (me,)).fetchone())
    seen.append(len(connection.execute("SELECT repeat('y', %s)", (2_000_000,)).fetchone()[0]))
    seen.append(sum(row[0] for row in connection.execute("SELECT n FROM generate_series(1, %s) n", (20000,), binary=True)))
    return seen


def nested(connection, me, step):
    with connection.transaction():
        connection.execute("INSERT INTO log VALUES (%s, %s)", (me, step))


def copy_twice(connection, me):
    with connection.cursor() as cursor, cursor.copy("COPY log FROM STDIN") as copy:
        copy.write_row((me, 950))
        copy.write_row((me, 300))


def pipelined(connection, me):
    """Pipelines: with several Syncs, an error in the middle, and a transaction within."""
    seen = []
    with connection.pipeline() as pipeline:
        cursors = []
        for step in range(40):
            cursors.append(connection.execute("SELECT %s::integer + %s::integer", (me, step)))
            if step % 13 == 0:
                pipeline.sync()
        with connection.transaction():
            connection.execute("INSERT INTO log VALUES (%s, %s)", (me, 1000))
            cursors.append(connection.execute("SELECT count(*) FROM log WHERE owner = %s AND step >= 1000", (me,)))
    seen.append([cursor.fetchone()[0] for cursor in cursors])
    try:
        with connection.pipeline() as pipeline:
            connection.execute("INSERT INTO log VALUES (%s, %s)", (me, 1001))
            pipeline.sync()
            connection.execute("INSERT INTO log VALUES (%s, %s)", (me, 1002))
            connection.execute("SELECT 1 / (%s - %s)", (me, me))
            connection.execute("INSERT INTO log VALUES (%s, %s)", (me, 1003))
            pipeline.sync()
    except psycopg.Error as error:
        seen.append(state(error))
    seen.append(connection.execute("SELECT array_agg(step ORDER BY step) FROM log WHERE owner = %s AND step >= 1000", (me,)).fetchone())
    return seen


def with_psycopg(route, threshold):
    connect, seen = connector(route, threshold), Transcript()
    with connect() as one:
        one.execute(TABLES, prepare=False)

    together = threading.Barrier(CLIENTS)

    def client(me):
        with connect() as connection:
            return work(connection, me, together)

    for me, what in enumerate(in_threads(client), 1):
        seen.note(f"client {me}", what)
    types(connect, seen)
    changed_beneath(connect, seen)
    many_statements(connect, seen)
    interrupted(connect, seen)
    return seen


def types(connect, seen):
    """Enums and composites by their own adapters."""
    with connect() as connection:
        register_enum(EnumInfo.fetch(connection, "mood"), connection)
        register_composite(CompositeInfo.fetch(connection, "place"), connection)
        row = connection.execute("SELECT mood, place, ARRAY[place] FROM item WHERE id = 1003").fetchone()
        seen.note("own types", [str(row[0]), list(row[1]), [list(place) for place in row[2]]])
        values = [uuid.UUID(int=5), datetime.timedelta(days=1, microseconds=5), datetime.date(2000, 1, 1), 1.5, 2 ** 60, True, None, [1, 2], [[1], [2]]]
        for binary in (False, True):
            seen.note("values", [repr(connection.execute("SELECT %s", (value,), binary=binary).fetchone()) for value in values])


def changed_beneath(connect, seen):
    """Statements that were prepared, and then their tables changed."""
    with connect() as first, connect() as second:
        first.execute("CREATE TABLE shape (a integer)")
        first.execute("INSERT INTO shape VALUES (1)")
        read, count = "SELECT * FROM shape", "SELECT count(*) FROM shape WHERE a = %s"
        for _ in range(7):
            for connection in (first, second):
                seen.note("before", [connection.execute(read).fetchall(), connection.execute(count, (1,)).fetchall()])
        first.execute("ALTER TABLE shape ADD COLUMN b text DEFAULT 'b'")
        for connection in (second, first, second, first):
            seen.note("a column more", refused(lambda: connection.execute(read).fetchall()))
            seen.note("counted", connection.execute(count, (1,)).fetchall())
        first.execute("DROP TABLE shape")
        seen.note("gone", refused(lambda: second.execute(count, (1,)).fetchall()))
        first.execute("CREATE TABLE shape (a integer, c boolean)")
        first.execute("INSERT INTO shape VALUES (1, true)")
        for connection in (second, first):
            seen.note("another", refused(lambda: connection.execute(count, (1,)).fetchall()))


def many_statements(connect, seen):
    """More texts than the driver keeps prepared (100): it closes the oldest, and comes back to some."""
    with connect() as first, connect() as second:
        found = []
        for number in list(range(130)) * 2:
            for connection in (first, second):
                found.append(connection.execute(f"SELECT %s::integer + {number}", (1,)).fetchone()[0])
        seen.note("many statements", found)
        first.execute("DEALLOCATE ALL")
        seen.note("after DEALLOCATE ALL", [connection.execute("SELECT %s::integer + 129", (1,)).fetchone() for connection in (second,)])


def interrupted(connect, seen):
    """Cancelled, terminated, and gone in the middle of a transaction."""
    with connect() as victim, connect() as other:
        for _ in range(3):
            seen.note("cancelled", beside(lambda: asleep(other) and victim.cancel_safe(timeout=20), refused, victim.execute, "SELECT pg_sleep(60)"))
            seen.note("goes on", victim.execute("SELECT 1").fetchone())

        def terminate():
            find = ("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                    "WHERE query LIKE '%to be terminated%' AND wait_event = 'PgSleep'")
            while not other.execute(find).fetchone()[0]:
                pass

        seen.note("terminated", beside(terminate, refused, victim.execute, "SELECT pg_sleep(60), 'to be terminated'"))
        seen.note("closed", victim.closed)
        gone = connect()
        gone.execute("BEGIN")
        gone.execute("INSERT INTO log VALUES (0, 2)")
        gone.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
        gone.close()
        # The lock is free only when the server knows that its client has gone.
        seen.note("the lock is free", other.execute("SELECT count(*) FROM item").fetchone())
        seen.note("rolled back", other.execute("SELECT * FROM log WHERE owner = 0").fetchall())


def beside(other, call, *arguments):
    """The result of a call while a thread runs `other`, whose error is an error here."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(other)
        result = call(*arguments)
        running.result(30)
    return result


def asleep(connection):
    """Waits until somebody sleeps in this database: before that, a request to cancel finds nothing to do."""
    find = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    return until("somebody sleeps", lambda: connection.execute(find).fetchone()[0])


def check_psycopg_prepares_at_once(world):
    """psycopg with prepare_threshold=0: every statement gets a name."""
    on_every_road(world, lambda route: with_psycopg(route, 0), servers=shared_by(CLIENTS))


def check_psycopg_prepares(world):
    """psycopg as it comes: what is run more than five times gets a name."""
    on_every_road(world, lambda route: with_psycopg(route, 5), servers=shared_by(CLIENTS))


def check_psycopg_unprepared(world):
    """psycopg with prepare_threshold=None, which is what people are told to use behind a pooler."""
    on_every_road(world, lambda route: with_psycopg(route, None), servers=shared_by(CLIENTS))


def with_pg8000(route):
    """pg8000: its statements have names as soon as they are prepared, and no names else."""
    def connect():
        return pg8000.native.Connection(route.user, host=route.host, port=route.port, database=route.database, password=route.password, timeout=60)

    seen = Transcript()
    one = connect()
    one.run(TABLES)
    one.close()

    def client(me):
        connection, found = connect(), []
        kept = connection.prepare("SELECT count(*), coalesce(sum(amount), 0) FROM item WHERE owner = :owner")
        for turn in range(12):
            key = me * 1000 + turn
            connection.run("BEGIN")
            connection.run("INSERT INTO item (id, owner, name, amount, at, tags, body, raw) VALUES (:id, :owner, :name, :amount, :at, :tags, CAST(:body AS jsonb), :raw)",
                           id=key, owner=me, name=f"name {key}", amount=decimal.Decimal(key) / 8, at=MOMENT, tags=["a", None, "b"], body='{"k": [1]}', raw=bytes(range(turn)))
            found.append(kept.run(owner=me))
            connection.run("ROLLBACK" if turn % 3 == 0 else "COMMIT")
            found.append(repr(connection.run("SELECT * FROM item WHERE id = :id", id=key)))
            try:
                connection.run("SELECT 1 / (:n - 3)", n=turn)
            except pg8000.native.DatabaseError as error:
                found.append([error.args[0]["C"], error.args[0]["M"]])
        kept.close()
        connection.close()
        return found

    for me, what in enumerate(in_threads(client), 1):
        seen.note(f"client {me}", what)
    return seen


def check_pg8000(world):
    """pg8000, a driver in pure Python: prepared and plain statements of twelve clients."""
    on_every_road(world, with_pg8000, servers=shared_by(CLIENTS))


CHECKS = [check_psycopg_prepares_at_once, check_psycopg_prepares, check_psycopg_unprepared, check_pg8000]
