#!/usr/bin/env bash
# SPDX-License-Identifier: MIT OR Apache-2.0
#
# The image of packaging/docker, put together as its Dockerfile says, but without docker: each stage is a Debian tree,
# each RUN a chroot. Then its entry point is the first process of a namespace, and git clones from it.
#
# usage: packaging/tests/docker.sh       (after packaging/build, whose archive of crates stands for crates.io; minutes)
#
# Needs root, mmdebstrap, git and Debian's packages.
set -uo pipefail
# shellcheck source=SCRIPTDIR/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root
need mmdebstrap unshare nsenter ip git python3
tar=$(debian_tree trixie-slim trixie apt) || skip "no Debian 13 to be had"
crates=$(package 'oxinetd_*.orig-vendor.tar.xz') || { echo "$crates"; exit 0; }
stages=$work/trees/run-docker
trap 'kill -KILL ${keeper:-} 2>/dev/null; rm -rf "$stages"' EXIT
rm -rf "$stages"

# What the build would fetch, in the form of a Cargo home.
home=$stages/cargo
mkdir -p "$home"
tar -x -C "$home" -f "$crates"
printf '%s\n' '[source.crates-io]' 'replace-with = "vendor"' '[source.vendor]' 'directory = "/mnt/vendor"' >"$home/config.toml"

# --- what the words of a Dockerfile do

entry=()
health=()
strings() { python3 -c 'import json, sys; print("\n".join(json.loads(sys.argv[1])))' "$1"; }

# FROM IMAGE [AS NAME]
do_from() {
    [ "$1" = debian:13-slim ] || { bad "no tree stands for the image $1"; return 1; }
    stage=$stages/${3:-last}
    folder=/
    unpack_tree "$tar" "$stage"
    cp /etc/resolv.conf "$stage/etc/resolv.conf"
}

# COPY [--from=NAME] FROM TO : from another stage, or from the checkout as its last commit has it.
do_copy() {
    mkdir -p "$stage${*: -1}"
    case $1 in
        --from=*) cp -a "$stages/${1#--from=}$2/." "$stage$3" ;;
        *) git -C "$here" archive HEAD "$1" | tar -x -C "$stage$2" ;;
    esac
}

do_run() {
    unshare --mount --pid --fork --mount-proc bash -ec "mount -t proc proc '$stage/proc'; mount --rbind /dev '$stage/dev'
        mount --bind '$home' '$stage/mnt'; exec env CARGO_HOME=/mnt nice chroot '$stage' sh -c \"\$1\"" - "cd $folder && $1"
}

obey() {
    local word=$1 rest=$2 words
    read -r -a words <<<"$rest"
    case $word in
        FROM) do_from "${words[@]}" ;;
        COPY) do_copy "${words[@]}" ;;
        WORKDIR) folder=$rest ;;
        RUN) do_run "$rest" ;;
        ENTRYPOINT) mapfile -t entry < <(strings "$rest") ;;
        HEALTHCHECK) mapfile -t health < <(strings "${rest#CMD }") ;;
        EXPOSE) port=$rest ;;
        STOPSIGNAL) signal=$rest ;;
        *) bad "nobody has thought of $word"; return 1 ;;
    esac
}

say "build"
while IFS= read -r line; do
    must "$line" obey "${line%% *}" "${line#* }"
done < <(sed -e '/^ *#/d' -e '/^$/d' -e ':more' -e '/\\$/{N; s/\\\n *//; b more}' "$here/packaging/docker/Dockerfile")
must "it has an entry point, a port and a signal" test -n "${entry[*]}" -a -n "${port:-}" -a -n "${signal:-}"
ok "$(du -sk "$stage/usr/sbin/oxinetd" | cut -f1) KiB the program"

say "run"
git init --quiet --bare "$stage/srv/git/example.git"
commit=$(git -C "$stage/srv/git/example.git" -c user.name=test -c user.email=test@example.org commit-tree -m first \
    "$(git -C "$stage/srv/git/example.git" mktree </dev/null)")
git -C "$stage/srv/git/example.git" update-ref refs/heads/main "$commit"
chroot "$stage" chown -R git: /srv/git
unshare --pid --net --mount --fork bash -ec "ip link set lo up; mount -t proc proc '$stage/proc'
    mount --rbind /dev '$stage/dev'; exec chroot '$stage' ${entry[*]@Q}" 2>"$stages/log" &
keeper=$!
started() { first=$(pgrep -P "$keeper") && grep -q '^[^ ]* start ' "$stages/log"; }
must "it starts" soon started
inside() { nsenter --target "$first" --pid --net --mount --root "$@"; }
same "it is the first process" oxinetd "$(inside cat /proc/1/comm)"
check "its health is good" inside "${health[@]}"
same "git sees the commit" "$commit" "$(nsenter --target "$first" --net git ls-remote "git://127.0.0.1:$port/example.git" refs/heads/main | cut -f1)"
check "a reload is taken" inside oxinetctl reload
kill -"${signal#SIG}" "$first"
wait "$keeper"
same "it is told to stop, and the exit status is" 0 "$?"
finish || cat "$stages/log"
[ "$failed" -eq 0 ]
