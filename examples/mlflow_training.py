"""A training as people write it for MLflow: scikit-learn's digits, metrics by epoch, the best model registered.

Nothing here knows of Hookline. Needs MLflow and scikit-learn, and MLFLOW_TRACKING_URI; `examples.mlflow_demo` starts
it in an environment that has them.
"""

from __future__ import annotations

import warnings

import mlflow
from mlflow import MlflowClient
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

EXPERIMENT = "digits"
MODEL = "digits-classifier"
EPOCHS = 8
GOOD_ENOUGH = 0.9
DIVERGED_LOSS = 5.0


def train(learning_rate: float) -> tuple[str, float]:
    """Train one classifier as a run; the run's id and its last accuracy. Raises FloatingPointError if it diverges."""
    digits = load_digits()
    train_x, val_x, train_y, val_y = train_test_split(
        digits.data / 16.0, digits.target, random_state=7, stratify=digits.target
    )
    with mlflow.start_run(run_name=f"sgd-{learning_rate:g}") as run:
        mlflow.log_params({"learning_rate": learning_rate, "optimizer": "sgd", "epochs": EPOCHS})
        model = SGDClassifier(
            loss="log_loss", learning_rate="constant", eta0=learning_rate, random_state=7, average=False
        )
        accuracy = 0.0
        for epoch in range(EPOCHS):
            model.partial_fit(train_x, train_y, classes=range(10))
            loss = float(log_loss(val_y, model.predict_proba(val_x), labels=range(10)))
            accuracy = float(model.score(val_x, val_y))
            mlflow.log_metrics({"val_loss": loss, "val_accuracy": accuracy}, step=epoch)
            print(f"{run.info.run_name} epoch {epoch}: loss {loss:.3f}, accuracy {accuracy:.3f}", flush=True)
            if loss > DIVERGED_LOSS:
                raise FloatingPointError(f"the loss is {loss:.1f}")
        mlflow.sklearn.log_model(model, name="model")
    return str(run.info.run_id), accuracy


def main() -> None:
    """Two runs: one that learns and whose model is promoted, one that diverges and fails."""
    warnings.simplefilter("ignore")
    mlflow.set_experiment(EXPERIMENT)
    run_id, accuracy = train(0.05)
    client = MlflowClient()
    client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, f"runs:/{run_id}/model", run_id)
    client.set_model_version_tag(MODEL, version.version, "stage", "validated")
    if accuracy >= GOOD_ENOUGH:
        client.set_registered_model_alias(MODEL, "champion", version.version)
        print(f"version {version.version} is the champion", flush=True)
    try:
        train(500.0)
    except FloatingPointError as exc:
        print(f"diverged: {exc}", flush=True)


if __name__ == "__main__":
    main()
