# Sourced by the job scripts beside it.

# Train in a directory, or continue the run that is there: train_in <directory> <overrides>
#
# Before the time limit SLURM sends USR1 to this shell (--signal=B:USR1@...). The job is then put
# back into the queue, which ends the step; the run continues after its last whole epoch, so that an
# epoch must fit into the time limit. A run that fails is not repeated.
train_in() {
    local directory=$1 quoted="'${1//\'/\\\'}'" place step status stopped= # quoted for Hydra
    shift
    place=("hydra.run.dir=$quoted")
    if [[ -f $directory/config.yaml ]]; then
        place=("resume=$quoted" trust=true) # of this job, whatever network it trains
    fi
    trap 'stopped=yes; scontrol requeue "$SLURM_JOB_ID"' USR1
    srun --kill-on-bad-exit=1 "${PYTHON:-.venv/bin/python}" src/train.py "$@" "${place[@]}" &
    step=$!
    wait "$step"
    status=$?
    if [[ $stopped ]]; then # the signal ended `wait`, not the step
        wait "$step"
        status=$?
    fi
    return "$status"
}
