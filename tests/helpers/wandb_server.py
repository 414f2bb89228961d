"""W&B servers for tests, on this machine: one that works, and ones that do not."""

import gzip
import json
import os
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

KEY = "0123456789" * 4
ENTITY = {"id": "1", "name": "me"}
# wandb 0.31 does not close the file of values that a sweep's agent has chosen for a run.
leaves_file_open = pytest.mark.filterwarnings(
    "ignore:unclosed file.*config-agentrun.yaml:ResourceWarning",
    "ignore:.*config-agentrun.yaml:pytest.PytestUnraisableExceptionWarning",
)


def isolate_wandb(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Hide this machine's W&B settings, keys and login, and keep W&B's own files below `home`."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "NETRC"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class FakeServer(ThreadingHTTPServer):
    """Answers as much of W&B's protocol as it takes to upload runs, and keeps what was sent.

    History rows and summaries are by run id; `buckets` holds what each start of a run sent about
    it, `trials` the values of the runs of the last sweep that agents are still to start. A server
    that `refuses` answers every request with 401, as to a key that is not known.
    """

    def __init__(self, refuses: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: dict[str, dict[int, dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.buckets, self.views, self.sweeps, self.trials = [], [], [], []
        self.requests, self.refuses = 0, refuses
        self.url = f"http://127.0.0.1:{self.server_port}"  # for WANDB_BASE_URL

    def history(self, run_id: str) -> list[dict[str, Any]]:
        """History rows of a run, in their order."""
        rows = self.rows.get(run_id, {})
        return [rows[line] for line in sorted(rows)]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Connections that a test cuts off are no errors."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *args: Any) -> None:
        pass

    def do_PUT(self) -> None:
        self._body()
        self._answer({})

    def do_POST(self) -> None:
        body = self._body()
        self.server.requests += 1
        if self.server.refuses:
            self._answer({"errors": [{"message": "user is not logged in"}]}, 401)
            return
        if self.path.endswith("file_stream"):
            self._stream(json.loads(body))
        self._answer({"data": self._query(json.loads(body))} if self.path == "/graphql" else {})

    def _body(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, message: dict[str, Any]) -> None:
        run_id = self.path.split("/")[-2]
        files = message.get("files") or {}
        rows = self.server.rows.setdefault(run_id, {})
        for content in files.get("wandb-summary.json", {"content": []})["content"]:
            self.server.summaries[run_id] = json.loads(content)
        chunk = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        rows.update(enumerate(map(json.loads, chunk["content"]), chunk["offset"]))

    def _query(self, query: dict[str, Any]) -> dict[str, Any]:
        variables = query.get("variables") or {}
        name = variables.get("name")
        named = re.search(r"(?:query|mutation)\s+(\w+)", query.get("query", ""))
        match named and named.group(1):
            case "Viewer" | "GetDefaultEntity":
                viewer = {"id": "1", "entity": "me", "username": "me", "email": "me@example.org"}
                return {"viewer": {**viewer, "flags": "{}", "teams": {"edges": []}}}
            case "RunResumeStatus":
                return {"model": self._model(name) if self.server.history(name) else None}
            case "UpsertBucket":
                self.server.buckets.append(variables)
                project = {"id": "1", "name": variables["project"], "entity": ENTITY}
                bucket = {"id": "1", "name": name, "displayName": name, "project": project}
                bucket["historyLineCount"] = len(self.server.history(name))
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                url = self.server.url
                files = [{"name": f, "uploadUrl": f"{url}/{f}"} for f in variables["files"]]
                return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
            case "UpsertView2":
                self.server.views.append(variables)
                return {"upsertView": {"view": {"id": "1", "name": name}, "inserted": True}}
            case "UpsertSweep":
                self.server.sweeps.append(variables)
                project = {"id": "1", "name": variables["projectName"], "entity": ENTITY}
                sweep = {"name": "sweep123", "project": project}
                return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
            case "SweepWithRuns":
                config = self.server.sweeps[-1]["config"]
                return {"project": {"sweep": {"config": config, "runs": {"edges": []}}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "1"}}}
            case "Heartbeat":
                run = {"type": "run", "run_id": "agentrun", "program": "src/train.py"}
                trials = [self.server.trials.pop(0)] if self.server.trials else []
                values = [{key: {"value": trial[key]} for key in trial} for trial in trials]
                commands = json.dumps([run | {"args": args} for args in values])
                return {"agentHeartbeat": {"agent": {"id": "1"}, "commands": commands}}
        return {}

    def _model(self, name: str) -> dict[str, Any]:
        rows = self.server.history(name)
        bucket = {"id": "1", "name": name, "historyLineCount": len(rows)}
        bucket["summaryMetrics"] = json.dumps({**self.server.summaries.get(name, {}), **rows[-1]})
        bucket["historyTail"] = json.dumps([json.dumps(rows[-1])])
        bucket |= {"eventsTail": "[]", "eventsLineCount": 0, "logLineCount": 0}
        bucket |= {"config": "{}", "wandbConfig": json.dumps({"t": 1}), "tags": []}
        return {"id": "1", "name": "project", "entity": ENTITY, "bucket": bucket}


@contextmanager
def wandb_server(refuses: bool = False) -> Iterator[FakeServer]:
    """A running `FakeServer`."""
    with FakeServer(refuses) as server, ThreadPoolExecutor() as pool:
        pool.submit(server.serve_forever, poll_interval=0.01)
        try:
            yield server
        finally:
            server.shutdown()


@contextmanager
def silent_server() -> Iterator[str]:
    """Address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_address() -> str:
    """An address at which nothing listens."""
    with silent_server() as url:
        return url
