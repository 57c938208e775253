#!/usr/bin/env bash
# Makes a folder into a new, minimal Debian, by the archive that apt is set up with here:
#   .ci/debian-root.sh bookworm /some/empty/folder
# What debootstrap made is kept in .ci/cache and unpacked from then on.
set -euo pipefail
suite=$1 target=$2 kept=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/cache/debian-$1.tar
if [ ! -s "$kept" ]; then
  site=$(apt-get indextargets --format '$(SITE) $(ORIGIN)' 'Created-By: Packages' | awk '$2 == "Debian" {print $1; exit}')
  [ -n "$site" ] || { echo "apt knows no Debian archive"; exit 1; }
  fresh=$(mktemp -d) && trap 'rm -rf "$fresh"' EXIT
  /usr/sbin/debootstrap --variant=minbase "$suite" "$fresh/root" "$site" >"$fresh/log" 2>&1 || { tail "$fresh/log"; echo "debootstrap failed"; exit 1; }
  # Named by this process: two steps may want it at once.
  tar -C "$fresh/root" -cf "$kept.$$" . && mv "$kept.$$" "$kept"
fi
mkdir -p "$target" && tar -C "$target" -xf "$kept"
