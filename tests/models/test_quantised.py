"""Quantised checkpoints: real ones where a CPU computes them, made-up settings for the others."""

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from prunelake.errors import ExportError, ModelError, UnsupportedModel
from prunelake.export.export import ExportRequest, export_model
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.lake.sql.run_lookup import find_run
from prunelake.models import quantisation
from prunelake.models.levels import check_levels
from prunelake.models.loading import LoadedModel, load_model
from prunelake.models.quantisation import Quantisation, read_quantisation
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import Explanation, Rows, Strategy, SweepSpec
from prunelake.sweeps.run import run_sweep
from tests.support.models.tiny_models import tiny_model
from tests.support.runs.lake_rows import rows_of

ORDER = (3, 1, 4, 0, 2)
QUERIES = [
    ScoringQuery((5, 9, 11, 7), ((3, 4), (6,), (8, 2)), (0, 2, 3)),
    ScoringQuery((12, 10), ((3,), (4,)), (0, 2, 3)),
]


def torchao_int8(base: Path, folder: Path) -> None:
    from torchao.quantization import Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    save_quantised(base, folder, TorchAoConfig(Int8WeightOnlyConfig()))


def bitsandbytes_nf4(base: Path, folder: Path) -> None:
    from transformers import BitsAndBytesConfig

    settings = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    save_quantised(base, folder, settings)


def bitsandbytes_int8(base: Path, folder: Path) -> None:
    from transformers import BitsAndBytesConfig

    save_quantised(base, folder, BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=0.0))


def compressed_tensors_int4(base: Path, folder: Path) -> None:
    """Pack eight weights of four bits into each int32, with one scale for a row."""
    from compressed_tensors.compressors.pack_quantized import pack_to_int32

    shutil.copytree(base, folder)
    weights: dict[str, torch.Tensor] = {}
    for name, value in load_file(base / "model.safetensors").items():
        if not name.endswith("_proj.weight"):
            weights[name] = value
            continue
        scale = value.abs().amax(1, keepdim=True) / 7
        packed = pack_to_int32((value / scale).round().to(torch.int8), 4)
        weights |= {f"{name}_packed": packed, f"{name}_scale": scale}
        weights[f"{name}_shape"] = torch.tensor(value.shape)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    add_settings(
        folder,
        {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "config_groups": {
                "group_0": {
                    "targets": ["Linear"],
                    "weights": {
                        "num_bits": 4,
                        "type": "int",
                        "symmetric": True,
                        "strategy": "channel",
                    },
                }
            },
            "ignore": ["lm_head"],
        },
    )


REAL = {
    "torchao-Int8WeightOnly": torchao_int8,
    "bitsandbytes-nf4": bitsandbytes_nf4,
    "bitsandbytes-int8": bitsandbytes_int8,
    "compressed-tensors-int4": compressed_tensors_int4,
}


def save_quantised(base: Path, folder: Path, settings: Any) -> None:
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(base, dtype=torch.float32, quantization_config=settings)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)


