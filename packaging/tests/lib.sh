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

# repack DEB VERSION FOLDER : the same package under another version, as if it were the next build.
repack() {
    local tree=$3/repack
    rm -rf "$tree"
    dpkg-deb --raw-extract "$1" "$tree"
    sed -i "s/^Version: .*/Version: $2/" "$tree/DEBIAN/control"
    dpkg-deb --root-owner-group --build "$tree" "$3/oxinetd_next.deb" >/dev/null
    rm -rf "$tree"
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
