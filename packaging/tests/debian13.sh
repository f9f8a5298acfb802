#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the Debian package where it is at home: in a clean Debian 13, with its rustc and debhelper, all Build-Depends
# met, the tests run and no network; then lintian looks at it. And, with Debian's rust-src and musl, the static program.
#
# usage: packaging/tests/debian13.sh [deb] [musl]       (deb, unless named; after packaging/build; many minutes)
#
# Needs root, mmdebstrap and Debian's packages. What comes out is in target/packages/debian13.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare
[ $# -gt 0 ] || set -- deb
dsc=$(package 'oxinetd_*.dsc') || { echo "$dsc"; exit 0; }
tar=$(debian_tree trixie-build trixie \
    build-essential,debhelper,cargo,rustc,rust-src,musl-tools,mandoc,lintian,ca-certificates,fakeroot,python3) ||
    skip "no Debian 13 to be had"
tree=$work/trees/run-build
trap 'rm -rf "$tree"' EXIT
unpack_tree "$tar" "$tree"
mkdir -p "$tree/build" "$work/debian13"
cp "${dsc%/*}"/oxinetd_* "$tree/build/"
# Without a network of its own there is none but loopback, which the tests want.
inside() {
    unshare --net --mount --pid --fork --mount-proc bash -ec "ip link set lo up; mount -t proc proc '$tree/proc'
        mount --rbind /dev '$tree/dev'; exec chroot '$tree' \"\$@\"" - "$@"
}

for part; do
    case $part in
        deb)
            say "build with $(inside rustc --version)"
            must "it builds, and its tests pass" inside nice sh -ec \
                "cd /build && dpkg-source --extract ${dsc##*/} tree && cd tree && dpkg-buildpackage -us -uc"
            find "$tree/build" -maxdepth 1 -type f -exec cp -t "$work/debian13" {} +
            say "lintian"
            # Whoever is root is told not to be; that is all that may be said.
            found=$(inside sh -c "cd /build && lintian --pedantic --display-info --display-experimental --fail-on none *.changes" |
                grep '^[A-Z]: ')
            same "lintian finds nothing" "" "$found"
            ;;
        musl)
            say "a static program, with musl"
            inside nice sh -ec "cd /build && rm -rf tree && dpkg-source --extract ${dsc##*/} tree && cd tree && sh packaging/musl" \
                >"$work/debian13/musl.log" 2>&1 || tail -n 20 "$work/debian13/musl.log"
            program=$(find "$tree/build/tree/target" -path '*musl/release/oxinetd' -type f | head -n 1)
            must "it is built" test -n "$program"
            cp "$program" "${program%d}ctl" "$work/debian13/"
            check "it needs no library" sh -c "file -b '$program' | grep -Eq 'static(ally|-pie) linked'"
            mkdir "$tree/empty"
            cp "$program" "$tree/empty/"
            check "it runs where there is nothing else" chroot "$tree/empty" /oxinetd --version
            ls -l "$work/debian13/oxinetd" "$work/debian13/oxinetctl"
            ;;
    esac
done
finish
