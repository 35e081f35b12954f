"""A logger for Lightning: `Trainer(logger=HooklineLogger(project="digits"))`, of `lightning` or `pytorch_lightning`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hookline import runs, values
from hookline.runs import Run

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger
elif "pytorch_lightning" in sys.modules and "lightning.pytorch" not in sys.modules:
    from pytorch_lightning.loggers import Logger
else:
    try:
        from lightning.pytorch.loggers import Logger
    except ImportError:
        from pytorch_lightning.loggers import Logger


class HooklineLogger(Logger):  # type: ignore[misc]
    """Publishes a run from rank zero; it begins with what is logged first and ends with `fit`.

    Takes what `hookline.run` takes. With `run=`, a run that somebody else began, it only logs, also in `test` after
    `fit`; that run is not ended here.
    """

    def __init__(
        self, project: str | None = None, name: str | None = None, *, run: Run | None = None, **of: Any
    ) -> None:
        super().__init__()
        self._project, self._run_name, self._of = project, name, of
        self._given = run
        self._run: Run | None = run
        self._config: dict[str, Any] = {}
        self.is_rank_zero = _rank() == 0

    @property
    def name(self) -> str | None:
        """The project, as Lightning calls it."""
        return self._run.project if self._run is not None else self._project

    @property
    def version(self) -> str | None:
        """The run's id, which Lightning names the checkpoints' folder by."""
        return self._begun().id if self.is_rank_zero else None

    def log_hyperparams(self, params: Any, *_args: Any, **_kwargs: Any) -> None:
        """Make them the run's configuration."""
        if self.is_rank_zero:
            self._config |= values.as_mapping(params)
            self._begun().update_config(self._config)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Publish them."""
        if self.is_rank_zero:
            self._begun().log(metrics, step=step)

    def finalize(self, status: str) -> None:
        """End the run: `finished`, `failed`, or `killed` by Ctrl-C."""
        if self._run is None or self._given is not None or not self.is_rank_zero:
            return
        kind, exc, _ = sys.exc_info()
        self._run.finish("finished" if status == "success" else runs.state_after(kind, exc) if kind else "failed")

    def _begun(self) -> Run:
        if self._run is None:
            self._run = runs.run(self._project, self._run_name, **{"config": self._config, **self._of})
        return self._run


def _rank() -> int:
    """Lightning's own idea of the rank, which knows of processes that Lightning itself started."""
    from lightning_utilities.core.rank_zero import rank_zero_only

    return int(getattr(rank_zero_only, "rank", None) or 0)
