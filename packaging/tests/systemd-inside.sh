#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The part of systemd.sh that runs on the booted system, as a service of its own.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. /packages/lib.sh
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin
property() { systemctl show --value --property "$1" oxinetd.service; }
is() { [ "$(property "$1")" = "$2" ]; }
restarts_are() { is NRestarts "$1" && is ActiveState active; }

say "a booted machine that openbsd-inetd serves"
systemd --version | head -n 1
add openbsd-inetd nullidentd
must "openbsd-inetd answers for ident" soon ask 113 "1, 2"
files >/tmp/files.before

say "oxinetd is installed"
must "it is installed" add /packages/oxinetd.deb
check "it is enabled" systemctl is-enabled oxinetd.service
check "it is active" soon is ActiveState active
case $(property StatusText) in Serving*) ok "it says: $(property StatusText)" ;; *) bad "it says: $(property StatusText)" ;; esac
same "it tells when it is ready" notify "$(property Type)"
same "ident still answers" "1, 2 : USERID : UNIX : foobar" "$(ask 113 '1, 2')"
check "it is watched" test "$(property WatchdogUSec)" = 30s
printf 'resident: %s\n' "$(grep VmRSS "/proc/$(property MainPID)/status")"

say "reload with a good and a bad table"
cat >/etc/oxinetd/services.d/echo.yaml <<'TABLE'
services:
  echo:
    listen: 10007
    program: [/bin/cat]
TABLE
check "a reload succeeds" systemctl reload oxinetd.service
same "the new service answers" hello "$(soon ask 10007 hello; ask 10007 hello)"
dial 10007
same "a session is open" one "$(talk one)"
pid=$(property MainPID)
echo 'services: { broken: { listen: 70000, program: /bin/cat } }' >/etc/oxinetd/services.d/broken.yaml
check_not "a reload with a wrong table fails" systemctl reload oxinetd.service
check "the journal says where and why" sh -c 'journalctl -u oxinetd.service | grep -q "broken.yaml:1:.*services.broken.listen"'
same "the daemon is active, and the same" "active $pid" "$(property ActiveState) $(property MainPID)"
same "services answer" hello "$(ask 10007 hello)"
same "the session lives on" two "$(talk two)"

say "a start with the wrong table"
systemctl stop oxinetd.service
check_not "it fails" systemctl start oxinetd.service
sleep 3
same "it is not tried again and again" "failed 78 0" "$(property ActiveState) $(property ExecMainStatus) $(property NRestarts)"
rm /etc/oxinetd/services.d/broken.yaml
check "it starts when the table is mended" systemctl start oxinetd.service

say "a stop with a live session"
same "the session has outlived a stop" three "$(talk three)"
hang_up
dial 10007
same "a new session" four "$(talk four)"
check "stop" systemctl stop oxinetd.service
same "it is inactive" inactive "$(property ActiveState)"
check "nobody listens" deaf 10007
same "the session lives on" five "$(talk five)"
check "start" systemctl start oxinetd.service
check "somebody listens" soon ask 10007 x
same "the session lives on" six "$(talk six)"

say "a sudden end"
systemctl reset-failed oxinetd.service
before=$(property NRestarts)
kill -KILL "$(property MainPID)"
check "it is restarted" soon restarts_are "$((before + 1))"
check "somebody listens" soon ask 10007 x
same "the session lives on" seven "$(talk seven)"

say "the watchdog"
mkdir -p /etc/systemd/system/oxinetd.service.d
printf '[Service]\nWatchdogSec=2s\n' >/etc/systemd/system/oxinetd.service.d/test.conf
systemctl daemon-reload
systemctl restart oxinetd.service
first=$(property WatchdogTimestampMonotonic)
later() { [ "$(property WatchdogTimestampMonotonic)" -gt "$first" ]; }
check "the daemon gives signs of life" soon later
sleep 5
same "it is left alone as long as it does" "active 0" "$(property ActiveState) $(property NRestarts)"
# A daemon that hangs.
kill -STOP "$(property MainPID)"
check "when it gives none it is restarted" soon restarts_are 1
check "the journal says so" sh -c 'journalctl -u oxinetd.service | grep -qi "watchdog timeout"'
same "the session lives on" eight "$(talk eight)"

say "memory runs out in a handler"
same "the others are not ended for it" continue "$(property OOMPolicy)"

say "update-inetd"
check "a service is disabled" update-inetd --disable ident
check "and nobody answers" soon deaf 113
check "it is enabled" update-inetd --enable ident
check "and answers" soon ask 113 "1, 2"
check "ftpd-ssl is installed" add ftpd-ssl
check "and answers" soon ask 21 NOOP
same "the session lives on" nine "$(talk nine)"

say "an upgrade"
# This session was begun under a daemon that has been killed since, and isn't counted.
hang_up
dial 10007
same "a new session" hello "$(talk hello)"
before=$(property NRestarts)
before_upgrade echo
check "it is installed" add /packages/oxinetd_next.deb
case $(dpkg-query -W -f '${Version}' oxinetd) in *+next) ok "the version is new" ;; *) bad "the version is new" ;; esac
same "it is active, and systemd knows the process" "active $old_pid" "$(property ActiveState) $(property MainPID)"
in_place echo
same "the session lives on" ten "$(talk ten)"
first=$(property WatchdogTimestampMonotonic)
check "the new program gives signs of life" soon later
sleep 5
same "it is left alone as long as it does" "active $before" "$(property ActiveState) $(property NRestarts)"
check "a reload succeeds" systemctl reload oxinetd.service
rm -r /etc/systemd/system/oxinetd.service.d
systemctl daemon-reload

say "an upgrade to a program that can't take over"
check "it is installed" add /packages/oxinetd_unable.deb
same "it is active" active "$(property ActiveState)"
anew echo
same "the session lives on" eleven "$(talk eleven)"
hang_up
rm "$rated"

say "sockets that systemd holds"
systemctl stop oxinetd.service
sed -e '/^Listen/d' -e 's/^\[Socket\]$/&\nListenStream=[::]:10007/' /usr/share/doc/oxinetd/examples/oxinetd.socket \
    >/etc/systemd/system/oxinetd.socket
systemctl daemon-reload
check "the socket is started" systemctl start oxinetd.socket
same "the first client starts the daemon" hello "$(ask 10007 hello)"
check "which has adopted it" sh -c 'journalctl -u oxinetd.service | grep -q "listen service=echo .*how=adopted"'
systemctl stop oxinetd.socket oxinetd.service
rm /etc/systemd/system/oxinetd.socket
systemctl daemon-reload

say "purge"
rm /etc/oxinetd/services.d/echo.yaml
check "it is purged" purge ftpd-ssl nullidentd oxinetd
apt --purge autoremove
check_not "no unit is left" sh -c 'systemctl list-unit-files | grep -i oxinetd | grep -v oxinetd-test'
nothing_left /tmp/files.before
[ "$failed" -eq 0 ] || journalctl --no-pager -u oxinetd.service | tail -n 60
finish
