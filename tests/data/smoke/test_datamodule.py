import logging
import re

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from torch.utils.data import DataLoader, DistributedSampler

from src.data.smoke.datamodule import PARTS, SmokeDataModule
from src.data.smoke.plumes import rotation_plumes
from src.data.smoke.resampling import average_blocks
from src.data.smoke.symmetry import data_equivariance_error
from tests.helpers.fake_plumes import fake_frames, tiny_plumes

OPTIONS = {
    "name": "tiny",
    "plumes": tiny_plumes(),
    "resolution": 16,
    "num_steps": 31,
    "skip_frames": 2,
    "velocity_dt": 0.5,
    "starts": {"train": 5, "val": 3, "future": 2, "domain": 4},
    "num_inputs": 3,
    "train_horizon": 2,
    "test_horizon": 5,
    "batch_size": 4,
}
EIGHT = rotation_plumes(8, inflow=(8, 3), radius=2, buoyancy=[0.01] * 4, resolution=16)
UNSEEN = {"plumes": EIGHT, "unseen_tasks": [[2, 1], [7, 2], [8, 3]]}


@pytest.fixture
def make(fake_simulation, tmp_path):
    """Build a data module and set it up: ``make(**options)``."""

    def build(**options):
        data = SmokeDataModule(tmp_path, **{**OPTIONS, **options})
        data.prepare_data()
        data.setup()
        return data

    return build


def loaders(data):
    """By the names of the parts."""
    tests = dict(zip(data.test_names, data.test_dataloader(), strict=True))
    return {"train": data.train_dataloader(), "val": data.val_dataloader(), **tests}


def frames_used(data):
    """(simulation, frame) of everything in the windows of each part, found by their content."""
    stored = torch.from_numpy(fake_frames(data.settings))
    names = {
        frame.numpy().tobytes(): (s, t)
        for s, simulation in enumerate(stored)
        for t, frame in enumerate(simulation)
    }
    return {
        part: {
            names[frame.numpy().tobytes()]
            for batch in loader
            for window in batch
            for frame in window
        }
        for part, loader in loaders(data).items()
    }


def test_batches_are_windows_in_physical_units(make):
    data = make()
    lengths = {"train": 5, "val": 5, "future": 8}
    assert set(loaders(data)) == set(lengths)
    for part, loader in loaders(data).items():
        batch = next(iter(loader))
        assert batch.shape == (4, lengths[part], *data.image_shape) == (4, lengths[part], 2, 16, 16)
        assert batch.dtype == torch.float32
    assert torch.equal(next(iter(data.val_dataloader()))[0], expected_windows(data, 9, 5))


def expected_windows(data, first, length):
    return torch.from_numpy(fake_frames(data.settings))[0, first : first + length]


def test_no_frame_is_in_two_parts(make):
    data = make(**UNSEEN)
    used = frames_used(data)
    assert set(used) == set(PARTS)
    seen, unseen = (0, 2, 3, 4, 5), (1, 6, 7)
    ranges = {"train": range(9), "val": range(9, 16), "future": range(16, 25)}
    for part, frames in ranges.items():
        assert used[part] == {(s, t) for s in seen for t in frames}
    assert used["domain"] == {(s, t) for s in unseen for t in range(11)}
    for one in PARTS:
        for other in PARTS:
            assert one == other or not used[one] & used[other]


def test_the_number_of_windows(make):
    counts = {part: len(loader.dataset) for part, loader in loaders(make(**UNSEEN)).items()}
    assert counts == {"train": 5 * 5, "val": 5 * 3, "future": 5 * 2, "domain": 3 * 4}


def test_a_side_can_be_held_out(make):
    data = make(plumes=EIGHT, split="side", held_out_side=2)
    used = frames_used(data)
    assert {s for s, _ in used["domain"]} == {2, 6}
    assert {s for part in ("train", "val", "future") for s, _ in used[part]} == {0, 1, 3, 4, 5, 7}


def test_tests_are_named_in_the_order_of_their_loaders(make):
    assert make().test_names == ("future",)
    assert make(**UNSEEN).test_names == ("future", "domain")


def test_velocities_are_scaled_by_the_training_frames_alone(make):
    data = make(**UNSEEN)
    frames = torch.from_numpy(fake_frames(data.settings))[[0, 2, 3, 4, 5], :9].double()
    assert data.velocity_scale == pytest.approx(frames.square().mean().sqrt().item(), rel=1e-9)


