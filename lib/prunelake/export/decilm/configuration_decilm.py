"""The configuration of a Llama whose blocks may lack their attention or their MLP.

`block_configs` has an entry for each block, in the format of the nemotron-nas models:
`{"attention": {"no_op": true, ...}, "ffn": {"no_op": false, ...}}`.
"""

from typing import Any

from transformers import LlamaConfig


class Settings(dict[str, Any]):
    """A mapping whose values are attributes, too; JSON knows it as an object."""

    def __getattr__(self, name: str) -> Any:
        """The value of `name`."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class DeciLMConfig(LlamaConfig):
    """A Llama configuration with an entry for each block."""

    model_type = "nemotron-nas"

    def __init__(self, block_configs: Any = (), **kwargs: Any) -> None:
        """Make `block_configs[i].attention.no_op` and `.ffn.no_op` readable as attributes."""
        super().__init__(**kwargs)
        self.block_configs = [
            Settings({name: Settings(part) for name, part in block.items()})
            for block in block_configs
        ]
