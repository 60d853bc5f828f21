# shellcheck shell=bash
# Sourced by the batch scripts: trains, and has SLURM start the job again if it was stopped in time.

# resume_of RUN RESUME
# What a start resumes from: RESUME, or RUN's newest checkpoint when SLURM starts the job again.
resume_of() {
    local manifests=("$1"/checkpoints/step-*/manifest.json)
    # A job that a failing node ended before its first checkpoint begins as it was told to.
    if [[ ${SLURM_RESTART_COUNT:-0} != 0 && -e ${manifests[0]} ]]; then
        echo auto
    else
        echo "$2"
    fi
}

# train_or_requeue RUN COMMAND...
# SIGUSR1 to the batch shell (SLURM sends it ahead of the time limit; by hand: scancel --batch
# --signal=USR1 JOB) or to the ranks stops the training behind a checkpoint and requeues the job.
# scancel JOB and `touch RUN/stop` stop it for good.
train_or_requeue() {
    local run=$1 signalled='' cancelled='' status=0
    shift
    trap 'signalled=yes' USR1
    trap 'cancelled=yes' TERM
    "$@" &
    local training=$!
    while kill -0 "$training" 2>/dev/null; do
        # Again and again: a training that only now starts takes an older request away.
        if [[ $signalled ]]; then touch "$run/stop" 2>/dev/null || true; fi
        sleep 1 || true
    done
    wait "$training" || status=$?
    if [[ $signalled ]]; then rm -f "$run/stop"; fi
    if grep -qs SIGUSR1 "$run/stopped.json"; then signalled=yes; fi
    # SLURM's own SIGTERM comes with scancel, and where it requeues the job itself.
    if [[ -e $run/stopped.json && $signalled && ! $cancelled && $status = 0 ]]; then
        # An array's last task has the array's own job id, which would requeue every task.
        local job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}
        job=${job:-$SLURM_JOB_ID}
        echo "stopped in time: requeueing job $job"
        scontrol requeue "$job"
    fi
    exit "$status"
}
