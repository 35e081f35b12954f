"""The background publisher: nothing kept is lost, nothing is doubled, nothing reaches the training.

Programs that are killed run as processes of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hookline
from hookline import events
from hookline.background import Background
from hookline.errors import Refused, Unreachable

Wait = Callable[..., None]


def metric(number: int) -> events.Event:
    return events.run_metrics(project="m", run="r", step=number, metrics={"loss": 0.5}, id=f"e{number}")


def ids(count: int, first: int = 0) -> list[str]:
    return [f"e{number}" for number in range(first, first + count)]


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(program), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_what_is_kept_arrives_in_order(configured: Any) -> None:
    with Background() as background:
        assert all(background.publish(metric(number)) for number in range(3000))
        assert background.flush(30)
    assert configured.ids() == ids(3000)


def test_an_outage_holds_nobody_up_and_loses_nothing(configured: Any, wait_until: Wait) -> None:
    told: list[Exception] = []
    background = Background(on_error=told.append)
    configured.stop()
    assert all(background.publish(metric(number)) for number in range(500))
    wait_until(lambda: told, "word of the outage")
    assert len(told) == 1 and isinstance(told[0], Unreachable)
    configured.start()
    assert all(background.publish(metric(number)) for number in range(500, 600))
    wait_until(lambda: not background.has_unsent, "end")
    background.close()
    assert configured.ids() == ids(600)


def test_a_short_outage_does_not_double(configured: Any) -> None:
    """An answer that is lost makes a repeat: with the ids of before."""
    configured.script = [(500, {}, {}), (502, {}, {}), (503, {"Retry-After": "0"}, {})]
    with Background() as background:
        background.publish([metric(number) for number in range(10)])
        assert background.flush(60)
    assert configured.ids() == ids(10)
    assert max(Counter(event["id"] for event in configured.events).values()) == 1


def test_refused_events_are_told_and_do_not_hold_up_the_others(configured: Any) -> None:
    told: list[Exception] = []
    configured.refuses = lambda event: "is odd" if event["data"]["step"] % 2 else None
    with Background(on_error=told.append) as background:
        background.publish([metric(number) for number in range(4)])
        assert background.flush(30)
    assert configured.ids() == ["e0", "e2"]
    (refused,) = told
    assert isinstance(refused, Refused) and len(refused.refusals) == 2


def test_a_refused_key_keeps_events_for_one_that_is_taken(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Exception] = []
    configured.script = [(401, {}, {"detail": "unknown key"})]
    background = Background(on_error=told.append)
    background.publish(metric(1))
    assert background.flush(30), "the same key was taken later"
    assert "unknown key" in str(told[0])
    background.close()
    assert configured.ids() == ["e1"]


def test_publish_never_raises(configured: Any) -> None:
    told: list[Exception] = []

    def on_error(exc: Exception) -> None:
        told.append(exc)
        raise RuntimeError("a handler of the user's")

    with Background(on_error=on_error) as background:
        for wrong in (b"no json", {"a": object()}, 7, None, [metric(1), b"x"]):
            assert background.publish(wrong) is False  # type: ignore[arg-type]
        assert background.publish(metric(2))
        background.flush(30)
    assert len(told) == 5
    assert configured.ids() == ["e2"]


def test_without_a_spool_the_queue_is_bounded(configured: Any) -> None:
    told: list[Exception] = []
    configured.stop()
    background = Background(spool=None, max_events=10, on_error=told.append)
    assert [background.publish(metric(number)) for number in range(12)] == [True] * 10 + [False] * 2
    assert background.dropped == 2
    configured.start()
    background.flush(60)
    background.close()
    assert configured.ids() == ids(10)
    assert any("no room" in str(one) for one in told)


def test_a_bounded_spool_has_room_for_states_when_metrics_fill_it(configured: Any, tmp_path: Path) -> None:
    configured.stop()
    background = Background(spool=tmp_path / "small", max_spool_bytes=20_000, max_events=0, on_error=lambda _exc: None)
    kept = [background.publish(metric(number)) for number in range(100)]
    assert kept.count(True) < 100 and kept == sorted(kept, reverse=True)
    assert background.publish(events.run_state(project="m", run="r", state="finished", id="end"))
    configured.start()
    assert background.flush(60)
    background.close()
    assert configured.ids() == [*ids(kept.count(True)), "end"]


def test_a_spool_that_cannot_be_made_leaves_the_memory(configured: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told: list[Exception] = []
    with Background(spool=tmp_path / "file" / "spool", on_error=told.append) as background:
        assert background.publish(metric(1))
        assert background.flush(30)
    assert configured.ids() == ["e1"]
    assert "spool can't be written" in str(told[0])


def test_a_long_training_does_not_fill_the_disk(
    configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookline.background._ROTATE_BYTES", 5_000)
    with Background(every_seconds=0.001) as background:
        for number in range(2000):
            background.publish(metric(number))
        assert background.flush(60)
        assert sum(path.stat().st_size for path in tmp_path.rglob("*.events")) < 10_000
    assert configured.ids() == ids(2000)
    assert list(tmp_path.rglob("*.events")) == []


def test_after_close_it_can_begin_again(configured: Any) -> None:
    background = Background()
    for number in range(5):
        assert background.publish(metric(number))
        background.close()
    assert configured.ids() == ids(5)


TRAINING = """
    import sys, time
    from hookline import events
    from hookline.background import Background
    first, count = int(sys.argv[1]), int(sys.argv[2])
    background = Background(on_error=lambda exc: None)
    for number in range(first, first + count):
        one = events.run_metrics(project="m", run="r", step=number, metrics={"loss": 0.5}, id=f"e{number}")
        if background.publish(one):
            print(number, flush=True)
    if "wait" in sys.argv:
        time.sleep(600)
