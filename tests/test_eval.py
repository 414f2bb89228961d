import pytest
import torch


@pytest.fixture
def best(train):
    """Path of the best checkpoint of a short training."""
    return train() / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_checkpoint_is_evaluated_on_any_split(run_entry_point, best, capsys, split):
    run = run_entry_point("eval", f"ckpt_path={best}", f"split={split}")
    assert run.summary["status"] == "finished"
    assert run.summary["split"] == split
    assert set(run.summary["metrics"]) == {f"{split}/acc", f"{split}/loss"}
    assert run.summary["checkpoint"] == str(best)
    assert run.config["data"]["_target_"] == "run_fakes.TinyData", "not what eval.yaml names"
    assert "eval" in run.path.parts
    assert f"{split}/acc" in capsys.readouterr().out


def test_averages_do_not_depend_on_the_batch_size(run_entry_point, best):
    first, second = (
        run_entry_point("eval", f"ckpt_path={best}", f"data.batch_size={size}").summary["metrics"]
        for size in (8, 31)
    )
    assert first["test/acc"] == pytest.approx(second["test/acc"])
    assert first["test/loss"] == pytest.approx(second["test/loss"], rel=1e-5)


def test_values_and_groups_of_the_command_line_come_before_the_checkpoints(run_entry_point, train):
    path = train("data.batch_size=5", "seed=4", "model=wider") / "checkpoints" / "best.ckpt"
    run = run_entry_point("eval", f"ckpt_path={path}", "data.seed=9")
    assert (run.config["seed"], run.config["data"]["batch_size"]) == (4, 5)
    assert run.config["data"]["seed"] == 9
    assert run.config["model"]["net"]["width"] == 12


def test_the_group_of_the_command_line_replaces_the_checkpoints(run_entry_point, best, capsys):
    with pytest.raises(SystemExit):
        run_entry_point("eval", "model=wider", f"ckpt_path={best}")
    assert "must be of the same architecture" in capsys.readouterr().err


def test_data_are_looked_for_here(run_entry_point, train, tmp_path):
    path = train(f"paths.data_dir={tmp_path / 'there'}") / "checkpoints" / "best.ckpt"
    run = run_entry_point("eval", f"ckpt_path={path}", f"paths.data_dir={tmp_path / 'here'}")
    assert run.config["data"]["data_dir"] == str(tmp_path / "here")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "`ckpt_path` must be the checkpoint to evaluate; got none"),
        (["ckpt_path=nowhere.ckpt"], "`ckpt_path` must be an existing checkpoint file"),
        (["ckpt_path={damaged}"], "It is damaged or of another program"),
        (["ckpt_path={best}", "split=all"], "`split` must be one of train, val, test; got 'all'"),
    ],
)
def test_errors_are_one_message(run_entry_point, best, tmp_path, capsys, arguments, message):
    damaged = tmp_path / "damaged.ckpt"
    damaged.write_bytes(best.read_bytes()[:-2000])
    with pytest.raises(SystemExit) as exit_:
        run_entry_point("eval", *(a.format(best=best, damaged=damaged) for a in arguments))
    assert exit_.value.code == 1
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told


def test_evaluation_leaves_the_checkpoint_as_it_is(run_entry_point, best):
    before = torch.load(best, weights_only=True)["state_dict"]
    run_entry_point("eval", f"ckpt_path={best}")
    after = torch.load(best, weights_only=True)["state_dict"]
    assert all(torch.equal(before[name], after[name]) for name in before)
