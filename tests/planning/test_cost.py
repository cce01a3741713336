"""The cost of a sweep: nested passes counted by hand, and a price from given runs."""

from pathlib import Path
from typing import Any

import pytest

from prunelake.lake.sql.views import connect
from prunelake.planning.cost import (
    ASSUMED_PROMPTS,
    NestedLevels,
    Prompts,
    SweepPrice,
    counted_tokens,
    measured_price,
)
from prunelake.spec import Explanation, SweepSpec
from tests.support.runs.lake_rows import example, rows_of, run_row, write_raw


def test_levels_share_the_layers_in_front_of_their_removed_ones() -> None:
    nested = NestedLevels((3, 1), 4)
    # Level 1 branches off at layer 3 and keeps no attention behind it; level 2 branches at layer 1.
    assert nested.pass_count([0]) == 1
    assert nested.pass_count([1]) == 1
    assert nested.pass_count([2]) == (1 + 2 + 2 + 1) / 4
    assert NestedLevels((0, 1), 4).pass_count([1, 2]) == (2 + 3 + 3 + 3) / 4


def test_a_level_without_further_attention_costs_nothing_unless_it_lacks_mlps() -> None:
    assert NestedLevels((2, 1), 3).pass_count([2]) == 1
    assert NestedLevels((2, 1), 3, "mlp").pass_count([2]) == (1 + 2 + 2) / 3


def test_an_unknown_order_has_an_assumed_cost() -> None:
    assert NestedLevels().pass_count([0, 2, 4]) == pytest.approx(1.8)


def test_a_sweep_takes_its_prompts_and_those_of_its_explanations() -> None:
    nested, prompts = NestedLevels((0,), 2), Prompts(10, 14)
    assert counted_tokens(None, nested, prompts, 5, [1]) == 5 * 14 * 2
    one = Explanation(methods=("kernel_shap",), fractions=(0.5,), operators=("replace",), rows=3)
    # 30 masks; two curves of the method and of the random ranking.
    assert counted_tokens(one, nested, prompts, 5, [1]) == 140 + 3 * (30 + 4) * 14 * 2
    two = one.model_copy(update={"levels": (0,)})
    assert counted_tokens(two, nested, prompts, 5, [1]) == 140 + 3 * (30 + 4) * 14
    # 70 masks at level 0; level 1 takes 10 of them, the mean of the two stages.
    differences = one.model_copy(update={"methods": ("difference_shap",)})
    expected = 140 + 3 * 14 * ((10 + 4) * 2 + 60)
    assert counted_tokens(differences, nested, prompts, 5, [1]) == expected


def priced_run(name: str, **columns: Any) -> dict[str, Any]:
    spec = SweepSpec(model="tiny", task="demo", explain=None).model_dump_json()
    given = {"spec": spec, "removal_order": [0, 1, 2, 3], "device": "this"}
    return run_row(name, **given | columns)


def test_the_price_matches_the_model_s_sweeps(tmp_path: Path) -> None:
    run = priced_run("run", forward_tokens=99, duration_s=3.0)
    run_id = write_raw(tmp_path, run, examples=[example(str(run["run_id"]), "test:0")])
    slow = priced_run("slow", device="other", forward_tokens=99, duration_s=300.0)
    write_raw(tmp_path, slow, examples=[example(str(slow["run_id"]), "test:0")])
    runs = rows_of(tmp_path, f"from runs order by run_id = '{run_id}' desc")
    with connect(tmp_path) as connection:
        price = measured_price(connection, runs, "demo")
        elsewhere = measured_price(connection, runs, "another")
        unknown = measured_price(connection, [], "demo")
    length = 3 + 5 / 4.5  # the options are no and yes
    assert price.prompts == Prompts(3, length)
    assert price.token_ratio == pytest.approx(99 / (2 * length * 2))
    assert (price.tokens_per_second, price.device) == (33, "this")
    assert elsewhere.prompts == ASSUMED_PROMPTS
    assert elsewhere.token_ratio == price.token_ratio
    assert unknown == SweepPrice()
