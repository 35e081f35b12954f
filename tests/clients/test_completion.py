"""What `hookline.wandb` refuses, and scripts that it runs as they are: each in a process of its own.

In this one nothing is completed: other tests try the client as it is.
"""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tests.clients.client import ClientError, running_client
from tests.clients.environments import available
from tests.clients.test_page import CLIENT, TRIED, block, prepare
from tests.sdk.conftest import Hookline
from tests.sdk.test_seed_scenarios import HOOKS, arrived, only

KEY = "hlk-" + "k" * 43


def run(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Python with a home of its own, from which it gets no settings of wandb's but those given."""
    own = {"HOME": str(home), "WANDB_DIR": str(home), "WANDB_ERROR_REPORTING": "false", "PYTHONPATH": str(CLIENT)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHON"))}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, env={**kept, **own, **environment}, cwd=home, capture_output=True, text=True, timeout=120, check=False
    )


class _Server(http.server.BaseHTTPRequestHandler):
    """Answers as its server says, and remembers who asked for what."""

    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.command, self.path, self.headers.get("Authorization")))
        status, headers, body = server.answer
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_CONNECT = do_GET  # noqa: N815 the names are the library's

    def log_message(self, *_of: object) -> None:
        pass


@contextmanager
def answering(
    status: int, body: bytes = b"", **headers: str
) -> Iterator[tuple[str, list[tuple[str, str, str | None]]]]:
    """A server that always answers so: its URL, and what it was asked."""
    server: Any = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    server.answer, server.asked = (status, headers, body), []
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a failed process said."""
    assert done.returncode == 1, done.stdout
    return done.stderr.strip().splitlines()[-1]


MAKE = """
import json, os, sys
import hookline.wandb, wandb
for environment, of in json.loads(sys.argv[1]):
    os.environ.update(environment)
    try:
        wandb.Api(**of)
    except Exception as exc:
        print(f"{type(exc).__name__}: {exc}")
