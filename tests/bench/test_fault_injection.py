import pytest

from bench.fault_injection import Command, Trial, complaint, damage, kill, summary
from tools.dvc import command


def test_what_a_command_does_not_repair_is_lost(toy):
    nothing = Command("nothing", toy, "true")
    assert nothing.losses(toy) == ""
    (toy.folder / "models/model.part.keras").touch()
    cached = next(path for path in (toy.folder / ".dvc/cache/files").rglob("*") if path.is_file())
    cached.chmod(0o644)
    cached.write_bytes(b"x")
    toy.run("git", "update-ref", "refs/exps/ab/cdef/other", "HEAD")
    losses = nothing.losses(toy)
    assert all(part in losses for part in ("part.keras", cached.name, "other: params.yaml"))
    assert "metrics/test.json" in damage(nothing, "metrics/test.json", "cut off", 0.5).losses


@pytest.mark.slow
def test_a_killed_run_is_repaired_by_the_same_command(toy):
    toy.slow_training(0.3)
    repro = Command("dvc repro", toy, *command("repro"))
    trial = kill(repro, repro.seconds / 2)
    assert trial == ("`dvc repro` killed", "completed by the same command", "")
    (toy.folder / "params.yaml").write_text("seed: no number\n")
    assert "repro exited with" in repro.losses(toy)


def test_a_message_is_clear_if_it_has_the_reason_and_no_traceback():
    assert not complaint("No space left on device", "No space left", "disk is full")
    assert complaint("Traceback ...\nNo space left", "No space left")


def test_losses_are_counted_by_fault():
    a_refusal = Trial("a", "refused", "x")
    assert summary([Trial("a", "done"), Trial("b", "done"), a_refusal, Trial("a", "done")]) == [
        {"fault": "a", "times": 3, "ending": "done (2), refused (1)", "losses": 1},
        {"fault": "b", "times": 1, "ending": "done (1)", "losses": 0},
    ]
