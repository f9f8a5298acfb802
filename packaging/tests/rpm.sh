#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The RPM, installed into a tree of its own and verified there, changed, installed again, and removed.
#
# usage: packaging/tests/rpm.sh       (after packaging/build rpm)
#
# Needs root, rpm, mmdebstrap and Debian's packages: the tree is a Debian, because scriptlets need a shell.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need rpm mmdebstrap
file=$(package 'oxinetd-*.x86_64.rpm') || { echo "$file"; exit 0; }
tar=$(debian_tree bookworm-plain bookworm apt,ca-certificates,procps) || skip "no Debian to be had"
tree=$work/trees/run-rpm
trap 'rm -rf "$tree"' EXIT
unpack_tree "$tar" "$tree"
(cd "$tree" && find . -xdev | sort) >"$work/rpm-before"

# Debian's rpm wants to be told that it is meant.
rpm=(rpm --root "$tree")
! rpm --help | grep -q force-debian || rpm+=(--force-debian)

say "install"
rpm --root "$tree" --initdb
# What it requires is there, but as Debian's packages, of which rpm knows nothing.
must "it is installed" "${rpm[@]}" --install --nodeps "$file"
same "rpm -V has nothing to say" "" "$("${rpm[@]}" --verify --nodeps oxinetd 2>&1)"
works_in "$tree"

say "what the administrator has changed stays"
echo '# changed by hand' >>"$tree/etc/oxinetd/oxinetd.yaml"
case $("${rpm[@]}" --verify --nodeps oxinetd) in
    *' c /etc/oxinetd/oxinetd.yaml') ok "rpm -V names the one file" ;;
    *) bad "rpm -V names the one file" ;;
esac
check "it is installed again" "${rpm[@]}" --upgrade --nodeps --replacepkgs "$file"
check "the change is there" grep -q 'changed by hand' "$tree/etc/oxinetd/oxinetd.yaml"

say "removal"
check "it is removed" "${rpm[@]}" --erase oxinetd
check "the changed table is kept aside" test -e "$tree/etc/oxinetd/oxinetd.yaml.rpmsave"
rm -r "$tree/etc/oxinetd"
same "nothing else is left" "" "$(cd "$tree" && find . -xdev | sort | comm -13 "$work/rpm-before" - | grep -i oxinet)"

if command -v rpmlint >/dev/null; then
    say "rpmlint"
    check "rpmlint finds nothing" rpmlint --config "$here/packaging/rpm/rpmlint.toml" --strict "$file" "$here/packaging/rpm/oxinetd.spec"
fi
finish
