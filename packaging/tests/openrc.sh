#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The OpenRC script, run by OpenRC: started, reloaded with a good and a bad table, upgraded, restarted and stopped while a
# session is open.
#
# usage: packaging/tests/openrc.sh       (with the programs of target/release, or built=FOLDER)
#
# Needs root, mmdebstrap and Debian's packages. All services are in a network namespace of their own.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare ip
built=${built:-$here/target/release}
[ -x "$built/oxinetd" ] || skip "$built/oxinetd is not there; cargo build --release makes it"
tar=$(debian_tree bookworm-openrc bookworm apt,openrc,procps) || skip "no Debian with OpenRC to be had"
tree=$work/trees/run-openrc
trap 'rm -rf "$tree"' EXIT
ready_tree "$tar" "$tree" openrc-inside.sh
must "packaging/install puts it there" env DESTDIR="$tree" prefix=/usr built="$built" sh "$here/packaging/install" openrc
cp "$here/packaging/alpine/oxinetd.post-upgrade" "$tree/packages/"
enter "$tree" openrc-inside.sh
