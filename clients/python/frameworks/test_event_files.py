"""Event files of real writers, read as TensorBoard itself reads them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hookline.follow.follower import Follower
from hookline.testing import Published, recorded

tensorboard = pytest.importorskip("tensorboard")
numpy: Any = pytest.importorskip("numpy")


@pytest.fixture
def published() -> Iterator[Published]:
    with recorded() as published:
        yield published


def torch_writer(folder: Path) -> Any:
    pytest.importorskip("torch")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder))


def tensorboardx_writer(folder: Path) -> Any:
    return pytest.importorskip("tensorboardX").SummaryWriter(str(folder))


@pytest.mark.parametrize("writer", [torch_writer, tensorboardx_writer])
def test_scalars_are_followed_while_they_are_written(published: Published, tmp_path: Path, writer: Any) -> None:
    follower = Follower([tmp_path], since="start", project="digits")
    opened = writer(tmp_path / "first")
    for step in range(10):
        opened.add_scalar("loss", 1 / (step + 1), step)
        opened.add_scalar("val/acc", step, step)
        opened.add_histogram("weights", numpy.arange(100), step)
        opened.add_text("note", "text", step)
        if step == 4:
            opened.flush()
            until = time.monotonic() + 60  # one of the writers flushes from a thread of its own
            while len(published.of_type("RUN_METRIC")) < 10 and time.monotonic() < until:
                follower.look(thoroughly=True)
                time.sleep(0.05)
            assert len(published.of_type("RUN_METRIC")) == 10
    opened.close()
    follower.look()
    found = [(event["data"]["step"], event["data"]["metrics"]) for event in published.of_type("RUN_METRIC")]
    assert [step for step, metrics in found if "loss" in metrics] == list(range(10))
    assert found == _by_tensorboard(next((tmp_path / "first").iterdir()))
    assert {event["data"]["run"]["id"] for event in published} == {"first"}


def test_scalars_as_tensorflow_2_writes_them(published: Published, tmp_path: Path) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.plugins.scalar.metadata import create_summary_metadata
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(tmp_path))
    for step in range(3):
        event = Event(step=step)
        value = event.summary.value.add(tag="loss", tensor=make_tensor_proto(step / 2, dtype="float32"))
        value.metadata.CopyFrom(create_summary_metadata("loss", ""))
        writer.add_event(event)
    writer.close()
    Follower([tmp_path], since="start", project="digits").look()
    assert [event["data"]["metrics"] for event in published.of_type("RUN_METRIC")] == [
        {"loss": 0},
        {"loss": 0.5},
        {"loss": 1},
    ]


def _by_tensorboard(path: Path) -> list[tuple[int, dict[str, float]]]:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for raw in RawEventFileLoader(str(path)).Load():
        event = Event.FromString(raw)
        metrics = {one.tag: one.simple_value for one in event.summary.value if one.HasField("simple_value")}
        if metrics:
            found.append((event.step, metrics))
    return found
