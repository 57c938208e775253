#!/bin/sh
# Makes the passwords of compose.yaml where they are absent, and hands each service's volume what that service needs. Files that are
# there stay, so your own may be put into the volumes before.
set -eu
umask 022
root=${1:-/secrets}

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
# Written beside and moved: a stop in the middle leaves no half of a password.
keep() { [ -s "$1" ] || { printf %s "$2" >"$1.new" && mv "$1.new" "$1"; }; }

keep "$root/database/superuser-password" "$(random)"
keep "$root/database/poolwatch-user" app
keep "$root/database/poolwatch-db" app
keep "$root/database/poolwatch-password" "$(random)"
password=$(cat "$root/database/poolwatch-password")
keep "$root/application/poolwatch-password" "$password"
keep "$root/poolwatch/poolwatch_upstream__url" "postgresql://app:$password@postgres:5432/app"
# Whoever reads the JSON API from beyond the container shows this.
keep "$root/poolwatch/http-reader-token" "$(random)"
keep "$root/grafana/grafana-password" "$(random)"
