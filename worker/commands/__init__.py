"""The operators' commands in Celery's own CLI: `celery -A worker automations …`, and the groups that join it.

A group is one module here, named like the group: a click group made with `output.operators_group`, and one line under
`[project.entry-points."celery.commands"]` in pyproject.toml; so join deliveries, webhooks, secrets and streams.
Celery imports every such module at the start of every `celery` process: also of one that has nothing to do with
Hookline, and of a worker before it has said how its metrics are shared, which must happen before prometheus_client is
imported. So a group's module imports click, `worker.commands.output` and `worker.commands.completion` only, and its
commands import the module that does their work when they run.

A command works in the operator's process on the database and the streams that the environment names; no worker needs to
run. It prints results on standard output, as text or with `--json`, and faults on standard error, one line each. It
ends with 0, with 1 where a question was answered with no, and with 2 when nothing could be done.
"""
