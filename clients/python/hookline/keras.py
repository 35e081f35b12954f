"""A callback for Keras 3: `model.fit(…, callbacks=[HooklineCallback(project="digits")])`.

An exception has no callback: the run notices it when it ends the program, and then is `failed`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keras.callbacks import Callback

from hookline import runs
from hookline.runs import Run


class HooklineCallback(Callback):  # type: ignore[misc]
    """Publishes a run for each `fit()`, with the metrics of each epoch.

    Takes what `hookline.run` takes. With `run=`, a run that somebody else began, it only logs. `every_batches` also
    publishes the metrics of every so many batches, as `batch.loss` and the like.
    """

    def __init__(
        self,
        project: str | None = None,
        name: str | None = None,
        *,
        run: Run | None = None,
        every_batches: int | None = None,
        **of: Any,
    ) -> None:
        super().__init__()
        self._project, self._name, self._of = project, name, of
        self._given, self._every_batches = run, every_batches
        self._run: Run | None = run
        self._batches = 0

    @property
    def run(self) -> Run | None:
        """The current run; None before the first training."""
        return self._run

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Begin a run, with the optimizer's configuration as its own."""
        optimizer = getattr(self.model, "optimizer", None)
        config = {**self.params, "optimizer": optimizer.get_config() if optimizer is not None else None}
        if self._given is None:
            name = self._name or getattr(self.model, "name", None)
            self._run = runs.run(self._project, name, **{"config": config, **self._of})
        else:
            self._given.update_config(config)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Publish the epoch's metrics; its number is the step, unless the run is beyond it."""
        if self._run is not None:
            self._run.log(logs or {}, step=max(epoch, self._run.step))

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Publish a batch's metrics, of which each has steps of its own."""
        self._batches += 1
        if self._run is not None and self._every_batches and self._batches % self._every_batches == 0:
            self._run.log_at({"batch": logs or {}}, step=self._batches)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """End the run."""
        if self._run is not None and self._given is None:
            self._run.finish()
