# shellcheck shell=bash
# shellcheck disable=SC2034  # the sourcing scripts use what is set here
# Where the testbed keeps its things, and how it starts and finds its daemons. Sourced by up, down and check.

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
USER_HOME=$HOME                                                   # for uv and apt
export CLOUD=${KARBOR_CLOUD:-/opt/karbor-cloud}                   # everything but Debian's packages
export CACHE=${KARBOR_CLOUD_CACHE:-/var/cache/karbor-cloud}       # what survives `down --wipe`
export ETC=$CLOUD/etc DATA=$CLOUD/data LOG=$CLOUD/log RUN=$CLOUD/run VENV=$CLOUD/venv
export PASSWORD=testbed
export AUTH_URL=http://127.0.0.1:5000/v3
export LIBVIRT_URI="qemu+unix:///system?socket=$RUN/libvirt/libvirt-sock"

export HOME=$CLOUD/home                                           # oslo.config looks into ~/.<project> first
export PATH=$CLOUD/bin:$VENV/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$PATH
export LC_ALL=C.UTF-8
export CEPH_CONF=$ETC/ceph/ceph.conf OS_CLIENT_CONFIG_FILE=$ETC/clouds.yaml
unset OS_CLOUD

say() { printf '[%4ds] %s\n' $SECONDS "$*"; }
die() { echo "testbed: $*" >&2; exit 1; }
as_root() { [ "$(id -u)" = 0 ] || die "$1 needs root (packages, network devices, guests): run it with sudo"; }

# A pid file holds "PID START-TIME": after a reboot the same number may belong to somebody else's process.
start_time() { local stat; stat=$(cat "/proc/$1/stat" 2>/dev/null) && read -ra stat <<<"${stat##*) }" && echo "${stat[19]}"; }
pid_of() { # NAME: its pid, or failure when it does not run
  local pid born
  read -r pid born 2>/dev/null <"$RUN/$1.pid" && [ "$(start_time "$pid")" = "$born" ] && echo "$pid"
}
alive() { pid_of "$1" >/dev/null; }

# start NAME COMMAND...: in the background as leader of its own session; nothing when it is alive already.
start() {
  local name=$1 pid; shift
  alive "$name" && return
  setsid nohup "$@" >>"$LOG/$name.out" 2>&1 </dev/null 9>&- &
  pid=$!
  echo "$pid $(start_time $pid)" >"$RUN/$name.pid"
}

# wait_for NAME SECONDS COMMAND...: until the command succeeds; fails at once when daemon NAME is dead.
wait_for() {
  local name=$1 end=$((SECONDS + $2)); shift 2
  until "$@" >/dev/null 2>&1; do
    alive "$name" || { say "!! $name died:"; tail -n 15 "$LOG/$name.out"; return 1; }
    [ $SECONDS -lt $end ] || { say "!! $name does not answer: $*"; return 1; }
    sleep .3
  done
}
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1"); }
answers() { curl -s -o /dev/null -m 5 "http://127.0.0.1:$1/"; }   # any HTTP status will do

# once NAME COMMAND...: what must succeed one time in the life of this cloud.
once() {
  local name=$1; shift
  [ -e "$DATA/done/$name" ] && return
  "$@" >>"$LOG/once-$name.log" 2>&1 || { say "!! $name failed:"; tail -n 12 "$LOG/once-$name.log"; return 1; }
  touch "$DATA/done/$name"
}