def add_settings(folder: Path, settings: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def quantised(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model that is quantised by a method; skips without its package."""
    base = tmp_path_factory.mktemp("base")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    tokenizer.save_pretrained(base)
    # bitsandbytes packs blocks of 64 weights.
    wide = {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    tiny_model("llama", vocab_size=len(tokenizer), **wide).save_pretrained(base)
    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        method = read_method(name)
        if any(find_spec(package) is None for package in quantisation.PACKAGES[method]):
            pytest.skip(f"needs {method}")
        if name not in made:
            made[name] = tmp_path_factory.mktemp("quantised") / name
            REAL[name](base, made[name])
        return made[name]

    return folder


def read_method(name: str) -> str:
    return next(method for method in quantisation.PACKAGES if name.startswith(method))


def load(folder: Path) -> LoadedModel:
    return load_model(resolve_model(str(folder), folder))


@pytest.mark.filterwarnings("default")  # of the packages that are tried
@pytest.mark.parametrize("name", REAL)
def test_a_quantised_model_matches_transformers_at_every_level(
    name: str, quantised: Callable[[str], Path]
) -> None:
    folder = quantised(name)
    loaded = load(folder)
    assert loaded.source.quantisation == name
    theirs: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    nested = NestedModel(loaded.model, ORDER).log_likelihoods(QUERIES)
    for query, answers in zip(QUERIES, nested, strict=True):
        for level, answer in zip(query.levels, answers, strict=True):
            with removed(theirs, ORDER[:level]):
                expected = [plain(theirs, query.prompt, option) for option in query.options]
            # int8 of bitsandbytes multiplies in float16.
            tolerance = 0.05 if name == "bitsandbytes-int8" else 1e-3
            assert answer.tolist() == pytest.approx(expected, abs=tolerance)


@torch.no_grad()
def plain(model: Any, context: tuple[int, ...], option: tuple[int, ...]) -> float:
    ids = torch.tensor([[*context, *option]])
    scores = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    return sum(float(scores[len(context) + n - 1, token]) for n, token in enumerate(option))


def two_rows(folder: Path, **fields: Any) -> SweepSpec:
    """A sweep of two rows without the last attention layer."""
    return SweepSpec(
        model=str(folder),
        task="opinions",
        rows=Rows(first=2),
        levels=(0, 1),
        strategy=Strategy(name="last"),
        **fields,
    )


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", ["torchao-Int8WeightOnly", "compressed-tensors-int4"])
def test_a_sweep_records_the_format_of_the_weights_and_explains_by_gradients(
    name: str, quantised: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = quantised(name)
    settings = Settings(lake=tmp_path, cache=tmp_path / "cache", device="cpu")
    spec = two_rows(folder, explain=Explanation(methods=("input_x_gradient",), rows=1))
    run_id = run_sweep(spec, settings)
    (row,) = rows_of(tmp_path, "select dtype from runs")
    assert row["dtype"] == f"{name}+float32"
    assert find_run(tmp_path, run_id).dtype == "float32"
    assert rows_of(tmp_path, "select count(*) as n from attributions where method <> 'random'")
    request = ExportRequest(str(folder), Strategy(name="last"), 1)
    with pytest.raises(ExportError, match=rf"is quantised \({name}\), and zeros cannot be written"):
        export_model(request, tmp_path / "out", settings, print)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq-int4"),
        ({"quant_method": "awq", "w_bit": 4}, "awq-int4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fbgemm_fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes-int8"),
        ({"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "bitsandbytes-nf4"),
        (
            {"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 3}}},
            "hqq-int3",
        ),
        ({"quant_method": "torchao", "quant_type": "int4_weight_only"}, "torchao-int4_weight_only"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {
                    "a": {"weights": {"type": "float", "num_bits": 8}},
                    "b": {"weights": {"type": "int", "num_bits": 4}},
                },
            },
            "compressed-tensors-float8-int4",
        ),
        ({"quant_method": "new"}, "new"),
    ],
)
def test_the_name_has_the_method_and_the_format(settings: dict[str, Any], name: str) -> None:
    for config in (
        {"quantization_config": settings},
        {"text_config": {"quantization_config": settings}},
    ):
        found = read_quantisation(config)
        assert found is not None
        assert found.name == name


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"text_config": {}}])
def test_weights_that_are_not_quantised_have_no_name(config: dict[str, Any]) -> None:
    assert read_quantisation(config) is None
    assert Quantisation("fp8", "").name == "fp8"


@pytest.mark.parametrize(
    ("method", "packages"), [(m, " ".join(p)) for m, p in quantisation.PACKAGES.items()]
)
def test_a_missing_package_is_named_before_the_weights_are_hashed(
    method: str, packages: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"quant_method": method, "load_in_4bit": True}
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "llama", "quantization_config": settings})
    )
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setattr(quantisation, "find_spec", lambda _: None)
    monkeypatch.setattr("prunelake.models.sources.hash_files", None)
    message = (
        rf"is quantised by {method}, which needs a package that is not installed: pip install "
        f"{packages.replace('_', '-')}$"
    )
    with pytest.raises(ModelError, match=message):
        check_levels(str(tmp_path), None, "attention")
    with pytest.raises(ModelError, match=message):
        resolve_model(str(tmp_path), tmp_path)


def test_a_method_that_transformers_cannot_load_here_is_refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gptq"
    shutil.copytree(tiny_folder, folder)
    add_settings(folder, {"quant_method": "gptq", "bits": 4, "group_size": 128})
    monkeypatch.setattr(quantisation, "PACKAGES", {})
    with pytest.raises(
        ModelError, match=r"transformers [\d.]+ cannot load gptq-int4 weights on cpu"
    ):
        load(folder)


@pytest.mark.filterwarnings("default")
def test_outliers_of_a_whole_batch_are_refused_by_the_config_and_by_a_probe(
    quantised: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "outliers"
    shutil.copytree(quantised("bitsandbytes-int8"), folder)
    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    add_settings(folder, settings | {"llm_int8_threshold": 6.0})
    with pytest.raises(ModelError, match=r"with llm_int8_threshold 6.0, so each row's numbers dep"):
        check_levels(str(folder), None, "attention")
    check = "prunelake.models.files.saved_config.check_row_independence"
    monkeypatch.setattr(check, lambda *_: None)
    with pytest.raises(UnsupportedModel, match=r"the numbers of a row depend on the other rows"):
        load(folder)


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4"),
        ({"quant_method": "awq", "bits": 4, "version": "gemm"}, "awq-int4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
    ],
)
def test_a_sweep_records_the_format_also_of_weights_that_a_cpu_cannot_load(
    settings: dict[str, Any],
    name: str,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    add_settings(folder, settings)
    monkeypatch.setattr(quantisation, "PACKAGES", {})
    asked: list[Any] = []

    def double(_: Path, **options: Any) -> Any:
        asked.append(options["dtype"])
        auto: Any = AutoModelForCausalLM
        return auto.from_pretrained(tiny_folder, **options)

    monkeypatch.setattr("prunelake.models.loading.load_complete_model", double)
    spec = two_rows(folder, explain=None, dtype="bfloat16")
    run_sweep(spec, Settings(lake=tmp_path / "lake", cache=tmp_path, device="cpu"))
    assert asked == [torch.bfloat16]
    (row,) = rows_of(tmp_path / "lake", "select dtype from runs")
    assert row["dtype"] == f"{name}+bfloat16"
