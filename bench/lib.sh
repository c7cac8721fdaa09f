# Shared by demo.sh and quick.sh: a throwaway folder with keys and an sshd of its own, everything stopped by its own pid and
# removed at the end, also when interrupted. Source it, then call world_begin.

world_begin() {
    world=$(mktemp -d "${TMPDIR:-/tmp}/leat-XXXXXX")
    world_pids=()
    world_run_sshd=no
    export XDG_CACHE_HOME=$world/cache # leat remembers its self-check there
    trap world_end EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP PIPE
}

world_end() {
    local pid
    trap - EXIT
    trap '' INT TERM HUP PIPE # nothing cuts the cleaning short
    for pid in "${world_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    for pid in "${world_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
    [ "$world_run_sshd" = no ] || rmdir /run/sshd 2>/dev/null || true
    rm -rf "$world"
}

# Starts a command in the background; its output goes to $world/NAME.log. world_start NAME COMMAND…
world_start() {
    local name=$1
    shift
    "$@" >"$world/$name.log" 2>&1 </dev/null &
    started_pid=$!
    world_pids+=("$started_pid")
}

# Waits until something listens on PORT, or the process PID is gone.
wait_port() {
    local port=$1 pid=$2 i
    for ((i = 0; i < 200; i++)); do
        if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then return 0; fi
        kill -0 "$pid" 2>/dev/null || return 1
        sleep 0.05
    done
    return 1
}

# Throwaway keys of a server and a user, once.
world_keys() {
    [ ! -f "$world/host_key" ] || return 0
    ssh-keygen -q -t ed25519 -N '' -f "$world/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$world/user_key"
    cp "$world/user_key.pub" "$world/authorized_keys"
}

# A stock sshd on a free port of the loopback, for the current user and one throwaway key. Sets sshd_port.
world_sshd() {
    local sshd
    sshd=$(command -v sshd || echo /usr/sbin/sshd)
    world_keys
    sshd_port=$("$load" port)
    if [ "$(id -u)" = 0 ] && [ ! -d /run/sshd ]; then
        mkdir -m 755 /run/sshd
        world_run_sshd=yes
    fi
    cat >"$world/sshd_config" <<TEXT
Port $sshd_port
ListenAddress 127.0.0.1
HostKey $world/host_key
AuthorizedKeysFile $world/authorized_keys
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
MaxStartups 100
TEXT
    world_start sshd "$sshd" -D -e -f "$world/sshd_config"
    sshd_pid=$started_pid
    wait_port "$sshd_port" "$started_pid" || { cat "$world/sshd.log" >&2; return 1; }
    world_client_options "$sshd_port"
}

# A leatd on a free port of the loopback, with the keys of world_sshd. world_leatd PROGRAM NAME DIRECTIVE…; sets leatd_port
# and started_pid.
world_leatd() {
    local program=$1 name=$2
    shift 2
    world_keys
    leatd_port=$("$load" port)
    {
        printf '%s\n' "$@"
        cat <<TEXT
Port $leatd_port
ListenAddress 127.0.0.1
HostKey $world/host_key
AuthorizedKeysFile $world/authorized_keys
StrictModes no
PidFile none
MaxStartups 100
LogLevel ERROR
TEXT
        [ "$(id -u)" != 0 ] || echo "User root"
    } >"$world/$name.conf"
    world_start "$name" "$program" -D -e -f "$world/$name.conf"
    wait_port "$leatd_port" "$started_pid" || { cat "$world/$name.log" >&2; return 1; }
}

# Sets client_options for the server on PORT.
world_client_options() {
    printf '[127.0.0.1]:%s %s\n' "$1" "$(cut -d' ' -f1,2 "$world/host_key.pub")" >>"$world/known_hosts"
    client_options=(-F none -p "$1" -i "$world/user_key" -o IdentitiesOnly=yes -o BatchMode=yes
        -o "UserKnownHostsFile=$world/known_hosts" -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes)
}

# Waits until something of ours listens on PORT, without connecting to it.
wait_listen() {
    until [ -n "$(ss -Hltn "sport = :$1")" ]; do sleep 0.02; done
}

# The load server: sets serve_port.
world_serve() {
    mkfifo "$world/serve.in"
    "$load" serve <"$world/serve.in" >"$world/serve.out" &
    world_pids+=("$!")
    exec 9>"$world/serve.in" # held open as long as this shell lives
    until [ -s "$world/serve.out" ]; do sleep 0.02; done
    serve_port=$(cat "$world/serve.out")
}

# User and system seconds of processes and all below them, so far. cpu_seconds PID…
cpu_seconds() {
    local pid pids=("$@") all=()
    while [ "${#pids[@]}" -gt 0 ]; do
        all+=("${pids[@]}")
        mapfile -t pids < <(for pid in "${pids[@]}"; do tr ' ' '\n' <"/proc/$pid/task/$pid/children" 2>/dev/null; done | grep . || true)
    done
    for pid in "${all[@]}"; do cat "/proc/$pid/stat" 2>/dev/null || true; done |
        awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); sum += $12 + $13 } END { print sum / hz }'
}

# One figure of one round. record SCENARIO PEER VALUE
record() { echo "$*" >>"$world/results"; }

machine() {
    echo "$(nproc) cores, $(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo), Linux $(uname -r), $(ssh -V 2>&1)"
}

# A row per scenario, a column per peer: median (minimum–maximum) and its ratio to the first peer that has the scenario.
# report PEER…
report() {
    sort -k1,1 -k2,2 -k3,3g "$world/results" | awk -v peers="$*" '
    function flush_group() {
        if (n == 0) return
        median[key] = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
        low[key] = v[1]; high[key] = v[n]; n = 0
    }
    { k = $1 SUBSEP $2; if (k != key) { flush_group(); key = k; if (!($1 in seen)) { seen[$1] = 1; order[++count] = $1 } } v[++n] = $3 }
    END {
        flush_group()
        columns = split(peers, peer, " ")
        printf "%-20s", ""
        for (c = 1; c <= columns; c++) printf " %32s", peer[c]
        printf "\n"
        for (i = 1; i <= count; i++) {
            s = order[i]; base = 0
            printf "%-20s", s
            for (c = 1; c <= columns; c++) {
                at = s SUBSEP peer[c]
                if (!(at in median)) { printf " %32s", "–"; continue }
                if (base == 0) base = median[at]
                printf " %24s %6.2fx", sprintf("%.4g (%.4g–%.4g)", median[at], low[at], high[at]), base ? median[at] / base : 0
            }
            printf "\n"
        }
    }'
}
