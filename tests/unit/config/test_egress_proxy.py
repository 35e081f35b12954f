"""The egress proxy's URL, and `NO_PROXY` lists."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config.egress_proxy import EgressProxy, parse_no_proxy, parse_proxy
from shared.config.setting_types import InvalidSetting
from shared.settings import load_settings

BASIC = "Basic " + base64.b64encode("ü:p@ss/1".encode()).decode()


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://proxy.corp:3128", EgressProxy("proxy.corp", 3128, False, None)),
        ("http://proxy.corp", EgressProxy("proxy.corp", 80, False, None)),
        ("https://proxy.corp/", EgressProxy("proxy.corp", 443, True, None)),
        ("http://[::1]:3128", EgressProxy("::1", 3128, False, None)),
        ("http://%C3%BC:p%40ss%2F1@10.0.0.1:8080", EgressProxy("10.0.0.1", 8080, False, BASIC)),
    ],
)
def test_a_proxy_is_read_from_its_url(url: str, proxy: EgressProxy) -> None:
    assert parse_proxy(url) == proxy
    assert proxy.name.endswith(str(proxy.port))
    assert "Basic" not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "proxy:3128",
        "socks5://proxy:1080",
        "http://",
        "http://:3128",
        "http://user:s3cr3t-w0rd@proxy:99999",
        "http://user:s3cr3t-w0rd@proxy:3128/path",
        "http://user:s3cr3t-w0rd%0d%0aX@proxy:3128",
        "http://user:s3cr3t-w0rd@proxy:0",
        "http://user:s3cr3t-w0rd@[proxy:3128",
    ],
)
def test_another_url_is_refused_at_start_without_its_password(url: str) -> None:
    with pytest.raises(InvalidSetting) as refusal:
        load_settings(egress_proxy=url)
    assert str(refusal.value).startswith("HOOKLINE_EGRESS_PROXY: must be http://host:port")
    assert "s3cr3t" not in str(refusal.value)


def test_no_password_is_in_the_repr_of_the_settings() -> None:
    assert "s3cr3t" not in repr(load_settings(egress_proxy="http://user:s3cr3t@proxy:3128"))


@pytest.mark.parametrize(
    ("rules", "host", "port", "covered"),
    [
        ("", "example.com", 443, False),
        ("*", "example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "hooks.Example.COM.", 443, True),
        ("example.com", "badexample.com", 443, False),
        (".example.com", "hooks.example.com", 443, True),
        ("*.example.com", "hooks.example.com", 443, True),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.0.0.0/8", "ten.example.com", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:443", "10.1.2.3", 80, False),
        ("::1", "::1", 443, True),
        ("[::1]:443", "::1", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("a.com, b.com c.com", "c.com", 443, True),
        ("localhost", "localhost", 443, True),
    ],
)
def test_no_proxy_is_read_as_curl_and_go_read_it(rules: str, host: str, port: int, covered: bool) -> None:
    assert parse_no_proxy(rules).covers(host, port) is covered


@pytest.mark.parametrize(
    "rules", ["exam ple.com:x", "http://example.com", "a.com:0", "a.com:70000", "10.0.0.0/99", ":80"]
)
def test_an_entry_that_can_not_be_read_is_named(rules: str) -> None:
    with pytest.raises(InvalidSetting, match="HOOKLINE_EGRESS_NO_PROXY: must be hosts"):
        load_settings(egress_no_proxy=rules)


def test_the_environments_list_counts_where_there_is_none_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "a.com,http://odd/,10.0.0.0/8")
    assert load_settings().without_egress_proxy == "a.com,10.0.0.0/8"
    assert load_settings(egress_no_proxy="b.com").without_egress_proxy == "b.com"
    monkeypatch.delenv("NO_PROXY")
    monkeypatch.setenv("no_proxy", "c.com")
    assert load_settings().without_egress_proxy == "c.com"


@given(rules=st.text(max_size=40), host=st.text(max_size=20), port=st.integers(1, 65535))
def test_any_list_is_read_or_refused(rules: str, host: str, port: int) -> None:
    try:
        found = parse_no_proxy(rules)
    except ValueError as exc:
        assert "must be hosts" in str(exc)
        return
    assert found.covers(host, port) in (True, False)


@given(
    url=st.text(max_size=40) | st.builds("http://{}@{}:{}".format, st.text(max_size=9), st.text(max_size=9), st.text())
)
def test_any_url_is_read_or_refused(url: str) -> None:
    try:
        found = parse_proxy(url)
    except ValueError as exc:
        assert "must be http://host:port" in str(exc)
        return
    assert 1 <= found.port <= 65535
    assert found.authorization is None or "\n" not in found.authorization
