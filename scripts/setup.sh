#!/bin/sh
# Sets up what a make target needs: `python` the virtual environment, `demo` and `test` the Debian packages beside it.
set -eu
cd "$(dirname "$0")/.."
uv_version=0.13.9

missing_packages() {
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' || printf '%s ' "$package"
    done
}

install() {
    missing=$(missing_packages "$@")
    [ -z "$missing" ] && return
    if [ "$(id -u)" != 0 ]; then
        echo "these Debian packages are needed and only root can install them: $missing" >&2
        echo "run: apt-get install $missing" >&2
        exit 1
    fi
    echo "installing $missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of words
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

python_environment() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "python3 is older than 3.11" >&2
        exit 1
    }
    if [ ! -x .venv/bin/uv ]; then
        python3 -c 'import venv, ensurepip' 2>/dev/null || install python3-venv
        python3 -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
    fi
    VIRTUAL_ENV=$PWD/.venv .venv/bin/uv sync --frozen --all-extras --inexact --quiet --compile-bytecode
}

case "$1" in
python) python_environment ;;
demo) install restic ;;
test) install restic postgresql mariadb-server e2fsprogs attr acl ;;
*) echo "usage: setup.sh python|demo|test" >&2; exit 2 ;;
esac
