"""A process without file descriptors still answers scrapes, with counts that go on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from shared.observability import multiprocess
from shared.observability.descriptor_reserve import Reserve
from shared.observability.process_metrics import HELP, ProcessMetrics, count_open
from tests.integration.processes import wait_until
from tests.servers import free_port

SERVER = """
    import os, sys
    from resource import RLIMIT_NOFILE, setrlimit
    from shared.observability import exposition as x, metrics as t
    from shared.settings import load_settings

    child = "PROMETHEUS_MULTIPROC_DIR" in os.environ and os.fork()
    if child == 0:
        t.count_finished("delivered", 3)  # what ended processes have counted counts, too
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            os._exit(0)
    elif child:
        os.waitpid(child, 0)
    else:
        t.count_finished("delivered", 3)
    t.mark_consuming(["deliver"])
    x.serve(load_settings(metrics_port=int(sys.argv[1])))
    print(">", "serving", flush=True)
    taken = []
    for line in sys.stdin:
        if line == "exhaust\\n":
            taken = []
            setrlimit(RLIMIT_NOFILE, (200, 200))
            try:
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            except OSError as exc:
                print(">", exc.strerror, flush=True)
        elif line == "count\\n":
            t.count_finished("delivered", 1)
            t.mark_consuming([])
            print(">", "counted", flush=True)
        else:
            for one in taken:
                os.close(one)
            print(">", "released", flush=True)
"""


class Exhaustible:
    """A process that serves its metrics and does what it is told."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self._process = process
        self._url = f"http://127.0.0.1:{port}/metrics"

    def told(self, word: str) -> str:
        """What it says to a word."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()
        return next(line[2:].strip() for line in self._process.stdout if line.startswith("> "))  # others are its log

    def serves(self) -> bool:
        """Waits until it has its port; False where somebody else was given that first."""
        assert self._process.stdout is not None
        return any(line.startswith("> serving") for line in self._process.stdout)

    def scraped(self) -> dict[str, float]:
        """Its samples by name, those with labels added up."""
        answer = httpx.get(self._url, trust_env=False, timeout=30)
        assert answer.status_code == 200
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.scraped())
        except httpx.TransportError:
            return False


@contextmanager
def serving(shared: Path | None) -> Iterator[Exhaustible]:
    """Such a process, in a folder that it shares with others or not."""
    variables = {} if shared is None else {"PROMETHEUS_MULTIPROC_DIR": str(shared)}
    for _ in range(5):
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SERVER), str(port)],
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        server = Exhaustible(process, port)
        if server.serves():
            break
        process.wait()
    with process:
        try:
            wait_until(server.is_up, "metrics")
            yield server
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="process metrics are read from /proc")
@pytest.mark.parametrize("is_shared", [False, True], ids=["alone", "shared"])
def test_scrapes_are_answered_without_descriptors(tmp_path: Path, *, is_shared: bool) -> None:
    with serving(tmp_path if is_shared else None) as server:
        before = server.scraped()
        assert before.keys() >= HELP.keys()
        assert before["process_open_fds"] < 100
        assert before["hookline_deliveries_total"] == 3
        assert server.told("exhaust") == "Too many open files"
        for count in range(1, 21):  # more scrapes than there are descriptors in reserve
            assert server.told("count") == "counted"
            found = server.scraped()
            assert found["hookline_deliveries_total"] == 3 + count
            assert found["hookline_workers"] == 0
            assert found["process_max_fds"] == 200
            assert found["process_open_fds"] > 190
        assert server.told("release") == "released"
        wait_until(lambda: server.scraped().keys() >= HELP.keys(), "a whole answer")
        after = server.scraped()
        assert after["hookline_deliveries_total"] == 23
        assert after["process_open_fds"] < 100
        assert after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]


@pytest.mark.skipif(sys.platform != "linux", reason="process metrics are read from /proc")
def test_processes_that_share_a_folder_are_added_up() -> None:
    script = "print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()  # an interpreter that still starts needs descriptors
        registry = CollectorRegistry()
        registry.register(ProcessMetrics(lambda: [other.pid, os.getpid(), 2**22 + 1]))
        alone = CollectorRegistry()
        alone.register(ProcessMetrics())
        own, both = (one.get_sample_value("process_virtual_memory_bytes") for one in (alone, registry))
        assert own is not None
        assert both is not None
        assert both > own + (1 << 20)
        # Of two, the one nearer to its limit is shown.
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.prlimit(other.pid, resource.RLIMIT_NOFILE, (3, hard))
        assert registry.get_sample_value("process_max_fds") == 3
        assert alone.get_sample_value("process_max_fds") == soft
        other.communicate(b"\n")


def test_descriptors_are_counted_without_opening_one() -> None:
    before = count_open(10_000)
    reserve = Reserve(5)
    assert count_open(10_000) == before + 5
    assert [reserve.let_go() for _ in range(6)] == [True] * 5 + [False]
    assert count_open(10_000) == before
    assert reserve.fill()
    while reserve.let_go():
        pass


def test_a_first_answer_without_descriptors_is_what_this_process_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = CollectorRegistry()
    Counter("exhausted", "A count.", registry=registry).inc(7)
    monkeypatch.setattr(multiprocess, "REGISTRY", registry)
    collector = multiprocess.SharedCollector(tmp_path / "none")

    def exhausted() -> list[object]:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(collector, "_read", exhausted)
    (metric,) = collector.collect()
    assert [sample.value for sample in metric.samples if sample.name == "exhausted_total"] == [7]