def test_coarse_windows_are_averages(make):
    data = make(coarsen=4)
    assert data.image_shape == (2, 4, 4)
    stored = torch.from_numpy(fake_frames(data.settings))
    windows = next(iter(data.test_dataloader()[0]))
    torch.testing.assert_close(windows[0], average_blocks(stored, 4)[0, 16:24])
    assert data.velocity_scale < make().velocity_scale


def test_float64_sets_give_float32_windows(make):
    assert next(iter(make(dtype="float64").val_dataloader())).dtype == torch.float32


@pytest.mark.parametrize("frames", [None, [4, 20]])
def test_the_equivariance_error_of_the_data_is_measured_and_logged(make, caplog, frames):
    caplog.set_level(logging.INFO)
    data = make(equivariance_frames=frames, coarsen=2)
    stored = torch.from_numpy(fake_frames(data.settings))[:, slice(*(frames or [None]))]
    expected = data_equivariance_error(stored, "centered")
    assert data.equivariance_error == pytest.approx(expected, rel=1e-9)
    assert f"Equivariance error of the data tiny: {expected:.3f}" in caplog.text


def test_sets_that_are_not_turned_copies_have_no_equivariance_error(make, caplog):
    caplog.set_level(logging.INFO)
    assert make(**UNSEEN).equivariance_error is None
    assert "quivariance error" not in caplog.text


def order_of(data, epoch):
    loader = data.train_dataloader()
    assert isinstance(loader, DataLoader)
    loader.sampler.set_epoch(epoch)
    return list(loader.sampler)


def test_the_training_order_is_a_function_of_seed_and_epoch(make):
    torch.manual_seed(1)
    data = make()
    first = [order_of(data, epoch) for epoch in range(3)]
    torch.manual_seed(2)
    assert order_of(make(), 2) == first[2]
    orders = [*first, order_of(make(seed=1), 0), order_of(make(seed=1), 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])
    assert all(sorted(order) == list(range(20)) for order in orders)


def test_validation_and_tests_are_not_shuffled(make):
    for part, loader in loaders(make(**UNSEEN)).items():
        if part != "train":
            dataset = loader.dataset
            assert torch.equal(torch.cat(list(loader)), dataset.__getitems__(range(len(dataset))))


def test_the_last_batch_is_kept(make):
    assert [len(batch) for batch in make(batch_size=7).train_dataloader()] == [7, 7, 6]


def test_workers_make_the_same_batches(make):
    alone, helped = make(), make(num_workers=1)
    for batch, expected in zip(helped.val_dataloader(), alone.val_dataloader(), strict=True):
        assert torch.equal(batch, expected)


def test_several_processes_share_out_the_epoch(make):
    sampler = make().train_dataloader().sampler
    assert isinstance(sampler, DistributedSampler)
    assert sampler.num_replicas == 1


def test_the_set_is_generated_once_on_the_device_asked_for(make, fake_simulation):
    make(device="cuda")
    make(coarsen=2, batch_size=2, seed=3, num_inputs=2)
    assert fake_simulation.devices == ["cuda"]
    assert fake_simulation.steps == 31


def test_loaders_need_setup(tmp_path):
    data = SmokeDataModule(tmp_path, **OPTIONS)
    for name in ("train", "val", "test"):
        with pytest.raises(RuntimeError, match=r"loaded before a loader.*Call prepare_data\(\)"):
            getattr(data, f"{name}_dataloader")()
    with pytest.raises(FileNotFoundError, match=r"generated before it is read.*prepare_data\(\)"):
        data.setup()


