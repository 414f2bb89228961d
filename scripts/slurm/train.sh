#!/bin/bash
# Train one network on all GPUs of one or more machines, for as many time limits as it takes.
#
#   sbatch scripts/slurm/train.sh experiment=rgcnn_smoke_rotation seed=1
#   sbatch --nodes=2 scripts/slurm/train.sh experiment=rgcnn_smoke_rotation
#
# Submit it from the root of the clone. Its directory is RUN_DIR, by default logs/train/slurm/<job>.
#SBATCH --job-name=train
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --gpus-per-node=2
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out

cd "$SLURM_SUBMIT_DIR" || exit 1
source scripts/slurm/step.sh

train_in "${RUN_DIR:-logs/train/slurm/$SLURM_JOB_ID}" \
    trainer=ddp \
    "trainer.devices=$SLURM_NTASKS_PER_NODE" \
    "trainer.num_nodes=$SLURM_JOB_NUM_NODES" \
    "$@"
