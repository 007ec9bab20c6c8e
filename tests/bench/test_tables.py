import math

import pytest

from bench.tables import goal, rates_of, ratios, shortest_epoch, spread, tables

RATE = {"seconds": 4.0, "flops": 1e11, "bytes_per_second": 5e10}


def training(ours=3.2, keras=6.4, kinds=("portable", "native"), **others):
    """Seconds of an epoch of each loop, at every batch size, on one thread."""
    loops = {"ours": [RATE | {"seconds": ours}] * 3, "keras": [{"seconds": keras}] * 3}
    loops |= {
        name.replace("_", "-"): [{"seconds": seconds}] * 3 for name, seconds in others.items()
    }
    return {
        f"{kind} {loop} {size} 1": runs
        for size in (64, 128, 256)
        for kind in kinds
        for loop, runs in loops.items()
    }


def data(**changes):
    """Linear in time; memory of train grows by 8 bytes for each of 54,000 images."""
    runs = {
        f"{stage} {factor}": [{"seconds": 3.0 + factor, "memory": 1e8}]
        for stage in ("prepare", "evaluate")
        for factor in (1, 16, 100)
    }
    runs |= {
        f"train {factor}": [{"seconds": 3.0 + factor, "memory": 3e8 + 8 * 54_000 * factor}]
        for factor in (1, 16, 100)
    }
    return runs | {name.replace("_", " "): [run] for name, run in changes.items()}


def end_to_end(portable=5.0, native=4.0):
    return {
        "portable ours": [portable, portable - 1, portable],
        "portable plain": [10.0, 10.0, 10.0],
        "native ours": [native],
        "native plain": [8.0],
    }


def commands(**changes):
    return {
        "plot": [1.4, 1.2],
        "evaluate": [2.4, 2.6, 2.3],
        "import tensorflow, keras": [2.0, 2.1, 1.9],
        "predict": [2.4],
        "import tensorflow": [2.0],
        "rebuild": [0.8],
        "status": [0.6],
    } | changes


def measured(**changes):
    """Every goal is reached."""
    return {
        "end_to_end": end_to_end(),
        "commands": commands(),
        "training": training(torch=8.0, torch_compiled=9.0),
        "data": data(),
        "experiments": {
            "3": {"seconds": 30.0, "cpu": 36.0},
            "200": {"seconds": 720.0, "cpu": 1300.0},
        },
        "commits": {
            "small": {"`dvc exp show`": [0.9], "`make check`": [1.0, 2.0, 3.0]},
            "large": {"`dvc exp show`": [9.5], "`make check`": [3.0, 4.0, 8.0]},
        },
        "stages": {"train: imports": [3.0, 5.0, 4.0], "train: epochs": [36.0, 36.0, 36.0]},
        "models": {"cnn-small": {"seconds": 90.0, "cpu": 159.0}},
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


def test_a_figure_without_a_goal_has_no_verdict():
    assert goal("x", [2.0]) == {
        "what": "x",
        "measured": "2.00",
        "repetitions": "1",
        "goal": "",
        "": "",
    }


def test_the_range_is_shown_where_there_is_one():
    assert spread([2.0]) == "2.00"
    assert spread([2.0, 1.0, 4.0]) == "2.00 (1.00 to 4.00)"


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
        rates_of(training(ours=2.0, torch=5.0, torch_compiled=seconds))[0]["over torch"]
        for seconds in (9.0, 3.0)
    )
    assert slower == [2.5] * 3
    assert faster == [1.5] * 3


def test_rivals_are_compared_at_equal_arithmetic():
    """Native rivals are no rivals of portable arithmetic."""
    section = training(ours=3.0, keras=6.0, kinds=["portable"])
    section |= training(ours=2.0, keras=3.0, kinds=["native"])
    assert [row["over keras"][0] for row in rates_of(section)] == [2.0] * 3 + [1.5] * 3
    found = verdicts({"training": section})
    assert found["training at batch 64, portable, 1 thread, against `model.fit`"] == "✓ reached"
    assert found["training at batch 64, native, 1 thread, against `model.fit`"] == "✓ reached"
    # 54,000 images: in 3 and 2 seconds here, in 6 and 3 by `model.fit`
    first = tables({"training": section})["training"][0]
    assert (first["arithmetic"], first["here"], first["`model.fit`"]) == (
        "portable",
        "18,000",
        "9,000",
    )
    assert tables({"training": section})["arithmetic"][0] == {
        "batch size": "64",
        "portable": "3.00",
        "native": "2.00",
        "portable / native": "1.50 (1.50 to 1.50)",
    }


def test_native_arithmetic_alone_has_several_threads():
    section = training()
    section |= {key[:-1] + "2": runs for key, runs in training(kinds=["native"]).items()}
    found = [(row["arithmetic"], row["threads"]) for row in rates_of(section)]
    assert found == [("portable", 1)] * 3 + [("native", 1)] * 3 + [("native", 2)] * 3
    assert "training at batch 64, native, 2 threads, against `model.fit`" in verdicts(
        {"training": section}
    )


def test_all_goals_are_reached_where_everything_is_fast():
    found = verdicts(measured())
    no_goal = "seconds of `import tensorflow, keras`, which evaluate has to do"
    assert found.pop(no_goal) == ""
    assert set(found.values()) == {"✓ reached"}


