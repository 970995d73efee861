# shellcheck shell=bash
# shellcheck disable=SC2086,SC2119,SC2120  # words without spaces need no quotes
# What OpenStack stands on, each a daemon of our own on loopback or a unix socket: MariaDB, RabbitMQ, memcached, Ceph, OVN, libvirt.

sql() { mariadb --no-defaults -S "$RUN/mysql/s.sock" -uroot "$@"; }
DATABASES="keystone glance cinder nova_api nova nova_cell0 placement neutron barbican manila heat trove freezer"
mariadb_install() {
  mariadb-install-db --no-defaults --user=mysql --datadir="$DATA/mysql" --auth-root-authentication-method=normal --skip-test-db
}
mariadb_accounts() {
  local name
  { for name in $DATABASES; do echo "CREATE DATABASE IF NOT EXISTS $name;"; done
    echo "CREATE USER IF NOT EXISTS testbed@localhost IDENTIFIED BY '$PASSWORD'; GRANT ALL ON *.* TO testbed@localhost;"; } | sql
}
mariadb_up() {
  mkdir -p "$DATA/mysql" "$RUN/mysql"; chown mysql: "$DATA/mysql" "$RUN/mysql"
  once mariadb mariadb_install || return
  # A testbed may lose its last second in a crash of the machine: no fsync.
  start mysql mariadbd --no-defaults --user=mysql --datadir="$DATA/mysql" --socket="$RUN/mysql/s.sock" --pid-file="$RUN/mysql/own.pid" \
    --skip-networking --skip-log-bin --max-connections=1000 --character-set-server=utf8mb4 --collation-server=utf8mb4_general_ci \
    --innodb-flush-log-at-trx-commit=0 --innodb-doublewrite=0 --innodb-flush-method=nosync --sync-binlog=0 \
    --innodb-log-file-size=256M --innodb-buffer-pool-size=512M --performance-schema=OFF
  wait_for mysql 60 sql -e 'SELECT 1' && once mariadb-accounts mariadb_accounts
}

rabbitmq_up() {
  mkdir -p "$DATA/rabbit" "$LOG/rabbit" "$RUN/rabbit"
  # RabbitMQ would start an epmd of its own, which nobody stops.
  start epmd epmd -address 127.0.0.1
  wait_for epmd 10 listens 4369 || return
  ERL_EPMD_ADDRESS=127.0.0.1 RABBITMQ_NODENAME=testbed@localhost RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT=5672 \
    RABBITMQ_DIST_PORT=25672 RABBITMQ_MNESIA_BASE=$DATA/rabbit RABBITMQ_LOG_BASE=$LOG/rabbit RABBITMQ_CONFIG_FILE=$ETC/rabbitmq \
    RABBITMQ_ENABLED_PLUGINS_FILE=$ETC/rabbitmq_plugins RABBITMQ_PID_FILE=$RUN/rabbit/own.pid HOME=$DATA/rabbit \
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none" \
    start rabbit /usr/lib/rabbitmq/bin/rabbitmq-server
  wait_for rabbit 120 listens 5672
}

memcached_up() { start memcached memcached -u nobody -l 127.0.0.1 -p 11211 -m 64 -c 4096; wait_for memcached 10 listens 11211; }

