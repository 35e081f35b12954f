"""The folder that processes share for their metrics: it stays small, and no count is lost or doubled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import orjson
import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from shared.observability.multiprocess import merge_ended, shared_registry
from tests.integration.observability.test_metrics import ROOT, SHOW, python, value

COUNT = """
    from shared.observability import exposition as x, metrics as t
    t.count_finished("delivered", 3)
    t.observe_attempts([("2xx", 0.2), ("timeout", 15.0)])
    t.DELIVERIES_PENDING.set({number})
    t.mark_consuming(["deliver"])
"""
ROUNDS = """
    import os, sys
    from shared.observability import exposition as x, metrics as t
    for number in range(1, 6):
        child = os.fork()
        if child == 0:
            t.count_finished("delivered", 3)
            t.observe_attempts([("2xx", 0.2), ("timeout", 15.0)])
            t.DELIVERIES_PENDING.set(number)
            t.mark_consuming(["deliver"])
            os._exit(0)
        os.waitpid(child, 0)
        sys.stdout.write(x.exposition()[0].decode() + "# END\\n")
"""
TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACED = f"""
    import os, sys
    from shared.observability import exposition as x, metrics as t
    if child := "PROMETHEUS_MULTIPROC_DIR" in os.environ and os.fork():
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    else:
        t.observe_attempts([("2xx", 0.2), ("timeout", 150.0)])
        t.ATTEMPT_DURATION.add_exemplars([(0.2, "{TRACE}"), (150.0, "{"f" * 32}")])
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            os._exit(0)
    body, content_type = x.exposition("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text; version=1.0.0"), content_type
    sys.stdout.write(body.decode())
    sys.stderr.write(x.exposition()[0].decode())
