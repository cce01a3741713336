"""Compare log-likelihoods of real answers in llama.cpp with those of PruneLake.

    pip install llama-cpp-py-sync
    python -m benchmarks.models.llama_cpp [--options 200] [--layers 3,5,8,11,13,17,20,22]

A GGUF export of SmolLM2-135M without these attention layers, and without these blocks, in float32
and Q8_0, scores the options of ARC-Easy. llama.cpp keeps its KV cache in float32 here.
"""

import argparse
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from prunelake.export.gguf.gguf_file import GGUF_FILE, write_gguf
from prunelake.models.loading import load_model
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.settings import Settings
from prunelake.spec import DEFAULT_MODEL, GgufQuantisation, Rows, SweepSpec
from prunelake.sweeps.plan import plan_sweep

FORMS: list[tuple[Any, GgufQuantisation | None]] = [
    ("attention", None),
    ("attention", GgufQuantisation.q8_0),
    ("attention", GgufQuantisation.q4_k_m),
    ("block", None),
]


def open_gguf(file: Path, context: int = 512) -> Any:
    """llama.cpp with a model and a KV cache in float32."""
    options = {"n_threads": 1, "type_k": "f32", "type_v": "f32", "verbose": False}
    engine = import_module("llama_cpp_py_sync.llama").Llama
    return engine(str(file), n_ctx=context, n_batch=context, **options)


def llama_cpp_logits(engine: Any, ids: list[int]) -> NDArray[np.float32]:
    """The logits after each token, of shape (tokens, vocabulary)."""
    library, ffi = engine._lib, engine._ffi
    engine._clear_context_state()
    batch = library.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for place, token in enumerate(ids):
        batch.token[place], batch.pos[place] = token, place
        batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, 0, 1
    status = library.llama_decode(engine._ctx, batch)
    if status:
        raise RuntimeError(f"llama_decode returned {status}")
    rows = [
        np.frombuffer(
            ffi.buffer(library.llama_get_logits_ith(engine._ctx, place), 4 * engine.n_vocab),
            np.float32,
        ).copy()
        for place in range(len(ids))
    ]
    library.llama_batch_free(batch)
    return np.stack(rows)


def log_likelihood(
    logits: NDArray[np.float32], prompt: tuple[int, ...], option: tuple[int, ...]
) -> float:
    """The log-likelihood of an option after its prompt, in nats."""
    places = torch.from_numpy(logits).double().log_softmax(-1)
    start = len(prompt) - 1
    return float(sum(places[start + n, token] for n, token in enumerate(option)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--options", type=int, default=200)
    parser.add_argument("--layers", default="3,5,8,11,13,17,20,22")
    arguments = parser.parse_args()
    layers = [int(layer) for layer in arguments.layers.split(",")]
    spec = SweepSpec(model=DEFAULT_MODEL, task="arc_easy", rows=Rows(first=arguments.options))
    plan = plan_sweep(spec, Settings())
    options = [
        (example.prefix + example.prompt, option)
        for example in plan.examples
        for option in example.options
    ][: arguments.options]
    loaded = load_model(resolve_model(DEFAULT_MODEL, Settings().cache.expanduser()))
    print("| unit | matrices | MB | options | median difference | largest difference, nats |")
    print("| -- | -- | -- | -- | -- | -- |")
    for unit, quantisation in FORMS:
        with tempfile.TemporaryDirectory() as name:
            size = write_gguf(
                loaded.model, loaded.source.folder, layers, unit, "x", quantisation, Path(name)
            )
            engine = open_gguf(Path(name) / GGUF_FILE)
            differences = []
            for prompt, option in options:
                ids = [*prompt, *option]
                with removed(loaded.model, layers, unit), torch.inference_mode():
                    ours = loaded.model(input_ids=torch.tensor([ids])).logits[0].numpy()
                theirs = llama_cpp_logits(engine, ids)
                mine, its = (log_likelihood(v, prompt, option) for v in (ours, theirs))
                differences.append(abs(mine - its))
            engine.close()
        print(
            f"| {unit} | {quantisation or 'float32'} | {size / 1e6:.0f} | {len(options)} | "
            f"{np.median(differences):.2g} | {max(differences):.2g} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
