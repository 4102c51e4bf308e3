#!/usr/bin/env bash
# The paper's full schedule on one GPU: TransUNet, 256 px, 300 + 100 epochs, batch 12, m = 200; with the paper's head
# and L2, and with this package's (partition head, bounded L2, outlines widened by 4 px). Both are measured at the end.
#
#     bash scripts/paper_schedule.sh DATA RUNS
#     sbatch --time=24:00:00 scripts/paper_schedule.sh DATA RUNS
#
# DATA is a data set with a "train" and a "test" split, RUNS the folder for the two runs. Call it again, or queue it
# several times with sbatch --dependency=singleton: what is done is left alone, and the rest goes on where it stopped.
# Exit code 75 says that it was stopped and saved. TOY=1 runs all of it at toy size, in minutes on a CPU.
#
#SBATCH --job-name=lsn-paper
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
set -euo pipefail

data=${1:?usage: paper_schedule.sh DATA RUNS}
runs=${2:?usage: paper_schedule.sh DATA RUNS}
shared=()   # settings of both runs
measured=() # options of both evaluations
if [[ ${TOY:-0} == 1 ]]; then
  for setting in networks=compact size=32 batch=4 validate_every=5 pseudo.epochs=2 pseudo.switch=1 real.epochs=1; do
    shared+=(--set "$setting")
  done
  measured=(--phantoms 2)
else
  measured=(--probe)
fi

lsn_step() { # inside a SLURM job a step of it, which hears when time is nearly up
  ${SLURM_JOB_ID:+srun} lsn "$@"
}

train_and_measure() {
  local run=$runs/$1
  shift
  if [[ ! -f $run/metrics.json ]]; then
    if compgen -G "$run/checkpoints/*.safetensors" >/dev/null; then
      lsn_step train "$run" --data "$data" --resume
    else
      lsn_step train "$run" --data "$data" --profile paper "$@" ${shared[@]+"${shared[@]}"}
    fi
    [[ -f $run/metrics.json ]] || exit 75
  fi
  [[ -f $run/metrics_test.json ]] || lsn_step evaluate "$run" --data "$data" --split test "${measured[@]}"
}

train_and_measure sigmoid
train_and_measure partition --set head=partition --set soft_tissue=bounded --set dilate_px=4
