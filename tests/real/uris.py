"""What `poolwatch uri` prints, read by the drivers themselves: each must find what libpq finds in the URL that was given."""

import json
import os
import pathlib
import subprocess

from asyncpg.connect_utils import _parse_connect_dsn_and_args
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from commands import run

HERE = pathlib.Path(__file__).parent
JDBC = "/usr/share/java/postgresql.jar"
MASK = "***"
# Settings of the session that every reader hands on.
MORE = ("options", "application_name")

# Each with whether its host is a socket, which JDBC has no word for.
URLS = [
    ("postgresql://ann:hunter2@db.example:5433/shop?sslmode=require&application_name=web&connect_timeout=3", False),
    ("postgres://ann%20lee:hunter2@[2001:db8::1]/my%2Fdb?sslmode=disable", False),
    ("postgresql://o%27brien:hunter2@a.example:5433,b.example:5434/d?target_session_attrs=read-write&sslmode=require", False),
    ("host=/tmp/some\\ dir port=5999 user=ann dbname='a b'", True),
    ("postgresql://ann:hunter2@h/d?options=-c%20geqo%3Doff&client_encoding=UTF8", False),
    ("jdbc:postgresql://db.example:5433/shop?user=ann&password=hunter2&sslmode=prefer&prepareThreshold=0", False),
    ("postgresql+asyncpg://ann:hunter2@db.example/shop?ssl=require", False),
]


def forms(world, url):
    done = run(world, "uri", "--json", url)
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stdout, done.stdout
    return {form["form"]: form["text"] for form in json.loads(done.stdout)}


def libpq(text):
    """libpq's own reading, in the words of the others."""
    read = conninfo_to_dict(text)
    hosts, ports = str(read["host"]).split(","), [int(port) for port in str(read.get("port", 5432)).split(",")]
    return {"hosts": hosts, "ports": ports, "user": read.get("user"), "password": read.get("password", ""),
            "database": read.get("dbname"), "sslmode": read.get("sslmode", "prefer"),
            "more": {name: read[name] for name in MORE if name in read}}


def asyncpg(text):
    none = dict.fromkeys("host port user password passfile database ssl service servicefile server_settings krbsrvname gsslib".split())
    addresses, params = _parse_connect_dsn_and_args(dsn=text, direct_tls=False, target_session_attrs=None, **none)
    # A socket is a path with the port in its name.
    hosts = [(os.path.dirname(at), int(at.rsplit(".", 1)[1])) if isinstance(at, str) else at for at in addresses]
    return {"hosts": [host for host, _ in hosts], "ports": [port for _, port in hosts], "user": params.user,
            "password": params.password or "", "database": params.database, "sslmode": params.sslmode.name.replace("_", "-"),
            "more": {name: value for name, value in (params.server_settings or {}).items() if name in MORE}}


def sqlalchemy(text):
    """What a dialect hands to its driver, with the names of libpq."""
    url = make_url(text)
    arguments, words = url.get_dialect()().create_connect_args(url)
    assert not arguments or arguments == [""], arguments
    listed = lambda value: value if isinstance(value, list) else str(value).split(",")
    if "unix_sock" in words:
        folder, _, port = words["unix_sock"].rpartition("/.s.PGSQL.")
        words |= {"host": folder, "port": port}
    return {"hosts": listed(words["host"]), "ports": [int(port) for port in listed(words.get("port", 5432))],
            "user": words["user"], "password": words.get("password", ""),
            "database": words.get("database", words.get("dbname")), "sslmode": words.get("sslmode", words.get("ssl", "prefer"))}


def same(theirs, wanted, *names):
    for name in names:
        assert theirs[name] == wanted[name], f"{name}: {theirs[name]!r} for {wanted[name]!r}: {theirs} {wanted}"


def check_uri_python(world):
    """asyncpg, psycopg and SQLAlchemy's dialects find in every form what libpq finds in the URL."""
    for url, socket in URLS:
        printed = forms(world, url)
        wanted = libpq(printed["libpq URL, psycopg"])
        assert wanted["password"] == (MASK if "hunter2" in url else ""), wanted
        if not url.startswith(("jdbc:", "postgresql+")):
            same(libpq(url), wanted, "hosts", "ports", "user", "database", "sslmode", "more")
        same(libpq(printed["libpq key=value"]), wanted, *wanted)
        # asyncpg tries no TLS on a socket.
        sslmode = {"sslmode": "disable"} if socket else {}
        same(asyncpg(printed["asyncpg"]), wanted | sslmode, *wanted)
        everything = ("hosts", "ports", "user", "password", "database")
        for name in ("asyncpg", "psycopg", "psycopg2"):
            same(sqlalchemy(printed[f"SQLAlchemy + {name}"]), wanted, *everything, "sslmode")
        if len(wanted["hosts"]) == 1:
            same(sqlalchemy(printed["SQLAlchemy + pg8000"]), wanted, *everything)


def check_uri_jdbc(world):
    """pgjdbc finds the same in its form."""
    classes = world.scratch / "uri-java"
    subprocess.run(["javac", "-d", classes, "-cp", JDBC, HERE / "java" / "Uri.java"], check=True, timeout=60)
    printed = [forms(world, url) for url, socket in URLS if not socket]
    done = subprocess.run(["java", "-XX:TieredStopAtLevel=1", "-cp", f"{JDBC}:{classes}", "Uri", *(form["JDBC"] for form in printed)],
                          capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(printed), done
    for line, form in zip(lines, printed):
        wanted = libpq(form["libpq URL, psycopg"])
        hosts, ports, user, password, database, sslmode, _, name = line.split("\t")
        read = {"hosts": [host.strip("[]") for host in hosts.split(",")], "ports": [int(port) for port in ports.split(",")], "user": user,
                "password": password, "database": database, "sslmode": sslmode or "prefer"}
        same(read, wanted, *read)
        assert name == wanted["more"].get("application_name", ""), line


def check_uri_go(world):
    """pgx finds the same in its form."""
    program = world.scratch / "uri-go"
    settings = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(world.scratch / "go-cache"), "GOFLAGS": ""}
    subprocess.run(["go", "build", "-o", program, HERE / "go" / "uri.go"], check=True, timeout=180, env=settings)
    printed = [forms(world, url) for url, _ in URLS]
    done = subprocess.run([program, *(form["Go (pgx)"] for form in printed)], capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(printed), done
    for line, form in zip(lines, printed):
        read, wanted = json.loads(line), libpq(form["libpq URL, psycopg"])
        same(read, wanted, "hosts", "ports", "user", "password", "database")
        # A socket has no TLS whatever is asked for.
        tls = {"require": {True}, "disable": {False}, "prefer": {True, False}}[wanted["sslmode"]]
        assert set(read["tls"]) == ({False} if wanted["hosts"][0].startswith("/") else tls), (read, wanted)
        for name, value in wanted["more"].items():
            assert read["params"].get(name) == value, (read, wanted)


CHECKS = [check_uri_python, check_uri_jdbc, check_uri_go]
