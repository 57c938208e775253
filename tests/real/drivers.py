"""psql, asyncpg, SQLAlchemy and psycopg, each as an application uses it; what is written is read back past poolwatch."""

import asyncio
import ssl
import threading
import uuid

import asyncpg
import psycopg
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from harness import DATABASE, USER


def check_psql(world):
    """psql: several statements at once, a script, COPY both ways, \\d, errors and notices as PostgreSQL words them."""
    sidecar, postgres = world.sidecar(), world.postgres
    assert sidecar.psql("-c", "SELECT 1; SELECT 2").stdout.split() == ["1", "2"]
    sidecar.psql("-c", "CREATE TABLE by_psql (id integer PRIMARY KEY, text text)")
    rows = "".join(f"{number}\trow {number}\n" for number in range(5000))
    source, target = world.scratch / "in.tsv", world.scratch / "out.tsv"
    source.write_text(rows)
    sidecar.psql("-c", f"\\copy by_psql from '{source}'")
    sidecar.psql("-c", f"\\copy (select * from by_psql order by id) to '{target}'")
    assert target.read_text() == rows
    assert postgres.query("SELECT count(*) FROM by_psql") == "5000"
    assert "id|integer|" in sidecar.psql("-c", "\\d by_psql").stdout
    duplicate = ("-v", "VERBOSITY=verbose", "-c", "INSERT INTO by_psql VALUES (1, 'again')")
    failed = sidecar.psql(*duplicate, check=False)
    assert failed.returncode == 1 and "23505" in failed.stderr and "Key (id)=(1) already exists." in failed.stderr, failed.stderr
    assert "by hand" in sidecar.psql("-c", "DO $$ BEGIN RAISE NOTICE 'by hand'; END $$").stderr
    transaction = "BEGIN; DELETE FROM by_psql; ROLLBACK; SELECT count(*) FROM by_psql"
    assert sidecar.psql("-c", transaction).stdout.split() == ["5000"]


def check_asyncpg(world):
    """asyncpg with its statement cache off: it flushes and waits in the middle of a request."""
    asyncio.run(asyncpg_session(world.sidecar(), world.postgres, ssl=False))


def check_asyncpg_tls(world):
    """ssl=require works without any setting: the certificate is made at start."""
    asyncio.run(asyncpg_session(world.sidecar(), world.postgres, ssl="require"))


async def asyncpg_session(sidecar, postgres, **how):
    table = f"by_asyncpg_{uuid.uuid4().hex[:8]}"
    connect = dict(host="127.0.0.1", port=sidecar.port, user=USER, password=sidecar.password, database=DATABASE, statement_cache_size=0, timeout=20, **how)
    connection = await asyncpg.connect(**connect)
    encrypted = connection._transport.get_extra_info("ssl_object")
    assert isinstance(encrypted, ssl.SSLObject) == (how["ssl"] == "require"), encrypted
    await connection.execute(f"CREATE TABLE {table} (id integer PRIMARY KEY, name text, at timestamptz DEFAULT now())")
    await connection.executemany(f"INSERT INTO {table} (id, name) VALUES ($1, $2)", [(number, f"name {number}") for number in range(200)])
    assert await connection.fetchval(f"SELECT name FROM {table} WHERE id = $1", 42) == "name 42"
    await connection.copy_records_to_table(table, columns=("id", "name"), records=[(number, "copied") for number in range(200, 3000)])
    async with connection.transaction():
        seen = [record["id"] async for record in connection.cursor(f"SELECT id FROM {table} ORDER BY id", prefetch=100)]
    assert seen == list(range(3000))
    for _ in range(3):
        try:
            await connection.execute(f"INSERT INTO {table} (id) VALUES (1)")
            raise AssertionError("a duplicate key went through")
        except asyncpg.UniqueViolationError as error:
            assert error.sqlstate == "23505"
    try:
        async with connection.transaction():
            await connection.execute(f"DELETE FROM {table}")
            raise LookupError
    except LookupError:
        pass
    assert postgres.query(f"SELECT count(*) FROM {table}") == "3000"
    try:
        await asyncio.wait_for(connection.execute("SELECT pg_sleep(60)"), 0.3)
        raise AssertionError("a query of a minute ended at once")
    except asyncio.TimeoutError:
        pass
    # asyncpg cancelled it by a request of its own; the connection goes on.
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()
    await asyncio.gather(*[one_of_many(connect, number) for number in range(60)])


