#!/usr/bin/env bash
# The how-to, for real, on this machine's loopback: a service that is reached only through leatd, leat in front of it.
#   demo.sh LEAT
set -euo pipefail
leat=$(readlink -f "$1")
leatd=$(dirname "$leat")/leatd
bytes=2000000000
here=$(dirname "$(readlink -f "$0")")
load=$(dirname "$leat")/load
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
shown() { printf '  $ %s\n' "$*"; }

world_begin
live=()
[ ! -t 2 ] || live=(-p)

step "1. A far side: the relay leatd on the loopback, and a small web service behind it"
world_leatd "$leatd" leatd
world_client_options "$leatd_port"
world_serve
web_port=$("$load" port)
mkdir "$world/www"
echo "<h1>It works: this page came through leat.</h1>" >"$world/www/index.html"
world_start web python3 -m http.server --bind 127.0.0.1 --directory "$world/www" "$web_port"
wait_port "$web_port" "$started_pid"
echo "  leatd on port $leatd_port, web service on port $web_port, keys and files in $world"

# tunnel PROGRAM: both forwards at once; sets page_port, bulk_port, started_pid.
tunnel() {
    page_port=$("$load" port)
    bulk_port=$("$load" port)
    world_start tunnel "$@" "${client_options[@]}" -N -L "$page_port:127.0.0.1:$web_port" -L "$bulk_port:127.0.0.1:$serve_port" 127.0.0.1
    wait_port "$bulk_port" "$started_pid" || { cat "$world/tunnel.log" >&2; exit 1; }
}
end_tunnel() {
    kill -TERM "$started_pid"
    wait "$started_pid" 2>/dev/null || true
}

step "2. leat in front of it"
tunnel "$leat"
shown "leat -N -L $page_port:localhost:$web_port -L $bulk_port:localhost:$serve_port -p $leatd_port 127.0.0.1"
shown "curl http://localhost:$page_port/"
printf '  %s\n' "$(curl -sS --noproxy '*' "http://localhost:$page_port/")"

step "3. 2 GB through leat"
leat_rate=$("$load" down 127.0.0.1 "$bulk_port" "$bytes" "${live[@]}")
end_tunnel

step "4. The same 2 GB through stock ssh, to the same leatd"
tunnel ssh
ssh_rate=$("$load" down 127.0.0.1 "$bulk_port" "$bytes" "${live[@]}")
end_tunnel

step "5. Side by side"
awk -v l="${leat_rate#* }" -v s="${ssh_rate#* }" 'BEGIN { printf "  leat %.0f MB/s, ssh %.0f MB/s: %.2f times\n", l, s, l / s }'
world_end
echo "  Everything was stopped and removed. Figures to trust, with medians and CPU time: ./dev bench-quick"
