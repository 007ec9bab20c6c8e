import json


def test_the_plain_script_does_what_the_experiments_do(repository, tmp_path):
    """Same data, epochs, metrics and pictures, on the drawn garments."""
    epochs = {"short": 1, "longer": 2}
    runs = ", ".join(
        f"{name}: {{train.epochs: {count}, train.batch_size: 64}}" for name, count in epochs.items()
    )
    repository.set(f"experiments={{{runs}}}")
    out = tmp_path / "out"
    repository.python("bench.baseline", str(out))
    pictures = {path.name for path in (repository.folder / "plots").glob("*.png")}
    assert pictures >= {"loss.png", "confusion_matrix.png", "mistakes.png"}
    for name, count in epochs.items():
        assert {path.name for path in (out / name).glob("*.png")} == pictures
        metrics = json.loads((out / name / "test.json").read_text())
        assert metrics.keys() == json.loads(repository.read("metrics/test.json")).keys()
        assert len((out / name / "history.csv").read_text().splitlines()) == 1 + count
    assert (out / "experiments.png").exists()
