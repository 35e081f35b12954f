"""`hookline.run`: states, steps, heartbeats, and that no value, signal or outage hurts the training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hookline
from hookline import background
from hookline.testing import Published, recorded

Wait = Callable[..., None]


@pytest.fixture
def published() -> Iterator[Published]:
    with recorded() as published:
        yield published


@pytest.fixture(autouse=True)
def _none_is_shared() -> Iterator[None]:
    background.forget_shared()
    yield
    background.forget_shared()


def states(published: Published) -> list[str]:
    return [event["data"]["state"] for event in published.of_type("RUN_STATE")]


def steps(published: Published) -> list[tuple[int, dict[str, Any]]]:
    return [(event["data"]["step"], event["data"]["metrics"]) for event in published.of_type("RUN_METRIC")]


def test_a_run_runs_logs_and_finishes(published: Published) -> None:
    with hookline.run("digits", "first", config={"lr": 0.1}, group="a") as run:
        run.log({"loss": 0.5})
        run.log({"loss": 0.4}, step=10)
        run.log({"loss": 0.3})
    assert states(published) == ["running", "finished"]
    assert steps(published) == [(0, {"loss": 0.5}), (10, {"loss": 0.4}), (11, {"loss": 0.3})]
    expected = {"id": run.id, "name": "first", "config": {"lr": 0.1}, "group": "a"}
    assert all(event["data"]["run"] == expected for event in published)
    assert published[0]["data"]["heartbeat_seconds"] == 120
    assert run.state == "finished"


@pytest.mark.parametrize(
    ("exc", "state"),
    [
        (ValueError("x"), "failed"),
        (KeyboardInterrupt(), "killed"),
        (SystemExit(0), "finished"),
        (SystemExit(None), "finished"),
        (SystemExit(3), "failed"),
        (SystemExit("no data"), "failed"),
    ],
)
def test_how_a_run_ends(published: Published, exc: BaseException, state: str) -> None:
    with pytest.raises(type(exc)), hookline.run(project="m"):
        raise exc
    assert states(published) == ["running", state]


def test_only_the_first_end_counts_and_nothing_is_logged_after_it(published: Published) -> None:
    with hookline.run(project="m") as run:
        run.finish("preempted")
        run.log({"loss": 1})
        run.finish()
    assert states(published) == ["running", "preempted"]
    assert steps(published) == []


def test_values_that_are_no_numbers_do_not_end_a_training(published: Published) -> None:
    with hookline.run(project="m") as run:
        run.log({"loss": float("nan"), "text": "x", "image": object(), "nested": {"a": {"b": 1}}, "big": 10**400})
        run.log({})
        run.log({"only": "text"})
        run.log(7)  # type: ignore[arg-type]
        run.log({"loss": 1}, step="x")  # type: ignore[arg-type]
        run.log({"loss": 1}, step=-1)
        run.log({"loss": 2}, step=50)
    assert steps(published) == [(0, {"loss": "NaN", "nested.a.b": 1, "big": "Infinity"}), (50, {"loss": 2})]
    assert states(published) == ["running", "finished"]


def test_an_alert_is_published_and_never_raises(published: Published) -> None:
    with hookline.run(project="m", name="brave-fox") as run:
        run.alert("Low\naccuracy", "0.4\nof 0.9\x00", "WARN")
        run.alert("x" * 600, "y" * 5000)
        run.alert("t", level="grave")  # type: ignore[arg-type]
        run.alert("")
        run.alert(7, None)  # type: ignore[arg-type]
        run.alert("half \ud800", "\udfff")  # no JSON has it, so that it would refuse a whole batch
    run.alert("after the end")
    told = [one["data"] for one in published.of_type("RUN_ALERT")]
    assert [(one["title"], one["text"], one["level"]) for one in told] == [
        ("Low accuracy", "0.4\nof 0.9 ", "WARN"),
        ("x" * 512, "y" * 4096, "INFO"),
        ("7", "None", "INFO"),
        ("half ?", "?", "INFO"),
    ]
    assert told[0]["run"]["name"] == "brave-fox"
    assert states(published) == ["running", "finished"]


def test_many_metrics_become_several_events_of_the_step(published: Published) -> None:
    with hookline.run(project="m") as run:
        run.log({f"m{number}": number for number in range(2500)})
        run.log({"ß" * 500 + str(number): number for number in range(900)})
    logged = steps(published)
    assert [step for step, _ in logged][:3] == [0, 0, 0] and {step for step, _ in logged} == {0, 1}
    assert sum(len(metrics) for step, metrics in logged if step == 0) == 2500
    assert sum(len(metrics) for step, metrics in logged if step == 1) == 900
    assert all(len(metrics) <= 1000 for _, metrics in logged)


def test_without_hookline_a_run_does_nothing() -> None:
    with hookline.run(project="m", config={"a": 1}) as run:
        run.log({"loss": 1})
    assert run.id and run.config == {"a": 1}


def test_what_cannot_be_meant_is_said_at_once(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(hookline.InvalidConfiguration, match="project"):
        hookline.run()
    monkeypatch.delenv("HOOKLINE_ENTITY")
    with pytest.raises(hookline.InvalidConfiguration, match="HOOKLINE_ENTITY"):
        hookline.run(project="m")
    monkeypatch.delenv("HOOKLINE_API_KEY")
    with pytest.raises(hookline.InvalidConfiguration, match="HOOKLINE_API_KEY"):
        hookline.run(project="m", entity="acme")


def test_other_ranks_are_silent(published: Published, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with hookline.run(project="m") as run:
        run.log({"loss": 1})
    assert list(published) == []


def test_a_silent_run_beats_with_the_same_event_and_stops_at_its_end(
    published: Published, wait_until: Wait, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hookline.runs._BEATS", 20)
    with hookline.run(project="m", heartbeat_seconds=1) as run:
        wait_until(lambda: len(published) >= 4, "beats")
        beats = published.of_type("RUN_STATE")
        assert {event["id"] for event in beats} == {published[0]["id"]}
        assert {event["data"]["state"] for event in beats} == {"running"}
        assert published[0]["data"]["heartbeat_seconds"] == 1
        run.finish()
        assert run._stopping.is_set()
        assert states(published)[-1] == "finished"
    count = len(published)
    wait_until(
        lambda: not any(t.name == "hookline-beat" for t in __import__("threading").enumerate()), "end of the beats"
    )
    assert len(published) == count


def test_a_run_without_heartbeat_has_none(published: Published) -> None:
    with hookline.run(project="m", heartbeat_seconds=None):
        pass
    assert "heartbeat_seconds" not in published[0]["data"]


def test_the_configuration_can_grow(published: Published) -> None:
    with hookline.run(project="m", config={"a": 1}) as run:
        run.update_config({"b": 2})
        run.log({"loss": 1})
    assert published[1]["data"]["run"]["config"] == {"a": 1, "b": 2}


def test_a_forked_child_does_not_speak_for_the_run(configured: Any) -> None:
    with hookline.run(project="m") as run:
        child = os.fork()
        if child == 0:
            run.log({"loss": 666})
            run.finish("failed")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        run.log({"loss": 1})
    assert [event["data"].get("metrics", event["data"].get("state")) for event in configured.events] == [
        "running",
        {"loss": 1},
        "finished",
    ]


PROGRAMS = {
    "finished": ("run.log({'loss': 1})", 0),
    "failed": ("raise ValueError('no data')", 1),
    "failed by status": ("sys.exit(4)", 4),
    "killed": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(600)", 128 + signal.SIGTERM),
    "killed by Ctrl-C": ("os.kill(os.getpid(), signal.SIGINT); time.sleep(600)", -signal.SIGINT),
    "a child that inherits the handler": (
        "alive, said = os.pipe()\n    child = os.fork()\n"
        "    if child == 0:\n        os.write(said, b'!')\n        time.sleep(600)\n"
        "    os.read(alive, 1); os.kill(child, signal.SIGTERM); assert os.waitpid(child, 0)[1] == signal.SIGTERM",
        0,
    ),
}


@pytest.mark.parametrize("form", ["with", "finish"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_how_a_program_ends_is_the_run_s_state(configured: Any, name: str, form: str) -> None:
    body, status = PROGRAMS[name]
    head = "with hookline.run(project='m') as run:" if form == "with" else "run = hookline.run(project='m')\nif True:"
    # A shell that runs tests in the background has Ctrl-C ignored.
    begin = "import os, signal, sys, time, warnings, hookline\nsignal.signal(signal.SIGINT, signal.default_int_handler)"
    program = f"{begin}\nwarnings.simplefilter('ignore')\n{head}\n    {body}\n"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == status, done.stderr
    expected = "finished" if name.startswith("a child") else name.partition(" by")[0]
    if (name, form) == ("failed by status", "finish"):
        expected = "finished"  # sys.exit leaves no trace outside of a `with`: use one
    found = [event["data"]["state"] for event in configured.events if event["type"] == "RUN_STATE"]
    assert found == ["running", expected]


def test_kill_9_leaves_a_run_that_only_its_heartbeat_ends(configured: Any) -> None:
    program = (
        "import hookline, os\nwith hookline.run(project='m') as run:\n run.log({'loss': 1})\n os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    subprocess.run(
        [sys.executable, "-m", "hookline", "spool", "send"], check=True, timeout=60, stdout=subprocess.DEVNULL
    )
    assert [event["type"] for event in configured.events] == ["RUN_STATE", "RUN_METRIC"]


def test_importing_needs_nothing_and_reads_nothing() -> None:
    """No dependency, and none of the heavy modules that a training might not have."""
    program = textwrap.dedent("""
        import sys
        import hookline, hookline.testing
        known = {"hookline", "typing_extensions"} | set(sys.stdlib_module_names)
        strange = {name.partition(".")[0] for name in sys.modules} - known
        print(sorted(one for one in strange if not one.startswith("_") and "editable" not in one))
    """)
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout == "[]\n"
