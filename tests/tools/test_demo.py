import json
import sys


def test_the_demo_runs_on_drawn_garments_and_changes_nothing_tracked(repository):
    repository.set("name=Fashion-MNIST")
    repository.commit("A commit that names the real data")
    before = repository.results()
    output = repository.run(sys.executable, "-c", "from tools.demo import main; main(600, 200)")
    assert "drawn garments (not Fashion-MNIST)" in output
    assert repository.results() == before and repository.run("git", "status", "--porcelain") == ""
    assert "demo" not in repository.dvc("exp", "list")

    workspace = repository.folder / ".dvc/tmp/demo"
    assert (
        json.loads((workspace / "metrics/data.json").read_text())["name"]
        == "drawn garments (not Fashion-MNIST)"
    )
    assert json.loads((workspace / "metrics/data.json").read_text())["images"]["test"] == 200
    assert len(list((workspace / "plots").glob("*.png"))) == 6


def test_the_demo_without_a_commit_says_so(tmp_path, repository):
    empty = type(repository)(tmp_path / "empty")
    empty.folder.mkdir()
    for name in ("dataset.yaml", "params.yaml", "fashion", "stages", "tools"):
        (empty.folder / name).symlink_to(repository.folder / name)
    empty.run("git", "init", "--quiet")
    output = empty.python("tools.demo", status=1)
    assert "Is it committed?" in output and "Traceback" not in output
