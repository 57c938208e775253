"""The systemd unit and the Debian package: read by systemd, built by cargo-deb, installed, started and removed in a clean Debian."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess
import tempfile

import pages
from compose import default, run, seconds, tool
from harness import Figures, Postgres, free_port, postgres_bin, until

UNIT = pages.ROOT / "deploy" / "systemd" / "poolwatch.service"
# Of systemd's 0 (nothing is allowed) to 10; what is left is the network, which it is for.
EXPOSURE = 1.5


def setting(name):
    return re.findall(rf"^{name}=(.*)$", UNIT.read_text(), re.M)


def check_systemd_unit(world):
    """systemd understands each line, rates it well, and lets it drain before it is killed."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder, UNIT.name)
        copy.write_text(UNIT.read_text().replace("ExecStart=/usr/bin/poolwatch", f"ExecStart={world.binary}"))
        said = run("systemd-analyze", "verify", copy)
        assert not said.stderr.strip(), said.stderr
        rated = run("systemd-analyze", "security", "--offline=true", f"--threshold={int(EXPOSURE * 10)}", "--no-pager", copy)
        assert re.search(r"exposure level for poolwatch.service: [01]\.\d", rated.stdout), rated.stdout[-300:]
    assert int(setting("TimeoutStopSec")[0]) > seconds(default("shutdown.timeout"))
    assert int(setting("LimitNOFILE")[0]) > int(default("listen.max_clients"))
    said = run(world.binary, "config", "check", "--config", pages.ROOT / "deploy/systemd/poolwatch.toml", "--upstream-url", "postgresql://app@127.0.0.1/app")
    assert "wrong" not in said.stdout, said.stdout


