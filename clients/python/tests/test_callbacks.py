"""The callbacks without their frameworks: each against stand-ins of the classes that it derives from.

`make test-sources` tries them in real trainings.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import hookline
from hookline.testing import Published, recorded

MODULES = ("transformers", "keras", "lightning", "accelerate")


@pytest.fixture
def published() -> Iterator[Published]:
    with recorded() as published:
        yield published


@pytest.fixture(autouse=True)
def _stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    def module(name: str, **members: Any) -> None:
        made = ModuleType(name)
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, name, made)

    module("transformers", TrainerCallback=type("TrainerCallback", (), {}))
    module("keras")
    module("keras.callbacks", Callback=type("Callback", (), {"params": {"epochs": 2}, "model": None}))
    module("lightning")
    module("lightning.pytorch")
    module("lightning.pytorch.loggers", Logger=type("Logger", (), {}))
    module("lightning_utilities")
    module("lightning_utilities.core")
    module("lightning_utilities.core.rank_zero", rank_zero_only=SimpleNamespace(rank=None))
    module("accelerate")
    module("accelerate.tracking", GeneralTracker=type("GeneralTracker", (), {}), on_main_process=lambda method: method)
    for name in MODULES:
        monkeypatch.delitem(sys.modules, f"hookline.{name}", raising=False)


def load(name: str) -> Any:
    return importlib.import_module(f"hookline.{name}")


def told(published: Published) -> list[Any]:
    return [
        (event["data"]["step"], event["data"]["metrics"]) if event["type"] == "RUN_METRIC" else event["data"]["state"]
        for event in published
    ]


def test_hookline_itself_imports_none_of_them() -> None:
    importlib.reload(hookline)
    assert not any(f"hookline.{name}" in sys.modules for name in MODULES)


class Arguments:
    run_name = "first"

    def to_dict(self) -> dict[str, Any]:
        return {"learning_rate": 0.1, "hub_token": "hf-secret"}


def test_transformers(published: Published) -> None:
    callback = load("transformers").HooklineCallback(project="digits")
    state = SimpleNamespace(is_world_process_zero=True, global_step=0)
    model = SimpleNamespace(config=SimpleNamespace(to_dict=lambda: {"layers": 2}))
    callback.on_train_begin(Arguments(), state, None, model=model)
    for state.global_step in (10, 20):
        callback.on_log(Arguments(), state, None, logs={"loss": 1 / state.global_step, "text": "x"})
    callback.on_train_end(Arguments(), state, None)
    assert told(published) == ["running", (10, {"loss": 0.1}), (20, {"loss": 0.05}), "finished"]
    run = published[0]["data"]["run"]
    assert run["name"] == "first" and run["config"] == {"learning_rate": 0.1, "model": {"layers": 2}}


def test_transformers_on_other_processes(published: Published) -> None:
    callback = load("transformers").HooklineCallback(project="digits")
    state = SimpleNamespace(is_world_process_zero=False, global_step=1)
    callback.on_train_begin(Arguments(), state, None)
    callback.on_log(Arguments(), state, None, logs={"loss": 1})
    callback.on_train_end(Arguments(), state, None)
    assert list(published) == []


def test_keras(published: Published) -> None:
    callback = load("keras").HooklineCallback(project="digits", every_batches=2)
    callback.model = SimpleNamespace(name="net", optimizer=SimpleNamespace(get_config=lambda: {"learning_rate": 0.1}))
    callback.on_train_begin()
    for epoch in range(2):
        for batch in range(2):
            callback.on_train_batch_end(batch, {"loss": batch})
        callback.on_epoch_end(epoch, {"loss": epoch, "val_loss": 2})
    callback.on_train_end()
    assert told(published) == [
        "running",
        (2, {"batch.loss": 1}),
        (0, {"loss": 0, "val_loss": 2}),
        (4, {"batch.loss": 1}),
        (1, {"loss": 1, "val_loss": 2}),
        "finished",
    ]
    assert published[0]["data"]["run"]["config"]["optimizer"] == {"learning_rate": 0.1}
    assert published[0]["data"]["run"]["name"] == "net"


def test_lightning(published: Published) -> None:
    logger = load("lightning").HooklineLogger(project="digits")
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"loss": 0.5}, step=0)
    logger.log_metrics({"val": 0.4}, step=7)
    assert logger.version == published[0]["data"]["run"]["id"] and logger.name == "digits"
    logger.finalize("success")
    assert told(published) == ["running", (0, {"loss": 0.5}), (7, {"val": 0.4}), "finished"]
    assert published[1]["data"]["run"]["config"] == {"lr": 0.1}


@pytest.mark.parametrize(("exc", "state"), [(ValueError(), "failed"), (KeyboardInterrupt(), "killed")])
def test_lightning_that_fails(published: Published, exc: BaseException, state: str) -> None:
    logger = load("lightning").HooklineLogger(project="digits")
    logger.log_metrics({"loss": 0.5}, step=0)
    try:
        raise exc
    except BaseException:
        logger.finalize("failed")
    assert told(published)[-1] == state


def test_lightning_on_other_ranks(published: Published) -> None:
    sys.modules["lightning_utilities.core.rank_zero"].rank_zero_only.rank = 1
    logger = load("lightning").HooklineLogger(project="digits")
    logger.log_hyperparams({"lr": 0.1})
    logger.log_metrics({"loss": 0.5}, step=0)
    logger.finalize("success")
    assert list(published) == [] and logger.version is None


def test_accelerate(published: Published) -> None:
    tracker = load("accelerate").HooklineTracker(project="digits")
    tracker.store_init_configuration({"lr": 0.1})
    tracker.log({"loss": 0.5}, step=3)
    tracker.log({"loss": 0.4})
    tracker.finish()
    assert told(published) == ["running", (3, {"loss": 0.5}), (4, {"loss": 0.4}), "finished"]
    assert published[1]["data"]["run"]["config"] == {"lr": 0.1}


@pytest.mark.parametrize("name", MODULES)
def test_a_run_that_was_given_stays_open(published: Published, name: str) -> None:
    kind = {"lightning": "HooklineLogger", "accelerate": "HooklineTracker"}.get(name, "HooklineCallback")
    with hookline.run(project="digits") as run:
        one = getattr(load(name), kind)(run=run)
        if name == "transformers":
            state = SimpleNamespace(is_world_process_zero=True, global_step=1)
            one.on_train_begin(Arguments(), state, None)
            one.on_train_end(Arguments(), state, None)
            one.on_log(Arguments(), state, None, logs={"loss": 1})
        elif name == "keras":
            one.on_train_begin()
            one.on_train_end()
            one.on_epoch_end(1, {"loss": 1})
        elif name == "lightning":
            one.finalize("success")
            one.log_metrics({"loss": 1}, step=1)
        else:
            one.finish()
            one.log({"loss": 1}, step=1)
    assert told(published) == ["running", (1, {"loss": 1}), "finished"]


def test_processes_that_only_have_a_local_rank_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from hookline.ranks import is_rank_zero

    monkeypatch.setenv("LOCAL_RANK", "1")
    assert not is_rank_zero()
    monkeypatch.setenv("RANK", "0")
    assert is_rank_zero()
