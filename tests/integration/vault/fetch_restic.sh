#!/bin/sh
# Unpack the restic of a newer Debian into the folder $1, installing nothing; prints where the program lies.
set -eu
folder=$(realpath -m "$1")
release=${2:-trixie}
program=$folder/usr/bin/restic
if [ ! -x "$program" ]; then
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/archives/partial"
    # The mirror that this machine uses itself.
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main" \
        > "$folder/apt/sources.list"
    : > "$folder/apt/status"
    options="-q=2 -o Dir::Etc::sourcelist=$folder/apt/sources.list -o Dir::Etc::sourceparts=/dev/null
        -o Dir::State=$folder/apt -o Dir::State::lists=$folder/apt/lists -o Dir::State::status=$folder/apt/status
        -o Dir::Cache=$folder/apt -o APT::Sandbox::User="
    cd "$folder"
    # shellcheck disable=SC2086 # the options are words
    apt-get $options update >&2 && apt-get $options download restic >&2
    dpkg -x restic_*.deb "$folder"
fi
"$program" version >&2
echo "$program"
