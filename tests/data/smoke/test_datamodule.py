import logging
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from src.data.smoke.datamodule import SmokeDataModule, block_means
from src.data.smoke.plumes import rotation_plumes, strength_plumes
from src.data.smoke.simulation import Simulation
from src.data.smoke.symmetry import data_equivariance_error
from src.models.components.gcnn.actions import transform_vector_field
from tests.helpers.fake_plumes import fake_frames, tiny_plumes
from tests.helpers.objectives import CONFIGS

STARTS = {"train": 5, "val": 3, "future": 2, "domain": 4}
OPTIONS = {"name": "tiny", "plumes": tiny_plumes(), "resolution": 16, "num_steps": 31}
OPTIONS |= {"skip_frames": 2, "velocity_dt": 0.5, "starts": STARTS, "batch_size": 4}
OPTIONS |= {"num_inputs": 3, "train_horizon": 2, "test_horizon": 5}
EIGHT = rotation_plumes(8, inflow=(8, 3), radius=2, buoyancy=[0.01] * 4, resolution=16)
UNSEEN = {"plumes": EIGHT, "unseen_tasks": [[2, 1], [7, 2], [8, 3]]}
SIDE = {"plumes": EIGHT, "split": "side", "held_out_side": 2}
BY_STRENGTH = {"train": [0.5, 1.0], "val": [0.7], "unseen": [0.8], "beyond": [2.0]}
BOX = {"inflow": (8, 3), "radius": 2, "buoyancy": 0.1, "resolution": 16, "offsets": [-1, 1]}
STRENGTH = {"plumes": strength_plumes(4, strengths=BY_STRENGTH, **BOX), "split": "strength"}
STRENGTH |= {"strengths": BY_STRENGTH, "starts": dict.fromkeys(BY_STRENGTH, 4)}


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
    tests = dict(zip(data.test_names, data.test_dataloader(), strict=True))
    return {"train": data.train_dataloader(), "val": data.val_dataloader(), **tests}


def frames_of(data):
    return torch.from_numpy(fake_frames(data.settings))


@pytest.mark.parametrize(
    ("options", "unseen"), [({}, ()), (UNSEEN, (1, 6, 7)), (SIDE, (2, 6))], ids=str
)
def test_the_parts_have_the_promised_windows_and_share_no_frame(make, options, unseen):
    data = make(**options)
    stored = frames_of(data)
    places = [(s, t) for s in range(len(stored)) for t in range(stored.shape[1])]
    names = {stored[place].numpy().tobytes(): place for place in places}
    seen = set(range(len(stored))) - set(unseen)
    frames = {"train": range(9), "val": range(9, 16), "future": range(16, 25), "domain": range(11)}
    used = set()
    assert data.test_names == (("future", "domain") if unseen else ("future",))
    for part, loader in loaders(data).items():
        batches = list(loader)
        simulations = unseen if part == "domain" else seen
        assert len(loader.dataset) == sum(map(len, batches)) == len(simulations) * STARTS[part]
        length = 8 if part in ("future", "domain") else 5
        assert batches[0].shape == (4, length, *data.image_shape) == (4, length, 2, 16, 16)
        assert batches[0].dtype == torch.float32
        own = {names[frame.numpy().tobytes()] for b in batches for w in b for frame in w}
        assert own == {(s, t) for s in simulations for t in frames[part]}
        assert not own & used
        used |= own
        if part != "train":
            first = stored[min(simulations), frames[part][0] :][:length]
            assert torch.equal(batches[0][0], first), "not shuffled"
    training = stored[sorted(seen), :9].double()
    assert data.velocity_scale == pytest.approx(training.square().mean().sqrt().item(), rel=1e-9)


def test_parts_by_strength_share_no_simulation_and_are_of_the_same_frames(make):
    data = make(**STRENGTH)
    stored = frames_of(data)
    places = [(s, t) for s in range(len(stored)) for t in range(stored.shape[1])]
    names = {stored[place].numpy().tobytes(): place for place in places}
    assert data.test_names == ("unseen", "beyond")
    for part, loader in loaders(data).items():
        own = [[names[frame.numpy().tobytes()] for frame in w] for batch in loader for w in batch]
        assert {STRENGTH["plumes"][s].task[0] for w in own for s, _ in w} == set(BY_STRENGTH[part])
        starts, end = sorted({w[0][1] for w in own}), max(w[-1][1] for w in own)
        assert (len(starts), starts[0], end) == (4, 0, 28)
    train = stored[:16].double()
    assert data.velocity_scale == pytest.approx(train.square().mean().sqrt().item(), rel=1e-9)
    errors = [data_equivariance_error(group, "centered") for group in stored.split(4)]
    assert data.equivariance_error == pytest.approx(sum(errors) / 10, rel=1e-9)


