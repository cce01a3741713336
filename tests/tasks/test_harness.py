"""Tasks of lm-evaluation-harness: prompts and predictions equal those of the harness."""

import json
from dataclasses import replace
from pathlib import Path
from shutil import copyfile
from typing import Any

import pytest

from prunelake.errors import BadRow, DatasetNotFound, InvalidSpec, MissingExtra, UnknownTask
from prunelake.evaluation.predictions import predict
from prunelake.identity import HarnessPrompts, RunIdentity
from prunelake.inference.nested import NestedModel
from prunelake.models.loading import LoadedModel, load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import Rows, Strategy, SweepSpec
from prunelake.sweeps.early_checks import check_sweep
from prunelake.sweeps.plan import SweepPlan, plan_sweep
from prunelake.tasks.catalogue import find_task, get_task
from prunelake.tasks.encoding import Encoder, encode_examples
from prunelake.tasks.harness import _yaml_files
from prunelake.tasks.harness_rows import read_harness_rows
from prunelake.tasks.rows import Example, load_examples
from tests.support.tasks.task_rows import ROWS

pytest.importorskip("lm_eval", reason="needs prunelake[harness]")

from tests.support.tasks.harness_tasks import CATALOGUE_TASKS, HARNESS_TASKS, write_splits

METRICS = [
    {"metric": name, "aggregation": "mean", "higher_is_better": True}
    for name in ("acc", "acc_bytes")
]
LAST = Strategy(name="last")  # reads no calibration text
REMOVED_LAYERS = [3, 1]
COMPARED = [
    *(("", task) for task in (*HARNESS_TASKS, *CATALOGUE_TASKS)),
    *(("@2", task) for task in ("hellaswag", "mmlu_anatomy", "arc_easy", "winogrande")),
]
"""mmlu_anatomy takes the first examples of another split; the other tasks draw examples."""


@pytest.fixture(autouse=True)
def _quick_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the harness' description of this machine: it runs pip for it."""
    for name in ("add_env_info", "add_tokenizer_info"):
        monkeypatch.setattr(f"lm_eval.evaluator.{name}", lambda *_: None)


@pytest.fixture(scope="module")
def loaded(tiny_folder: Path) -> LoadedModel:
    return load_model(resolve_model(str(tiny_folder), tiny_folder))


def harness_samples(
    task: str, shots: int | None, folder: Path, loaded: LoadedModel
) -> list[dict[str, Any]]:
    """The samples that the harness itself logs when it reads a local folder."""
    from lm_eval import evaluator
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    from prunelake.tasks.harness import find_harness_task, harness_config, quiet_harness

    config = harness_config(find_harness_task(f"harness:{task}").file, with_functions=True)
    config.pop("tag", None)
    with quiet_harness():
        built = ConfigurableTask(
            config=config
            | {
                "dataset_path": "json",
                "dataset_name": None,
                "dataset_kwargs": {
                    "data_files": {path.stem: str(path) for path in folder.iterdir()},
                    "cache_dir": str(folder.parent / "cache"),
                },
                "metric_list": METRICS,
            }
        )
        found = evaluator.simple_evaluate(
            model=HFLM(
                pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1, max_length=2048
            ),
            tasks=[built],
            num_fewshot=shots,
            task_manager=TaskManager(include_defaults=False),  # its index takes seconds
            log_samples=True,
            bootstrap_iters=0,
        )
    samples: list[dict[str, Any]] = found["samples"][task]
    return sorted(samples, key=lambda sample: sample["doc_id"])


def requests(example: Example) -> list[tuple[str, str]]:
    """The contexts and continuations that the harness requests."""
    if example.ending is None:
        return [(example.prompt, option) for option in example.options]
    return [
        (example.prompt + option.removesuffix(example.ending), example.ending)
        for option in example.options
    ]


