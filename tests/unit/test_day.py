"""The day's own arithmetic: rules that go faster, and which harm an alert belongs to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.day import rules
from tests.day.__main__ import is_wrong
from tests.day.hurts import HURTS
from tests.day.quiet import HOUR_SECONDS, asked_for, hour, notation
from tests.day.watch import Episode, Harm, Row, false_alerts, owner, rows_of
from tests.unit.test_alerts import ALERTS, NEEDS_PROMTOOL, PROMTOOL

HARM = Harm("no worker", ("Missing", "Grows"), frozenset({"Down"}), began=100, healed=200, later_seconds=10)


def _original() -> dict[str, list[dict[str, object]]]:
    return yaml.safe_load((rules.FOLDER / "alerts.yml").read_text())  # type: ignore[no-any-return]


def test_rules_as_in_life_are_the_repositorys() -> None:
    made = rules.faster(_original(), 1)
    expected = [rule["expr"] for group in _original()["groups"] for rule in group["rules"]]  # type: ignore[attr-defined]
    for found, rule in zip(
        (rule["expr"] for group in made["groups"] for rule in group["rules"]), expected, strict=True
    ):
        assert _in_seconds(found) == _in_seconds(rule)


def _in_seconds(expression: str) -> str:
    return rules.WINDOW.sub(lambda found: f"[{rules.seconds(found.group(1) + found.group(2))}s]", expression)


def test_faster_rules_shorten_windows_waiting_times_and_ages() -> None:
    made = {rule["alert"]: rule for group in rules.faster(_original(), 30)["groups"] for rule in group["rules"]}
    assert made["HooklineCircuitOpen"]["for"] == "30s"
    assert "[30s]" in made["HooklineWebhookUnusable"]["expr"]
    assert made["HooklineDeliveriesOverdue"]["expr"] == "max(hookline_oldest_due_seconds) > 30"
    assert made["HooklineEvaluationBacklogGrows"]["expr"] == "hookline:evaluation_lag_seconds:max > 15"
    assert "> 15 or absent" in " ".join(made["HooklineDispatcherMissing"]["expr"].split())


@NEEDS_PROMTOOL
@pytest.mark.parametrize("factor", [4, 30, 100])
def test_promtool_takes_faster_rules(tmp_path: Path, factor: float) -> None:
    assert PROMTOOL is not None
    files = rules.write_rules(tmp_path, factor)
    done = subprocess.run([PROMTOOL, "check", "rules", *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_raised_by_a_hurt() -> None:
    raised = {alert for group in HURTS for one in group for alert in (*one.must, *one.after)}
    assert raised == ALERTS.keys()


def test_an_alert_belongs_to_the_harm_in_which_it_began() -> None:
    episodes = [
        Episode("Missing", (), 130, 205),
        Episode("Grows", (), 205, None),
        Episode("Down", (), 140, 150),
        Episode("Missing", (), 220, 230),
        Episode("Other", (), 150, 160),
    ]
    assert [one.alert for one in false_alerts([HARM], episodes)] == ["Missing", "Other"]
    assert rows_of(HARM, [HARM], episodes) == [
        Row("no worker", "Missing", 30, 5, ended_early=False),
        Row("no worker", "Grows", 105, None, ended_early=False),
    ]


def test_an_alert_that_ends_while_the_harm_lasts_is_wrong() -> None:
    (missing, grows) = rows_of(HARM, [HARM], [Episode("Missing", (), 130, 150)])
    assert missing.ended_early and is_wrong(missing)
    assert grows == Row("no worker", "Grows", None, None, ended_early=False) and is_wrong(grows)


def test_an_alert_that_comes_back_before_the_end_of_the_harm_is_right() -> None:
    missing, _ = rows_of(HARM, [HARM], [Episode("Missing", (), 130, 150), Episode("Missing", (), 160, 210)])
    assert missing == Row("no worker", "Missing", 30, 10, ended_early=False) and not is_wrong(missing)


def test_an_alert_of_two_harms_is_of_the_one_that_must_raise_it_and_of_the_last() -> None:
    later = Harm("a hang", ("Missing",), frozenset({"Grows"}), began=205, healed=300)
    episodes = [Episode("Missing", (), 208, 310), Episode("Grows", (), 209, 220)]
    assert [owner(one, [HARM, later]) for one in episodes] == [later, HARM]


def test_a_recorded_counter_goes_on_and_a_gauge_begins_anew() -> None:
    wanted = HOUR_SECONDS // rules.SCRAPE_SECONDS + 1
    counted, shown = hour([5, 6, 7], counter=True), hour([5, 6, 4], counter=False)
    assert len(counted) == len(shown) == wanted
    assert counted[:7] == [5, 6, 7, 8, 9, 10, 11]
    assert shown[:7] == [5, 6, 4, 5, 6, 4, 5]


def test_equal_values_are_written_together() -> None:
    assert notation([0, 0, 0, 1.5, 2, 2]) == "0x2 1.5 2x1"


def test_what_the_rules_ask_for_is_recorded() -> None:
    asked = asked_for()
    assert {"up", "process_open_fds", "hookline_workers", "hookline_evaluation_delay_seconds_bucket"} <= asked
    assert not any(name.startswith("hookline:") for name in asked)
