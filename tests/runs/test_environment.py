import subprocess

import pytest

from src.runs.environment import git_state, slurm_job


@pytest.mark.parametrize(
    ("variables", "number"),
    [({}, None), ({"JOB_ID": "8"}, "8"), ({"JOB_ID": "8", "ARRAY_JOB_ID": "7"}, "7_2")],
)
def test_the_slurm_job_is_named_as_in_the_queue(monkeypatch, variables, number):
    for name in ("JOB_ID", "ARRAY_JOB_ID"):
        monkeypatch.delenv(f"SLURM_{name}", raising=False)
    for name, value in ({"ARRAY_TASK_ID": "2"} | variables).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert slurm_job() == number


def test_commit_and_changes_are_recorded_or_why_not(tmp_path, monkeypatch):
    def git(*arguments):
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = git_state(tmp_path)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert "not a git repository" in state["reason"]
    (tmp_path / "a").write_text("1")
    for command in (["init"], ["add", "a"], ["commit", "-m", "a"]):
        git(*command)
    clean = git_state(tmp_path)
    assert (len(clean["commit"]), clean["dirty"]) == (40, False)
    (tmp_path / "a").write_text("2")
    assert git_state(tmp_path) == {**clean, "dirty": True}
    (tmp_path / "a").write_text("1")
    (tmp_path / "new").write_text("code that is not in the commit")
    assert git_state(tmp_path)["dirty"] is True
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "'git'" in git_state(tmp_path)["reason"]
