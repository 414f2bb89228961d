import math

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from src.data.rotmnist.datamodule import RotatedMNISTDataModule
from src.data.rotmnist.rotation import rotate_images
from src.data.rotmnist.sources import SOURCES
from src.data.rotmnist.splits import fixed_angles

SPLITS = ("train", "val", "test")


def loader_of(data, split):
    return getattr(data, f"{split}_dataloader")()


def all_of(data, split):
    """Images in 0..1 and labels of a split, in the order of its data set."""
    dataset = loader_of(data, split).dataset
    return dataset.images * data.std + data.mean, dataset.labels


def test_batches_have_the_promised_types_and_shapes(bundled):
    for split in SPLITS:
        images, labels = next(iter(loader_of(bundled, split)))
        assert images.shape == (64, *bundled.image_shape) == (64, 1, 28, 28)
        assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
        assert labels.shape == (64,)
    assert bundled.num_classes == 10


@pytest.mark.parametrize(("split", "per_class"), [("train", 350), ("val", 50), ("test", 100)])
def test_every_class_has_its_share(bundled, split, per_class):
    loader = loader_of(bundled, split)
    labels = torch.cat([labels for _, labels in loader])
    assert labels.bincount().tolist() == [per_class] * 10
    assert len(loader) == math.ceil(10 * per_class / 64)


def test_no_digit_is_in_two_splits(upright):
    digits = [{image.numpy().tobytes() for image in all_of(upright, split)[0]} for split in SPLITS]
    assert [len(part) for part in digits] == [3500, 500, 1000]
    assert len(set.union(*digits)) == 5000


def test_splits_and_angles_do_not_depend_on_the_seed(bundled, make_data):
    torch.manual_seed(5)
    other = make_data(seed=123)
    for split in SPLITS:
        for first, second in zip(all_of(bundled, split), all_of(other, split)):
            assert torch.equal(first, second)


def test_each_image_is_rotated_once_by_its_fixed_angle(bundled, upright):
    for split in SPLITS:
        images, labels = all_of(upright, split)
        expected = rotate_images(images, fixed_angles(split, len(images)))
        torch.testing.assert_close(all_of(bundled, split)[0], expected, atol=1e-5, rtol=0)
        assert torch.equal(all_of(bundled, split)[1], labels)


def test_on_the_fly_leaves_only_training_images_upright(bundled, upright, make_data):
    data = make_data(rotate="on_the_fly")
    assert data.augment
    expected = {"train": upright, "val": bundled, "test": bundled}
    for split, other in expected.items():
        torch.testing.assert_close(
            all_of(data, split)[0], all_of(other, split)[0], atol=1e-5, rtol=0
        )


def test_normalisation_comes_from_the_training_images_alone(bundled):
    images = torch.cat([images for images, _ in bundled.train_dataloader()]).double()
    assert images.mean().item() == pytest.approx(0, abs=1e-5)
    assert images.std(correction=0).item() == pytest.approx(1, abs=1e-5)
    raw = all_of(bundled, "train")[0].double()
    assert bundled.mean == pytest.approx(raw.mean().item(), rel=1e-5)
    assert bundled.std == pytest.approx(raw.std(correction=0).item(), rel=1e-5)
    others = torch.cat([loader_of(bundled, split).dataset.images for split in ("val", "test")])
    assert abs(others.mean().item()) > 1e-4


def test_grey_values_lie_between_0_and_1(bundled):
    for split in SPLITS:
        images = all_of(bundled, split)[0]
        assert images.min().item() == pytest.approx(0, abs=1e-6)
        assert 0.9 < images.max().item() < 1 + 1e-5


def test_rotated_mnist_is_taken_as_published(
    published_amat, serve, tmp_path, monkeypatch, make_data
):
    monkeypatch.setitem(SOURCES, "rotmnist", published_amat.source)
    server = serve(published_amat.folder)
    data = make_data(tmp_path / "data", source="rotmnist", mirrors=[server.address])
    images, labels = published_amat.arrays["train_valid"]
    for split, rows in (("train", slice(10)), ("val", slice(10, 12))):
        loaded, loaded_labels = all_of(data, split)
        torch.testing.assert_close(loaded[:, 0], torch.from_numpy(images[rows]))
        assert loaded_labels.tolist() == labels[rows].tolist()


