import pytest

from tests.conftest import QUIET

SPLITS = [pytest.param("train", marks=pytest.mark.slow), "val", "test"]


@pytest.mark.parametrize("split", SPLITS)
def test_any_split_is_evaluated(run_entry_point, first_run, tmp_path, capsys, split):
    path = first_run / "checkpoints" / "best.ckpt"
    before = path.read_bytes()
    here = f"paths.data_dir={tmp_path / 'here'}"
    typed = (f"ckpt_path={path}", f"split={split}", "data.batch_size=31", "data.seed=9", here)
    run = run_entry_point("eval", *typed)
    summary, config = run.summary, run.config
    assert (summary["status"], summary["split"]) == ("finished", split)
    assert set(summary["metrics"]) == {f"{split}/acc", f"{split}/loss"}
    assert summary["checkpoint"] == str(path)
    assert config["data"]["_target_"] == "run_fakes.TinyData", "not what eval.yaml names"
    assert config["data"]["data_dir"] == str(tmp_path / "here")
    assert (config["seed"], config["data"]["seed"], config["data"]["batch_size"]) == (0, 9, 31)
    assert config["model"]["net"]["width"] == 8
    assert "eval" in run.path.parts
    assert f"{split}/acc" in capsys.readouterr().out
    assert path.read_bytes() == before
    known = first_run.summary["best"]["metrics"] | first_run.summary["test"]  # in batches of 8
    if split != "train":  # of which the metrics were taken while it was trained
        suffix = "_reestimated" if split == "val" else ""  # statistics of the best checkpoint
        for name, value in summary["metrics"].items():
            assert value == pytest.approx(known[f"{name}{suffix}"], rel=1e-5), name


def test_the_precision_is_the_runs(train, run_entry_point):
    """Or the one that is asked for."""
    run = train("trainer.precision=bf16-true", "trainer.max_epochs=1")
    path = f"ckpt_path={run / 'checkpoints' / 'best.ckpt'}"
    for typed, precision in (([], "bf16-true"), (["trainer.precision=32-true"], "32-true")):
        evaluated = run_entry_point("eval", path, QUIET, "trainer=cpu", *typed)
        assert evaluated.summary["precision"] == precision
        same = evaluated.summary["metrics"] == run.summary["test"]
        assert same == (precision == "bf16-true")
