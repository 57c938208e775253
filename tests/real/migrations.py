"""Alembic on pg8000 and on asyncpg: a history of schema changes, up to its head and down to nothing, on every road (routes.py)."""

import alembic.command
import alembic.config
import sqlalchemy

from routes import Transcript, on_every_road, shared_by
from terminals import dumped, psql

ENVIRONMENT = '''
import asyncio

import sqlalchemy
from alembic import context
from sqlalchemy.ext.asyncio import create_async_engine

url = context.config.get_main_option("sqlalchemy.url")


def migrate(connection):
    context.configure(connection=connection, target_metadata=None, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def migrate_asynchronously():
    engine = create_async_engine(url, poolclass=sqlalchemy.NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


if "+asyncpg" in url:
    asyncio.run(migrate_asynchronously())
else:
    with sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool).connect() as connection:
        migrate(connection)
'''

HEAD = '''
import contextlib

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision, down_revision, branch_labels, depends_on = {revision!r}, {before!r}, None, None


@contextlib.contextmanager
def outside():
    """Outside of transactions. Alembic asks for the isolation level first, and that makes pg8000 begin a transaction which nothing ends."""
    if op.get_bind().dialect.driver != "pg8000":
        with op.get_context().autocommit_block():
            yield
        return
    connection = op.get_bind().connection.dbapi_connection
    connection.commit()
    connection.autocommit = True
    yield
    connection.autocommit = False
'''

# Each: what goes up, what goes down.
HISTORY = [
    # Tables, with keys from one to the other.
    ('''
    op.create_table("author", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(200), nullable=False),
                    sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("'2020-01-01 00:00+00'")))
    op.create_table("book", sa.Column("id", sa.BigInteger, primary_key=True), sa.Column("author_id", sa.Integer, sa.ForeignKey("author.id", ondelete="CASCADE")),
                    sa.Column("title", sa.Text, nullable=False), sa.Column("year", sa.SmallInteger), sa.UniqueConstraint("author_id", "title", name="one_title"))
''', '''
    op.drop_table("book")
    op.drop_table("author")
'''),
    # Rows.
    ('''
    author = sa.table("author", sa.column("name"))
    op.bulk_insert(author, [{"name": f"author {n}"} for n in range(40)])
    op.execute("INSERT INTO book (author_id, title, year) SELECT a.id, 'title ' || n, 1900 + n FROM author a, generate_series(1, 30) n")
''', '''
    op.execute("DELETE FROM book")
    op.execute("DELETE FROM author")
'''),
    # Indexes that PostgreSQL makes outside of transactions only.
    ('''
    with outside():
        op.create_index("book_by_year", "book", ["year"], postgresql_concurrently=True, if_not_exists=True)
        op.execute("CREATE INDEX CONCURRENTLY book_by_title ON book (lower(title))")
''', '''
    with outside():
        op.drop_index("book_by_title", postgresql_concurrently=True)
        op.drop_index("book_by_year", postgresql_concurrently=True)
'''),
    # An enum and a column of it, filled from another column in portions.
    ('''
    genre = postgresql.ENUM("novel", "essay", "poem", name="genre")
    genre.create(op.get_bind())
    op.add_column("book", sa.Column("genre", postgresql.ENUM(name="genre", create_type=False), nullable=True))
    connection = op.get_bind()
    ids = [row[0] for row in connection.execute(sa.text("SELECT id FROM book ORDER BY id"))]
    for start in range(0, len(ids), 100):
        connection.execute(sa.text("UPDATE book SET genre = CAST(CASE WHEN mod(year, 3) = 0 THEN 'novel' WHEN mod(year, 3) = 1 THEN 'essay' ELSE 'poem' END AS genre)"
                                   " WHERE id BETWEEN :first AND :last"), {"first": ids[start], "last": ids[min(start + 99, len(ids) - 1)]})
    op.alter_column("book", "genre", nullable=False)
''', '''
    op.drop_column("book", "genre")
    op.execute("DROP TYPE genre")
'''),
    # A value more for the enum, used at once, which needs a commit in between.
    ('''
    with outside():
        op.execute("ALTER TYPE genre ADD VALUE IF NOT EXISTS 'play'")
    op.execute("UPDATE book SET genre = 'play' WHERE year = 1905")
''', '''
    op.execute("UPDATE book SET genre = 'novel' WHERE genre = 'play'")
'''),
    # A change of types, a trigger, a view, JSON, a partial index; settings for this transaction alone.
    ('''
    op.execute("SET LOCAL lock_timeout = '10s'")
    op.alter_column("book", "year", type_=sa.Integer, existing_type=sa.SmallInteger)
    op.add_column("book", sa.Column("details", postgresql.JSONB, server_default=sa.text("'{}'::jsonb"), nullable=False))
    op.execute("""CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN NEW.details := NEW.details || jsonb_build_object('touched', true); RETURN NEW; END $$""")
    op.execute("CREATE TRIGGER touch BEFORE UPDATE ON book FOR EACH ROW EXECUTE FUNCTION touch()")
    op.execute("UPDATE book SET title = title || '!' WHERE year < 1910")
    op.execute("CREATE VIEW recent AS SELECT b.title, a.name FROM book b JOIN author a ON a.id = b.author_id WHERE b.year > 1920")
    op.create_index("touched", "book", ["id"], postgresql_where=sa.text("details ? 'touched'"))
    op.create_check_constraint("a_year", "book", "year > 0")
    op.rename_table("author", "writer")
''', '''
    op.rename_table("writer", "author")
    op.drop_constraint("a_year", "book")
    op.drop_index("touched")
    op.execute("DROP VIEW recent")
    op.execute("DROP TRIGGER touch ON book")
    op.execute("DROP FUNCTION touch()")
    op.drop_column("book", "details")
    op.alter_column("book", "year", type_=sa.SmallInteger, existing_type=sa.Integer)
'''),
]


