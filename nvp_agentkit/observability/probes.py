"""``/live``, ``/ready``, ``/metrics`` by HTTP, answered by a thread of its own, also while the event loop is stuck."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from nvp_agentkit.errors import PortTaken
from nvp_agentkit.observability.pulse import Pulse

REQUEST_S = 5.0  # nobody keeps a thread busy longer by sending slowly


@contextmanager
def answering(host: str, port: int, pulse: Pulse, registry: CollectorRegistry) -> Iterator[int]:
    """Answer at that port (0: any) inside the block; yields which it is.

    Raises:
        PortTaken: it cannot be had.
    """

    try:
        server = ThreadingHTTPServer((host, port), _answers(pulse, registry))
    except OSError as error:
        raise PortTaken(
            f"{host}:{port} for /live, /ready and /metrics: {error.strerror}; change NVP_METRICS_PORT"
        ) from error
    server.daemon_threads, server.block_on_close = True, False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="probes", daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answers(pulse: Pulse, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Answer(BaseHTTPRequestHandler):
        timeout = REQUEST_S

        def do_GET(self) -> None:
            match self.path.partition("?")[0]:
                case "/live":
                    self._probe(pulse.why_not_live)
                case "/ready":
                    self._probe(pulse.why_not_ready)
                case "/metrics":
                    encode, kind = choose_encoder(self.headers.get("Accept", ""))
                    self._say(200, kind, encode(registry))
                case _:
                    self._say(404, "text/plain", b"there are /live, /ready and /metrics\n")

        def _probe(self, why_not: Callable[[], str]) -> None:
            reason = why_not()
            self._say(503 if reason else 200, "text/plain", f"{reason or 'ok'}\n".encode())

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """A line for each probe would be all that the log has."""

    return Answer
