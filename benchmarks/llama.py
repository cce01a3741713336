"""Explaining a large model on a GPU: random weights of a Llama shape, no download.

    python -m benchmarks.llama --device cuda [--shape 7b] [--rows 1] [--cudnn] [--compile]

Predictions, attributions and deletion curves of a few rows of every task at all levels, in
bfloat16, by the methods and seeds of the paper. Prints and writes tokens per second, the share of
the speed of plain matrix products on the same device, and the estimated time of the paper's whole
protocol, by the planner's count of its tokens. The tokenizer is the default model's. Writes
docs/measurements/llama.md. The shape tiny only shows that the script runs.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks import limits, report
from benchmarks.subject import BenchmarkCase, device_of, explain, plan_of, settings_of
from prunelake.explanation_spec import Method
from prunelake.models import precision
from prunelake.models.fusion import fuse_elementwise
from prunelake.models.loading import LoadedModel, load_tokenizer
from prunelake.planning.cost import NestedLevels, Prompts, counted_tokens
from prunelake.settings import Settings
from prunelake.spec import Strategy
from prunelake.strategies.removal_order import removal_order
from prunelake.sweeps.plan import SweepPlan

SHAPES = {
    # layers, width, inner width, heads
    "7b": (32, 4096, 11008, 32),
    "tiny": (4, 64, 176, 4),
}
ROWS, SEEDS = 200, (0, 1, 2)
METHODS: tuple[Method, ...] = ("kernel_shap", "lime")
"""The paper's protocol for each of its eight tasks."""

PAPER = (
    "arc_challenge",
    "arc_easy",
    "boolq",
    "openbookqa",
    "rotten_tomatoes",
    "rte",
    "sst2",
    "tweet_eval",
)
BUNDLED = ("everyday_knowledge", "opinions")
COLUMNS = ("task", "prompt tokens", "forward tokens", "s", "forward tokens a second")


def random_model(shape: str, vocabulary: int, device: str) -> LlamaForCausalLM:
    """A Llama with random weights in bfloat16, created on the device."""
    layers, width, inner, heads = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=4096,
        dtype="bfloat16",
    )
    with torch.device(device):
        torch.manual_seed(0)
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        try:
            model = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    return model


def lines(options: argparse.Namespace, settings: Settings) -> Iterator[str]:
    load, device = os.getloadavg()[0], device_of(settings)
    names = options.tasks.split(",") if options.tasks else PAPER if settings.data else BUNDLED
    levels = range(SHAPES[options.shape][0] // 2 + 1)
    plans = [plan_of(name, options.rows, tuple(levels), settings, SEEDS, METHODS) for name in names]
    tokenizer = load_tokenizer(plans[0].source)
    model = random_model(options.shape, len(tokenizer), device)
    order = removal_order(model, Strategy(name="random"), ()).layers
    loaded = LoadedModel(model, tokenizer, plans[0].source)
    if options.compile:
        fuse_elementwise(model)
    nested = NestedLevels(order, len(order))
    rows, total, whole = [], 0.0, 0.0
    explain(BenchmarkCase(replace(plans[0], examples=plans[0].examples[:1]), loaded, order))
    for name, work in zip(names, plans, strict=True):
        found = explain(BenchmarkCase(work, loaded, order), with_all_curves=True)
        seconds, tokens = sum(found.seconds.values()), sum(found.tokens.values())
        total += seconds
        protocol = plan_of(name, ROWS, tuple(levels), settings, SEEDS, METHODS)
        whole += seconds * planned_tokens(protocol, nested) / planned_tokens(work, nested)
        length = sum(len(encoded.prompt) for encoded in work.examples) / len(work.examples)
        cells = (f"{length:.0f}", f"{tokens:,.0f}", f"{seconds:.2f}", f"{tokens / seconds:,.0f}")
        rows.append([name, *cells])
    ours, plain, _ = limits.throughput(BenchmarkCase(plans[0], loaded, order))
    command = " ".join(["python -m benchmarks.llama", *sys.argv[1:]])
    yield report.head(command, device, ("torch", "transformers"), load)
    yield ""
    yield (
        f"Llama of shape {options.shape}, random weights, bfloat16, "
        f"{sum(p.numel() for p in model.parameters()) / 1e9:.2f} G parameters; {options.rows} rows "
        f"a task, {len(levels)} levels of a random order, {' and '.join(METHODS)}, "
        f"{len(SEEDS)} seeds, deleted text; "
        f"{'with' if options.cudnn else 'without'} the attention of cuDNN, norms and MLPs "
        f"{'compiled' if options.compile else 'in eager mode'}."
    )
    yield ""
    yield from report.table(COLUMNS, rows)
    yield ""
    yield (
        f"{names[0]}: {ours / 1e12:.3g} TFLOP/s in products of linear layers, "
        f"{100 * ours / plain:.0f} % of the {plain / 1e12:.3g} TFLOP/s that plain products of the "
        "same shapes reach."
    )
    yield (
        f"{ROWS} rows of these {len(names)} tasks: {whole / 3600:.1f} hours, estimated from the "
        f"{total:.0f} s above by the planner's count of tokens."
    )


def planned_tokens(plan: SweepPlan, nested: NestedLevels) -> float:
    """The planner's count of tokens of a plan's rows: a row of twice the length counts four
    times."""
    total = 0.0
    for encoded in plan.examples:
        count = len(encoded.prompt)
        length = count + sum(len(option) for option in encoded.options)
        prompts = Prompts(count, length)
        total += counted_tokens(plan.spec.explain, nested, prompts, 1, plan.levels)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="7b")
    parser.add_argument("--tasks", help="arc_easy,sst2; default: the paper's eight, or the bundled")
    parser.add_argument("--rows", type=int, default=1, help="of each task")
    parser.add_argument("--device", help="cpu, cuda; default: PRUNELAKE_DEVICE")
    parser.add_argument("--cudnn", action="store_true", help="with the attention of cuDNN")
    parser.add_argument("--compile", action="store_true", help="norms and MLPs compiled by torch")
    options = parser.parse_args()
    precision.USES_CUDNN_ATTENTION = options.cudnn
    found = [*lines(options, settings_of(options.device))]
    if options.shape == "tiny":
        print("\n".join(found))
    else:
        report.write("llama", found)


if __name__ == "__main__":
    main()
