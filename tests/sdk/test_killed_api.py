"""A training of the real `wandb` client goes on while the API is killed: no value is lost or doubled."""

from __future__ import annotations

import random
import shutil
import signal
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.messaging.celery_app import celery_app
from shared.settings import Settings
from shared.storage.maintenance import first_start
from tests.integration.conftest import ADMIN_KEY
from tests.integration.processes import running, wait_until
from tests.integration.receiver import receiving
from tests.sdk.conftest import Hookline
from tests.sdk.test_runs import published, told, train
from tests.servers import free_port
from worker.bootstrap import build_process

pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
KILLS = 2
OFTEN = {
    "x_file_stream_transmit_interval": 0.02,
    "x_file_stream_retry_wait_min_seconds": 0.1,
    "x_file_stream_retry_wait_max_seconds": 0.5,
    "x_graphql_retry_wait_min_seconds": 0.1,
    "x_graphql_retry_wait_max_seconds": 0.5,
}
"""The client sends what it has every 15 s else, and waits for longer after a failure."""
LOG = """[
    (run.log({'a': n}), __import__('time').sleep(0.005))
    for n in __import__('itertools').takewhile(lambda _: not __import__('os').path.exists('enough'), range(20_000))
]"""
"""One value after another, until there is a file `enough`."""


def test_no_value_is_lost_or_doubled_when_the_api_is_killed(
    settings: Settings, sqlite_template: Path, tmp_path: Path
) -> None:
    settings = settings.model_copy(update={"wandb_runs": True, "port": free_port()})
    shutil.copy(sqlite_template, (settings.database_url or "").removeprefix("sqlite:///"))
    first_start.prepare(settings)
    with ExitStack() as stack:
        process = build_process(settings, celery_app(settings))
        stack.callback(process.close)
        url = f"http://127.0.0.1:{settings.port}"
        hookline = Hookline(url, settings, process, stack.enter_context(receiving()), {"publisher": ADMIN_KEY})
        threads = stack.enter_context(ThreadPoolExecutor(1))
        saw = killed_while(hookline, tmp_path, threads)
        assert saw["raised"] == []
        running, *values, finished = told(hookline)
        assert (running, finished) == ("running", "finished")
        assert values == [(step, {"a": step}) for step in range(len(values))]
        assert published(hookline)[-1]["data"]["run"]["summary"] == {"a": len(values) - 1}


def killed_while(hookline: Hookline, folder: Path, threads: ThreadPoolExecutor) -> dict[str, Any]:
    """What a training saw while the API was killed `KILLS` times, and started again on the same port."""
    asked = {
        "init": {"project": "digits", "id": "r1", "entity": "acme", "settings": OFTEN},
        "do": [" ".join(LOG.split())],
    }
    training: Future[list[dict[str, Any]]] | None = None
    moments = random.Random()
    for kills in count():
        with running([sys.executable, "-m", "dispatcher.cli", "api"], hookline.settings, folder / "api.log") as api:
            wait_until(lambda: answers(hookline.url), "API")
            if training is None:
                hookline.keys["root"] = ADMIN_KEY
                hookline.rest("PUT", "/v1/entities/acme", {}, status=201)
                training = threads.submit(train, hookline, folder, asked)
            if kills < KILLS:
                before = len(published(hookline))
                wait_until(partial(more_than, hookline, before), "events of the run")
                wait([training], timeout=moments.uniform(0, 0.5))
                assert not training.done()
                api.send_signal(signal.SIGKILL)
                api.wait()
                continue
            (folder / "enough").touch()
            return training.result()[0]
    raise AssertionError


def more_than(hookline: Hookline, before: int) -> bool:
    """Whether there are more events than before."""
    return len(published(hookline)) > before


def answers(url: str) -> bool:
    """Whether an API listens there."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", trust_env=False).status_code == 200
    return False