@pytest.mark.parametrize(
    ("change", "what", "by"),
    [
        ({"end_to_end": end_to_end(portable=7.0)},
         "`make`, from raw files to three compared experiments, against the plain script,"
         " both portable", 0.10),
        ({"end_to_end": end_to_end(native=6.0)},
         "`make`, from raw files to three compared experiments, against the plain script,"
         " both native", 0.15),
        ({"commands": commands(plot=[1.7])}, "seconds of `python -m stages.plot`", 0.2),
        ({"commands": commands(evaluate=[3.0])}, "seconds of `python -m stages.evaluate`", 0.5),
        ({"commands": commands(rebuild=[1.2])},
         "`make` with nothing to do, against `dvc status`", 0.5),
        ({"commands": commands(predict=[3.0])},
         "`make predict` of a picture, against `import tensorflow`", 0.2),
        ({"training": training(ours=3.2, keras=4.0)},
         "training at batch 64, portable, 1 thread, against `model.fit`", 0.25),
        ({"training": training(ours=4.0, torch=2.0, torch_compiled=5.0)},
         "training at batch 128, native, 1 thread, against the faster PyTorch", 0.5),
        ({"data": data(prepare_16={"seconds": 19.0, "memory": 1.6e8})},
         "prepare: MB of memory at 16x the data", 10),
        ({"data": data(evaluate_100={"seconds": 142.5, "memory": 1e8})},  # of 119 for 1.2
         "evaluate: seconds an image at 100x the data, against 16x", 0.1),
        ({"data": data(evaluate_100={"seconds": 103.0, "memory": 1.3e8})},
         "evaluate: memory at 100x the data, against 1x", 0.2),
        ({"data": data(train_100={"seconds": 103.0, "memory": 3.6e8 + 43_200_000})},
         "train: memory at 100x the data, against 1x, without the order's 8 bytes an image", 0.1),
        ({"experiments": {"200": {"seconds": 900.0, "cpu": 1600.0}}},
         "seconds an experiment around its training, of 200", 0.5),
    ],
)  # fmt: skip
def test_a_missed_goal_says_by_how_much(change, what, by):
    assert verdicts(measured(**change))[what] == f"✗ missed by {by:.2f}"


def test_far_from_the_machines_limit_is_missed():
    what = "training at batch 256, portable, 1 thread, of the machine's limit"
    assert verdicts({"training": training(ours=9.0)})[what].startswith("✗ missed by")


def test_goals_appear_as_far_as_they_are_measured():
    assert tables({}) == {}
    assert list(tables({"stages": measured()["stages"]})) == ["parts"]
    assert "goals" not in tables({"experiments": {"3": {"seconds": 30.0, "cpu": 36.0}}})
    (row,) = tables({"experiments": measured()["experiments"]})["goals"]
    assert row == {
        "what": "seconds an experiment around its training, of 200",
        "command": '`make bench ARGS="--only experiments"`',
        "measured": "3.60",
        "repetitions": "1",
        "goal": "at most 4.0",
        "": "✓ reached",
    }


def test_parts_have_their_share():
    assert tables(measured())["parts"] == [
        {"part of run-1": "train: imports", "seconds": "4.0", "share": "10%"},
        {"part of run-1": "train: epochs", "seconds": "36.0", "share": "90%"},
        {"part of run-1": "all", "seconds": "40.0", "share": "100%"},
    ]


def test_growth_has_seconds_and_megabytes():
    assert tables(measured())["growth"][1] == {
        "stage": "train",
        "1x: seconds": "4.0",
        "16x: seconds": "19.0",
        "100x: seconds": "103.0",
        "1x: MB": "300",  # 300.4
        "16x: MB": "307",  # 306.9
        "100x: MB": "343",  # 343.2
    }


def test_many_are_told_each():
    assert tables(measured())["many"] == [
        {"experiments": "3", "seconds": "30", "seconds each": "10.0", "CPU seconds each": "12.0"},
        {"experiments": "200", "seconds": "720", "seconds each": "3.6", "CPU seconds each": "6.5"},
    ]


def test_commands_are_told_in_a_small_and_a_large_repository():
    small = "1 commit before, 1 experiment: seconds"
    large = "1,000 commits, 200 experiments: seconds"
    assert tables(measured())["commits"] == [
        {"command": "`dvc exp show`", small: "0.9", large: "9.5"},
        {"command": "`make check`", small: "2.0", large: "4.0"},
    ]


def test_each_of_the_larger_models_has_its_minutes():
    costs = {"run-3": 60.0, "mlp-best": 600.0, "cnn-small": 960.0}
    section = {name: {"seconds": seconds, "cpu": 9.0} for name, seconds in costs.items()}
    told = verdicts({"models": section})
    assert told == {
        "minutes of a training of mlp-best, alone on all cores": "✓ reached",
        "minutes of a training of cnn-small, alone on all cores": "✗ missed by 1.00",
    }


def test_costs_are_in_minutes():
    assert tables(measured())["costs"] == [
        {"experiment": "cnn-small", "minutes, alone on both cores": "1.5", "CPU minutes": "2.6"}
    ]
