#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# oxinetd as the first process of a container: it serves, reaps what its handlers leave behind, and takes its signals,
# which the kernel hides from a first process that has no handler for them.
#
# usage: packaging/tests/pid1.sh [PROGRAM]       (target/debug/oxinetd)
#
# Needs root, for namespaces.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need unshare nsenter ip
program=$(realpath "${1:-$here/target/debug/oxinetd}")
[ -x "$program" ] || skip "$program is not there; cargo build makes it"
scratch=$(mktemp -d)
trap 'kill -KILL "$keeper" 2>/dev/null; rm -rf "$scratch"' EXIT

cat >"$scratch/orphan" <<'HANDLER'
#!/bin/bash
# Three generations: this one ends, its grandchild lives on as a child of the first process, and ends too.
(bash -c 'sleep 0.3' &)
echo left
HANDLER
chmod +x "$scratch/orphan"
cat >"$scratch/table.yaml" <<TABLE
services:
  orphan: { listen: 10001, program: $scratch/orphan, user: nobody, stderr: null, per_source: { instances: unlimited } }
  cat: { listen: 10007, program: /bin/cat, user: nobody }
TABLE
chmod 755 "$scratch"
mkfifo "$scratch/status"

# unshare is the parent; its child, the daemon, is process 1 of the namespace.
unshare --pid --net --mount --fork --mount-proc bash -c "ip link set lo up && exec '$program' --config '$scratch/table.yaml' --log '$scratch/log'" &
keeper=$!
inside() { nsenter --target "$first" --pid --net --mount "$@"; }
started() { first=$(pgrep -P "$keeper") && grep -q '^[^ ]* start ' "$scratch/log"; }
must "it starts" soon started
first=$(pgrep -P "$keeper")
same "it is the first process" "1 oxinetd" "$(inside ps -o pid=,comm= -p 1 | xargs)"

say "orphans"
export -f ask
for _ in 1 2 3 4 5 6 7 8 9 10; do
    inside bash -c 'ask 10001 x' >>"$scratch/answers"
done
same "ten handlers have answered" 10 "$(grep -c left "$scratch/answers")"
alone() { [ "$(inside ps -eo pid=,stat=,comm= | awk '$3 != "ps"' | wc -l)" -eq 1 ]; }
check "their orphans end, and nothing is left, no zombie either" soon alone
alone || inside ps -ef

say "signals"
cat >>"$scratch/table.yaml" <<TABLE
  more: { listen: 10008, program: /bin/cat, user: nobody }
TABLE
kill -HUP "$first"
check "HUP is taken" soon grep -q ' reload added=1 ' "$scratch/log"
same "the new service answers" hello "$(inside bash -c 'ask 10008 hello')"
kill -TERM "$first"
wait "$keeper"
same "TERM is taken, and the exit status is" 0 "$?"
check "the log says so" grep -q ' stop signal=SIGTERM ' "$scratch/log"
finish
