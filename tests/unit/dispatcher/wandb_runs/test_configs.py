"""What is kept of configs and summaries."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dispatcher.wandb_runs.configs import (
    MAX_KEPT_BYTES,
    client_config,
    is_of_old_client,
    read_config,
    read_summary,
)
from shared.domain.errors import InvalidDefinition


def sent(config: dict[str, Any]) -> str:
    """A config in the client's form."""
    own = {"_wandb": {"value": {"cli_version": "0.31.0", "t": {}}}}
    return json.dumps({key: {"value": value} for key, value in config.items()} | own)


def test_a_config_is_read_and_sent_back() -> None:
    config = {"lr": 0.1, "net": {"depth": 3}, "name": None, "layers": [1, {"a": 2}]}
    assert read_config(sent(config)) == config
    assert json.loads(client_config(config)) == {key: {"value": value} for key, value in config.items()}


def test_secrets_are_left_out() -> None:
    config = {"api_key": "s", "db": {"password": "s", "host": "h"}, "list": [{"hf.token": "s"}], "tokens": 5}
    assert read_config(sent(config)) == {"db": {"host": "h"}, "list": [{}], "tokens": 5}
    assert read_summary(json.dumps({"secret": 1, "acc": 2, "_step": 4, "_wandb": {}})) == {"acc": 2, "_step": 4}


@pytest.mark.parametrize("value", ["x" * 9, True, None, {"a": [1]}, "NaN", 2**64])
def test_the_own_members_of_a_summary_are_numbers(value: object) -> None:
    summary = {"acc": 1, "_step": 4, "_runtime": value}
    assert read_summary(json.dumps(summary)) == {"acc": 1, "_step": 4}


def test_the_largest_members_are_left_out() -> None:
    config = {"small": 1, "large": "x" * MAX_KEPT_BYTES, "middle": "y" * (MAX_KEPT_BYTES // 2)}
    assert read_config(sent(config)) == {"small": 1, "middle": "y" * (MAX_KEPT_BYTES // 2)}


def test_what_is_deep_is_cut_off() -> None:
    deep: Any = 1
    for _ in range(900):
        deep = {"a": deep} if _ % 2 else [deep]
    kept = read_config(sent({"deep": deep, "lr": 1}))
    assert kept["lr"] == 1
    assert len(json.dumps(kept)) < 400


@pytest.mark.parametrize("text", ["", "[]", "nope", "{", "[" * 3000])
def test_what_is_no_config(text: str) -> None:
    with pytest.raises(InvalidDefinition, match="config: must be a JSON object"):
        read_config(text)
    assert read_summary(text) is None


@pytest.mark.parametrize(
    ("version", "is_old"), [("0.19.11", True), ("0.9.1", True), ("0.20.1", False), ("1.0.0", False), (7, False)]
)
def test_old_clients(version: object, is_old: bool) -> None:
    assert is_of_old_client(json.dumps({"_wandb": {"value": {"cli_version": version}}})) is is_old


def test_no_old_client() -> None:
    assert not any(map(is_of_old_client, [None, "", "[]", "{}", '{"_wandb": 1}', '{"_wandb": {"value": []}}']))
