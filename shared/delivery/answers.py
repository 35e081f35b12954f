"""The part of an endpoint's answer that may be stored and shown: its beginning, without the secrets that it was sent.

Members choose payloads and read answers, and are not trusted with secrets: an endpoint that repeats its input must not
confirm a guess. So only values that this request carried are masked, and only whole ones; where a value could be
guessed or could be cut in two, nothing of the answer is shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from shared.domain.delivery.exchange import SHOWN_HEADER_BYTES, Exchange
from shared.domain.delivery.outcomes import Outcome
from shared.domain.payloads.masking import LONGEST_CUT_SECRET_BYTES, Mask, shown
from shared.domain.payloads.sealed import sealed_secrets
from shared.domain.payloads.unescaping import TooManyEscapes

MIN_SECRET_CHARS = 8
"""A value of fewer characters can be guessed: one answer holds hundreds of guesses, and the right one is masked."""


def mask_outcome(outcome: Outcome, sent: Mapping[str, str]) -> Outcome:
    """The outcome as it may be stored: its answer and error without the values of `sent`, by name.

    `sent` holds the secrets that the request carried, and no others.
    """
    if (
        not outcome.response_body
        and not outcome.error
        and (outcome.exchange is None or not outcome.exchange.answer_headers)
    ):
        return outcome
    values = {name: value for name, value in sent.items() if value}
    mask = Mask(values)
    masked = masked_text(outcome.response_body, values, mask, cut=outcome.response_truncated)
    body = shown(masked)
    error = outcome.error and mask(outcome.error)
    exchange = outcome.exchange and _masked_exchange(outcome.exchange, values, mask)
    if body == outcome.response_body and error == outcome.error and exchange is outcome.exchange:
        return outcome  # most answers: whoever gets the same object copies nothing either
    truncated = outcome.response_truncated or len(body) < len(masked)
    return replace(outcome, response_body=body, response_truncated=truncated, error=error, exchange=exchange)


def _masked_exchange(exchange: Exchange, values: Mapping[str, str], mask: Mask) -> Exchange:
    if not exchange.answer_headers:
        return exchange
    masked = masked_text(exchange.answer_headers, values, mask, cut=exchange.headers_truncated)
    headers = shown(masked, SHOWN_HEADER_BYTES)
    if headers == exchange.answer_headers:
        return exchange
    truncated = exchange.headers_truncated or len(headers) < len(masked)
    return exchange._replace(answer_headers=headers, headers_truncated=truncated)


def masked_text(text: str, values: Mapping[str, str], mask: Mask, *, cut: bool) -> str:
    """A text that somebody else wrote without these values, by name; a sentence where nothing of it may be shown.

    `cut`: the text goes on where it ends.
    """
    if not text:
        return text
    short = sorted(name for name, value in values.items() if len(value) < MIN_SECRET_CHARS)
    if short:
        return f"(not shown: {short[0]} has fewer than {MIN_SECRET_CHARS} characters and could be guessed)"
    if cut and any(len(value.encode("utf-8", "surrogatepass")) > LONGEST_CUT_SECRET_BYTES for value in values.values()):
        return "(not shown: the answer was not read whole, and could end within a long secret)"
    try:
        return mask(text, cut=cut)
    except TooManyEscapes:
        return "(not shown: it has too many escapes in one another to be searched for secrets)"


def sent_secrets(payload: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """The secrets that a sealed payload takes into its request, by name."""
    return {name: secrets[name] for name in sealed_secrets(payload) if name in secrets} if "$" in payload else {}