"""


def test_processes_that_end_leave_no_files_behind(tmp_path: Path) -> None:
    text = python(ROUNDS, shared=tmp_path).stdout
    rounds = text.split("# END\n")[:-1]
    assert len(rounds) == 5
    for number, shown in enumerate(rounds, 1):
        assert value(shown, "hookline_deliveries_total", outcome="delivered") == 3 * number
        assert value(shown, "hookline_attempts_total", outcome="timeout") == number
        assert value(shown, "hookline_attempt_duration_seconds_bucket", le="0.25") == number
        assert value(shown, "hookline_attempt_duration_seconds_count") == 2 * number
        assert value(shown, "hookline_attempt_duration_seconds_sum") == pytest.approx(15.2 * number)
        assert value(shown, "hookline_deliveries_pending") == number
    merge_ended(tmp_path)
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"counter_merged.db", "histogram_merged.db", "gauge_mostrecent_merged.db", "scrape.lock"}


def test_a_merge_that_broke_off_is_carried_out_by_the_next(tmp_path: Path) -> None:
    """Killed after its plan was written: one source is gone, and the sum has not taken its place."""
    for _ in range(2):
        python(COUNT.format(number=1), shared=tmp_path)
    gone, left = sorted(tmp_path.glob("counter_*.db"))
    new = MmapedDict(str(tmp_path / "counter_merged.new"))  # type: ignore[no-untyped-call]
    for key, total in _values(gone, left).items():
        new.write_value(key, total, 0.0)  # type: ignore[no-untyped-call]
    new.close()  # type: ignore[no-untyped-call]
    (tmp_path / "counter_merged.plan").write_bytes(orjson.dumps([gone.name, left.name]))
    gone.unlink()
    merge_ended(tmp_path)
    text = python(SHOW, shared=tmp_path).stdout
    assert value(text, "hookline_deliveries_total", outcome="delivered") == 6
    assert not list(tmp_path.glob("*.plan")) and not list(tmp_path.glob("*.new"))


def test_a_sum_without_a_plan_is_made_anew(tmp_path: Path) -> None:
    """Killed while it was written: the sources are all there."""
    python(COUNT.format(number=1), shared=tmp_path)
    (tmp_path / "counter_merged.new").write_bytes(b"half of a fi")
    assert value(python(SHOW, shared=tmp_path).stdout, "hookline_deliveries_total", outcome="delivered") == 3


def test_files_of_living_processes_are_left_alone(tmp_path: Path) -> None:
    code = textwrap.dedent(COUNT.format(number=1)) + "\nprint(flush=True)\nimport time\ntime.sleep(60)"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        stdout=subprocess.PIPE,
    ) as living:
        assert living.stdout is not None
        living.stdout.readline()
        before = {file.name for file in tmp_path.iterdir()}
        merge_ended(tmp_path)
        assert {file.name for file in tmp_path.iterdir()} == before
        living.kill()


def test_what_a_killed_worker_shared_is_removed_by_the_next(tmp_path: Path) -> None:
    waiting = "import time; print(flush=True); time.sleep(60)"
    share = "from worker.process.metrics_directory import use_metrics_directory; use_metrics_directory(); {}"
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    environment["TMPDIR"] = str(tmp_path)

    def start(then: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", share.format(then)]
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)

    with (
        start(waiting) as killed,
        start(waiting) as living,
    ):
        for process in (killed, living):
            assert process.stdout is not None
            process.stdout.readline()
        assert len(list(tmp_path.iterdir())) == 2
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with start("import os; print(os.environ['PROMETHEUS_MULTIPROC_DIR'])") as following:
            assert following.wait(30) == 0
        assert len(list(tmp_path.iterdir())) == 1
        living.kill()


@pytest.mark.parametrize("shared", [False, True], ids=["one process", "shared"])
def test_exemplars_lead_from_buckets_to_traces(tmp_path: Path, shared: bool) -> None:
    """For those who ask for OpenMetrics; the text format has none."""
    done = python(TRACED, shared=tmp_path if shared else None)
    assert TRACE not in done.stderr and "hookline_attempt_duration_seconds_bucket" in done.stderr
    families = {one.name: one for one in text_string_to_metric_families(done.stdout)}  # type: ignore[no-untyped-call]
    family = families["hookline_attempt_duration_seconds"]
    found = {sample.labels["le"]: sample.exemplar for sample in family.samples if sample.exemplar}
    assert {le: one.labels for le, one in found.items()} == {
        "0.25": {"trace_id": TRACE},
        "+Inf": {"trace_id": "f" * 32},
    }
    assert {le: one.value for le, one in found.items()} == {"0.25": 0.2, "+Inf": 150.0}


def test_a_folder_without_files_shows_nothing(tmp_path: Path) -> None:
    shown = {metric.name for metric in shared_registry(tmp_path).collect()}
    assert {name for name in shown if not name.startswith("process_")} == set()


def _values(*files: Path) -> dict[str, float]:
    sums: dict[str, float] = {}
    for file in files:
        for key, counted, _, _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            sums[key] = sums.get(key, 0.0) + counted
    return sums


def test_a_child_forked_during_a_scrape_does_not_stop_the_next(tmp_path: Path) -> None:
    python(
        """
        import os, signal, time
        from pathlib import Path
        from shared.observability.multiprocess import _exclusive
        folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        with _exclusive(folder):
            if not (child := os.fork()):
                time.sleep(60)
                os._exit(0)
        signal.alarm(10)
        with _exclusive(folder):
            os.kill(child, signal.SIGKILL)
        """,
        shared=tmp_path,
    )


def test_values_are_shared_also_where_a_command_beside_celery_s_came_first(tmp_path: Path) -> None:
    """Flower imports prometheus_client before Celery imports the application."""
    code = (
        "import os, pathlib, prometheus_client; from worker.process.metrics_directory import use_metrics_directory;"
        "use_metrics_directory();"
        "prometheus_client.Counter('late', 'A counter.').inc();"
        "print(*pathlib.Path(os.environ['PROMETHEUS_MULTIPROC_DIR']).glob('counter_*.db'))"
    )
    own = {**os.environ, "TMPDIR": str(tmp_path)}
    own.pop("PROMETHEUS_MULTIPROC_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=own, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip().endswith(".db")
