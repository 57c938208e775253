#!/usr/bin/env bash
# An application's load, by pgbench through poolwatch: a steady stream of short transactions, now and then a slow query, every two minutes a
# burst of more clients than the pool has connections (so that some wait), and a client that forgets to commit for a while.
#
#   LOAD_SECONDS=20   ends after so long (default: never)   LOAD_BURST_EVERY=120   seconds between bursts
set -euo pipefail
[ ! -r /run/secrets/poolwatch-password ] || PGPASSWORD=$(cat /run/secrets/poolwatch-password)
export PGPASSWORD PGCONNECT_TIMEOUT=10
work=$(mktemp -d)
# exit, so that the shell ends and the trap below with it.
trap 'exit 0' TERM INT
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT

cat >"$work/slow.sql" <<'SQL'
SELECT pg_sleep(0.8);
SQL
cat >"$work/burst.sql" <<'SQL'
BEGIN;
SELECT pg_sleep(0.4);
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = (random() * 99999)::int + 1;
COMMIT;
SQL

psql -XqAtc "SELECT 1 FROM pg_class WHERE relname = 'pgbench_history'" | grep -q 1 || pgbench -i -q -s 1

steady() { pgbench -n -M prepared -c 8 -R 150 -T 3600 -b tpcb-like@1 -b select-only@4 >/dev/null; }
slow() { pgbench -n -c 1 -R 0.5 -T 3600 -f "$work/slow.sql" >/dev/null; }
burst() { pgbench -n -c 60 -T 15 -f "$work/burst.sql" >/dev/null; }
forgetful() { { echo 'BEGIN; SELECT 1;'; sleep 20; } | psql -Xq >/dev/null; }
# Whatever the outage (that is what one looks at here), the load comes back.
forever() { while :; do "$@" 2>&1 | head -n 3 || true; sleep 2; done; }

forever steady &
forever slow &
(while :; do sleep "${LOAD_BURST_EVERY:-120}"; burst || true; forgetful || true; done) &
sleep "${LOAD_SECONDS:-infinity}" &
wait $!