"""


def accepted(process: subprocess.Popen[str], count: int) -> list[str]:
    """The ids that a training said were kept, after which it is killed."""
    assert process.stdout is not None
    said = [f"e{process.stdout.readline().strip()}" for _ in range(count)]
    process.kill()
    with process:
        return said + [f"e{line.strip()}" for line in process.stdout if line.endswith("\n")]


@pytest.mark.parametrize("is_away", [True, False], ids=["away", "there"])
def test_kill_9_of_a_training_loses_nothing_that_was_kept(configured: Any, is_away: bool, wait_until: Wait) -> None:
    """The next training on the machine sends what the killed one left; nothing has two ids."""
    if is_away:
        configured.stop()
    kept = accepted(start(TRAINING, 0, 100_000), 2_000)
    assert len(kept) >= 2_000
    if is_away:
        configured.start()
    process = start(TRAINING, 200_000, 10)
    assert process.communicate(timeout=120)[0].count("\n") == 10 and process.returncode == 0
    wait_until(lambda: len(configured.ids()) >= len(kept) + 10, "all events")
    found = configured.ids()
    # The last event before the kill may have been kept without having been said to be.
    assert found[: len(kept)] == kept and len(found) - len(kept) - 10 in (0, 1)
    if is_away:
        assert max(Counter(event["id"] for event in configured.events).values()) == 1


def test_a_training_that_ends_while_hookline_is_away_leaves_its_events(configured: Any) -> None:
    configured.stop()
    process = start(TRAINING.replace("Background(", "Background(exit_seconds=0.2, "), 0, 20)
    process.communicate(timeout=120)
    assert process.returncode == 0
    configured.start()
    done = subprocess.run(
        [sys.executable, "-m", "hookline", "spool", "list"], capture_output=True, text=True, check=True
    )
    assert "bytes are not sent" in done.stdout
    done = subprocess.run(
        [sys.executable, "-m", "hookline", "spool", "send"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "20 events were sent\n"
    assert configured.ids() == ids(20)


def test_a_former_key_s_events_are_sent_when_asked_for(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    key = os.environ["HOOKLINE_API_KEY"]
    monkeypatch.setenv("HOOKLINE_API_KEY", "hlk-former-key-0123")
    background = Background(exit_seconds=0, on_error=lambda _exc: None)
    background.publish(metric(1))
    background.close()
    monkeypatch.setenv("HOOKLINE_API_KEY", key)
    from hookline.cli import main

    assert main(["spool", "send"]) == 0
    assert configured.ids() == []
    assert main(["spool", "send", "--any-key"]) == 0
    assert configured.ids() == ["e1"]


def test_a_full_disk_while_hookline_is_away_loses_nothing_that_was_kept(configured: Any) -> None:
    configured.stop()
    program = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        + textwrap.dedent(TRAINING).replace("exc: None", "exc: print('!', exc, file=sys.stderr)")
        + "\nsys.stdin.readline()\nassert background.flush(60)\n"
    )
    command = [sys.executable, "-c", program, "0", "1000"]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    assert process.stdout is not None
    kept = [f"e{process.stdout.readline().strip()}" for _ in range(1000)]
    configured.start()
    _, said = process.communicate("\n", timeout=120)
    assert process.returncode == 0, said
    assert "spool can't be written" in said
    assert configured.ids() == kept


def test_a_forked_child_sends_nothing_of_its_parent_s_and_can_publish_itself(configured: Any, wait_until: Wait) -> None:
    configured.stop()
    background = Background(on_error=lambda _exc: None)
    background.publish([metric(number) for number in range(50)])
    child = os.fork()
    if child == 0:
        status = 1
        try:
            assert not background.has_unsent
            assert background.publish(metric(1000))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    configured.start()
    assert background.flush(60)
    background.close()
    with Background() as other:  # one of the two finds what the child left
        other.publish(metric(2000))
        wait_until(lambda: "e1000" in configured.ids(), "the child's event")
        assert other.flush(60)
    assert [one for one in configured.ids() if len(one) < 4] == ids(50)
    assert max(Counter(event["id"] for event in configured.events).values()) == 1


def test_forks_in_the_middle_of_publishing_hang_nobody(configured: Any) -> None:
    """As data loaders fork; locks that other threads hold at that moment must not stay locked in the child."""
    with Background() as background:
        for number in range(30):
            background.publish(metric(number))
            child = os.fork()
            if child == 0:
                background.publish(metric(100_000 + number))
                os._exit(0)
            until = time.monotonic() + 60
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                assert time.monotonic() < until, "the child hangs"
                time.sleep(0.005)
        assert background.flush(60)
    assert [one for one in configured.ids() if len(one) < 6] == ids(30)


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK"])
def test_only_rank_zero_publishes(configured: Any, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "3")
    with Background() as background:
        assert background.publish(metric(1)) is False
    monkeypatch.setenv(variable, "0")
    with Background() as background:
        assert background.publish(metric(2)) is True
    assert configured.ids() == ["e2"]


def test_publishing_is_cheap_while_hookline_is_away(configured: Any) -> None:
    """Not measured in seconds: as many events as a training logs in days go through within the test's time."""
    configured.stop()
    background = Background(on_error=lambda _exc: None)
    event = metric(1)
    for _ in range(50_000):
        background.publish(event)
    background.close(0)


def test_recorded_records_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    with hookline.testing.recorded() as published:
        hookline.Client().publish(metric(1))
        with hookline.run(project="m", name="first") as run:
            run.log({"loss": 1})
        assert [event["type"] for event in published] == ["RUN_METRIC", "RUN_STATE", "RUN_METRIC", "RUN_STATE"]
        published.clear()
        published.refuse("RUN_METRIC")
        with pytest.raises(Refused):
            hookline.Client().publish(metric(2))
        assert len(published) == 0
    with pytest.raises(hookline.InvalidConfiguration):
        hookline.Client()
