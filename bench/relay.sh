#!/usr/bin/env bash
# leatd beside sshd, and leat→leatd beside ssh→sshd, interleaved; medians with minimum and maximum.
#   relay.sh BIN_DIR [ROUNDS [GIGABYTES]]
# Bulk throughput each way and the CPU seconds per GB of client and server; whole jumps per second with 16 clients at once;
# memory of idle connections; the plain relay beside HAProxy's (where it is installed).
set -euo pipefail
bin=$(readlink -f "$1")
rounds=${2:-5}
bytes=$((${3:-1} * 1000000000))
here=$(dirname "$(readlink -f "$0")")
load=$bin/load
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

cipher=aes128-gcm@openssh.com
jumps_count=200
held_count=50
world_begin
world_sshd
world_serve

declare -A server_port server_pid relay_port port client_pid
server_port[sshd]=$sshd_port
server_pid[sshd]=$sshd_pid
for backend in io_uring epoll; do
    relay_port[leatd-$backend]=$("$load" port)
    world_leatd "$bin/leatd" "leatd-$backend" "IoBackend $backend" "Relay 127.0.0.1:${relay_port[leatd-$backend]} 127.0.0.1:$serve_port"
    server_port[leatd-$backend]=$leatd_port
    server_pid[leatd-$backend]=$started_pid
done

# A tunnel that stays up; the one that is not measured is idle. tunnel NAME SERVER COMMAND…
declare -A server_of
tunnel() {
    local name=$1 server=$2
    shift 2
    port[$name]=$("$load" port)
    server_of[$name]=$server
    world_client_options "${server_port[$server]}"
    world_start "$name" "$@" "${client_options[@]}" -c "$cipher" -N -L "127.0.0.1:${port[$name]}:127.0.0.1:$serve_port" 127.0.0.1
    client_pid[$name]=$started_pid
    wait_port "${port[$name]}" "$started_pid" || { cat "$world/$name.log" >&2; exit 1; }
}
tunnel 'ssh→sshd' sshd ssh
tunnel 'leat→leatd' leatd-io_uring "$bin/leat" -o IoBackend=io_uring
tunnel 'leat→leatd,epoll' leatd-epoll "$bin/leat" -o IoBackend=epoll
tunnel 'ssh→leatd' leatd-io_uring ssh
bulk_peers=('ssh→sshd' 'leat→leatd' 'leat→leatd,epoll' 'ssh→leatd')

# The ceiling pair stands where client and server stand.
far_port=$("$load" port)
port[ceiling]=$("$load" port)
world_start far "$bin/ceiling" far "$far_port" 127.0.0.1 "$serve_port"
server_pid[ceiling]=$started_pid
server_of[ceiling]=ceiling
world_start near "$bin/ceiling" near "${port[ceiling]}" 127.0.0.1 "$far_port"
client_pid[ceiling]=$started_pid
wait_listen "${port[ceiling]}"
wait_listen "$far_port"
bulk_peers+=(ceiling)

# Plain relays: leatd's Relay stands in its configuration, HAProxy beside it.
plain_peers=(leatd-io_uring leatd-epoll)
if command -v haproxy >/dev/null; then
    haproxy_port=$("$load" port)
    cat >"$world/haproxy.cfg" <<TEXT
global
    nbthread 2
defaults
    mode tcp
    option splice-auto
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen relay
    bind 127.0.0.1:$haproxy_port
    server target 127.0.0.1:$serve_port
TEXT
    world_start haproxy haproxy -db -f "$world/haproxy.cfg"
    server_pid[haproxy]=$started_pid
    wait_port "$haproxy_port" "$started_pid"
    relay_port[haproxy]=$haproxy_port
    plain_peers=(haproxy "${plain_peers[@]}")
fi

per_gb() { awk -v a="$1" -v b="$2" -v n="$bytes" 'BEGIN { print (b - a) / n * 1e9 }'; }