def test_a_damaged_file_is_named(make, tmp_path):
    path = make().settings.path(tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{re.escape(str(path))} .* is damaged: .*Delete it"):
        make()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"layout": "faces"}, ValueError, "`layout` must be one of centered, .*; got 'faces'. Use"),
        ({"split": "time"}, ValueError, "`split` must be one of .*; got 'time'. Use"),
        ({"split": "side"}, ValueError, "`held_out_side` must be one of .*; got None for"),
        (
            {"held_out_side": 1},
            ValueError,
            "`held_out_side` must be null .*; got 1. Use data.",
        ),
        ({"coarsen": 3}, ValueError, "`coarsen` must divide the resolution of .* 16; got 3. Use"),
        ({"coarsen": "2"}, TypeError, "`coarsen` must be an integer of at least 1; got '2'. Use"),
        (
            {"num_inputs": 0},
            ValueError,
            "`num_inputs` must be .* of at least 1; got 0. Use",
        ),
        ({"num_steps": 20}, ValueError, "the future windows must lie within the 18 stored .*by 7"),
        ({"test_horizon": 30}, ValueError, "the future windows must lie within the 29 stored"),
        (
            {"starts": {"train": 5}},
            ValueError,
            "`starts` must be .* train, val, future, domain;",
        ),
        ({"starts": 5}, ValueError, "`starts` must be numbers of windows by the names .*; got 5"),
        (
            {"starts": {**OPTIONS["starts"], "val": 0}},
            ValueError,
            r"`starts.val` must be an integer of at least 1; got 0. Use data.starts.val=10",
        ),
        (
            {"equivariance_frames": [3]},
            ValueError,
            r"`equivariance_frames` .*; got \[3\]. Use",
        ),
        ({"equivariance_frames": [3, 99]}, ValueError, r"range within 29 frames; got \[3, 99\]"),
        (
            {"equivariance_frames": 4},
            ValueError,
            "`equivariance_frames` must be null.*; got 4",
        ),
        ({"unseen_tasks": [[9, 9]]}, ValueError, r"`unseen_tasks` must hold labels .*\[\[9, 9\]\]"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be an integer of at least 1; got 0"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0; got -1"),
        ({"data_dir": 3}, TypeError, "`data_dir` must be the path of a folder; got 3"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        SmokeDataModule(**{"data_dir": tmp_path, **OPTIONS, **options})


@pytest.fixture
def configured(pytestconfig, tmp_path):
    """The data module of a config: ``configured(*overrides)``."""

    def build(*overrides):
        with initialize_config_dir(str(pytestconfig.rootpath / "configs"), version_base="1.3"):
            config = compose("generate", [*overrides, f"paths.data_dir={tmp_path}"])
        return instantiate(config.data, _convert_="all")

    return build


@pytest.mark.parametrize(
    ("name", "train", "unseen", "dt"),
    [("translation", 25, 10, 0.5), ("rotation", 25, 10, 1.0), ("scale", 28, 10, 0.5)],
)
def test_the_published_sets(configured, name, train, unseen, dt):
    data = configured(f"data=smoke_{name}")
    assert (data.settings.name, data.settings.velocity_dt) == (name, dt)
    assert (data.settings.num_frames, data.num_inputs) == (310, 10)
    starts = {part: windows.starts for part, windows in data.windows.items()}
    assert starts == {"train": 160, "val": 40, "future": 50, "domain": 100}
    assert [len(data.windows[part].simulations) for part in PARTS] == [train, train, train, unseen]
    assert len(data.settings.plumes) == {"rotation": 36}.get(name, train + unseen)
    assert data.windows["future"].end == 309
    assert data.test_names == ("future", "domain")


@pytest.mark.parametrize("level", range(10))
def test_the_published_levels(configured, level):
    data = configured("data=smoke_level", f"data.level={level}")
    assert data.settings.name == f"level{level}"
    strengths = [max(map(abs, plume.buoyancy)) for plume in data.settings.plumes]
    assert strengths == pytest.approx([0.005 * (2 + side * level) for side in range(4)])
    starts = {part: windows.starts for part, windows in data.windows.items()}
    assert starts == {"train": 30, "val": 10, "future": 10}
    assert (data.settings.num_frames, data.windows["future"].end, data.num_inputs) == (82, 82, 1)
    assert (data.equivariance_frames, data.level) == ((10, 49), level)


def test_the_published_tasks_of_the_rotation_set(configured):
    data = configured("data=smoke_rotation")
    plumes = data.settings.plumes
    train, unseen = (
        {plumes[i].task for i in data.windows[part].simulations} for part in ("train", "domain")
    )
    assert (27, 2) in train
    assert (17, 0) in train
    assert {k for k, _ in unseen} == {6, 14, 15, 10, 18, 20, 24, 13, 21, 5}
    assert {plume.task for plume in plumes} - train - unseen == {(32, 3)}
    assert {side for _, side in train} == {0, 1, 2, 3}


def test_configured_sets_take_other_options(configured):
    data = configured("data=smoke_level", "data.layout=staggered_cropped", "data.level=4")
    assert data.settings.layout == "staggered_cropped"
    assert (
        data.settings.digest() != configured("data=smoke_level", "data.level=4").settings.digest()
    )
    data = configured("data=smoke_rotation", "data.split=side", "data.held_out_side=3")
    assert len(data.windows["train"].simulations) == 27
