"""Fresh weights: `create_train_state` as documented, and the same initialisation without a compile."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
import numpy.typing as npt
import optax
from flax.training.train_state import TrainState

from nvp_agentkit.errors import InvalidInput
from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.network import SMALLEST_SIDE, NVPModel

__all__ = ["TrainState", "Variables", "count_parameters", "create_train_state", "initial_variables", "shapes"]

Variables = dict[str, Any]
Optimiser = Literal["adam", "adamw"]
Vector = npt.NDArray[np.float32]
ANY_GRID = (64, 64)  # of most networks the weights are the same for any
# Dense layers of these names, and each block's second convolution, start at zero.
ZERO_KERNELS = ("heads", "doubt_heads")
CLIPPED_NORM, WEIGHT_DECAY = 1.0, 1e-4  # of adamw


@cache
def shapes(config: NVPConfig) -> Mapping[str, tuple[int, ...]]:
    """The shape of each weight by its path: what weights of this network must look like."""
    grid = config.document_grid or ANY_GRID
    frames, maps = (np.zeros((1, *grid, count), np.float32) for count in (config.context_frames, len(config.beside)))
    init: Any = partial(NVPModel(config).init, beside=jnp.asarray(maps) if config.beside else None)
    tree: Variables = jax.eval_shape(init, np.zeros(2, np.uint32), frames)
    return MappingProxyType({path: tuple(leaf.shape) for path, leaf in flatten(tree).items()})


def pack(variables: Variables) -> Vector:
    """All weights as one vector, in the order of `shapes`."""
    return np.concatenate([np.ravel(leaf) for leaf in flatten(variables).values()])


def unpack(config: NVPConfig, vector: Vector | jax.Array) -> Variables:
    """The inverse of `pack`: parts of ``vector``, in NumPy or inside a compiled step (in neither is one compiled)."""
    flat, start = {}, 0
    for path, shape in shapes(config).items():
        end = start + math.prod(shape)
        flat[path] = vector[start:end].reshape(shape)
        start = end
    return unflatten(flat)


def flatten(tree: Variables) -> dict[str, Any]:
    """Leaves by their path, ``params/encoder/...``, sorted."""
    flat: dict[str, Any] = {}
    for name, branch in sorted(tree.items()):
        below = flatten(branch) if isinstance(branch, dict) else {"": branch}
        flat |= {f"{name}/{path}" if path else name: leaf for path, leaf in below.items()}
    return flat


def unflatten(flat: dict[str, Any]) -> Variables:
    """The inverse of `flatten`."""
    tree: Variables = {}
    for path, leaf in flat.items():
        *above, name = path.split("/")
        branch = tree
        for part in above:
            branch = branch.setdefault(part, {})
        branch[name] = leaf
    return tree


def initial_variables(config: NVPConfig, seed: int) -> Variables:
    """Fresh float32 weights, equal for equal (config, seed).

    Drawn with NumPy after a shape-only trace: Flax's own `init` compiles some thirty random kernels, which
    costs seconds of the budget that the first job of an agent has. Distribution: LeCun normal kernels, zero
    biases, zero for the heads and for the last kernel of each residual block (see `network`), one for the scales
    and running variances of a normalisation.
    """
    rng = np.random.default_rng([seed, 0x4E5650])
    drawn = {}
    for path, shape in shapes(config).items():
        if path.endswith(("/scale", "/var")):
            drawn[path] = np.ones(shape, np.float32)
            continue
        second_convolution = config.use_residual and "ResidualBlock" in path and "Conv_1" in path
        zero = not path.endswith("kernel") or second_convolution or any(f"/{name}/" in path for name in ZERO_KERNELS)
        spread = 0.0 if zero else 1 / np.sqrt(math.prod(shape[:-1]))
        drawn[path] = np.asarray(spread * rng.standard_normal(shape), np.float32)
    return unflatten(drawn)


@cache
def named_optimiser(name: Optimiser, learning_rate: float) -> optax.GradientTransformation:
    """By name: ``adam`` is plain; ``adamw`` clips gradients to norm 1 and decays weights, not running averages."""
    if name == "adam":
        return optax.adam(learning_rate)

    def decayed(variables: Variables) -> Variables:
        return {kind: kind == "params" for kind in variables}

    return optax.chain(
        optax.clip_by_global_norm(CLIPPED_NORM),
        optax.adamw(learning_rate, weight_decay=WEIGHT_DECAY, mask=decayed),
    )


def create_train_state(
    rng: jax.Array,
    config: NVPConfig,
    learning_rate: float = 1e-4,
    input_shape: tuple[int, int] | None = None,
    optimiser_name: Optimiser = "adam",
) -> TrainState:
    """Fresh weights and an optimiser's state, as the founding document's Example 2.

    ``state.params`` holds all variables, running averages of a batch normalisation among them, so
    ``model.apply(state.params, ...)`` works with every norm, and a training step replaces both.

    Args:
        rng: a JAX key (old or new style); its data are the seed.
        config: the network.
        learning_rate: > 0.
        input_shape: (H, W); any the network takes gives the same weights.
        optimiser_name: see `named_optimiser`.

    Raises:
        InvalidInput: learning rate, shape or optimiser out of range.
    """
    if not 0 < learning_rate < math.inf:
        raise InvalidInput(f"learning_rate is {learning_rate}; give a positive number")
    if optimiser_name not in get_args(Optimiser):
        raise InvalidInput(f"optimiser is {optimiser_name!r}; give one of {', '.join(get_args(Optimiser))}")
    grid = config.document_grid
    if input_shape is not None and grid is not None and tuple(input_shape) != grid:
        raise InvalidInput(f"input_shape is {input_shape}; this network is built for {grid}")
    if input_shape is not None and min(input_shape) < SMALLEST_SIDE:
        raise InvalidInput(f"input_shape is {input_shape}; both sides must be at least {SMALLEST_SIDE}")
    key = jax.random.key_data(rng) if jnp.issubdtype(rng.dtype, jax.dtypes.prng_key) else rng
    seed = int.from_bytes(np.asarray(key, np.uint32).tobytes(), "little")
    state: TrainState = TrainState.create(  # type: ignore[no-untyped-call]
        apply_fn=_network(config).apply,
        params=initial_variables(config, seed),
        tx=named_optimiser(optimiser_name, learning_rate),
    )
    return state


@cache
def _network(config: NVPConfig) -> NVPModel:
    """One object a configuration: a compiled step is found again by what its state applies."""
    return NVPModel(config)


def count_parameters(variables: Variables) -> int:
    """Number of trainable values; running averages are none."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
