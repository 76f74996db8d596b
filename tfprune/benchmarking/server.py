"""The local web server between this process and a page in a browser."""

from __future__ import annotations

import functools
import http.server
import json
import pathlib
import queue
import secrets
import sys
import threading
import urllib.parse
from collections.abc import Sequence
from typing import Any

_HERE = pathlib.Path(__file__).parent
_TYPES = {".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html"}
_POLL = 10.0  # seconds after which a page that waits is told to ask again
_BEAT = 0.3  # seconds between signs of life
GONE = "gone"


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that the browser drops when it ends."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class LocalServer:
    """Serves the pages of this folder and LiteRT.js to this machine, under a path of its own.

    It listens on this machine only, and nobody else knows the path.

    Args:
        packages: the `node_modules` folder.
        page: name of the page to open.
        handler: of requests; it answers for what is no file.
        port: to listen at; 0 for one that is free.

    Raises:
        OSError: the port is taken, or not allowed.
    """

    def __init__(
        self, packages: pathlib.Path, page: str, handler: type[Handler], port: int = 0
    ) -> None:
        self.packages, self.page = packages, page
        self.stopped = threading.Event()
        self.token = secrets.token_urlsafe(12)
        self._server = _Server(("127.0.0.1", port), functools.partial(handler, self))
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/{self.token}/{self.page}"

    def close(self) -> None:
        """Stop serving."""
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one request: `get` and `post` say with what, and files are served otherwise."""

    protocol_version = "HTTP/1.1"

    def __init__(self, server: Any, *arguments: Any):
        self.page = server
        super().__init__(*arguments)

    def get(self, path: str) -> bool:
        """Answer a request that is not for a file; tell whether it was one."""
        del path
        return False

    def post(self, path: str, body: bytes) -> bool:
        """Take what the page has found; tell whether it was expected."""
        del path, body
        return False

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing: the default prints every request."""

    def do_GET(self) -> None:
        """Answer what the page asks for."""
        path = self._path()
        if not self.get(path):
            self._file(path)

    def do_POST(self) -> None:
        """Take what the page has found."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.post(self._path(), body):
            self.send_error(404)

    def send(self, body: bytes, kind: str = "application/octet-stream") -> None:
        """Send a whole answer."""
        self.send_response(200)
        self.isolate(kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def send_json(self, value: Any) -> None:
        """Send an answer as JSON."""
        self.send(json.dumps(value).encode(), "application/json")

    def isolate(self, kind: str) -> None:
        """Isolate the page: its clock is then fine (5 us, not 100), and threads are allowed."""
        self.send_header("Content-Type", kind)
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")

    def _path(self) -> str:
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        start = f"/{self.page.token}/"
        return path.removeprefix(start) if path.startswith(start) else ""

    def _file(self, path: str) -> None:
        root = self.page.packages if path.startswith("node_modules/") else _HERE
        file = root / path.removeprefix("node_modules/")
        inside = file.resolve().is_relative_to(root.resolve())
        if not path or not inside or file.suffix not in _TYPES or not file.is_file():
            self.send_error(404)
            return
        self.send(file.read_bytes(), _TYPES[file.suffix])


class PageServer(LocalServer):
    """Serves one file and its inputs to the page that measures it; carries questions and answers.

    Args:
        packages: the `node_modules` folder.
        model: bytes of the file.
        inputs: bytes of each input.
    """

    def __init__(self, packages: pathlib.Path, model: bytes, inputs: Sequence[bytes]):
        self.model, self.inputs = model, inputs
        self.asks: queue.Queue[dict[str, Any]] = queue.Queue()
        self.answers: queue.Queue[Any] = queue.Queue()
        self.outputs: dict[int, bytes] = {}
        super().__init__(packages, "page.html", _Messenger)


class _Messenger(Handler):
    page: PageServer

    def get(self, path: str) -> bool:
        """Answer with the file, an input, or the next thing to do."""
        if path == "next":
            self._next()
        elif path == "alive":
            self._alive()
        elif path == "model":
            self.send(self.page.model)
        elif path.startswith("input/"):
            self.send(self.page.inputs[int(path.removeprefix("input/"))])
        else:
            return False
        return True

    def post(self, path: str, body: bytes) -> bool:
        """Take an answer or an output."""
        if path == "answer":
            self.page.answers.put(json.loads(body))
        elif path.startswith("output/"):
            self.page.outputs[int(path.removeprefix("output/"))] = body
        else:
            return False
        self.send(b"")
        return True

    def _next(self) -> None:
        try:
            ask = self.page.asks.get(timeout=_POLL)
        except queue.Empty:
            ask = {"do": "wait"}
        self.send_json(ask)

    def _alive(self) -> None:
        self.send_response(200)
        self.isolate("text/event-stream")
        self.end_headers()
        self.close_connection = True
        try:
            while not self.page.stopped.wait(_BEAT):
                self.wfile.write(b":\n\n")
                self.wfile.flush()
        except OSError:
            self.page.answers.put(GONE)
