"""See tests/test_predict.py for the files of runs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from src.callbacks import PredictionFile


def test_batches_of_several_sets_are_joined_in_float32(tmp_path):
    path = tmp_path / "new" / "file.npz"
    writer = PredictionFile(path, {"split": "test"})
    data = SimpleNamespace(test_names=("future", "domain"))
    trainer = SimpleNamespace(datamodule=data, num_test_batches=[2, 1], world_size=1)
    writer.setup(trainer, None, "test")
    batches = [
        (torch.full((size, 2), float(size)), part) for size, part in ((3, 0), (1, 0), (2, 1))
    ]
    for values, part in batches:
        outputs = {"forecast": values.bfloat16(), "labels": values.long()}
        writer.on_test_batch_end(trainer, None, outputs, None, 0, part)
    writer.on_test_end(trainer, None)
    found = np.load(path)
    assert str(found["metadata"]) == '{"split": "test"}'
    np.testing.assert_array_equal(found["future/forecast"][:, 0], np.float32([3, 3, 3, 1]))
    assert (found["domain/forecast"].dtype, found["domain/labels"].dtype) == (np.float32, np.int64)
    assert found["domain/labels"].shape == (2, 2)


def test_one_process_alone_writes():
    trainer = SimpleNamespace(world_size=2)
    with pytest.raises(ValueError, match=r"`devices` must be 1 .*; got 2\. Use trainer"):
        PredictionFile("file.npz", {}).setup(trainer, None, "test")
