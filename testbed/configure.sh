# shellcheck shell=bash
# shellcheck disable=SC2034  # render reads its variables by name
# Renders testbed/etc into $ETC: @NAME@ is replaced, `login = USER` becomes the credentials of a service user.

CEPH_ID=5f1a7a3e-6c1b-4f7a-9d0a-0d0d0d0d0d01
CEPH_OSD_ID=5f1a7a3e-6c1b-4f7a-9d0a-0d0d0d0d0d02
LIBVIRT_SECRET=5f1a7a3e-6c1b-4f7a-9d0a-0d0d0d0d0d03
LIBVIRT_HOST=5f1a7a3e-6c1b-4f7a-9d0a-0d0d0d0d0d04
QUEUE=rabbit://testbed:$PASSWORD@127.0.0.1:5672/
# The database listens on a socket only: a MariaDB on port 3306 may belong to somebody else.
DB=mysql+pymysql://testbed:$PASSWORD@localhost
SOCKET="?unix_socket=$RUN/mysql/s.sock&charset=utf8mb4"

render() { # TEMPLATE TARGET [NAME=VALUE...]: VALUEs count before the variables of the same name
  local template=$1 target=$2 name pair script=(); shift 2
  for pair; do script+=(-e "s#@${pair%%=*}@#${pair#*=}#g"); done
  for name in AUTH_URL CEPH_ID DATA DB ETC LIBVIRT_HOST LIBVIRT_SECRET LOG PASSWORD QUEUE RUN SOCKET VENV; do
    script+=(-e "s#@$name@#${!name//&/\\&}#g")
  done
  script+=(-e "s#^login = \(.*\)#auth_type = password\nauth_url = $AUTH_URL\nusername = \1\npassword = $PASSWORD\nuser_domain_name = Default\nproject_name = service\nproject_domain_name = Default#")
  sed "${script[@]}" "$HERE/etc/$template" >"$target"
}

render_service() { # NAME FILE: the service's own template and the end that all share
  render "$1/$2" "$ETC/$1/$2"
  render openstack-service.conf "$ETC/$1/.end" "SERVICE=$1"
  cat "$ETC/$1/.end" >>"$ETC/$1/$2"
  mkdir -p "$DATA/lock/$1"
}

configure() {
  local name kind_port
  for name in barbican ceph cinder freezer glance heat keystone libvirt manila neutron nova placement swift trove; do
    mkdir -p "$ETC/$name" "$DATA/$name"; ln -sfn "$ETC/$name" "$HOME/.$name"
  done
  mkdir -p "$DATA"/glance/{staging,tasks,cache} "$DATA"/{cinder,manila}/coordination "$DATA/cinder/conversion" \
    "$DATA/nova/instances" "$DATA/freezer/jobs" "$DATA"/swift/{node/d1,cache} "$DATA/libvirt/cache" "$LOG/libvirt" "$RUN/libvirt"
  for name in rabbitmq.conf clouds.yaml openrc ceph/ceph.conf neutron/ml2_conf.ini libvirt/libvirtd.conf libvirt/qemu.conf \
    swift/swift.conf swift/proxy-server.conf freezer/scheduler.conf; do render $name "$ETC/$name"; done
  for kind_port in account:6202 container:6201 object:6200; do
    render swift/storage-server.conf "$ETC/swift/${kind_port%:*}-server.conf" KIND=${kind_port%:*} PORT=${kind_port#*:}
  done
  for name in keystone cinder placement neutron nova barbican manila heat trove; do render_service $name $name.conf; done
  render_service glance glance-api.conf
  render_service freezer freezer-api.conf
  echo '[].' >"$ETC/rabbitmq_plugins"
  # Two services look for their paste file beside their configuration only.
  cp "$VENV/etc/nova/api-paste.ini" "$ETC/nova/"
  cp "$VENV/etc/glance/glance-api-paste.ini" "$ETC/glance/"
  # Everything is root already, and the real sudo would reset PATH: ours drops its options, rootwrap and rootwrap's file.
  cat >"$CLOUD/bin/sudo" <<'EOF'
#!/bin/sh
while :; do case "$1" in -E|-n|-H|-S) shift;; -u) shift 2;; --) shift; break;; *=*) export "$1"; shift;; *) break;; esac; done
case "$1" in *-rootwrap) shift 2;; esac
exec "$@"
EOF
  chmod +x "$CLOUD/bin/sudo"
}
