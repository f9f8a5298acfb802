#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The programs with musl: built, found to need no library, and run as the first process of a namespace that has nothing
# else than busybox, with the quick start's table.
#
# usage: packaging/tests/musl.sh       (minutes)
#
# Needs root for namespaces, busybox without libraries (or apt-get, to fetch it), and what packaging/musl asks for.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need unshare nsenter ip file
no_library() { file -L "$1" | grep -Eq 'statically linked|static-pie linked'; }
# Debian's busybox-static takes the place of busybox; so it is not installed here, but unpacked.
busybox=$(command -v busybox)
if [ -z "$busybox" ] || ! no_library "$busybox"; then
    busybox=$work/busybox/bin/busybox
    mkdir -p "$work/busybox"
    [ -x "$busybox" ] || (cd "$work/busybox" && apt-get -qq download busybox-static && dpkg-deb -x busybox-static_*.deb .) >&2 ||
        skip "busybox without libraries is not to be had"
fi

say "build"
status=0
sh "$here/packaging/musl" || status=$?
[ "$status" -ne 69 ] || skip "nothing to build with musl with"
must "it builds" test "$status" -eq 0
built=$here/target/$(uname -m)-unknown-linux-musl/release
for program in oxinetd oxinetctl; do
    check "$program needs no library, $(du -k "$built/$program" | cut -f1) KiB" no_library "$built/$program"
done

tree=$(mktemp -d)
trap 'kill -KILL ${keeper:-} 2>/dev/null; rm -rf "$tree"' EXIT
chmod 755 "$tree"
mkdir -p "$tree"/{bin,etc,proc,run,tmp,dev}
install -m 755 "$built"/oxinet{d,ctl} "$busybox" "$tree/bin/"
for name in sh cat date; do ln -s busybox "$tree/bin/$name"; done
printf 'root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$tree/etc/passwd"
printf 'root:x:0:\nnogroup:x:65534:\n' >"$tree/etc/group"
cp "$here/etc/quickstart.yaml" "$tree/etc/"

say "the first process"
check "the table is right" chroot "$tree" /bin/oxinetd --config /etc/quickstart.yaml --check
unshare --pid --net --mount --fork bash -ec "ip link set lo up; mount -t proc proc '$tree/proc'
    mount -t tmpfs tmpfs '$tree/run'; mount --rbind /dev '$tree/dev'
    exec chroot '$tree' /bin/oxinetd --config /etc/quickstart.yaml" 2>"$tree/log" &
keeper=$!
started() { first=$(pgrep -P "$keeper") && grep -q '^[^ ]* start ' "$tree/log"; }
must "it starts" soon started || cat "$tree/log"
inside() { nsenter --target "$first" --net bash -c "$1"; }
export -f ask
same "it is the first process" oxinetd "$(nsenter --target "$first" --pid --mount --root /bin/cat /proc/1/comm)"
same "echo" hello "$(inside 'ask 10007 hello')"
same "date" "$(date -u +%Y)" "$(inside 'ask 10013 x' | grep -o "$(date -u +%Y)")"
same "hello" "Say HELLO, TIME, COUNT or QUIT." "$(inside 'ask 10023 HELLO')"
check "its tool finds it" nsenter --target "$first" --pid --net --mount --root /bin/oxinetctl audit
printf 'resident: %s\n' "$(grep VmRSS "/proc/$first/status")"
# musl's clone does not let the kernel clear the word by which it says that a child has left; the child asks for that.
if command -v strace >/dev/null; then
    strace -f -qq -o "$tree/trace" -e trace=set_tid_address \
        -e inject=set_tid_address:signal=KILL:when=1 -p "$first" &
    tracer=$!
    must "it is traced" soon grep -q 'TracerPid:[[:space:]]*[1-9]' "/proc/$first/status"
    same "a handler that is killed before it can ask says nothing" "" "$(inside 'ask 10007 hello')"
    nobody_left() { ! pgrep -P "$first" >/dev/null; }
    check "nothing is left of it" soon nobody_left
    kill "$tracer"
    wait "$tracer"
    check "it was killed there" grep -q 'killed by SIGKILL' "$tree/trace"
    same "echo goes on" hello "$(inside 'ask 10007 hello')"
else
    echo "skipped: no strace to kill a handler with"
fi
kill -HUP "$first"
check "HUP is taken" soon grep -q ' reload ' "$tree/log"
check "an upgrade goes in place" nsenter --target "$first" --pid --net --mount --root /bin/oxinetctl upgrade
kill -TERM "$first"
wait "$keeper"
same "TERM is taken, and the exit status is" 0 "$?"
finish
