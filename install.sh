#!/bin/sh
# Installs agentcore into a prefix: from this checkout with cargo, or from a release archive.
# See `sh install.sh --help`. Nothing outside the prefix is touched, except cargo's own build directory and,
# where AppArmor restricts user namespaces and root installs, the AppArmor profile of the installed program.
set -eu

usage() {
    cat <<'TEXT'
usage: sh install.sh [--prefix DIR]
       sh install.sh [--prefix DIR] --archive FILE --checksum SHA256|FILE
       sh install.sh [--prefix DIR] --uninstall

Without --archive, builds from the checkout that holds this script (needs cargo).

  --prefix DIR      where to install; default: ~/.local
  --archive FILE    install this release archive (.tar.gz) instead of building
  --checksum X      its SHA-256: 64 hexadecimal digits, or a file as sha256sum writes it
  --binary FILE     install this already built program from the checkout instead of building
  --uninstall       remove what this script installed into the prefix
  --help            this text
TEXT
}

fail() {
    printf 'error: %s\n' "$1" >&2
    [ $# -lt 2 ] || printf 'hint: %s\n' "$2" >&2
    exit 1
}

needs_value() {
    [ "$2" -ge 2 ] || fail "\`$1\` needs a value" "sh install.sh --help"
}

prefix=
archive=
checksum=
binary=
uninstall=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) needs_value "$1" $#; prefix=$2; shift ;;
        --archive) needs_value "$1" $#; archive=$2; shift ;;
        --checksum) needs_value "$1" $#; checksum=$2; shift ;;
        --binary) needs_value "$1" $#; binary=$2; shift ;;
        --uninstall) uninstall=yes ;;
        --help | -h) usage; exit 0 ;;
        *) fail "unknown argument \`$1\`" "sh install.sh --help" ;;
    esac
    shift
done

if [ -z "$prefix" ]; then
    [ -n "${HOME:-}" ] || fail "no home directory is known" "name a directory with --prefix"
    prefix=$HOME/.local
