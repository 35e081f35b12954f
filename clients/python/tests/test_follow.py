"""Following files that grow: whole and half-written ones, damaged ones, restarts, and real writers."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from files import BLOCK, WandbFile, field, scalar, tensorboard_record

import hookline
from hookline.cli import main
from hookline.follow.follower import Follower
from hookline.testing import Published, recorded

Wait = Callable[..., None]


@pytest.fixture
def published() -> Iterator[Published]:
    with recorded() as published:
        yield published


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "wandb" / "offline-run-20261123_090000-r1"
    folder.mkdir(parents=True)
    return folder


def told(published: Published) -> list[Any]:
    """What was published, in short."""
    return [
        (event["data"]["step"], event["data"]["metrics"]) if event["type"] == "RUN_METRIC" else event["data"]["state"]
        for event in published
    ]


def whole() -> WandbFile:
    file = WandbFile().run("r1", config={"lr": 0.1})
    for step in range(12):
        file.history(step, padding=7_000, loss=step / 2)
    return file.exit(0)


WHOLE = ["running", *[(step, {"loss": step / 2}) for step in range(12)], "finished"]


def test_a_file_of_a_finished_run_is_its_states_and_metrics(published: Published, folder: Path) -> None:
    (folder / "run-r1.wandb").write_bytes(whole().data)
    follower = Follower([folder], since="start")
    assert follower.look() == 14
    assert follower.look() == 0
    assert told(published) == WHOLE
    assert published[1]["data"]["run"] == {"id": "r1", "name": "name of r1", "config": {"lr": 0.1}}
    assert published[1]["data"]["project"] == "digits"
    assert len({event["id"] for event in published}) == 14


@pytest.mark.parametrize("seed", range(8))
def test_a_file_that_grows_by_any_pieces_is_read_the_same(published: Published, folder: Path, seed: int) -> None:
    data = whole().data
    numbers = random.Random(seed)
    cuts = sorted(numbers.randrange(len(data)) for _ in range(20))
    follower = Follower([folder], since="start")
    path = folder / "run-r1.wandb"
    for end in [*cuts, *cuts[-1:], len(data)]:
        path.write_bytes(data[:end]) if not path.exists() else _append(path, data, end)
        follower.look()
    assert told(published) == WHOLE


def _append(path: Path, data: bytes, end: int) -> None:
    with path.open("ab") as file:
        file.write(data[file.tell() : end])


@pytest.mark.parametrize("seed", range(20))
def test_damage_costs_what_it_hits_and_no_more_than_a_block(published: Published, folder: Path, seed: int) -> None:
    data = bytearray(whole().data)
    assert len(data) > 2 * BLOCK
    numbers = random.Random(seed)
    at = numbers.randrange(7, BLOCK)
    data[at : at + 40] = numbers.randbytes(40)
    (folder / "run-r1.wandb").write_bytes(bytes(data))
    follower = Follower([folder], since="start")
    follower.look()
    found = told(published)
    # Without its first record nobody knows which run it is.
    assert found == [] or found[-1] == "finished"
    assert [one for one in WHOLE if one in found] == found


def test_garbage_is_left_alone(published: Published, folder: Path) -> None:
    numbers = random.Random(1)
    (folder / "a.wandb").write_bytes(numbers.randbytes(100_000))
    (folder / "b.wandb").write_bytes(b":W&B\xe1\xbe\x00" + numbers.randbytes(100_000))
    (folder / "c.wandb").write_bytes(b"")
    (folder / "events.out.tfevents.1").write_bytes(numbers.randbytes(100_000))
    (folder / "events.out.tfevents.2").write_bytes(scalar(1, "loss", 0.5) + b"\xff" * 50 + scalar(2, "loss", 0.5))
    follower = Follower([folder], since="start")
    for _ in range(3):
        follower.look()
    assert told(published) == ["running", (1, {"loss": 0.5})]


def test_records_of_other_kinds_and_of_later_versions_are_stepped_over(published: Published, folder: Path) -> None:
    file = (
        WandbFile().run("r1").record(b"\xff\xff").record(field(99, "later")).record(field(2, b"\x07")).history(0, a=1)
    )
    for odd in ("true", '"x"', "null", "{broken", '{"_type": "image"}', "[1]", "NaN"):
        file.record(field(2, field(1, field(1, "odd") + field(16, odd)) + field(2, field(1, 1))))
    file.history(2, _timestamp=5, nested={"a": {"b": 1}})
    file.history(-3, a=1)
    (folder / "run-r1.wandb").write_bytes(file.data)
    Follower([folder], since="start").look()
    assert told(published) == ["running", (0, {"a": 1}), (1, {"odd": "NaN"}), (2, {"nested.a.b": 1})]


@pytest.mark.parametrize(("status", "state"), [(0, "finished"), (1, "failed"), (255, "failed")])
def test_how_a_run_ended(published: Published, folder: Path, status: int, state: str) -> None:
    (folder / "run-r1.wandb").write_bytes(WandbFile().run("r1").exit(status).exit(0).data)
    Follower([folder], since="start").look()
    assert told(published) == ["running", state]


def test_alerts_of_a_run(published: Published, folder: Path) -> None:
    file = WandbFile().run("r1").alert("loss\0is NaN", "since\n\x07step 7", "ERROR").alert("", "no title", "WARN")
    (folder / "run-r1.wandb").write_bytes(file.alert("soon", "x" * 5_000, "later").alert("low", "", "warn").data)
    Follower([folder], since="start").look()
    alerts = [event["data"] for event in published.of_type("RUN_ALERT")]
    assert [(one["title"], one["text"], one["level"]) for one in alerts] == [
        ("loss is NaN", "since\n step 7", "ERROR"),
        ("soon", "x" * 4096, "INFO"),
        ("low", "", "WARN"),
    ]
    assert alerts[0]["run"]["id"] == "r1" and alerts[0]["project"] == "digits"
    assert len({event["id"] for event in published}) == 4


def test_alerts_below_a_command_are_of_its_run(published: Published, folder: Path) -> None:
    (folder / "run-r1.wandb").write_bytes(WandbFile().run("r1").alert("a", "b", "WARN").history(1, loss=2).data)
    with hookline.run(project="p", id="mine") as run:
        Follower([folder], since="start", run=run).look()
    (alert,) = published.of_type("RUN_ALERT")
    assert (alert["data"]["run"]["id"], alert["data"]["project"], alert["data"]["title"]) == ("mine", "p", "a")


def test_a_preempted_run(published: Published, folder: Path) -> None:
    (folder / "run-r1.wandb").write_bytes(WandbFile().run("r1").record(field(23, b"")).exit(1).data)
    Follower([folder], since="start").look()
    assert told(published) == ["running", "preempted"]


def test_by_default_what_is_there_already_is_left_out_and_what_comes_is_not(published: Published, folder: Path) -> None:
    file = WandbFile().run("r1", config={"lr": 0.1}).history(0, loss=1)
    path = folder / "run-r1.wandb"
    path.write_bytes(file.data)
    ended = folder.parent / "run-2" / "run-r2.wandb"
    ended.parent.mkdir()
    ended.write_bytes(WandbFile().run("r2").history(0, loss=1).exit(0).data)
    follower = Follower([folder.parent])
    follower.look()
    assert told(published) == ["running"], "it runs; the other one does no more"
    path.write_bytes(file.history(1, loss=0.5).data)
    new = folder.parent / "run-3" / "run-r3.wandb"
    new.parent.mkdir()
    new.write_bytes(WandbFile().run("r3").history(0, loss=3).data)
    follower.look(thoroughly=True)
    assert told(published)[1:] == [(1, {"loss": 0.5}), "running", (0, {"loss": 3})]
    assert published[1]["data"]["run"]["config"] == {"lr": 0.1}


def test_runs_that_crashed_last_week_do_not_come_to_life(published: Published, folder: Path) -> None:
    path = folder / "run-r1.wandb"
    path.write_bytes(WandbFile().run("r1").history(0, loss=1).data)
    os.utime(path, (1, 1))
    Follower([folder]).look()
    assert told(published) == []


def test_a_restart_goes_on_where_it_was_and_knows_the_run(published: Published, folder: Path, tmp_path: Path) -> None:
    places = tmp_path / "places.json"
    file = WandbFile().run("r1", config={"lr": 0.1})
    path = folder / "run-r1.wandb"
    for step in range(5):
        path.write_bytes(file.history(step, loss=step).data)
        follower = Follower([folder], since="start", positions=places)
        follower.look()
        follower.close()
    new = folder.parent / "new" / "run-r2.wandb"
    new.parent.mkdir()
    new.write_bytes(WandbFile().run("r2").history(0, loss=9).data)
    follower = Follower([folder, folder.parent], positions=places)  # it came while nobody looked
    follower.look()
    follower.close()
    known = {event["id"]: event for event in reversed(published)}  # a restart says again that a run lives
    assert len(known) == 8
    assert [step for step in told(published) if step != "running"] == [
        *[(step, {"loss": step}) for step in range(5)],
        (0, {"loss": 9}),
    ]
    assert published[-1]["data"]["run"]["id"] == "r2"
    assert published.of_type("RUN_METRIC")[4]["data"]["run"]["config"] == {"lr": 0.1}


def test_a_follower_that_was_killed_publishes_again_under_the_same_ids(published: Published, folder: Path) -> None:
    (folder / "run-r1.wandb").write_bytes(whole().data)
    for _ in range(2):
        Follower([folder], since="start").look()
    ids = [event["id"] for event in published]
    assert len(ids) == 28 and ids[:14] == ids[14:]


def test_a_file_that_was_replaced_is_read_anew_under_other_ids(published: Published, folder: Path) -> None:
    path = folder / "run-r1.wandb"
    path.write_bytes(whole().data)
    follower = Follower([folder], since="start")
    follower.look()
    path.unlink()
    path.write_bytes(WandbFile().run("r1").history(0, loss=7).data)
    follower.look()
    assert told(published) == [*WHOLE, "running", (0, {"loss": 7})]
    assert len({event["id"] for event in published}) == 16
    path.unlink()
    follower.look()


def test_a_run_that_is_resumed_in_another_file_has_other_ids(published: Published, folder: Path) -> None:
    for number in (1, 2):
        there = folder.parent / f"run-2026112{number}-r1"
        there.mkdir()
        (there / "run-r1.wandb").write_bytes(WandbFile().run("r1").history(number, loss=number).exit(0).data)
    Follower([folder.parent], since="start").look()
    assert len({event["id"] for event in published}) == 6


def test_a_full_spool_is_no_loss(configured: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hookline.background import Background

    monkeypatch.setattr("hookline.follow.follower._CHUNK_EVENTS", 3)
    configured.stop()
    (folder / "run-r1.wandb").write_bytes(whole().data)
    with Background(max_spool_bytes=2_000, max_events=0, on_error=lambda _exc: None) as small:
        follower = Follower([folder], since="start", publisher=small)
        follower.look()
        follower.look()
        configured.start()
        for _ in range(100):
            small.flush(30)
            follower.look()
            if configured.events and configured.events[-1]["data"].get("state") == "finished":
                break
    states = [event["data"].get("step", event["data"].get("state")) for event in configured.events]
    assert list(dict.fromkeys(states)) == ["running", *range(12), "finished"]


def test_tensorboard_s_files_are_runs_by_their_folders(published: Published, tmp_path: Path) -> None:
    for name in ("train", "eval"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        data = tensorboard_record(field(3, "brain.Event:2")) + scalar(0, "loss", 0.5) + scalar(1, "loss", float("nan"))
        (tmp_path / "logs" / name / "events.out.tfevents.1.host").write_bytes(data)
    Follower([tmp_path / "logs"], since="start").look()
    assert told(published) == ["running", (0, {"loss": 0.5}), (1, {"loss": "NaN"})] * 2
    assert [event["data"]["run"]["id"] for event in published] == ["eval"] * 3 + ["train"] * 3
    assert {event["data"]["project"] for event in published} == {"logs"}


@pytest.mark.parametrize("seed", range(5))
def test_event_files_that_grow_by_any_pieces_are_read_the_same(published: Published, tmp_path: Path, seed: int) -> None:
    data = b"".join(scalar(step, "loss", step / 4) for step in range(50))
    numbers = random.Random(seed)
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(b"")
    follower = Follower([tmp_path], since="start", project="p")
    for end in [*sorted(numbers.randrange(len(data)) for _ in range(15)), len(data)]:
        _append(path, data, end)
        follower.look()
    assert told(published) == ["running", *[(step, {"loss": step / 4}) for step in range(50)]]


def test_a_tensor_of_one_number_is_a_scalar_and_a_picture_is_none(published: Published, tmp_path: Path) -> None:
    import struct

    def value(tag: str, plugin: str, tensor: bytes) -> bytes:
        metadata = field(9, field(1, field(1, plugin)))
        return tensorboard_record(field(2, 3) + field(5, field(1, field(1, tag) + metadata + field(8, tensor))))

    vector = field(2, field(2, field(1, 2)))
    data = (
        value("float", "scalars", field(1, 1) + field(4, struct.pack("<f", 0.5)))
        + value("double", "scalars", field(1, 2) + field(4, struct.pack("<d", 0.25)))
        + value("packed", "scalars", field(1, 1) + field(5, struct.pack("<f", 2.5)))
        + value("int", "scalars", field(1, 9) + field(4, struct.pack("<q", -7)))
        + value("image", "images", field(1, 7) + field(8, b"png"))
        + value("vector", "scalars", field(1, 1) + vector + field(4, struct.pack("<ff", 1, 2)))
    )
    (tmp_path / "events.out.tfevents.1").write_bytes(data)
    Follower([tmp_path], since="start", project="p").look()
    assert told(published) == [
        "running",
        (3, {"float": 0.5}),
        (3, {"double": 0.25}),
        (3, {"packed": 2.5}),
        (3, {"int": -7}),
    ]


def test_the_command_looks_once_or_until_it_is_stopped(configured: Any, folder: Path, wait_until: Wait) -> None:
    path = folder / "run-r1.wandb"
    file = WandbFile().run("r1").history(0, loss=1)
    path.write_bytes(file.data)
    command = [sys.executable, "-m", "hookline", "follow", str(folder), "--every", "50ms"]
    done = subprocess.run([*command, "--once"], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "2 events\n"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None and process.stdout.readline() == "following\n"
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert again.returncode == 2 and "another process follows" in again.stderr
    path.write_bytes(file.history(1, loss=2).data)
    wait_until(lambda: len(configured.ids()) == 3, "what was appended")
    process.kill()
    process.communicate()
    path.write_bytes(file.history(2, loss=3).exit(0).data)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    wait_until(lambda: len(configured.ids()) == 5, "the rest")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert [event["data"].get("step") for event in {one["id"]: one for one in configured.events}.values()] == [
        None, 0, 1, 2, None,
    ]  # fmt: skip


def test_places_that_cannot_be_read_are_said(configured: Any, folder: Path, tmp_path: Path) -> None:
    places = tmp_path / "places.json"
    places.write_text("{broken")
    assert main(["follow", str(folder), "--once", "--positions", str(places)]) == 2
    assert main(["follow", str(tmp_path / "nowhere"), "--once"]) == 2
    unusable: list[object] = [{"files": {str(folder / "x.wandb"): {"offset": "x"}}}, {"files": [1]}, [], None]
    for kept in unusable:
        places.write_text(json.dumps(kept))
        assert main(["follow", str(folder), "--once", "--positions", str(places)]) == 0


TRAINING = """
import warnings; warnings.simplefilter("ignore")
import sys, wandb
run = wandb.init(project="digits", name="brave", mode="offline", config={"lr": 0.1})
for step in range(5):
    run.log({"loss": 1 / (step + 1), "val": {"acc": step}, "nan": float("nan"), "text": "x"})
