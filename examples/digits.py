"""Trains small neural networks on scikit-learn's digits: real curves for the recorded run, from real causes.

Three learning rates: one that learns, one so high that the loss spikes and the network unlearns, one that
diverges at once. Nothing here knows of events; `examples.record_training` turns what this yields into them. Needs
scikit-learn, which the development install leaves out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import log_loss, recall_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

SEED = 7
STEPS = 180
BATCH_SIZE = 64
HIDDEN_UNITS = 48
MOMENTUM = 0.9
CLASSES = np.arange(10)
DIVERGED_LOSS = 5.0
PATIENCE_STEPS = 24


@dataclass(frozen=True, slots=True)
class Step:
    """One training step: its number from 0, what was measured, and recall for each digit on the validation set."""

    number: int
    metrics: dict[str, float]
    recall: dict[str, float]


@dataclass(frozen=True, slots=True)
class Digits:
    """The images (one row of 64 intensities from 0 to 1 each) and their digits, split for training and validation."""

    train_x: Any
    train_y: Any
    val_x: Any
    val_y: Any


def load() -> Digits:
    """The digits data that ships with scikit-learn: 1,437 images to train on, 360 to validate with."""
    images, labels = load_digits(return_X_y=True)
    train_x, val_x, train_y, val_y = train_test_split(
        images / 16.0, labels, test_size=360, random_state=SEED, stratify=labels
    )
    return Digits(train_x, train_y, val_x, val_y)


def train(digits: Digits, learning_rate: float) -> Iterator[Step]:
    """Yields each step of one training run, until `STEPS` or until the run has diverged.

    A run has diverged when its validation loss was above `DIVERGED_LOSS` for `PATIENCE_STEPS` steps in a row.
    """
    batches = np.random.default_rng(SEED)
    model = MLPClassifier(
        (HIDDEN_UNITS,),
        solver="sgd",
        learning_rate_init=learning_rate,
        momentum=MOMENTUM,
        batch_size=BATCH_SIZE,
        random_state=11,
    )
    weights, bad_steps = None, 0
    for number in range(STEPS):
        rows = batches.choice(len(digits.train_x), BATCH_SIZE, replace=False)
        model.partial_fit(digits.train_x[rows], digits.train_y[rows], classes=CLASSES)
        before, weights = weights, _flat_weights(model)
        step = _measure(number, model, digits, _distance(before, weights))
        yield step
        bad_steps = bad_steps + 1 if step.metrics["val_loss"] > DIVERGED_LOSS else 0
        if bad_steps == PATIENCE_STEPS:
            return


def _flat_weights(model: Any) -> Any:
    return np.concatenate([layer.ravel() for layer in model.coefs_])


def _distance(before: Any, after: Any) -> float:
    """How far the step moved the weights; undefined on the first step, which has nothing before it."""
    return math.nan if before is None else float(np.linalg.norm(after - before))


def _measure(number: int, model: Any, digits: Digits, update_norm: float) -> Step:
    probabilities = model.predict_proba(digits.val_x)
    predicted = CLASSES[probabilities.argmax(axis=1)]
    metrics = {
        "train_loss": float(model.loss_),
        "val_loss": float(log_loss(digits.val_y, probabilities, labels=CLASSES)),
        "val_accuracy": float((predicted == digits.val_y).mean()),
        "update_norm": update_norm,
    }
    recall = recall_score(digits.val_y, predicted, labels=CLASSES, average=None, zero_division=0.0)
    return Step(number, metrics, {str(digit): round(float(recall[digit]), 4) for digit in CLASSES})
