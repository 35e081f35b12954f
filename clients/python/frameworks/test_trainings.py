"""The callbacks in real trainings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hookline
from hookline.testing import Published, recorded

os.environ |= {"KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1"}
torch: Any = pytest.importorskip("torch")


@pytest.fixture
def published() -> Iterator[Published]:
    with recorded() as published:
        yield published


def told(published: Published) -> list[Any]:
    """The states, and the names of the metrics at each step."""
    return [
        event["data"].get("state") or (event["data"]["step"], sorted(event["data"]["metrics"])) for event in published
    ]


def test_transformers_trainer(published: Published, tmp_path: Path) -> None:
    from transformers import Trainer, TrainingArguments

    from hookline.transformers import HooklineCallback

    class Model(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def forward(self, x: Any, labels: Any) -> dict[str, Any]:
            return {"loss": ((self.layer(x).squeeze(-1) - labels) ** 2).mean(), "logits": self.layer(x)}

    data = [{"x": torch.tensor([float(n), 1.0]), "labels": torch.tensor(float(n))} for n in range(8)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=3, logging_steps=1, report_to=[], use_cpu=True, save_strategy="no"
    )
    callback = HooklineCallback(project="digits", name="first")
    Trainer(model=Model(), args=arguments, train_dataset=data, callbacks=[callback]).train()
    found = told(published)
    assert found[0] == "running" and found[-1] == "finished"
    assert [step for step, names in found[1:-1] if "loss" in names] == [1, 2, 3]
    config = published[0]["data"]["run"]["config"]
    assert config["max_steps"] == 3 and "hub_token" not in config


@pytest.mark.parametrize("fails", [False, True])
def test_lightning_trainer(published: Published, tmp_path: Path, fails: bool) -> None:
    import lightning

    from hookline.lightning import HooklineLogger

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, lr: float) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, number: int) -> Any:
            if fails and number == 2:
                raise ValueError("no data")
            loss = self.layer(batch).mean() ** 2
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=self.hparams.lr)

    trainer = lightning.Trainer(
        max_epochs=1,
        logger=HooklineLogger(project="digits"),
        accelerator="cpu",
        log_every_n_steps=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    data = torch.utils.data.DataLoader(torch.ones(4, 2))
    if fails:
        with pytest.raises(ValueError, match="no data"):
            trainer.fit(Module(0.1), data)
    else:
        trainer.fit(Module(0.1), data)
    found = told(published)
    assert found[0] == "running" and found[-1] == ("failed" if fails else "finished")
    assert [step for step, names in found[1:-1] if "loss" in names] == list(range(2 if fails else 4))
    assert published[1]["data"]["run"]["config"]["lr"] == 0.1


def test_accelerate(published: Published) -> None:
    import accelerate

    from hookline.accelerate import HooklineTracker

    accelerator = accelerate.Accelerator(cpu=True, log_with=[HooklineTracker(project="digits")])
    accelerator.init_trackers("ignored", config={"lr": 0.1})
    accelerator.log({"loss": torch.tensor(0.5)}, step=0)
    accelerator.log({"loss": 0.4}, step=1)
    accelerator.end_training()
    assert told(published) == ["running", (0, ["loss"]), (1, ["loss"]), "finished"]
    assert published[1]["data"]["run"]["config"] == {"lr": 0.1}


def test_keras_fit(published: Published) -> None:
    import keras
    import numpy

    from hookline.keras import HooklineCallback

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(optimizer="sgd", loss="mse", metrics=["mae"])
    x, y = numpy.ones((8, 2)), numpy.ones((8, 1))
    callback = HooklineCallback(project="digits", every_batches=2)
    model.fit(x, y, epochs=2, batch_size=2, verbose=0, validation_data=(x, y), callbacks=[callback])
    found = told(published)
    assert found[0] == "running" and found[-1] == "finished"
    assert [step for step, names in found[1:-1] if "val_loss" in names] == [0, 1]
    assert [step for step, names in found[1:-1] if "batch.loss" in names] == [2, 4, 6, 8]
    assert published[0]["data"]["run"]["config"]["optimizer"]["learning_rate"] == pytest.approx(0.01)


def test_scikit_learn_by_the_run(published: Published) -> None:
    from sklearn.datasets import load_digits
    from sklearn.linear_model import SGDClassifier

    x, y = load_digits(return_X_y=True)
    model = SGDClassifier(alpha=0.001, random_state=0)
    with hookline.run(project="digits", config=model.get_params()) as run:
        for _ in range(3):
            model.partial_fit(x, y, classes=range(10))
            run.log({"accuracy": model.score(x, y)})
    assert told(published) == ["running", (0, ["accuracy"]), (1, ["accuracy"]), (2, ["accuracy"]), "finished"]
    assert published[0]["data"]["run"]["config"]["alpha"] == 0.001


PROGRAM = """
import sys
from transformers import Trainer, TrainingArguments
from hookline.transformers import HooklineCallback
from hookline.testing import recorded
import atexit, torch

recording = recorded()
published = recording.__enter__()
atexit.register(lambda: print([event["data"]["state"] for event in published.of_type("RUN_STATE")]))

class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def forward(self, x):
        raise ValueError("no data")

arguments = TrainingArguments(output_dir=sys.argv[1], max_steps=3, report_to=[], use_cpu=True)
data = [{"x": torch.ones(1)}]
Trainer(model=Model(), args=arguments, train_dataset=data, callbacks=[HooklineCallback(project="digits")]).train()
"""


def test_a_transformers_training_that_raises_is_failed_at_the_program_s_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert "ValueError: no data" in done.stderr and done.stdout.endswith("['running', 'failed']\n"), done.stdout
