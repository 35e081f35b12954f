"""Metrics as a scraper sees them: their names, labels and help, from one process and added up over several."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from shared.version import __version__
from tests.servers import free_port

ROOT = Path(__file__).parents[3]
PROMTOOL = shutil.which("promtool")
PROMISED = {
    "hookline_events_published_total": {"type"},
    "hookline_events_evaluated_total": {"type"},
    "hookline_evaluation_lag_entries": {"partition"},
    "hookline_evaluation_lag_seconds": {"partition"},
    "hookline_firings_total": {"event_type", "action"},
    "hookline_deliveries_total": {"outcome"},
    "hookline_attempts_total": {"outcome"},
    "hookline_attempt_duration_seconds": set[str](),
    "hookline_event_to_delivery_seconds": set[str](),
    "hookline_deliveries_pending": set[str](),
    "hookline_deliveries_due": set[str](),
    "hookline_deliveries_dead": set[str](),
    "hookline_oldest_due_seconds": set[str](),
    "hookline_webhooks_disabled": set[str](),
    "hookline_webhook_circuit_open": set[str](),
    "hookline_automations_loaded": set[str](),
    "hookline_reload_seconds": set[str](),
    "hookline_build_info": {"version"},
}
ADDED = {
    "hookline_deliveries_dead_recent": set[str](),
    "hookline_poison_entries_recent": set[str](),
    "hookline_attempts_internal_recent": {"minutes"},
    "hookline_oldest_due_prompt_seconds": set[str](),
    "hookline_webhooks_disabled_recent": set[str](),
    "hookline_runs_watched": set[str](),
    "hookline_runs_crashed_total": set[str](),
    "hookline_poison_entries_total": set[str](),
    "hookline_automations_unmatched_total": {"reason"},
    "hookline_samples_ignored_total": set[str](),
    "hookline_firings_skipped_total": {"reason"},
    "hookline_webhook_attempts_total": {"webhook", "outcome"},
    "hookline_deliveries_held": set[str](),
    "hookline_forgotten_rows_total": {"table"},
    "hookline_events_refused_total": {"reason"},
    "hookline_stream_memory_bytes": set[str](),
    "hookline_stream_memory_bound_bytes": set[str](),
    "hookline_evaluation_delay_seconds": set[str](),
    "hookline_attempt_delay_seconds": set[str](),
    "hookline_webhooks_disabled_automatically_total": set[str](),
    "hookline_webhook_circuit_openings_total": set[str](),
    "hookline_secrets_unreadable_total": set[str](),
    "hookline_webhooks_unusable_total": set[str](),
    "hookline_pump_last_sweep_timestamp_seconds": set[str](),
    "hookline_server_answered_timestamp_seconds": {"server"},
    "hookline_workers": {"queue"},
    "hookline_environment_faults": {"fault"},
    "hookline_api_keys_ending": set[str](),
    "hookline_events_over_quota_total": set[str](),
    "hookline_source_requests_total": {"kind", "outcome"},
    "hookline_api_connections": set[str](),
    "hookline_connections_cut_total": {"reason"},
    "hookline_requests_in_flight": set[str](),
    "hookline_request_places": set[str](),
    "hookline_database_connections": set[str](),
    "hookline_database_connections_most": set[str](),
    "hookline_database_wait_seconds": set[str](),
    "hookline_database_seconds": {"statement"},
    "hookline_database_faults_total": {"kind"},
    "hookline_redis_seconds": {"command"},
    "hookline_redis_faults_total": {"kind"},
    "hookline_api_request_seconds": {"route"},
    "hookline_api_requests_total": {"route", "status"},
    "hookline_queue_messages": {"queue"},
    "hookline_load_per_second": {"by", "name"},
}
EVERY_FACT = """
    from shared.observability import exposition as x, metrics as t
    x.announce_build()
    t.count_published({"RUN_STATE": 2, "RUN_METRIC": 3})
    t.SOURCE_REQUESTS.labels(kind="github", outcome="accepted").inc()
    t.count_cut_connection("crowded")
    t.EVENTS_REFUSED.labels(reason="full").inc(4)
    t.KEYS_ENDING.set(1)
    t.STREAM_MEMORY.set(3000)
    t.STREAM_MEMORY_BOUND.set(9000)
    t.count_evaluated({"RUN_STATE": 1}, [0.04])
    t.WEBHOOKS_DISABLED_AUTOMATICALLY.inc()
    t.CIRCUIT_OPENINGS.inc()
    t.SECRETS_UNREADABLE.inc()
    t.WEBHOOKS_UNUSABLE.inc()
    t.PUMP_LAST_SWEEP.set(1e9)
    t.SERVER_ANSWERED.labels(server="redis").set(1e9)
    t.set_environment_faults(["clock"], {"redis_evicts": 1})
    t.count_firings({("RUN_STATE", "webhook"): 1, ("RUN_STATE", "no_op"): 4})
    t.observe_attempts([("2xx", 0.2), ("2xx", 0.4), ("timeout", 15.0)])
    t.observe_attempts([("5xx", 0.1)], delays_seconds=[0.3, 11], webhook="wh_7")
    t.count_finished("delivered", 2)
    t.EVENT_TO_DELIVERY.observe(0.3)
    t.EVALUATION_LAG_ENTRIES.labels(partition="3").set(7)
    t.EVALUATION_LAG_SECONDS.labels(partition="3").set(1.5)
    t.DELIVERIES_PENDING.set(5)
    t.DELIVERIES_DUE.set(4)
    t.DELIVERIES_HELD.set(1)
    t.DELIVERIES_DEAD.set(3)
    t.DELIVERIES_DEAD_RECENT.set(2)
    t.RUNS_WATCHED.set(1)
    t.RUNS_CRASHED.inc()
    t.POISON_RECENT.set(1)
    t.OLDEST_PROMPT.set(2)
    t.ATTEMPTS_INTERNAL_RECENT.labels(minutes="30").set(1)
    t.WEBHOOKS_DISABLED_RECENT.set(1)
    t.FORGOTTEN.labels(table="deliveries").inc(8)
    t.OLDEST_DUE.set(2)
    t.WEBHOOKS_DISABLED.set(1)
    t.WEBHOOK_CIRCUIT_OPEN.set(1)
    t.AUTOMATIONS_LOADED.set(9)
    t.RELOAD_SECONDS.observe(0.01)
    t.POISON_ENTRIES.inc()
    t.AUTOMATIONS_UNMATCHED.labels(reason="too_costly").inc()
    t.SAMPLES_IGNORED.inc()
    t.SKIPPED.labels(reason="cooldown").inc()
    from shared.observability import saturation_metrics as s
    s.DATABASE_CONNECTIONS_MOST.set(40)
    with s.waiting_for_connection(): pass
    s.observe_statement("WITH", 0.0)
    s.observe_command("XADD", 0.0)
    s.write_durations()
    s.observe_answer("/v1/events", 202, 0.01)
    s.set_queue_messages({"deliver": 3})
    s.set_load({("entity", "acme"): 2.5})
