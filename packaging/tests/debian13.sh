#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the Debian package where it is at home: in a clean Debian 13, with its rustc and debhelper, all Build-Depends
# met, the tests run and no network; then lintian looks at it.
#
# usage: packaging/tests/debian13.sh       (after packaging/build; many minutes)
#
# Needs root, mmdebstrap and Debian's packages. What comes out is in target/packages/debian13.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare
dsc=$(package 'oxinetd_*.dsc') || { echo "$dsc"; exit 0; }
tar=$(debian_tree trixie-build trixie \
    build-essential,debhelper,cargo,rustc,mandoc,lintian,ca-certificates,fakeroot,python3) ||
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

say "build with $(inside rustc --version)"
must "it builds, and its tests pass" inside nice sh -ec \
    "cd /build && dpkg-source --extract ${dsc##*/} tree && cd tree && dpkg-buildpackage -us -uc"
find "$tree/build" -maxdepth 1 -type f -exec cp -t "$work/debian13" {} +
say "lintian"
# Whoever is root is told not to be; that is all that may be said. Debian 13's lintian does not see libyaml where that of
# Debian 12 does, for which the override is.
found=$(inside sh -c "cd /build && lintian --pedantic --display-info --fail-on none *.changes" |
    grep '^[EWIP]: ' | grep -v 'unused-override embedded-library \*libyaml\*')
same "lintian finds nothing" "" "$found"
finish
