"""Completes the real `wandb` client, for scripts about automations that speak to Hookline.

    import hookline.wandb

Or, with no change to a script: `python -m hookline.wandb script.py`. After that the client has what W&B's page on
webhook automations uses and the client itself has not: `api.registry(name, entity=…)`, `registry.collection(name)`,
`automations()` of projects, registries and collections, `save()` and `delete()` of an automation, several metrics
joined by `&`, `OnCreateArtifact` on any scope, `has_access_token` and `secrets` of a webhook.

It is opt-in and holds for the whole process. From then on `wandb.Api` speaks to Hookline alone: any other server is
refused before it is sent a key.

Importing raises ImportError, and changes nothing, where the `wandb` that is installed is none that this was tried with.
"""

from __future__ import annotations

from hookline.wandb import versions

versions.check()

from hookline.wandb.completion import complete  # noqa: E402 the client is imported only if it is one of those

complete()
