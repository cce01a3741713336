"""The gate file: what it may say, and errors that name the value, the choices and the remedy."""

import re
from pathlib import Path

import pytest

from prunelake.errors import InvalidSpec
from prunelake.gate.criterion import Criterion
from prunelake.gate.gate_file import Gate, read_gate
from prunelake.schema.metrics import METRIC_DEFINITIONS
from prunelake.spec import Strategy
from tests.support.paths import ROOT

START = "model: tiny\nlevels: [4]\ntasks: [boolq, rte]\ncriteria:\n"


def read(tmp_path: Path, text: str) -> Gate:
    path = tmp_path / "gate.yaml"
    path.write_text(text)
    return read_gate(path)


def test_a_file_becomes_a_gate_with_the_margins_of_the_metrics(tmp_path: Path) -> None:
    text = "strategy: random:3\n" + START
    text += "- {metric: flip_rate}\n- {metric: mean_confidence, direction: lower, task: sst2}\n"
    text += "- {metric: comprehensiveness, margin: 0.1, method: lime, variant: paper}\n"
    gate = read(tmp_path, text)
    assert gate.strategy == Strategy(name="random", seed=3)
    flips, confidence, faithfulness = gate.criteria
    assert flips.margin == METRIC_DEFINITIONS["flip_rate"].margin
    assert (flips.higher_is_better, confidence.higher_is_better) == (False, False)
    assert faithfulness.higher_is_better
    assert gate.all_tasks == ("boolq", "rte", "sst2")
    assert gate.tasks_of(confidence) == ("sst2",)


