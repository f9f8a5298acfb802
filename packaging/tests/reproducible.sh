#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# Builds the packages twice, in two folders, at two times, with different names and different numbers of jobs, and
# compares what came out byte by byte.
#
# usage: packaging/tests/reproducible.sh [deb] [rpm]       (deb, unless named; minutes for each)
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# -gt 0 ] || set -- deb
case " $* " in *' deb '*) need dpkg-buildpackage dh ;; esac
case " $* " in *' rpm '*) need rpmbuild ;; esac

one=$work/twice/one
two=$work/twice/the-other/folder
rm -rf "$work/twice"
export DEB_BUILD_OPTIONS=nocheck
say "build in $one"
must "it builds" "$here/packaging/build" -o "$one" "$@"
say "build in $two"
must "it builds again" env TZ=Pacific/Kiritimati LC_ALL=C.UTF-8 CARGO_BUILD_JOBS=1 DEB_BUILD_OPTIONS='nocheck parallel=1' \
    "$here/packaging/build" -o "$two" "$@"

say "compare"
for file in "$one"/*.{deb,dsc,tar.xz,rpm}; do
    if [ -e "$file" ]; then
        check "$(sha256sum "$file" | cut -c1-16) ${file##*/}" cmp "$file" "$two/${file##*/}"
    fi
done
finish
