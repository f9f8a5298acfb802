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
unpack_tree "$tar" "$tree"
mkdir "$tree/packages"
cp "$deb" "$tree/packages/oxinetd.deb"
version=$(dpkg-deb -f "$deb" Version)
repack "$deb" "$version+next" "$tree/packages"
cp "$here/packaging/tests/lib.sh" "$here/packaging/tests/deb-inside.sh" "$tree/packages/"
cp /etc/resolv.conf "$tree/etc/resolv.conf" 2>/dev/null || true

say "Debian $suite: fetch what will be installed"
packages=(openbsd-inetd nullidentd ftpd-ssl)
chroot "$tree" sh -ec "apt-get -qq update
    apt-get -qq -y --no-install-recommends --download-only install ${packages[*]}
    apt-get -qq -y --no-install-recommends --download-only install /packages/oxinetd.deb" >"$work/deb-fetch.log" 2>&1 ||
    { tail -n 5 "$work/deb-fetch.log"; skip "packages could not be fetched"; }

# Namespaces of its own: the daemons end with the script, whatever happens, and the ports are nobody else's.
unshare --mount --net --pid --ipc --fork --kill-child --mount-proc bash -ec "
    ip link set lo up
    mount --bind '$tree' '$tree'
    cd '$tree'
    mount -t proc proc proc
    mount --rbind /dev dev
    mount -t tmpfs tmpfs run
    exec chroot . bash /packages/deb-inside.sh"