async def one_of_many(connect, number):
    connection = await asyncpg.connect(**connect)
    for _ in range(5):
        assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
    await connection.close()


def check_sqlalchemy(world):
    """SQLAlchemy + asyncpg with Letta's settings, both of its pools at their limits: 40 tasks on 25 + 10 connections.

    One such application, no more: the driver names its statements and closes them late, and an open named statement keeps
    its server. 35 connections of the application can thus hold 35 servers, and a second application would wait for them.
    """
    asyncio.run(sqlalchemy_session(world.sidecar(), world.postgres))


async def sqlalchemy_session(sidecar, postgres):
    postgres.query("CREATE TABLE by_sqlalchemy (id serial PRIMARY KEY, task integer)")
    await sqlalchemy_application(sidecar)
    assert postgres.query("SELECT count(*), count(DISTINCT task) FROM by_sqlalchemy") == "200|40"


async def sqlalchemy_application(sidecar):
    engine = create_async_engine(
        f"postgresql+asyncpg://{USER}:{sidecar.password}@127.0.0.1:{sidecar.port}/{DATABASE}",
        pool_size=25, max_overflow=10, pool_timeout=30, pool_recycle=1800, pool_pre_ping=True,
        connect_args={"statement_cache_size": 0, "prepared_statement_cache_size": 0, "timeout": 20, "ssl": False,
                      "prepared_statement_name_func": lambda: f"__asyncpg_{uuid.uuid4()}__"})

    async def task(number):
        for _ in range(5):
            async with engine.begin() as connection:
                added = await connection.execute(
                    sqlalchemy.text("INSERT INTO by_sqlalchemy (task) VALUES (:t) RETURNING id"), dict(t=number))
                key = added.scalar_one()
            async with engine.connect() as connection:
                row = (await connection.execute(sqlalchemy.text("SELECT task FROM by_sqlalchemy WHERE id = :id"), dict(id=key))).one()
                assert tuple(row) == (number,), row

    await asyncio.gather(*[task(number) for number in range(40)])
    await engine.dispose()


def check_psycopg(world):
    """psycopg: parameters, pipeline, COPY, a server-side cursor, notices, cancelling, and with its prepared statements on."""
    sidecar, postgres = world.sidecar(), world.postgres
    for threshold in (None, 0):
        with psycopg.connect(sidecar.dsn(), prepare_threshold=threshold, connect_timeout=20, autocommit=True) as connection:
            connection.execute("DROP TABLE IF EXISTS by_psycopg")
            connection.execute("CREATE TABLE by_psycopg (id integer PRIMARY KEY, text text)")
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO by_psycopg VALUES (%s, %s)", [(number, f"text {number}") for number in range(300)])
            with connection.cursor() as cursor, cursor.copy("COPY by_psycopg FROM STDIN") as copy:
                for number in range(300, 2000):
                    copy.write_row((number, "copied"))
            with connection.pipeline():
                cursors = [connection.execute("SELECT text FROM by_psycopg WHERE id = %s", (number,)) for number in range(20)]
            assert [cursor.fetchone()[0] for cursor in cursors] == [f"text {number}" for number in range(20)]
            with connection.transaction(), connection.cursor(name="named") as cursor:
                cursor.execute("SELECT id FROM by_psycopg ORDER BY id")
                assert [row[0] for row in cursor.fetchmany(700)] == list(range(700))
            notices = []
            connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
            connection.execute("DO $$ BEGIN RAISE NOTICE 'from a block'; END $$")
            assert notices == ["from a block"], notices
            cancelled(connection)
            assert connection.execute("SELECT count(*) FROM by_psycopg").fetchone() == (2000,)
        assert postgres.query("SELECT count(*) FROM by_psycopg") == "2000"


def cancelled(connection):
    timer = threading.Timer(0.3, connection.cancel)
    timer.start()
    try:
        connection.execute("SELECT pg_sleep(60)")
        raise AssertionError("a query of a minute was not cancelled")
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        timer.join()


CHECKS = [check_psql, check_asyncpg, check_asyncpg_tls, check_sqlalchemy, check_psycopg]
