"""Headers and URLs with secrets in them: what is accepted makes one request whose parts are where they were written.

No header breaks out of its line, no secret out of its place in the URL, and what people may see has no secret in it.
"""

from __future__ import annotations

from typing import Any

import httpx
from hypothesis import strategies as st

from shared.domain.delivery.request_parts import (
    check_header_secret,
    check_url_secret,
    fill_header,
    fill_url,
    header_faults,
    mask_header,
    mask_url,
    sample_url,
    secrets_in_headers,
    secrets_in_url,
    url_faults,
)
from shared.domain.errors import InvalidDefinition
from shared.http.egress import check_webhook_url
from shared.http.request import Request, target, write_head
from shared.settings import Settings
from tests.fuzz.oracles import check_refusal, in_time, members_of
from tests.fuzz.strategies import as_json, texts
from tests.fuzz.target import Target

SETTINGS = Settings()


def check(data: bytes) -> None:
    """`{"headers": {…}, "url": "…", "secrets": {"KEY": "…"}}`."""
    members = members_of(data)
    headers, url, secrets = _texts(members.get("headers")), members.get("url"), _texts(members.get("secrets"))
    granted = frozenset(secrets)
    with in_time(data):
        faults = header_faults(headers, granted)
        if faults:
            check_refusal(InvalidDefinition(*faults), headers)
        elif _all(check_header_secret, secrets, secrets_in_headers(headers)):
            _check_headers(headers, secrets)
    if not isinstance(url, str):
        return
    with in_time(data):
        try:
            check_webhook_url(sample_url(url), SETTINGS)
        except InvalidDefinition:
            return
        if not url_faults(url, granted) and _all(check_url_secret, secrets, secrets_in_url(url)):
            _check_url(url, secrets)


def _texts(value: Any) -> dict[str, str]:
    return {name: one for name, one in value.items() if isinstance(one, str)} if isinstance(value, dict) else {}


def _all(fits: Any, secrets: dict[str, str], used: frozenset[str]) -> bool:
    try:
        for name in used:
            fits(secrets[name])
    except InvalidDefinition:
        return False
    return True


def _check_headers(headers: dict[str, str], secrets: dict[str, str]) -> None:
    filled = {name: fill_header(value, secrets) for name, value in headers.items()}
    request = Request(url="http://a.example/", body=b"", headers=filled)
    lines = write_head(target(request.url), request).decode().split("\r\n")
    assert lines == [
        "POST / HTTP/1.1",
        "Host: a.example",
        *(f"{name}: {value}" for name, value in filled.items()),
        "Content-Length: 0",
        "",
        "",
    ]
    for name, value in headers.items():
        assert secrets_in_headers({name: value}) <= secrets.keys()
        assert mask_header(value) == fill_header(value, {name: f"***{name}***" for name in secrets})


def _check_url(url: str, secrets: dict[str, str]) -> None:
    filled, sample = httpx.URL(fill_url(url, secrets)), httpx.URL(sample_url(url))
    assert (filled.scheme, filled.host, filled.port, filled.userinfo) == (
        sample.scheme,
        sample.host,
        sample.port,
        sample.userinfo,
    )
    for part in ("/", "?", "&"):
        assert filled.raw_path.count(part.encode()) == sample.raw_path.count(part.encode()), (url, filled)
    assert secrets_in_url(url) <= secrets.keys()
    assert mask_url(url, frozenset(secrets)) == url or secrets_in_url(url)


_names = st.sampled_from(["X-Api-Key", "Authorization", "Host", "webhook-id", "X Y", ""]) | texts
_values = st.text("${}KEYab \r\n\0é%/?#&=", max_size=20)
_urls = st.builds(
    "https://a.example{}{}".format,
    st.sampled_from(["/", "/${KEY}", "/b?c=${KEY}", "/${NONE}", "/#${KEY}", "?"]),
    _values,
)

TARGET = Target(
    check,
    inputs=as_json(
        st.fixed_dictionaries(
            {
                "headers": st.dictionaries(_names, _values, max_size=3),
                "url": _urls | texts,
                "secrets": st.fixed_dictionaries({"KEY": _values | texts}),
            }
        ),
        (),
    ),
    words=(
        "headers",
        "url",
        "secrets",
        "KEY",
        "${KEY}",
        "$$",
        "Authorization",
        "Host",
        "\r\n",
        "https://",
        "%2F",
        "..",
        "#",
    ),
)
