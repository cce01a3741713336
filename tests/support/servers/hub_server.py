"""A hub on loopback, and code run against it in a fresh interpreter."""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.limits import HANG_S

COMMIT = "c" * 40


@contextmanager
def running_hub(files: dict[str, bytes]) -> Iterator[str]:
    """Serve `files` (path -> content) the way the real hub does; yields the address.

    Queries behind the path are ignored.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, with_body: bool) -> None:
            content = files.get(self.path.partition("?")[0])
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "RepoNotFound")
            named = re.search("/resolve/([0-9a-f]{40})/", self.path)
            self.send_header("X-Repo-Commit", named[1] if named else COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(content or b"").hexdigest()}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if with_body and content is not None:
                self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def repository_pages(name: str, commit: str, folder: Path) -> dict[str, bytes]:
    """The pages of a repository whose newest commit has the files of a folder."""
    files = sorted(folder.iterdir())
    tree = [
        {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": commit}
        for file in files
    ]
    siblings = [{"rfilename": file["path"], "size": file["size"]} for file in tree]
    about = json.dumps({"id": name, "sha": commit, "siblings": siblings}).encode()
    api = f"/api/models/{name}"
    return {
        **{f"/{name}/resolve/{commit}/{file.name}": file.read_bytes() for file in files},
        **dict.fromkeys((api, f"{api}/revision/main", f"{api}/revision/{commit}"), about),
        # Newer clients list the files from the tree.
        f"{api}/tree/{commit}": json.dumps(tree).encode(),
    }


def run_against(endpoint: str, cache: Path, code: str) -> str:
    """Output of `code` in a fresh interpreter: the hub's client reads its address at import."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(cache),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
