"""A plugin of MLflow's server, and of its client, that publishes to Hookline what happens to runs and models.

It is inert unless HOOKLINE_URL is set. What it writes it writes in MLflow's own transactions; see `recorder`.
"""

from hookline_mlflow.version import __version__ as __version__
