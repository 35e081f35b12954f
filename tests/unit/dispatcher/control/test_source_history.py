"""What is kept of a source's request: also where a secret stands in what is cut off, no part of it is kept."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dispatcher.api.source_cache import KnownSource
from dispatcher.control.source_history import MAX_HEADER_CHARS, MAX_REASON_CHARS, kept_request
from shared.domain.sources.model import PROOFS, SourceKind
from shared.storage.definitions.source_requests import SourceRequest
from tests.unit.domain.sources.requests import SECRET, request, source


def kept(agent: str, reason: str) -> SourceRequest:
    return kept_request(
        request(b"{}", {"user-agent": agent}),
        PROOFS[SourceKind.GITHUB],
        {"HOOK": SECRET},
        outcome="failed",
        reason=reason,
        events=(),
        sender="127.0.0.1",
        now=datetime.now(UTC),
    )


@pytest.mark.parametrize("shown", range(1, len(SECRET)))
@pytest.mark.parametrize("letter", ["x", "\u20ac"])
def test_no_part_of_a_secret_is_kept_where_a_text_is_cut(shown: int, letter: str) -> None:
    one = kept(
        letter * (MAX_HEADER_CHARS - shown) + SECRET + letter * 40_000,
        letter * (MAX_REASON_CHARS - shown) + SECRET + letter,
    )
    assert one.reason is not None
    for text, most in ((one.headers["user-agent"], MAX_HEADER_CHARS), (one.reason, MAX_REASON_CHARS)):
        assert SECRET[:shown] not in text.removeprefix(letter * (most - shown))
        assert text.startswith(letter * (most - shown))
        assert len(text) <= most


def test_a_source_shows_no_secret() -> None:
    assert SECRET not in repr(KnownSource(1, source("github"), {"HOOK": SECRET}, enabled=True))