class Root:
    """A clean Debian in a folder. Commands run in a mount namespace of their own, so that nothing stays mounted."""

    DEVICES = ("null", "urandom")

    def __init__(self, folder):
        self.path = folder / "root"
        run(pages.ROOT / ".ci/debian-root.sh", "bookworm", self.path)
        for device in self.DEVICES:
            (self.path / "dev" / device).touch()

    def command(self, *arguments, user=None, **variables):
        mounts = "".join(f"mount --bind /dev/{name} {self.path}/dev/{name}; " for name in self.DEVICES) + f"mount -t proc proc {self.path}/proc; "
        inside = ["chroot", *([f"--userspec={user}"] if user else []), str(self.path), "/usr/bin/env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                  "DEBIAN_FRONTEND=noninteractive", *(f"{key}={value}" for key, value in variables.items()), *map(str, arguments)]
        return ["unshare", "--mount", "sh", "-ec", mounts + "exec " + shlex.join(inside)]

    def run(self, *arguments, check=True, **more):
        return run(*self.command(*arguments, **more), check=check)


def build(world, folder):
    """`cargo deb` of the program that is there, without compiling.

    The newest cargo-deb that comes as a built program is older than edition 2024 and refuses the word, so it reads a copy of the
    manifest; the edition plays no part in packing. Today's cargo-deb, which takes minutes to compile, reads the manifest as it is."""
    checkout, package = folder / "checkout", folder / "poolwatch.deb"
    (checkout / "target" / "release").mkdir(parents=True)
    shutil.copy(world.binary, checkout / "target" / "release" / "poolwatch")
    for part in pages.ROOT.iterdir():
        if part.name not in ("Cargo.toml", "target", ".git", ".ci"):
            (checkout / part.name).symlink_to(part)
    manifest = (pages.ROOT / "Cargo.toml").read_text()
    assert manifest.count('edition = "2024"') == 1
    (checkout / "Cargo.toml").write_text(manifest.replace('edition = "2024"', 'edition = "2021"'))
    run(tool("cargo-deb"), "--no-build", "--output", package, cwd=checkout)
    return package


def contents(package):
    """{path: (mode, owner)} of the files."""
    lines = [line.split() for line in run("dpkg-deb", "--contents", package).stdout.splitlines()]
    return {"/" + line[5].lstrip("./"): (line[0], line[1].replace("root/root", "0/0")) for line in lines if not line[5].endswith("/")}


def check_debian_package(world):
    """Installs in a clean Debian without a question, starts as its unit says, serves, ends, is upgraded, and goes without a trace of the secret."""
    assert os.geteuid() == 0, "a clean Debian root needs root"
    folder = pathlib.Path(tempfile.mkdtemp(prefix="package-"))
    folder.chmod(0o755)
    postgres = Postgres()
    try:
        package = build(world, folder)
        files = contents(package)
        for path, mode in (("/usr/bin/poolwatch", "-rwxr-xr-x"), ("/lib/systemd/system/poolwatch.service", "-rw-r--r--"), ("/etc/poolwatch/poolwatch.toml", "-rw-r--r--"),
                           ("/usr/share/doc/poolwatch/copyright", "-rw-r--r--"), ("/usr/share/doc/poolwatch/docs/runbooks.md", "-rw-r--r--")):
            assert files.get(path) == (mode, "0/0"), f"{path}: {files.get(path)}"
        root = Root(folder)
        shutil.copy(package, root.path / "poolwatch.deb")
        said = root.run("dpkg", "--install", "/poolwatch.deb").stdout
        assert "/etc/poolwatch/upstream-url" in said, f"who installs is not told what to do:\n{said}"
        assert root.run("dpkg", "--status", "poolwatch").stdout.count("Status: install ok installed") == 1
        start(world, root, postgres)
        (root.path / "etc/poolwatch/poolwatch.toml").write_text("[pool]\nsize = 7\n")
        root.run("dpkg", "--install", "/poolwatch.deb")
        assert "size = 7" in (root.path / "etc/poolwatch/poolwatch.toml").read_text(), "an upgrade took the settings away"
        root.run("dpkg", "--purge", "poolwatch")
        left = [path for path in ("etc/poolwatch", "usr/bin/poolwatch", "lib/systemd/system/poolwatch.service") if (root.path / path).exists()]
        assert not left, f"left behind: {left}"
    finally:
        postgres.close()
        shutil.rmtree(folder, ignore_errors=True)


def start(world, root, postgres):
    """ExecStart of the installed unit, as its user, with its environment and the credential where systemd would put it."""
    (root.path / "etc/poolwatch/upstream-url").write_text(postgres.url())
    (root.path / "etc/poolwatch/upstream-url").chmod(0o600)
    credentials = root.path / "run/credentials"
    credentials.mkdir(parents=True)
    account = root.run("getent", "passwd", "poolwatch").stdout.split(":")
    assert account[5:7] == ["/nonexistent", "/usr/sbin/nologin\n"], account
    sockets = root.path / "run/poolwatch"
    sockets.mkdir()
    for path, text in ((credentials / "upstream-url", postgres.url()), (sockets, None)):
        text and path.write_text(text)
        os.chown(path, int(account[2]), int(account[3]))
    (credentials / "upstream-url").chmod(0o400)
    variables = dict(line.replace("%d", "/run/credentials").split("=", 1) for line in setting("Environment"))
    ports = free_port(), free_port()
    variables |= {"POOLWATCH_LISTEN__ADDRESS": f"127.0.0.1:{ports[0]}", "POOLWATCH_HTTP__ADDRESS": f"127.0.0.1:{ports[1]}"}
    user = f"{setting('User')[0]}:{setting('Group')[0]}"
    with open(world.out / "package-poolwatch.log", "wb") as log:
        process = subprocess.Popen(root.command(*shlex.split(setting("ExecStart")[0]), user=user, **variables), stdout=log, stderr=log, umask=int(setting("UMask")[0], 8))
    try:
        until("`poolwatch health` is content", lambda: root.run("/usr/bin/poolwatch", "health", user=user, check=False, **variables).returncode == 0)
        uids = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(rf"^Uid:\s+{account[2]}\b", uids, re.M), "it does not run as its user"
        # A stranger of the machine, over TCP and over the socket.
        for host in ("127.0.0.1", sockets):
            answer = run(postgres_bin("psql"), "-XAtq", "-h", host, "-p", ports[0], "-U", "app", "app", "-c", "SELECT 40 + 2",
                         env={"PGPASSWORD": postgres.password, "PATH": os.environ["PATH"]}, user="nobody", cwd="/")
            assert answer.stdout.strip() == "42"
        assert Figures(root_get(ports[1])).sum("poolwatch_transactions_total") == 2
    finally:
        process.terminate()
        ended = process.wait(40)
    assert ended == 0, f"after SIGTERM it ended with {ended}: {(world.out / 'package-poolwatch.log').read_text()[-800:]}"


def root_get(port):
    import urllib.request

    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()


CHECKS = (check_systemd_unit, check_debian_package)
