import subprocess

import pytest

from src.runs.environment import describe_environment, git_state


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path):
    git(tmp_path, "init")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "a")
    return tmp_path


def test_commit_and_changes_are_told(repository):
    clean = git_state(repository)
    assert len(clean["commit"]) == 40
    assert clean["dirty"] is False
    (repository / "a").write_text("2")
    assert git_state(repository) == {**clean, "dirty": True}
    (repository / "a").write_text("1")
    (repository / "new").write_text("code that is not in the commit")
    assert git_state(repository)["dirty"] is True


def test_without_a_repository_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    state = git_state(tmp_path)
    assert (state["commit"], state["dirty"]) == (None, None)
    assert "not a git repository" in state["reason"]


def test_without_git_the_reason_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path)["reason"] == "git is not installed"


def test_the_description_is_complete(tmp_path):
    described = describe_environment(tmp_path, 7)
    assert described["seed"] == 7
    assert described["libraries"]["lightning"]
    assert described["devices"]["cpu"]
    assert described["devices"]["torch_threads"] >= 1
    assert {"started", "command", "git", "python", "platform"} <= set(described)
