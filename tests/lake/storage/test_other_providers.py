"""Lakes in Azure and in Google Cloud Storage: written, read and published."""

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from prunelake.analysis.analyse import analyse
from prunelake.lake import read
from prunelake.lake.commit import write_run
from prunelake.lake.publish import is_current, publish
from prunelake.lake.sql import views
from prunelake.lake.storage import stores
from prunelake.lake.storage.objects import ObjectPath
from tests.support.limits import HANG_S
from tests.support.object_stores.fake_gcs import running_gcs
from tests.support.object_stores.large_objects import check_flipped_bits
from tests.support.runs.lake_rows import identity_of, small_run

AZURITE = shutil.which("azurite-blob")
"""Azure's emulator: `npm install --global azurite`."""

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account that every emulator of Azure has, and its published key."""


@pytest.fixture
def container(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectPath]:
    """A lake in a new container of Azure's emulator."""
    if AZURITE is None:
        pytest.skip("needs azurite-blob")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--inMemoryPersistence", "--blobPort", str(port), "--silent", "--disableTelemetry"]
    command = [AZURITE, *options, "--skipApiVersionCheck"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as emulator:
        try:
            until = time.monotonic() + HANG_S
            while True:
                try:
                    create_container(f"http://127.0.0.1:{port}", "lakes")
                    break
                except OSError:
                    assert time.monotonic() < until
                    time.sleep(0.1)
            monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
            monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", f"http://127.0.0.1:{port}")
            stores.store_for_process.cache_clear()
            yield ObjectPath("az", "lakes", "team/lake")
        finally:
            stores.store_for_process.cache_clear()
            emulator.terminate()


def create_container(address: str, name: str) -> None:
    """Send a signed request; obstore creates no containers."""
    date, version = formatdate(usegmt=True), "2021-08-06"
    resource = f"/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    signed = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n{resource}"
    digest = hmac.digest(base64.b64decode(KEY), signed.encode(), hashlib.sha256)
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}",
    }
    url = f"{address}/{ACCOUNT}/{name}?restype=container"
    urllib.request.urlopen(urllib.request.Request(url, method="PUT", headers=headers)).close()


def test_a_lake_in_azure(container: ObjectPath, tmp_path: Path) -> None:
    check_lake(container, tmp_path)


def test_a_lake_in_google_cloud_storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with running_gcs() as account:
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", account)
        monkeypatch.setitem(stores.CLIENT, "allow_http", True)
        stores.store_for_process.cache_clear()
        check_lake(ObjectPath("gs", "lakes", "team/lake"), tmp_path)
    stores.store_for_process.cache_clear()


def check_lake(lake: ObjectPath, folder: Path) -> None:
    """Write a run, read it, publish it; and test the conditions of all writes."""
    assert write_run(lake, *small_run())
    assert not write_run(lake, *small_run())
    run_id = identity_of("run")[1]
    assert read.run_ids(lake) == [run_id]
    assert read.read_table(lake, "predictions").height == 2
    assert views.query(lake, "select count(*) from lake.predictions").item() == 2
    publish(lake, analyse)
    assert is_current(lake)
    (lake / "prunelake.duckdb").download(folder / "copy.duckdb")
    assert (folder / "copy.duckdb").stat().st_size == (lake / "prunelake.duckdb").stat().st_size

    check_flipped_bits(lake.parent / "large", 2)

    path = lake / "object"
    tag = path.create(b"one")
    assert tag is not None
    assert path.create(b"another") is None
    (listed,) = (each for each in lake.glob("object"))
    assert listed.tag is not None
    assert listed.read_with_tag(tag=listed.tag)[0] == b"one"
    changed = path.replace(b"two", tag)
    assert changed is not None
    assert path.replace(b"three", tag) is None
    assert not path.remove(tag)
    assert path.remove(changed)
    assert path.remove()
    assert not path.is_file()
