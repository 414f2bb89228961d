import re

import pytest
import torch
from lightning import LightningModule
from torch import nn

from src.errors import UserError
from src.runs.checkpoints import MeasureStore, find_checkpoints, fingerprint, position
from src.runs.checkpoints import load_checkpoint as load
from src.runs.checkpoints import load_weights as restore

POSITION = {"epochs_trained": 5.0, "step": 55}
NAN, INF = float("nan"), float("inf")


def entry(value=1.0, mark="a", **details):
    return {"fingerprint": mark, "values": {"sharpness": value}, "details": details}


def test_the_fingerprint_is_that_of_settings_weights_and_config():
    """Not that of the file: copies of the same weights share what is measured of them."""
    weights = {"w": torch.arange(6.0).view(2, 3).mT, "steps": torch.tensor(3)}
    whole = {"config": {"seed": 0}, "state_dict": weights, "epoch": 4, "global_step": 55}

    def mark(settings=1, **changes):
        return fingerprint({"samples": settings}, whole | changes)

    copied = {name: tensor.clone() for name, tensor in weights.items()}
    same = mark(), mark(state_dict=copied, optimizer_states=[1]), mark(epoch=2, epochs_trained=5.0)
    changes = [{"state_dict": weights | {"w": t}} for t in (weights["w"] + 1, weights["w"].mT)]
    changes += [{"state_dict": weights | {"steps": torch.tensor(3, dtype=torch.int32)}}]
    changes += [{"config": {"seed": 1}}, {"relaxation": {"w": 0.5}}, {"global_step": 56}]
    others = [mark(2), mark(epoch=5), *(mark(**change) for change in changes)]
    assert len(set(same)) == 1 and len({*same, *others}) == 1 + len(others)
    for number, marks in ((0, 2), (640, 1)):  # estimated anew, they are not read
        norms = ({"net.1.running_mean": torch.full((2,), mean)} for mean in (0.0, 1.0))
        found = {
            fingerprint({"statistics_samples": number}, whole | {"state_dict": n}) for n in norms
        }
        assert len(found) == marks


def test_measures_are_kept_by_checkpoint_name_and_fingerprint(tmp_path):
    store = MeasureStore(tmp_path / "folder")
    assert store.read() == {}
    store.add("best.ckpt", POSITION, "sharpness", entry(1.0, "old"))
    store.add("best.ckpt", POSITION, "sharpness", entry(1.5, curve=[INF, (1.0, NAN)]))
    store.add("best.ckpt", POSITION, "hessian", entry(NAN))
    store.add("last.ckpt", {"epochs_trained": 6.0, "step": 66}, "sharpness", entry(3.5))
    with pytest.raises(TypeError):
        store.add("best.ckpt", POSITION, "landscape", entry(bad={1, 2}))  # a set is no JSON
    kept = MeasureStore(tmp_path / "folder").read()
    assert kept["best.ckpt"]["step"] == 55
    measures = kept["best.ckpt"]["measures"]
    assert measures["sharpness"]["details"] == {"curve": [None, [1.0, None]]}
    assert measures["hessian"]["values"] == {"sharpness": None}
    assert store.find("best.ckpt", "sharpness", "a")["values"] == {"sharpness": 1.5}
    assert store.find("best.ckpt", "sharpness", "old") is None
    assert store.find("best.ckpt", "landscape", "a") is None
    rows = (tmp_path / "folder" / "measures.csv").read_text().split()
    assert rows[:2] + rows[3:] == [
        "checkpoint,epochs_trained,step,measure,name,value",
        "best.ckpt,5.0,55,sharpness,sharpness,1.5",
        "last.ckpt,6.0,66,sharpness,sharpness,3.5",
    ]


def test_checkpoints_of_a_sweep_are_found(tmp_path):
    sweep = tmp_path / "runs"
    steps = {f"a/checkpoints/path/{step}": step for step in (0, 2, 4, 6)}
    for name, step in {"a/checkpoints/best": 4, "b/checkpoints/best": 9, **steps}.items():
        path = sweep / f"{name}.ckpt"
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"state_dict": {}, "config": {}, "global_step": step}, path)
    found = find_checkpoints(sweep, None)
    names = [stored.key.removesuffix(".ckpt") for stored in found]
    assert names == ["best", "0", "2", "4", "6", "best"]
    assert {stored.run for stored in found} == {sweep / "a", sweep / "b"}
    assert found[1].store.folder == sweep / "a" / "checkpoints" / "path"
    assert [kept["global_step"] for kept in found[0].path_of_training()] == [0, 2, 4]
    together = find_checkpoints(sweep, tmp_path / "out")
    assert together[1].key == "a/checkpoints/path/0.ckpt"
    picture = tmp_path / "out/measures/a_checkpoints_path_0_hessian.png"
    assert together[1].picture("hessian") == picture
    assert not any(stored.named for stored in found + together)
    (alone,) = find_checkpoints(sweep / "b" / "checkpoints" / "best.ckpt", None)
    assert (alone.named, alone.key, alone.run) == (True, "best.ckpt", sweep / "b")
    for kept, epochs in (({"epoch": 4}, 5.0), ({"epochs_trained": 2.5, "epoch": 4}, 2.5)):
        assert position({"global_step": 7, **kept}) == {"epochs_trained": epochs, "step": 7}


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path):
    def saved(value):
        torch.save(value, tmp_path / "saved")
        return (tmp_path / "saved").read_bytes()

    path, whole = tmp_path / "a.ckpt", saved({"state_dict": {}, "config": {}})
    with pytest.raises(UserError, match=r"must be an existing file; got .*a.ckpt"):
        load(path)
    halves = (whole[:100], whole[: len(whole) // 2], b"", b"text", whole[100:])
    for content, message in (
        (saved({"state_dict": {}, "config": re.compile("a")}), "of another program"),  # runs code
        *((half, r"a.ckpt could not be read .* It is damaged") for half in halves),
        *(
            (saved(v), r"lacks config.* Use one that src/train.py")
            for v in ({"state_dict": {}}, [1])
        ),
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            load(path)


class Wrapped(LightningModule):
    def __init__(self, *layers):
        super().__init__()
        self.net = nn.Sequential(*layers)

    def on_load_checkpoint(self, checkpoint):
        self.restored = checkpoint["more"]


def test_weights_are_restored_and_those_of_another_architecture_refused():
    source, model = Wrapped(nn.Linear(2, 3)), Wrapped(nn.Linear(2, 3))
    config = {"model": {"net": {"_target_": "some.Network"}}}
    checkpoint = {"state_dict": source.state_dict(), "config": config, "more": 3}
    restore(model, checkpoint, "a.ckpt")
    assert torch.equal(model.net[0].weight, source.net[0].weight)
    assert model.restored == 3
    message = r"a.ckpt \(a some.Network\) differs: .*net\.[01]\.weight"
    for layers in ([nn.Linear(2, 4)], [], [nn.Linear(2, 3), nn.Linear(2, 3)]):
        with pytest.raises(UserError, match=message):
            restore(Wrapped(*layers), checkpoint, "a.ckpt")