"""
PRESENT = """
    from shared.observability import exposition, metrics
    metrics.mark_consuming(["evaluate", "deliver"])
    metrics.set_open_connections(7)
    from shared.observability import saturation_metrics as s
    s.set_requests_in_flight(5, 1000)
    s.DATABASE_CONNECTIONS.inc()
    s.DATABASE_CONNECTIONS_MOST.set(40)
"""
SHOW = """
    import sys
    from shared.observability.exposition import exposition
    body, content_type = exposition()
    sys.stderr.write(content_type)
    sys.stdout.write(body.decode())
"""


def python(code: str, *, shared: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, whose metrics are kept in a shared folder or in itself."""
    environment = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"} | variables
    if shared is not None:
        environment["PROMETHEUS_MULTIPROC_DIR"] = str(shared)
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def families(text: str) -> dict[str, Metric]:
    """Metrics as a scraper names them: counters end in `_total`."""
    found = text_string_to_metric_families(text)
    named = {f"{one.name}_total" if one.type == "counter" else one.name: one for one in found}
    return {name: one for name, one in named.items() if not name.startswith(("python_", "process_"))}


def value(text: str, name: str, /, **labels: str) -> float:
    """One sample's value."""
    (found,) = (
        sample.value
        for one in families(text).values()
        for sample in one.samples
        if sample.name == name and sample.labels == labels
    )
    return float(found)


