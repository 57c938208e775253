#!/usr/bin/env bash
# Proves the Dockerfile without a container engine: reads its instructions and carries them out, the builder's in a clean
# copy of the checkout with the toolchain of this machine, the final stage's in a clean Debian (debootstrap, chroot). Then
# the image's own command runs as the image's own user, its health check is asked, and its stop signal ends it.
#
# Needs root, debootstrap, a Rust toolchain and PostgreSQL. The Debian root is kept in .ci/cache and copied for each run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
say() { printf '== %s\n' "$*"; }
fail() { printf 'failed: %s\n' "$*"; exit 1; }

work=$(mktemp -d) && chmod 755 "$work"
image=$work/root
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  [ -z "${postmaster:-}" ] || kill -INT "$postmaster" 2>/dev/null || true
  for _ in $(seq 50); do [ -n "${postmaster:-}" ] && kill -0 "$postmaster" 2>/dev/null && sleep 0.1 || break; done
  for mount in "$image/dev/null" "$image/dev/urandom" "$image/proc"; do umount "$mount" 2>/dev/null || true; done
  # Never through a mount that is still there: that would be this machine's own.
  grep -q " $image/" /proc/mounts || rm -rf "$work"
}
trap cleanup EXIT

# One instruction a line, continued lines joined, comments gone.
mapfile -t instructions < <(sed -e '/^[[:space:]]*#/d' -e '/^[[:space:]]*$/d' Dockerfile | sed -e ':a' -e '/\\$/{N;s/\\\n[[:space:]]*/ /;ba' -e '}')
words() { python3 -c 'import json, sys; print("\n".join(json.loads(sys.argv[1])))' "$1"; }

in_image() { chroot "$image" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }

# The builder works on what .dockerignore lets through. Dependencies that this checkout has compiled are not compiled again.
context=$work/context builder=$work/builder
mkdir "$context"
sed -n 's/^!//p' .dockerignore | while read -r part; do cp -a "$part" "$context/"; done
mkdir -p target "$builder" && ln -s "$PWD/target" "$builder/target"
unset CARGO_TARGET_DIR

user="" stage="" stop="" entry=() command=() health=() exposed=""
# What the Dockerfile's first lines tell people to give.
declare -A arguments=([REVISION]=$(git rev-parse HEAD) [CREATED]=$(git log -1 --format=%cI)) labels=()
for instruction in "${instructions[@]}"; do
  verb=${instruction%% *} rest=${instruction#* }
  say "${stage:-start}: $instruction"
  case $verb in
    FROM)
      if [[ $rest == *" AS builder" ]]; then stage=builder; else
        stage=final
        [[ $rest =~ ^debian:([a-z]+)-slim$ ]] || fail "an image this script cannot make: $rest"
        .ci/debian-root.sh "${BASH_REMATCH[1]}" "$image" || fail "no Debian root"
        # The images of Debian hold neither packages nor lists of them.
        base=$(du -xsk --exclude=var/cache/apt --exclude=var/lib/apt "$image" | cut -f1)
        cp /etc/resolv.conf "$image/etc/resolv.conf"
        # How this machine reaches the archive; a container engine would give its network by other means.
        apt-config dump Acquire >"$image/etc/apt/apt.conf.d/99host"
        # The only devices that the steps and the program use.
        for device in null urandom; do touch "$image/dev/$device"; mount --bind "/dev/$device" "$image/dev/$device"; done
        mount -t proc proc "$image/proc"
      fi ;;
    WORKDIR) [ "$stage $rest" = "builder /src" ] || fail "a folder this script does not know: $rest" ;;
    COPY)
      if [[ $rest == --from=builder\ * ]]; then
        read -r _ source target <<<"$rest"
        install -D -m 755 "$builder/${source#/src/}" "$image$target"
      else
        read -r -a parts <<<"$rest"
        unset 'parts[-1]'
        for part in "${parts[@]}"; do cp -a "$context/$part" "$builder/"; done
      fi ;;
    RUN)
      if [ $stage = builder ]; then (cd "$builder" && sh -ec "$rest"); else in_image sh -ec "$rest"; fi ;;
    ARG) [ -n "${arguments[${rest%%=*}]:-}" ] || fail "an argument this script does not know: $rest" ;;
    LABEL)
      for name in "${!arguments[@]}"; do rest=${rest//\$$name/${arguments[$name]}}; done
      while IFS== read -r name value; do labels[$name]=$value; done < <(python3 -c 'import shlex, sys; print("\n".join(shlex.split(sys.argv[1])))' "$rest") ;;
    USER) user=$rest ;;
    EXPOSE) exposed=$rest ;;
    STOPSIGNAL) stop=$rest ;;
    HEALTHCHECK) mapfile -t health < <(words "${rest#*CMD }") ;;
    ENTRYPOINT) mapfile -t entry < <(words "$rest") ;;
    CMD) mapfile -t command < <(words "$rest") ;;
    *) fail "an instruction this script does not know: $verb" ;;
  esac
