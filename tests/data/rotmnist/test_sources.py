import pytest
from torchvision import datasets

from src.data.rotmnist.sources import BUNDLED, FASHION_MNIST, MNIST, ROTATED_MNIST, SOURCES


@pytest.mark.parametrize(
    ("source", "original"), [(MNIST, datasets.MNIST), (FASHION_MNIST, datasets.FashionMNIST)]
)
def test_files_and_mirrors_are_those_of_torchvision(source, original):
    assert [(file.name, file.md5) for file in source.files] == original.resources
    assert list(source.mirrors) == original.mirrors


def test_sizes_are_those_of_the_published_sets():
    assert {name: tuple(source.sizes.values()) for name, source in SOURCES.items()} == {
        "bundled": (3_500, 500, 1_000),
        "rotmnist": (10_000, 2_000, 50_000),
        "mnist": (55_000, 5_000, 10_000),
        "fashion_mnist": (55_000, 5_000, 10_000),
    }


def test_only_rotated_mnist_is_published_rotated():
    assert [name for name, source in SOURCES.items() if source.rotated] == ["rotmnist"]


def test_folders(tmp_path):
    assert ROTATED_MNIST.folder(tmp_path) == tmp_path / "rotmnist"
    assert (BUNDLED.folder(tmp_path) / BUNDLED.files[0].name).is_file()