"""


def refusals(home: Path, attempts: list[Any], **environment: str) -> list[str]:
    """What `wandb.Api` raises, by variables that are set before it and its arguments; one after another."""
    done = run(home, "-c", MAKE, json.dumps(attempts), **{"WANDB_API_KEY": KEY, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_hosts_of_wandbs_are_refused_and_asked_nothing(tmp_path: Path) -> None:
    default = "api.forge.coreweave.com" if version("wandb") >= "0.31" else "api.wandb.ai"
    attempts: list[Any] = [
        ({}, {}),
        ({"WANDB_BASE_URL": "https://api.wandb.ai"}, {}),
        ({"WANDB_BASE_URL": "https://API.wandb.AI.:443/x/"}, {"api_key": KEY}),
        ({"WANDB_BASE_URL": "http://127.0.0.1:9"}, {"overrides": {"base_url": "https://eu.wandb.io"}}),
    ]
    with answering(502) as (proxy, asked):
        proxies = {"HTTPS_PROXY": proxy, "https_proxy": proxy, "HTTP_PROXY": proxy, "http_proxy": proxy}
        said = refusals(tmp_path, attempts, **proxies)
        (tmp_path / "settings").write_text("[default]\nbase_url = https://team.wandb.io\n")
        said += refusals(tmp_path, [({}, {})], WANDB_CONFIG_DIR=str(tmp_path), **proxies)
    assert said == [
        f"ForeignServer: hookline.wandb speaks to Hookline only, and {host} is W&B's: set WANDB_BASE_URL to Hookline's"
        " address"
        for host in (default, "api.wandb.ai", "api.wandb.ai", "eu.wandb.io", "team.wandb.io")
    ]
    assert asked == []


def test_a_server_that_is_not_hookline_is_sent_no_key(tmp_path: Path) -> None:
    elsewhere = {"Location": "https://api.wandb.ai/v1/health"}
    answers = [(200, b'{"ok": true}', {}), (404, b"<html>", {}), (401, b"[]", {}), (307, b"", elsewhere)]
    with ExitStack() as stack:
        servers = [stack.enter_context(answering(status, body, **headers)) for status, body, headers in answers]
        said = refusals(tmp_path, [({"WANDB_BASE_URL": url}, {}) for url, _ in servers])
    for (status, _, headers), (url, asked), one in zip(answers, servers, said, strict=True):
        what = "redirects to api.wandb.ai" if headers else f"({status}) is not Hookline"
        assert one.startswith("ForeignServer: hookline.wandb speaks to Hookline only, and ")
        assert url in one
        assert what in one
        assert asked == [("GET", "/v1/health", None)]


def test_an_api_from_before_is_checked_when_it_is_used(tmp_path: Path) -> None:
    viewer = b'{"data": {"viewer": {"id": "1", "username": "a"}, "serverInfo": {"features": []}}}'
    script = "import wandb; api = wandb.Api(); import hookline.wandb; list(api.automations(entity='a'))"
    with answering(200, viewer, **{"Content-Type": "application/json"}) as (url, _):
        done = run(tmp_path, "-c", script, WANDB_BASE_URL=url, WANDB_API_KEY=KEY)
    assert f"what answers at {url} (200) is not Hookline" in refusal(done)


SCRIPT = """\
import os, sys
import beside
print(sys.argv, __name__, os.path.basename(__file__), beside.found)
"""


def test_a_script_and_a_module_are_run_as_python_runs_them(tmp_path: Path) -> None:
    folder = tmp_path / "scripts"
    folder.mkdir()
    (folder / "script.py").write_text(SCRIPT + "sys.exit(3)\n")
    (folder / "beside.py").write_text("found = True\n")
    done = run(tmp_path, "-m", "hookline.wandb", "scripts/script.py", "-m", "x y")
    assert (done.returncode, done.stdout) == (3, "['scripts/script.py', '-m', 'x y'] __main__ script.py True\n")
    (tmp_path / "module.py").write_text("import sys, wandb\nprint(sys.argv[1:], wandb.Api.registry.__wrapped__)\n")
    done = run(tmp_path, "-m", "hookline.wandb", "-m", "module", "a")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['a'] <function Api.registry at")
    wrong = [run(tmp_path, "-m", "hookline.wandb", *words) for words in (["-m"], ["nowhere.py"])]
    assert [done.returncode for done in wrong] == [2, 2]
    assert wrong[0].stderr.startswith("usage: python -m hookline.wandb (SCRIPT")
    assert wrong[1].stderr == "python -m hookline.wandb: there is no script 'nowhere.py'\n"


def test_a_script_of_the_page_is_run_without_a_change(hookline: Hookline, tmp_path: Path) -> None:
    prepare(hookline)
    (tmp_path / "script.py").write_text(block("project_automation"), encoding="utf-8")
    login = {"WANDB_BASE_URL": hookline.url, "WANDB_API_KEY": hookline.keys["page"], "WANDB_SILENT": "true"}
    stock = run(tmp_path, "script.py", **login)
    assert "unsupported operand type(s) for &" in refusal(stock)
    done = run(tmp_path, "-m", "hookline.wandb", "script.py", **login)
    assert (done.returncode, done.stdout) == (0, "Created automation: high-performance-model-review\n"), done.stderr
    of = {"id": "event-of-page", "source": "/page", "type": "RUN_METRIC", "specversion": "1.0"}
    run_ = {"entity": "my-team", "project": "model-training", "author": "alice", "run": {"id": "r"}, "step": 1}
    hookline.publish({**of, "data": {**run_, "metrics": {"val_accuracy": 0.97, "val_loss": 0.01}}})
    assert only(arrived(hookline), HOOKS["github"])["event_type"] == "MODEL_READY_FOR_REVIEW"


@pytest.mark.parametrize("which", available())
def test_a_version_that_was_not_tried_is_refused_and_left_as_it_is(which: str, tmp_path: Path) -> None:
    with running_client(which, tmp_path) as client:
        if which in TRIED:
            client("complete(folder)", folder=str(CLIENT))
        else:
            with pytest.raises(ClientError, match=r"ImportError: hookline.wandb was tried with wandb .*is installed"):
                client("complete(folder)", folder=str(CLIENT))
        assert client("hasattr(Automation, 'save')") is (which in TRIED)