@pytest.fixture(params=["one process", "shared"])
def every_fact(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What is exposed when each fact was counted, by one process, or by one of several."""
    show = textwrap.dedent(PRESENT) + textwrap.dedent(SHOW)
    if request.param == "one process":
        return python(textwrap.dedent(EVERY_FACT) + show).stdout
    python(EVERY_FACT, shared=tmp_path)
    return python(show, shared=tmp_path).stdout


def test_the_metrics_are_those_that_are_promised_and_those_that_were_added(every_fact: str) -> None:
    found = families(every_fact)
    assert found.keys() == PROMISED.keys() | ADDED.keys()
    for name, labels in (PROMISED | ADDED).items():
        shown = {frozenset(sample.labels) - {"le"} for sample in found[name].samples}
        assert shown == {frozenset(labels)}, name


def test_every_fact_is_counted_where_it_belongs(every_fact: str) -> None:
    assert value(every_fact, "hookline_build_info", version=__version__) == 1
    assert value(every_fact, "hookline_events_published_total", type="RUN_METRIC") == 3
    assert value(every_fact, "hookline_events_evaluated_total", type="RUN_STATE") == 1
    assert value(every_fact, "hookline_firings_total", event_type="RUN_STATE", action="no_op") == 4
    assert value(every_fact, "hookline_attempts_total", outcome="2xx") == 2
    assert value(every_fact, "hookline_attempts_total", outcome="5xx") == 1
    assert value(every_fact, "hookline_webhook_attempts_total", webhook="wh_7", outcome="5xx") == 1
    assert value(every_fact, "hookline_deliveries_total", outcome="delivered") == 2
    assert value(every_fact, "hookline_attempt_duration_seconds_count") == 4
    assert value(every_fact, "hookline_attempt_duration_seconds_sum") == pytest.approx(15.7)
    assert value(every_fact, "hookline_attempt_duration_seconds_bucket", le="0.25") == 2
    assert value(every_fact, "hookline_evaluation_delay_seconds_bucket", le="0.05") == 1
    assert value(every_fact, "hookline_attempt_delay_seconds_bucket", le="10.0") == 1
    assert value(every_fact, "hookline_attempt_delay_seconds_count") == 2
    assert value(every_fact, "hookline_workers", queue="deliver") == 1
    assert value(every_fact, "hookline_api_connections") == 7
    assert value(every_fact, "hookline_connections_cut_total", reason="crowded") == 1
    assert value(every_fact, "hookline_pump_last_sweep_timestamp_seconds") == 1e9
    assert value(every_fact, "hookline_evaluation_lag_entries", partition="3") == 7
    assert value(every_fact, "hookline_deliveries_pending") == 5
    assert value(every_fact, "hookline_requests_in_flight") == 5
    assert value(every_fact, "hookline_database_connections") == 1
    assert value(every_fact, "hookline_database_seconds_count", statement="WITH") == 1
    assert value(every_fact, "hookline_api_requests_total", route="/v1/events", status="2xx") == 1
    assert value(every_fact, "hookline_load_per_second", by="entity", name="acme") == 2.5


def test_each_metric_says_what_it_is() -> None:
    found = families(python("".join(map(textwrap.dedent, (EVERY_FACT, PRESENT, SHOW)))).stdout)
    texts = [one.documentation for one in found.values()]
    assert all(text.endswith(".") and len(text) > 20 for text in texts), texts
    assert len(set(texts)) == len(texts)


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)")
def test_promtool_finds_nothing_to_say(every_fact: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=every_fact, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_content_type_is_the_one_scrapers_ask_for() -> None:
    assert python(SHOW).stderr.startswith("text/plain; version=")


def test_several_processes_add_up_also_those_that_have_ended(tmp_path: Path) -> None:
    for pending in (5, 8):
        python(
            f"""
            from shared.observability import exposition as x, metrics as t
            x.announce_build()
            t.count_published({{"RUN_STATE": 10}})
            t.observe_attempts([("2xx", 0.2), ("timeout", 15.0)])
            t.DELIVERIES_PENDING.set({pending})
            t.AUTOMATIONS_LOADED.set({pending})
            """,
            shared=tmp_path,
        )
    text = python(SHOW, shared=tmp_path).stdout
    assert value(text, "hookline_events_published_total", type="RUN_STATE") == 20
    assert value(text, "hookline_attempts_total", outcome="timeout") == 2
    assert value(text, "hookline_attempt_duration_seconds_count") == 4
    assert value(text, "hookline_attempt_duration_seconds_bucket", le="+Inf") == 4
    assert value(text, "hookline_build_info", version=__version__) == 1
    # What a process found out last replaces what another found before.
    assert value(text, "hookline_deliveries_pending") == 8
    assert value(text, "hookline_automations_loaded") == 8


def test_a_gauge_that_nobody_set_is_not_shown_as_0(tmp_path: Path) -> None:
    for shared in (None, tmp_path):
        shown = {name: one for name, one in families(python(SHOW, shared=shared).stdout).items() if one.samples}
        assert "hookline_deliveries_pending" not in shown
        assert "hookline_pump_last_sweep_timestamp_seconds" not in shown
        # An increase from nothing would be none, so counters begin at 0.
        assert {sample.labels["outcome"] for sample in shown["hookline_deliveries_total"].samples} == {
            "delivered",
            "dead",
            "refused",
        }


def test_what_alerts_take_the_increase_of_begins_at_0_in_every_process(tmp_path: Path) -> None:
    """The first count of a series that begins with it would be no increase, and its alert would miss it."""
    folder = ROOT / "deploy" / "prometheus"
    rules = "".join((folder / name).read_text() for name in ("rules.yml", "alerts.yml"))
    asked = set(re.findall(r"(?:increase|rate)\((hookline_\w+)(?:\{(\w+)=\"([^\"]+)\"\})?\[", rules))
    assert len(asked) >= 6
    for shared in (None, tmp_path):
        shown = families(python(SHOW, shared=shared).stdout).values()
        samples = [sample for one in shown for sample in one.samples]
        for name, label, text in asked:
            of = [one for one in samples if one.name == name and (not label or one.labels.get(label) == text)]
            assert of, f"{name} is not there before it is counted"
            assert {one.value for one in of} == {0}


def test_workers_are_those_that_run(tmp_path: Path) -> None:
    """Also when others were killed before they could say so."""
    consume = 'from shared.observability import metrics; metrics.mark_consuming(["evaluate"]); {}'
    dying = subprocess.run(
        [sys.executable, "-c", consume.format("import os; os.kill(os.getpid(), 9)")],
        cwd=ROOT,
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
    )
    assert dying.returncode == -9
    assert "hookline_workers" not in families(python(SHOW, shared=tmp_path).stdout)
    living = python(consume.format("") + "\n" + textwrap.dedent(SHOW), shared=tmp_path).stdout
    assert value(living, "hookline_workers", queue="evaluate") == 1


def test_a_worker_serves_what_all_its_processes_counted_and_cleans_up() -> None:
    port = free_port()
    done = python(
        """
        import os, sys, urllib.request
        from worker.process.metrics_directory import use_metrics_directory
        use_metrics_directory()
        from shared.observability import exposition, metrics
        from shared.settings import load_settings
        metrics.count_finished("delivered", 2)
        child = os.fork()
        if child == 0:
            metrics.count_finished("delivered", 3)
            os._exit(0)
        os.waitpid(child, 0)
        exposition.serve(load_settings())
        port = os.environ["HOOKLINE_METRICS_PORT"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            sys.stdout.write(answer.read().decode())
        sys.stderr.write(os.environ["PROMETHEUS_MULTIPROC_DIR"])
        """,
        HOOKLINE_METRICS_PORT=str(port),
        HOOKLINE_METRICS_HOST="127.0.0.1",
    )
    assert value(done.stdout, "hookline_deliveries_total", outcome="delivered") == 5
    assert value(done.stdout, "hookline_build_info", version=__version__) == 1
    folder = Path(done.stderr)
    assert folder.name.startswith("hookline-metrics-")
    assert not folder.exists()


def test_a_folder_that_the_operator_named_is_used_and_left(tmp_path: Path) -> None:
    python(
        """
        from worker.process.metrics_directory import use_metrics_directory
        use_metrics_directory()
        from shared.observability import exposition, metrics
        metrics.count_finished("dead", 2)
        """,
        shared=tmp_path,
    )
    assert value(python(SHOW, shared=tmp_path).stdout, "hookline_deliveries_total", outcome="dead") == 2


def test_without_a_port_nothing_is_served() -> None:
    done = python(
        """
        import sys, threading
        from worker.process.metrics_directory import use_metrics_directory
        use_metrics_directory()
        from shared.observability import exposition, metrics
        from shared.settings import load_settings
        exposition.serve(load_settings())
        sys.stdout.write(str(threading.active_count()))
        """
    )
    assert done.stdout == "1"
