# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the parts of `lab` share its variables
# Base images, made of Debian's packages and pushed to the plain registry with a manifest list each, so that
# `FROM localhost:PORT/NAME` serves every architecture. They are not installed systems: packages are unpacked and
# their scripts not run, which needs neither emulation nor a chroot and takes seconds.

small_packages=(busybox-static)
base_packages=(base-files base-passwd bash coreutils dash findutils gawk grep gzip hostname libc-bin login mawk
    ncurses-bin passwd procps sed tar tzdata util-linux ca-certificates openssl)
python_packages=("${base_packages[@]}" python3 python3-pip python3-venv)
node_packages=("${base_packages[@]}" nodejs)

architectures() { printf '%s\n' arm64 "$native" | sort -u; }

# What a package needs too, as apt resolves it for an architecture: ARCHITECTURE PACKAGE…
closure() {
    local architecture=$1
    shift
    apt-get -qq -o APT::Architecture="$architecture" install --print-uris -y "${@/%/:$architecture}" 2>/dev/null |
        sed -n "s/^'.*' \([^_]*\)_\([^_]*\)_\([^ ]*\)\.deb .*/\1:\3/p" | sed 's/:all$//'
}

# A root directory as a tar: NAME ARCHITECTURE PACKAGE…
root_of() {
    local name=$1 architecture=$2 root=$dir/roots/$1-$2 list
    shift 2
    [ ! -e "$root.tar" ] || return 0
    say "making the root of $name for $architecture"
    apt_up
    mkdir -p "$dir/roots"
    if [ "$name" = busybox ]; then
        list=$(printf "%s:$architecture\n" "$@")
    else
        list=$(closure "$architecture" "$@")
    fi
    mapfile -t list <<<"$list"
    unpack "$root" "${list[@]}"
    mkdir -p "$root"/{tmp,root,proc,sys,dev,etc}
    chmod 1777 "$root/tmp"
    case $name in
    busybox)
        ln -sf busybox "$root/bin/sh"
        for applet in $(busybox_applets); do ln -sf busybox "$root/bin/$applet"; done
        printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
        printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
        ;;
    *)
        # What the packages' scripts would have made, as far as programs look for it.
        cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
        cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
        cat "$root"/usr/share/ca-certificates/mozilla/*.crt >"$root/etc/ssl/certs/ca-certificates.crt"
        ln -sf mawk "$root/usr/bin/awk"
        ln -sf "$(basename "$(find "$root/usr/bin" -name 'python3.*' -type f | head -n 1)")" "$root/usr/bin/python" 2>/dev/null || true
        # An image of a language has one environment, and pip may write to it.
        rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
        rm -rf "$root"/usr/share/{doc,man,info,locale}
        ;;
    esac
    tar -C "$root" --sort=name --mtime=@0 -cf "$root.tar.part" .
    rm -rf "$root" "$root.complete"
    mv "$root.tar.part" "$root.tar"
}

# The applets that agents and commands of tests use; `busybox --list` needs the architecture.
busybox_applets() {
    echo awk base64 basename cat chmod chown cp cut date dd df dirname du echo env expr false find free grep gunzip gzip \
        head hostname httpd id kill killall ln ls md5sum mkdir mkfifo mknod mktemp mount mv nc nohup od pgrep pidof ping \
        pkill printf ps pwd readlink realpath rm rmdir sed seq setsid sha256sum sleep sort stat stty sync tail tar tee \
        test time timeout touch tr true tty umount uname uniq usleep vi wc wget which whoami xargs yes
}

images() {
    local registry name architecture tag
    registry=localhost:$(cat "$run/registry.port")
    for name in busybox python node; do
        local -n packages=${name/busybox/small}_packages
        for architecture in $(architectures); do
            root_of "$name" "$architecture" "${packages[@]}"
            tag=$registry/$name:$architecture
            known "$name" "$architecture" || image "$tag" "$architecture" "$dir/roots/$name-$architecture.tar"
        done
        known "$name" latest || manifest_list "$registry/$name"
    done
}

known() { curl -sf -o /dev/null -H "Accept: $accepted" "http://localhost:$(cat "$run/registry.port")/v2/$1/manifests/$2"; }
accepted='application/vnd.docker.distribution.manifest.v2+json,application/vnd.docker.distribution.manifest.list.v2+json,application/vnd.oci.image.index.v1+json,application/vnd.oci.image.manifest.v1+json'

# `docker import` of 20.10 labels everything with the machine's architecture, so a build it is.
image() {
    local tag=$1 architecture=$2 tar=$3 context
    context=$(mktemp -d "$dir/context.XXXX")
    ln "$tar" "$context/rootfs.tar"
    printf 'FROM scratch\nADD rootfs.tar /\nENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nCMD ["/bin/sh"]\n' >"$context/Dockerfile"
    docker buildx build --quiet --provenance=false --platform "linux/$architecture" --load --tag "$tag" "$context" >/dev/null
    rm -rf "$context"
    docker push --quiet "$tag" >/dev/null
}

manifest_list() {
    local name=$1 architecture tags=()
    for architecture in $(architectures); do tags+=("$name:$architecture"); done
    docker buildx imagetools create --tag "$name:latest" "${tags[@]}" >/dev/null 2>&1
}
