import time

import pytest
import torch

from scripts.benchmarks.timing import Timings, time_in_turn


def test_versions_take_turns_and_the_slow_one_takes_longer():
    calls = []
    seconds = {"fast": 0.02, "slow": 0.06}

    def version(name):
        return lambda: (calls.append(name), time.sleep(seconds[name]))

    timings = time_in_turn({name: version(name) for name in seconds}, 3, torch.device("cpu"))
    assert calls[-6:] == ["fast", "slow"] * 3
    assert timings.ratio("slow", "fast").value > 1.5


def test_ratio_is_of_minima_with_the_spread_of_the_rounds():
    timings = Timings({"a": [4.0, 2.0, 6.0], "b": [1.0, 2.0, 2.0]})
    ratio = timings.ratio("a", "b")
    assert timings.minimum("a") == ratio.value == 2
    assert (ratio.low, ratio.high) == pytest.approx((1.4, 3.8))
    assert str(ratio) == "2.00 (1.40-3.80)"
