#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The part of openrc.sh that runs inside the tree with OpenRC.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. /packages/lib.sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# No machine has been booted: OpenRC is told that one has, and that its network is there.
mkdir -p /run/openrc/{daemons,exclusive,failed,hotplugged,inactive,options,scheduled,started,starting,stopping,wasinactive}
touch /run/openrc/softlevel
printf '#!/sbin/openrc-run\ndepend() { provide net; }\nstart() { :; }\nstop() { :; }\n' >/etc/init.d/network
chmod 755 /etc/init.d/network
rc() { rc-service --nocolor oxinetd "$@"; }
echo 'services: { echo: { listen: 10007, program: /bin/cat } }' >/etc/oxinetd/services.d/echo.yaml

say "start"
must "it starts" rc start
check "it is started" rc status
same "it serves" hello "$(soon ask 10007 hello; ask 10007 hello)"
dial 10007
same "a session is open" one "$(talk one)"

say "reload"
echo 'services: { more: { listen: 10008, program: /bin/cat } }' >/etc/oxinetd/services.d/more.yaml
check "a good table is taken" rc reload
same "the new service answers" hello "$(ask 10008 hello)"
pid=$(pgrep -x oxinetd)
echo 'services: { more: { listen: 70000, program: /bin/cat } }' >/etc/oxinetd/services.d/more.yaml
check_not "a wrong one is refused" rc reload
check_not "checkconfig says so too" rc checkconfig
check_not "a restart is refused" rc restart
same "nothing has changed" "$pid hello" "$(pgrep -x oxinetd) $(ask 10008 hello)"
same "the session lives on" two "$(talk two)"
rm /etc/oxinetd/services.d/more.yaml

say "an upgrade, as Alpine's package does it"
before_upgrade echo
cp /usr/sbin/oxinetd /usr/sbin/oxinetd.new
another_build /usr/sbin/oxinetd.new
mv /usr/sbin/oxinetd.new /usr/sbin/oxinetd
check "the package's script" sh /packages/oxinetd.post-upgrade
in_place echo
same "the session lives on" upgraded "$(talk upgraded)"
check "OpenRC knows it" rc status

say "restart and stop"
check "it restarts" rc restart
check_not "it is another process" test "$(pgrep -x oxinetd)" = "$pid"
same "it serves" hello "$(soon ask 10007 hello; ask 10007 hello)"
same "the session lives on" three "$(talk three)"
check "it stops" rc stop
check "nobody listens" deaf 10007
same "the session lives on" four "$(talk four)"
check_not "it is not started" rc status
finish
