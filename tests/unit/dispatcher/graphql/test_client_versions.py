"""Which version asks, by its User-Agent."""

from __future__ import annotations

import pytest

from dispatcher.graphql.client_versions import NEWEST, ClientVersion, client_version, reads
from shared.domain.filters.wandb import WandbEventType


@pytest.mark.parametrize(
    ("user_agent", "version"),
    [
        ("W&B Public Client 0.31.0", (0, 31, 0)),
        ("W&B Public Client 0.19.11", (0, 19, 11)),
        ("W&B Public Client 0.32.0rc1", (0, 32, 0)),
        ("W&B Public Client 1.0", (1, 0, 0)),
        ("W&B Public Client 0.28.3.dev1", (0, 28, 3)),
        ("W&B Public Client", NEWEST),
        ("W&B Internal Client 0.24.2", NEWEST),
        ("python-httpx/0.28", NEWEST),
        ("W&B Public Client 99999.1.1", NEWEST),
        ("", NEWEST),
    ],
)
def test_versions(user_agent: str, version: ClientVersion) -> None:
    assert client_version(user_agent) == version


def test_event_types() -> None:
    assert {each for each in WandbEventType if reads((0, 19, 11), each)} == {
        WandbEventType.CREATE_ARTIFACT,
        WandbEventType.LINK_MODEL,
        WandbEventType.ADD_ARTIFACT_ALIAS,
        WandbEventType.RUN_METRIC,
        WandbEventType.RUN_METRIC_CHANGE,
    }
    assert not reads((0, 23, 0), WandbEventType.RUN_STATE)
    assert reads((0, 23, 1), WandbEventType.RUN_STATE)
    for version in ((0, 27, 1), (0, 31, 0), NEWEST):
        assert all(reads(version, each) for each in WandbEventType)
