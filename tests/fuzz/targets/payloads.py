"""Payload templates: what is sent has the template's structure, with each value inside its own string and nowhere else.

The expectation is a plain left-to-right substitution over the decoded payload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.payloads.sealed import ACCESS_TOKEN, SecretUnavailable, mask_payload, open_payload, sealed_secrets
from shared.domain.payloads.slack_messages import Severity, parse_slack_message
from shared.domain.payloads.templates import METADATA_PREFIX, VARIABLES, PayloadTooLarge, default_payload, parse_payload
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

# As docs and contract describe it: `$$`, `$NAME` by its longest name, `${anything}`.
_PLACE = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[^}]*\})")


def check(data: bytes) -> None:
    """`{"payload": {…}, "values": {name: text}, "secrets": {NAME: value}}`."""
    members = members_of(data)
    payload, values = members.get("payload"), _texts(members.get("values"))
    secrets = {name: value for name, value in _texts(members.get("secrets")).items() if name.isidentifier()}
    _check_default(values)
    _check_slack(payload, values)
    granted, has_token = [name for name in secrets if name != ACCESS_TOKEN], ACCESS_TOKEN in secrets
    with in_time(data):
        try:
            template = parse_payload(payload, secrets=granted, has_access_token=has_token)
            sealed = template.render(values)
        except InvalidDefinition as refusal:
            check_refusal(refusal, _as_sent(payload))
            return
        except PayloadTooLarge:
            return
    assert sealed_secrets(sealed) == template.secrets <= secrets.keys()
    shown = {name: f"***{name}***" for name in secrets}
    assert _pairs(open_payload(sealed, secrets).decode()) == _filled(payload, values, secrets)
    assert _pairs(mask_payload(sealed)) == _filled(payload, values, shown)
    for name in template.secrets:
        _check_missing(sealed, {other: value for other, value in secrets.items() if other != name}, name)


def _texts(raw: object) -> dict[str, str]:
    """Texts as a value may be: what comes out of the database or an event has no lone surrogates in its names."""
    members = raw if isinstance(raw, dict) else {}
    return {_unicode(name): value for name, value in members.items() if isinstance(value, str)}


def _unicode(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _as_sent(value: Any) -> Any:
    """The payload as a refusal names its places: member names are Unicode there."""
    if isinstance(value, dict):
        return {_unicode(key): _as_sent(member) for key, member in value.items()}
    return [_as_sent(member) for member in value] if isinstance(value, list) else value


def _check_default(values: Mapping[str, str]) -> None:
    sealed = default_payload(values)
    assert json.loads(open_payload(sealed, {})) == {
        name: _unicode(values[name]) for name in VARIABLES if values.get(name)
    }
    assert not sealed_secrets(sealed)


def _check_slack(payload: object, values: Mapping[str, str]) -> None:
    """A Slack message is valid JSON whatever it is made of, and holds no mark-up but the author's own."""
    texts = payload if isinstance(payload, dict) else {}
    title, message = texts.get("title"), texts.get("message")
    try:
        slack = parse_slack_message(name="n", title=title, message=message, severity=Severity.WARN)
        sealed = slack.render(values)
    except (InvalidDefinition, PayloadTooLarge):
        return
    body = json.loads(open_payload(sealed, {}))
    assert not sealed_secrets(sealed)
    own = f"{title or ''}{message or ''}"
    if "<" not in own:
        assert "<" not in _joined(body), "a value made mark-up of its own"


def _joined(value: Any) -> str:
    if isinstance(value, dict):
        return "".join(map(_joined, value.values()))
    return "".join(map(_joined, value)) if isinstance(value, list) else str(value)


def _check_missing(sealed: str, secrets: Mapping[str, str], name: str) -> None:
    try:
        open_payload(sealed, secrets)
    except SecretUnavailable as missing:
        assert missing.name == name
    else:
        raise AssertionError(f"{name} is missing, and nobody noticed")


def _pairs(text: str) -> Any:
    """The value of JSON text, members as lists of pairs: two that render alike stay two."""
    return json.loads(text, object_pairs_hook=lambda pairs: ("object", [list(pair) for pair in pairs]))


def _filled(value: Any, values: Mapping[str, str], secrets: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _PLACE.sub(_insertion(values, secrets), _unicode(value))
    if isinstance(value, dict):
        return (
            "object",
            [[_filled(key, values, secrets), _filled(member, values, secrets)] for key, member in value.items()],
        )
    return [_filled(member, values, secrets) for member in value] if isinstance(value, list) else value


def _insertion(values: Mapping[str, str], secrets: Mapping[str, str]) -> Callable[[re.Match[str]], str]:
    def insert(match: re.Match[str]) -> str:
        name = match[1].removeprefix("{").removesuffix("}")
        if name == "$":
            return "$"
        if name in VARIABLES or name.startswith(METADATA_PREFIX):
            return _unicode(values.get(name, ""))
        return _unicode(secrets[name])

    return insert


WORDS = (
    *(
        "payload",
        "values",
        "secrets",
        "title",
        "message",
        "${alias}",
        "$tag",
        "${artifact_metadata.k}",
        "$$",
        "${",
        "$",
    ),
    *("${TOKEN}", "$ACCESS_TOKEN", "TOKEN", "ACCESS_TOKEN", "alias", "tag", "artifact_metadata.k", "***TOKEN***"),
    *('",\n  "', '"', "\\", "\\u0022", "<!channel>", "&lt;", "&", "$${TOKEN}", "$$$TOKEN", "${run_id}"),
)
_values = st.sampled_from(WORDS) | st.text(alphabet='ab"\\$<{}\n\u2028é', max_size=8)
_strings = st.lists(_values, max_size=4).map("".join)
_payloads = st.dictionaries(
    _strings | st.sampled_from(["title", "message"]),
    st.recursive(
        json_values | _strings,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_strings, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
_inputs = st.fixed_dictionaries(
    {
        "payload": _payloads,
        "values": st.dictionaries(st.sampled_from(["alias", "tag", "run_id", "artifact_metadata.k"]), _strings),
        "secrets": st.dictionaries(st.sampled_from(["TOKEN", "ACCESS_TOKEN", "alias"]), _strings),
    }
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
