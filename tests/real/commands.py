"""The command line as a person uses it: the one-shot commands, and the demo, as root and as an ordinary user."""

import contextlib
import os
import pathlib
import pwd
import shutil
import signal
import subprocess
import tempfile
import time

from harness import environment, until


def run(world, *arguments, **settings):
    return subprocess.run([world.binary, *arguments], capture_output=True, text=True, env=environment(**settings), timeout=60)


def check_health(world):
    """`health` asks a running poolwatch: 0 alive, 1 not."""
    sidecar = world.sidecar()
    address = sidecar.http.removeprefix("http://")
    alive = run(world, "health", "--http", address)
    assert alive.returncode == 0, alive.stderr
    assert sidecar.stop() == 0
    gone = run(world, "health", "--http", address)
    assert gone.returncode == 1 and gone.stderr.strip(), gone


def check_config(world):
    """`config check` and `config show`: every mistake at once, each with its place; no secret is printed."""
    url = world.postgres.url()
    fine = run(world, "config", "check", POOLWATCH_UPSTREAM__URL=url)
    assert fine.returncode == 0, fine.stdout + fine.stderr
    wrong = run(world, "config", "check", POOLWATCH_UPSTREAM__URL=url, POOLWATCH_POOL__SIZE="many", POOLWATCH_POOL__TIMEOUT="soon",
                POOLWATCH_POOL__SISE="3")
    told = wrong.stdout + wrong.stderr
    assert wrong.returncode == 2, (wrong.returncode, told)
    for name in ("POOLWATCH_POOL__SIZE", "POOLWATCH_POOL__TIMEOUT", "POOLWATCH_POOL__SISE"):
        assert name in told, f"{name} is not named in: {told}"
    shown = run(world, "config", "show", POOLWATCH_UPSTREAM__URL=url, POOLWATCH_POOL__SIZE="7")
    assert shown.returncode == 0 and "POOLWATCH_POOL__SIZE" in shown.stdout, shown
    assert world.postgres.password not in shown.stdout + shown.stderr + fine.stdout + fine.stderr + told


def check_uri(world):
    """`uri` prints a URL in every dialect, its password masked."""
    done = run(world, "uri", world.postgres.url())
    assert done.returncode == 0, done.stderr
    for dialect in ("postgresql+asyncpg://", "jdbc:postgresql://", "postgresql://", "host=127.0.0.1"):
        assert dialect in done.stdout, (dialect, done.stdout)
    assert world.postgres.password not in done.stdout + done.stderr


def check_wrong_usage(world):
    """Wrong usage is 2, and nothing panics."""
    for arguments in (["nonsense"], ["serve", "--listen", "nowhere"], ["demo", "--duration", "soon"]):
        done = run(world, *arguments)
        assert done.returncode == 2 and done.stderr and "panicked" not in done.stderr, (arguments, done)


def ordinary_user():
    """Whom root becomes; None where we are an ordinary user already."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def belonging_to(folder):
    """Processes that stand in `folder`, name it, or inherited it as their TMPDIR, however they were started."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            process = pathlib.Path("/proc", entry)
            told = (process / "cmdline").read_bytes() + (process / "environ").read_bytes() + os.readlink(process / "cwd").encode()
            if str(folder).encode() in told:
                found.append((int(entry), (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")))
    return found


@contextlib.contextmanager
def demo(world, account, *arguments, prefix=(), **settings):
    """The demo with a temporary folder of its own, so that whatever it leaves is seen; the program is copied where anyone may run it.

    `prefix` is a command that runs it; `settings` are further variables of its environment."""
    home = pathlib.Path(tempfile.mkdtemp(prefix="real-demo-"))
    home.chmod(0o755)
    temporary = home / "tmp"
    temporary.mkdir()
    temporary.chmod(0o1777)
    program = shutil.copy2(world.binary, home / "poolwatch")
    os.chmod(program, 0o755)
    become = {}
    if account:
        become = dict(user=account.pw_uid, group=account.pw_gid, extra_groups=[])
    name = f"{world.check}-{account.pw_name if account else 'self'}"
    out, err = open(world.out / f"{name}.out", "w+"), open(world.out / f"{name}.err", "w+")
    process = subprocess.Popen([*prefix, program, "demo", *arguments], stdout=out, stderr=err, cwd=home, **become,
                               env=environment(**(dict(TMPDIR=str(temporary), HOME=str(temporary)) | settings)))
    try:
        yield process, out, err, temporary
        until(lambda: f"no process is left: {belonging_to(temporary)}", lambda: not belonging_to(temporary), 5)
        left = sorted(str(path.relative_to(temporary)) for path in temporary.rglob("*"))
        assert not left, f"the demo left {left[:10]}"
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        out.close()
        err.close()
        shutil.rmtree(home, ignore_errors=True)


def text_of(file):
    file.seek(0)
    return file.read()


def check_demo(world):
    """`demo --duration 20s`, as root (where we are) and as an ordinary user: ends by itself with a report, leaves nothing."""
    for account in {None, ordinary_user()}:
        begin = time.monotonic()
        with demo(world, account, "--duration", "20s") as (process, out, err, _):
            status = process.wait(90)
            assert status == 0, (status, text_of(out)[-1500:], text_of(err)[-1500:])
            assert 20 <= time.monotonic() - begin < 75, "it did not take about 20 s"
            report = text_of(out)
            assert "/metrics" in report and any(word in report for word in ("transactions", "checkouts")), report[-1500:]


def check_demo_interrupted(world):
    """Ctrl-C ends the demo cleanly too."""
    account = ordinary_user()
    with demo(world, account) as (process, out, _, _):
        until("the demo tells its addresses", lambda: "/metrics" in text_of(out), 40)
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 0, text_of(out)[-1500:]


CHECKS = [check_health, check_config, check_uri, check_wrong_usage, check_demo, check_demo_interrupted]