@pytest.mark.parametrize(("shots", "task"), COMPARED)
def test_prompts_and_predictions_match_the_harness(
    shots: str, task: str, loaded: LoadedModel, tmp_path: Path
) -> None:
    folder = write_splits(tmp_path, task)
    examples = load_examples(find_task(f"harness:{task}{shots}"), Rows(first=4), tmp_path)
    encoder = Encoder(loaded.tokenizer)
    encoded = encode_examples(encoder, examples, 2048)
    frame = predict(NestedModel(loaded.model, REMOVED_LAYERS), "r", encoded, (0, 2))
    for level, layers in ((0, []), (2, REMOVED_LAYERS)):
        with removed(loaded.model, layers):
            samples = harness_samples(task, int(shots[1:]) if shots else None, folder, loaded)
        rows = frame.filter(level=level).to_dicts()
        for row, example, sample in zip(rows, examples, samples, strict=True):
            asked = [tuple(arguments) for arguments in sample["arguments"]]
            assert requests(example) == asked
            assert row["option_log_likelihoods"] == pytest.approx(
                [value for value, _ in sample["filtered_resps"]], abs=1e-3
            )
            assert sample["acc"] == row["is_correct"]
            assert sample["acc_bytes"] == row["is_correct_norm"]


@pytest.mark.parametrize("task", CATALOGUE_TASKS)
def test_the_catalogue_has_the_prompts_of_the_harness(task: str, tmp_path: Path) -> None:
    folder = write_splits(tmp_path, task)
    (tmp_path / get_task(task).file).parent.mkdir(parents=True)
    copyfile(folder / f"{get_task(task).split}.jsonl", tmp_path / get_task(task).file)
    theirs = load_examples(find_task(f"harness:{task}"), Rows(first=4), tmp_path)
    ours = load_examples(get_task(task), Rows(first=4), tmp_path)
    assert [replace(example, lengths=None) for example in theirs] == ours
    assert [e.option_bytes for e in theirs] == [e.option_bytes for e in ours]


def test_the_catalogue_has_the_log_likelihoods_of_the_harness(loaded: LoadedModel) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    examples = [replace(example, example_id=name) for name, (_, example) in ROWS.items()]
    encoded = encode_examples(Encoder(loaded.tokenizer), examples, 2048)
    frame = predict(NestedModel(loaded.model, []), "r", encoded, (0,))
    asked = [
        Instance("loglikelihood", {}, (example.prompt, option), n)
        for example in examples
        for n, option in enumerate(example.options)
    ]
    model = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=1, max_length=2048)
    answers = model.loglikelihood(asked, disable_tqdm=True)
    assert frame["option_log_likelihoods"].explode().to_list() == pytest.approx(
        [value for value, _ in answers], abs=1e-3
    )


def test_a_row_has_its_prompt_in_every_selection(tmp_path: Path) -> None:
    write_splits(tmp_path, "hellaswag")
    task = find_task("harness:hellaswag@2")
    everything = load_examples(task, Rows(first=4), tmp_path)
    read_harness_rows.cache_clear()
    alone = load_examples(task, Rows(numbers=(3, 0)), tmp_path)
    assert alone == [everything[3], everything[0]]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("harness:gsm8k", "task harness:gsm8k lets the model generate text; PruneLake runs multip"),
        (
            "harness:lambada_openai",
            "task harness:lambada_openai scores one text and has no options",
        ),
        ("harness:wikitext", "task harness:wikitext measures perplexity and has no options"),
        ("harness:squadv2", "task harness:squadv2 is written in Python"),
        ("harness:mmlu", "task harness:mmlu is a group of tasks (such as harness:mmlu_stem, "),
        (
            "harness:truthfulqa_mc2",
            "task harness:truthfulqa_mc2 scores its answers with its own",
        ),
        (
            "harness:hellasweg",
            "lm-evaluation-harness has no task 'hellasweg'; did you mean harness",
        ),
        ("harness:", "task 'harness:': write harness:NAME, or harness:NAME@5 with 5 examples"),
        (
            "harness:blimp_causative@2",
            "task harness:blimp_causative@2: its YAML file allows 0 shots",
        ),
    ],
)
def test_other_tasks_than_multiple_choice_are_refused_before_their_rows_are_read(
    reference: str, message: str
) -> None:
    with pytest.raises(UnknownTask) as refusal:
        check_sweep(SweepSpec(task=reference), Settings(device="cpu"))
    assert str(refusal.value).startswith(message)


