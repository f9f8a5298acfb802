#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# What can be said of the packaging without building a package: seconds, no privilege, no network. A check whose program
# is absent is skipped, with a line that says so.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$here/packaging" || exit 1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# with PROGRAM : is it there? If not, say so.
with() { command -v "$1" >/dev/null || { printf 'skipped: lint.sh: %s is not installed\n' "$1" && false; }; }

say "scripts"
posix=(install musl openrc/oxinetd.initd alpine/oxinetd.post-upgrade debian/oxinetd.init debian/oxinetd.postinst debian/oxinetd.postrm)
bash=(build source arch/PKGBUILD arch/oxinetd.install alpine/APKBUILD tests/*.sh)
for script in "${posix[@]}"; do check "sh -n $script" sh -n "$script"; done
for script in "${bash[@]}" debian/tests/*; do
    case $script in debian/tests/control) ;; *) check "bash -n $script" bash -n "$script" ;; esac
done
for script in vendor copyright; do
    check "python $script" python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read())' "$script"
done
if with shellcheck; then
    check "shellcheck" shellcheck --external-sources --severity=warning install musl build source debian/oxinetd.post* \
        debian/oxinetd.init tests/*.sh
    check "shellcheck of the OpenRC script" shellcheck --severity=warning --shell=sh --exclude=SC2034 openrc/oxinetd.initd
fi

say "versions"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' ../Cargo.toml | head -n 1)
same "debian/changelog" "$version" "$(sed -n '1s/^oxinetd (\(.*\)-[^-]*) .*/\1/p' debian/changelog)"
same "rpm/oxinetd.spec" "$version" "$(sed -n 's/^Version: *//p' rpm/oxinetd.spec)"
same "arch/PKGBUILD" "$version" "$(sed -n 's/^pkgver=//p' arch/PKGBUILD)"
same "alpine/APKBUILD" "$version" "$(sed -n 's/^pkgver=//p' alpine/APKBUILD)"
rust=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' ../Cargo.toml)
same "Rust of debian/control" "cargo rustc" "$(sed -n "s/^.*\(cargo\|rustc\) (>= $rust).*/\1/p" debian/control | xargs)"
same "Rust of rpm/oxinetd.spec" "cargo rust" "$(sed -n "s/^BuildRequires: *\(cargo\|rust\) >= $rust\$/\1/p" rpm/oxinetd.spec | xargs)"

say "units"
if with systemd-analyze; then
    # As they are, but for the programs, which need not be installed here.
    for unit in systemd/*.service systemd/*.socket systemd/*.path; do
        sed -E 's,^(Exec[A-Za-z]*=)/usr/sbin/oxinet(d|ctl),\1/bin/true,' "$unit" >"$scratch/${unit##*/}"
    done
    found=$(systemd-analyze verify --man=no --recursive-errors=no "$scratch"/oxinetd* 2>&1)
    same "systemd-analyze verify finds nothing" "" "$found"
fi
check "the drop-in has one section" test "$(grep -c '^\[' systemd/oxinetd-hardening.conf)" -eq 1

say "other programs' files"
if with apparmor_parser; then
    check "apparmor_parser takes the profile" apparmor_parser --skip-kernel-load --skip-cache --quiet apparmor/usr.sbin.oxinetd
fi
if with logrotate; then
    check_not "logrotate finds no error" sh -c "logrotate --debug --state '$scratch/state' logrotate/oxinetd 2>&1 | grep '^error'"
fi
if with dpkg-parsechangelog; then
    check "dpkg reads debian/changelog" dpkg-parsechangelog -l debian/changelog
fi
if with rpmspec; then
    check "rpm reads the spec file" rpmspec --load rpm/macros.systemd --parse rpm/oxinetd.spec
fi

say "the default table with /etc/inetd.conf"
mkdir -p "$scratch/etc" "$scratch/built"
printf '#!/bin/sh\n' | tee "$scratch/built/oxinetd" >"$scratch/built/oxinetctl"
chmod +x "$scratch"/built/*
check "packaging/install runs" env DESTDIR="$scratch/tree" prefix=/usr built="$scratch/built" sh install inetd_conf systemd openrc
check "the file is included" grep -q '^  - /etc/inetd\.con\[f\]' "$scratch/tree/etc/oxinetd/oxinetd.yaml"
check "without it, it is not" grep -q '^  #- /etc/inetd\.con\[f\]' ../etc/oxinetd.yaml
finish
