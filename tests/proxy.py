"""A reverse proxy that serves a server below a path."""

import http.client
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit

HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "host"}


@contextmanager
def serve_below(upstream: str, path: str, *, strip: bool) -> Iterator[str]:
    """Yield the URL of a proxy that forwards requests below `path`; as nginx, it sends the Host of the upstream.

    Args:
        strip: Whether the upstream sees the paths without `path`.
    """

    class Handler(BaseHTTPRequestHandler):
        def forward(self) -> None:
            if not (self.path + "/").startswith(f"{path}/"):
                self.send_error(404)
                return
            target = (self.path.removeprefix(path) or "/") if strip else self.path
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP_HEADERS}
            connection = http.client.HTTPConnection(urlsplit(upstream).netloc, timeout=30)
            connection.request(self.command, target, body, headers)
            response = connection.getresponse()
            data = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in HOP_HEADERS | {"date", "server"}:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
            connection.close()

        do_GET = do_POST = do_OPTIONS = forward

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_port}{path}"
        finally:
            proxy.shutdown()
            thread.join()
