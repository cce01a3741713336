"""Detached modules leave the logits as those of the model with these layers removed."""

from contextlib import suppress

import pytest
import torch

from prunelake.errors import UnknownLayer
from prunelake.models.decoder.decoder_map import removable_parts
from prunelake.models.removal import detached, removed
from prunelake.spec import Unit
from tests.support.models.measured_levels import decoded, ids, logits
from tests.support.models.tiny_models import (
    LAYER_COUNT,
    SHORT_FAMILIES,
    UNITS,
    tiny_model,
)

CHOICES = {"block 0": (0, 3), "later ones": (1, 2), "all": tuple(range(LAYER_COUNT))}


@pytest.mark.parametrize("family", SHORT_FAMILIES)
@pytest.mark.parametrize("layers", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize("unit", UNITS)
def test_cached_decoding_equals_the_model_with_these_layers_removed(
    family: str, layers: tuple[int, ...], unit: Unit
) -> None:
    model = tiny_model(family)
    with removed(model, layers, unit):
        expected = logits(model, ids())
    with detached(model, layers, unit):
        assert torch.equal(logits(model, ids()), expected)
        found, cache = decoded(model, ids())
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
    assert cache.get_seq_length() == ids().shape[1]


@pytest.mark.parametrize("family", SHORT_FAMILIES)
def test_detached_weights_are_no_parameters_and_come_back(family: str) -> None:
    model = tiny_model(family)
    before, names = logits(model, ids()), [*model.state_dict()]
    attentions = [part.module for (part,) in removable_parts(model, "attention")]
    within = {id(p) for number in (0, 3) for p in attentions[number].parameters()}
    with suppress(ZeroDivisionError), detached(model, (3, 0)) as gone:
        assert gone == [attentions[0], attentions[3]]
        left = {id(parameter) for parameter in model.parameters()}
        assert not left & within
        assert len(left) == len(names) - len(within)
        raise ZeroDivisionError
    assert [*model.state_dict()] == names
    assert torch.equal(logits(model, ids()), before)
    assert [part.module for (part,) in removable_parts(model, "attention")] == attentions


def test_an_unknown_layer_detaches_nothing() -> None:
    model = tiny_model("llama")
    names = [*model.state_dict()]
    with pytest.raises(UnknownLayer, match="layer 5"), detached(model, (0, 5)):
        pass
    assert [*model.state_dict()] == names
