#!/usr/bin/env bash
# Side by side: PostgreSQL directly, PgBouncer and poolwatch in front of the same server, measured by one tool in one run.
#
#   COMPARE=path/to/tool benches/compare/run.sh run --workloads select --protocols simple,extended --clients 8,64 --rounds 5 --out r.json
#   COMPARE=path/to/tool benches/compare/run.sh syscalls
#   COMPARE=path/to/tool benches/compare/run.sh idle --only pgbouncer,poolwatch        (a thousand clients; PostgreSQL takes 300)
#   SIZE=25 OVERFLOW=0 COMPARE=… benches/compare/run.sh run --workloads file:statements.sql --protocols prepared …
#     200 statements on 25 servers: PgBouncer keeps 200 on each, poolwatch what its default says
#
# Starts all three on ports of the system's choice, writes them as endpoints to a file, and calls
#   $COMPARE <first argument> --endpoints-file FILE [--server-pid PID, where the tool's subcommand knows it] <the other arguments>
# Each line of that file is `name=N,port=P,user=U,db=D,pids=PID`. With no COMPARE it prints the endpoints and waits for Enter.
#
# POOLWATCH      the program to measure        (default: target/release/poolwatch of this checkout)
# PGBOUNCER      the PgBouncer to compare with (default: built once by build-pgbouncer beside this file)
# THREADS        poolwatch's data-path threads (default: its own default)
# SIZE, OVERFLOW servers each pool may open, and beyond (default: 25 and 10; PgBouncer gets the sum)
# SCALE          of pgbench's tables           (default: 10, a million rows)
# TLS            1: all connections are encrypted, client to pooler and pooler to server. The D of an endpoint is a connection
#                string then, which libpq takes in the place of a database's name: so pgbench encrypts whatever sslmode the tool
#                sets. Clients of the tool's own (those of `idle`) do not, and are refused.
# VARIANTS       further poolwatch endpoints, each NAME:KEY=VALUE+KEY=VALUE with its settings as environment variables, for
#                example "ping_always:POOLWATCH_POOL__PRE_PING_AFTER=0s"
# `statements` beside this file prints a script of many statements for the workload `file:PATH`.
# Everything runs as it is delivered: pre-ping on, metrics on. The endpoint `pgbouncer` hands out the server that came back last,
# its default, as poolwatch does with `pool.use_lifo = true`; `pgbouncer_rr` (server_round_robin = 1) the one that waits longest,
# as poolwatch does by default. PgBouncer and PostgreSQL refuse to run as root, so as root they run as `postgres`.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
poolwatch=${POOLWATCH:-$top/target/release/poolwatch}
size=${SIZE:-25} overflow=${OVERFLOW:-10}
[ -x "$poolwatch" ] || { echo "build it first: cargo build --release" >&2; exit 1; }
pgbouncer=${PGBOUNCER:-$("$here/build-pgbouncer")}
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)

work=$(mktemp -d)
chmod 755 "$work"
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -INT "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

