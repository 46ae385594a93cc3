# What bench/run and bench/postgres are made of. Each sources it in the root of the
# repository, says in $connections, $threads, $seconds and $offer_seconds how it measures,
# and calls `stage` before it starts anything.
# shellcheck shell=bash

say() { printf '\n== %s\n' "$*"; }
die() { echo "$0: $*" >&2; exit 1; }

# usage FIRST,LAST: prints these lines of the program's own comment, and ends it
usage() { sed -n "$1s/^# \{0,1\}//p" "$0" >&2; exit 2; }

# ------------------------------------------------------------------ what it is done with
# installed PROGRAM[=PACKAGE]…: installs what is missing, where there is an apt-get
installed() {
  local wanted missing=() sudo=
  PATH=$PATH:/usr/sbin # where Debian keeps nginx from everybody but root
  for wanted in "$@"; do
    command -v "${wanted%%=*}" >/dev/null || missing+=("${wanted#*=}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "install these first: ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || sudo=sudo
  $sudo apt-get update -qq
  # Debian starts a server that it installs; this one is to be started by hand.
  $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Builds in release, unless CLOAKROOM_BINARY names a gateway; sets $gateway_binary,
# $measuring and, where it was not built here, $built_elsewhere
build() {
  say "building in release"
  CARGO_TARGET_DIR=target/bench cargo build --release --locked --quiet --manifest-path bench/Cargo.toml
  measuring=$PWD/target/bench/release
  gateway_binary=${CLOAKROOM_BINARY:-}
  unset CLOAKROOM_BINARY # it is no setting of the gateway's, which refuses those
  built_elsewhere=$gateway_binary
  if [ -z "$built_elsewhere" ]; then
    cargo build --release --locked --quiet --bin cloakroom
    gateway_binary=${CARGO_TARGET_DIR:-target}/release/cloakroom
  fi
  gateway_binary=$(realpath "$gateway_binary")
}

# ------------------------------------------------------------------- who is on the stage
pids=()
left() { :; } # what else has to go at the end

# Makes the folder that everything lives in, $folder, and sees to it that nothing stays
stage() {
  folder=$(mktemp -d -t cloakroom-bench.XXXXXX)
  trap cleanup EXIT
  trap 'exit 130' INT TERM HUP
}

cleanup() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  left
  rm -rf "$folder"
}

# start NAME COMMAND…: runs it in the background; its pid is $started, its words $folder/NAME.out
start() {
  local name=$1
  shift
  : >"$folder/$name.out" # so that it is there before it is looked into
  : >"$folder/$name.err"
  "$@" >"$folder/$name.out" 2>"$folder/$name.err" &
  started=$!
  pids+=("$started")
}

# told NAME WORDS: the URL that a program printed behind these words
told() {
  local url
  for _ in $(seq 200); do
    url=$(sed -n "s|.*$2 \(http://[0-9.:]*\).*|\1|p" "$folder/$1.out" "$folder/$1.err" | head -n 1)
    [ -z "$url" ] || { echo "$url"; return; }
    sleep 0.05
  done
  cat "$folder/$1.out" "$folder/$1.err" >&2
  die "$1 did not start"
}

ended() { # PID: ends a process and waits for it
  kill "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# The service that calls go to, and the bare handler; sets $upstream, $bare
services() {
  start upstream "$measuring/upstream"
  upstream=$(told upstream "listening on")
  start bare "$measuring/bare"
  bare=$(told bare "listening on")
}

# configured NAME STORE LINES…: the configuration of a gateway, in $folder/NAME.toml
configured() {
  local name=$1 store=$2
  shift 2
  {
    printf '[server]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    printf '[store]\nurl = "%s"\n[log]\nfilter = "warn"\n' "$store"
    printf '[upstreams.default]\nurl = "%s"\n' "$upstream"
    printf '%s\n' "$@"
  } >"$folder/$name.toml"
}

# gateway NAME STORE LINES…: a gateway on a ledger; sets $public, $admin, $gateway_pid
gateway() {
  configured "$@"
  start "$1" "$gateway_binary" serve --config "$folder/$1.toml"
  gateway_pid=$started
  public=$(told "$1" "listening on")
  admin=$(told "$1" "admin on")
}

# ------------------------------------------------------------------------------ measuring
memory() { # PID FIELD: a figure of /proc in MiB
  awk -v field="$2:" '$1 == field { printf "%.1f", $2 / 1024 }' "/proc/$1/status"
}

# wrk_rate SCRIPT URL: requests a second; every answer must be a 2xx or a 3xx
wrk_rate() {
  local said
  said=$(wrk -t "$threads" -c "$connections" -d "${seconds}s" -s "bench/$1" "$2")
  if grep -Eq 'Non-2xx|Socket errors' <<<"$said"; then
    printf '%s\n' "$said" >&2
    die "$2 refused requests: that is no measurement"
  fi
  awk '/^Requests\/sec:/ { print $2 }' <<<"$said"
}

# monitors URL NAME: has 500 operations accepted by the gateway NAME, for poll.lua to ask for
monitors() {
  MONITORS=$folder/monitors
  export MONITORS
  curl -sS -D - -o /dev/null -H 'Content-Type: application/json' -d '{}' "$1/orders?number=[1-500]" |
    tr -d '\r' | sed -n 's|^location: http://[^/]*||Ip' >"$MONITORS"
  [ -s "$MONITORS" ] || die "no operation was accepted: $(cat "$folder/$2.err")"
}

# searched RATE [HOLDS]: the highest rate at which the function HOLDS, or `holds`, says yes, in
# $held, and all that was offered, in $offers: from RATE up by a tenth while it holds, or down by
# a tenth until then, and at last in the middle between what holds and what does not
searched() {
  local next=$1 holds=${2:-holds} failed=0
  held=0
  offers=()
  for _ in $(seq 15); do
    if "$holds" "$next"; then
      held=$next
      [ "$failed" -eq 0 ] || break
      next=$(scaled "$next" 1.1)
    else
      failed=$next
      [ "$held" -eq 0 ] || break
      next=$(scaled "$next" 0.9)
    fi
  done
  [ "$held" -gt 0 ] && [ "$failed" -gt 0 ] || return 0
  next=$(((held + failed) / 2))
  ! "$holds" "$next" || held=$next
}
scaled() { awk -v rate="$1" -v by="$2" 'BEGIN { printf "%d", rate * by }'; }

# offered_at NAME RATE [ARRIVALS]: whether the gateway that was started last, as NAME,
# keeps up with a rate; the line that says so is the last of $offers
offered_at() {
  local line
  line=$("$measuring/offered" "$public/orders" "$admin/metrics" "$2" "$offer_seconds" "${@:3}") || true
  [ -n "$line" ] || { cat "$folder/$1.err" >&2; die "no operation could be offered"; }
  offers+=("$line")
  echo "$line"
  [[ $line == *holds=1* ]]
}

# ---------------------------------------------------------------------------- the figures
rows=()    # of the table: | figure | measured | share | asked for |
members=() # of the JSON object
row() { rows+=("| $1 | $2 | ${3:-} | ${4:-} |"); echo "$1: $2${3:+ ($3)}"; }
member() { members+=("\"$1\": $2"); }

value() { sed -n "s/.*\b$1=\([^ ]*\).*/\1/p" <<<"$2"; } # NAME LINE: out of `name=value …`

median() {
  printf '%s\n' "$@" | sort -g | awk '{ v[NR] = $1 } END { m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2 }'
}

share() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.3f", a / b }'; }
larger() { awk -v a="$1" -v b="$2" 'BEGIN { print (a > b) ? a : b }'; }
listed() { printf '%s\n' "$@" | paste -sd, -; }
quoted() { printf '"%s"\n' "$@" | paste -sd, -; }

# reported [NAME]: where this run leaves its figures ($file.md, $file.json), and what they
# hang on: $stamp, $revision, $machine, $ram, $disk
reported() {
  stamp=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  revision=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
  machine=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
  machine=${machine:-$(uname -m)}
  ram=$(awk '$1 == "MemTotal:" { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)
  disk=$(df -T "$folder" | awk 'NR == 2 { print $2 }')
  mkdir -p bench/results
  file=bench/results/${stamp//:/}${1:+-$1}
}

machine_json() {
  printf '{"cpu": "%s", "cores": %s, "ram": "%s", "kernel": "%s", "filesystem": "%s"}' \
    "$machine" "$(nproc)" "$ram" "$(uname -r)" "$disk"
}
