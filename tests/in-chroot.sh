#!/usr/bin/env bash
# Builds and tests leat in a Debian chroot: tests/in-chroot.sh SUITE [arguments for ctest]. Needs root and debootstrap.
# The chroot is kept under build-chroot/SUITE, so that the next run only updates it; `./dev clean` removes it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
suite=$1
case "$suite" in
trixie | sid | bookworm) ;;
*) echo "in-chroot: unknown suite '$suite' (trixie, sid)" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "in-chroot: needs root for chroot(8)" >&2; exit 1; }

# Mounts and processes live in namespaces of their own: whatever happens here, neither outlasts this run, and nobody
# outside who removes the chroot finds the machine's /dev in it.
if [ -z "${LEAT_IN_CHROOT:-}" ]; then
    command -v debootstrap >/dev/null || apt-get -qq install -y debootstrap >/dev/null
    # unshare itself puts signals off until its child has ended; with it everything in the namespaces is killed.
    LEAT_IN_CHROOT=1 unshare --mount --propagation private --pid --fork --kill-child -- "$0" "$@" <&0 &
    trap 'kill -KILL $!; exit 130' INT
    trap 'kill -KILL $!; exit 143' TERM HUP
    wait $!
    exit
fi
shift

root=$PWD/build-chroot/$suite
# The machine's own Debian mirror, where it has one.
mirror=$(awk '/^URIs:/ { print $2 } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) print $i }' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null | grep -m 1 '/debian/*$' || true)
if [ ! -e "$root/.complete" ]; then
    rm -rf --one-file-system "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
    touch "$root/.complete"
fi

# The tests need /proc, ptys and shared memory.
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp /etc/hosts "$root/etc/hosts" 2>/dev/null || true
for f in /etc/apt/apt.conf.d/*proxy*; do [ ! -e "$f" ] || cp "$f" "$root/etc/apt/apt.conf.d/"; done
# A mirror that lags makes a chroot all the same (debootstrap asks no more); signatures are checked.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/90in-chroot"
# A package's daemon (sshd on port 22) is not to be started.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"

# What was built stays for the next run; sources that are gone go.
src=$root/src/leat
mkdir -p "$src"
find "$src" -mindepth 1 -maxdepth 1 ! -name 'build*' -exec rm -rf {} +
git -c safe.directory="$PWD" ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read --owner=0 --group=0 -cf - | tar -C "$src" -xf -

in_chroot=(chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
    DEBIAN_FRONTEND=noninteractive TERM="${TERM:-dumb}")
"${in_chroot[@]}" apt-get -qq update
"${in_chroot[@]}" apt-get -qq -y dist-upgrade >/dev/null
"${in_chroot[@]}" /src/leat/dev packages
# From here on there is no network but a loopback of its own: what else runs on this machine, another run of the tests
# perhaps, takes none of the ports they have found free.
# shellcheck disable=SC2016
unshare --net -- "${in_chroot[@]}" sh -c 'ip link set lo up && exec /src/leat/dev test "$@"' test "$@"
