import math

import pytest

from bench.tables import goal, growth, rates_of, ratios, shortest_epoch, tables

RATE = {"seconds": 4.0, "flops": 1e11, "bytes_per_second": 5e10}


def training(ours=2.0, keras=4.0, **others):
    loops = {"ours": [RATE | {"seconds": ours}] * 3, "keras": [{"seconds": keras}] * 3}
    loops |= {
        name.replace("_", "-"): [{"seconds": seconds}] * 3 for name, seconds in others.items()
    }
    return {f"{loop} {size} 1": runs for loop, runs in loops.items() for size in (64, 128, 256)}


def measured(**changes):
    """Ten times faster than anybody, and linear in everything."""
    stages = {
        f"{stage} {factor}": [{"seconds": 3.0 + factor, "memory": 5e6}]
        for stage in ("prepare", "train", "evaluate")
        for factor in (1, 4, 16)
    }
    return {
        "end_to_end": {"ours": [4.0, 5.0, 5.0], "plain": [10.0, 10.0, 10.0]},
        "training": training(),
        "nothing_to_do": {"repro": [1.3, 1.2], "status": [1.0, 1.0]},
        "data": stages,
        "experiments": {"3": [30.0], "12": [120.0], "48": [480.0]},
        "stages": {"train: imports": [3.0, 5.0, 4.0], "train: epochs": [36.0, 36.0, 36.0]},
        "models": {"cnn": {"seconds": 90.0, "cpu": 159.0}},
    } | changes


def verdicts(values):
    return {row["what"]: row[""] for row in tables(values)["goals"]}


def test_a_goal_is_judged_by_the_median_and_shows_the_range():
    assert goal("x", [0.4, 0.6, 0.5], "at most", 0.5) == {
        "what": "x",
        "measured": "0.50 (0.40 to 0.60)",
        "repetitions": "3",
        "goal": "at most 0.5",
        "": "✓ reached",
    }
    assert goal("x", [0.62], "at most", 0.5)[""] == "✗ missed by 0.12"
    assert goal("x", [1.4], "at least", 1.5)[""] == "✗ missed by 0.10"
    assert goal("x", [1.5], "at least", 1.5)[""] == "✓ reached"


def test_growth_is_1_on_a_line_and_more_on_a_parabola():
    assert growth([1, 4, 16], [5.0, 8.0, 20.0]) == 1
    assert growth([1, 4, 16], [1.0, 16.0, 256.0]) == 4  # 240 / 12 against 15 / 3
    # more data in less time is noise, and no goal reached
    assert growth([1, 4, 16], [5.0, 4.9, 9.0]) == math.inf


def test_ratios_are_of_repetitions_that_ran_together():
    assert ratios([1.0, 2.0], [2.0, 8.0]) == [0.5, 0.25]


def test_the_shortest_epoch_by_hand():
    """There are 1,009,008 weights, and 1,333 more for the biases.

    The gradient of the first layer's 784 inputs is left out.
    """
    weights = 784 * 784 + 784 * 392 + 392 * 196 + 196 * 49 + 49 * 10
    assert weights + 784 + 392 + 196 + 49 + 10 == 1_010_341  # as `model.summary()` says
    operations = 54_000 * (6 * weights - 2 * 784 * 784) + 6_000 * 2 * weights
    moved = math.ceil(54_000 / 256) * 7 * 4 * 1_010_341
    assert shortest_epoch(RATE, 256) == pytest.approx(operations / 1e11 + moved / 5e10)


def test_the_faster_pytorch_is_the_one_to_beat():
    slower, faster = (
        rates_of(measured(training=training(torch=5.0, torch_compiled=seconds)))[0]["over torch"]
        for seconds in (9.0, 3.0)
    )
    assert slower == [2.5] * 3
    assert faster == [1.5] * 3


def test_all_goals_are_reached_where_everything_is_fast():
    fast = measured(training=training(ours=3.2, keras=6.4, torch=8.0, torch_compiled=9.0))
    assert set(verdicts(fast).values()) == {"✓ reached"}


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"end_to_end": {"ours": [7.0], "plain": [10.0]}},
         "three experiments, against the plain script"),
        ({"training": training(ours=3.2, keras=4.0)},
         "training at batch 64, 1 thread, against `model.fit`"),
        ({"training": training(torch=1.0, torch_compiled=3.0)},
         "training at batch 128, 1 thread, against the faster PyTorch"),
        ({"training": training(ours=9.0, keras=20.0)},
         "training at batch 256, 1 thread, of the machine's limit"),
        ({"experiments": {"3": [30.0], "12": [120.0], "48": [600.0]}},
         "seconds a further experiment, from 12 to 48 against 3 to 12"),
    ],
)  # fmt: skip
def test_a_missed_goal_says_so(change, what):
    assert verdicts(measured(**change))[what].startswith("✗ missed by")


def test_tables_appear_as_far_as_they_are_measured():
    assert tables({}) == {}
    assert list(tables({"stages": measured()["stages"]})) == ["parts"]
    assert tables(measured())["parts"] == [
        {"part of run-1": "train: imports", "seconds": "4.0", "share": "10%"},
        {"part of run-1": "train: epochs", "seconds": "36.0", "share": "90%"},
        {"part of run-1": "all", "seconds": "40.0", "share": "100%"},
    ]


def test_costs_are_in_minutes():
    assert tables(measured())["costs"] == [
        {"experiment": "cnn", "minutes, alone on both cores": "1.5", "CPU minutes": "2.6"}
    ]
