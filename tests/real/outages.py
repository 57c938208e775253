"""What happens when PostgreSQL goes, hangs or comes back, and when poolwatch itself is told to stop under load."""

import concurrent.futures
import contextlib
import signal
import statistics
import subprocess
import threading
import time

import psycopg

from harness import pgbench, processed, until


def check_restart_under_load(world):
    """PostgreSQL is stopped and started under load: clear errors meanwhile, back by itself, nothing acknowledged is lost."""
    sidecar, postgres = world.sidecar(), world.postgres
    postgres.query("CREATE TABLE through_restart (id integer PRIMARY KEY)")
    stop, lock = threading.Event(), threading.Lock()
    acknowledged, refusals, latest = set(), [], {}

    def worker(number):
        connection, serial = None, 0
        while not stop.is_set():
            serial += 1
            key = number * 10_000_000 + serial
            try:
                if connection is None or connection.closed:
                    connection = psycopg.connect(sidecar.dsn(), autocommit=True, prepare_threshold=None, connect_timeout=20)
                connection.execute("INSERT INTO through_restart VALUES (%s)", (key,))
                with lock:
                    acknowledged.add(key)
                    latest[number] = time.monotonic()
            except psycopg.Error as error:
                with lock:
                    refusals.append(error.sqlstate or str(error))
                time.sleep(0.02)
        if connection is not None:
            connection.close()

    # It waits between transactions, where it holds no server: the outage must not cost it its connection.
    patient = psycopg.connect(sidecar.dsn(), autocommit=True, prepare_threshold=None, connect_timeout=20)
    assert patient.execute("SELECT 1").fetchone() == (1,)
    with concurrent.futures.ThreadPoolExecutor(8) as workers:
        running = [workers.submit(worker, number) for number in range(8)]
        try:
            until("every worker wrote", lambda: len(latest) == 8)
            postgres.stop()
            until("clients are told", lambda: len(refusals) >= 8)
            status, _ = sidecar.get("/metrics")
            assert status == 200 and sidecar.get("/healthz")[0] == 200
            postgres.start()
            back = time.monotonic()
            until("every worker writes again", lambda: len([at for at in latest.values() if at > back]) == 8, 20)
        finally:
            stop.set()
        for job in running:
            job.result(30)
    assert patient.execute("SELECT 2").fetchone() == (2,)
    patient.close()
    kept = set(map(int, postgres.query("SELECT id FROM through_restart").split()))
    assert acknowledged <= kept, f"{len(acknowledged - kept)} acknowledged rows are lost"
    fitting = ("08", "57P", "53300")
    # psycopg gives no SQLSTATE for a login that is refused: the text stands for it, poolwatch's 08006, and PostgreSQL's own 57P03
    # and 57P01, which are passed on.
    told = ("could not connect", "the database system is starting up", "the database system is shutting down",
            "terminating connection due to administrator command")
    strange = {state for state in refusals if not state.startswith(fitting) and not any(f"FATAL:  {text}" in state for text in told)}
    assert not strange, f"refusals without a fitting SQLSTATE: {strange}"


def scrape_times(sidecar, count=20):
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        status, _ = sidecar.get("/metrics")
        times.append(time.perf_counter() - begin)
        assert status == 200
    return times


def check_hung_postgres(world):
    """PostgreSQL hangs with the pool exhausted: /metrics answers in its usual time, and all go on when it wakes."""
    sidecar = world.sidecar()
    clients = [psycopg.connect(sidecar.dsn(), autocommit=True, prepare_threshold=None, connect_timeout=20) for _ in range(60)]
    for client in clients:
        client.execute("SELECT 1")
    usual = scrape_times(sidecar)
    with concurrent.futures.ThreadPoolExecutor(60) as workers:
        with world.postgres.frozen():
            asked = [workers.submit(client.execute, "SELECT 42") for client in clients]
            until("the pool is exhausted", lambda: sidecar.figures().sum("db_client_connection_pending_requests") >= 20)
            hung = scrape_times(sidecar)
            assert sidecar.get("/healthz")[0] == 200
        answers = [job.result(40).fetchone() for job in asked]
    assert answers == [(42,)] * 60
    # Median against median, with room for a busy machine; a scrape that asked PostgreSQL would take seconds or for ever.
    limit = 3 * statistics.median(usual) + 0.01
    assert statistics.median(hung) <= limit and max(hung) < 0.5, f"usual {statistics.median(usual):.4f} s, hung {statistics.median(hung):.4f} s, worst {max(hung):.4f} s"
    for client in clients:
        client.close()


def check_sigterm_under_load(world):
    """SIGTERM under load: what had begun is finished, the last scrapes are answered, and it ends with 0."""
    sidecar, postgres = world.sidecar(), world.postgres
    postgres.query("DROP TABLE IF EXISTS bench; CREATE TABLE bench (k integer)")
    # One more transaction, begun before and ended after the signal: no luck needed to hit the moment.
    witness = psycopg.connect(sidecar.dsn(), prepare_threshold=None, connect_timeout=20)
    witness.execute("INSERT INTO bench VALUES (-1)")
    run = pgbench(sidecar, world.scratch / "write.sql", "-c", "16", "-j", "2", "-T", "30")
    until("pgbench is at work", lambda: sidecar.figures().sum("poolwatch_transactions_total") > 500)
    sidecar.process.terminate()
    until("not ready any more", lambda: sidecar.get("/readyz")[0] == 503, 5)
    out, err = run.communicate(timeout=40)
    assert "57P01" in err or "terminating connection" in err or "server closed" in err, err[-1500:]
    assert sidecar.process.poll() is None, "it ended though a transaction was open"
    figures = sidecar.figures()
    witness.execute("INSERT INTO bench VALUES (-2)")
    witness.commit()
    assert sidecar.process.wait(40) == 0, sidecar.log.read_text()[-1500:]
    done = processed(out)
    assert int(postgres.query("SELECT count(*) FROM bench WHERE k > 0")) == done, f"pgbench did {done} transactions"
    assert postgres.query("SELECT count(*) FROM bench WHERE k < 0") == "2"
    assert figures.sum("poolwatch_transactions_total") == done, "the scrape during the drain misses transactions"
    with contextlib.suppress(psycopg.Error):
        witness.close()


def check_second_sigterm(world):
    """A second SIGTERM does not wait for what the first one waits for."""
    sidecar = world.sidecar()
    open_transaction = psycopg.connect(sidecar.dsn(), prepare_threshold=None, connect_timeout=20)
    open_transaction.execute("SELECT 1")
    sidecar.process.send_signal(signal.SIGTERM)
    until("it drains", lambda: sidecar.get("/readyz")[0] == 503, 5)
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise AssertionError(f"it ended with {sidecar.process.wait(1)} though a transaction was open")
    begin = time.monotonic()
    sidecar.process.send_signal(signal.SIGTERM)
    sidecar.process.wait(5)
    assert time.monotonic() - begin < 3


CHECKS = [check_restart_under_load, check_hung_postgres, check_sigterm_under_load, check_second_sigterm]
