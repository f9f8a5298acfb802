#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The part of deb.sh that runs inside the clean Debian.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. /packages/lib.sh
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin

# Without an init there are no runlevels, and invoke-rc.d does nothing unless it is told that it may.
printf '#!/bin/sh\nexit 0\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

say "a machine that openbsd-inetd serves"
add openbsd-inetd nullidentd
must "openbsd-inetd answers for ident" soon ask 113 "1, 2"
cp /etc/inetd.conf /tmp/inetd.conf.before
files >/tmp/files.before

say "oxinetd takes its place"
must "it is installed" add /packages/oxinetd.deb
check_not "openbsd-inetd is gone" pgrep -x inetd
check "the daemon runs" soon daemon
check "/etc/inetd.conf is as it was" cmp /etc/inetd.conf /tmp/inetd.conf.before
same "ident still answers" "1, 2 : USERID : UNIX : foobar" "$(soon ask 113 '1, 2'; ask 113 '1, 2')"
check "the service is oxinetd's handler" sh -c 'oxinetd --dump | grep -q /usr/sbin/nullidentd'

# Its init script would otherwise still be the first that update-inetd finds.
say "what is left of openbsd-inetd goes"
check "it is purged" purge openbsd-inetd
check "/etc/inetd.conf is as it was" cmp /etc/inetd.conf /tmp/inetd.conf.before

say "a package adds its service"
check "ftpd-ssl is installed" add ftpd-ssl
check "update-inetd has written its line" grep -q '^ftp' /etc/inetd.conf
check "it answers" soon ask 21 NOOP
pid=$(daemon)

say "a session is open while the world changes"
dial 21
greeting=$(hear)
case $greeting in 220*) ok "it greets: $greeting" ;; *) bad "it greets: $greeting" ;; esac
check "reload" service oxinetd reload
check "it lives on" talk NOOP
check "restart" service oxinetd restart
check "it lives on" talk NOOP
same "and the daemon is the same process" "$pid" "$(daemon)"
cp /etc/oxinetd/oxinetd.yaml /tmp/table
echo 'services: {' >>/etc/oxinetd/oxinetd.yaml
check_not "a reload with a broken table fails" service oxinetd reload
check_not "a restart with a broken table fails" service oxinetd restart
check "and changes nothing" soon ask 113 "1, 2"
{ cat /tmp/table; echo '# changed by hand'; } >/etc/oxinetd/oxinetd.yaml

say "an upgrade"
before_upgrade ftp
check "it is installed" add /packages/oxinetd_next.deb
case $(dpkg-query -W -f '${Version}' oxinetd) in *+next) ok "the version is new" ;; *) bad "the version is new" ;; esac
in_place ftp
check "the session lives on" talk NOOP
check "the table changed by hand is kept" grep -q 'changed by hand' /etc/oxinetd/oxinetd.yaml
check "it serves" soon ask 113 "1, 2"
check "another session comes in" soon ask 21 NOOP

say "an upgrade to a program that can't take over"
check "it is installed" add /packages/oxinetd_unable.deb
anew ftp
check "the session lives on" talk NOOP
check "it serves" soon ask 113 "1, 2"
rm "$rated"

say "a package takes its service away"
check "nullidentd is purged" purge nullidentd
check "nobody answers for ident" soon deaf 113
check "the session lives on" talk NOOP

say "removal and purge"
check "ftpd-ssl is purged" purge ftpd-ssl
check "a stop succeeds" service oxinetd stop
check "the session outlives the daemon" talk NOOP
hang_up
check "it starts again" service oxinetd start
check "purge" purge oxinetd
check "the daemon has ended" soon sh -c '! pgrep -x oxinetd'
apt --purge autoremove
nothing_left /tmp/files.before
check_not "dpkg knows no such package" dpkg-query -W oxinetd

say "a machine that has never had an inetd"
check_not "there is no /etc/inetd.conf" test -e /etc/inetd.conf
check "oxinetd is installed with nullidentd" add /packages/oxinetd.deb nullidentd
check "update-inetd has written its line" grep -q '^ident' /etc/inetd.conf
check "it answers" soon ask 113 "1, 2"
check "oxinetd is purged, and nullidentd goes too" purge oxinetd nullidentd
check_not "no service was left, so there is no /etc/inetd.conf" test -e /etc/inetd.conf
nothing_left /tmp/files.before
finish
