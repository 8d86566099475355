"""The founding document's own network, as its text has it: the whole field through one vector of 512 numbers.

Kept to be compared with (`NVPConfig.documented`). The text says about 8.5 M parameters; written out it has 546.3 M at
256x256, nearly all in the three dense layers around the vector. Source: session S2, "Model Architecture Details".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from nvp_agentkit.model.config import NVPConfig
from nvp_agentkit.model.layers import Norm


class DocumentedBlock(nn.Module):
    """gelu(x + norm(conv(gelu(norm(conv(x)))))), zero padding; without ``use_residual`` x is left out."""

    config: NVPConfig
    features: int

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        norm = self.config.norm
        y = nn.gelu(Norm(norm)(nn.Conv(self.features, (3, 3))(x), training))
        y = Norm(norm)(nn.Conv(self.features, (3, 3))(y), training)
        return nn.gelu(x + y if self.config.use_residual else y)


class DocumentedEncoder(nn.Module):
    """Halves the grid at every level: (B, H, W, C) -> (B, H/8, W/8, 256) with three."""

    config: NVPConfig

    @nn.compact
    def __call__(self, x: jax.Array, training: bool) -> jax.Array:
        for features in self.config.encoder_features:
            x = nn.Conv(features, (3, 3), strides=2)(x)
            x = nn.gelu(Norm(self.config.norm)(x, training))
            x = DocumentedBlock(self.config, features)(x, training)
        return x


class DocumentedDecoder(nn.Module):
    """The latent vector (B, D) to one map (B, H, W, 1), doubling the grid at every level."""

    config: NVPConfig
    grid: tuple[int, int]

    @nn.compact
    def __call__(self, latent: jax.Array, training: bool) -> jax.Array:
        widths = self.config.decoder_features or self.config.encoder_features[::-1]
        h, w = (side // 2 ** len(widths) for side in self.grid)
        x = nn.Dense(h * w * widths[0])(latent).reshape(-1, h, w, widths[0])
        for features in widths:
            x = nn.ConvTranspose(features, (3, 3), strides=(2, 2))(x)
            x = nn.gelu(Norm(self.config.norm)(x, training))
            x = DocumentedBlock(self.config, features)(x, training)
        return nn.Conv(1, (1, 1))(x)


class DocumentedNetwork(nn.Module):
    """Two encoders (energy, gradients), flattened and fused to ``latent_dim`` numbers, two decoders."""

    config: NVPConfig
    grid: tuple[int, int]

    @nn.compact
    def __call__(
        self, energy: jax.Array, grad_x: jax.Array, grad_y: jax.Array, training: bool
    ) -> tuple[jax.Array, jax.Array]:
        """Mean and log-variance of the next frame, (B, H, W, 1) each."""
        config = self.config
        slopes = jnp.concatenate([grad_x, grad_y], -1)
        paths = [
            DocumentedEncoder(config, name="energy_encoder")(energy, training),
            DocumentedEncoder(config, name="gradient_encoder")(slopes, training),
        ]
        flat = jnp.concatenate([path.reshape(len(path), -1) for path in paths], -1)
        latent = nn.gelu(nn.Dense(config.latent_dim, name="fusion")(flat))
        latent = nn.Dropout(config.dropout_rate, deterministic=not training)(latent)
        mean = DocumentedDecoder(config, self.grid, name="mean_decoder")(latent, training)
        log_var = DocumentedDecoder(config, self.grid, name="log_var_decoder")(latent, training)
        return mean, log_var
