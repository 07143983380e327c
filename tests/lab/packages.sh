# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # the parts of `lab` share its variables
# Debian packages, unpacked into directories. The lab has lists of packages of its own, made from the machine's
# sources, with Debian 13 beside Debian 12 and arm64 beside the machine's own architecture.

# Of Debian 12. The libraries are those that these programs need and a small machine may not have.
tool_packages=(docker-registry qemu-user-static fuse-overlayfs
    podman conmon runc containernetworking-plugins golang-github-containers-common golang-github-containers-image
    libassuan0 libgpg-error0 libgpgme11 libsubid4 libglib2.0-0 libdevmapper1.02.1 libseccomp2 libselinux1
    libaudit1 libcap-ng0 libsemanage2 libsepol2 libbz2-1.0 libfuse3-3)
# The client comes with the engine; the plugin for builds is Debian 13's for both, Debian 12 has none.
engine_20_packages=(docker.io containerd runc tini docker-buildx/trixie)
# For daemons of an ordinary user.
rootless_packages=(rootlesskit)
engine_26_packages=(docker.io/trixie docker-cli/trixie containerd/trixie runc tini docker-buildx/trixie)

apt_up() {
    local uri codename
    mkdir -p "$dir/apt"/{lists/partial,cache/archives/partial,state}
    : >"$dir/apt/status"
    codename=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
    # Wherever this machine has its packages from.
    # shellcheck disable=SC2016 # apt's own placeholders
    uri=$(APT_CONFIG='' apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release && $3 == "main" { print $1; exit }')
    [ -n "$uri" ] || { say "error: apt has no source of \`$codename main\`" && return 1; }
    for suite in bookworm trixie; do
        echo "deb [arch=$native,arm64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri $suite main"
    done >"$dir/apt/sources.list"
    cat >"$dir/apt/conf" <<END
APT::Architecture "$native";
APT::Architectures { "$native"; "arm64"; };
APT::Default-Release "bookworm";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::Etc::SourceList "$dir/apt/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
Dir::State "$dir/apt/state";
Dir::State::Lists "$dir/apt/lists";
Dir::State::Status "$dir/apt/status";
Dir::Cache "$dir/apt/cache";
END
    export APT_CONFIG=$dir/apt/conf
    [ -n "$(find "$dir/apt/lists" -name '*trixie*Packages*' -print -quit)" ] || retry apt-get -qq update
}

# Unpacks packages: DIRECTORY PACKAGE… Once for each list of packages.
unpack() {
    local into=$1 stamp debs deb
    shift
    stamp=$(printf '%s ' "$@" | sha256sum)
    [ "$(cat "$into.complete" 2>/dev/null)" != "$stamp" ] || return 0
    say "unpacking ${*:1:3} … into $into"
    apt_up
    rm -rf "$into"
    debs=$(mktemp -d "$dir/debs.XXXX")
    (cd "$debs" && retry apt-get -qq download "$@")
    # Packages disagree about whether /bin is a directory; here it is what it is in an installed system.
    usr_merged "$into"
    for deb in "$debs"/*.deb; do
        dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$into"
    done
    rm -rf "$debs"
    echo "$stamp" >"$into.complete"
}

usr_merged() {
    local part
    for part in bin sbin lib; do
        mkdir -p "$1/usr/$part"
        ln -s "usr/$part" "$1/$part"
    done
}

packages() {
    local name missing=() packages
    for name in iptables iproute2 openssl; do
        dpkg -s "$name" >/dev/null 2>&1 || missing+=("$name")
    done
    if [ ${#missing[@]} -gt 0 ]; then
        retry apt-get -qq update
        DEBIAN_FRONTEND=noninteractive retry apt-get -qq -o DPkg::Lock::Timeout=300 install -y \
            --no-install-recommends --no-upgrade "${missing[@]}"
    fi
    unpack "$tools" "${tool_packages[@]}"
    unpack "$dir/rootless" "${rootless_packages[@]}"
    local -n packages=engine_${engine}_packages
    unpack "$dir/engine-$engine" "${packages[@]}"
}