def test_plumes_of_all_strengths_are_turned_copies_at_level_0_bit_for_bit():
    """The configured ones, in the batches in which they are simulated; nine of fifteen."""
    turn = partial(transform_vector_field, field_type="vector+scalar")
    plumes = configured("data=smoke_strengths").settings.plumes[:108]
    for first in range(0, len(plumes), 8):
        simulation = Simulation(plumes[first : first + 8], velocity_dt=0.5)
        for _ in range(3):
            simulation.step()
        both = np.concatenate([simulation.velocity(), simulation.density()], 1)
        fine = torch.from_numpy(both)
        for frames in (fine.split(4), block_means(fine, 2).split(4)):
            for group in frames:
                sides = [turn(group[s, None], "c4", s)[0] for s in range(4)]
                assert all(torch.equal(side, group[0]) for side in sides)
                assert group[0, :2].abs().max() > 0.01 and group[0, 2].max() > 1


@pytest.mark.parametrize(("augment", "order"), [("none", 1), ("c4", 4), ("d4", 8)])
def test_augmentation_turns_training_windows_and_those_of_a_sample_alike(make, augment, order):
    """Each by an element that is a function of seed, epoch and rank, in training alone."""
    group = "c1" if augment == "none" else augment
    plain, data = make(batch_size=20), make(batch_size=20, augment=augment, seed=3)
    (batch,), (sample,), (again,) = (d.sample_training(20) for d in (plain, data, data))
    assert torch.equal(sample, again)

    def trained(epoch=0, rank=0, seed=3, training=True):
        other = make(batch_size=20, augment=augment, seed=seed)
        place = {"world_size": 2, "global_rank": rank, "current_epoch": epoch}
        other.trainer = SimpleNamespace(training=training, **place)
        return other.on_after_batch_transfer(batch, 0)

    before = torch.get_rng_state()
    for changed in (sample, trained()):
        every = [[transform_vector_field(w, group, g) for g in range(order)] for w in batch]
        chosen = [sum(torch.equal(w, own) for w in all_) for own, all_ in zip(changed, every)]
        assert chosen == [1] * 20
    assert torch.equal(trained(), trained()) and torch.equal(torch.get_rng_state(), before)
    assert trained(training=False) is batch and data.on_after_batch_transfer(batch, 0) is batch
    others = (trained(epoch=1), trained(rank=1), trained(seed=4))
    assert [torch.equal(other, trained()) for other in others] == [order == 1] * 3


def test_coarse_windows_are_averages_over_blocks(make):
    data = make(coarsen=4)
    assert data.image_shape == (2, 4, 4)
    blocks = frames_of(data).unflatten(-1, (4, 4)).unflatten(-3, (4, 4)).mean((-1, -3))
    torch.testing.assert_close(next(iter(data.test_dataloader()[0]))[0], blocks[0, 16:24])
    assert data.velocity_scale < make().velocity_scale


def test_the_density_is_a_third_channel_of_a_set_of_its_own(make):
    plain, data = make(coarsen=4), make(coarsen=4, density=True)
    assert plain.stored_set().path != data.stored_set().path
    assert (plain.density_scale, data.image_shape) == (None, (3, 4, 4))
    for name in ("velocity_scale", "equivariance_error"):
        assert getattr(data, name) == getattr(plain, name)
    density = block_means(frames_of(data).flatten(0, 1), 4)[:, 2].unflatten(0, (4, 29))
    size = density[:, :9].double().square().mean().sqrt().item()
    assert data.density_scale == pytest.approx(size, rel=1e-9)
    (batch, *_), (other, *_) = data.test_dataloader()[0], plain.test_dataloader()[0]
    assert torch.equal(batch[:, :, :2], other) and torch.equal(batch[0, :, 2], density[0, 16:24])


def test_a_set_is_generated_once_on_the_device_asked_for(make, fake_simulation):
    make(device="cuda", dtype="float64")
    data = make(dtype="float64", coarsen=2, batch_size=2, seed=3, num_inputs=2)
    assert (fake_simulation.steps, fake_simulation.devices) == (31, ["cuda"])
    assert next(iter(data.val_dataloader())).dtype == torch.float32


