#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The package for Arch: made by makepkg, installed by pacman into a tree of its own, verified there, changed, installed
# again, and removed.
#
# usage: packaging/tests/arch.sh       (after packaging/build, whose archives it takes; minutes)
#
# Needs root, makepkg, pacman, mmdebstrap and Debian's packages: the tree is a Debian, and so is what makepkg builds with.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need makepkg pacman bsdtar fakeroot cargo unshare mmdebstrap
source=$(package 'oxinetd_*.orig.tar.xz') || { echo "$source"; exit 0; }
tar=$(debian_tree bookworm-plain bookworm apt,ca-certificates,procps) || skip "no Debian to be had"
folder=$work/arch
tree=$work/trees/run-arch
trap 'rm -rf "$tree" "$folder/src" "$folder/pkg"' EXIT
rm -rf "$folder"
mkdir -p "$folder"
cp "$here"/packaging/arch/* "${source%.orig.tar.xz}".orig*.tar.xz "$folder/"

say "makepkg"
# It won't be root, and is told that it isn't. What it needs is not from packages of pacman's. The tests have run in the
# other packages.
must "it makes the package" env -C "$folder" unshare --user --map-user=1000 --map-group=1000 \
    makepkg --nodeps --nocheck --nocolor --noconfirm
file=$(find "$folder" -maxdepth 1 -name 'oxinetd-[0-9]*.pkg.tar*')
ok "$(du -k "$file" | cut -f1) KiB ${file##*/}"

say "pacman"
unpack_tree "$tar" "$tree"
mkdir -p "$tree/var/lib/pacman"
(cd "$tree" && find . -xdev | sort) >"$folder/before"
printf '[options]\nArchitecture = auto\nSigLevel = Never\n' >"$folder/pacman.conf"
pacman=(pacman --config "$folder/pacman.conf" --root "$tree" --noconfirm)
# What it depends on is there, but as Debian's packages.
must "it is installed" "${pacman[@]}" -U --nodeps --nodeps "$file"
check "pacman finds all files as they should be" "${pacman[@]}" -Qkk oxinetd
works_in "$tree"
same "the unit starts what is installed" /usr/bin/oxinetd "$(sed -n 's/^ExecStart=//p' "$tree/usr/lib/systemd/system/oxinetd.service")"

say "what the administrator has changed stays"
echo '# changed by hand' >>"$tree/etc/oxinetd/oxinetd.yaml"
check "it is installed again" "${pacman[@]}" -U --nodeps --nodeps "$file"
check "the change is there" grep -q 'changed by hand' "$tree/etc/oxinetd/oxinetd.yaml"

say "removal"
check "it is removed" "${pacman[@]}" -R oxinetd
check "the changed table is kept aside" test -e "$tree/etc/oxinetd/oxinetd.yaml.pacsave"
rm -r "$tree/etc/oxinetd"
same "nothing else is left" "" "$(cd "$tree" && find . -xdev | sort | comm -13 "$folder/before" - | grep -i oxinet)"
finish
