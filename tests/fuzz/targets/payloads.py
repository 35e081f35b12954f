"""Payload templates: what is sent has the template's structure, with each value inside its own string and nowhere else.

The expectation is a plain left-to-right substitution over the decoded payload.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st

from shared.domain.errors import InvalidDefinition
from shared.domain.json_text import write_json
from shared.domain.payloads.content_types import FORM, JSON, PLAIN, PayloadTypes
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.names import ADDED, VARIABLES, is_variable
from shared.domain.payloads.sealed import ACCESS_TOKEN, SecretUnavailable, mask_payload, open_payload, sealed_secrets
from shared.domain.payloads.slack_messages import Severity, parse_slack_message
from shared.domain.payloads.templates import JsonText, PayloadTooLarge, default_payload
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, json_values
from tests.fuzz.target import Target

# As docs and contract describe it: `$$`, `$NAME` by its longest name, `${anything}`.
_PLACE = re.compile(r"\$(\$|[A-Za-z_][A-Za-z0-9_]*|\{[^}]*\})")


def check(data: bytes) -> None:
    """The members `payload`, `values` ({name: text, or {"json": value}}), `secrets`, `types` and `content_type`."""
    members = members_of(data)
    if members.get("content_type") in (FORM, PLAIN):
        _check_other(data, members, str(members["content_type"]))
        return
    payload, values = members.get("payload"), _values_of(members.get("values"))
    secrets = _secrets_of(members)
    typed = members.get("types") == "json"
    _check_default(values)
    _check_slack(payload, values)
    granted, has_token = [name for name in secrets if name != ACCESS_TOKEN], ACCESS_TOKEN in secrets
    with in_time(data):
        try:
            types = PayloadTypes.JSON if typed else PayloadTypes.TEXT
            template = parse_payload(payload, secrets=granted, has_access_token=has_token, types=types)
            sealed = template.render(values)
        except InvalidDefinition as refusal:
            check_refusal(refusal, _as_sent(payload))
            return
        except PayloadTooLarge:
            return
    assert sealed_secrets(sealed) == template.secrets <= secrets.keys()
    shown = {name: f"***{name}***" for name in secrets}
    assert _pairs(open_payload(sealed, secrets).decode()) == _filled(payload, values, secrets, typed)
    assert _pairs(mask_payload(sealed)) == _filled(payload, values, shown, typed)
    for name in template.secrets:
        _check_missing(sealed, {other: value for other, value in secrets.items() if other != name}, name)


def _check_other(data: bytes, members: Mapping[str, Any], content_type: str) -> None:
    """A form has the fields of its definition, and plain text its lines, whatever values and secrets are."""
    payload, values, secrets = members.get("payload"), _values_of(members.get("values")), _secrets_of(members)
    granted, has_token = [name for name in secrets if name != ACCESS_TOKEN], ACCESS_TOKEN in secrets
    with in_time(data):
        try:
            template = parse_payload(
                payload, secrets=granted, has_access_token=has_token, content_type=content_type, types=PayloadTypes.JSON
            )
            sealed = template.render(values)
        except InvalidDefinition as refusal:
            check_refusal(refusal, _as_sent(payload))
            return
        except PayloadTooLarge:
            return
    assert sealed_secrets(sealed) == template.secrets <= secrets.keys()
    body = open_payload(sealed, secrets).decode()
    if content_type == FORM:
        assert isinstance(payload, dict)
        fields = sum(len(value) if isinstance(value, list) else 1 for value in payload.values())
        assert body.count("&") == max(fields - 1, 0)
        assert body.count("=") == fields
        assert body.isascii()
    elif isinstance(payload, str) and not template.secrets:
        assert len((body + ".").splitlines()) == len((_PLACE.sub("", _unicode(payload)) + ".").splitlines())


def _secrets_of(members: Mapping[str, Any]) -> dict[str, str]:
    return {name: value for name, value in _texts(members.get("secrets")).items() if name.isidentifier()}


def _values_of(raw: object) -> dict[str, str]:
    """Texts, and JSON text of what is none."""
    members = raw if isinstance(raw, dict) else {}
    others = {}
    for name, value in members.items():
        if isinstance(value, dict) and isinstance(value.get("json"), bool | int | list):
            with suppress(TypeError):  # what no event can hold
                others[_unicode(name)] = JsonText(write_json(value["json"]).decode())
    return _texts(raw) | others


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
        name: _unicode(values[name]) for name in VARIABLES if values.get(name) and name not in ADDED
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


def _filled(value: Any, values: Mapping[str, str], secrets: Mapping[str, str], typed: bool) -> Any:
    if isinstance(value, str):
        return _filled_text(value, values, secrets, typed)
    if isinstance(value, dict):
        members = [
            [_PLACE.sub(_insertion(values, secrets, in_key=True), _unicode(key)), _filled(one, values, secrets, typed)]
            for key, one in value.items()
        ]
        return ("object", members)
    return [_filled(member, values, secrets, typed) for member in value] if isinstance(value, list) else value


def _filled_text(text: str, values: Mapping[str, str], secrets: Mapping[str, str], typed: bool) -> Any:
    whole = _PLACE.fullmatch(_unicode(text))
    if typed and whole and whole[1] != "$":
        name, default = _named(whole)
        if is_variable(name) and not (name in secrets and name in ADDED):
            value = values.get(name) or (values.get(name) if default is None else default)
            return _pairs(value) if isinstance(value, JsonText) else None if value is None else _unicode(value)
    return _PLACE.sub(_insertion(values, secrets, in_key=False), _unicode(text))


def _named(match: re.Match[str]) -> tuple[str, str | None]:
    braced = match[1].startswith("{")
    name, given, default = match[1].removeprefix("{").removesuffix("}").partition(":-")
    return name, default if braced and given else None


def _insertion(
    values: Mapping[str, str], secrets: Mapping[str, str], *, in_key: bool
) -> Callable[[re.Match[str]], str]:
    def insert(match: re.Match[str]) -> str:
        name, default = _named(match)
        if name == "$":
            return "$"
        if name in secrets and (name not in VARIABLES or name in ADDED):
            return _unicode(secrets[name])
        if is_variable(name):
            return _unicode(values.get(name) or default or "")
        assert in_key, "an unknown name in a value is refused"
        return match[0]

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
    *("$schema", "${alias:-none}", "${artifact_metadata.a.b}", "${version_index}", "json", "types", "content_type"),
    *(FORM, PLAIN, "${run_config}", "${aliases:-}", "${alias:", "$version", "&", "=", "+", "%", "\r"),
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
        "payload": _payloads | _strings | st.lists(_strings, max_size=3),
        "values": st.dictionaries(
            st.sampled_from(["alias", "tag", "run_id", "artifact_metadata.k", "version_index", "run_config"]),
            _strings | st.fixed_dictionaries({"json": st.booleans() | st.integers() | st.lists(_strings, max_size=2)}),
        ),
        "secrets": st.dictionaries(st.sampled_from(["TOKEN", "ACCESS_TOKEN", "alias", "version"]), _strings),
        "types": st.sampled_from(["json", "text"]),
        "content_type": st.sampled_from([JSON, FORM, PLAIN]),
    }
)

TARGET = Target(check, inputs=as_json(_inputs, WORDS), words=WORDS)
