from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import OmegaConf

from src.data.rotation import rotate_images
from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from src.data.splits import fixed_angles

SPLITS = ("train", "val", "test")
PUBLISHED = {"source": "rotmnist"}


def dataset_of(data, split):
    return getattr(data, f"{split}_dataloader")().dataset


def all_of(data, split):
    """Images in 0..1 and labels of a split, in the order of its data set."""
    dataset = dataset_of(data, split)
    return dataset.images * data.std + data.mean, dataset.labels


@pytest.mark.parametrize(("split", "per_class"), [("train", 350), ("val", 50), ("test", 100)])
def test_batches_have_the_promised_types_and_every_class_its_share(bundled, split, per_class):
    loader = getattr(bundled, f"{split}_dataloader")()
    images, labels = next(iter(loader))
    assert images.shape == (64, *bundled.image_shape) == (64, 1, 28, 28)
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    labels = torch.cat([labels for _, labels in loader])
    assert labels.bincount().tolist() == [per_class] * bundled.num_classes
    assert torch.equal(labels, loader.dataset.labels) == (split != "train"), "order"
    pixels = all_of(bundled, split)[0]
    assert pixels.min().item() == pytest.approx(0, abs=1e-6)
    assert 0.9 < pixels.max().item() < 1 + 1e-5


def test_each_image_is_rotated_by_its_fixed_angle_or_on_the_fly(bundled, make_data):
    torch.manual_seed(5)
    upright, on_the_fly = make_data(max_angle=0), make_data(rotate="on_the_fly")
    other_seed = make_data(seed=123)
    assert on_the_fly.augment
    digits = set()
    for split in SPLITS:
        images, labels = all_of(upright, split)
        digits |= {image.numpy().tobytes() for image in images}
        turned = rotate_images(images, fixed_angles(split, len(images)))
        of_each_epoch = images if split == "train" else turned
        for data, expected in ((bundled, turned), (on_the_fly, of_each_epoch)):
            own, own_labels = all_of(data, split)
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=0)
            assert torch.equal(own_labels, labels)
        assert all(map(torch.equal, all_of(bundled, split), all_of(other_seed, split)))
    assert len(digits) == 5000, "no digit is in two splits"


@pytest.mark.parametrize(
    ("options", "angles"),
    [
        ({"max_angle": 30}, (30, 30, 30)),
        ({"max_angle": 0, "test_max_angle": 180}, (0, 0, 180)),
        ({"test_max_angle": 0}, (180, 180, 0)),
        ({"max_angle": 30, "rotate": "on_the_fly", "test_max_angle": 90}, (0, 30, 90)),
    ],
)
def test_each_split_is_rotated_within_its_largest_angle(make_data, options, angles):
    upright, data = make_data(max_angle=0), make_data(**options)
    assert data.equivariance_error == 1 - options.get("max_angle", 180) / 180
    for split, max_angle in zip(SPLITS, angles):
        images = all_of(upright, split)[0]
        expected = rotate_images(images, fixed_angles(split, len(images), max_angle))
        torch.testing.assert_close(all_of(data, split)[0], expected, atol=1e-5, rtol=0)


def test_a_digit_keeps_its_angle_in_every_subset(make_data, bundled):
    whole, labels = all_of(bundled, "train")
    images, own_labels = all_of(make_data(num_train=20), "train")
    distances = torch.cdist(images.flatten(1), whole.flatten(1)).min(1)
    assert distances.values.max() < 1e-2
    assert torch.equal(labels[distances.indices], own_labels)
    assert own_labels.bincount().tolist() == [2] * 10


def test_normalisation_comes_from_the_training_images_alone(bundled):
    images, *others = (dataset_of(bundled, split).images.double() for split in SPLITS)
    moments = [moment.item() for moment in torch.std_mean(images, correction=0)]
    assert moments == pytest.approx([1, 0], abs=1e-5)
    assert torch.cat(others).mean().abs() > 1e-4


def test_rotated_mnist_is_taken_as_published(archive, serve, tmp_path, make_data):
    folder, arrays = archive
    data = make_data(tmp_path / "data", source="rotmnist", mirrors=[serve(folder)])
    images, labels = all_of(data, "val")
    expected = (torch.from_numpy(array[10:]) for array in arrays["train_valid"])
    torch.testing.assert_close((images[:, 0], labels), tuple(expected))


def test_mnist_keeps_its_test_split(idx_files, make_data):
    name, data_dir, arrays = idx_files
    pixels = torch.from_numpy(arrays["t10k"][0])[:, None] / 255
    turned = rotate_images(pixels, fixed_angles("test", 6))
    for max_angle, expected in ((0, pixels), (180, turned)):
        images, labels = all_of(make_data(data_dir, source=name, max_angle=max_angle), "test")
        torch.testing.assert_close(images, expected, atol=1e-5, rtol=0)
        assert labels.tolist() == arrays["t10k"][1].tolist()


