"""CloudEvents' own packages, under build/cloud-events/. `python -m tests.cloud_events.environments` makes them."""

from __future__ import annotations

from tests.package_environments import BUILD, Environments

NEW = Environments(BUILD / "cloud-events", ["cloudevents==2.2.0"], {"cloudevents": "10.0.0"})
OLD = Environments(BUILD / "cloud-events-1", ["cloudevents==1.13.0"], {})
"""The first major version, which most programs have."""

if __name__ == "__main__":
    NEW.make()
    if not OLD.has_python():
        OLD.make()
