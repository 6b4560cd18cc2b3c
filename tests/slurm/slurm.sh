#!/bin/bash
# A single-node Slurm of one's own for `make test-slurm`: slurm.sh start FOLDER | stop FOLDER.
# start installs Debian's packages if needed and ends when the node is idle. FOLDER holds state, logs and the key; the
# configuration must be /etc/slurm/slurm.conf (jobs lose SLURM_CONF), so a machine that has its own Slurm is refused.
set -euo pipefail

action=$1
folder=$2
[ "$(id -u)" = 0 ] || exec sudo -E "$0" "$@"
conf=/etc/slurm/slurm.conf
mark="# written by tests/slurm/slurm.sh"

install_packages() {
    command -v slurmctld slurmd munged >/dev/null && return
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

configure() {
    local node cpus memory
    if [ -e "$conf" ] && ! grep -qxF "$mark" "$conf"; then
        echo "error: $conf is not ours; expected a machine without a Slurm of its own" >&2
        exit 1
    fi
    node=$(hostname -s)
    cpus=$(nproc)
    memory=$(awk '/MemTotal/ {print int($2 / 1024) - 512}' /proc/meminfo)
    mkdir -p /etc/slurm
    cat >"$conf" <<EOF
$mark
ClusterName=tiny
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=16817
SlurmdPort=16818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
MinJobAge=600
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
NodeName=$node NodeAddr=127.0.0.1 CPUs=$cpus RealMemory=$memory State=UNKNOWN
PartitionName=tiny Nodes=$node Default=YES MaxTime=INFINITE State=UP
EOF
}

start() {
    install_packages
    stop # a run that was killed leaves daemons, and jobs that keep the next node from being idle
    rm -rf "$folder/state" "$folder/spool"
    mkdir -p "$folder/state" "$folder/spool"
    chmod 755 "$folder"
    configure
    (umask 077 && dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 status=none)
    munged --force --socket="$folder/munge.socket" --key-file="$folder/munge.key" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
    slurmctld
    slurmd
    for _ in $(seq 60); do
        [ "$(sinfo --noheader --format=%t 2>/dev/null)" = idle ] && return
        sleep 1
    done
    tail -n 20 "$folder"/*.log >&2
    echo "error: the Slurm node is not idle after a minute" >&2
    exit 1
}

stop() {
    scancel --partition=tiny 2>/dev/null || true
    for daemon in slurmd slurmctld munged; do
        [ ! -f "$folder/$daemon.pid" ] || end "$(cat "$folder/$daemon.pid")" "$daemon"
    done
    pkill -KILL -f "^slurmstepd: " || true
    ! grep -qxF "$mark" "$conf" 2>/dev/null || rm "$conf"
}

end() { # PID NAME: ends the process of that name and waits until it has gone
    [ "$(cat "/proc/$1/comm" 2>/dev/null)" = "$2" ] || return 0
    kill "$1"
    for _ in $(seq 20); do
        [ -e "/proc/$1" ] || return 0
        sleep 0.5
    done
    kill -KILL "$1" 2>/dev/null || true
}

case $action in
start) start ;;
stop) stop ;;
*) echo "usage: slurm.sh start|stop FOLDER" >&2 && exit 2 ;;
esac
