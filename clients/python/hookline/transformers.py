"""A callback for Hugging Face Transformers: `Trainer(callbacks=[HooklineCallback(project="digits")])`.

`report_to` knows a fixed list of names only, so it is given as a callback. No callback hears of an exception: the run
notices it when it ends the program, and is `failed` then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import TrainerCallback

from hookline import runs, values
from hookline.runs import Run


class HooklineCallback(TrainerCallback):  # type: ignore[misc]
    """Publishes a run for each `train()`: metrics by `global_step`, from the main process.

    Takes what `hookline.run` takes. With `run=`, a run that somebody else began, it only logs, also what is evaluated
    after the training; that run is not ended here.
    """

    def __init__(
        self, project: str | None = None, name: str | None = None, *, run: Run | None = None, **of: Any
    ) -> None:
        self._project, self._name, self._members = project, name, of
        self._given = run
        self._run: Run | None = run

    @property
    def run(self) -> Run | None:
        """The current run; None before the first training."""
        return self._run

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_others: Any) -> None:
        """Begin a run, with the arguments and the model's configuration as its own."""
        if not state.is_world_process_zero:
            return
        config = dict(values.as_mapping(args))
        if (of_model := getattr(model, "config", None)) is not None:
            config["model"] = dict(values.as_mapping(of_model))
        if self._given is not None:
            self._given.update_config(config)
            return
        name = self._name or getattr(args, "run_name", None)
        self._run = runs.run(self._project, name, **{"config": config, **self._members})

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **_others: Any
    ) -> None:
        """Publish what is logged."""
        if self._run is not None and state.is_world_process_zero:
            self._run.log(logs or {}, step=state.global_step)

    def on_train_end(self, args: Any, state: Any, control: Any, **_others: Any) -> None:
        """End the run."""
        if self._run is not None and self._given is None and state.is_world_process_zero:
            self._run.finish()
