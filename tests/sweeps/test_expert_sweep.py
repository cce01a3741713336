"""A sweep over levels that lack experts, from the weights to the views."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig

from prunelake.errors import UnknownLayer
from prunelake.lake.sql.views import query
from prunelake.models.files.weight_size import weight_bytes
from prunelake.models.sources import resolve_model
from prunelake.public.model import load
from prunelake.settings import Settings
from prunelake.spec import Calibration, Explanation, Rows, Strategy, SweepSpec, removed_parts
from prunelake.sweeps.run import run_sweep
from tests.support.models.tiny_models import GROUPED_QUERY_CONFIG
from tests.support.models.tiny_tokenizer import tiny_tokenizer

BLOCKS, EXPERTS, CHOSEN = 2, 6, 2


@pytest.fixture(scope="module")
def mixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a Mixtral with random weights."""
    folder = tmp_path_factory.mktemp("models") / "mixture"
    torch.manual_seed(0)
    sizes = {"num_local_experts": EXPERTS, "num_experts_per_tok": CHOSEN}
    changes = {"num_hidden_layers": BLOCKS, "max_position_embeddings": 2048}
    config = MixtralConfig(**(GROUPED_QUERY_CONFIG | sizes | changes))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def _spec(mixture: Path, strategy: str, levels: tuple[int, ...] | None = None) -> SweepSpec:
    return SweepSpec(
        model=str(mixture),
        task="everyday_knowledge",
        rows=Rows(first=3),
        levels=levels,
        strategy=Strategy.model_validate(strategy),
        calibration=Calibration(windows=1, window_tokens=64),
        explain=Explanation(methods=("input_x_gradient",), rows=1),
    )


def test_a_sweep_of_experts_fills_the_views(mixture: Path, tmp_path: Path) -> None:
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")
    run_id = run_sweep(_spec(mixture, "expert:use"), settings)
    (run,) = query(settings.lake, "from runs").to_dicts()
    assert (run["unit"], run["layer_count"], run["parts_per_level"]) == ("expert", EXPERTS, BLOCKS)
    assert run["levels"] == [0, 1, 2, 3]
    layers = query(settings.lake, "from layers order by layer")
    assert layers.height == BLOCKS * EXPERTS
    assert layers["importance"].sum() == pytest.approx(BLOCKS * CHOSEN)  # shares of the tokens
    lacked = removed_parts(run["removal_order"], 2, EXPERTS)
    assert [number // EXPERTS for number in lacked] == [0, 1, 0, 1]
    levels = query(settings.lake, "from levels order by level")
    assert levels["removed_layers"].to_list()[::2] == [[], sorted(lacked)]
    accuracies = query(settings.lake, "from metrics where metric = 'accuracy' order by level")
    assert accuracies["level"].to_list() == [0, 1, 2, 3]

    # Another order shares level 0, and each level that lacks the same experts.
    other = run_sweep(_spec(mixture, "expert:iterative", (0, 1, 4)), settings)
    copied = query(settings.lake, "from lake.runs where run_id = $run_id", run_id=other)["copied"]
    predictions = {c["run_id"]: c["cells"] for c in copied[0] if c["table"] == "predictions"}
    assert predictions == {run_id: 6}  # of levels 0 and 1


def test_levels_beyond_the_choice_of_the_router_are_refused(mixture: Path, tmp_path: Path) -> None:
    settings = Settings(lake=tmp_path / "lake", cache=tmp_path / "cache", device="cpu")
    with pytest.raises(UnknownLayer, match=r"level 5: .* chooses 2 .* go from 0 to 4"):
        run_sweep(_spec(mixture, "expert:use", (5,)), settings)


@pytest.mark.parametrize("label", ["expert:cosine", "expert:balanced", "use", "mlp:use"])
def test_experts_have_strategies_of_their_own(label: str) -> None:
    with pytest.raises(ValueError, match="expert:use"):
        Strategy.model_validate(label)


def test_a_removed_expert_has_no_weights(mixture: Path, tmp_path: Path) -> None:
    source = resolve_model(str(mixture), tmp_path, "expert")
    whole, without = (weight_bytes(source, "float32", "expert", own) for own in ((), (1, 8)))
    assert whole is not None
    assert without is not None
    width, inner = GROUPED_QUERY_CONFIG["hidden_size"], GROUPED_QUERY_CONFIG["intermediate_size"]
    assert whole - without == 4 * BLOCKS * (3 * width * inner + width)


def test_a_loaded_model_answers_without_experts(mixture: Path) -> None:
    model = load(mixture, device="cpu")
    before = model.log_likelihoods("ab ye", [" a", " b"])
    with model.removed(expert=range(4)):  # the first block keeps the two that its router needs
        assert model.log_likelihoods("ab ye", [" a", " b"]) != before
    assert model.log_likelihoods("ab ye", [" a", " b"]) == before
