# shellcheck shell=bash
# For demo.sh: a throwaway folder with keys and a leatd of its own, everything stopped by its own pid and removed at the
# end, also when interrupted. Source it, then call world_begin.

world_begin() {
    world=$(mktemp -d "${TMPDIR:-/tmp}/leat-XXXXXX")
    world_pids=()
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
    rm -rf "$world"
}

# Starts a command in the background; its output goes to $world/NAME.log. world_start NAME COMMAND…
world_start() {
    local name=$1
    shift
    "$@" >"$world/$name.log" 2>&1 </dev/null 9>&- &
    started_pid=$!
    world_pids+=("$started_pid")
}

# Waits for what NAME, the process PID, prints, as sed finds it. world_said NAME PID EXPRESSION
world_said() {
    local said=
    until said=$(sed -n "$3" "$world/$1.log") && [ -n "$said" ]; do
        kill -0 "$2" 2>/dev/null || { cat "$world/$1.log" >&2; return 1; }
        sleep 0.05
    done
    echo "$said"
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

# Sets VARIABLE to a port on which nothing listens, from below the range of outgoing connections, so that none of those
# takes it meanwhile.
free_port() {
    local port=
    while [ -z "$port" ] || (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((10240 + RANDOM % 22528)); done
    printf -v "$1" %s "$port"
}

# A leatd on a free port of the loopback, with throwaway keys, and the options of a client for it. world_leatd PROGRAM;
# sets leatd_port and client_options.
world_leatd() {
    local program=$1
    ssh-keygen -q -t ed25519 -N '' -f "$world/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$world/user_key"
    leatd_port=''
    free_port leatd_port
    {
        cat <<TEXT
Port $leatd_port
ListenAddress 127.0.0.1
HostKey $world/host_key
AuthorizedKeysFile $world/user_key.pub
StrictModes no
PidFile none
LogLevel ERROR
TEXT
        [ "$(id -u)" != 0 ] || echo "User root"
    } >"$world/leatd.conf"
    world_start leatd "$program" -D -e -f "$world/leatd.conf"
    wait_port "$leatd_port" "$started_pid" || { cat "$world/leatd.log" >&2; return 1; }
    printf '[127.0.0.1]:%s %s\n' "$leatd_port" "$(cut -d' ' -f1,2 "$world/host_key.pub")" >"$world/known_hosts"
    # shellcheck disable=SC2034
    client_options=(-F none -p "$leatd_port" -i "$world/user_key" -o IdentitiesOnly=yes -o BatchMode=yes
        -o "UserKnownHostsFile=$world/known_hosts" -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes)
}

# The far end of the load, which lives as long as this shell has descriptor 9. world_target LEAT_BENCH; sets target_port.
world_target() {
    mkfifo "$world/target.in"
    "$1" target <"$world/target.in" >"$world/target.log" &
    world_pids+=("$!")
    exec 9>"$world/target.in"
    # shellcheck disable=SC2034
    target_port=$(world_said target "$!" p)
}