as=() own=$(id -un)
if [ "$(id -u)" = 0 ]; then as=(setpriv --reuid=postgres --regid=postgres --init-groups) own=postgres; fi
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
wait_for() { local what=$1; shift; for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; echo "not within 10 s: $what" >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
ready() { "$bin/pg_isready" -q -h 127.0.0.1 -p "$1"; }

# --- PostgreSQL. Nothing is flushed: the disk is not what is compared.
mkdir "$work/pg" "$work/bouncer"
chown "$own" "$work/pg" "$work/bouncer"
cd "$work/pg"
"${as[@]}" "$bin/initdb" -D "$work/pg/data" -U app -A trust -N >/dev/null
db=app encrypted=() shown=() upstream_options= bouncer_tls=
if [ "${TLS:-}" = 1 ]; then
  "${as[@]}" openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$work/pg/key.pem" -out "$work/pg/cert.pem" 2>"$work/openssl.log"
  encrypted=(-c ssl=on -c "ssl_cert_file=$work/pg/cert.pem" -c "ssl_key_file=$work/pg/key.pem")
  shown=("POOLWATCH_LISTEN__TLS_CERT=$work/pg/cert.pem" "POOLWATCH_LISTEN__TLS_KEY=$work/pg/key.pem")
  upstream_options="?sslmode=require"
  bouncer_tls="client_tls_sslmode = require
client_tls_key_file = $work/pg/key.pem
client_tls_cert_file = $work/pg/cert.pem
server_tls_sslmode = require"
  export PGSSLMODE=require
  db="dbname=app sslmode=require"
fi
pg_port=$(free_port)
"${as[@]}" "$bin/postgres" "${encrypted[@]}" -D "$work/pg/data" -p "$pg_port" -k "$work/pg" -c listen_addresses=127.0.0.1 -c max_connections=300 \
  -c fsync=off -c shared_buffers=128MB >"$work/postgres.log" 2>&1 &
pids+=($!)
wait_for "PostgreSQL accepts connections" ready "$pg_port"
server_pid=$(head -n 1 "$work/pg/data/postmaster.pid")
"$bin/psql" -Xq -h 127.0.0.1 -p "$pg_port" -U app postgres -c 'CREATE DATABASE app'
"$bin/pgbench" -i -q -s "${SCALE:-10}" -h 127.0.0.1 -p "$pg_port" -U app app >"$work/pgbench.log" 2>&1
endpoints=$work/endpoints
echo "name=direct,port=$pg_port,user=app,db=$db,pids=none" >"$endpoints"

# --- PgBouncer: as many servers, the same mode, its default check of idle servers. Copied, since a cache may be private.
install -m 755 "$pgbouncer" "$work/bouncer/pgbouncer"
echo '"app" ""' >"$work/bouncer/users.txt"
ulimit -n "$(ulimit -Hn)"
start_pgbouncer() {
  local name=$1 round_robin=$2 port pid
  port=$(free_port)
  cat >"$work/bouncer/$name.ini" <<INI
[databases]
app = host=127.0.0.1 port=$pg_port dbname=app user=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = trust
auth_file = $work/bouncer/users.txt
pool_mode = transaction
default_pool_size = $((size + overflow))
max_client_conn = 5000
max_prepared_statements = 200
server_round_robin = $round_robin
log_connections = 0
log_disconnections = 0
stats_period = 3600
$bouncer_tls
INI
  "${as[@]}" "$work/bouncer/pgbouncer" "$work/bouncer/$name.ini" >"$work/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  wait_for "$name accepts connections" ready "$port"
  echo "name=$name,port=$port,user=app,db=$db,pids=$pid" >>"$endpoints"
}
start_pgbouncer pgbouncer 0
start_pgbouncer pgbouncer_rr 1

# --- poolwatch, as it is and with each variant's settings.
start_poolwatch() {
  local name=$1 port pid
  shift
  [ -z "${THREADS:-}" ] || set -- "POOLWATCH_THREADS__DATA=$THREADS" "$@"
  env "POOLWATCH_POOL__SIZE=$size" "POOLWATCH_POOL__MAX_OVERFLOW=$overflow" "${shown[@]}" "$@" \
    "$poolwatch" serve --upstream-url "postgresql://app@127.0.0.1:$pg_port/app$upstream_options" \
    --listen 127.0.0.1:0 --http 127.0.0.1:0 >"$work/$name.log" 2>&1 &
  pid=$!
  pids+=("$pid")
  wait_for "$name tells its address" grep -q 'listening.*part="proxy"' "$work/$name.log"
  port=$(grep 'listening.*part="proxy"' "$work/$name.log" | sed -nE 's/.*address="?[0-9.]+:([0-9]+).*/\1/p' | head -n 1)
  wait_for "$name accepts connections" ready "$port"
  echo "name=$name,port=$port,user=app,db=$db,pids=$pid" >>"$endpoints"
}
start_poolwatch poolwatch
for variant in ${VARIANTS:-}; do
  IFS=+ read -r -a settings <<<"${variant#*:}"
  start_poolwatch "${variant%%:*}" "${settings[@]}"
done

# Whether both halves of each way are encrypted: the client says so of its own, PostgreSQL of the other.
if [ "${TLS:-}" = 1 ]; then
  while IFS=, read -r name port _; do
    said=$("$bin/psql" -Xq -h 127.0.0.1 -p "${port#port=}" -U app "$db" -c '\conninfo' -Atc "SELECT 'the server''s half: ' \
      || CASE WHEN ssl THEN version || ' ' || cipher ELSE 'in clear' END FROM pg_stat_ssl WHERE pid = pg_backend_pid()" 2>&1) || true
    [[ $said == *"SSL connection"*"half: TLS"* ]] || { echo "no TLS on both sides of ${name#name=}: $said" >&2; exit 1; }
    sed "s/^/${name#name=}: /" <<<"$said" >&2
  done <"$endpoints"
fi

cd "$OLDPWD"
"$pgbouncer" --version | head -n 1 >&2
cat "$endpoints" >&2
if [ -z "${COMPARE:-}" ]; then
  read -r -p "Enter ends them: " _
  exit 0
fi
subcommand=${1:-run}
shift || true
pid_option=()
if "$COMPARE" "$subcommand" --help 2>/dev/null | grep -q -- --server-pid; then pid_option=(--server-pid "$server_pid"); fi
"$COMPARE" "$subcommand" --endpoints-file "$endpoints" "${pid_option[@]}" "$@"
