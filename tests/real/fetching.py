"""The demo where no PostgreSQL is installed: it fetches one, keeps it, and says what to do when it cannot.

What it would ask on the network is asked of a stand-in on this machine, by the ways that any program is sent elsewhere (HTTPS_PROXY and
SSL_CERT_FILE): the site's releases as its API lists them, and one release made of real programs. The package that they come from
lies where `.ci/run tools` puts it, or where POSTGRES17 says.
"""

import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import platform
import shutil
import ssl
import subprocess
import tarfile
import tempfile
import threading

from commands import demo, ordinary_user, text_of
from harness import free_port

PACKAGE = pathlib.Path(os.environ.get("POSTGRES17", ".ci/cache/postgres17/package")).resolve()
API, SITE, STORE = "api.github.com", "github.com", "release-assets.githubusercontent.com"
REPOSITORY = "theseus-rs/postgresql-binaries"
# The newest of 17 is what shall be fetched. Only that one can be: another choice ends in a 404.
RELEASES = ("18.1.0", "17.2.0", "17.10.0", "17.9.0", "16.4.0")
WANTED = "17.10.0"


def archive_name(version):
    return f"postgresql-{version}-{platform.machine()}-unknown-linux-gnu.tar.gz"


def archive():
    """The release: one folder of that name with bin, lib and share."""
    native, folder = PACKAGE / "native", archive_name(WANTED).removesuffix(".tar.gz")
    assert (native / "bin/postgres").exists(), f"no PostgreSQL 17 in {PACKAGE}: run .ci/run tools"

    def readable(entry):
        entry.mode = 0o755 if entry.isdir() or "/bin/" in entry.name else 0o644
        return entry

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(native, folder, recursive=False, filter=readable)
        for part in ("bin", "lib", "share"):
            tar.add(native / part, f"{folder}/{part}", filter=readable)
    return packed.getvalue()


def certificates(folder):
    """An authority, and a certificate of its for the site's names."""
    def made(name, *more):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem", *more],
                       check=True, capture_output=True)
    made("authority")
    made("site", "-CA", folder / "authority.pem", "-CAkey", folder / "authority.key", "-addext", "basicConstraints=critical,CA:FALSE",
         "-addext", "subjectAltName=" + ",".join(f"DNS:{name}" for name in (API, SITE, STORE)))


