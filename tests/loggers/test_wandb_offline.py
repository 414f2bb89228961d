"""Reading a `.wandb` file gives back what was logged to W&B."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from src.loggers.wandb_offline import (
    BLOCK_BYTES,
    WandbRun,
    find_wandb_files,
    is_waiting,
    read_history,
    read_wandb_file,
)
from src.loggers.wandb_run import finish_wandb
from tests.helpers.wandb_server import isolate_wandb

CONFIG = {"seed": 0, "model": {"net": {"group": "c4", "widths": [4, 8]}}, "ckpt_path": None}
ROWS = 600  # more than one block of the file
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> WandbRun:
    """An offline run written by wandb alone, and read."""
    directory = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as monkeypatch:
        isolate_wandb(monkeypatch, directory)
        import wandb

        settings = wandb.Settings(silent=True, console="off")
        names = {"project": "symmetry", "name": "first", "group": "sweep", "job_type": "train"}
        run = wandb.init(
            dir=directory, mode="offline", id="abcd1234", tags=["a", "b"], notes="Try.",
            config=CONFIG, settings=settings, **names,
        )  # fmt: skip
        run.define_metric("*", step_metric="trainer/global_step")
        for step in range(ROWS):
            run.log({"train/loss": 1 / (step + 1), "trainer/global_step": step})
        pictures = [np.full((4, 4, 3), shade, np.uint8) for shade in (0, 255)]
        images = [wandb.Image(p, caption=c) for p, c in zip(pictures, ("black", "white"))]
        run.log({"images/kernels": images, "trainer/global_step": ROWS})
        run.log({"images/one": wandb.Image(pictures[0]), "dynamics/bad": float("nan")})
        run.config.update({"num_parameters": 7})
        run.finish(exit_code=3)
        finish_wandb()
    [path] = find_wandb_files(directory)
    return read_wandb_file(path)


def test_names_and_config(written: WandbRun) -> None:
    assert (written.id, written.name, written.project) == ("abcd1234", "first", "symmetry")
    assert (written.group, written.job_type, written.notes) == ("sweep", "train", "Try.")
    assert written.tags == ["a", "b"]
    assert written.config == {**CONFIG, "num_parameters": 7}
    assert written.exit_code == 3
    assert written.offline


def test_history_keeps_every_value_to_the_last_digit(written: WandbRun) -> None:
    assert written.values("train/loss") == [1 / (step + 1) for step in range(ROWS)]
    assert [row["_step"] for row in written.history] == list(range(ROWS + 2))
    assert np.isnan(written.values("dynamics/bad"))
    assert written.keys == [
        "dynamics/bad", "images/kernels", "images/one", "train/loss", "trainer/global_step",
    ]  # fmt: skip
    assert written.step_metrics["*"] == "trainer/global_step"
    assert written.summary["train/loss"] == 1 / ROWS
    assert list(read_history(written.path))[:ROWS] == written.history[:ROWS]


def test_images_have_key_step_file_and_caption(written: WandbRun) -> None:
    images = written.images()
    assert [(i.key, i.step, i.caption) for i in images] == [
        ("images/kernels", ROWS, "black"),
        ("images/kernels", ROWS, "white"),
        ("images/one", ROWS, None),  # the step of the row before
    ]
    for image in images:
        assert image.path.is_file()
        assert str(image.path.relative_to(written.files_dir)) in written.files


def test_waits_for_upload_until_synced(written: WandbRun, tmp_path: Path) -> None:
    folder = tmp_path / "offline-run-20300101_000000-abcd1234"
    folder.mkdir()
    path = folder / "run-abcd1234.wandb"
    assert is_waiting(path)
    path.with_suffix(".wandb.synced").touch()
    assert not is_waiting(path)
    assert not is_waiting(tmp_path / "run-20300101_000000-abcd1234" / "run-abcd1234.wandb")


def test_files_of_a_directory_are_found_in_the_order_of_their_starts(tmp_path: Path) -> None:
    folders = ["offline-run-20300102_000000-a", "run-20300101_000000-a", "run-20300103_000000-b"]
    files = [tmp_path / "wandb" / f / f"run-{f[-1]}.wandb" for f in folders]
    for file in files:
        file.parent.mkdir(parents=True)
        file.touch()
    (tmp_path / "wandb" / "latest-run").symlink_to(files[2].parent)
    assert find_wandb_files(tmp_path) == [files[1], files[0], files[2]]
    assert find_wandb_files(tmp_path, "a") == [files[1], files[0]]
    assert find_wandb_files(files[0]) == [files[0]]
    assert find_wandb_files(tmp_path / "nothing") == []


def test_a_file_cut_off_by_a_kill_gives_what_is_whole(written: WandbRun, tmp_path: Path) -> None:
    content = written.path.read_bytes()
    for length in (7, BLOCK_BYTES - 3, BLOCK_BYTES, BLOCK_BYTES + 3):
        path = tmp_path / "run-abcd1234.wandb"
        path.write_bytes(content[:length])
        part = read_wandb_file(path)
        assert part.history == written.history[: len(part.history)]
        assert part.exit_code is None
    assert 0 < len(part.history) < ROWS


def test_a_damaged_file_is_refused(written: WandbRun, tmp_path: Path) -> None:
    content = bytearray(written.path.read_bytes())
    content[5000] ^= 1
    path = tmp_path / "run-abcd1234.wandb"
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"must match its checksum; got another one at byte .*run-a"
    ):
        read_wandb_file(path)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,step\n")
    with pytest.raises(ValueError, match=r"starts with b':W&B.*; got b'epoch,'.*metrics\.csv"):
        read_wandb_file(path)


def show(path: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "read_wandb.py"), str(path)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_script_shows_keys_and_images(written: WandbRun) -> None:
    lines = show(written.path).stdout.splitlines()
    assert lines[1] == "run abcd1234, name first, group sweep, train, ended with 3"
    assert lines[2] == "config keys: ckpt_path, model, num_parameters, seed"
    assert "  train/loss: 600, 0.00166667" in lines
    assert "  images/kernels: 1, image" in lines
    [white] = [line for line in lines if line.endswith('"white"')]
    assert white.startswith(f"  images/kernels, {ROWS}, kernels_{ROWS}_")


def test_the_script_tells_when_there_is_nothing(tmp_path: Path) -> None:
    done = show(tmp_path)
    assert done.returncode == 1
    assert f"got none in {tmp_path}" in done.stderr
