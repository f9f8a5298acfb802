#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The part of autopkgtest.sh that runs inside the clean Debian.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. /packages/lib.sh
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Without an init there are no runlevels, and invoke-rc.d does nothing unless it is told that it may.
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

# The tests run right here; that this is a container of its own, autopkgtest can't know.
autopkgtest --no-built-binaries --ignore-restrictions=isolation-container --summary-file=/packages/summary \
    /packages/oxinetd.deb /packages/oxinetd_*.dsc -- null
for name in installed inetd-service; do
    check "$name passes" grep -Eq "^$name +PASS" /packages/summary
done
finish
