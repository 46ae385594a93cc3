# A PostgreSQL of the measurement's own, from the installed binaries. It is sourced after
# bench/parts.sh, whose `left` it takes for itself.
# shellcheck shell=bash

postgres_settings=(
  listen_addresses=127.0.0.1 max_connections=200 fsync=on synchronous_commit=on
  full_page_writes=on shared_buffers=512MB max_wal_size=8GB
)

# Starts it on a free port, as another user where this is root; sets $postgres_version
cluster() {
  local bin
  bin=$(for bin in /usr/lib/postgresql/*/bin; do echo "$bin"; done | sort -V | tail -n 1)
  PATH=$PATH:$bin
  command -v initdb >/dev/null || die "PostgreSQL is not installed (on Debian: apt-get install postgresql)"
  postgres_folder=$(mktemp -d -t cloakroom-postgres.XXXXXX)
  as_user=()
  if [ "$(id -u)" -eq 0 ]; then
    # The server refuses to be root.
    as_user=(setpriv --reuid postgres --regid postgres --clear-groups --)
    chown postgres "$postgres_folder"
  fi
  (cd / && "${as_user[@]}" "$(command -v initdb)" --auth=trust --username=postgres --locale=C \
    --encoding=UTF8 --no-sync -D "$postgres_folder/data" >"$postgres_folder/initdb") ||
    die "initdb failed: is ${TMPDIR:-/tmp} closed to the user postgres?"
  for postgres_port in $(seq 25432 25531); do
    served && break
  done
  postgres_version=$(sql postgres 'SHOW server_version')
}

# Whether the server starts on $postgres_port
served() {
  local setting settings=()
  for setting in "${postgres_settings[@]}"; do settings+=(-c "$setting"); done
  (cd / && exec "${as_user[@]}" "$(command -v postgres)" -D "$postgres_folder/data" -k "$postgres_folder" \
    -p "$postgres_port" "${settings[@]}" >>"$postgres_folder/log" 2>&1) &
  postgres_pid=$!
  for _ in $(seq 400); do
    kill -0 "$postgres_pid" 2>/dev/null || return 1
    # Not just anybody who listens there.
    [ "$(sql postgres 'SHOW data_directory' 2>/dev/null)" = "$postgres_folder/data" ] && return 0
    sleep 0.05
  done
  cat "$postgres_folder/log" >&2
  die "PostgreSQL did not start"
}

left() {
  [ -z "${postgres_pid:-}" ] || { kill -QUIT "$postgres_pid" 2>/dev/null; wait "$postgres_pid"; } || true
  [ -z "${postgres_folder:-}" ] || rm -rf "$postgres_folder"
}

# sql DATABASE STATEMENT: what it answers, as text, a line a row
sql() { psql -XAtq -v ON_ERROR_STOP=1 -d "$(database_url "$1")" -c "$2"; }

# statements DATABASE FILE NAME=VALUE…: has a file of statements carried out
statements() {
  local value values=()
  for value in "${@:3}"; do values+=(-v "$value"); done
  psql -Xq -o /dev/null "${values[@]}" -d "$(database_url "$1")" -f "$2"
}

database_url() { echo "postgres://postgres@127.0.0.1:$postgres_port/$1"; }

# database NAME [TEMPLATE]: makes a database, and says its address
database() {
  sql postgres "CREATE DATABASE $1${2:+ TEMPLATE $2}"
  database_url "$1"
}

# Opens a transaction in a database that keeps its snapshot until `let_go`
hold_open() {
  start held psql -Xq -d "$(database_url "$1")" -c 'BEGIN ISOLATION LEVEL REPEATABLE READ' \
    -c 'SELECT txid_current()' -c 'SELECT pg_sleep(86400)'
  until [ "$(sql "$1" "$OPEN IS NOT NULL")" = t ]; do sleep 0.05; done
}
OPEN="SELECT (SELECT extract(epoch FROM clock_timestamp() - xact_start)::int FROM pg_stat_activity
  WHERE query ~ '^SELECT pg_sleep' AND backend_xmin IS NOT NULL)"

# How many seconds it has been open; fails where it is not
open_for() {
  local open
  open=$(sql "$1" "$OPEN")
  [ -n "$open" ] || die "the transaction did not stay open"
  echo "$open"
}

let_go() { sql "$1" "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'" >/dev/null; }
