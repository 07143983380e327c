# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the parts of `lab` share its variables
# Two registries on loopback: one in the clear, and one with TLS and a password that answers to the name of ECR.

registry_up() {
    local port
    if ! runs registry; then
        # Images carry the port in their names, so it stays what it was where that can be.
        port=$(free_port "$(cat "$dir/registry.port" 2>/dev/null || echo 5000)")
        echo "$port" | tee "$dir/registry.port" >"$run/registry.port"
        cat >"$run/registry.yml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $dir/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
END
        start registry env PATH="$(lab_path)" LD_LIBRARY_PATH="$tools_libraries" docker-registry serve "$run/registry.yml"
    fi
    port=$(cat "$run/registry.port")
    await 20 "the registry; see $dir/registry.log" curl -sf "http://localhost:$port/v2/"
    say "registry at localhost:$port"
}

# A root of its own and a certificate for the host's name.
ecr_certificate() {
    local host=$ecr_host
    mkdir -p "$dir/tls"
    [ ! -e "$dir/tls/$host.crt" ] || return 0
    openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=agentcore lab' \
        -addext 'keyUsage=critical,keyCertSign' -keyout "$dir/tls/ca.key" -out "$dir/tls/ca.crt" 2>/dev/null
    openssl req -newkey rsa:2048 -nodes -subj "/CN=$host" -keyout "$dir/tls/$host.key" -out "$dir/tls/$host.csr" 2>/dev/null
    openssl x509 -req -days 3650 -in "$dir/tls/$host.csr" -CA "$dir/tls/ca.crt" -CAkey "$dir/tls/ca.key" -CAcreateserial \
        -extfile <(echo "subjectAltName=DNS:$host") -out "$dir/tls/$host.crt" 2>/dev/null
}

# `https://ACCOUNT.dkr.ecr.REGION.amazonaws.com` on this machine alone. It knows user AWS with the password that moto's
# GetAuthorizationToken gives out.
ecr_up() {
    local host=$ecr_host password=$account-auth-token holder address
    # Each lab has an address of its own, so that several can stand for the registries of several accounts.
    address=127.77.$((16#${id:0:2})).$((16#${id:2:2} % 254 + 1))
    runs ecr && return 0
    holder=$(sed -n "s/^127\.[0-9.]* $host # agentcore-lab //p" /etc/hosts)
    if [ -n "$holder" ] && [ "$holder" != "$id" ]; then
        say "error: another lab (/run/agentcore-lab/$holder) stands for $host; take another \`--account\`, or \`--no-ecr\`"
        return 1
    fi
    if (: <"/dev/tcp/$address/443") 2>/dev/null; then
        say "error: something listens on port 443 of $address; end it, or take \`--no-ecr\`"
        return 1
    fi
    python3 -W ignore -c 'import crypt, sys; print("AWS:" + crypt.crypt(sys.argv[1], crypt.mksalt(crypt.METHOD_BLOWFISH)))' \
        "$password" >"$run/ecr.htpasswd"
    cat >"$run/ecr.yml" <<END
version: 0.1
log: {level: warn}
storage: {filesystem: {rootdirectory: $dir/ecr}, delete: {enabled: true}}
auth: {htpasswd: {realm: ecr, path: $run/ecr.htpasswd}}
http: {addr: "$address:443", tls: {certificate: $dir/tls/$host.crt, key: $dir/tls/$host.key}}
END
    [ -n "$holder" ] || echo "$address $host # agentcore-lab $id" >>/etc/hosts
    start ecr env PATH="$(lab_path)" LD_LIBRARY_PATH="$tools_libraries" docker-registry serve "$run/ecr.yml"
    await 20 "the stand-in for ECR; see $dir/ecr.log" \
        curl -sf --cacert "$dir/tls/ca.crt" --user "AWS:$password" "https://$host/v2/"
    echo "$host" >"$run/ecr.host"
    say "ECR's stand-in at https://$host"
}

registry_down() {
    local hosts
    stop registry
    stop ecr
    rm -f "$run/ecr.host"
    if grep -q "# agentcore-lab $id\$" /etc/hosts; then
        # Written in place: in a container the file is a mount.
        hosts=$(grep -v "# agentcore-lab $id\$" /etc/hosts)
        printf '%s\n' "$hosts" >/etc/hosts
    fi
}