ceph_key() { # NAME FILE CAPABILITIES...
  local name=$1 file=$2; shift 2
  ceph auth get-or-create "$name" "$@" -o "$file"
}
ceph_monitor() {
  local admin=$ETC/ceph/ceph.client.admin.keyring keyring=$DATA/ceph/mon.keyring
  ceph-authtool --create-keyring "$keyring" --gen-key -n mon. --cap mon 'allow *' &&
    ceph-authtool --create-keyring "$admin" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *' --cap mds 'allow *' --cap mgr 'allow *' &&
    ceph-authtool "$keyring" --import-keyring "$admin" &&
    monmaptool --create --clobber --addv a '[v2:127.0.0.1:3300,v1:127.0.0.1:6789]' --fsid $CEPH_ID "$DATA/ceph/monmap" &&
    ceph-mon -c "$CEPH_CONF" --mkfs -i a --monmap "$DATA/ceph/monmap" --keyring "$keyring" && cp "$keyring" "$DATA/ceph/mon/keyring"
}
ceph_osd() {
  local key
  key=$(ceph-authtool --gen-print-key) && echo "{\"cephx_secret\": \"$key\"}" | ceph osd new $CEPH_OSD_ID -i - &&
    ceph-authtool --create-keyring "$DATA/ceph/osd0/keyring" --name osd.0 --add-key "$key" &&
    ceph-osd -c "$CEPH_CONF" -i 0 --mkfs --osd-uuid $CEPH_OSD_ID && ceph osd crush set-device-class ssd osd.0
}
ceph_pools() {
  local pool
  for pool in volumes images vms; do
    ceph osd pool create $pool 8 8 && ceph osd pool application enable $pool rbd || return
  done
  ceph_key client.cinder "$ETC/ceph/ceph.client.cinder.keyring" mon 'profile rbd' mgr 'profile rbd' \
    osd 'profile rbd pool=volumes, profile rbd pool=vms, profile rbd pool=images' &&
    ceph_key client.glance "$ETC/ceph/ceph.client.glance.keyring" mon 'profile rbd' mgr 'profile rbd' osd 'profile rbd pool=images'
}
ceph_up() {
  mkdir -p "$DATA"/ceph/{mon,mgr,osd0,mds,crash/posted} "$RUN/ceph"
  once ceph-monitor ceph_monitor || return
  start ceph-mon ceph-mon -f -c "$CEPH_CONF" -i a
  wait_for ceph-mon 30 listens 3300 && once ceph-manager ceph_key mgr.a "$DATA/ceph/mgr/keyring" mon 'allow profile mgr' osd 'allow *' mds 'allow *' || return
  start ceph-mgr ceph-mgr -f -c "$CEPH_CONF" -i a
  once ceph-osd ceph_osd || return
  start ceph-osd ceph-osd -f -c "$CEPH_CONF" -i 0
  once ceph-pools ceph_pools || return
  # os-brick looks for keyrings nowhere else; without them cinder-backup fails with "unknown exception".
  mkdir -p /etc/ceph; ln -sf "$CEPH_CONF" "$ETC"/ceph/ceph.client.{admin,cinder,glance}.keyring /etc/ceph/
}

cephfs_create() {
  ceph_key mds.a "$DATA/ceph/mds/keyring" mon 'allow profile mds' osd 'allow *' mds 'allow *' mgr 'allow profile mds' &&
    ceph osd pool create cephfs_meta 8 8 && ceph osd pool create cephfs_data 8 8 && ceph fs new cephfs cephfs_meta cephfs_data &&
    ceph_key client.manila "$ETC/ceph/ceph.client.manila.keyring" mon 'allow r' mgr 'allow rw'
}
cephfs_up() { once cephfs cephfs_create && start ceph-mds ceph-mds -f -c "$CEPH_CONF" -i a; }

# Ceph's S3 gateway. Keys are chosen here, so that openrc can name them.
s3_users() {
  local name
  for name in karbor second; do
    radosgw-admin -n client.rgw user create --uid=$name --display-name=$name --access-key=$name --secret-key="$PASSWORD-$name" || return
  done
}
s3_up() {
  once s3 ceph_key client.rgw "$ETC/ceph/ceph.client.rgw.keyring" mon 'allow rw' osd 'allow rwx' mgr 'allow rw' || return
  start ceph-rgw radosgw -f -c "$CEPH_CONF" -n client.rgw
  wait_for ceph-rgw 120 answers 7480 && once s3-users s3_users
}

storage_up() { ceph_up && s3_up && cephfs_up; }

