import time

import numpy as np

from experiments.costs import stopwatch


def test_every_round_measures_all_in_another_order():
    calls = []
    programs = {
        name: lambda name=name, seconds=seconds: (
            calls.append(name), time.sleep(seconds)
        )
        for name, seconds in (("quick", 0.004), ("slow", 0.03), ("slower", 0.06))
    }  # fmt: skip
    medians = stopwatch.medians(programs, 5, np.random.default_rng(0))
    assert 0.003 < medians["quick"] < medians["slow"] < medians["slower"]
    assert calls.count("slow") == calls.count("slower") == 2 + 5
    assert calls.count("quick") > 2 + 5, "short ones are called several times in a row"
    order = [name for name in calls if name != "quick"][4:]
    assert {tuple(order[n : n + 2]) for n in range(0, 10, 2)} == {
        ("slow", "slower"),
        ("slower", "slow"),
    }
