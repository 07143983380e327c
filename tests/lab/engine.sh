# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the parts of `lab` share its variables
# Docker's engine and Podman's, each with a state and a socket of its own; emulation of arm64.

binfmt=/proc/sys/fs/binfmt_misc
# Everybody who needs the entry has a file here; the last one to go takes the entry away.
binfmt_users=/run/agentcore-lab/binfmt

# What an arm64 program begins with, as Debian's qemu-user-static declares it.
arm64_magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
arm64_mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'

emulation_up() {
    [ "$native" != arm64 ] || return 0
    mkdir -p "$binfmt_users"
    (
        flock 8
        if [ ! -e $binfmt/register ]; then
            mount -t binfmt_misc none $binfmt
            touch "$binfmt_users/mounted"
        fi
        if [ ! -e $binfmt/qemu-aarch64 ]; then
            # F: the interpreter is opened now, so it works in containers that do not have it.
            printf '%s' ":qemu-aarch64:M::$arm64_magic:$arm64_mask:$tools/usr/bin/qemu-aarch64-static:PF" >$binfmt/register
            touch "$binfmt_users/registered"
        fi
        [ ! -e "$binfmt_users/registered" ] || touch "$binfmt_users/user-$id"
    ) 8>"$binfmt_users/lock"
}

emulation_down() {
    [ -d "$binfmt_users" ] || return 0
    (
        flock 8
        rm -f "$binfmt_users/user-$id"
        if [ -z "$(find "$binfmt_users" -name 'user-*' -print -quit)" ]; then
            [ ! -e "$binfmt_users/registered" ] || echo -1 >$binfmt/qemu-aarch64 || true
            [ ! -e "$binfmt_users/mounted" ] || umount $binfmt || true
            rm -rf "$binfmt_users"
        fi
    ) 8>"$binfmt_users/lock"
}

docker() { with_tools env DOCKER_HOST="unix://$run/docker.sock" DOCKER_CONFIG="$dir/docker-config" docker "$@"; }

# Another engine's process, if one runs on this machine.
other_engine() {
    pgrep -x dockerd | grep -vxF "$(cat "$run/dockerd.pid" 2>/dev/null || echo none)" | head -n 1 | grep .
}

# Roots of TLS: those of the machine, and that of the stand-in for ECR, which this engine alone trusts.
roots() { cat /etc/ssl/certs/ca-certificates.crt "$dir/tls/ca.crt" 2>/dev/null || true; }

