"""Measure one training loop's speed, in a process of its own.

`python -m bench.throughput ours|keras|torch|torch-compiled BATCH_SIZE` prints JSON: the median
seconds of an epoch (54,000 images, then 6,000 for validation) after the first one, which compiles;
for `ours` the rates of this process's matrix products and memory, measured before and after, too.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.baseline import build, scaled
from fashion.core.dataset import read_dataset
from fashion.core.params import read_params

PREPARED = Path("data/prepared")
EPOCHS = 3
SIDE = 2048  # of the matrices whose product gives the best rate


def load(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Pixels from 0 to 255 and labels, both uint8."""
    return np.load(PREPARED / f"{split}_images.npy"), np.load(PREPARED / f"{split}_labels.npy")


def ours(batch_size: int) -> dict[str, float]:
    """The train stage's loop, with its network and memory-mapped arrays."""
    from fashion.model import training
    from fashion.model.backend import make_deterministic
    from fashion.model.networks import build_mlp

    starts, ends = [], []

    class Clock(training.EpochLog):
        def on_epoch_begin(self, epoch, logs=None):
            starts.append(time.perf_counter())

        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            ends.append(time.perf_counter())

    training.EpochLog = Clock
    params, dataset = read_params(), read_dataset()
    make_deterministic(params.seed)
    model = build_mlp(dataset.image_shape, params.model.hidden_units, len(dataset.class_names))
    splits = [
        tuple(
            np.load(PREPARED / f"{split}_{part}.npy", mmap_mode="r")
            for part in ("images", "labels")
        )
        for split in ("train", "validation")
    ]
    before = machine(model.count_params())
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            model, *splits, epochs=EPOCHS, batch_size=batch_size, learning_rate=0.001,
            seed=1, history=Path(folder, "history.csv"),
        )  # fmt: skip
    after = machine(model.count_params())
    seconds = [end - start for start, end in zip(starts, ends, strict=True)]
    return {"seconds": statistics.median(seconds[1:])} | {
        name: max(before[name], after[name]) for name in before
    }


def machine(parameters: int) -> dict[str, float]:
    """What this process's threads do at best: floating-point operations and bytes a second.

    Memory is read and written in arrays as large as the network's weights: they fit into the cache
    as well as those do.
    """
    from fashion.model.backend import tf

    square = tf.random.stateless_uniform((SIDE, SIDE), seed=(0, 0))
    weights, change = tf.Variable(tf.zeros(parameters)), tf.ones(parameters)

    @tf.function
    def add():
        for _ in tf.range(100):
            weights.assign_add(change)

    return {
        "flops": 2 * SIDE**3 / quickest(lambda: tf.linalg.matmul(square, square).numpy(), times=8),
        "bytes_per_second": 100 * 3 * 4 * parameters / quickest(add, times=8),
    }


def quickest(action: Callable, times: int) -> float:
    action()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def plain(batch_size: int) -> dict[str, float]:
    """Plain `model.fit`, as in bench/baseline.py."""
    import keras

    starts, ends = [], []
    clock = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda *_: starts.append(time.perf_counter()),
        on_epoch_end=lambda *_: ends.append(time.perf_counter()),
    )
    (images, labels), (val_images, val_labels) = load("train"), load("validation")
    keras.utils.set_random_seed(1)
    build().fit(
        scaled(images), labels, batch_size=batch_size, epochs=EPOCHS,
        validation_data=(scaled(val_images), val_labels), verbose=2, callbacks=[clock],
    )  # fmt: skip
    return {
        "seconds": statistics.median(
            [end - start for start, end in zip(starts, ends, strict=True)][1:]
        )
    }


def pytorch(batch_size: int, compiled: bool) -> dict[str, float]:
    """PyTorch on tensors in memory, with its fused Adam."""
    import torch
    from torch.nn import Flatten, Linear, ReLU, Sequential
    from torch.nn.functional import cross_entropy

    torch.manual_seed(1)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())))
    (images, labels), (val_images, val_labels) = [
        (torch.from_numpy(scaled(pixels)), torch.from_numpy(labels.astype("int64")))
        for pixels, labels in (load("train"), load("validation"))
    ]
    model = Sequential(
        Flatten(), Linear(784, 784), ReLU(), Linear(784, 392), ReLU(), Linear(392, 196), ReLU(),
        Linear(196, 49), ReLU(), Linear(49, 10),
    )  # fmt: skip
    forward = torch.compile(model) if compiled else model
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    seconds = []
    for _ in range(EPOCHS):
        start = time.perf_counter()
        correct, total = torch.zeros((), dtype=torch.int64), torch.zeros(())
        for chosen in torch.randperm(len(images)).split(batch_size):
            logits = forward(images[chosen])
            loss = cross_entropy(logits, labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * len(chosen)
            correct += (logits.argmax(1) == labels[chosen]).sum()
        with torch.no_grad():
            logits = torch.cat([model(batch) for batch in val_images.split(1000)])
            val_loss, val_accuracy = (
                cross_entropy(logits, val_labels),
                (logits.argmax(1) == val_labels).float().mean(),
            )
        print(
            float(total) / len(images),
            int(correct) / len(images),
            float(val_loss),
            float(val_accuracy),
            file=sys.stderr,
        )
        seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds[1:])}


LOOPS = {
    "ours": ours,
    "keras": plain,
    "torch": lambda batch_size: pytorch(batch_size, compiled=False),
    "torch-compiled": lambda batch_size: pytorch(batch_size, compiled=True),
}

if __name__ == "__main__":
    loop, size = sys.argv[1:]
    print(json.dumps(LOOPS[loop](int(size))))
