# shellcheck shell=bash
# What has to be on the machine: Debian's packages, one Python environment for all of OpenStack, the test guest.

install_packages() {
  local missing made='' status
  # shellcheck disable=SC2046  # a list of words
  missing=$(dpkg-query -W -f '${Package} ${Status}\n' $(<"$HERE/packages.txt") 2>/dev/null | awk '/ok installed/{print $1}' | sort | comm -13 - "$HERE/packages.txt")
  [ -z "$missing" ] && return
  # Debian starts daemons as it installs them, unless this file forbids it.
  [ -e /usr/sbin/policy-rc.d ] || { made=1; printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; }
  # shellcheck disable=SC2086  # a list of words
  { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=900 install -y -q --no-install-recommends $missing; } >"$LOG/apt.log" 2>&1
  status=$?
  [ -z "$made" ] || rm /usr/sbin/policy-rc.d
  [ $status = 0 ] || { tail -n 5 "$LOG/apt.log"; return 1; }
}

# All projects at their newest resolve into one environment. Ceph's and libvirt's bindings are in no package index:
# Debian's are linked in, so the environment is built on Debian's own Python.
install_python() {
  local mark site bindings=/usr/lib/python3/dist-packages
  mark=$VENV/.$(sha256sum <"$HERE/requirements.txt" | cut -c1-12)
  [ -e "$mark" ] && return
  command -v uv >/dev/null || { say "!! uv is missing (https://docs.astral.sh/uv/)"; return 1; }
  HOME=$USER_HOME uv venv -q --clear --python /usr/bin/python3 "$VENV" &&
    HOME=$USER_HOME uv pip install -q --python "$VENV/bin/python" -r "$HERE/requirements.txt" || return 1
  site=$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  ln -sf $bindings/{rados,rbd,cephfs}.*.so $bindings/ceph_argparse.py $bindings/libvirt*.py $bindings/libvirtmod*.so "$site/" &&
    "$VENV/bin/python" -c 'import cephfs, libvirt, rados, rbd' && touch "$mark"
}

install_guest() {
  [ "$CACHE/guest.raw" -nt "$HERE/guest/make" ] && [ "$CACHE/guest.raw" -nt "$HERE/guest/init" ] && return
  HOME=$USER_HOME "$HERE/guest/make" "$CACHE/guest.raw" >"$LOG/guest.log" 2>&1 || { tail -n 5 "$LOG/guest.log"; return 1; }
}
