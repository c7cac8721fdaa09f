#!/usr/bin/env bash
# leat beside stock ssh, both to the same stock sshd with aes128-gcm, interleaved; medians with minimum and maximum.
#   quick.sh LEAT [PAIRS [GIGABYTES]]
set -euo pipefail
leat=$(readlink -f "$1")
pairs=${2:-5}
bytes=$((${3:-2} * 1000000000))
here=$(dirname "$(readlink -f "$0")")
load=$(dirname "$leat")/load
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

cipher=aes128-gcm@openssh.com
world_begin
world_sshd
world_serve

# The tunnels stay up through the whole run; the one that is not measured is idle. tunnel NAME COMMAND…
declare -A port pid
tunnel() {
    local name=$1
    shift
    port[$name]=$("$load" port)
    world_start "$name" "$@" "${client_options[@]}" -c "$cipher" -N -L "127.0.0.1:${port[$name]}:127.0.0.1:$serve_port" 127.0.0.1
    pid[$name]=$started_pid
    wait_port "${port[$name]}" "$started_pid" || { cat "$world/$name.log" >&2; exit 1; }
}
tunnel ssh ssh
tunnel io_uring "$leat" -o IoBackend=io_uring
tunnel epoll "$leat" -o IoBackend=epoll
peers=(ssh io_uring epoll)

bulk() {
    local direction=$1 peer=$2 before after took
    before=$(cpu_seconds "${pid[$peer]}")
    took=$("$load" "$direction" 127.0.0.1 "${port[$peer]}" "$bytes")
    after=$(cpu_seconds "${pid[$peer]}")
    record "$direction-MB/s" "$peer" "${took#* }"
    record "$direction-cpu-s/GB" "$peer" "$(awk -v a="$before" -v b="$after" -v n="$bytes" 'BEGIN { print (b - a) / n * 1e9 }')"
}

for ((pair = 1; pair <= pairs; pair++)); do
    [ ! -t 2 ] || printf '\rpair %d of %d ' "$pair" "$pairs" >&2
    for direction in down up; do
        for peer in "${peers[@]}"; do bulk "$direction" "$peer"; done
    done
    for peer in "${peers[@]}"; do
        record opens/s-1 "$peer" "$("$load" opens 127.0.0.1 "${port[$peer]}" 1500 1)"
    done
    for peer in "${peers[@]}"; do
        record opens/s-32 "$peer" "$("$load" opens 127.0.0.1 "${port[$peer]}" 6000 32)"
    done
done
[ ! -t 2 ] || printf '\r\033[K' >&2

echo "leat beside ssh, one sshd, $cipher, $pairs interleaved rounds of $((bytes / 1000000000)) GB: median (min–max), ratio of medians to ssh"
machine
report ssh io_uring epoll
