"""What the plugin adds to MLflow's `log_batch`: stock and recorded calls in turn, in one process, as a ratio.

    python log_batch.py [--database-url postgresql+psycopg2://…] [--rounds 2000] [--metrics 20]

Each call logs one step. Both stores have a database of their own, of the same kind. Hookline is a stand-in that takes
everything, and the relay runs in this process, as it does in a server with one worker. `--relay off` leaves it out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Taker(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"accepted": len(json.loads(body))}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments: object) -> None:
        pass


def _databases(url: str | None, folder: str) -> tuple[str, str]:
    if url is None:
        return f"sqlite:///{folder}/stock.db", f"sqlite:///{folder}/recorded.db"
    import sqlalchemy as sa

    names = [f"cost_{kind}_{os.getpid()}" for kind in ("stock", "recorded")]
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in names:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))  # names of ours
    engine.dispose()
    made = [sa.make_url(url).set(database=name).render_as_string(hide_password=False) for name in names]
    return made[0], made[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database-url")
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--metrics", type=int, default=20)
    parser.add_argument("--relay", choices=("on", "off"), default="on")
    arguments = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Taker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ |= {
        "HOOKLINE_URL": f"http://127.0.0.1:{server.server_port}",
        "HOOKLINE_API_KEY": "a-key-of-the-benchmark",
        "HOOKLINE_ENTITY": "acme",
        "HOOKLINE_MLFLOW_RELAY": arguments.relay,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    from mlflow.entities import Metric, Param
    from mlflow.tracking._tracking_service import utils

    from hookline_mlflow.stores import tracking_store

    with tempfile.TemporaryDirectory(prefix="hookline-cost-") as folder:
        stock_url, recorded_url = _databases(arguments.database_url, folder)
        stores: dict[str, Any] = {
            "stock": utils._get_sqlalchemy_store(stock_url, folder),
            "recorded": tracking_store(recorded_url, folder),
        }
        calls: dict[str, Callable[[int], None]] = {}
        for name, store in stores.items():
            run = store.create_run(store.create_experiment("cost"), "me", 1, [], "cost")
            store.log_batch(run.info.run_id, [], [Param(f"p{number}", "1") for number in range(20)], [])

            def call(step: int, store: Any = store, run_id: str = run.info.run_id) -> None:
                metrics = [Metric(f"m{number}", 0.5, 1_000 + step, step) for number in range(arguments.metrics)]
                store.log_batch(run_id, metrics, [], [])

            calls[name] = call
        wall: dict[str, list[float]] = {name: [] for name in calls}
        cpu: dict[str, list[float]] = {name: [] for name in calls}
        for step in range(arguments.rounds + 50):
            for name in sorted(calls, reverse=bool(step % 2)):
                began, began_cpu = time.perf_counter(), time.thread_time()
                calls[name](step)
                if step >= 50:
                    wall[name].append(time.perf_counter() - began)
                    cpu[name].append(time.thread_time() - began_cpu)
        for label, found in (("wall", wall), ("CPU of the request", cpu)):
            middle = {name: statistics.median(times) * 1000 for name, times in found.items()}
            mean = {name: statistics.fmean(times) * 1000 for name, times in found.items()}
            print(
                f"{label}: stock {middle['stock']:.2f} ms, recorded {middle['recorded']:.2f} ms, "
                f"ratio of medians {middle['recorded'] / middle['stock']:.3f}, "
                f"of means {mean['recorded'] / mean['stock']:.3f}"
            )


if __name__ == "__main__":
    main()
