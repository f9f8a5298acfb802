# SPDX-License-Identifier: MIT OR Apache-2.0
# shellcheck shell=bash
#
# What the scripts of this folder share. Each says what it does, and checks it: a check that fails is told at once, and
# the script goes on and fails at its end. What can't be tried on this machine is a line that begins with `skipped:`.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
work=${OXINETD_PACKAGES:-$here/target/packages}
passed=0
failed=0

say() { printf '\n--- %s\n' "$*"; }

ok() {
    passed=$((passed + 1))
    printf 'ok      %s\n' "$*"
}

bad() {
    failed=$((failed + 1))
    printf 'FAILED  %s\n' "$*"
}

# check TEXT COMMAND... : the command succeeds.
check() {
    local text=$1
    shift
    if "$@" >/dev/null; then ok "$text"; else bad "$text ($*)"; fi
}

# check_not TEXT COMMAND... : the command fails.
check_not() {
    local text=$1
    shift
    if "$@" >/dev/null 2>&1; then bad "$text ($*)"; else ok "$text"; fi
}

# must TEXT COMMAND... : without this the rest would say nothing.
must() {
    local before=$failed
    check "$@"
    [ "$failed" -eq "$before" ] || { finish; exit 1; }
}

# same TEXT EXPECTED FOUND
same() { if [ "$2" = "$3" ]; then ok "$1: $3"; else bad "$1: expected '$2', found '$3'"; fi; }

# soon COMMAND... : the command succeeds within 30 seconds.
soon() {
    local _
    for _ in $(seq 300); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    return 1
}

skip() {
    printf 'skipped: %s: %s\n' "$(basename "$0")" "$*"
    exit 0
}

# need PROGRAM... : skips the script if one is missing.
need() {
    local program
    for program; do
        command -v "$program" >/dev/null || skip "$program is not installed"
    done
}

need_root() { [ "$(id -u)" -eq 0 ] || skip "needs root"; }

finish() {
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" -eq 0 ]
}

# The package that packaging/build has made, newest first.
package() {
    local found
    found=$(find "${OXINETD_OUT:-$work/out}" -maxdepth 1 -name "$1" -printf '%T@ %p\n' 2>/dev/null | sort -rn | sed -n '1s/^[^ ]* //p')
    [ -n "$found" ] || skip "no $1 in ${OXINETD_OUT:-$work/out}; packaging/build makes it"
    printf '%s\n' "$found"
}

# debian_tree NAME SUITE PACKAGES : a tar file of a clean Debian with these packages, made once.
debian_tree() {
    local tar=$work/trees/$1.tar
    if [ ! -e "$tar" ]; then
        mkdir -p "$work/trees"
        mmdebstrap --quiet --format=tar --variant=minbase --include="$3" "$2" "$tar.part" >&2 || return 1
        mv "$tar.part" "$tar"
    fi
    printf '%s\n' "$tar"
}

# unpack_tree TAR FOLDER : a fresh copy of it.
unpack_tree() {
    rm -rf "$2"
    mkdir -p "$2"
    tar -x -C "$2" -f "$1"
}

# ready_tree TAR TREE SCRIPT : a fresh copy, with what SCRIPT needs to run inside.
ready_tree() {
    unpack_tree "$1" "$2"
    mkdir "$2/packages"
    cp "$here/packaging/tests/lib.sh" "$here/packaging/tests/$3" "$2/packages/"
}

# works_in TREE : what has been installed there can be run there.
works_in() {
    check "the programs run" chroot "$1" oxinetd --version
    check "the default table is right" chroot "$1" oxinetd --check
    check "oxinetctl runs" chroot "$1" oxinetctl --version
}

# enter TREE SCRIPT : runs it there. Namespaces of its own: the daemons end with the script, whatever happens, and the
# ports are nobody else's.
enter() {
    unshare --mount --net --pid --ipc --fork --kill-child --mount-proc bash -ec "
        ip link set lo up
        mount --bind '$1' '$1'
        cd '$1'
        mount -t proc proc proc
        mount --rbind /dev dev
        mount -t tmpfs tmpfs run
        exec chroot . bash '/packages/$2'"
}

# bring_packages TREE DEB PACKAGE... : puts our package and those that may follow it into /packages, and whatever else
# will be installed where apt finds it without a network.
bring_packages() {
    local tree=$1 deb=$2 version
    shift 2
    version=$(dpkg-deb -f "$deb" Version)
    cp "${OXINETD_PREVIOUS:-$deb}" "$tree/packages/oxinetd.deb"
    repack "$deb" "$version+next" "$tree/packages/oxinetd_next.deb" another_build
    repack "$deb" "$version+next+unable" "$tree/packages/oxinetd_unable.deb" unable_to_take_over
    cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true
    chroot "$tree" sh -ec 'apt-get -qq update
        apt-get -qq -y --no-install-recommends --download-only install "$@"
        apt-get -qq -y --no-install-recommends --download-only install /packages/oxinetd.deb' - "$@" >"$tree.log" 2>&1 ||
        { tail -n 5 "$tree.log"; skip "packages could not be fetched"; }
    rm -f "$tree/etc/resolv.conf"
}

