"""Whose request it is, by what proxies on its way wrote down: nobody is believed but they."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.api.proxies import client_of

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        ([], None),
        (["203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
        (["1.1.1.1", "203.0.113.9", "10.0.0.7", "10.0.0.8"], "203.0.113.9"),
        (["10.0.0.7", "10.0.0.8"], "10.0.0.7"),
        (["nonsense", "10.0.0.8"], "10.0.0.8"),
        (["nonsense"], None),
        (["unknown", "203.0.113.9:4711"], "203.0.113.9"),
        (["[2001:db8::7]:443"], "2001:db8::7"),
        (["1.1.1.1", "2001:db8::7", "::1", "::ffff:10.0.0.8"], "2001:db8::7"),
    ],
)
def test_the_last_that_is_no_proxy_is_the_client(hops: list[str], client: str | None) -> None:
    assert client_of(hops, TRUSTED) == client


@given(st.lists(st.text(max_size=20) | st.ip_addresses().map(str), max_size=8), st.integers(1, 2**32 - 1))
def test_a_client_can_not_choose_its_address(claimed: list[str], number: int) -> None:
    own = f"203.0.113.{number % 256}"
    assert client_of([*claimed, own, "10.1.2.3"], TRUSTED) == own