def test_the_config_builds_the_data_module(tmp_path, pytestconfig):
    config = OmegaConf.load(pytestconfig.rootpath / "configs/data/rotmnist.yaml")
    parent = OmegaConf.create({"data": config, "paths": {"data_dir": str(tmp_path)}, "seed": 7})
    data = instantiate(parent.data)
    assert (data.source.name, data.batch_size, data.seed) == ("bundled", 64, 7)
    assert data.data_dir == tmp_path
    parent.data.update(source="rotmnist", mirrors=["http://127.0.0.1:1/"])
    assert list(instantiate(parent.data).mirrors) == ["http://127.0.0.1:1/"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "cifar"}, "`source` must be one of bundled, rotmnist, .*'cifar'"),
        ({"rotate": "twice"}, "`rotate` must be one of once, on_the_fly; got 'twice'"),
        ({"num_train": 25}, "`num_train` must be null or a multiple of 10 up to 3500 .*got 25"),
        ({"num_train": 3510}, "up to 3500 with data.source=bundled; got 3510. Use data.num_train"),
        ({"num_train": True}, "`num_train` must be an integer of at least 1"),
        ({"max_angle": 181}, "`max_angle` must be a number from 0 to 180; got 181. Use data.max_"),
        ({"test_max_angle": -1}, "`test_max_angle` must be a number from 0 to 180; got -1"),
        ({"max_angle": 90, "augment": True}, "=90: fixed angles and .*Use data.rotate=on_the_fly"),
        ({"augment": 1}, "`augment` must be true or false; got 1"),
        ({"mirrors": ["a"]}, "`mirrors` must be null, or with data.source=rotmnist"),
        ({"source": "rotmnist", "mirrors": "a"}, "`mirrors` must be null.*list.*'a'"),
        ({**PUBLISHED, "rotate": "on_the_fly"}, "must be once .*got on_the_fly. Use data.augment="),
        ({**PUBLISHED, "max_angle": 0}, "`max_angle` must be 180 .*got 0. .*data.source=mnist12k"),
        ({**PUBLISHED, "test_max_angle": 90}, "`test_max_angle` must be 180 with .*got 90"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        RotatedMNISTDataModule(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "most"), [({"augment": True}, 180), ({"rotate": "on_the_fly", "max_angle": 20}, 20)]
)
def test_augmentation_rotates_before_normalising(make_data, options, most):
    data = make_data(**options)
    images = dataset_of(data, "val").images[:4]
    augmented = data.augmented(images, epoch=0)
    pixels, turned = (x * data.std + data.mean for x in (images, augmented))
    assert turned[:, 0, 0, 0].abs().max() < 1e-5  # what turns into view is black
    circle = torch.arange(-most, most, 0.6).deg2rad()
    candidates = torch.stack([rotate_images(pixels, angle.expand(4)) for angle in circle])
    distances = (candidates - turned).abs().amax((-3, -2, -1))
    assert distances.amin(0).max() < 0.1


def test_augmentation_is_a_function_of_seed_epoch_and_rank(bundled, make_data):
    images = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    def two_batches(seed, epoch, rank=0):
        data = make_data(seed=seed, augment=True)
        data.trainer = SimpleNamespace(world_size=2, global_rank=rank)
        return torch.stack([data.augmented(images, epoch) for _ in range(2)])

    first = two_batches(0, 0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert torch.equal(two_batches(0, 0), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[0], first[1])
    for other in (two_batches(1, 0), two_batches(0, 1), two_batches(0, 0, rank=1)):
        assert not torch.allclose(other, first, atol=0.01)


class Recorder(LightningModule):
    """Keeps the batches that it is given."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), {}

    def training_step(self, batch):
        torch.rand(3)  # a network may use the global random state
        key = self.trainer.state.stage.value, self.current_epoch
        self.seen.setdefault(key, []).append(batch[0].clone())
        return self.weight * batch[0].mean()

    validation_step = test_step = training_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def fit(make_data, tmp_path):
    """Fit and test a recorder: ``fit(max_epochs, data, ckpt_path, **options of the trainer)``."""

    def run(max_epochs, data, ckpt_path=None, **options):
        module = Recorder()
        quiet = ("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing")
        few = {"limit_train_batches": 2, "limit_val_batches": 1, "limit_test_batches": 1}
        place = {"default_root_dir": tmp_path, "accelerator": "cpu", "max_epochs": max_epochs}
        trainer = Trainer(**{**dict.fromkeys(quiet, False), **few, **place, **options})
        trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=True)
        trainer.test(module, data, verbose=False)
        return {key: torch.cat(batches) for key, batches in module.seen.items()}

    return run


def test_a_trainer_augments_training_batches_alone(bundled, make_data, fit):
    data = make_data(augment=True)
    batch = next(iter(data.train_dataloader()))
    assert data.on_after_batch_transfer(batch, 0) is batch, "without a trainer"
    seen = fit(2, data)
    for key, split in ((("validate", 1), "val"), (("test", 2), "test")):
        assert torch.equal(seen[key], dataset_of(bundled, split).images[:64])
    loader, other = bundled.train_dataloader(), make_data(augment=True)
    loader.sampler.set_epoch(1)
    expected = [other.augmented(images, 1) for images, _ in loader][:2]
    assert torch.equal(seen["train", 1], torch.cat(expected))
    for _ in range(2):  # another fit starts anew
        assert torch.equal(fit(1, data)["train", 0], seen["train", 0])


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("at_end_of_training_epoch", [True, False])
def test_a_resumed_run_sees_the_same_batches(make_data, fit, tmp_path, at_end_of_training_epoch):
    options = {"augment": True, "seed": 3}
    when = {"save_last": True, "save_on_train_epoch_end": at_end_of_training_epoch}
    keep = ModelCheckpoint(tmp_path / "kept", **when)
    whole = fit(3, make_data(**options))
    fit(1, make_data(**options), enable_checkpointing=True, callbacks=[keep])
    resumed = fit(3, make_data(**options), keep.last_model_path)
    assert sorted(epoch for stage, epoch in resumed if stage == "train") == [1, 2]
    for epoch in (1, 2):
        assert torch.equal(whole["train", epoch], resumed["train", epoch])
