"""A report of runs and sweeps, made of what is in their directories and of nothing else."""