print("logged", flush=True)
sys.stdin.readline()
run.alert("low accuracy", "0.4\\nof 0.9", level="WARN")
run.finish(exit_code=int(sys.argv[1]))
"""


@pytest.mark.parametrize("end", ["finished", "failed", "SIGKILL"])
def test_the_real_wandb_offline(published: Published, tmp_path: Path, wait_until: Wait, end: str) -> None:
    pytest.importorskip("importlib.metadata").version("wandb") if _has_wandb() else pytest.skip(
        "wandb is not installed"
    )
    environment = {**os.environ, "WANDB_SILENT": "true", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    environment["WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL"] = "1"
    follower = Follower([tmp_path / "wandb"], since="start", heartbeat_seconds=1)
    command = [sys.executable, "-c", TRAINING, "0" if end == "finished" else "3"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, cwd=tmp_path
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        while process.stdout.readline() not in (b"logged\n", b""):
            pass

        def look() -> bool:
            follower.look(thoroughly=True)
            return len(published.of_type("RUN_METRIC")) >= 5

        wait_until(look, "metrics while it runs")
        if end == "SIGKILL":
            process.kill()
        else:
            process.communicate(b"\n", timeout=60)
    look()
    states = list(dict.fromkeys(event["data"]["state"] for event in published.of_type("RUN_STATE")))
    assert states == (["running"] if end == "SIGKILL" else ["running", end])
    alerts = [event["data"] for event in published.of_type("RUN_ALERT")]
    assert [(one["title"], one["text"], one["level"]) for one in alerts] == (
        [] if end == "SIGKILL" else [("low accuracy", "0.4\nof 0.9", "WARN")]
    )
    metrics = published.of_type("RUN_METRIC")
    assert [event["data"]["step"] for event in metrics] == list(range(5))
    assert metrics[1]["data"]["metrics"] == {"loss": 0.5, "val.acc": 1, "nan": "NaN"}
    assert metrics[0]["data"]["run"]["config"] == {"lr": 0.1} and metrics[0]["data"]["project"] == "digits"


def _has_wandb() -> bool:
    import importlib.util

    return importlib.util.find_spec("wandb") is not None
