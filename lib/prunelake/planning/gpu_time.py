"""The time of counted work on a GPU, in parts, from the GPU's data sheet.

    gpu_time(SHAPES["7b"], H100, "bfloat16", work).hours

This is an estimate: no part of it is measured on a GPU. Rates are data sheet values, times the
share that large products and copies usually reach.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from prunelake.spec import Dtype

PRODUCT_EFFICIENCY = 0.6
"""The share of a GPU's peak that products of thousands of rows reach. An assumption."""

BANDWIDTH_EFFICIENCY = 0.85
"""The share of a GPU's bandwidth that elementwise kernels reach. An assumption."""

ELEMENTWISE_BYTES: Mapping[int, tuple[float, float]] = {2: (136, 10), 4: (185, 20)}
"""Bytes that the norms, rotations, activations and sums of a Llama block read and write for a
token, for each element of its width and of its inner width, by the bytes of a number. Counted on
torch's meta device; a test counts again."""


FUSED_SHARE = 0.54
"""The share of these bytes that remains if torch compiles norms and MLPs (`models.fusion`): a norm
reads and writes its states once, an activation reads two tensors and writes one. For 7B."""


@dataclass(frozen=True)
class Gpu:
    """The data sheet of a GPU: bytes of memory, bytes and products a second, without sparsity."""

    name: str
    memory: float
    bandwidth: float
    flops: Mapping[Dtype, float]


H100 = Gpu(
    "H100 SXM",
    80e9,
    3.35e12,
    {"bfloat16": 989e12, "float16": 989e12, "tf32": 494e12, "float32": 67e12},
)


@dataclass(frozen=True)
class ModelShape:
    """The shape of a decoder like Llama."""

    layers: int
    width: int
    inner_width: int
    key_value_share: float
    """The width of keys and of values, as a share of `width`."""
    vocabulary: int

    @property
    def attention_weights(self) -> float:
        """The weights of one attention."""
        return (2 + 2 * self.key_value_share) * self.width**2

    @property
    def mlp_weights(self) -> float:
        """The weights of one MLP."""
        return 3.0 * self.width * self.inner_width

    @property
    def parameters(self) -> float:
        """All weights, with separate input and output embeddings."""
        in_blocks = self.layers * (self.attention_weights + self.mlp_weights)
        return in_blocks + 2 * self.width * self.vocabulary


SHAPES = {
    "1b": ModelShape(16, 2048, 8192, 0.25, 128_256),
    "7b": ModelShape(32, 4096, 11008, 1.0, 32_000),
    "70b": ModelShape(80, 8192, 28672, 0.125, 32_000),
}
"""The shapes of Llama 3.2 1B, Llama 2 7B and Llama 2 70B."""


@dataclass(frozen=True)
class Work:
    """The counted work of sweeps.

    - `block_tokens`: tokens through MLPs, in passes through all blocks.
    - `attention_tokens`: tokens through attention, counted alike; removed attention counts nothing.
    - `mean_length`: the mean length of their rows.
    - `read_tokens`: positions whose next token is predicted, each counted once for a branch.
    - `host_s`: seconds of the CPU in which the GPU may wait: trees, batches and answers.
    - `mask_s`: seconds of the CPU to draw masks and to fit explanations.
    """

    block_tokens: float
    attention_tokens: float
    mean_length: float
    read_tokens: float
    host_s: float
    mask_s: float


@dataclass(frozen=True)
class GpuTime:
    """Seconds by part; the sum assumes that parts do not overlap."""

    products: float
    elementwise: float
    host: float
    masks: float

    @property
    def hours(self) -> float:
        """All parts, in hours."""
        return (self.products + self.elementwise + self.host + self.masks) / 3600


def product_flops(shape: ModelShape, work: Work) -> float:
    """Multiplications and additions of all products: blocks, attention over rows, output head."""
    mlps = 2 * shape.layers * shape.mlp_weights * work.block_tokens
    over_rows = 4 * work.mean_length * shape.width
    attention = 2 * shape.attention_weights + over_rows
    head = 2 * shape.width * shape.vocabulary * work.read_tokens
    return mlps + shape.layers * attention * work.attention_tokens + head


def elementwise_bytes(shape: ModelShape, work: Work, number_bytes: int) -> float:
    """Bytes that everything between the products reads and writes."""
    by_width, by_inner_width = ELEMENTWISE_BYTES[number_bytes]
    in_block = by_width * shape.width + by_inner_width * shape.inner_width
    logits = (2 * number_bytes + 8) * shape.vocabulary * work.read_tokens
    return shape.layers * in_block * work.block_tokens + logits


def gpu_time(
    shape: ModelShape, gpu: Gpu, dtype: Dtype, work: Work, elementwise_share: float = 1.0
) -> GpuTime:
    """The time of some work on one GPU that holds the model.

    `elementwise_share` is the share of elementwise bytes that remains where kernels are fused.
    """
    number_bytes = 4 if dtype in ("float32", "tf32") else 2
    moved = elementwise_bytes(shape, work, number_bytes) * elementwise_share
    return GpuTime(
        products=product_flops(shape, work) / (gpu.flops[dtype] * PRODUCT_EFFICIENCY),
        elementwise=moved / (gpu.bandwidth * BANDWIDTH_EFFICIENCY),
        host=work.host_s,
        masks=work.mask_s,
    )
