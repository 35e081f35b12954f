"""Which versions of the `wandb` client are completed: those that this was tried with, as it reaches inside them."""

from __future__ import annotations

from importlib import metadata

TRIED = ("0.29.0", "0.30.0", "0.31.0")


def check() -> None:
    """Raises ImportError, in one sentence, unless one of `TRIED` is installed."""
    try:
        installed = metadata.version("wandb")
    except metadata.PackageNotFoundError:
        raise ImportError(
            f"hookline.wandb completes the wandb client, which is not installed: pip install wandb=={TRIED[-1]}"
        ) from None
    if installed not in TRIED:
        known = f"{', '.join(TRIED[:-1])} and {TRIED[-1]}"
        raise ImportError(
            f"hookline.wandb was tried with wandb {known}, but {installed} is installed: pip install wandb=={TRIED[-1]}"
        )
