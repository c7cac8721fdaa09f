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

# A stock sshd on a free port of the loopback, for the current user and one throwaway key. Sets sshd_port.
world_sshd() {
    local sshd
    sshd=$(command -v sshd || echo /usr/sbin/sshd)
    ssh-keygen -q -t ed25519 -N '' -f "$world/host_key"
    ssh-keygen -q -t ed25519 -N '' -f "$world/user_key"
    cp "$world/user_key.pub" "$world/authorized_keys"
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
    wait_port "$sshd_port" "$started_pid" || { cat "$world/sshd.log" >&2; return 1; }
    printf '[127.0.0.1]:%s %s\n' "$sshd_port" "$(cut -d' ' -f1,2 "$world/host_key.pub")" >"$world/known_hosts"
    client_options=(-F none -p "$sshd_port" -i "$world/user_key" -o IdentitiesOnly=yes -o BatchMode=yes
        -o "UserKnownHostsFile=$world/known_hosts" -o StrictHostKeyChecking=yes -o ExitOnForwardFailure=yes)
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
