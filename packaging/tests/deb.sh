#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The Debian package in a clean Debian without systemd: it takes over a machine that openbsd-inetd serves, other
# packages add and remove their services by update-inetd, sessions live on across reload, restart, upgrade and removal,
# and a purge leaves nothing behind.
#
# usage: packaging/tests/deb.sh [SUITE]       (bookworm; after packaging/build deb)
#
# Needs root, mmdebstrap and Debian's packages. All services are in a network namespace of their own.
# OXINETD_PREVIOUS=DEB names the package to upgrade from; without it that is the same build, and the upgrade is to one
# whose program has other bytes.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare ip dpkg-deb
suite=${1:-bookworm}
deb=$(package 'oxinetd_[0-9]*.deb') || { echo "$deb"; exit 0; }

tar=$(debian_tree "$suite-plain" "$suite" apt,ca-certificates,procps) || skip "no Debian $suite to be had"
tree=$work/trees/run-deb
trap 'rm -rf "$tree"' EXIT
ready_tree "$tar" "$tree" deb-inside.sh
say "Debian $suite: fetch what will be installed"
bring_packages "$tree" "$deb" openbsd-inetd nullidentd ftpd-ssl
enter "$tree" deb-inside.sh
