"""A model to ask questions, whole or without some of its layers."""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl

from prunelake.errors import InvalidSpec
from prunelake.evaluation.attributions import compute_attributions
from prunelake.explanation_spec import DEFAULT_UNPRUNED_SAMPLES, Method
from prunelake.inference.nested import NestedModel
from prunelake.inference.prefix_tree import ScoringQuery
from prunelake.models.decoder.text_model import context_length, text_config
from prunelake.models.loading import LoadedModel
from prunelake.models.removal import removed
from prunelake.models.sources import resolve_model
from prunelake.public.attribution import Attribution
from prunelake.settings import Settings, load_settings
from prunelake.spec import DEFAULT_MODEL, Dtype, Explanation, Unit, number_format
from prunelake.sweeps.steps import cached_model
from prunelake.tasks.encoding import EncodedExample, Encoder, encode_examples
from prunelake.tasks.rows import Example

Removal = tuple[Unit, tuple[int, ...]]
"""A unit, and the layers that lack it."""


class Model:
    """A loaded model and its tokenizer; `load` returns a `Model`.

    - `reference`: the model reference, as given to `load`.
    - `layer_count`: the number of its blocks.
    """

    def __init__(self, loaded: LoadedModel, dtype: Dtype, settings: Settings) -> None:
        self.reference = loaded.source.reference
        self.layer_count = loaded.source.layer_count
        self.dtype: Dtype = dtype
        self.trusts_remote_code = bool(loaded.source.remote_code)
        self.settings = settings
        self.removals: tuple[Removal, ...] = ()
        """The removals of the `with` blocks around the current line."""
        self._loaded = loaded
        self._encoder = Encoder(loaded.tokenizer)

    def __repr__(self) -> str:
        without = "".join(f", without {unit} {list(layers)}" for unit, layers in self.removals)
        numbers = number_format(self._loaded.source.quantisation, self.dtype)
        return f"Model({self.reference}, {self.layer_count} layers, {numbers}{without})"

    @contextmanager
    def removed(
        self,
        *,
        attention: Collection[int] = (),
        mlp: Collection[int] = (),
        block: Collection[int] = (),
        linear_attention: Collection[int] = (),
        state_space: Collection[int] = (),
        expert: Collection[int] = (),
    ) -> Iterator[None]:
        """Leave out the attention, the MLP, or the whole block of layers within a `with` block.

            with model.removed(attention=[3, 5]):
                model.log_likelihoods("The capital of France is", [" Paris", " Rome"])

        A removed attention or MLP adds nothing, as if it returned zero. Layers count from 0, and
        only layers with this unit count: attention layer 0 is the first block with softmax
        attention. Experts count over all blocks with experts. After the block the model is whole
        again, also after an error. Blocks may be nested.

        Raises:
            UnknownLayer: a layer that the model does not have.
            UnsupportedModel: a unit that the model does not have.
        """
        units: dict[Unit, Collection[int]] = {
            "attention": attention,
            "mlp": mlp,
            "block": block,
            "linear_attention": linear_attention,
            "state_space": state_space,
            "expert": expert,
        }
        before = self.removals
        self.removals += tuple((unit, tuple(layers)) for unit, layers in units.items() if layers)
        try:
            with self._without_removed():
                pass  # raise for an unknown layer here, not at the first question
            yield
        finally:
            self.removals = before

    def log_likelihoods(self, prompt: str, options: Sequence[str]) -> dict[str, float]:
        """The log-likelihood of each option after the prompt, in nats, by option.

            model.log_likelihoods("The capital of France is", [" Paris", " Rome"])

        An option is the exact text that follows the prompt, with the space in front of it.

        Raises:
            InvalidSpec: no options, or the same option twice.
            TaskError: an option without a token of its own, or a text beyond the model's context.
        """
        if not options or len(set(options)) < len(options):
            raise InvalidSpec(f"options {list(options)}: give at least one, and each only once")
        encoded = self._encode(prompt, options)
        query = ScoringQuery(self._encoder.context_ids(encoded.prompt), encoded.options, (0,))
        with self._without_removed() as nested:
            (values,) = nested.log_likelihoods([query])
        return dict(zip(options, values[0].tolist(), strict=True))

    def attribute(
        self,
        prompt: str,
        option: str,
        method: Method = "leverage_shap",
        *,
        samples_per_token: float = DEFAULT_UNPRUNED_SAMPLES,
        seed: int = 0,
    ) -> Attribution:
        """How much each token of the prompt moves the log-likelihood of the option.

            model.attribute("The capital of France is", " Paris")

        The default `leverage_shap` estimates Shapley values: the model scores `samples_per_token`
        masked prompts for each token. If the prompt is short enough, the model scores all masked
        prompts, and the values are exact. A masked token is replaced by token 0. A sweep has the
        same methods.

        Raises:
            TaskError: as `log_likelihoods`, or a prompt with fewer than two tokens.
        """
        encoded = self._encode(prompt, [option])
        explanation = Explanation(methods=(method,), seeds=(seed,))
        if method == "leverage_shap":
            explanation = explanation.model_copy(update={"leverage_samples": samples_per_token})
        predictions = pl.DataFrame(
            {
                "run_id": [""],
                "level": [0],
                "example_id": [encoded.example.example_id],
                "prediction": [0],
            }
        )
        with self._without_removed() as nested:
            rows = compute_attributions(nested, predictions, [encoded], (0,), explanation)
        (scores,) = rows.filter(method=method)["scores"]
        return Attribution(
            option,
            method,
            encoded.token_texts,
            tuple(scores),
            self.log_likelihoods(prompt, [option])[option],
        )

    def _encode(self, prompt: str, options: Sequence[str]) -> EncodedExample:
        example = Example("prompt", prompt, tuple(options), 0)
        context = context_length(text_config(self._loaded.model))
        return encode_examples(self._encoder, [example], context)[0]

    @contextmanager
    def _without_removed(self) -> Iterator[NestedModel]:
        """The model without the layers that the surrounding `with` blocks remove.

        Its modules are changed only within this block: a sweep of the same weights uses the same
        modules, and must find them whole.
        """
        with ExitStack() as stack:
            for unit, layers in self.removals:
                stack.enter_context(removed(self._loaded.model, layers, unit))
            yield NestedModel(self._loaded.model, ())


def load(
    reference: str | Path = DEFAULT_MODEL,
    *,
    dtype: Dtype = "float32",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> Model:
    """Load a model.

        model = pl.load("hub:HuggingFaceTB/SmolLM2-135M")
        model = pl.load("models/my-checkpoint", dtype="bfloat16", device="cuda")

    A reference is `hub:ORG/NAME@REVISION`, a folder, a `.gguf` file, or `package:NAME/FILE.gguf`.
    By default the device is PRUNELAKE_DEVICE, or else a GPU if there is one. A sweep of the model
    uses the weights that are already loaded. `trust_remote_code` runs the code that a model brings
    along, which could do anything on this machine.

    Raises:
        ModelError: no such model or device, or a model whose layers cannot be removed.
    """
    settings = load_settings()
    if device is not None:
        settings = settings.model_copy(update={"device": device})
    source = resolve_model(
        str(reference),
        settings.cache.expanduser(),
        "block",
        trust_remote_code=trust_remote_code,
    )
    log = logging.getLogger("prunelake").info
    return Model(cached_model(source, dtype, settings, log), dtype, settings)
