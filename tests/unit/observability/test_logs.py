"""Logs: one form for everybody's lines, and no secret in any."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import structlog
from cryptography.fernet import Fernet

from shared.observability.log_masking import MASK
from shared.observability.logs import configure_logging, get_logger, is_written
from shared.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = {"process": "api", "host": socket.gethostname(), "pid": os.getpid()}
ADMIN_KEY = "hk_a-very-\"secret'-kéy"
DATABASE_PASSWORD = "pa55wörd!"
SECRET_KEYS = [Fernet.generate_key().decode() for _ in range(2)]


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(False)


def configure(log_format: str, log_level: str = "INFO") -> None:
    settings = load_settings(
        log_format=log_format,
        log_level=log_level,
        admin_api_key=ADMIN_KEY,
        secret_keys=",".join(SECRET_KEYS),
        database_url="postgresql+psycopg://me:pa55w%C3%B6rd!@db/hookline",
    )
    configure_logging(settings, "api")


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_json_lines_carry_the_facts_the_process_and_utc(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    get_logger("hookline.x").info("delivery.attempted", delivery=7, text="a\nb")
    logging.getLogger("uvicorn.error").warning("started %d", 5, extra={"color_message": "twice"})
    own, foreign = json_lines(capsys)
    assert datetime.fromisoformat(str(own.pop("timestamp"))).utcoffset() == timedelta(0)
    assert own == {
        "event": "delivery.attempted",
        "delivery": 7,
        "text": "a\nb",
        "level": "info",
        "logger": "hookline.x",
        **HERE,
    }
    foreign.pop("timestamp")
    assert foreign == {"event": "started 5", "level": "warning", "logger": "uvicorn.error", **HERE}


def test_a_line_of_hookline_s_own_looks_like_one_of_a_library(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    get_logger("hookline.x").warning("refused", delivery_id="dlv_1", error=f"refused {ADMIN_KEY}")
    logging.getLogger("hookline.x").warning("refused", extra={"delivery_id": "dlv_1", "error": f"refused {ADMIN_KEY}"})
    own, foreign = json_lines(capsys)
    assert {**own, "timestamp": None} == {**foreign, "timestamp": None}
    assert own["error"] == f"refused {MASK}"
    stamps = [str(line["timestamp"]) for line in (own, foreign)]
    assert [re.sub(r"\d", "0", stamp) for stamp in stamps] == ["0000-00-00T00:00:00.000000Z"] * 2


def test_a_line_carries_what_is_bound_to_its_task_and_to_its_logger(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    with structlog.contextvars.bound_contextvars(request_id="req_1"):
        get_logger("hookline.x").bind(partition=3).info("read %d of %d", 1, 2)
    (line,) = json_lines(capsys)
    assert (line["request_id"], line["partition"], line["event"]) == ("req_1", 3, "read 1 of 2")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_logger_keeps_to_its_own_level_or_the_root_s(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format)
    log = get_logger("hookline.level")
    log.debug("below")
    log.info("heard")
    configure(log_format, "WARNING")
    log.info("below")
    logging.getLogger("hookline.level").setLevel(logging.DEBUG)
    try:
        log.debug("heard")
    finally:
        logging.getLogger("hookline.level").setLevel(logging.NOTSET)
    printed = capsys.readouterr().err
    assert printed.count("heard") == 2
    assert "below" not in printed


def test_who_would_make_many_lines_hears_whether_they_are_written() -> None:
    assert is_written("hookline.x", logging.DEBUG), "logging is not configured"
    configure("json")
    assert is_written("hookline.x", logging.INFO)
    assert not is_written("hookline.x", logging.DEBUG)
    configure("json", "WARNING")
    assert not is_written("hookline.x", logging.INFO)


def test_what_json_does_not_have_is_shown_nevertheless(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Login:
        user: str
        token: str = field(repr=False)

    configure("json")
    when = datetime(2026, 1, 1, tzinfo=UTC)
    get_logger("x").info(
        "odd", large=1 << 70, half="\ud800", keys={1: "one"}, raw=b"a", login=Login("ann", "hidden-token"), when=when
    )
    get_logger("x").info("nothing", finite=float("nan"))
    odd, nothing = json_lines(capsys)
    assert odd["large"] == 1 << 70
    assert odd["half"] == "\ud800"
    assert odd["keys"] == {"1": "one"}
    assert odd["raw"] == "b'a'"
    assert "ann" in str(odd["login"])
    assert "hidden-token" not in str(odd)
    assert odd["when"] == repr(when)
    assert nothing["finite"] is None


def test_lines_of_many_threads_do_not_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    configure("json")

    def write(thread: int) -> None:
        for number in range(200):
            get_logger("x").info("own", thread=thread, number=number, text="t" * 300)
            logging.getLogger("y").warning("foreign %d %d", thread, number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    lines = [json.loads(line) for line in written.getvalue().splitlines()]
    own = [(line["thread"], line["number"]) for line in lines if line["event"] == "own"]
    assert sorted(own) == [(thread, number) for thread in range(4) for number in range(200)]
    assert len(lines) == 1600


def test_unless_told_it_writes_for_people_on_a_terminal_and_for_machines_elsewhere(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    configure("auto")
    get_logger("hookline.x").info("started")
    assert json_lines(capsys)[0]["event"] == "started"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    configure("auto")
    get_logger("hookline.x").info("started")
    assert not capsys.readouterr().err.startswith("{")


def test_people_get_one_readable_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("console")
    get_logger("hookline.x").info("delivery.attempted", delivery=7, text="a\nb")
    (line,) = capsys.readouterr().err.splitlines()
    assert "delivery.attempted" in line
    assert "delivery=7" in line
    assert "process=api" in line
    assert r"text='a\nb'" in line


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_secrets_are_masked_wherever_they_turn_up(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format)
    log = get_logger("hookline.x")
    log.info(f"event {ADMIN_KEY}", fact=f"{SECRET_KEYS[0]} {DATABASE_PASSWORD}", nested={"k": [SECRET_KEYS[1]]})
    logging.getLogger("redis").warning("connecting to redis://user:short@cache/0")
    logging.getLogger("x").warning("headers: %s", {"Authorization": "Bearer abc.def-ghi"})
    try:
        raise ValueError(ADMIN_KEY)
    except ValueError:
        log.exception("failed")
    printed = capsys.readouterr().err
    assert printed.count(MASK) >= 7
    for secret in (
        ADMIN_KEY,
        json.dumps(ADMIN_KEY)[1:-1],
        DATABASE_PASSWORD,
        "pa55w",
        *SECRET_KEYS,
        "short",
        "abc.def",
    ):
        assert secret not in printed


def test_tracebacks_show_no_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure("console")

    def fail(token: str) -> None:
        raise ValueError(len(token))

    try:
        fail("tok" + "en-value")
    except ValueError:
        get_logger("hookline.x").exception("failed")
    printed = capsys.readouterr().err
    assert "ValueError: 11" in printed
    assert "token-value" not in printed


@pytest.mark.parametrize("name", ["httpx", "httpcore.connection", "sqlalchemy.engine", "kombu", "amqp"])
def test_libraries_that_print_requests_stay_silent(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("console", log_level="DEBUG")
    logging.getLogger(name).info("POST https://hooks.slack.com/services/T0/B0/secret")
    assert capsys.readouterr().err == ""


def test_configuring_again_takes_over(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    log = get_logger("hookline.x")
    log.info("first")
    configure("json", log_level="WARNING")
    log.info("second")
    log.warning("third")
    assert [line["event"] for line in json_lines(capsys)] == ["first", "third"]


def test_warnings_become_lines(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    logging.getLogger("py.warnings").warning("odd")
    assert [line["logger"] for line in json_lines(capsys)] == ["py.warnings"]


def spoiled() -> object:
    class Spoiled:
        def __repr__(self) -> str:
            raise ValueError(ADMIN_KEY)

    return Spoiled()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_secret_is_masked_in_every_spelling(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure(log_format)
    log = get_logger("hookline.x")
    log.info("shown", fact=ADMIN_KEY, nested={"k": ADMIN_KEY}, several=(ADMIN_KEY, 1), raw=ADMIN_KEY.encode())
    logging.getLogger("x").warning("%r and %s", {"k": [ADMIN_KEY]}, f"'{ADMIN_KEY}\"")
    try:
        try:
            raise KeyError(ADMIN_KEY)
        except KeyError as exc:
            raise RuntimeError([ADMIN_KEY]) from exc
    except RuntimeError:
        log.exception("failed")
    printed = capsys.readouterr().err
    assert printed.count(MASK) == 8
    assert "hk_a" not in printed


@pytest.mark.parametrize(
    "url",
    [
        "redis://:pass-in-url@cache:6379/0",
        "rediss://user:pass-in-url@cache",
        "unix:///run/valkey.sock?db=0&password=pass-in-url",
        "redis+sentinel://user:pass-in-url@a:1,b:2/hookline",
        "redis+cluster://user:pass-in-url@a:1,b:2",
        "redis+sentinel://a:1,b:2/hookline?sentinel_password=pass-in-url",
        "redis+sentinel://user:pass-in-url@a,[::1]:2/hookline",
        "redis+sentinel://[::1],b/hookline?sentinel_password=pass-in-url",
    ],
)
def test_the_passwords_of_urls_are_masked_wherever_they_turn_up(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    settings = load_settings(log_format="json", redis_url=url, broker_url="redis://broker")
    configure_logging(settings, "worker")
    get_logger("x").info("login with pass-in-url", url=url)
    (line,) = json_lines(capsys)
    assert "pass-in-url" not in str(line)
    assert line["event"] == f"login with {MASK}"


@pytest.mark.parametrize(
    "path", ["/v1/in/5f2b8c0e", "/hooks/v1/in/5f2b8c0e", "/v1/in/5f2b8c0e/5f2b8c0e", "/v1/in/5f2b8c0e?a=5"]
)
def test_the_urls_of_webhooks_in_are_masked(path: str, capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    get_logger("hookline.api").info("api.request", path=path, status=401)
    logging.getLogger("uvicorn.error").warning('"POST %s HTTP/1.1" failed', path)
    told = capsys.readouterr().err
    assert told.count(f"/v1/in/{MASK}") == 2
    assert "5f2b" not in told


def test_the_passwords_of_several_urls_are_masked(capsys: pytest.CaptureFixture[str]) -> None:
    broker = "amqp://u:first-secret@a//;amqp://u:second%20secret@b//"
    configure_logging(load_settings(log_format="json", broker_url=broker), "worker")
    get_logger("x").info("login with first-secret, then second secret", url=broker)
    (line,) = json_lines(capsys)
    assert line["event"] == f"login with {MASK}, then {MASK}"
    assert line["url"] == f"amqp://u:{MASK}@a//;amqp://u:{MASK}@b//"


def test_a_url_that_cannot_be_read_masks_by_its_shape(capsys: pytest.CaptureFixture[str]) -> None:
    url = "postgresql+psycopg://me:pass[word@db/hookline"
    configure_logging(load_settings(log_format="json", database_url=url), "api")
    get_logger("x").info("connecting", url=url)
    (line,) = json_lines(capsys)
    assert line["url"] == f"postgresql+psycopg://me:{MASK}@db/hookline"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_that_cannot_be_made_is_named_and_its_arguments_are_not_shown(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(log_format)
    logging.getLogger("x.y").warning("count: %d", ADMIN_KEY)
    get_logger("x.z").info("shown", fact=spoiled())
    first, second = capsys.readouterr().err.splitlines()
    assert "a log line is lost: TypeError" in first
    assert "x.y" in first
    assert "a log line is lost: ValueError" in second
    assert "x.z" in second
    assert "hk_a" not in first + second


def test_a_line_that_cannot_be_written_does_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, _text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    configure("json")
    get_logger("x").info("nobody listens")


def test_short_values_do_not_blot_out_innocent_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(load_settings(log_format="json", api_key="info"), "api")
    get_logger("x").info("some information")
    assert json_lines(capsys)[0]["event"] == "some information"
