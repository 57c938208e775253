"""PostgreSQL 18: protocol 3.2 and its long cancel keys, on both sides of poolwatch; and 15, which speaks 3.0.

The package of PostgreSQL 18 lies where `.ci/run tools` puts it, or where POSTGRES18 says.
"""

import os
import pathlib
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

from harness import DATABASE, USER, Postgres, Sidecar, environment, postgres_bin, until

CANCEL = 80877102
PACKAGE = pathlib.Path(os.environ.get("POSTGRES18", ".ci/cache/postgres18/package")).resolve()


class Tap:
    """A way to a server that notes the first packet of every connection."""

    def __init__(self, port):
        self.target, self.first = port, []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with client, socket.create_connection(("127.0.0.1", self.target)) as server:
            head = exactly(client, 4)
            packet = head + exactly(client, struct.unpack("!I", head)[0] - 4)
            self.first.append(packet)
            server.sendall(packet)
            back = threading.Thread(target=copy, args=(server, client), daemon=True)
            back.start()
            copy(client, server)
            back.join()

    def close(self):
        self.listener.close()

    def startups(self):
        return {struct.unpack("!HH", packet[4:8]) for packet in self.first if packet[4:6] == b"\0\3"}

    def cancels(self):
        """The lengths of the secrets in cancel requests."""
        return [len(packet) - 12 for packet in self.first if struct.unpack("!I", packet[4:8])[0] == CANCEL]


def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def exactly(source, count):
    data = b""
    while len(data) < count:
        more = source.recv(count - len(data))
        if not more:
            raise EOFError(f"{len(data)} of {count} bytes")
        data += more
    return data


class Client:
    """As much of the protocol as the checks need; the server must trust."""

    def __init__(self, port, minor):
        self.port, self.key = port, None
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        body = struct.pack("!HH", 3, minor) + f"user\0{USER}\0database\0{DATABASE}\0\0".encode()
        self.socket.sendall(struct.pack("!I", len(body) + 4) + body)
        for tag, body in self.until_ready():
            if tag == b"K":
                self.key = body

    def until_ready(self):
        messages = []
        while not messages or messages[-1][0] != b"Z":
            tag = exactly(self.socket, 1)
            length = struct.unpack("!I", exactly(self.socket, 4))[0]
            messages.append((tag, exactly(self.socket, length - 4)))
        errors = [body for tag, body in messages if tag == b"E"]
        assert not errors or self.key, f"refused: {errors}"
        return messages

    def ask(self, sql):
        body = sql.encode() + b"\0"
        self.socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)

    def value(self, sql):
        self.ask(sql)
        rows = [body for tag, body in self.until_ready() if tag == b"D"]
        return rows[0][6:].decode()

    def cancel(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as request:
            request.sendall(struct.pack("!II", 8 + len(self.key), CANCEL) + self.key)
            assert request.recv(1) == b"", "a cancel request has no answer"

    def close(self):
        self.socket.close()


def of_version(server, secret, world):
    """Clients of both protocols on a server whose secrets have this length: their own is right, their cancels arrive."""
    tap = Tap(server.port)
    upstream = f"postgresql://{USER}@127.0.0.1:{tap.port}/{DATABASE}?sslmode=disable"
    try:
        for mode in ("transaction", "session"):
            sidecar = Sidecar(world.binary, upstream, world.out, f"{world.check}-{secret}-{mode}", POOLWATCH_POOL__MODE=mode)
            world.started.append(sidecar)
            for minor, own in ((0, 4), (2, 32)):
                client = Client(sidecar.port, minor)
                assert len(client.key) == 4 + own, (mode, minor, len(client.key))
                told = struct.unpack("!i", client.key[:4])[0]
                if mode == "session":
                    assert told == int(client.value("SELECT pg_backend_pid()"))
                before = len(tap.cancels())
                client.ask("SELECT pg_sleep(600)")
                until("the query runs", lambda: server.query(
                    "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'") == "1")
                client.cancel()
                answer = client.until_ready()
                assert any(tag == b"E" and b"C57014" in body for tag, body in answer), answer
                assert tap.cancels()[before:] == [secret], tap.cancels()
                assert client.value("SELECT 1") == "1"
                client.close()
        # poolwatch's own pool speaks 3.0; the servers of clients were asked for 3.2.
        assert (3, 2) in tap.startups(), tap.startups()
    finally:
        tap.close()


def check_postgres18(world):
    """3.2 and a secret of 32 bytes."""
    assert (PACKAGE / "native/bin/postgres").exists(), f"no PostgreSQL 18 in {PACKAGE}: run .ci/run tools"
    # Where the account that runs servers can read it.
    copied = pathlib.Path(tempfile.mkdtemp(prefix="real-pg18-"))
    try:
        copied.chmod(0o755)
        native = shutil.copytree(PACKAGE / "native", copied / "native", symlinks=True)
        for program in (native / "bin").iterdir():
            program.chmod(0o755)

        def program(name):
            path = native / "bin" / name
            return str(path) if path.exists() else postgres_bin(name)

        server = Postgres(program=program, authentication="trust")
        try:
            assert server.query("SHOW server_version").startswith("18"), server.query("SHOW server_version")
            of_version(server, 32, world)
            reserved(server, world)
        finally:
            server.close()
    finally:
        shutil.rmtree(copied, ignore_errors=True)


def reserved(server, world):
    """Connections that PostgreSQL 16 and newer keep for a role are room for nobody else, whoever counts it."""
    server.query("ALTER SYSTEM SET reserved_connections = 65")
    server.stop()
    server.start()
    room = 100 - 3 - 65
    upstream = f"postgresql://{USER}@127.0.0.1:{server.port}/{DATABASE}?sslmode=disable"
    sidecar = Sidecar(world.binary, upstream, world.out, f"{world.check}-reserved")
    world.started.append(sidecar)
    line = until("the warning in the log", lambda: next(
        (line for line in sidecar.log.read_text().splitlines() if "more connections than PostgreSQL allows" in line), None))
    assert re.search(rf"\busable\b\W+{room}\b", re.sub(r"\x1b\[[0-9;]*m", "", line)), line
    checked = subprocess.run([world.binary, "config", "check", "--connect"], env=environment(POOLWATCH_UPSTREAM__URL=upstream),
                             capture_output=True, text=True, timeout=60)
    assert f"PostgreSQL has {room} for applications" in " ".join((checked.stdout + checked.stderr).split()), checked


def check_older_protocol(world):
    """The same on a server that answers 3.0."""
    server = Postgres(authentication="trust")
    try:
        of_version(server, 4, world)
    finally:
        server.close()


CHECKS = [check_postgres18, check_older_protocol]