@pytest.mark.parametrize("frames", [None, [4, 20]])
def test_the_equivariance_error_of_the_data_is_measured_and_logged(make, caplog, frames):
    caplog.set_level(logging.INFO)
    assert make(**UNSEEN).equivariance_error is None
    assert "quivariance error" not in caplog.text
    data = make(equivariance_frames=frames, coarsen=2)
    expected = data_equivariance_error(frames_of(data)[:, slice(*(frames or [None]))], "centered")
    assert data.equivariance_error == pytest.approx(expected, rel=1e-9)
    assert f"Equivariance error of the data tiny: {expected:.3f}" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"coarsen": 3}, "`coarsen` must be a divisor of .* 16; got 3. Use data.coarsen=2"),
        ({"num_inputs": 0}, "`num_inputs` must be an integer of at least 1; got 0"),
        ({"test_horizon": 30}, "the future windows must lie within the 29 stored"),
        ({"starts": {"train": 5}}, "`starts` must be .* train, val, future, domain with"),
        ({"firsts": {"train": 5}}, "`firsts` must be .* train, val, future, domain with"),
        (STRENGTH | {"strengths": None}, "`strengths` must be .* train, val, unseen, beyond with"),
        (STRENGTH | {"num_steps": 9}, "the unseen windows must lie within the 7 stored"),
        ({"split": "time"}, "`split` must be one of published, side, strength; got 'time'"),
        ({"held_out_side": 2}, "`held_out_side` must be null .*got 2. Use data.split=side"),
        ({"augment": "c8"}, "`augment` must be none, or a group .*got 'c8'. Use data.augment=c4"),
        ({"starts": STARTS | {"val": 0}}, r"`starts.val` must be an integer of at least 1; got 0"),
        ({"equivariance_frames": [3, 99]}, r"range within 29 frames; got \[3, 99\]"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        SmokeDataModule(tmp_path, **{**OPTIONS, **options})


def configured(*overrides):
    """The data module of a config."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("generate", [*overrides, "paths.data_dir=data"])
    return instantiate(config.data, _convert_="all")


PUBLISHED = [("translation-264c3d4a", 25), ("rotation-afd22b63", 25), ("scale-2f2d635d", 28)]
LEVELS = ["level0-ddb33ca8", "level4-ec79ed0a", "level9-f830725b"]


@pytest.mark.parametrize(("file", "train"), PUBLISHED + [(file, 4) for file in LEVELS])
def test_the_published_sets_are_the_same_in_every_version(file, train):
    """The name of the file ends in a hash of all settings."""
    name, level = file.split("-")[0], [f"data.level={file[5]}"] if file in LEVELS else []
    data = configured(f"data=smoke_{name.rstrip('049')}", *level)
    assert data.settings.path(data.data_dir).stem == file
    starts = {part: len(own.starts) for part, own in data.windows.items()}
    sizes = {"train": 160, "val": 40, "future": 50, "domain": 100}
    assert starts == ({"train": 30, "val": 10, "future": 10} if level else sizes)
    assert [len(own.simulations) for own in data.windows.values()] == [train] * 3 + [10][
        : not level
    ]
    frames = (data.settings.num_frames, data.windows["future"].end, *data.equivariance_frames)
    assert frames == ((82, 82, 10, 49) if level else (310, 309, 0, 310))


def test_the_published_tasks_of_the_rotation_set():
    data = configured("data=smoke_rotation")
    plumes, parts = data.settings.plumes, (data.windows["val"], data.windows["domain"])
    seen, unseen = ({plumes[i].task for i in part.simulations} for part in parts)
    assert {(27, 2), (17, 0)} < seen
    assert {k for k, _ in unseen} == {6, 14, 15, 10, 18, 20, 24, 13, 21, 5}
    assert {plume.task for plume in plumes} - seen - unseen == {(32, 3)}
    data = configured("data=smoke_rotation", "data.split=side", "data.held_out_side=3")
    assert len(data.windows["train"].simulations) == 27


@pytest.mark.parametrize(
    ("level", "strongest"), [(0, [0.08] * 4), (4, [0.02, 0.06, 0.1, 0.14])], ids=str
)
def test_the_set_of_strengths(level, strongest):
    """Twice as strong as those of smoke_level at level 4, for the strength 2."""
    data = configured("data=smoke_strengths", f"data.level={level}")
    sizes = {part: len(own.simulations) for part, own in data.windows.items()}
    copies = {"val": 3, "unseen": 9, "beyond": 6} if level else {}  # of plumes of earlier parts
    whole = {"train": 96, "val": 24, "unseen": 36, "beyond": 24}
    assert sizes == {part: number - copies.get(part, 0) for part, number in whole.items()}
    assert {(own.starts[0], own.end) for own in data.windows.values()} == {(0, 90)}
    assert (data.num_inputs, data.image_shape) == (2, (2, 32, 32))
    plumes = [plume for plume in data.settings.plumes if plume.task[:2] == (2.0, 0)]
    buoyancies = [max(map(abs, plume.buoyancy)) for plume in plumes]
    assert buoyancies == pytest.approx(strongest)


@pytest.mark.slow
@pytest.mark.parametrize(("level", "rmse"), [(0, 0.092), (4, 0.396), (5, 0.440), (9, 0.563)])
def test_the_published_protocol_gives_the_last_frame_repeated_its_known_error(
    tmp_path, level, rmse
):
    data = configured("data=smoke_level_published", f"data.level={level}")
    data.data_dir = tmp_path
    data.prepare_data()
    data.setup()
    (loader,) = data.test_dataloader()
    windows = torch.cat(list(loader)).double()
    assert torch.equal(windows.float(), torch.cat(list(data.val_dataloader())))
    error = windows[:, 1:] - windows[:, :1]
    assert windows.shape == (40, 7, 2, 64, 64)
    assert error.square().mean().sqrt().item() == pytest.approx(rmse, abs=0.0006)
