"""The verdict of `make demo-mlflow`: it finds what is missing, doubled, wrong or unexpected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import yaml

from examples.mlflow_demo import EXPECTED, HERE, differences, endpoints, manifest_text
from examples.receiver import Received

Records = list[Received]


def arrived(name: str, *, faults: tuple[str, ...] = (), **members: Any) -> Received:
    body = {"automation": name, **EXPECTED.get(name, {}), **members}
    return Received(f"msg-{name}", "/path", 1, b"", body, faults, 200)


def all_of_them() -> Records:
    return [arrived(name) for name in EXPECTED]


def test_what_is_expected_has_no_differences() -> None:
    assert differences(all_of_them()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda records: records[1:], "accuracy-reached: arrived 0 times, not once"),
        (
            lambda records: [*records, Received("other", "/path", 1, b"", records[0].body, (), 200)],
            "accuracy-reached: arrived 2 times, not once",
        ),
        (
            lambda records: [arrived("accuracy-reached", run="another"), *records[1:]],
            "accuracy-reached: run is 'another', not 'sgd-0.05'",
        ),
        (lambda records: [*records, arrived("never-a-challenger")], "never-a-challenger: must not fire"),
        (
            lambda records: [arrived("accuracy-reached", faults=("webhook-signature: wrong",)), *records[1:]],
            "/path: webhook-signature: wrong",
        ),
    ],
)
def test_each_difference_is_found(change: Callable[[Records], Records], said: str) -> None:
    assert said in differences(change(all_of_them()))


def test_the_manifest_has_what_is_expected_and_one_that_stays_silent() -> None:
    manifest = yaml.safe_load((HERE / "mlflow_automations.yaml").read_text())
    names = [automation["name"] for automation in manifest["automations"]]
    assert set(names) - set(EXPECTED) == {"never-a-challenger"} and set(EXPECTED) < set(names)
    assert [one.path for one in endpoints(manifest, {})] == ["/deploy", "/team"]
    assert "http://127.0.0.1:7/team" in manifest_text(manifest, 7)
