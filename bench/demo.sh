#!/usr/bin/env bash
# The how-to, for real, on this machine's loopback: a service that is reached only through leatd, leat in front of it.
#   demo.sh LEAT
set -euo pipefail
leat=$(readlink -f "$1")
leatd=$(dirname "$leat")/leatd
bench=$(dirname "$leat")/leat-bench
here=$(dirname "$(readlink -f "$0")")
# shellcheck source=bench/lib.sh
. "$here/lib.sh"

step() { printf '\n\033[1m%s\033[0m\n' "$*"; }
shown() { printf '  $ %s\n' "$*"; }

world_begin

step "1. A far side: the relay leatd on the loopback, and a small web service behind it"
world_leatd "$leatd"
world_target "$bench"
mkdir "$world/www"
echo "<h1>It works: this page came through leat.</h1>" >"$world/www/index.html"
world_start web python3 -u -m http.server --bind 127.0.0.1 --directory "$world/www" 0
web_port=$(world_said web "$started_pid" 's/.* port \([0-9]*\) .*/\1/p')
echo "  leatd on port $leatd_port, web service on port $web_port, keys and files in $world"

page_port='' bulk_port=''
# tunnel PROGRAM: both forwards at once; sets page_port, bulk_port, started_pid.
tunnel() {
    free_port page_port
    free_port bulk_port
    world_start tunnel "$@" "${client_options[@]}" -N -L "$page_port:127.0.0.1:$web_port" -L "$bulk_port:127.0.0.1:$target_port" 127.0.0.1
    wait_port "$bulk_port" "$started_pid" || { cat "$world/tunnel.log" >&2; exit 1; }
}
end_tunnel() {
    kill -TERM "$started_pid"
    wait "$started_pid" 2>/dev/null || true
}

step "2. leat in front of it"
tunnel "$leat"
shown "leat -N -L $page_port:localhost:$web_port -L $bulk_port:localhost:$target_port -p $leatd_port 127.0.0.1"
shown "curl http://localhost:$page_port/"
printf '  %s\n' "$(curl -sS --noproxy '*' "http://localhost:$page_port/")"

step "3. 2 GB through leat, every byte checked"
leat_rate=$("$bench" load down "127.0.0.1:$bulk_port" 2G)
end_tunnel

step "4. The same 2 GB through stock ssh, to the same leatd"
tunnel ssh
ssh_rate=$("$bench" load down "127.0.0.1:$bulk_port" 2G)
end_tunnel

step "5. Side by side"
awk -v l="${leat_rate#* }" -v s="${ssh_rate#* }" 'BEGIN { printf "  leat %.0f MB/s, ssh %.0f MB/s: %.2f times\n", l, s, l / s }'
world_end
echo "  Everything was stopped and removed. Figures to trust, with medians and CPU time: ./dev bench --quick"