HOSTILE = [
    ("", "is empty; write at least `criteria: [{metric: accuracy, "),
    ("hello", "file: 'hello' has no fields; write at least one of criteria, tasks, baseline"),
    ("criteria: []", "line 1, criteria: is empty; give at least one"),
    ("model: tiny\nlevels: [4]", "criteria: is missing"),
    (START + "- accuracy", "line 5, criteria.0: 'accuracy' has no fields; write at least one of "),
    (START + "- {metric: acuracy}", "no metric 'acuracy'; did you mean accuracy?"),
    (START + "- {metric: bleu}", "no metric 'bleu'; choose one of accuracy, accuracy_norm, ece"),
    (START + "- {metric: [ece]}", "line 5, criteria.0.metric: ['ece'] is not a text"),
    (START + "- {margin: 0.1}", "criteria.0.metric: is missing"),
    (START + "- {metric: ece, margn: 1}", "criteria.0.margn: no such field; did you mean margin?"),
    (START + "- {metric: ece, margin: .nan}", "margin: nan is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: .inf}", "margin: inf is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: -0.1}", "margin: -0.1 is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: 0}", "margin: 0 is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: true}", "margin: True is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: 2 %}", "margin: '2 %' is not a number above 0, like 0.02"),
    (START + "- {metric: ece, margin: null}", "margin: None is not a number above 0, like 0.02"),
    (
        START + "- {metric: ece, margin: 1" + "0" * 400 + "}",
        "margin: 10000000000",
    ),
    (
        START + "- {metric: accuracy, margin: 2}",
        "margin 2: accuracy lies between 0 and 1 (share correct), so every candidate would pass; "
        "0.02 is usual",
    ),
    (
        START + "- {metric: accuracy, direction: lower}",
        "direction lower: higher is better for accuracy; leave direction out",
    ),
    (START + "- {metric: ece, direction: down}", "direction: Input should be 'higher' or 'lower'"),
    (
        START + "- {metric: mean_confidence}",
        "mean_confidence has no better direction; give direction: higher or lower",
    ),
    (
        START + "- {metric: beneficial_flip_rate}",
        "cannot fall below the baseline's 0; leave it out",
    ),
    (
        START + "- {metric: accuracy, method: lime}",
        "method 'lime' does not apply to accuracy; leave method out",
    ),
    (
        START + "- {metric: ece, variant: eraser}",
        "variant 'eraser' does not apply to ece; choose temperature, affine, isotonic",
    ),
    (
        START + "- {metric: sufficiency, operator: drop}",
        "operator 'drop' does not apply to sufficiency; choose delete_text, replace",
    ),
    (
        START + "- {metric: ece}\n- {metric: ece, task: rte, margin: 0.1}",
        "criteria 1 and 2 both limit ece on rte; leave one out",
    ),
    (START + "- {metric: ece, margin: 0.1, margin: 0.2}", "line 5: margin is also in line 5"),
    (
        "model: tiny\nlevels: [4]\ncriteria: [{metric: ece}]",
        "criterion 1 (ece) has no task; give it a task, or list tasks for all criteria",
    ),
    (START.replace("[4]", "[0]") + "- {metric: ece}", "levels.0: Input should be greater than or"),
    (START.replace("[4]", "[]") + "- {metric: ece}", "model needs levels, a list of numbers"),
    (START.replace("[4]", "[4, 4]") + "- {metric: ece}", "levels 4, 4: give each only once"),
    (START.replace("levels: [4]\n", "") + "- {metric: ece}", "model needs levels, a list of"),
    (
        "runs: [a]\n" + START + "- {metric: ece}",
        "give exactly one of baseline (a model, with candidates), model",
    ),
    (START.replace("tiny", "5") + "- {metric: ece}", "line 1, model: 5 is not a text"),
    ("baseline: a\n" + START + "- {metric: ece}", "give exactly one of baseline (a model, with"),
    ("baseline: a\ntasks: [rte]\ncriteria:\n- {metric: ece}", "baseline needs candidates"),
    (
        "baseline: a\ncandidates: [b, b]\ntasks: [rte]\ncriteria:\n- {metric: ece}",
        "candidate b, b: give each only once",
    ),
    (
        "baseline: a\ncandidates: ['b,dtyp=x']\ntasks: [rte]\ncriteria:\n- {metric: ece}",
        "line 2, candidates.0: 'dtyp=x' is no setting of a model; write NAME=VALUE with a name",
    ),
    (
        "baseline: a\ncandidates: [b]\ndtype: int8\ntasks: [rte]\ncriteria:\n- {metric: ece}",
        "dtype does not go with baseline; write it behind a model, like `model,dtype=bfloat16`",
    ),
    ("explain: {rows: 5}\n" + START + "- {metric: ece}", "explain needs rows: without rows the"),
    ("strategy: cosin\n" + START + "- {metric: ece}", "strategy.name: Input should be 'cosine', "),
    ("!!python/object/apply:os.system ['true']", "not YAML (could not determine a constructor"),
    ("criteria: &a [*a]", "its values are nested too deep"),
]


@pytest.mark.parametrize(("text", "message"), HOSTILE, ids=range(len(HOSTILE)))
def test_a_wrong_file_is_refused_with_the_value_and_the_remedy(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(InvalidSpec) as caught:
        read(tmp_path, text)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'gate.yaml'}")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gate.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidSpec, match=r"gate\.yaml: cannot be read"):
        read_gate(path)


@pytest.mark.parametrize("metric", METRIC_DEFINITIONS)
def test_every_metric_with_a_direction_can_be_limited(metric: str) -> None:
    definition = METRIC_DEFINITIONS[metric]
    if metric != "beneficial_flip_rate" and definition.higher_is_better is not None:
        criterion = Criterion(metric=metric)
        assert criterion.margin == definition.margin
        assert criterion.higher_is_better == definition.higher_is_better


def test_the_gate_of_the_guide_is_valid(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    texts = re.findall(r"^```yaml\n(.*?)^```", guide, re.DOTALL | re.MULTILINE)
    first, second = (read(tmp_path, text) for text in texts)
    assert first.candidate_names == second.candidate_names == ("int8", "int4")
    assert first.all_tasks == ("arc_easy", "boolq")
    for field in (*Gate.model_fields, *Criterion.model_fields):
        assert f"`{field}`" in guide, field