# The kernel needs no openvswitch module: the datapath is in user space. br-ex is a tap with the gateway's address,
# so floating IPs answer from the host.
ovn_database() { ovsdb-tool create "$DATA/ovn/$1.db" "$2"; }
ovn_up() {
  local sockets=$RUN/ovn name quiet=(-vfile:off -vsyslog:off)
  export OVS_RUNDIR=$sockets OVN_RUNDIR=$sockets OVS_LOGDIR=$LOG OVN_LOGDIR=$LOG OVS_DBDIR=$DATA/ovn OVN_DBDIR=$DATA/ovn
  mkdir -p "$sockets" "$DATA/ovn"
  once ovn-switch ovn_database switch /usr/share/openvswitch/vswitch.ovsschema && once ovn-north ovn_database nb /usr/share/ovn/ovn-nb.ovsschema &&
    once ovn-south ovn_database sb /usr/share/ovn/ovn-sb.ovsschema || return
  for name in switch nb sb; do
    start ovsdb-$name ovsdb-server "$DATA/ovn/$name.db" --remote="punix:$sockets/$name.sock" --unixctl="$sockets/$name.ctl" "${quiet[@]}"
    wait_for ovsdb-$name 10 test -S "$sockets/$name.sock" || return
  done
  ovs-vsctl --db="unix:$sockets/switch.sock" --no-wait init
  ovn-nbctl --db="unix:$sockets/nb.sock" init; ovn-sbctl --db="unix:$sockets/sb.sock" init
  # `hostname` must be nova's and neutron's `host`, or no port is ever bound.
  ovs-vsctl --db="unix:$sockets/switch.sock" --no-wait set open . external-ids:system-id=testbed external-ids:hostname=testbed \
    external-ids:ovn-remote="unix:$sockets/sb.sock" external-ids:ovn-encap-type=geneve external-ids:ovn-encap-ip=127.0.0.1 \
    external-ids:ovn-bridge=br-int external-ids:ovn-bridge-datapath-type=netdev external-ids:ovn-bridge-mappings=physnet1:br-ex \
    external-ids:ovn-cms-options=enable-chassis-as-gw external-ids:ovn-monitor-all=true
  start ovs-vswitchd ovs-vswitchd "unix:$sockets/switch.sock" --unixctl="$sockets/vswitchd.ctl" "${quiet[@]}" -vconsole:warn
  ovs-vsctl --db="unix:$sockets/switch.sock" --timeout=20 \
    -- --may-exist add-br br-int -- set bridge br-int datapath_type=netdev fail-mode=secure other-config:disable-in-band=true \
    -- --may-exist add-br br-ex -- set bridge br-ex datapath_type=netdev || return
  wait_for ovs-vswitchd 20 ip link show br-ex || return   # bridges known from before come up in their own time
  ip address replace 172.24.4.1/24 dev br-ex && ip link set br-ex up || return
  start ovn-northd ovn-northd --ovnnb-db="unix:$sockets/nb.sock" --ovnsb-db="unix:$sockets/sb.sock" --unixctl="$sockets/northd.ctl" "${quiet[@]}"
  # ovn-controller knows no --unixctl.
  start ovn-controller ovn-controller "unix:$sockets/switch.sock" "${quiet[@]}"
}

# libvirtd in a mount namespace of its own: /etc/libvirt, /var/lib/libvirt and /run/libvirt of the machine stay as they are.
libvirt_secret() {
  local description="<secret ephemeral='no' private='no'><uuid>$LIBVIRT_SECRET</uuid><usage type='ceph'><name>client.cinder</name></usage></secret>"
  virsh -c "$LIBVIRT_URI" secret-define /dev/stdin <<<"$description" &&
    virsh -c "$LIBVIRT_URI" secret-set-value $LIBVIRT_SECRET --base64 "$(ceph auth get-key client.cinder)"
}
libvirt_up() {
  alive libvirtd && return
  # Debian's build looks its default user up before it reads qemu.conf.
  groupadd -rf libvirt-qemu; id libvirt-qemu >/dev/null 2>&1 || useradd -r -g libvirt-qemu -s /usr/sbin/nologin -d /nonexistent libvirt-qemu
  # shellcheck disable=SC2016  # the inner shell expands
  start libvirtd unshare -m bash -c '
    mkdir -p /run/libvirt /var/lib/libvirt /etc/libvirt /var/cache/libvirt /var/log/libvirt
    mount --make-rprivate /
    mount --bind $ETC/libvirt /etc/libvirt; mount --bind $DATA/libvirt /var/lib/libvirt
    mount --bind $DATA/libvirt/cache /var/cache/libvirt; mount --bind $LOG/libvirt /var/log/libvirt
    mount -t tmpfs run /run/libvirt
    exec libvirtd -f /etc/libvirt/libvirtd.conf -p $RUN/libvirt/own.pid'
  wait_for libvirtd 30 virsh -c "$LIBVIRT_URI" version && libvirt_secret >"$LOG/libvirt-secret.log" 2>&1
}
