#!/usr/bin/env bash
# Builds and tests leat in a Debian chroot: tests/in-chroot.sh SUITE [arguments for ctest]. Needs root and debootstrap.
# The chroot is kept under build-chroot/SUITE, so that the next run only updates it; `./dev clean` removes it.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
suite=$1
shift
case "$suite" in
trixie | sid | bookworm) ;;
*) echo "in-chroot: unknown suite '$suite' (trixie, sid)" >&2; exit 2 ;;
esac
[ "$(id -u)" = 0 ] || { echo "in-chroot: needs root for chroot(8)" >&2; exit 1; }
command -v debootstrap >/dev/null || apt-get -qq install -y debootstrap >/dev/null

root=$PWD/build-chroot/$suite
mirror=$(awk '/^URIs:/ { print $2; exit } /^deb / { for (i = 2; i <= NF; i++) if ($i ~ /^http/) { print $i; exit } }' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true)
if [ ! -x "$root/usr/bin/apt-get" ]; then
    mkdir -p "$root"
    debootstrap --variant=minbase "$suite" "$root" ${mirror:+"$mirror"}
fi

# The tests need /proc, ptys and shared memory; unmounted whatever happens.
unmount() { for m in dev/pts dev/shm dev proc; do umount -l "$root/$m" 2>/dev/null || true; done; }
trap unmount EXIT
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --make-rslave "$root/dev"
cp /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
cp /etc/hosts "$root/etc/hosts" 2>/dev/null || true
for f in /etc/apt/apt.conf.d/*proxy*; do [ ! -e "$f" ] || cp "$f" "$root/etc/apt/apt.conf.d/"; done

mkdir -p "$root/src/leat"
git ls-files -z --cached --others --exclude-standard | tar --null --files-from=- -cf - | tar -C "$root/src/leat" -xf -
exec_in() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 TERM="${TERM:-dumb}" "$@"; }
exec_in apt-get -qq update
exec_in /src/leat/dev test "$@"
