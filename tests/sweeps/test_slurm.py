import subprocess
from math import inf

import pytest
from omegaconf import OmegaConf

from src.errors import UserError
from src.sweeps import slurm
from src.sweeps.records import LostJobError
from src.sweeps.slurm import Nodes, read_nodes, slurm_problems, submit

PRINTED = """\
cpu*|12|64|192000|(null)|1-00:00:00
gpu|2|32|512000|gpu:a100:4(S:0-1),gpu:v100:2|infinite
gpu|1|8|1|gpu:1,shard:4|30:00
"""
SMALL = "cpu*|1|2|8000|(null)|4:00:00\n"
GPU = {"gpus_per_node": 1, "cpus_per_task": 4, "mem_gb": 16, "timeout_min": 240}
CPU = {**GPU, "gpus_per_node": None, "tasks_per_node": 1}


def test_what_the_cluster_has_is_read():
    assert read_nodes(PRINTED) == [
        Nodes("cpu", True, 12, 64, 187.5, 0, 1440),
        Nodes("gpu", False, 2, 32, 500, 6, inf),
        Nodes("gpu", False, 1, 8, 1 / 1024, 1, 30),
    ]


@pytest.mark.parametrize(
    ("printed", "asked", "fixes"),
    [
        (PRINTED, CPU, ""),
        (PRINTED, {**GPU, "partition": "gpu"}, ""),
        (PRINTED, {**GPU, "partition": "none,gpu"}, ""),
        (PRINTED, GPU, "hydra.launcher.partition=gpu"),
        (SMALL, {**CPU, "mem_gb": 4, "gpus_per_node": 1, "cpus_per_task": 2}, "launcher=slurm_cpu"),
        (PRINTED, {**CPU, "timeout_min": 2000}, "hydra.launcher.timeout_min=1440"),
        (PRINTED, {**GPU, "gpus_per_node": 6}, "hydra.launcher.partition=gpu"),
        (SMALL, {**CPU, "mem_gb": 4}, "hydra.launcher.cpus_per_task=2"),
        (SMALL, {**CPU, "cpus_per_task": 1, "tasks_per_node": 2}, "hydra.launcher.mem_gb=7"),
        (SMALL.replace("8000", "1"), {**CPU, "cpus_per_task": 1}, "hydra.launcher.mem_gb=null"),
        (SMALL, {}, ""),
    ],
)
def test_a_request_that_no_node_can_serve_is_refused(monkeypatch, printed, asked, fixes):
    done = subprocess.CompletedProcess([], 0, printed, "")
    monkeypatch.setattr(slurm.subprocess, "run", lambda *_, **__: done)
    problems = slurm_problems(OmegaConf.create(asked))
    assert len(problems) == (fixes != "")
    if problems:
        has = "cpu (the default): "
        assert f"has nodes in {has}" in problems[0] and problems[0].endswith(f" Use {fixes}.")


def test_a_cluster_that_does_not_answer_is_told(monkeypatch):
    asked = OmegaConf.create(CPU)
    monkeypatch.setattr(slurm, "SINFO", ("sinfo-is-not-here",))
    assert "must be used where SLURM answers" in slurm_problems(asked)[0]
    monkeypatch.setattr(slurm, "SINFO", ("sh", "-c", "printf 'error\nno controller\n' >&2; exit 1"))
    assert "`sinfo` gave: no controller. " in slurm_problems(asked)[0]
    monkeypatch.setattr(slurm, "SINFO", ("true",))
    assert "must have a partition" in slurm_problems(asked)[0]


class Launcher:
    """As Hydra's for submitit, with jobs that leave no result."""

    def __init__(self, folder, error=None):
        self.folder, self.error = folder, error

    def launch(self, batch, first):
        from submitit.slurm.slurm import SlurmJob

        if self.error is not None:
            raise self.error
        jobs = [SlurmJob(self.folder / "%j", f"7_{number}", [0]) for number in range(len(batch))]
        for job in jobs:
            job.paths.folder.mkdir()
        return [job.results()[0] for job in jobs]


def test_a_job_that_slurm_ended_is_an_error_and_waited_for_once(tmp_path, monkeypatch):
    """Without `sacct`; the last job is no longer known to SLURM."""
    from submitit.core import core, utils
    from submitit.slurm.slurm import SlurmJob

    answers = ["7_0|RUNNING\n7_1|PENDING\n7_2|COMPLETING\n8|FAILED\n"]
    answers += ["7_0|OUT_OF_MEMORY\n7_1|CANCELLED\n"]
    asked, slept = [], []

    def answer(command, **_):
        asked.append(command)
        return (answers.pop(0) if len(answers) > 1 else answers[0]).encode()

    for name in ("results", "watcher"):
        monkeypatch.setattr(SlurmJob, name, getattr(SlurmJob, name))  # put back afterwards
    slurm._watch_the_queue.cache_clear()
    monkeypatch.setattr(core.subprocess, "check_output", answer)
    clock = iter(range(10_000))
    monkeypatch.setattr(core._time, "sleep", slept.append)
    monkeypatch.setattr(core._time, "time", lambda: float(next(clock)))
    monkeypatch.setattr(slurm, "SECONDS_OF_FILES", 0.0)
    lost = submit(Launcher(tmp_path), [[], [], []], 0)
    assert all(isinstance(error, LostJobError) for error in lost)
    states = [str(error).partition(": ")[2].partition(". Log: ")[0] for error in lost]
    assert states == ["OUT_OF_MEMORY", "CANCELLED", slurm.GONE]
    assert asked == [list(slurm.SQUEUE)] * 2
    for words, fix in (
        ("Invalid account", "Change what hydra.launcher asks for"),
        ("Invalid job array specification", "Use hydra.sweeper.max_batch_size=1000"),
    ):
        refused = utils.FailedJobError(f"sbatch: error: {words}")
        with pytest.raises(UserError, match=rf"SLURM must accept .* {words}\. {fix}"):
            submit(Launcher(tmp_path, refused), [[]], 0)
    slurm._watch_the_queue.cache_clear()
