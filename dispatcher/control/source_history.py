"""What is kept of a source's request: masked, bounded, and nothing of what strangers sent but that they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from shared.delivery.answers import masked_text
from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.values import MAX_NAME_LENGTH
from shared.domain.payloads.masking import CUT_BYTES, SHOWN_BYTES, Mask, shown
from shared.domain.sources.model import HmacProof, InboundRequest, Proof
from shared.storage.definitions.source_requests import SourceRequest

MAX_KEPT_EVENTS: Final = 20
MAX_HEADER_CHARS: Final = 200
MAX_REASON_CHARS: Final = 1000
_TOLD_HEADERS: Final = (
    "content-type",
    "user-agent",
    "x-github-event",
    "x-github-delivery",
    "x-gitlab-event",
    "x-gitlab-instance",
    "aeg-event-type",
    "aeg-subscription-name",
)


def kept_request(
    request: InboundRequest,
    proof: Proof,
    secrets: Mapping[str, str],
    *,
    outcome: str,
    reason: str | None,
    events: Sequence[AnyEvent],
    sender: str,
    now: datetime,
) -> SourceRequest:
    """What is kept of a request; `secrets` are the source's own values, by name, which are masked wherever they are."""
    mask = Mask(secrets)
    names = [*_TOLD_HEADERS]
    if isinstance(proof, HmacProof):
        names += [name for name in (proof.id_header, proof.timestamp_header) if name is not None]

    def told(text: str, max_chars: int) -> str:
        read = text[: max_chars + CUT_BYTES]
        return _storable(masked_text(read, secrets, mask, cut=len(read) < len(text))[:max_chars])

    return SourceRequest(
        outcome=outcome,
        reason=None if reason is None else told(reason, MAX_REASON_CHARS),
        events=[
            {"type": str.__str__(event.type), "id": told(event.id, MAX_NAME_LENGTH)}
            for event in events[:MAX_KEPT_EVENTS]
        ]
        or None,
        sender=sender[:64],
        headers={name: told(request.headers[name], MAX_HEADER_CHARS) for name in names if name in request.headers},
        body_bytes=len(request.body),
        body=None if outcome == "refused" else _storable(_beginning(request.body, secrets, mask)),
        created_at=now,
    )


def _beginning(body: bytes, secrets: Mapping[str, str], mask: Mask) -> str:
    read = body[: SHOWN_BYTES + CUT_BYTES]
    return shown(masked_text(read.decode("utf-8", "replace"), secrets, mask, cut=len(read) < len(body)))


def _storable(text: str) -> str:
    """The text without what PostgreSQL does not take."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
