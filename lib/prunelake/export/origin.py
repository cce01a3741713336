"""The base model and the licence of a model, from the header of its GGUF file."""

from pathlib import Path

from gguf import GGUFReader

from prunelake.export.card.model_card import ModelOrigin
from prunelake.models.references import package_gguf_file

HUB = "https://huggingface.co/"


def model_origin(reference: str, cache: Path) -> ModelOrigin:
    """The origin that a GGUF file states; empty for another model, or if the file states none.

    A converted file names its organisation and is named after its model and number format:
    `SmolLM2-135M-Instruct.Q4_1.gguf` of HuggingFaceTB.
    """
    kind, _, rest = reference.partition(":")
    if kind == "package":
        file = package_gguf_file(reference, rest, cache)
    elif reference.endswith(".gguf"):
        file = Path(reference).expanduser()
    else:
        return ModelOrigin()
    fields = GGUFReader(file).fields
    stated = {
        name: str(fields[f"general.{name}"].contents())
        for name in ("base_model.0.repo_url", "organization", "license")
        if f"general.{name}" in fields
    }
    base_model = stated.get("base_model.0.repo_url", "").removeprefix(HUB)
    if not base_model and "organization" in stated and "." in file.stem:
        base_model = f"{stated['organization'].replace(' ', '-')}/{file.stem.partition('.')[0]}"
    return ModelOrigin(base_model, stated.get("license", ""))