fi
case $prefix in
    /*) ;;
    *) prefix=$PWD/$prefix ;;
esac

bin=$prefix/bin
bash_dir=$prefix/share/bash-completion/completions
zsh_dir=$prefix/share/zsh/site-functions
fish_dir=$prefix/share/fish/vendor_completions.d
man_dir=$prefix/share/man/man1
profile=/etc/apparmor.d/agentcore

if [ "$uninstall" = yes ]; then
    rm -f "$bin/agentcore" "$bash_dir/agentcore" "$zsh_dir/_agentcore" "$fish_dir/agentcore.fish" \
        "$man_dir/agentcore.1" "$man_dir"/agentcore-*.1
    # Directories go only when they are empty: other programs share them.
    for directory in "$bash_dir" "$zsh_dir" "$fish_dir" "${bash_dir%/*}" "${zsh_dir%/*}" "${fish_dir%/*}" \
        "$man_dir" "${man_dir%/*}" "$prefix/share" "$bin"; do
        rmdir "$directory" 2>/dev/null || true
    done
    if [ -f "$profile" ] && grep -qF "\"$bin/agentcore\"" "$profile"; then
        if [ -w "$profile" ] && [ -w "${profile%/*}" ]; then
            apparmor_parser --remove "$profile" 2>/dev/null || true
            rm -f "$profile"
        else
            printf 'hint: its AppArmor profile is left: sudo rm %s\n' "$profile"
        fi
    fi
    printf 'removed agentcore from %s\n' "$prefix"
    printf 'kept: session data in the agentcore data directory (default: ~/.local/share/agentcore)\n'
    exit 0
fi

work=
pending=
cleanup() {
    [ -z "$work" ] || rm -rf "$work"
    [ -z "$pending" ] || rm -f "$pending"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "${TMPDIR:-/tmp}/agentcore-install.XXXXXX")

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$1" | cut -d ' ' -f 1
    elif command -v shasum >/dev/null 2>&1; then
        shasum -a 256 "$1" | cut -d ' ' -f 1
    else
        fail "neither \`sha256sum\` nor \`shasum\` is installed" "install coreutils"
    fi
}

if [ -n "$archive" ]; then
    [ -z "$binary" ] || fail "\`--archive\` and \`--binary\` exclude each other"
    [ -f "$archive" ] || fail "no archive \`$archive\`"
    [ -n "$checksum" ] || fail "\`--archive\` needs \`--checksum\`" \
        "the checksum is published beside the archive"
    expected=$checksum
    if [ -f "$checksum" ]; then
        name=${archive##*/}
        # `sha256sum` marks binary mode by a star; a file with a single bare checksum is taken as it is.
        expected=$(awk -v name="$name" '
            NF == 1 && NR == 1 { bare = $1 }
            { sub(/^\*/, "", $2) }
            $2 == name { print $1; found = 1; exit }
            END { if (!found && NR == 1) print bare }' "$checksum")
        [ -n "$expected" ] || fail "\`$checksum\` has no line for \`$name\`"
    fi
    expected=$(printf '%s' "$expected" | tr 'A-F' 'a-f')
    case $expected in
        *[!0-9a-f]*) fail "\`$checksum\` is neither a SHA-256 checksum nor a file" ;;
    esac
    [ ${#expected} -eq 64 ] || fail "\`$checksum\` is neither a SHA-256 checksum nor a file"
    actual=$(sha256 "$archive")
    [ "$actual" = "$expected" ] || fail "the checksum of \`$archive\` is $actual, not $expected" \
        "download the archive again, and do not install it if that does not help"
    tar -xzf "$archive" -C "$work" || fail "\`$archive\` is not a tar.gz archive"
    # Release archives may have one directory around their content.
    source=$work
    [ -f "$source/agentcore" ] || for inner in "$work"/*/; do
        if [ -f "$inner/agentcore" ]; then source=${inner%/}; fi
    done
    built=$source/agentcore
    [ -f "$built" ] || fail "\`$archive\` has no program \`agentcore\` in it"
    completions=$source/completions
else
    [ -z "$checksum" ] || fail "\`--checksum\` goes with \`--archive\`"
    here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
    [ -f "$here/Cargo.toml" ] || fail "\`$here\` is not a checkout of agentcore" \
        "clone the repository and run its install.sh, or use --archive"
    completions=$here/completions
    if [ -n "$binary" ]; then
        [ -f "$binary" ] || fail "no program \`$binary\`"
        built=$binary
    else
        command -v cargo >/dev/null 2>&1 || fail "\`cargo\` is not installed" \
            "install Rust, or install a release archive with --archive"
        (cd "$here" && cargo build --release --locked --bin agentcore) || fail "the build failed"
        target=$(cd "$here" && cargo metadata --no-deps --format-version 1 |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
        # Where a target is set in cargo's own variable, its directory stands in between.
        built=$target/${CARGO_BUILD_TARGET:+$CARGO_BUILD_TARGET/}release/agentcore
        [ -f "$built" ] || fail "the build left no program at \`$built\`"
    fi
fi

# Each file is put beside its place and renamed into it: a running agentcore is not disturbed, and an
# interrupted installation leaves whole files only.
place() {
    mkdir -p "$3" || fail "cannot make \`$3\`"
    pending=$3/.agentcore-install.$$
    cp "$2" "$pending" || fail "cannot write to \`$3\`"
    chmod "$1" "$pending"
    mv -f "$pending" "$3/$4"
    pending=
}

place 755 "$built" "$bin" agentcore
if [ -d "$completions" ]; then
    if [ -f "$completions/agentcore.bash" ]; then
        place 644 "$completions/agentcore.bash" "$bash_dir" agentcore
    fi
    if [ -f "$completions/_agentcore" ]; then
        place 644 "$completions/_agentcore" "$zsh_dir" _agentcore
    fi
    if [ -f "$completions/agentcore.fish" ]; then
        place 644 "$completions/agentcore.fish" "$fish_dir" agentcore.fish
    fi
fi

# The program writes its own manual. One that cannot (another machine's) is installed all the same.
if mkdir -p "$man_dir"; then "$bin/agentcore" man-pages "$man_dir" >/dev/null 2>&1 || :; fi
if rmdir "$man_dir" 2>/dev/null; then rmdir "${man_dir%/*}" 2>/dev/null || :; fi

printf 'installed %s\n' "$bin/agentcore"
restricted=/proc/sys/kernel/apparmor_restrict_unprivileged_userns
if [ -r "$restricted" ] && [ "$(cat "$restricted")" = 1 ]; then
    if [ "$(id -u)" = 0 ]; then
        "$bin/agentcore" doctor --fix || printf 'hint: sessions of ordinary users need this profile\n'
    else
        printf 'hint: AppArmor keeps sessions from running here until you run: sudo %s doctor --fix\n' "$bin/agentcore"
    fi
fi
case :${PATH:-}: in
    *:"$bin":*) ;;
    *) printf 'hint: %s is not in PATH; add it to use agentcore by its name\n' "$bin" ;;
esac
