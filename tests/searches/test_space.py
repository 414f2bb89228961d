import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from src.errors import UserError
from src.searches.space import read_space

CONFIG = {"model": {"optimizer": {"lr": 0.01}, "net": {"width": 8, "group": "c4"}}, "seed": 0}
LR = "model.optimizer.lr"


def test_a_space_is_read():
    for key, kind, options, distribution in (
        (LR, "float", {"low": 1e-4, "high": 0.1, "log": True}, FloatDistribution),
        ("model.net.width", "int", {"low": 8, "high": 32, "step": 8}, IntDistribution),
        ("model.net.group", "categorical", {"choices": ["c4", None]}, CategoricalDistribution),
        ("model", "categorical", {"choices": ["tiny", "wider"]}, CategoricalDistribution),
    ):
        space = read_space({key: {"type": kind, **options}}, CONFIG, {"model"})
        assert space == {key: distribution(**options)}


def test_bad_entries_are_refused():
    for key, entry, message in (
        ("model.optimizer.l", {"type": "float"}, "must be that of a value .* Use model.optimizer"),
        ("nowhere", {"type": "float"}, "must be that of a value .* Use what --cfg job shows"),
        ("model.net", {"type": "int"}, "must be that of a value .* Use model.net.width or"),
        (LR, {"type": "real", "low": 0, "high": 1}, "must be float, int or categorical; got"),
        (LR, 0.1, "must be float, int or categorical; got 0.1"),
        (LR, {"type": "float", "low": 1, "high": 2, "lgo": True}, "unexpected .* 'lgo'"),
        (LR, {"type": "float", "high": 1}, "missing .* 'low'"),
        (LR, {"type": "float", "low": 2, "high": 1}, "`low <= high` must hold"),
        (LR, {"type": "float", "low": 0, "high": 1, "log": True}, "`low > 0` must hold"),
        (LR, {"type": "int", "low": 8, "high": 30, "step": 8}, "not divisible by `step`"),
        (LR, {"type": "categorical", "choices": [[1], [2]]}, r"of type list.*use, e\.g"),
    ):
        with pytest.raises(UserError, match=f"search.space, {key}: .*{message}"):
            read_space({key: entry}, CONFIG, {"data"})
    with pytest.raises(UserError, match=r"(?s)space, nowhere: .*space, seed: "):  # all at once
        read_space({"nowhere": {"type": "int"}, "seed": {"type": "real"}}, CONFIG, set())
    for entries in (None, {}, [LR]):
        with pytest.raises(UserError, match="must hold the values to try, by config key; got"):
            read_space(entries, CONFIG, set())
