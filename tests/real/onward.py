"""`poolwatch migrate` beside the tools it goes on from: sqlx's migrator on the same directory and table, Alembic under its lock."""

import json
import subprocess

from harness import Sidecar, environment, until
from others import CACHE

SCRIPTS = {
    "1_orders.up.sql": "CREATE TABLE orders (id bigint PRIMARY KEY);\n",
    "1_orders.down.sql": "DROP TABLE orders;\n",
    "2_price.up.sql": "ALTER TABLE orders ADD price numeric;\n",
    "2_price.down.sql": "ALTER TABLE orders DROP price;\n",
}
INDEX = {
    "3_index.up.sql": "-- no-transaction\nCREATE INDEX CONCURRENTLY by_price ON orders (price);\n",
    "3_index.down.sql": "DROP INDEX by_price;\n",
}
SLOW = {"4_slow.sql": "SELECT pg_sleep(3);\n"}


class Project:
    """A directory, a database of its own, and both programs."""

    def __init__(self, world, name):
        self.world, self.database, self.source = world, name, world.scratch / name
        self.source.mkdir()
        world.postgres.query(f"CREATE DATABASE {name}", database="postgres")
        self.write(SCRIPTS)

    def write(self, scripts):
        for name, text in scripts.items():
            (self.source / name).write_text(text)

    def start(self, *command, **variables):
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(**variables))

    def sqlx(self, **variables):
        server = self.world.postgres
        return self.start(str(CACHE / "real-rust" / "debug" / "poolwatch-real-rust"), "migrate", SOURCE=str(self.source), PGHOST="127.0.0.1",
                          PGPORT=str(server.port), PGUSER=server.user, PGPASSWORD=server.password, PGDATABASE=self.database, **variables)

    def poolwatch(self, *arguments):
        return self.start(self.world.binary, "migrate", "--source", str(self.source), "--upstream-url",
                          self.world.postgres.url(self.database), *arguments)

    def states(self):
        told = json.loads(ended(self.poolwatch("status", "--json"))[0])
        assert not told["problems"], told
        return " ".join(f"{row['version']}:{row['state']}" for row in told["versions"])


def ended(process, code=0):
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, (process.args, process.returncode, out, err)
    return out, err


def check_migrate_beside_sqlx(world):
    """Each goes on from what the other has done, forward and back, and waits for the other's lock."""
    project = Project(world, "onward")
    ended(project.sqlx())
    assert project.states() == "1:applied 2:applied", project.states()
    project.write(INDEX)
    assert project.states() == "1:applied 2:applied 3:pending", project.states()
    ended(project.poolwatch("up"))
    ended(project.sqlx())  # refuses a checksum that is not its own
    ended(project.poolwatch("down", "--steps", "2"))
    ended(project.sqlx())
    assert project.states() == "1:applied 2:applied 3:applied", project.states()
    ended(project.sqlx(UNDO_TO="1"))
    assert project.states() == "1:applied 2:pending 3:pending", project.states()
    ended(project.poolwatch("up"))

    project.write(SLOW)
    first = project.sqlx()
    until("sqlx is at it", lambda: world.postgres.query(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", database=project.database) == "1")
    out, err = ended(project.poolwatch("up"))
    assert "waiting for another run to end" in err and "applied " not in out, (out, err)
    ended(first)
    assert project.states().endswith("4:applied"), project.states()


class Alembic:
    """A project as `alembic init` makes it, whose env.py connects as DATABASE_URL says."""

    def __init__(self, project, name):
        self.project, self.folder = project, project.world.scratch / name
        self.program = str(CACHE / "venv-real" / "bin" / "alembic")
        config = project.world.scratch / f"{name}.ini"
        self.command = [self.program, "-c", str(config)]
        ended(project.start(*self.command, "init", str(self.folder)))
        config.write_text(f"[alembic]\nscript_location = {self.folder}\n")
        (self.folder / "env.py").write_text(
            "import os\nimport sqlalchemy\nfrom alembic import context\n"
            "url = os.environ['DATABASE_URL'].replace('postgresql://', 'postgresql+psycopg://', 1)\n"
            "with sqlalchemy.create_engine(url).connect() as connection:\n"
            "    context.configure(connection=connection)\n"
            "    with context.begin_transaction():\n        context.run_migrations()\n")

    def revise(self, *arguments):
        """A revision of Alembic's own template."""
        ended(self.project.start(*self.command, "revision", *arguments))

    def under_lock(self, *arguments):
        return self.project.poolwatch("run", "--", *self.command, *arguments)


def check_migrate_run_alembic(world):
    """`migrate run -- alembic …` on the direct connection, and what `status` says of it then."""
    project = Project(world, "alembic_under_lock")
    alembic = Alembic(project, "alembic_project")
    (alembic.folder / "versions" / "one.py").write_text("from alembic import op\nrevision, down_revision = 'first', None\n"
                                                        "def upgrade():\n    op.execute('CREATE TABLE by_alembic ()')\n")
    runs = [alembic.under_lock("upgrade", "head") for _ in range(4)]
    for run in runs:
        ended(run)
    out, _ = ended(project.poolwatch("status"))
    assert out.endswith("Alembic stands at first\n"), out
    _, err = ended(alembic.under_lock("upgrade", "nowhere"), code=1)
    assert "ended with exit status" in err, err


def check_alembic_in_metrics(world):
    """Revisions of Alembic's own template, two heads and their merge: what is pending, and where the database stands."""
    project = Project(world, "alembic_watched")
    alembic = Alembic(project, "watched_project")
    sidecar = Sidecar(world.binary, world.postgres.url(project.database), world.out, "alembic_watched", POOLWATCH_MIGRATE__WATCH="100ms",
                      POOLWATCH_MIGRATE__ALEMBIC_SOURCE=str(alembic.folder / "versions"))

    def shown(heads, pending):
        def same():
            lines = sidecar.get("/metrics")[1].splitlines()
            found = [line for line in lines if line.startswith("poolwatch_migration_info{tool=\"alembic\"")]
            versions = sorted(line.split("version=\"")[1].split("\"")[0] for line in found)
            return versions == heads and f'poolwatch_migrations_pending{{tool="alembic"}} {pending}' in lines
        until(f"{heads} with {pending} pending in /metrics", same)

    try:
        alembic.revise("--rev-id", "first", "-m", "first")
        alembic.revise("--rev-id", "left", "-m", "left", "--head", "first")
        alembic.revise("--rev-id", "right", "-m", "right", "--head", "first", "--splice")
        shown([], 3)
        ended(alembic.under_lock("upgrade", "heads"))
        shown(["left", "right"], 0)
        ended(project.start(*alembic.command, "merge", "--rev-id", "both", "heads"))
        shown(["left", "right"], 1)
        ended(alembic.under_lock("upgrade", "heads"))
        shown(["both"], 0)
    finally:
        sidecar.close()


CHECKS = [check_migrate_beside_sqlx, check_migrate_run_alembic, check_alembic_in_metrics]
