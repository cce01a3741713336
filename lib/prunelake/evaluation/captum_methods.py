"""LIME and KernelSHAP by captum's own sampling and regression, with masks that are drawn once.

captum draws masks one by one and fits in the same call, again for each prompt and level. Its masks
depend only on the seed and the number of tokens, so all levels, and all prompts of one length,
share them. The regression is captum's own and runs for each level alone: several levels in one
regression would change the last bits.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from prunelake.schema.arrays import BoolArray, FloatArray

MAX_DRAWS = 64
"""Draws that stay in memory: about ten prompt lengths for two methods and three seeds."""


@dataclass(frozen=True)
class CaptumDraw:
    """The masks [samples, tokens] of a method under one seed, and their weights [samples]."""

    method: str
    masks: BoolArray
    weights: Tensor

    def fit(self, values: FloatArray) -> FloatArray:
        """The scores [tokens], from the value [samples] of each mask.

        They equal the scores of captum's `attribute` in every bit.
        """
        model = _explainer(self.method).interpretable_model
        data = torch.from_numpy(self.masks).float(), torch.tensor(values).float(), self.weights
        with torch.random.fork_rng(devices=[]):  # the model starts from random weights
            model.fit([data])  # one batch, as from a data loader
        scores: FloatArray = model.representation()[0].double().numpy()
        return scores


@lru_cache(maxsize=MAX_DRAWS)
def draw_masks(method: str, seed: int, token_count: int, sample_count: int) -> CaptumDraw:
    """Draw the masks of LIME or KernelSHAP for all prompts with this number of tokens."""
    recorder = _Recorder()
    explainer = _explainer(method)
    explainer.interpretable_model = recorder
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would also seed GPUs
        explainer.attribute(
            torch.ones(1, token_count), n_samples=sample_count, perturbations_per_eval=sample_count
        )
    return CaptumDraw(method, recorder.masks, recorder.weights)


def _explainer(method: str) -> Any:
    from captum.attr import KernelShap, Lime  # a second of imports, which few sweeps need

    return (KernelShap if method == "kernel_shap" else Lime)(_no_values)


class _Recorder:
    """Replaces captum's linear model: it keeps the data, and explains nothing."""

    masks: BoolArray
    weights: Tensor

    def fit(self, batches: Any) -> None:
        ((masks, _, self.weights),) = batches
        self.masks = masks.bool().numpy()

    def representation(self) -> Tensor:
        return torch.zeros(1, self.masks.shape[1])


def _no_values(masks: Tensor) -> Tensor:
    return torch.zeros(len(masks))