engine_up() {
    local bridge=aclab-${id:0:8} subnet=10.$((16#${id:0:2} % 64 + 64)).$((16#${id:2:2})) firewall=true other
    # The client and its plugin, for tests as for a user.
    mkdir -p "$dir/docker-config/cli-plugins" "$dir/bin"
    ln -sfn "$(find "$dir/engine-$engine/usr" -path '*/cli-plugins/docker-buildx')" "$dir/docker-config/cli-plugins/docker-buildx"
    ln -sfn "$dir/engine-$engine/usr/bin/docker" "$dir/bin/docker"
    roots >"$run/roots"
    if runs dockerd; then
        if [ "$(cat "$run/engine")" = "$engine" ] && cmp -s "$run/roots" "$run/roots.in-use"; then return 0; fi
        engine_down
    fi
    ip link show "$bridge" >/dev/null 2>&1 || ip link add "$bridge" type bridge
    ip address replace "$subnet.1/24" dev "$bridge"
    ip link set "$bridge" up
    echo "$bridge" >"$run/bridge"
    cat /proc/sys/net/ipv4/ip_forward >"$run/forward"
    if other=$(other_engine); then
        # An engine that starts makes the firewall's chains anew, which are one set for the whole machine.
        say "note: process $other is another dockerd; the firewall stays as that one made it, so containers of the lab can reach each other"
        firewall=false
        echo 1 >/proc/sys/net/ipv4/ip_forward
        iptables -t nat -A POSTROUTING -s "$subnet.0/24" ! -o "$bridge" -j MASQUERADE
        iptables -I FORWARD -i "$bridge" -j ACCEPT
        iptables -I FORWARD -o "$bridge" -j ACCEPT
    fi
    echo "$firewall" >"$run/firewall"
    echo "$engine" >"$run/engine"
    cp "$run/roots" "$run/roots.in-use"
    echo '{}' >"$run/daemon.json"
    # Each engine has a state of its own: an older one cannot read what a newer one wrote.
    start dockerd env SSL_CERT_FILE="$run/roots.in-use" PATH="$(lab_path)" LD_LIBRARY_PATH="$tools_libraries" \
        dockerd --config-file "$run/daemon.json" --data-root "$dir/data-$engine" --exec-root "$run/exec" \
        --pidfile "$run/docker.pid" --host "unix://$run/docker.sock" --cgroup-parent "/agentcore-lab-$id" \
        --bridge "$bridge" --iptables="$firewall" --ip-masq="$firewall" \
        --default-address-pool "base=10.$((16#${id:0:2} % 64 + 128)).0.0/16,size=24"
    await 60 "an answer of dockerd; see $dir/dockerd.log" docker version
    say "engine $(docker version --format '{{.Server.Version}} (API {{.Server.APIVersion}})') at unix://$run/docker.sock"
}

engine_down() {
    local bridge left
    bridge=$(cat "$run/bridge" 2>/dev/null) || return 0
    if runs dockerd; then
        for left in $(docker ps --all --quiet); do docker rm --force "$left" >/dev/null; done
        # An engine leaves the bridges of its networks behind.
        docker network prune --force >/dev/null
    fi
    stop dockerd
    unmount_below "$run"
    unmount_below "$dir"
    if [ "$(cat "$run/firewall")" = false ]; then
        without_rules " $bridge "
    elif ! other_engine >/dev/null; then
        without_rules "DOCKER\\| $bridge "
    fi
    other_engine >/dev/null || cat "$run/forward" >/proc/sys/net/ipv4/ip_forward
    ip link delete "$bridge" || true
    find /sys/fs/cgroup -depth -type d -path "*/agentcore-lab-$id*" -exec rmdir {} + 2>/dev/null || true
    rm -f "$run/bridge" "$run/docker.sock"
}

# Takes away the firewall's rules and chains whose line has a pattern.
without_rules() { iptables-save | grep -v -e "$1" | iptables-restore; }

# A program of the lab with its libraries, for whoever starts it without our environment.
wrapped() {
    printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s "$@"\n' "$tools_libraries" "$2" >"$1"
    chmod +x "$1"
    echo "$1"
}

# The socket of Podman's service, which speaks Docker's API.
podman_up() {
    local etc=$dir/podman bridge=aclabp-${id:0:8} files processes
    runs podman && return 0
    # Podman keeps what it is sent in files for a while, and not all of them are deleted.
    rm -rf "$etc/tmp"
    mkdir -p "$etc/home/.config/containers" "$etc/networks" "$etc/tmp"
    # Podman asks for more than a process without all of root's rights can have, and lowers its own limit of processes.
    files=$(ulimit -Hn)
    processes=$({ ulimit -Hu; cat /proc/sys/kernel/pid_max; } | grep -v unlimited | sort -n | head -n 1)
    cat >"$etc/containers.conf" <<END
[containers]
default_ulimits = ["nofile=$files:$files", "nproc=$processes:$processes"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["$(wrapped "$etc/conmon" "$tools/usr/bin/conmon")"]
helper_binaries_dir = ["$tools/usr/lib/podman", "$tools/usr/libexec/podman"]
runtime = "runc"
[engine.runtimes]
runc = ["$(wrapped "$etc/runc" "$tools/usr/sbin/runc")"]
[network]
network_backend = "cni"
cni_plugin_dirs = ["$tools/usr/lib/cni"]
network_config_dir = "$etc/networks"
END
    # Podman's default network under a name of the lab's own.
    cat >"$etc/networks/87-podman.conflist" <<END
{"cniVersion": "0.4.0", "name": "podman", "plugins": [
  {"type": "bridge", "bridge": "$bridge", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}],
            "ranges": [[{"subnet": "10.$((16#${id:0:2} % 64 + 192)).0.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}},
  {"type": "firewall"}, {"type": "tuning"}]}
END
    cat >"$etc/storage.conf" <<END
[storage]
driver = "overlay"
graphroot = "$dir/data-podman"
runroot = "$run/podman"
END
    printf 'unqualified-search-registries = []\n[[registry]]\nlocation = "localhost:%s"\ninsecure = true\n' \
        "$(cat "$run/registry.port")" >"$etc/registries.conf"
    echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$etc/home/.config/containers/policy.json"
    start podman env TMPDIR="$etc/tmp" HOME="$etc/home" XDG_CONFIG_HOME="$etc/home/.config" CONTAINERS_CONF="$etc/containers.conf" \
        CONTAINERS_STORAGE_CONF="$etc/storage.conf" CONTAINERS_REGISTRIES_CONF="$etc/registries.conf" \
        PATH="$(lab_path)" LD_LIBRARY_PATH="$tools_libraries" \
        podman --tmpdir "$run/podman-tmp" system service --time 0 "unix://$run/podman.sock"
    await 20 "the socket of Podman; see $dir/podman.log" \
        curl -sf --unix-socket "$run/podman.sock" http://localhost/v1.41/version
    say "podman at unix://$run/podman.sock"
}

podman_down() {
    local left
    if runs podman; then
        for left in $(DOCKER_HOST=unix://$run/podman.sock with_tools docker ps --all --quiet); do
            DOCKER_HOST=unix://$run/podman.sock with_tools docker rm --force "$left" >/dev/null
        done
    fi
    stop podman
    rm -rf "$dir/podman/tmp"
    if ip link show "aclabp-${id:0:8}" >/dev/null 2>&1; then
        ip link delete "aclabp-${id:0:8}"
        # Chains of Podman's networks are one set for the machine; without another Podman they are ours.
        pgrep -x podman >/dev/null || without_rules CNI-
    fi
    rm -f "$run/podman.sock"
}
