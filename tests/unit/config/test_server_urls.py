"""Addresses: one URL means the same to redis-py and to Celery, and what it can't mean is refused."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any

import pytest
import redis.connection

from shared.config.server_urls import BROKER_FORM, REDIS_FORM, parse_broker, parse_redis

redis_py: Any = redis.connection
LOGIN = {"username": "hook", "password": "p@ss/w:rd%"}
WRITTEN = "hook:p%40ss%2Fw%3Ard%25"
RULES = {
    "ssl_include_verify_flags": [ssl.VERIFY_X509_PARTIAL_CHAIN],
    "ssl_exclude_verify_flags": [ssl.VERIFY_X509_STRICT],
}
SAFE = {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **RULES}
AUTHORITY = Path(__file__).parents[1] / "authority.pem"


@pytest.mark.parametrize(
    "url",
    ["redis://cache", "redis://cache:1/3", "redis://[::1]:7/2/", f"redis://{WRITTEN}@cache/1", "redis://:secret@cache"],
)
def test_a_server_is_where_redis_py_finds_it(url: str) -> None:
    found = parse_redis(url)
    theirs = {"port": 6379, "db": 0, **redis_py.parse_url(url)}
    ((host, port),) = found.hosts
    assert {"host": host, "port": port, "db": found.database, **found.login} == theirs


@pytest.mark.parametrize(
    ("url", "path", "database", "login", "broker"),
    [
        ("unix:///run/x.sock", "/run/x.sock", 0, {}, "redis+socket:///run/x.sock"),
        ("unix:///run/x.sock?db=3", "/run/x.sock", 3, {}, "redis+socket:///run/x.sock?virtual_host=3"),
        (f"unix://{WRITTEN}@/x?db=1", "/x", 1, LOGIN, f"redis+socket://{WRITTEN}@/x?virtual_host=1"),
        (
            "unix:///a%20b?username=hook&password=p%40ss%2Fw%3Ard%25",
            "/a b",
            0,
            LOGIN,
            f"redis+socket://{WRITTEN}@/a%20b",
        ),
    ],
)
def test_a_socket(url: str, path: str, database: int, login: Any, broker: str) -> None:
    found = parse_redis(url)
    assert (found.path, found.database, found.login, found.hosts) == (path, database, login, ())
    assert parse_broker(url).url == broker
    assert parse_broker(broker).url == broker


def test_certificates_are_checked_by_both_unless_the_url_says_otherwise() -> None:
    assert parse_redis("rediss://cache").tls == SAFE == parse_broker("rediss://cache").tls
    own = f"rediss://u:p@cache:7/1?ssl_ca_certs={AUTHORITY}&ssl_certfile={AUTHORITY}&ssl_keyfile={AUTHORITY}"
    files = {name: str(AUTHORITY) for name in ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")}
    assert parse_redis(own).tls == SAFE | files == parse_broker(own).tls
    assert parse_broker(own).url == "rediss://u:p@cache:7/1"
    for spelling in ("none", "CERT_NONE"):
        tls = parse_redis(f"rediss://cache?ssl_cert_reqs={spelling}").tls
        assert tls == {"ssl_cert_reqs": "none", "ssl_check_hostname": False, **RULES}
    assert parse_redis("redis://cache").tls is None


def test_rabbit_gets_the_same_under_the_names_of_its_client() -> None:
    assert parse_broker("amqp://u:p@rabbit/x?heartbeat=7").url == "amqp://u:p@rabbit/x?heartbeat=7"
    assert parse_broker("amqp://rabbit").tls is None
    # A blank name of the server is filled in by kombu, and only then is the name in the certificate checked.
    assert parse_broker("amqps://rabbit").tls == {"cert_reqs": ssl.CERT_REQUIRED, "server_hostname": None}
    found = parse_broker(f"amqps://rabbit//?ssl_ca_certs={AUTHORITY}&ssl_check_hostname=false")
    assert (found.url, found.tls) == ("amqps://rabbit//", {"cert_reqs": ssl.CERT_REQUIRED, "ca_certs": str(AUTHORITY)})


def test_several_brokers_are_alike() -> None:
    assert parse_broker("amqp://a//;amqp://b//").url == "amqp://a//;amqp://b//"
    found = parse_broker(f"rediss://a?ssl_ca_certs={AUTHORITY};rediss://b?ssl_ca_certs={AUTHORITY}")
    assert (found.url, found.tls) == ("rediss://a;rediss://b", SAFE | {"ssl_ca_certs": str(AUTHORITY)})
    for urls in ("redis://a;rediss://b", "redis://a;redis+sentinel://b/m"):
        with pytest.raises(ValueError, match="of the same scheme and with the same options"):
            parse_broker(urls)


def test_sentinels() -> None:
    found = parse_redis(f"rediss+sentinel://{WRITTEN}@a,[::1]:7/the%20master/2?sentinel_password=s3cret")
    assert found.hosts == (("a", 26379), ("::1", 7))
    assert (found.master, found.database, found.login) == ("the master", 2, LOGIN)
    assert found.session == {**LOGIN, "db": 2, "ssl": True, **SAFE}
    assert found.sentinel_session == {"password": "s3cret", "ssl": True, **SAFE}
    assert parse_redis("redis+sentinel://a/m").session == {"db": 0}


def test_a_cluster_holds_streams_and_is_no_broker() -> None:
    found = parse_redis(f"rediss+cluster://{WRITTEN}@a,[::1]:7,c:8/0")
    assert found.hosts == (("a", 6379), ("::1", 7), ("c", 8))
    assert found.cluster
    assert found.session == {**LOGIN, "ssl": True, **SAFE}
    assert "p@ss" not in repr(found)
    assert parse_redis("redis+cluster://a").session == {}
    for number in ("1", "0/1", "x"):
        with pytest.raises(ValueError, match="no databases with other numbers than 0"):
            parse_redis(f"redis+cluster://a/{number}")
    with pytest.raises(ValueError, match="must not be a Redis Cluster"):
        parse_broker("redis+cluster://a")


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ("[::1]", (("::1", 26379),)),
        ("[::1]:7,b", (("::1", 7), ("b", 26379))),
        ("a,b:7,[fe80::2]", (("a", 26379), ("b", 7), ("fe80::2", 26379))),
        ("u:x%2Cy,z@[::1],b", (("::1", 26379), ("b", 26379))),
    ],
)
def test_sentinels_may_be_addresses_in_brackets(hosts: str, found: object) -> None:
    assert parse_redis(f"redis+sentinel://{hosts}/m").hosts == found


@pytest.mark.parametrize("place", ["[::1]x", "[::1]x:7", "x[::1]", "[x]", "a,b]", "[::1", "::1", "[::1]:7:8"])
@pytest.mark.parametrize("url", ["redis://{}/0", "redis+sentinel://{}/m", "redis+sentinel://a,{}/m", "amqp://{}//"])
def test_a_host_in_broken_brackets_is_refused(url: str, place: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(BROKER_FORM[:40])}"):
        parse_broker(url.format(place))


@pytest.mark.parametrize("url", ["redis:///3", "redis://", "rediss:///", "amqp:///vhost", "amqp://", "amqp://h//"])
def test_celery_reads_a_url_without_a_host_as_it_was_written(url: str) -> None:
    assert parse_broker(url).url == url


def test_what_celery_shows_of_a_broker_with_sentinels_holds_no_password() -> None:
    broker = parse_broker("redis+sentinel://u:s3cret@a,b:7/m?sentinel_password=s3cret")
    assert broker.url == "sentinel://a:26379;sentinel://b:7"
    assert "s3cret" not in repr(broker)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("rediss://h?ssl_cert_reqs=maybe", "its option ssl_cert_reqs must be one of required, optional, none"),
        ("rediss://h?ssl_check_hostname=1", "its option ssl_check_hostname must be true or false"),
        (
            "rediss://h?ssl_ca_certs=/nowhere",
            "its option ssl_ca_certs must be a file in PEM: there is no file /nowhere",
        ),
        ("redis://h?ssl_cert_reqs=none", f"{REDIS_FORM}; redis:// takes no options"),
        ("unix:///x?virtual_host=1", f"{REDIS_FORM}; the options that unix:// takes are db, username, password"),
        ("redis+sentinel:///m", f"{REDIS_FORM}: a host is missing"),
        ("redis+cluster://u:p@/0", f"{REDIS_FORM}: a host is missing"),
        ("redis+cluster://a?ssl_cert_reqs=none", f"{REDIS_FORM}; redis+cluster:// takes no options"),
    ],
)
def test_an_option_that_is_not_known_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        parse_redis(url)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("amqp://h?heartbeat=soon", "its option heartbeat must be a number of seconds"),
        ("amqp://h?ssl_ca_certs=/x", f"{BROKER_FORM}; the options that amqp:// takes are heartbeat, login_method"),
        ("kafka://h", BROKER_FORM),
        ("amqp://h;", BROKER_FORM),
    ],
)
def test_a_broker_of_another_kind_is_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(message)}$"):
        parse_broker(url)
