# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the parts of `lab` share its variables
# Small things that every part of the lab uses.

say() { printf '%s\n' "$*" >&2; }

# Networks fail now and then; what is asked of them here can be asked again.
retry() {
    local attempt
    for attempt in 1 2 3; do
        if "$@"; then return 0; fi
        say "attempt $attempt failed: $*"
        sleep $((attempt * 3))
    done
    "$@"
}

# Waits until a command succeeds: SECONDS WHAT COMMAND…
await() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            say "error: not in time: $what"
            return 1
        fi
        sleep 0.1
    done
}

# Starts a program of the lab in the background: NAME COMMAND… Its process id and its log are kept under that name.
start() {
    local name=$1
    shift
    # The lock must not live on in it, nor the terminal.
    setsid "$@" </dev/null >>"$dir/$name.log" 2>&1 9>&- &
    echo $! >"$run/$name.pid"
}

# True while a program that `start` started runs. A process id alone may have been given to another program since.
runs() {
    local pid
    pid=$(cat "$run/$1.pid" 2>/dev/null) && grep -qzF -e "$dir" -e "$run" "/proc/$pid/cmdline" 2>/dev/null
}

stop() {
    local name=$1 pid
    if runs "$name"; then
        pid=$(cat "$run/$name.pid")
        kill -TERM "$pid" 2>/dev/null || true
        # Not waited for by the shell: another shell started it.
        await 30 "the end of $name" gone "$pid" || kill -KILL "$pid" || true
    fi
    rm -f "$run/$name.pid"
}

gone() { [ ! -e "/proc/$1" ] || grep -q '^State:.*Z' "/proc/$1/status"; }

# Programs of the lab before those of the machine, with the libraries that came with them.
lab_path() { printf '%s/engine-%s/usr/sbin:%s/engine-%s/usr/bin:%s/usr/sbin:%s/usr/bin:%s' "$dir" "$engine" "$dir" "$engine" "$tools" "$tools" "$PATH"; }
tools_libraries=$tools/usr/lib/$(uname -m)-linux-gnu
with_tools() { env PATH="$(lab_path)" LD_LIBRARY_PATH="$tools_libraries" "$@"; }

# Unmounts whatever is left below a directory, innermost first.
unmount_below() {
    local mount
    while IFS= read -r mount; do
        umount -l "$mount" 2>/dev/null || true
    done < <(awk '{print $5}' /proc/self/mountinfo | { grep -F "$1/" || true; } | sort -r)
}

# A port on loopback that nobody has, from the first one on.
free_port() {
    local port=$1
    while (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do port=$((port + 1)); done
    echo "$port"
}
