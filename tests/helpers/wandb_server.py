"""W&B servers for tests, on this machine: one that works, and ones that do not."""

import gzip
import json
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

KEY = "0123456789" * 4
# wandb 0.31 does not close the file of values that a sweep's agent has chosen for a run.
leaves_file_open = pytest.mark.filterwarnings(
    "ignore:unclosed file.*config-agentrun.yaml:ResourceWarning",
    "ignore:.*config-agentrun.yaml:pytest.PytestUnraisableExceptionWarning",
)


def isolate_wandb(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Hide this machine's W&B settings, keys and login, and keep W&B's own files below `home`."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(home / name.lower()))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(home / "netrc"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


class FakeServer(ThreadingHTTPServer):
    """Answers as much of W&B's protocol as it takes to upload runs, and keeps their history.

    Attributes:
        rows: of the history of each run, by run id, in the order of the server.
        summaries: of each run, by run id.
        buckets: what each start of a run sent about it (`name`, `project`, `groupName`, ...).
        views: the workspaces that were saved, as sent.
        sweeps: the sweeps that were started, as sent.
        trials: values of the runs of the last sweep that agents are still to start.
        requests: number of requests so far.
        refuses: answer every request with 401, as to a key that is not known.
    """

    def __init__(self, refuses: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.rows: dict[str, dict[int, dict[str, Any]]] = {}
        self.summaries: dict[str, dict[str, Any]] = {}
        self.buckets: list[dict[str, Any]] = []
        self.views: list[dict[str, Any]] = []
        self.sweeps: list[dict[str, Any]] = []
        self.trials: list[dict[str, Any]] = []
        self.requests = 0
        self.refuses = refuses

    @property
    def url(self) -> str:
        """Address of the server, for WANDB_BASE_URL."""
        return f"http://127.0.0.1:{self.server_port}"

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
        elif self.path == "/graphql":
            self._answer({"data": self._query(json.loads(body))})
        else:
            if self.path.endswith("file_stream"):
                self._stream(json.loads(body))
            self._answer({})

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
        operation = named and named.group(1)
        match operation:
            case "Viewer" | "GetDefaultEntity":
                viewer = {"id": "1", "entity": "me", "username": "me", "email": "me@example.org"}
                return {"viewer": {**viewer, "flags": "{}", "teams": {"edges": []}}}
            case "RunResumeStatus":
                return {"model": self._model(name) if self.server.history(name) else None}
            case "UpsertBucket":
                self.server.buckets.append(variables)
                entity = {"id": "1", "name": "me"}
                project = {"id": "1", "name": variables["project"], "entity": entity}
                bucket = {"id": "1", "name": name, "displayName": name, "project": project}
                bucket["historyLineCount"] = len(self.server.history(name))
                return {"upsertBucket": {"bucket": bucket, "inserted": True}}
            case "CreateRunFiles":
                files = [
                    {"name": f, "uploadUrl": f"{self.server.url}/{f}"} for f in variables["files"]
                ]
                return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
            case "UpsertView2":
                self.server.views.append(variables)
                return {"upsertView": {"view": {"id": "1", "name": name}, "inserted": True}}
        return self._sweep_query(operation, variables)

    def _sweep_query(self, operation: str | None, variables: dict[str, Any]) -> dict[str, Any]:
        match operation:
            case "UpsertSweep":
                self.server.sweeps.append(variables)
                entity = {"id": "1", "name": "me"}
                project = {"id": "1", "name": variables["projectName"], "entity": entity}
                sweep = {"name": "sweep123", "project": project}
                return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}
            case "SweepWithRuns":
                config = self.server.sweeps[-1]["config"]
                return {"project": {"sweep": {"config": config, "runs": {"edges": []}}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": "1"}}}
            case "Heartbeat":
                return {"agentHeartbeat": {"agent": {"id": "1"}, "commands": self._commands()}}
        return {}

    def _commands(self) -> str:
        if not self.server.trials:
            return "[]"
        values = {key: {"value": value} for key, value in self.server.trials.pop(0).items()}
        run = {"type": "run", "run_id": "agentrun", "program": "src/train.py", "args": values}
        return json.dumps([run])

    def _model(self, name: str) -> dict[str, Any]:
        rows = self.server.history(name)
        bucket = {
            "id": "1",
            "name": name,
            "summaryMetrics": json.dumps({**self.server.summaries.get(name, {}), **rows[-1]}),
            "historyTail": json.dumps([json.dumps(rows[-1])]),
            "historyLineCount": len(rows),
            "eventsTail": "[]",
            "eventsLineCount": 0,
            "logLineCount": 0,
            "config": "{}",
            "wandbConfig": json.dumps({"t": 1}),
            "tags": [],
        }
        return {"id": "1", "name": "project", "entity": {"id": "1", "name": "me"}, "bucket": bucket}


@contextmanager
def wandb_server(refuses: bool = False) -> Iterator[FakeServer]:
    """A running `FakeServer`."""
    with FakeServer(refuses) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def silent_server() -> Iterator[str]:
    """Address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def closed_address() -> str:
    """An address at which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"