done
[ -n "$user" ] && [ "${user%%:*}" != 0 ] || fail "the image runs as root"
label() { [ "${labels[org.opencontainers.image.$1]:-}" = "$2" ] || fail "the label $1 is ${labels[org.opencontainers.image.$1]:-not there}, and should be $2"; }
manifest() { sed -n "s/^$1 = \"\(.*\)\"/\1/p" Cargo.toml | head -n 1; }
label title "$(manifest name)" && label version "$(manifest version)" && label licenses "$(manifest license)"
label revision "$(git rev-parse HEAD)" && label created "$(git log -1 --format=%cI)"
[ -n "$stop" ] && [ ${#health[@]} -gt 0 ] || fail "no stop signal, or no health check"
read -r postgres_port http_port <<<"$exposed"
size=$(stat -c %s "$image${entry[0]}")
say "the image is made: $((($(du -xsk --exclude=var/cache/apt --exclude=var/lib/apt "$image" | cut -f1) - base) / 1024)) MiB more than Debian, of which the program $((size / 1024 / 1024)) MiB"

# ------------------------------------------------------------------------------------------------ it runs

bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
as_postgres=(setpriv --reuid=postgres --regid=postgres --init-groups)
mkdir "$work/pg" && chown postgres "$work/pg"
(cd / && "${as_postgres[@]}" "$bin/initdb" -D "$work/pg/data" -U app -A trust -N >/dev/null)
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
(cd / && exec "${as_postgres[@]}" "$bin/postgres" -D "$work/pg/data" -p "$port" -k "$work/pg" -c listen_addresses=127.0.0.1) >"$work/pg.log" 2>&1 &
postmaster=$!
wait_for() { local what=$1; shift; for _ in $(seq 100); do "$@" >/dev/null 2>&1 && return 0; sleep 0.1; done; cat "$work/poolwatch.log" 2>/dev/null; fail "not within 10 s: $what"; }
wait_for "PostgreSQL accepts connections" "$bin/pg_isready" -h 127.0.0.1 -p "$port"

settings=("POOLWATCH_UPSTREAM__URL=postgresql://app@127.0.0.1:$port/postgres")
as_user() { timeout 10 chroot --userspec="$user" "$image" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin "${settings[@]}" "$@"; }
if as_user "${health[@]}" >/dev/null 2>&1; then fail "the health check is content though nothing runs"; fi
# `exec`, so that the pid is the program's own.
(exec chroot --userspec="$user" "$image" /usr/bin/env -i PATH=/usr/local/bin:/usr/bin:/bin "${settings[@]}" \
  "${entry[@]}" "${command[@]}") >"$work/poolwatch.log" 2>&1 &
program=$!
pids+=("$program")
wait_for "the health check is content" as_user "${health[@]}"
say "health check: fine"
python3 - "$work/poolwatch.log" "$program" <<'PY'
# From the start of the process, by the kernel, to the line that says it listens, by its own log; the clock ticks are 10 ms.
import datetime, os, re, sys, time
text = re.sub(r"\x1b\[[0-9;]*m", "", open(sys.argv[1]).read())
stamp = next(line.split()[0] for line in text.splitlines() if "listening" in line and "proxy" in line)
listens = datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
ticks = int(open(f"/proc/{sys.argv[2]}/stat").read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
began = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks
print(f"== takes clients {max(0.0, listens - began) * 1000:.0f} ms after its start")
PY
answer=$("$bin/psql" -XAtq -h 127.0.0.1 -p "$postgres_port" -U app postgres -c 'SELECT 40 + 2')
[ "$answer" = 42 ] || fail "psql through port $postgres_port got: $answer"
python3 - "$http_port" <<'PY'
import sys, urllib.request
text = urllib.request.urlopen(f"http://127.0.0.1:{sys.argv[1]}/metrics", timeout=5).read().decode()
counted = [line for line in text.splitlines() if line.startswith("poolwatch_transactions_total") and not line.endswith(" 0")]
assert counted, "the query was not counted"
print("== counted:", *counted)
PY
[ "$(awk '/^Uid:/ {print $2}' "/proc/$program/status")" = "${user%%:*}" ] || fail "it does not run as $user"
kill -s "${stop#SIG}" "$program"
status=0
wait "$program" || status=$?
[ $status = 0 ] || { cat "$work/poolwatch.log"; fail "after $stop it ended with $status"; }
say "$stop: ended with 0"
