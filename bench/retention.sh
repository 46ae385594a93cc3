# Whole operations with retention running. It is sourced after bench/parts.sh, and after
# bench/cluster.sh where the ledger is in PostgreSQL.
# shellcheck shell=bash

# What has finished is pruned a minute later, result and operation together.
retention=('[retention]' 'result = "1m"' 'operation = "1m"')
# A round of the pruner begins every few seconds, in builds before this every half minute. One of
# those in this time has to come to its end, with nothing left that is due.
PASS=40

# overdue STORE: how many seconds the oldest entry is overdue that is to be pruned; 0 where
# nothing is due
overdue() {
  case "$1" in
    sqlite:*)
      python3 - "${1#sqlite:}" <<'PYTHON'
import sqlite3, sys, time
ledger = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True, timeout=10)
(oldest,) = ledger.execute("SELECT min(due_at) FROM expiries").fetchone()
print(0 if oldest is None else max(0, round(time.time() - oldest / 1e6, 1)))
PYTHON
      ;;
    *)
      psql -XAtq -d "$1" -c "SELECT coalesce(greatest(0, round(extract(epoch FROM clock_timestamp()) - min(due_at) / 1e6, 1)), 0) FROM expiries"
      ;;
  esac
}

# Says once a second how far behind the pruner is
behind() { # STORE SECONDS
  local _
  for _ in $(seq "$2"); do
    overdue "$1"
    sleep 1
  done
}

# keeps_up NAME STORE RATE LINES…: whether a gateway keeps up with a rate of whole operations
# while its pruner keeps up with them
keeps_up() {
  local name=$1 store=$2 rate=$3 kept_up=1 least
  local offer_seconds=$retention_seconds
  gateway "$name" "$store" "${@:4}" "${retention[@]}"
  start "$name-behind" behind "$store" $((retention_seconds - 1))
  local watching=$started
  offered_at "$name" "$rate" || kept_up=0
  wait "$watching" || true
  ended "$gateway_pid"
  least=$(tail -n "$PASS" "$folder/$name-behind.out" | sort -g | head -n 1)
  [ -n "$least" ] || die "how far behind the pruner is could not be read: $(cat "$folder/$name-behind.err")"
  offers[-1]+=" behind_s=$least"
  echo "the pruner was at best $least s behind in the last $PASS s"
  [ "$kept_up" -eq 1 ] && awk "BEGIN { exit !($least <= 2) }"
}

# steady_rates ASKED: the rows of the highest rates with retention running, of this build and of
# the one of $before, in turns
steady_rates() {
  local this=$gateway_binary steady=() steady_before=() steady_offers=() ratios=()
  for _ in $(seq "$retention_repeat"); do
    if [ -n "$before" ]; then
      gateway_binary=$before
      searched "$retention_rate" keeps_up_on_a_new_ledger
      steady_before+=("$held")
      steady_offers+=("${offers[@]/#/before: }")
      gateway_binary=$this
    fi
    searched "$retention_rate" keeps_up_on_a_new_ledger
    steady+=("$held")
    steady_offers+=("${offers[@]}")
    [ -z "$before" ] || ratios+=("$(share "$held" "${steady_before[-1]}")")
    echo "with retention running: $held/s${before:+, the build before ${steady_before[-1]}/s}"
  done
  row "… with retention running, $retention_seconds s, steady" "$(median "${steady[@]}")/s" "${before:+$(median "${ratios[@]:-0}") of before}" "$1"
  [ -z "$before" ] || row '… the build before, in turns' "$(median "${steady_before[@]}")/s" 1
  member retention "[$(quoted "${steady_offers[@]}")]"
}