def test_rows_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetNotFound, match=r"no file .*Rowan/hellaswag/validation.jsonl or .par"
    ):
        load_examples(find_task("harness:hellaswag"), Rows(first=1), tmp_path)
    folder = write_splits(tmp_path, "piqa")
    (folder / "validation.jsonl").write_text('{"goal": "a"}\n')
    with pytest.raises(BadRow, match=r"its rows in baber/piqa do not fit it \(ValueError: malf"):
        load_examples(find_task("harness:piqa"), Rows(first=1), tmp_path)
    read_harness_rows.cache_clear()
    row = {"goal": "a", "sol1": "b", "sol2": "c"}
    lines = [json.dumps(row | {"label": label}) + "\n" for label in (1, 2)]
    (folder / "validation.jsonl").write_text("".join(lines))
    with pytest.raises(
        BadRow, match="task harness:piqa, row 1: its gold 2 is not one of its 2 options"
    ):
        load_examples(find_task("harness:piqa"), Rows(first=2), tmp_path)


def test_the_prompts_belong_to_the_identity_of_a_run(tiny_folder: Path, tmp_path: Path) -> None:
    write_splits(tmp_path, "hellaswag")
    settings = Settings(data=tmp_path, cache=tmp_path)

    def plan(task: str, **fields: Any) -> SweepPlan:
        spec = SweepSpec(model=str(tiny_folder), task=task, levels=(0, 1), strategy=LAST, **fields)
        return plan_sweep(spec, settings)

    own, shots = plan("harness:hellaswag"), plan("harness:hellaswag@2")
    assert own.identity.harness == HarnessPrompts(version="1.0", shots=0, shot_seed=None)
    assert shots.identity.harness == HarnessPrompts(version="1.0", shots=2, shot_seed=1234)
    newer = HarnessPrompts(version="2.0", shots=0, shot_seed=None)
    assert RunIdentity.model_validate_json(own.identity.model_dump_json()) == own.identity
    changed = own.identity.model_copy(update={"harness": newer})
    assert len({own.identity.run_id, shots.identity.run_id, changed.run_id}) == 3
    assert own.identity.data_hash != shots.identity.data_hash


def test_an_empty_prompt_is_predicted_and_not_explained(tiny_folder: Path, tmp_path: Path) -> None:
    write_splits(tmp_path, "blimp_causative")
    settings = Settings(data=tmp_path, cache=tmp_path)
    spec = SweepSpec(
        model=str(tiny_folder), task="harness:blimp_causative", levels=(0, 1), strategy=LAST
    )
    with pytest.raises(
        InvalidSpec, match="example train:0 has an empty prompt, so there is no tok"
    ):
        plan_sweep(spec, settings)
    assert plan_sweep(spec.model_copy(update={"explain": None}), settings).examples


def test_without_the_harness_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    _yaml_files.cache_clear()
    monkeypatch.setattr("prunelake.extras.find_spec", lambda _: None)
    with pytest.raises(MissingExtra, match=r"needs lm_eval, .* pip install 'prunelake\[harness\]'"):
        find_task("harness:hellaswag")


def test_options_with_prompts_of_their_own_are_predicted_only(
    tiny_folder: Path, tmp_path: Path
) -> None:
    write_splits(tmp_path, "winogrande")
    settings = Settings(data=tmp_path, cache=tmp_path)
    spec = SweepSpec(model=str(tiny_folder), task="harness:winogrande", levels=(0, 1))
    with pytest.raises(InvalidSpec, match="example validation:0 has its own prompt for each"):
        plan_sweep(spec, settings)
    searching = Strategy(name="divergence", search_rows=1)
    changes = {"explain": None, "rows": Rows(first=2), "strategy": searching}
    with pytest.raises(InvalidSpec, match="strategy divergence reads rows of the task, but each"):
        plan_sweep(spec.model_copy(update=changes), settings)
