#!/usr/bin/env bash
# ceph.sh start FOLDER PORT | stop FOLDER: starts or stops a single-node, in-memory Ceph, as a real S3 store on
# 127.0.0.1:PORT. Needs Debian's packages ceph-mon, ceph-osd, ceph-common and radosgw. All of its files are below FOLDER.
# It accepts the credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
set -euo pipefail

folder=$2
settings=$folder/ceph.conf

# Waits until a command succeeds, for at most half a minute.
wait_for() {
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "ceph.sh: timed out waiting for: $*; see $folder/log" >&2
    exit 1
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
osd_is_up() { ceph -c "$settings" osd stat | grep -q '1 up'; }

settings_of() {
    cat <<END
[global]
fsid = $1
mon_initial_members = a
mon_host = [v2:127.0.0.1:$2/0,v1:127.0.0.1:$3/0]
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
auth_allow_insecure_global_id_reclaim = false
keyring = $folder/keyring
# There is only one OSD, so keep one copy of everything.
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
osd_crush_chooseleaf_type = 0
mon_max_pg_per_osd = 1000
osd_objectstore = memstore
memstore_device_bytes = 4294967296
run_dir = $folder/run
admin_socket = $folder/run/\$name.asok
log_file = $folder/log/\$name.log
mon_data = $folder/mon
osd_data = $folder/osd
rgw_data = $folder/rgw

[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:$4
END
}

start() {
    local port=$1 id keyring=$folder/keyring
    # The monitor uses the next two ports. If they are not free, it fails to start.
    local monitor=$((port + 1)) old_monitor=$((port + 2))
    rm -rf "$folder"
    mkdir -p "$folder"/{mon,osd,rgw,run,log}
    settings_of "$(cat /proc/sys/kernel/random/uuid)" "$monitor" "$old_monitor" "$port" >"$settings"
    {
        ceph-authtool --create-keyring "$keyring" --gen-key -n mon. --cap mon 'allow *'
        ceph-authtool "$keyring" --gen-key -n client.admin --cap mon 'allow *' --cap osd 'allow *'
        ceph-authtool "$keyring" --gen-key -n client.rgw --cap mon 'allow rw' --cap osd 'allow rwx'
        monmaptool --create --addv a "[v2:127.0.0.1:$monitor,v1:127.0.0.1:$old_monitor]" \
            --fsid "$(sed -n 's/^fsid = //p' "$settings")" "$folder/monmap"
        ceph-mon -c "$settings" --mkfs -i a --monmap "$folder/monmap" --keyring "$keyring"
    } >"$folder/log/made" 2>&1

    ceph-mon -c "$settings" -i a -f >"$folder/log/mon.out" 2>&1 &
    echo $! >"$folder/run/mon.started"
    wait_for ceph -c "$settings" --connect-timeout 2 mon stat

    local uuid
    uuid=$(cat /proc/sys/kernel/random/uuid)
    id=$(ceph -c "$settings" osd new "$uuid")
    ceph -c "$settings" auth get-or-create "osd.$id" mon 'allow profile osd' osd 'allow *' \
        >"$folder/osd/keyring" 2>>"$folder/log/made"
    cat "$folder/osd/keyring" >>"$keyring"
    ceph-osd -c "$settings" -i "$id" --mkfs --osd-uuid "$uuid" >>"$folder/log/made" 2>&1
    ceph -c "$settings" osd crush add "osd.$id" 1.0 root=default host=local >>"$folder/log/made" 2>&1
    ceph-osd -c "$settings" -i "$id" -f >"$folder/log/osd.out" 2>&1 &
    echo $! >"$folder/run/osd.started"
    wait_for osd_is_up

    radosgw -c "$settings" -n client.rgw -f >"$folder/log/rgw.out" 2>&1 &
    echo $! >"$folder/run/rgw.started"
    wait_for listens "$port"
    radosgw-admin -c "$settings" user create --uid=test --display-name=test \
        --access-key="$AWS_ACCESS_KEY_ID" --secret-key="$AWS_SECRET_ACCESS_KEY" >>"$folder/log/made" 2>&1
}

# Stops the processes that were started, the gateway first.
stop() {
    local name pid
    for name in rgw osd mon; do
        [ -f "$folder/run/$name.started" ] || continue
        pid=$(cat "$folder/run/$name.started")
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 50); do
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        kill -9 "$pid" 2>/dev/null || true
    done
    rm -rf "$folder"
}

case $1 in
start) start "$3" ;;
stop) stop ;;
*)
    echo "usage: ceph.sh start FOLDER PORT | stop FOLDER" >&2
    exit 2
    ;;
esac