# repack DEB VERSION TO CHANGE : the same package under another version, its program changed by the command CHANGE.
repack() {
    local deb=$3.parts
    rm -rf "$deb"
    dpkg-deb --raw-extract "$1" "$deb"
    sed -i "s/^Version: .*/Version: $2/" "$deb/DEBIAN/control"
    "$4" "$deb/usr/sbin/oxinetd"
    (cd "$deb" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
    dpkg-deb --root-owner-group --build "$deb" "$3" >/dev/null
    rm -rf "$deb"
}

# Other bytes and the same program: nobody reads what stands behind the end of an ELF file.
another_build() { printf '\nanother build\n' >>"$1"; }

# A program that can be started, but not in the place of another.
unable_to_take_over() {
    local aside=${1%/sbin/oxinetd}/lib/oxinetd
    mkdir -p "$aside"
    mv "$1" "$aside/oxinetd"
    printf '#!/bin/sh\ncase "$*" in *--take-over*) exit 1 ;; esac\nexec /usr/lib/oxinetd/oxinetd "$@"\n' >"$1"
    chmod 755 "$1"
}

# --- inside a Debian

export DEBIAN_FRONTEND=noninteractive

apt() {
    apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" </dev/null >/tmp/apt.log 2>&1 || { cat /tmp/apt.log; false; }
}
add() { apt install "$@" >&2; }
purge() { apt purge "$@" >&2; }

# Every file that there is, but for what apt, dpkg, systemd and the kernel write by themselves.
files() {
    {
        find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /packages -o -path /var/lib/dpkg -o -path /var/cache \
            -o -path /var/lib/apt -o -path /var/log -o -path /tmp -o -path /var/tmp \) -prune -o -print
        find /run /var/log -print
    } | sort
}

# nothing_left BEFORE : none of the files that are not in this list is ours.
nothing_left() { same "nothing of ours is left" "" "$(files | comm -13 "$1" - | grep -i oxinet)"; }

# --- an upgrade, seen from outside

# metric NAME : its value.
metric() { oxinetctl metrics | awk -v name="$1" '$1 == name { print $2 }'; }
daemon() { oxinetctl --format json status | sed -n 's/^  "pid": \([0-9]*\),$/\1/p'; }
banned() { metric oxinetd_bans; }
upgrades() { echo "$(metric 'oxinetd_upgrades_total{result="success"}') $(metric 'oxinetd_upgrades_total{result="failure"}')"; }
# live SERVICE, accepted SERVICE
live() { metric "oxinetd_handlers{service=\"$1\"}"; }
accepted() { metric "oxinetd_connections_accepted_total{service=\"$1\"}"; }

sole() { [ "$(live "$1")" = 1 ]; }

# A service that lets nobody in more than twice an hour.
rated=/etc/oxinetd/services.d/rated.yaml

# before_upgrade SERVICE : one session of SERVICE is open.
before_upgrade() {
    echo 'services: { rated: { listen: 127.0.0.1:10009, program: /bin/cat, per_source: { rate: 2/h, burst: 2 } } }' >"$rated"
    check "the table is taken" oxinetctl reload
    check "the session is counted, and no other" soon sole "$1"
    check "a network is banned" oxinetctl ban 203.0.113.0/24
    same "a client may come twice an hour, and comes once" hello "$(ask 10009 hello)"
    same "no upgrade has been" "0 0" "$(upgrades)"
    old_pid=$(daemon)
    old_accepted=$(accepted "$1")
}

# in_place SERVICE : the new program runs, and nothing else has changed. The session itself is the caller's to try.
in_place() {
    same "the upgrade went in place, and none has failed" "1 0" "$(upgrades)"
    same "it is the same process" "$old_pid" "$(daemon)"
    same "the new program is on disk" "another build" "$(tail -n 1 /usr/sbin/oxinetd)"
    check "and it is what runs" cmp "/proc/$old_pid/exe" /usr/sbin/oxinetd
    same "from this very file" /usr/sbin/oxinetd "$(readlink "/proc/$old_pid/exe")"
    same "the session is still counted" 1 "$(live "$1")"
    same "so are those who came before" "$old_accepted" "$(accepted "$1")"
    same "the network is still banned" 1 "$(banned)"
    same "who has come once may come" hello "$(ask 10009 hello)"
    same "no more than once" "" "$(ask 10009 hello)"
    check "all counts are right" oxinetctl audit
}

# anew SERVICE : the daemon that could not be replaced has been started anew, and has forgotten everything.
anew() {
    check_not "it is another process" test "$(daemon)" = "$old_pid"
    same "no upgrade has been" "0 0" "$(upgrades)"
    same "no session is counted" 0 "$(live "$1")"
    same "nobody is banned" 0 "$(banned)"
    same "it serves" hello "$(ask 10009 hello)"
}

# --- clients, with bash alone

# ask PORT TEXT : sends a line, gives the first line that comes back.
ask() {
    local fd line
    exec {fd}<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf '%s\r\n' "$2" >&"$fd"
    IFS= read -r -t 20 line <&"$fd"
    exec {fd}>&-
    printf '%s\n' "${line%$'\r'}"
} 2>/dev/null

# A session that stays open: dial PORT, then talk TEXT as often as one likes, then hang_up.
dial() { exec 7<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null
hear() {
    local line
    IFS= read -r -t 20 line <&7 || return 1
    printf '%s\n' "${line%$'\r'}"
}
talk() {
    printf '%s\r\n' "$1" >&7 || return 1
    hear
}
hang_up() { exec 7>&-; }

# nobody listens there
deaf() { ! (exec 7<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
