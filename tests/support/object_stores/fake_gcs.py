"""Google Cloud Storage on loopback, as far as a lake needs its XML interface.

No package has an emulator of this interface with the conditions of writes.
"""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class _Handler(BaseHTTPRequestHandler):
    """Answers about the objects of one bucket; each has a generation, which is its version."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else an answer waits 40 ms between its head and its content
    objects: dict[str, tuple[int, bytes, dict[str, str]]]
    generations: Iterator[int]
    lock: Lock

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        _, _, key = unquote(address.path).lstrip("/").partition("/")
        if not key:
            self._list(parse_qs(address.query))
            return
        found = self.objects.get(key)
        if found is None:
            self._answer(404)
            return
        generation, content, metadata = found
        if self.headers.get("If-Match", f'"{generation}"') != f'"{generation}"':
            self._answer(412)
            return
        first, last, status, extra = 0, len(content) - 1, 200, {}
        if wanted := self.headers.get("Range"):
            ends = wanted.removeprefix("bytes=").split("-")
            first, last, status = int(ends[0]), min(int(ends[1]), last), 206
            extra["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._answer(status, content[first : last + 1], generation, metadata | extra)

    do_HEAD = do_GET  # noqa: N815  # the name in the base class

    def do_PUT(self) -> None:
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        content = self.rfile.read(int(self.headers["Content-Length"]))
        wanted = self.headers.get("x-goog-if-generation-match")
        with self.lock:
            present = self.objects[key][0] if key in self.objects else 0
            if wanted is not None and int(wanted) != present:
                self._answer(412)
                return
            generation = next(self.generations)
            metadata = {k: v for k, v in self.headers.items() if k.startswith("x-goog-meta-")}
            self.objects[key] = generation, content, metadata
        self._answer(200, b"", generation)

    def do_DELETE(self) -> None:
        key = unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]
        self._answer(204 if self.objects.pop(key, None) else 404)

    def _list(self, query: dict[str, list[str]]) -> None:
        prefix, is_deep = query["prefix"][0], "delimiter" not in query
        lines, folders = [], set()
        for key, (generation, content, _) in sorted(self.objects.items()):
            rest = key.removeprefix(prefix)
            if rest == key:
                continue
            if "/" in rest and not is_deep:
                folders.add(prefix + rest.split("/")[0] + "/")
                continue
            lines.append(
                f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{generation}&quot;</ETag>"
                f"<Size>{len(content)}</Size><LastModified>2026-01-01T00:00:00Z</LastModified>"
                "</Contents>"
            )
        lines += [f"<CommonPrefixes><Prefix>{p}</Prefix></CommonPrefixes>" for p in sorted(folders)]
        answer = f"<ListBucketResult>{''.join(lines)}</ListBucketResult>"
        self._answer(200, answer.encode())

    def _answer(
        self,
        status: int,
        content: bytes = b"",
        generation: int = 0,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        if generation:
            self.send_header("ETag", f'"{generation}"')
            self.send_header("x-goog-generation", str(generation))
            self.send_header("Last-Modified", formatdate(usegmt=True))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def running_gcs() -> Iterator[str]:
    """Run a store with one bucket; the service account (JSON) that leads to it."""
    state = {"objects": {}, "generations": itertools.count(1), "lock": Lock()}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), state)) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        account = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield json.dumps(account | {"gcs_base_url": address, "disable_oauth": True})
        finally:
            server.shutdown()
            thread.join()
