import json

import pytest


def test_an_equal_rebuild_passes(repository):
    assert "to the byte" in repository.python("tools.reproduced")


def test_a_difference_in_the_same_environment_fails(repository):
    (repository.folder / "metrics/train.json").write_text("{}\n")
    assert "metrics/train.json" in repository.python("tools.reproduced", status=1)


@pytest.mark.parametrize(("change", "status"), [(0.0149, 0), (-0.0149, 0), (0.0151, 1), (-0.0151, 1)])
def test_in_another_environment_the_accuracy_must_be_close(repository, change, status):
    for name, key, value in (("environment", "cpu", "another"), ("test", "accuracy", None)):
        path = repository.folder / f"metrics/{name}.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {key: value or values[key] + change}))
    output = repository.python("tools.reproduced", status=status)
    assert '"cpu": "another"' in output and "Traceback" not in output
