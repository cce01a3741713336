"""The tools that PruneLake is compared with, each at one removal level of the same model.

Each runs inside `prunelake.models.removal.removed`, which prunes the model for it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from captum.attr import KernelShap, LLMAttribution, TextTokenInput
from numpy.typing import NDArray
from transformers import PreTrainedModel

from benchmarks.subject import BenchmarkCase
from prunelake.evaluation.deletion_curves import top_count
from prunelake.evaluation.token_counts import SAMPLES_PER_TOKEN
from prunelake.models.removal import removed
from prunelake.tasks.encoding import EncodedExample

Scores = NDArray[np.float64]
Curve = dict[tuple[str, float], float]


@contextmanager
def at_level(subject: BenchmarkCase, level: int) -> Iterator[None]:
    with removed(subject.loaded.model, subject.order[:level]):
        yield


def captum_scores(
    subject: BenchmarkCase, encoded: EncodedExample, option: int, seed: int, by_token: bool
) -> Scores:
    """captum's KernelSHAP of one example.

    With `by_token` (its default) it scores each token of the option in a separate pass with a
    cache.
    """
    model, tokenizer = subject.loaded.model, subject.loaded.tokenizer
    text = encoded.example.prompt.rstrip()
    explained = TextTokenInput(text, tokenizer, baselines=subject.explanation.baseline_token)
    assert explained.n_itp_features == len(encoded.prompt)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        result = LLMAttribution(KernelShap(model), tokenizer).attribute(
            explained,
            target=torch.tensor(encoded.options[option]),
            n_samples=SAMPLES_PER_TOKEN * len(encoded.prompt),
            forward_in_tokens=by_token,
            use_cached_outputs=by_token,
        )
    scores: Scores = result.seq_attr.double().cpu().numpy()
    return scores


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, context: Sequence[int], options: Sequence[Sequence[int]]
) -> Scores:
    """The summed log-likelihood of each option, with one pass of batch size 1 for each."""
    sums = []
    for option in options:
        ids = torch.tensor([[*context, *option]], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(context) - 1 : -1].float()
        steps = logits.log_softmax(-1)
        sums.append(steps.gather(1, torch.tensor([[*option]], device=model.device).T).sum().item())
    return np.array(sums)


def shares(sums: Scores) -> Scores:
    """Softmax."""
    powers = np.exp(sums - sums.max())
    found: Scores = powers / powers.sum()
    return found


def curves(
    subject: BenchmarkCase, encoded: EncodedExample, scores: Sequence[float], option: int
) -> Curve:
    """The option's probability after deletion, by (kind, fraction): one pass per option and bin."""
    encoder, ids = subject.encoder, np.asarray(encoded.prompt)
    model = subject.loaded.model
    # The unchanged prompt, which the paper scores, too.
    log_likelihoods(model, encoder.context_ids(encoded.prompt), encoded.options)
    best_first = np.argsort(-np.asarray(scores), kind="stable")
    found: Curve = {}
    for fraction in subject.explanation.fractions:
        count = top_count(fraction, len(ids))
        if count == 0:
            continue
        top = np.sort(best_first[:count])
        rest = np.sort(best_first[count:])
        for kind, kept in (("comprehensiveness", rest), ("sufficiency", top)):
            changed = encoder.context_ids(encoder.retokenise(ids[kept].tolist()))
            answers = shares(log_likelihoods(model, changed, encoded.options))
            found[kind, fraction] = float(answers[option])
    return found


class Interpreto:
    """interpreto's batched KernelSHAP. It resizes the embeddings of its model: give it a copy."""

    def __init__(self, subject: BenchmarkCase, batch_size: int) -> None:
        self.subject, self.batch_size = subject, batch_size

    def _explainer(self, samples: int) -> Any:
        from interpreto import Granularity
        from interpreto import KernelShap as Batched
        from interpreto.attributions import InferenceModes

        loaded = self.subject.loaded
        return Batched(
            loaded.model,
            loaded.tokenizer,
            batch_size=self.batch_size,
            granularity=Granularity.TOKEN,
            inference_mode=InferenceModes.LOG_SOFTMAX,
            n_perturbations=samples,
            device=loaded.model.device,
        )

    def scores(self, encoded: EncodedExample, option: int) -> Scores:
        """Scores of the prompt's tokens, with as many samples as PruneLake but its own sampling."""
        explainer = self._explainer(SAMPLES_PER_TOKEN * len(encoded.prompt))
        target = torch.tensor([encoded.options[option]])  # it squeezes the first dimension
        (result,) = explainer(encoded.example.prompt.rstrip(), target)
        per_token = result.attributions[:, : len(encoded.prompt)]
        assert result.attributions.shape == (target.numel(), len(encoded.prompt) + target.numel())
        scores: Scores = per_token.double().nansum(0).cpu().numpy()
        return scores

    @torch.inference_mode()
    def log_likelihood(self, encoded: EncodedExample, option: int) -> float:
        """Its log-likelihood of the unchanged prompt, on which its scores depend."""
        wrapper = self._explainer(1).inference_wrapper
        ids = torch.tensor([[*encoded.prompt, *encoded.options[option]]])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        (values,) = wrapper(iter([inputs]), iter([torch.tensor(encoded.options[option])]))
        return float(values.double().sum())


class Harness:
    """lm-evaluation-harness: its model class and its own tokenising and batching."""

    def __init__(self, subject: BenchmarkCase, batch_size: int) -> None:
        from lm_eval.models.huggingface import HFLM

        loaded = subject.loaded
        self.model: Any = HFLM(
            pretrained=loaded.model,
            tokenizer=loaded.tokenizer,
            batch_size=batch_size,
            device=str(loaded.model.device),
            softmax_dtype="float32",  # sums of bfloat16 would be nats off
        )

    def log_likelihoods(self, examples: Sequence[EncodedExample]) -> list[Scores]:
        """The log-likelihood of each option of each example."""
        from lm_eval.api.instance import Instance

        asked = [
            Instance("loglikelihood", {}, (encoded.example.prompt, option), number)
            for encoded in examples
            for number, option in enumerate(encoded.example.options)
        ]
        answers = iter(self.model.loglikelihood(asked, disable_tqdm=True))
        return [np.array([next(answers)[0] for _ in encoded.options]) for encoded in examples]