class Stand(http.server.BaseHTTPRequestHandler):
    """A proxy that answers in the place of those whom it is asked to connect to."""

    protocol_version = "HTTP/1.1"

    def do_CONNECT(self):
        self.host = self.path.removesuffix(":443")
        self.send_response(200)
        self.end_headers()
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", buffering=0)
        self.close_connection = False
        with contextlib.suppress(OSError):
            while not self.close_connection:
                self.handle_one_request()
        self.close_connection = True

    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = f"{self.host}{path}"
        self.server.asked.append(asked)
        files = self.server.files
        if asked == f"{API}/repos/{REPOSITORY}/releases":
            first = "page=1" in query.split("&")
            return self.answer(200, json.dumps([release(version) for version in RELEASES] if first else []).encode())
        name = path.rpartition("/")[2]
        if asked == f"{SITE}/{REPOSITORY}/releases/download/{WANTED}/{name}" and name in files:
            return self.answer(302, b"", Location=f"https://{STORE}/{name}")
        if asked == f"{STORE}/{name}" and name in files:
            return self.answer(200, files[name])
        return self.answer(404, b"{}")

    def answer(self, status, body, **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def release(version):
    """As much of a release as the API tells of it."""
    base = f"https://{API}/repos/{REPOSITORY}/releases/{version}"

    def asset(name):
        return dict(url=f"{base}/assets/{name}", id=1, node_id="A", name=name, label="", content_type="application/octet-stream",
                    state="uploaded", size=1, browser_download_url=f"https://{SITE}/{REPOSITORY}/releases/download/{version}/{name}")
    other = archive_name(version).replace(platform.machine(), "powerpc64le")
    names = (other, f"{other}.sha256", archive_name(version), f"{archive_name(version)}.sha256")
    return dict(url=base, assets_url=f"{base}/assets", upload_url=base, html_url=base, id=1, tag_name=version, name=f"v{version}",
                draft=False, prerelease=False, assets=[asset(name) for name in names])


class Machine:
    """This machine as it would be without PostgreSQL, with a cache of its own, and the network led to the stand-in."""

    def __init__(self, account):
        self.account = account
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="real-fetch-"))
        self.folder.chmod(0o755)
        self.cache = self.folder / "cache"
        self.cache.mkdir()
        if account:
            os.chown(self.cache, account.pw_uid, account.pw_gid)
        certificates(self.folder)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.folder / "site.pem", self.folder / "site.key")
        tls.set_alpn_protocols(["http/1.1"])
        self.stand = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stand)
        self.stand.daemon_threads, self.stand.tls, self.stand.asked, self.stand.files = True, tls, [], {}
        threading.Thread(target=self.stand.serve_forever, daemon=True).start()

    def offer(self, packed, told=None):
        """An archive, and the digest told of it: its own, if none is given."""
        name = archive_name(WANTED)
        digest = told or hashlib.sha256(packed).hexdigest()
        self.stand.files = {name: packed, f"{name}.sha256": f"{digest}  {name}\n".encode()}

    def asked(self):
        """What was asked of the stand-in since the last look."""
        asked, self.stand.asked = self.stand.asked, []
        return asked

    def prefix(self):
        """Runs a program where the distribution's PostgreSQL is not to be seen, and root's cache is ours."""
        hide = f"""[ ! -d /usr/lib/postgresql ] || mount -t tmpfs none /usr/lib/postgresql
                   mount --bind {self.cache} /var/cache && exec "$@" """
        within = ["sh", "-c", hide, "sh"]
        if os.geteuid() != 0:
            own = ["unshare", "--user", f"--map-user={os.getuid()}", f"--map-group={os.getgid()}"]
            return ["unshare", "--user", "--map-root-user", "--mount", *within, *own]
        if self.account:
            within += ["setpriv", f"--reuid={self.account.pw_uid}", f"--regid={self.account.pw_gid}", "--clear-groups"]
        return ["unshare", "--mount", *within]

    def demo(self, world, *arguments, port=None):
        """The demo's exit status, its report and its complaints."""
        settings = dict(HTTPS_PROXY=f"http://127.0.0.1:{port or self.stand.server_port}", SSL_CERT_FILE=str(self.folder / "authority.pem"),
                        XDG_CACHE_HOME=str(self.cache), PATH="/usr/sbin:/usr/bin:/sbin:/bin", NO_PROXY="")
        with demo(world, None, *arguments, prefix=self.prefix(), **settings) as (process, out, err, _):
            return process.wait(120), text_of(out), text_of(err)

    def kept(self):
        return sorted(str(path.relative_to(self.cache)) for path in self.cache.glob("*/*"))

    def close(self):
        self.stand.shutdown()
        self.stand.server_close()
        shutil.rmtree(self.folder, ignore_errors=True)


def check_fetched_demo(world):
    """As root and as an ordinary user: fetched once, run from the cache the next time."""
    packed = archive()
    for account in {None, ordinary_user()}:
        with contextlib.closing(Machine(account)) as machine:
            machine.offer(packed)
            status, report, complaints = machine.demo(world, "--duration", "2s")
            assert status == 0 and "/metrics" in report, (status, report[-1500:], complaints[-1500:])
            asked = machine.asked()
            assert asked.count(f"{STORE}/{archive_name(WANTED)}") == 1 and f"{STORE}/{archive_name(WANTED)}.sha256" in asked, asked
            assert machine.kept() == ["poolwatch/postgresql-17"], machine.kept()
            status, report, complaints = machine.demo(world, "--duration", "2s")
            assert status == 0 and "/metrics" in report, (status, report[-1500:], complaints[-1500:])
            assert machine.asked() == []


def check_fetch_refused(world):
    """What cannot be had, or is not what the site says it is, is not run and not kept; the person is told what to do."""
    packed = archive()
    for account in {None, ordinary_user()}:
        with contextlib.closing(Machine(account)) as machine:
            for offer, port, why in (
                (lambda: machine.offer(packed, told="0" * 64), None, "hash"),
                (lambda: machine.offer(packed[:-100_000], told=hashlib.sha256(packed[:-100_000]).hexdigest()), None, "incomplete"),
                (lambda: machine.stand.files.clear(), None, "404"),
                (lambda: None, free_port(), "Request failed"),
            ):
                offer()
                status, _, complaints = machine.demo(world, "--duration", "2s", port=port)
                assert status == 1, (why, status, complaints)
                assert "apt-get install postgresql" in complaints and why in complaints and "panicked" not in complaints, (why, complaints)
                assert machine.kept() == [], (why, machine.kept())
            machine.offer(packed)
            status, _, complaints = machine.demo(world, "--duration", "2s")
            assert status == 0, complaints


CHECKS = [check_fetched_demo, check_fetch_refused]
