from itertools import product
from types import SimpleNamespace
from unittest.mock import Mock

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import setup_globals
from hydra.types import RunMode
from omegaconf import OmegaConf, open_dict

from src.errors import UserError
from src.files import SUMMARY_FILE, write_json
from src.runs.resolvers import register_resolvers
from src.sweeps import sweeper
from src.sweeps.names import register_sweep_resolvers
from src.sweeps.records import read_records, records_folder
from src.sweeps.sweeper import Remaining, Sweeper, use_own_sweeper
from tests.conftest import FAKES, ROOT, TINY

pytestmark = pytest.mark.slow


@pytest.fixture
def sweep_of(tmp_path, monkeypatch):
    """Make `Remaining` for a command line; with the jobs that it hands on, and those of a batch."""
    register_resolvers()
    register_sweep_resolvers()
    setup_globals()
    ran = []
    monkeypatch.setattr(sweeper, "run_jobs", lambda launcher, jobs, n: ran.extend(jobs) or jobs)

    def make(**swept):
        loader = GlobalHydra.instance().hydra.config_loader
        constant = [f"hydra.searchpath=[file://{FAKES / 'configs'}]", *TINY, "trainer.max_epochs=2"]
        constant.append(f"paths.log_dir={tmp_path}")
        keys = [key.replace("__", ".").replace("plus_", "+") for key in swept]
        typed = [f"{key}={','.join(values)}" for key, values in zip(keys, swept.values())]
        config = loader.load_configuration("train", [*constant, *typed], RunMode.MULTIRUN)
        assert config.hydra.sweep.dir  # evaluated and kept, as before the first job
        batch = [
            [*constant[1:], *(f"{key}={value}" for key, value in zip(keys, values))]
            for values in product(*swept.values())
        ]
        return Remaining(SimpleNamespace(), loader, config), ran, batch

    with hydra.initialize_config_dir(str(ROOT / "configs"), version_base="1.3", job_name="train"):
        yield make


@pytest.mark.parametrize(
    ("swept", "shapes"),
    [
        ({"seed": ["0", "1", "2"]}, 1),
        ({"model": ["tiny", "twin"], "model__alpha": ["0.1", "1e-3"], "seed": ["0", "1"]}, 2),
        ({"model__net__width": ["8", "'12'", "${seed}"], "seed": ["3", "4"]}, 1),
        ({"model__optimizer": ["{lr: 1}", "{lr: 2}"], "plus_data__note": ["a", "b"]}, 4),
    ],
)
def test_jobs_have_the_folders_of_their_whole_compositions(sweep_of, swept, shapes):
    remaining, _, batch = sweep_of(**swept)
    found = []
    for number, overrides in enumerate(batch):
        whole = remaining.loader.load_sweep_config(remaining.config, overrides)
        with open_dict(whole):
            whole.hydra.job.num = number
        config = remaining.compose(overrides, number)
        assert config.hydra.sweep.subdir == whole.hydra.sweep.subdir
        assert OmegaConf.to_container(config.hydra.overrides) == OmegaConf.to_container(
            whole.hydra.overrides
        )
        found.append(config.hydra.sweep.subdir)
    assert len(set(found)) == len(batch)
    assert len(remaining.composed) == shapes


def test_only_what_is_not_finished_is_handed_on_and_twins_are_refused(sweep_of):
    remaining, ran, batch = sweep_of(seed=["0", "1", "2"])
    for handed_on, statuses in (
        ([0, 1, 2], ["not started"] * 3),
        ([0, 2], ["not started", "skipped", "not started"]),
        ([], ["skipped"] * 3),
    ):
        ran.clear()
        assert len(remaining.launch(batch, 0)) == 3
        assert [job.number for job in ran] == handed_on
        entries = read_records(records_folder(remaining.config.hydra))
        assert [entry["status"] for entry in entries] == statuses
        for job in ran:
            finished = job.number == 1 or handed_on == [0, 2]
            status = "finished" if finished else "failed"
            write_json(job.directory / SUMMARY_FILE, {"status": status})
    again, ran, batch = sweep_of(seed=["0", "1", "2"], sweep__rerun=["true"])
    again.launch(batch, 0)
    assert len(ran) == 3
    with pytest.raises(UserError, match="differ in their configs; got jobs 4 and 5"):
        remaining.launch([*batch[:2], batch[1]], 3)


@pytest.mark.parametrize(("end", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_an_interrupted_sweep_says_what_is_left_and_what_goes_on(
    tmp_path, monkeypatch, capsys, end, code
):
    folder = tmp_path / ".submitit"
    launcher = type("SlurmLauncher", (), {"params": {"submitit_folder": f"{folder}/%j"}})()
    hydra = {"callbacks": {"report": {"swept": []}}, "launcher": {"_target_": "a.SlurmLauncher"}}
    made = Sweeper(None)
    made.config = OmegaConf.create({"hydra": hydra})
    (folder / "3_0").mkdir(parents=True)  # of an earlier start
    made.launcher = Remaining(launcher, None, made.config)
    for name in ("12_0", "12_1"):
        (folder / name).mkdir()
    monkeypatch.setattr(Sweeper.__base__, "sweep", Mock(side_effect=end))
    monkeypatch.setattr(sweeper, "write_report", lambda config: "1 of 2 jobs are not finished")
    with pytest.raises(SystemExit) as ended:
        made.sweep([])
    assert ended.value.code == code
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == ["Interrupted.", "1 of 2 jobs are not finished"]
    assert lines[2].endswith("stay queued, or go on. To end them: scancel 12")


def test_only_hydras_own_sweeper_is_replaced():
    for target in ("hydra._internal.core_plugins.basic_sweeper.BasicSweeper", "a.OtherSweeper"):
        config = OmegaConf.create({"hydra": {"sweeper": {"_target_": target}}})
        use_own_sweeper(config)
        assert (config.hydra.sweeper._target_ == target) == target.startswith("a.")