bulk() {
    local direction=$1 peer=$2 took client server
    client=$(cpu_seconds "${client_pid[$peer]}")
    server=$(cpu_seconds "${server_pid[${server_of[$peer]}]}")
    took=$("$load" "$direction" 127.0.0.1 "${port[$peer]}" "$bytes")
    client=$(per_gb "$client" "$(cpu_seconds "${client_pid[$peer]}")")
    server=$(per_gb "$server" "$(cpu_seconds "${server_pid[${server_of[$peer]}]}")")
    record "$direction-MB/s" "$peer" "${took#* }"
    record "$direction-cpu-s/GB" "$peer" "$(awk -v a="$client" -v b="$server" 'BEGIN { print a + b }')"
    record "$direction-server-s/GB" "$peer" "$server"
}

plain() {
    local direction=$1 peer=$2 took before
    before=$(cpu_seconds "${server_pid[$peer]}")
    took=$("$load" "$direction" 127.0.0.1 "${relay_port[$peer]}" "$bytes")
    record "plain-$direction-MB/s" "$peer" "${took#* }"
    record "plain-$direction-cpu-s/GB" "$peer" "$(per_gb "$before" "$(cpu_seconds "${server_pid[$peer]}")")"
}

# Resident memory of a server and all below it, shared pages counted once among them (Pss), in KiB.
memory() {
    local pid pids=("$1") sum=0
    while [ "${#pids[@]}" -gt 0 ]; do
        for pid in "${pids[@]}"; do sum=$((sum + $(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup" 2>/dev/null || echo 0))); done
        mapfile -t pids < <(for pid in "${pids[@]}"; do tr ' ' '\n' <"/proc/$pid/task/$pid/children" 2>/dev/null; done | grep . || true)
    done
    echo "$sum"
}

held() {
    local peer=$1 before holder
    before=$(memory "${server_pid[$peer]}")
    rm -f "$world/hold.in"
    mkfifo "$world/hold.in"
    "$bin/jumps" "${server_port[$peer]}" "$world/user_key" "$serve_port" hold "$held_count" <"$world/hold.in" >"$world/hold.out" &
    holder=$!
    world_pids+=("$holder")
    exec 8>"$world/hold.in"
    until [ -s "$world/hold.out" ]; do
        kill -0 "$holder" || exit 1
        sleep 0.05
    done
    sleep 2 # what is given back when a connection is quiet, is given back
    record idle-KiB/connection "$peer" "$(awk -v a="$before" -v b="$(memory "${server_pid[$peer]}")" -v n="$held_count" 'BEGIN { print (b - a) / n }')"
    exec 8>&-
    wait "$holder"
}

# First, before a transfer has made any of them larger.
for peer in sshd leatd-io_uring leatd-epoll; do held "$peer"; done
for ((round = 1; round <= rounds; round++)); do
    [ ! -t 2 ] || printf '\rround %d of %d ' "$round" "$rounds" >&2
    for direction in down up; do
        for peer in "${bulk_peers[@]}"; do bulk "$direction" "$peer"; done
        for peer in "${plain_peers[@]}"; do plain "$direction" "$peer"; done
    done
    for peer in sshd leatd-io_uring leatd-epoll; do
        record jumps/s "$peer" "$("$bin/jumps" "${server_port[$peer]}" "$world/user_key" "$serve_port" "$jumps_count" 16)"
    done
done
[ ! -t 2 ] || printf '\r\033[K' >&2

echo "leatd beside sshd, $cipher, $rounds interleaved rounds of $((bytes / 1000000000)) GB, $jumps_count jumps: median (min–max), ratio of medians to the row's first"
machine
bulk_results=$(grep -E '^(down|up)-' "$world/results")
server_results=$(grep -vE '^(down|up)-' "$world/results")
echo "$bulk_results" >"$world/results"
report "${bulk_peers[@]}"
echo "$server_results" >"$world/results"
report sshd haproxy leatd-io_uring leatd-epoll
