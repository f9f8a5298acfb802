#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The tests that Debian's own machines would run (packaging/debian/tests), run by autopkgtest in a clean Debian.
#
# usage: packaging/tests/autopkgtest.sh [SUITE]       (bookworm; after packaging/build deb)
#
# Needs root, mmdebstrap and Debian's packages. All services are in a network namespace of their own.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare ip dpkg-deb
suite=${1:-bookworm}
deb=$(package 'oxinetd_[0-9]*.deb') || { echo "$deb"; exit 0; }
dsc=$(package 'oxinetd_*.dsc') || { echo "$dsc"; exit 0; }

tar=$(debian_tree "$suite-autopkgtest" "$suite" apt,autopkgtest,ca-certificates,dpkg-dev,procps,xz-utils) ||
    skip "no Debian $suite to be had"
tree=$work/trees/run-autopkgtest
trap 'rm -rf "$tree"' EXIT
ready_tree "$tar" "$tree" autopkgtest-inside.sh
cp "${dsc%/*}"/oxinetd_*.{dsc,tar.xz} "$tree/packages/"
say "Debian $suite: fetch what will be installed"
bring_packages "$tree" "$deb" nullidentd
enter "$tree" autopkgtest-inside.sh