def written(folder):
    """The history as the files that Alembic reads."""
    versions = folder / "versions"
    versions.mkdir(parents=True)
    (folder / "env.py").write_text(ENVIRONMENT)
    before = None
    for number, (up, down) in enumerate(HISTORY):
        revision = f"r{number:03}"
        text = HEAD.format(revision=revision, before=before) + f"\n\ndef upgrade():{up}\n\ndef downgrade():{down}"
        (versions / f"{revision}.py").write_text(text)
        before = revision
    return folder


def migrated(folder, route, scheme):
    """Up, down, and up again in steps; a migration that fails half-way; the schema and its rows after each."""
    config, seen = alembic.config.Config(), Transcript()
    config.set_main_option("script_location", str(folder))
    config.set_main_option("sqlalchemy.url", route.url(scheme))
    config.set_main_option("path_separator", "os")

    def look(label):
        seen.note(f"schema {label}", dumped(route)[1])

    alembic.command.upgrade(config, "head")
    look("at the head")
    alembic.command.downgrade(config, "base")
    look("at the base")
    for _ in HISTORY:
        alembic.command.upgrade(config, "+1")
    alembic.command.downgrade(config, "-3")
    # A row that the next revision but one cannot live with: it rolls back, what came before it stays.
    psql(route, "INSERT INTO book (author_id, title, year) SELECT id, 'too early', -5 FROM author LIMIT 1")
    try:
        alembic.command.upgrade(config, "head")
        seen.note("in spite of the row", "upgraded")
    except sqlalchemy.exc.DBAPIError as error:
        seen.note("refused", type(error).__name__)
    look("after the failure")
    psql(route, "DELETE FROM book WHERE year < 0")
    alembic.command.upgrade(config, "head")
    look("at the head again")
    alembic.command.downgrade(config, "base")
    look("at last")
    return seen


def check_alembic_pg8000(world):
    """Alembic's `upgrade head` and `downgrade base` through SQLAlchemy and pg8000."""
    folder = written(world.scratch / "alembic-pg8000")
    on_every_road(world, lambda route: migrated(folder, route, "postgresql+pg8000"), clients=2, servers=shared_by(2))


def check_alembic_asyncpg(world):
    """The same through asyncpg, whose named statements meet every change of the schema."""
    folder = written(world.scratch / "alembic-asyncpg")
    on_every_road(world, lambda route: migrated(folder, route, "postgresql+asyncpg"), clients=2, servers=shared_by(2))


CHECKS = [check_alembic_pg8000, check_alembic_asyncpg]
