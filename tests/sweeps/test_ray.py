import sys
from types import SimpleNamespace

import pytest

from src.errors import UserError
from src.sweeps import ray

SMALL, LARGE = {"CPU": 2.0, "memory": 4e9}, {"CPU": 16.0, "memory": 64e9, "GPU": 2.0}


@pytest.fixture
def cluster(monkeypatch):
    """Stand in for Ray with machines of these resources; returns what `init` was given."""

    def make(*machines, error=None):
        given = {}

        def init(**settings):
            given.update(settings)
            if error is not None:
                raise error

        nodes = [{"Alive": True, "Resources": machine} for machine in machines]
        nodes += [{"Alive": False, "Resources": {"CPU": 999.0}}]
        fake = SimpleNamespace(nodes=lambda: nodes, init=init)
        monkeypatch.setitem(sys.modules, "ray", fake)
        return given

    return make


def test_a_request_that_no_machine_can_serve_is_told(cluster, caplog):
    cluster(SMALL, LARGE)
    for good in ({}, {"num_gpus": 0.25}, {"num_cpus": 16, "memory": 5e9, "max_retries": 0}):
        ray._check_request(good, is_local=True)
    cluster(SMALL, {**LARGE, "GPU": 0.0})
    asked = {"num_cpus": 1, "num_gpus": 0.5, "memory": None}
    message = "what one machine of the cluster has; got CPU 1, GPU 0.5. Its machines have: CPU 2, "
    with pytest.raises(UserError, match=message):
        ray._check_request(asked, is_local=True)
    assert not caplog.text
    ray._check_request(asked, is_local=False)  # it may grow
    assert "wait until one that has it joins" in caplog.text


def test_workers_of_a_cluster_that_exists_get_the_variables_of_the_project(
    cluster, monkeypatch, tmp_path
):
    given = cluster()
    ray._connect({"address": None, "num_cpus": 2})
    assert given == {"address": "local", "num_cpus": 2, "object_store_memory": ray.STORE_BYTES}
    (tmp_path / ".env").write_text("IN_ENV_FILE=1\nNOT_SET=2\n")
    monkeypatch.setattr(ray, "ROOT", tmp_path)
    carried = {"PYTHONPATH": "/here", "OMP_NUM_THREADS": "3", "IN_ENV_FILE": "shell's"}
    for name, value in {**carried, "WANDB_MODE": "offline", "OTHER": "x"}.items():
        monkeypatch.setenv(name, value)
    given = cluster()
    own = {"working_dir": "/w", "env_vars": {"WANDB_MODE": "online", "OWN": 1}}
    ray._connect({"address": "auto", "runtime_env": own})
    assert set(given) == {"address", "runtime_env"} and given["runtime_env"]["working_dir"] == "/w"
    variables = given["runtime_env"]["env_vars"]
    assert variables.items() >= {**carried, "WANDB_MODE": "online", "OWN": "1"}.items()
    assert "PROJECT_ROOT" in variables and not {"OTHER", "NOT_SET", "PATH"} & set(variables)
    cluster(error=ConnectionError("nobody there"))
    with pytest.raises(UserError, match=r"must be that of a cluster of Ray .* nobody there"):
        ray._connect({"address": "host:1"})
