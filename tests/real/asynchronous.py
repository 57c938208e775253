"""asyncpg with and without its statement cache, and SQLAlchemy on asyncpg as Letta has it, on every road (routes.py)."""

import asyncio
import datetime
import decimal
import json
import uuid

import asyncpg
import sqlalchemy
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from routes import CLIENTS, Transcript, on_every_road, shared_by

TABLES = """
CREATE TABLE item (id integer PRIMARY KEY, owner integer NOT NULL, name text, amount numeric, at timestamptz, tags text[], body jsonb, raw bytea);
CREATE TABLE log (owner integer, step integer, UNIQUE (owner, step));
"""
MOMENT = datetime.datetime(2024, 2, 29, 23, 59, 59, 999999, datetime.timezone.utc)


def state(error):
    """What a driver's exception says of the server's error."""
    return [type(error).__name__, getattr(error, "sqlstate", None), str(error)]


async def refused(call):
    """The error that `call` ends with."""
    try:
        return ["no error", repr(await call)]
    except asyncpg.PostgresError as error:
        return state(error)


def connector(route, **how):
    return lambda: asyncpg.connect(host=route.host, port=route.port, user=route.user, password=route.password, database=route.database,
                                   timeout=30, ssl=False, **how)


async def work(connection, me, together, turns=15):
    """One client: many short transactions over the same few statements, with errors, savepoints and rows of every type."""
    seen = []
    for turn in range(turns):
        if turn == 8:
            # All of them have their statements prepared now, and none leaves before the last has.
            await together.wait()
        key = me * 1000 + turn
        async with connection.transaction():
            await connection.execute("INSERT INTO item (id, owner, name, amount, at, tags, body, raw) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                                     key, me, f"name {key}", decimal.Decimal(key) / 8, MOMENT + datetime.timedelta(days=turn),
                                     ["a", None, f"{key}"], json.dumps({"key": key}), bytes(range(turn)))
            try:
                async with connection.transaction():
                    await connection.execute("INSERT INTO log VALUES ($1, $2)", me, turn // 2)
            except asyncpg.UniqueViolationError as error:
                seen.append([turn, error.sqlstate, error.constraint_name])
        row = await connection.fetchrow("SELECT * FROM item WHERE id = $1", key)
        seen.append([repr(value) for value in row.values()])
        if turn % 5 == 0:
            seen.append(await refused(connection.fetch("SELECT 1 / ($1::int - $1)", turn)))
        if turn % 4 == 0:
            seen.append(await connection.fetch("SELECT count(*), sum(amount) FROM item WHERE owner = $1", me))
        # Statements that no other client has, so that names and texts do not go together by luck.
        seen.append(await connection.fetchval(f"SELECT $1::int * {me}", turn))
    async with connection.transaction():
        seen.append([row["n"] async for row in connection.cursor("SELECT n FROM generate_series(1, $1) n", 300, prefetch=50)][-3:])
    await connection.executemany("INSERT INTO log VALUES ($1, $2)", [(me, step) for step in range(100, 160)])
    seen.append(await refused(connection.executemany("INSERT INTO log VALUES ($1, $2)", [(me, 200), (me, 100), (me, 201)])))
    await connection.copy_records_to_table("log", records=[(me, step) for step in range(300, 800)])
    seen.append(await refused(connection.copy_records_to_table("log", records=[(me, 900), (me, 300)])))
    seen.append(await connection.fetch("SELECT count(*), sum(step) FROM log WHERE owner = $1", me))
    seen.append(len(await connection.fetchval("SELECT repeat('x', $1)", 3_000_000)))
    seen.append(sum(row[0] for row in await connection.fetch("SELECT n FROM generate_series(1, 20000) n")))
    return [json.loads(json.dumps(entry, default=lambda value: repr(value))) for entry in seen]


async def with_asyncpg(route, **how):
    connect, seen = connector(route, **how), Transcript()
    one = await connect()
    await one.execute(TABLES)
    await one.close()

    together = asyncio.Barrier(CLIENTS)

    async def client(me):
        connection = await connect()
        try:
            return await work(connection, me, together)
        finally:
            await connection.close()

    for me, what in enumerate(await asyncio.gather(*[client(me) for me in range(1, CLIENTS + 1)]), 1):
        seen.note(f"client {me}", what)
    await changed_beneath(connect, seen)
    await interrupted(connect, seen)
    await listening(connect, seen)
    await pooled(route, how, seen)
    return seen


async def changed_beneath(connect, seen):
    """Tables change under statements that the driver, or whoever stands between, keeps prepared."""
    first, second = await connect(), await connect()
    await first.execute("CREATE TABLE shape (a integer); INSERT INTO shape VALUES (1)")
    read, number = "SELECT * FROM shape", "SELECT count(*) FROM shape WHERE a = $1"
    for connection in (first, second):
        seen.note("before", [await connection.fetch(read), await connection.fetchval(number, 1)])
    await first.execute("ALTER TABLE shape ADD COLUMN b text DEFAULT 'b'")
    for connection in (second, first, second):
        seen.note("a column more", [dict(row) for row in await connection.fetch(read)])
    await second.execute("ALTER TABLE shape ALTER COLUMN b DROP DEFAULT, ALTER COLUMN b TYPE integer USING 7")
    for connection in (first, second):
        try:
            async with connection.transaction():
                seen.note("in a transaction", [dict(row) for row in await connection.fetch(read)])
        except asyncpg.PostgresError as error:
            seen.note("in a transaction", state(error))
        seen.note("afterwards", [dict(row) for row in await connection.fetch(read)])
    held = await first.prepare("SELECT b FROM shape")
    seen.note("held", await held.fetch())
    await second.execute("DROP TABLE shape; CREATE TABLE shape (a integer, b integer); INSERT INTO shape VALUES (2, 3)")
    seen.note("another table of that name", await held.fetch())
    seen.note("counted anew", [await connection.fetchval(number, 2) for connection in (first, second)])
    await first.close()
    await second.close()


async def interrupted(connect, seen):
    """Cancelled, terminated, and gone in the middle of a transaction."""
    victim, other = await connect(), await connect()
    for _ in range(3):
        try:
            await asyncio.wait_for(victim.execute("SELECT pg_sleep(60)"), 0.2)
        except asyncio.TimeoutError:
            seen.note("cancelled", await victim.fetchval("SELECT 1"))
    async with victim.transaction():
        await victim.execute("INSERT INTO log VALUES (0, 1)")
        seen.note("inside", await victim.fetchval("SELECT count(*) FROM log WHERE owner = 0"))
        seen.note("from outside", await other.fetchval("SELECT count(*) FROM log WHERE owner = 0"))
    lost = asyncio.ensure_future(refused(victim.fetch("SELECT pg_sleep(60), 'to be terminated'")))
    terminate = ("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                 "WHERE query LIKE '%to be terminated%' AND wait_event = 'PgSleep'")
    while not await other.fetchval(terminate):
        pass
    seen.note("terminated", await lost)
    await victim.close()
    victim = await connect()
    transaction = victim.transaction()
    await transaction.start()
    await victim.execute("INSERT INTO log VALUES (0, 2)")
    await victim.execute("LOCK TABLE item IN ACCESS EXCLUSIVE MODE")
    victim.terminate()
    # The lock is free only when the server knows that its client has gone.
    seen.note("the lock is free", await other.fetchval("SELECT count(*) FROM item", timeout=20))
    seen.note("rolled back", await other.fetch("SELECT step FROM log WHERE owner = 0"))
    await other.close()


async def listening(connect, seen):
    """A listener, which keeps its server, and one that notifies."""
    listener, sender = await connect(), await connect()
    heard = asyncio.Queue()
    await listener.add_listener("news", lambda connection, pid, channel, payload: heard.put_nowait([channel, payload]))
    for number in range(5):
        await sender.execute("SELECT pg_notify('news', $1)", f"number {number}")
    seen.note("heard", [await asyncio.wait_for(heard.get(), 20) for _ in range(5)])
    await listener.remove_listener("news", next(iter(listener._listeners["news"])).cb)
    await listener.close()
    await sender.close()


async def pooled(route, how, seen):
    """asyncpg's own pool, which sends RESET ALL and more at every release: each connection is used by many tasks."""
    async with asyncpg.create_pool(host=route.host, port=route.port, user=route.user, password=route.password, database=route.database,
                                   ssl=False, min_size=1, max_size=CLIENTS, **how) as pool:
        async def task(number):
            async with pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute("SELECT set_config('application_name', $1, true)", f"task {number}")
                    name = await connection.fetchval("SELECT current_setting('application_name')")
                return [name, await connection.fetchval("SELECT current_setting('application_name')")]

        seen.note("pooled", await asyncio.gather(*[task(number) for number in range(40)]))


def check_asyncpg_cached(world):
    """asyncpg as it comes: it names its statements and keeps a hundred of them for each connection."""
    on_every_road(world, lambda route: asyncio.run(with_asyncpg(route)), servers=shared_by(CLIENTS))


def check_asyncpg_uncached(world):
    """asyncpg with statement_cache_size=0, which is what people are told to do behind a pooler."""
    on_every_road(world, lambda route: asyncio.run(with_asyncpg(route, statement_cache_size=0)), servers=shared_by(CLIENTS))


CUSTOM = """
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE place AS (x integer, y numeric, label text);
CREATE DOMAIN percent AS integer CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE thing (id integer PRIMARY KEY, mood mood, moods mood[], place place, places place[], share percent, during tstzrange, address inet, bits bit(5),
                    key uuid, span interval, day date, clock time, real float4, double float8, big bigint, small smallint, flag boolean, body json);
"""


async def with_types(route):
    """Every client meets types of the database's own, which asyncpg looks up with `jit` switched off meanwhile (set_config)."""
    connect, seen = connector(route), Transcript()
    one = await connect()
    await one.execute(CUSTOM)
    await one.close()
    together = asyncio.Barrier(CLIENTS)

    async def client(me):
        connection = await connect()
        place = (me, decimal.Decimal("1.50") * me, f"place {me}, \"quoted\" \\ here")
        values = (me, "happy", ["sad", "ok"], place, [place, None], me, asyncpg.Range(MOMENT, None), "10.0.0.1/8", asyncpg.BitString("10101"),
                  uuid.UUID(int=me), datetime.timedelta(days=me, microseconds=7), MOMENT.date(), MOMENT.time(), 0.5 * me, 1e300 / me, 2 ** 62 + me, -me, me % 2 == 0, '{"a": 1}')
        marks = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        for _ in range(3):
            await connection.execute(f"INSERT INTO thing VALUES ({marks}) ON CONFLICT (id) DO UPDATE SET mood = EXCLUDED.mood", *values)
            row = await connection.fetchrow("SELECT * FROM thing WHERE id = $1", me)
            # All of them hold their connections now.
            await together.wait()
        bad = await refused(connection.execute("UPDATE thing SET share = $1 WHERE id = $2", 100 + me, me))
        await connection.close()
        return [repr(value) for value in row.values()] + [bad]

    for me, what in enumerate(await asyncio.gather(*[client(me) for me in range(1, CLIENTS + 1)]), 1):
        seen.note(f"types {me}", what)
    return seen


def check_asyncpg_types(world):
    """asyncpg with enums, composites, domains and ranges in every client at once."""
    on_every_road(world, lambda route: asyncio.run(with_types(route)))


class Base(DeclarativeBase):
    pass


class Message(Base):
    __tablename__ = "message"
    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    engine: Mapped[int]
    task: Mapped[int]
    body: Mapped[dict] = mapped_column(sqlalchemy.JSON)
    created_at: Mapped[datetime.datetime] = mapped_column(sqlalchemy.DateTime(timezone=True))


def engine_as_in_letta(route):
    """Pool on: 25 + 10, 30 s, 30 min, pre-ping; the caches of asyncpg and of SQLAlchemy's dialect as they come."""
    return create_async_engine(route.url("postgresql+asyncpg"), echo=False, pool_size=25, max_overflow=10, pool_timeout=30, pool_recycle=1800,
                               pool_pre_ping=True)


async def letta(route):
    """Two such applications at once, 45 tasks each on its 35 connections."""
    seen, engines = Transcript(), [engine_as_in_letta(route) for _ in range(2)]
    async with engines[0].begin() as connection:
        await connection.run_sync(Base.metadata.create_all)

    async def task(engine, which, number):
        session = async_sessionmaker(engine, expire_on_commit=False)
        found = []
        for turn in range(6):
            key = uuid.UUID(int=which << 64 | number << 32 | turn)
            async with session() as work:
                work.add(Message(id=key, engine=which, task=number, body={"turn": turn}, created_at=MOMENT))
                await work.commit()
            async with session() as work:
                message = await work.get(Message, key)
                message.body = {"turn": turn, "seen": True}
                await work.flush()
                mine = sqlalchemy.select(sqlalchemy.func.count()).select_from(Message).where(Message.engine == which, Message.task == number)
                found.append((await work.execute(mine)).scalar_one())
                # Half of the turns change their minds.
                await (work.commit() if turn % 2 else work.rollback())
            try:
                async with session() as work:
                    work.add(Message(id=key, engine=which, task=number, body={}, created_at=MOMENT))
                    await work.commit()
            except sqlalchemy.exc.IntegrityError as error:
                found.append(error.orig.sqlstate)
        async with session() as work:
            rows = await work.execute(sqlalchemy.select(Message).where(Message.engine == which, Message.task == number).order_by(Message.id))
            found.append([[str(message.id), message.body, message.created_at.isoformat()] for message in rows.scalars()])
        return found

    tasks = [task(engine, which, number) for which, engine in enumerate(engines) for number in range(45)]
    for number, found in enumerate(await asyncio.gather(*tasks)):
        seen.note(f"task {number}", found)
    for engine in engines:
        await engine.dispose()
    return seen


def check_letta(world):
    """Two engines of 25 + 10 connections with Letta's settings against the 35 servers of one poolwatch."""
    servers = 35
    on_every_road(world, lambda route: asyncio.run(letta(route)), clients=70, servers=servers)


CHECKS = [check_asyncpg_cached, check_asyncpg_uncached, check_asyncpg_types, check_letta]
