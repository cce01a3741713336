"""The image and the Kubernetes job of a GPU worker: their syntax, and a lock that pods share."""

import asyncio
import json
import re
import tomllib
from pathlib import Path
from typing import IO, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from prunelake.models.gpu import gpu_locks
from prunelake.models.gpu.gpu_locks import lock_first_free
from prunelake.settings import Settings
from tests.support.paths import ROOT

FOLDER = ROOT / "deploy/gpu"
INSTRUCTIONS = {"FROM", "COPY", "RUN", "ENV", "WORKDIR", "CMD"}

JOB = {
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "batch/v1"},
        "kind": {"const": "Job"},
        "metadata": {
            "required": ["generateName", "namespace", "labels"],
            "properties": {"labels": {"type": "object"}, "namespace": {"type": "string"}},
        },
        "spec": {
            "additionalProperties": False,
            "properties": {
                "backoffLimit": {"type": "integer"},
                "ttlSecondsAfterFinished": {"type": "integer"},
                "template": {
                    "properties": {
                        "spec": {
                            "required": ["restartPolicy", "containers"],
                            "additionalProperties": False,
                            "properties": {
                                "restartPolicy": {"enum": ["Never", "OnFailure"]},
                                "containers": {
                                    "items": {"$ref": "#/$defs/container"},
                                    "minItems": 1,
                                    "maxItems": 1,
                                },
                                "volumes": {"items": {"required": ["name"]}},
                                "tolerations": {"items": {"required": ["operator"]}},
                            },
                        }
                    }
                },
            },
        },
    },
    "$defs": {
        "container": {
            "required": ["name", "image"],
            "additionalProperties": False,
            "properties": {
                "name": {"pattern": "^[a-z0-9-]+$"},
                "image": {"type": "string"},
                "args": {},
                "env": {"type": "object"},
                "envFrom": {"items": {"required": ["secretRef"]}},
                "resources": {
                    "properties": {
                        name: {"additionalProperties": {"type": ["string", "integer"]}}
                        for name in ("requests", "limits")
                    }
                },
                "volumeMounts": {"items": {"required": ["name", "mountPath"]}},
            },
        }
    },
}
"""The parts of a Kubernetes job that the template uses, as a JSON schema."""


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / "job-template.json").read_text("utf-8"))
    return found


def test_prefect_accepts_the_template(template: dict[str, Any]) -> None:
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.utilities.templating import find_placeholders

    WorkPoolCreate(name="gpu", type="kubernetes", base_job_template=template)
    Draft202012Validator.check_schema(template["variables"])
    names = {placeholder.name for placeholder in find_placeholders(template["job_configuration"])}
    assert names == {*template["variables"]["properties"]}


def test_a_deployment_becomes_a_job_with_a_gpu_and_the_locks_of_its_machine(
    template: dict[str, Any],
) -> None:
    from prefect.workers.base import BaseJobConfiguration

    class Configuration(BaseJobConfiguration):
        job_manifest: dict[str, Any]

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    variables = next(
        entry["work_pool"]["job_variables"] for entry in deployments if entry["name"] == "sweep"
    )
    values = {**variables, "name": "sweep", "gpus": 2}
    job: Any = asyncio.run(
        Configuration.from_template_and_values(
            template,
            values,
            client=object(),  # type: ignore[arg-type]  # the template names no block of a server
        )
    )
    assert job.env["PRUNELAKE_DEVICE"] == "cuda"
    assert job.env["PRUNELAKE_LOCKS"] == "/locks"
    assert job.env["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
    Draft202012Validator(JOB).validate(job.job_manifest)
    pod = job.job_manifest["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    mounts = {mount["name"]: mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == volumes.keys()
    assert mounts["locks"] == "/locks"
    assert volumes["locks"]["hostPath"]["type"] == "DirectoryOrCreate"


def test_the_image_is_built_from_files_and_extras_that_exist() -> None:
    text = (FOLDER / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert {line.split()[0] for line in lines} <= INSTRUCTIONS
    assert lines[0].startswith("FROM ")
    (extras,) = re.findall(r"\[([a-z0-9,]+)\]\"", text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert {*extras.split(",")} <= {*project["optional-dependencies"]}
    assert (ROOT / "constraints.txt").is_file()
    (command,) = (json.loads(line.removeprefix("CMD ")) for line in lines if line.startswith("CMD"))
    assert command[0] in project["scripts"]
    variables = dict(re.findall(r"(PRUNELAKE_\w+)=(\S+)", text))
    fields = {f"PRUNELAKE_{name.upper()}" for name in Settings.model_fields}
    assert {*variables} <= fields
    assert variables["PRUNELAKE_DEVICE"] == "cuda"


def test_every_deployment_on_the_pool_of_gpus_requires_one() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    pools = {entry["name"]: entry["work_pool"] for entry in deployments}
    on_gpus = {name: pool for name, pool in pools.items() if pool["name"] == "gpu"}
    assert on_gpus.keys() == {"sweep", "sweeps", "compare", "cost"}
    for pool in on_gpus.values():
        assert pool["job_variables"]["env"]["PRUNELAKE_DEVICE"] == "cuda"


def test_pods_with_caches_of_their_own_share_the_locks_of_their_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same folder has another path in each pod."""
    (tmp_path / "host").mkdir()
    for pod in ("one", "two"):
        (tmp_path / pod).symlink_to(tmp_path / "host")
    one, two = (
        Settings(cache=tmp_path / f"cache-{pod}", locks=tmp_path / pod).lock_folder
        for pod in ("one", "two")
    )
    locks: dict[str, dict[str, IO[str]]] = {"one": {}, "two": {}}
    monkeypatch.setattr(gpu_locks, "_held", locks["one"])
    assert lock_first_free(["g0", "g1"], one, print) == "g0"
    monkeypatch.setattr(gpu_locks, "_held", locks["two"])  # as another process
    assert lock_first_free(["g0", "g1"], two, print) == "g1"
    for held in locks.values():
        for file in held.values():
            file.close()
    assert Settings(cache=tmp_path / "cache").lock_folder == tmp_path / "cache" / "devices"
