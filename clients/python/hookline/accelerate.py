"""A tracker for Accelerate: `Accelerator(log_with=[HooklineTracker(project="digits")])`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from accelerate.tracking import GeneralTracker, on_main_process

from hookline import runs
from hookline.runs import Run


class HooklineTracker(GeneralTracker):  # type: ignore[misc]
    """Publishes a run from the main process; `accelerator.end_training()` ends it.

    Takes what `hookline.run` takes. With `run=`, a run that somebody else began, it only logs; that run is not ended
    here.
    """

    name = "hookline"
    requires_logging_directory = False
    main_process_only = True

    def __init__(
        self, project: str | None = None, run_name: str | None = None, *, run: Run | None = None, **of: Any
    ) -> None:
        super().__init__()
        self._project, self._run_name, self._of = project, run_name, of
        self._given = run
        self._run: Run | None = run

    @property
    def tracker(self) -> Run | None:
        """The run; None before it began."""
        return self._run

    @on_main_process  # type: ignore[misc, untyped-decorator, unused-ignore]
    def start(self) -> None:
        """Begin the run; by `accelerator.init_trackers`."""
        self._begun()

    @on_main_process  # type: ignore[misc, untyped-decorator, unused-ignore]
    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Make it the run's configuration."""
        self._begun().update_config(values)

    @on_main_process  # type: ignore[misc, untyped-decorator, unused-ignore]
    def log(self, values: Mapping[str, Any], step: int | None = None, **_others: Any) -> None:
        """Publish metrics."""
        self._begun().log(values, step=step)

    @on_main_process  # type: ignore[misc, untyped-decorator, unused-ignore]
    def finish(self) -> None:
        """End the run: `finished`, or by the exception that is on its way."""
        if self._run is not None and self._given is None:
            kind, exc, _ = sys.exc_info()
            self._run.finish(runs.state_after(kind, exc))

    def _begun(self) -> Run:
        if self._run is None:
            self._run = runs.run(self._project, self._run_name, **self._of)
        return self._run
