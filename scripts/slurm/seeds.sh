#!/bin/bash
# Train one network per seed, each on one GPU, for as many time limits as it takes.
#
#   sbatch --array=0-4 scripts/slurm/seeds.sh experiment=rgcnn_rotmnist
#
# Submit it from the root of the clone. Seed s has the directory RUN_DIR/s, by default
# logs/train/slurm/<job>/s.
#SBATCH --job-name=seeds
#SBATCH --array=0-4
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out

cd "$SLURM_SUBMIT_DIR" || exit 1
source scripts/slurm/step.sh

seed=$SLURM_ARRAY_TASK_ID
train_in "${RUN_DIR:-logs/train/slurm/$SLURM_ARRAY_JOB_ID}/$seed" trainer=gpu "seed=$seed" "$@"
