#!/bin/bash
# A SLURM cluster of two nodes on one machine: runs as the first process of namespaces of its own
# (see cluster.py), so that it leaves nothing behind. Usage: cluster.sh DIRECTORY
set -euo pipefail
directory=$1
export SLURM_CONF=$directory/slurm.conf

ip link set lo up
# SLURM looks for addresses beside the loopback's.
ip link add nodes type veth peer name unused
ip link set nodes up
ip link set unused up
ip address add 10.91.0.1/24 dev nodes
ip address add 10.91.0.2/24 dev nodes
mount -t tmpfs tmpfs /run
mkdir /run/munge /run/slurm
printf '127.0.0.1 localhost\n10.91.0.1 n1 %s\n10.91.0.2 n2\n' "$(hostname)" >"$directory/hosts"
mount --bind "$directory/hosts" /etc/hosts

mkdir "$directory/munge" "$directory/state"
chmod 700 "$directory/munge"
head -c 128 /dev/urandom >"$directory/munge/key"
chmod 400 "$directory/munge/key"
munged --force --key-file="$directory/munge/key" --log-file="$directory/munge/log" \
    --seed-file="$directory/munge/seed"

cat >"$SLURM_CONF" <<CONF
ClusterName=tsjt
SlurmctldHost=$(hostname)(10.91.0.1)
SlurmUser=root
SlurmctldPort=17000
AuthType=auth/munge
# A requeued job waits until its last credentials are void: two minutes by default.
AuthInfo=cred_expire=20
CryptoType=crypto/munge
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/spool-%n
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/slurmd-%n.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdLogFile=$directory/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=5
ReturnToService=2
MpiDefault=none
SlurmdTimeout=15
KillWait=60
MinJobAge=600
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname=localhost NodeAddr=10.91.0.1 Port=17001 CPUs=2
NodeName=n2 NodeHostname=localhost NodeAddr=10.91.0.2 Port=17002 CPUs=2
PartitionName=all Nodes=n[1-2] Default=YES OverSubscribe=YES MaxTime=INFINITE
CONF

slurmctld
slurmd -N n1
slurmd -N n2
# This shell takes care of what the daemons leave behind; killing it ends all of the namespace.
sleep infinity &
wait
