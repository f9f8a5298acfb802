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
        debian/oxinetd.init debian/tests/in* tests/*.sh
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

say "recipes, with another cargo"
# It writes down what it is told, and what it makes are programs of one line.
mkdir -p "$scratch/bin"
cat >"$scratch/bin/cargo" <<'CARGO'
#!/bin/sh
set -eu
grep '^directory = ' "$CARGO_HOME/config.toml" | cut -d'"' -f2 | xargs test -d
echo "$*" >>"$told"
[ "$1" != build ] || { mkdir -p target/release; printf '#!/bin/sh\n' | tee target/release/oxinetd >target/release/oxinetctl; }
[ "$1" != build ] || chmod +x target/release/oxinet*
CARGO
chmod +x "$scratch/bin/cargo"

# recipe NAME SHELL COMMANDS : what makepkg and abuild do with the two archives, and which functions they call.
recipe() {
    local folder=$scratch/$1
    mkdir -p "$folder/src/oxinetd-$version" "$folder/src/vendor"
    cp -r "$here"/{LICENSE-*,etc,man,packaging} "$folder/src/oxinetd-$version/"
    env -i PATH="$scratch/bin:$PATH" told="$folder/told" srcdir="$folder/src" pkgdir="$folder/pkg" startdir="$folder" \
        builddir="$folder/src/oxinetd-$version" "$2" -euc "$3"
}
# The commands that test, one after the other.
test_words() { sed -n 's/.*\(test --frozen .*\)/\1/p' "$1" | paste -sd '|'; }

check "PKGBUILD runs" recipe arch bash '. ./arch/PKGBUILD; for part in prepare build check package; do (cd "$srcdir"; $part); done'
check "APKBUILD runs" recipe alpine sh \
    'default_prepare() { :; }; . ./alpine/APKBUILD; for part in prepare build check package; do (cd "$builddir"; $part); done'
tests=$(test_words debian/rules)
for name in arch alpine; do
    same "$name: what cargo is told" "build --release --frozen --bins|$tests" "$(paste -sd '|' "$scratch/$name/told")"
done
same "rpm: the same tests" "$tests" "$(test_words rpm/oxinetd.spec)"
check_not "Arch: nothing looks for us in /usr/sbin" grep -r /usr/sbin/oxinet "$scratch/arch/pkg" --exclude-dir=man
(
    # shellcheck source=/dev/null
    . ./arch/PKGBUILD
    # shellcheck disable=SC2154
    for file in "${backup[@]}"; do test -f "$scratch/arch/pkg/$file" || exit 1; done
    # shellcheck disable=SC2154
    test -f "arch/$install"
)
same "Arch: the files that it backs up and its script are there" 0 "$?"
for name in $(sed -n 's/^install="\(.*\)"$/\1/p' alpine/APKBUILD); do
    check "Alpine: ${name/\$pkgname/oxinetd} is there" test -f "alpine/${name/\$pkgname/oxinetd}"
done
check "Alpine: the service script is there" test -x "$scratch/alpine/pkg/etc/init.d/oxinetd"
if command -v namcap >/dev/null; then
    same "namcap finds nothing" "" "$(namcap arch/PKGBUILD)"
fi

say "the default table with /etc/inetd.conf"
mkdir -p "$scratch/etc" "$scratch/built"
printf '#!/bin/sh\n' | tee "$scratch/built/oxinetd" >"$scratch/built/oxinetctl"
chmod +x "$scratch"/built/*
check "packaging/install runs" env DESTDIR="$scratch/tree" prefix=/usr built="$scratch/built" sh install inetd_conf systemd openrc
check "the file is included" grep -q '^  - /etc/inetd\.con\[f\]' "$scratch/tree/etc/oxinetd/oxinetd.yaml"
check "without it, it is not" grep -q '^  #- /etc/inetd\.con\[f\]' ../etc/oxinetd.yaml
finish
