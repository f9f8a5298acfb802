#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The Debian package on a booted system: systemd is the first process of a container (systemd-nspawn), and the package is
# installed, reloaded, starved of its watchdog, crashed, stopped, upgraded and purged there.
#
# usage: packaging/tests/systemd.sh [SUITE]       (bookworm; after packaging/build deb)
#
# Needs root, mmdebstrap, systemd-nspawn and Debian's packages. The container has a network of its own.
# OXINETD_PREVIOUS=DEB: as deb.sh has it.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap systemd-nspawn dpkg-deb
suite=${1:-bookworm}
deb=$(package 'oxinetd_[0-9]*.deb') || { echo "$deb"; exit 0; }

tar=$(debian_tree "$suite-systemd" "$suite" apt,ca-certificates,systemd,systemd-sysv,dbus,procps) ||
    skip "no Debian $suite to be had"
tree=$work/trees/run-systemd
trap 'rm -rf "$tree"' EXIT
ready_tree "$tar" "$tree" systemd-inside.sh
say "Debian $suite: fetch what will be installed"
bring_packages "$tree" "$deb" openbsd-inetd nullidentd ftpd-ssl

cat >"$tree/etc/systemd/system/oxinetd-test.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
TimeoutStartSec=540
StandardOutput=file:/packages/output
StandardError=file:/packages/output
ExecStart=/bin/bash /packages/systemd-inside.sh
UNIT
mkdir -p "$tree/etc/systemd/system/default.target.wants"
ln -s ../oxinetd-test.service "$tree/etc/systemd/system/default.target.wants/"
# Nobody sits at the console.
ln -s /dev/null "$tree/etc/systemd/system/console-getty.service"
touch "$tree/packages/output"

timeout --kill-after=10 570 systemd-nspawn --quiet --directory="$tree" --machine="oxinetd-test-$$" --register=no --keep-unit \
    --private-network --boot --console=read-only </dev/null >"$work/systemd-console.log" 2>&1
cat "$tree/packages/output"
if ! [ -s "$tree/packages/output" ]; then
    tail -n 20 "$work/systemd-console.log"
    skip "systemd does not boot in a container here"
fi
tail -n 1 "$tree/packages/output" | grep -q ', 0 failed$'
