# shellcheck shell=bash
# shellcheck disable=SC2034,SC2086  # SERVICES is read by up; words without spaces need no quotes
# The OpenStack services: NAME_schema makes the tables, NAME_up starts the daemons.

SERVICES="keystone glance cinder barbican placement neutron nova manila heat trove freezer"   # those with tables

api() { # NAME PORT MODULE|paste:FILE [ARGUMENT...]
  start "$1" python "$HERE/wsgi.py" "$@"
}

# How each finds its configuration under WSGI: by OS_<NAME>_CONFIG_DIR, in its arguments, or in ~/.<name>.
export OS_KEYSTONE_CONFIG_DIR=$ETC/keystone OS_GLANCE_CONFIG_DIR=$ETC/glance OS_NOVA_CONFIG_DIR=$ETC/nova
export OS_PLACEMENT_CONFIG_DIR=$ETC/placement OS_NEUTRON_CONFIG_DIR=$ETC/neutron OS_NEUTRON_CONFIG_FILES="neutron.conf;ml2_conf.ini"
NEUTRON_FILES=(--config-file "$ETC/neutron/neutron.conf" --config-file "$ETC/neutron/ml2_conf.ini")

keystone_schema() { keystone-manage db_sync; }
keystone_bootstrap() {
  keystone-manage fernet_setup --keystone-user root --keystone-group root &&
    keystone-manage credential_setup --keystone-user root --keystone-group root &&
    keystone-manage bootstrap --bootstrap-password "$PASSWORD" --bootstrap-region-id RegionOne \
      --bootstrap-admin-url $AUTH_URL --bootstrap-public-url $AUTH_URL --bootstrap-internal-url $AUTH_URL
}
keystone_up() {
  once keystone-bootstrap keystone_bootstrap || return
  api keystone 5000 keystone.wsgi.api
  wait_for keystone 180 answers 5000 && once identity python "$HERE/content.py" identity
}

swift_ring() ( # KIND PORT
  cd "$ETC/swift" && rm -f "$1.builder" && swift-ring-builder "$1.builder" create 8 1 1 &&
    swift-ring-builder "$1.builder" add "r1z1-127.0.0.1:$2/d1" 1 && swift-ring-builder "$1.builder" rebalance
)
swift_up() {
  local kind kind_port
  for kind_port in account:6202 container:6201 object:6200; do
    kind=${kind_port%:*}
    once swift-ring-$kind swift_ring $kind ${kind_port#*:} || return
    start swift-$kind swift-$kind-server "$ETC/swift/$kind-server.conf" -v
  done
  start swift-proxy swift-proxy-server "$ETC/swift/proxy-server.conf" -v
  # Unlike the servers, the updaters ignore swift_dir and would read /etc/swift/swift.conf.
  for kind in container object; do
    start swift-$kind-updater python -c 'import runpy, sys; from swift.common.utils import set_swift_dir
set_swift_dir(sys.argv[1]); sys.argv = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name="__main__")' \
      "$ETC/swift" "$VENV/bin/swift-$kind-updater" "$ETC/swift/$kind-server.conf"
  done
}

glance_schema() { glance-manage --config-file "$ETC/glance/glance-api.conf" db_sync; }
glance_up() { api glance-api 9292 glance.wsgi.api; }

cinder_schema() { cinder-manage --config-file "$ETC/cinder/cinder.conf" db sync; }
cinder_up() {
  local part
  api cinder-api 8776 cinder.wsgi.api --config-file "$ETC/cinder/cinder.conf"
  for part in scheduler volume backup; do start cinder-$part cinder-$part --config-file "$ETC/cinder/cinder.conf"; done
}

barbican_schema() { barbican-manage db upgrade; }
barbican_up() { api barbican 9311 "paste:$VENV/etc/barbican/barbican-api-paste.ini"; }   # its module hard-codes /etc/barbican

placement_schema() { placement-manage db sync; }
placement_up() { api placement 8778 placement.wsgi.api; }

neutron_schema() { neutron-db-manage "${NEUTRON_FILES[@]}" upgrade head; }
neutron_up() {
  ovn_up || return
  ASGI_WORKERS=1 api neutron-api 9696 neutron.wsgi.api   # it cannot count its workers outside uWSGI
  start neutron-ovn-maintenance neutron-ovn-maintenance-worker "${NEUTRON_FILES[@]}" --log-file "$LOG/neutron-ovn-maintenance.log"
  start neutron-periodic neutron-periodic-workers "${NEUTRON_FILES[@]}" --log-file "$LOG/neutron-periodic.log"
}

# Cells are recorded as templates of nova.conf's own addresses, so that the cached dump fits every prefix.
nova_schema() {
  local manage="nova-manage --config-file $ETC/nova/nova.conf" url='{scheme}://{username}:{password}@{hostname}'
  $manage api_db sync && $manage cell_v2 map_cell0 --database_connection "$url/nova_cell0?{query}" && $manage db sync &&
    $manage cell_v2 create_cell --name cell1 --transport-url "$url:{port}/" --database_connection "$url/nova?{query}"
}
nova_up() {
  local part
  libvirt_up || return
  api nova-api 8774 nova.wsgi.osapi_compute
  for part in conductor scheduler compute; do start nova-$part nova-$part --config-file "$ETC/nova/nova.conf"; done
}

manila_schema() { manila-manage --config-file "$ETC/manila/manila.conf" db sync; }
manila_up() {
  local part
  api manila-api 8786 manila.wsgi.api --config-file "$ETC/manila/manila.conf"
  for part in scheduler share data; do start manila-$part manila-$part --config-file "$ETC/manila/manila.conf"; done
}

heat_schema() { heat-manage --config-file "$ETC/heat/heat.conf" db_sync; }
heat_up() {
  api heat-api 8004 heat.wsgi.api
  start heat-engine heat-engine --config-file "$ETC/heat/heat.conf"
}

# Trove's migration ends with a call to nova, which does not run yet: the tables are there, the status is not.
trove_schema() {
  trove-manage --config-file "$ETC/trove/trove.conf" db_sync
  sql -N -e 'SELECT count(*) >= 20 FROM information_schema.tables WHERE table_schema = "trove"' | grep -qx 1
}
trove_up() {   # eventlet to the bone: under a threaded server it accepts and never answers
  start trove-api trove-api --config-file "$ETC/trove/trove.conf"
  start trove-taskmanager trove-taskmanager --config-file "$ETC/trove/trove.conf"
}

freezer_schema() { freezer-manage --config-file "$ETC/freezer/freezer-api.conf" db sync; }
freezer_up() {
  api freezer-api 9090 freezer_api.wsgi --config-file "$ETC/freezer/freezer-api.conf"
  OS_AUTH_URL=$AUTH_URL OS_USERNAME=alice OS_PASSWORD=$PASSWORD OS_PROJECT_NAME=demo OS_USER_DOMAIN_NAME=Default \
    OS_PROJECT_DOMAIN_NAME=Default OS_REGION_NAME=RegionOne OS_IDENTITY_API_VERSION=3 \
    start freezer-scheduler freezer-scheduler --config-file "$ETC/freezer/scheduler.conf" start
}