def test_mnist_keeps_its_test_split(published_idx, serve, tmp_path, monkeypatch, make_data):
    source = published_idx.source
    monkeypatch.setitem(SOURCES, source.name, source)
    server = serve(published_idx.folder)
    options = {"source": source.name, "mirrors": [server.address]}
    upright, rotated = (
        make_data(tmp_path / "data", rotate=rotate, **options) for rotate in ("none", "once")
    )
    images, labels = published_idx.arrays["t10k"]
    pixels = torch.from_numpy(images)[:, None] / 255
    turned = rotate_images(pixels, fixed_angles("test", 6))
    torch.testing.assert_close(all_of(upright, "test")[0], pixels, atol=1e-6, rtol=0)
    torch.testing.assert_close(all_of(rotated, "test")[0], turned, atol=1e-5, rtol=0)
    assert all_of(rotated, "test")[1].tolist() == labels.tolist()
    assert set(server.requests.values()) == {1}


def test_an_unreachable_source_names_the_default(tmp_path, unreachable):
    data = RotatedMNISTDataModule(tmp_path, source="mnist", mirrors=[unreachable])
    with pytest.raises(ConnectionError, match=r"train-images-idx3.*(?s:.)*data.source=bundled"):
        data.prepare_data()


def test_the_config_builds_the_data_module(bundled_dir, pytestconfig):
    config = OmegaConf.load(pytestconfig.rootpath / "configs/data/rotmnist.yaml")
    parent = OmegaConf.create({"data": config, "paths": {"data_dir": str(bundled_dir)}, "seed": 7})
    data = instantiate(parent.data)
    assert (data.source.name, data.batch_size, data.seed) == ("bundled", 64, 7)
    assert data.data_dir == bundled_dir
    parent.data.mirrors = ["http://127.0.0.1:1/"]
    assert instantiate(parent.data).mirrors == ("http://127.0.0.1:1/",)


def test_loaders_need_setup(bundled_dir):
    data = RotatedMNISTDataModule(bundled_dir)
    for split in SPLITS:
        with pytest.raises(RuntimeError, match=r"loaded before a loader.*Call prepare_data\(\)"):
            loader_of(data, split)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"source": "cifar"}, ValueError, "`source` must be one of bundled, rotmnist, .*'cifar'"),
        ({"source": 3}, TypeError, "`source` must be one of .*; got 3. Use data.source=bundled"),
        ({"rotate": "twice"}, ValueError, "`rotate` must be one of once, on_the_fly.*'twice'"),
        ({"rotate": True}, TypeError, "`rotate` must be one of .*; got True"),
        (
            {"batch_size": "abc"},
            TypeError,
            "`batch_size` must be an integer.*at least 1; got 'abc'",
        ),
        ({"batch_size": 0}, ValueError, "`batch_size` .*; got 0. Use data.batch_size=64"),
        ({"batch_size": 2.5}, TypeError, "`batch_size` must be an integer.*; got 2.5"),
        ({"batch_size": True}, TypeError, "`batch_size` must be an integer.*; got True"),
        ({"num_workers": -1}, ValueError, "`num_workers` must be .* at least 0; got -1"),
        ({"num_workers": None}, TypeError, "`num_workers` must be an integer.*; got None"),
        ({"seed": -1}, ValueError, "`seed` must be an integer of at least 0; got -1"),
        ({"seed": "abc"}, TypeError, "`seed` must be an integer .*; got 'abc'"),
        ({"augment": 1}, TypeError, "`augment` must be true or false; got 1"),
        ({"mirrors": "http://a/"}, TypeError, "`mirrors` must be null or a list.*'http://a/'"),
        ({"mirrors": []}, ValueError, r"`mirrors` must be null or a list.*; got \[\]"),
        ({"mirrors": [1]}, ValueError, r"`mirrors` must be null or a list.*; got \[1\]"),
        ({"data_dir": 3}, TypeError, "`data_dir` must be the path of a folder; got 3"),
    ],
)
def test_wrong_options_are_refused(tmp_path, options, error, message):
    with pytest.raises(error, match=message):
        RotatedMNISTDataModule(**{"data_dir": tmp_path, **options})


def test_a_data_dir_that_is_a_file_is_refused(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(ValueError, match=r"`data_dir` must be the path of a folder; got .*file"):
        RotatedMNISTDataModule(path)


@pytest.mark.parametrize("rotate", ["none", "on_the_fly"])
def test_rotated_mnist_cannot_be_turned_upright(tmp_path, rotate):
    message = f"must be once with data.source=rotmnist.*got {rotate}. Use data.augment=true"
    with pytest.raises(ValueError, match=message):
        RotatedMNISTDataModule(tmp_path, source="rotmnist", rotate=rotate)
