"""Where the ridges of networks of several inputs start: random directions, offsets evenly over the cube."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.networks.encoders import HatEncoder
from hyperscale.networks.mlp import Shape
from hyperscale.seeding import normal, stream_keys, uniform
from hyperscale.training.grid_fit import GridFit
from hyperscale.training.separable import Separable

_WAVES = 3


def place_ridges(fit: GridFit, jitter: float) -> None:
    """Set e to the identity and smooth functions where it is a table, and the first layer of q to ridges s(w u + b)."""
    fits = Separable(fit)
    theta = fits.read()
    q = theta if fits.e is None else theta[:, fits.e.num_params :]
    if fits.e is not None:
        embed(fit, theta[:, : fits.e.num_params])
    set_ridges(fit, fits.q, q, jitter)
    fits.write(theta, torch.ones(fits.num_problems, dtype=torch.bool, device=theta.device))


def set_ridges(fit: GridFit, q: Shape, theta: Tensor, jitter: float) -> None:
    """Put ridges, drawn from the members' seeds, into the first layer of networks ``theta`` [members * k, num_params].

    Smooth activations get slopes of about one unit per kink.
    """
    direction, offset = _ridges(fit, q, len(theta) // fit.num_members, jitter)
    weight, bias = q.split(theta)[0]
    slope = 1.0 if fit.method.activation in ("relu", "leaky_relu") else 0.5 * q.sizes[1] ** (1.0 / q.sizes[0])
    weight.copy_(slope * direction)
    if bias is not None:
        bias.copy_(slope * offset)


def _ridges(fit: GridFit, q: Shape, networks: int, jitter: float) -> tuple[Tensor, Tensor]:
    """Return unit directions [problems, inputs, width] and offsets [problems, width] of the first layer's kinks.

    Along a direction w the cube ends at abs(w)_1; the j-th unit's kink stands at the j-th of ``width`` even shares of
    that length, jittered, so that every unit's kink crosses the cube.
    """
    inputs, width = q.sizes[0], q.sizes[1]
    keys = stream_keys(fit.seeds, "init", "ridges")
    draws = normal(keys, networks * inputs * width).reshape(-1, inputs, width)
    direction = draws / draws.square().sum(dim=1, keepdim=True).sqrt()
    if inputs == 1:
        direction = torch.ones_like(direction)
    noise = uniform(stream_keys(fit.seeds, "init", "offsets"), networks * width).reshape(-1, width) - 0.5
    share = 2 * (torch.arange(width, dtype=torch.float64) + 0.5 + jitter * noise) / width - 1
    reach = direction.abs().sum(dim=1)
    return direction.to(fit.params.device), (-share * reach).to(fit.params.device)


def embed(fit: GridFit, theta: Tensor) -> None:
    """Set the table e of [members, N_e]: I in its first coordinates, low random waves of I in the further ones."""
    method = fit.method
    assert isinstance(method, Embedding)
    if not isinstance(method.encoder, HatEncoder) or method.widths:
        return
    dims = fit.dims
    weight, bias = method.e_shape(dims).split(theta)[-1]
    if bias is not None:
        bias.zero_()
    axis = torch.linspace(-1, 1, method.encoder.knots, dtype=torch.float64)
    where = torch.cartesian_prod(*[axis] * dims.conditioning_dim).reshape(-1, dims.conditioning_dim)
    further = max(0, method.embedding_dim - dims.conditioning_dim)
    keys = stream_keys(fit.seeds, "init", "waves")
    noise = uniform(keys, max(1, further * (_WAVES * dims.conditioning_dim + 1)))
    for column in range(method.embedding_dim):
        if column < dims.conditioning_dim:
            weight[..., column] = where[:, column].to(theta.device)
            continue
        start = (column - dims.conditioning_dim) * (_WAVES * dims.conditioning_dim + 1)
        frequency = _WAVES * (noise[:, start : start + dims.conditioning_dim] - 0.5) * math.pi
        phase = 2 * math.pi * noise[:, start + dims.conditioning_dim]
        angle = (where[None] * frequency[:, None]).sum(dim=-1) + phase[:, None]
        weight[..., column] = angle.sin().to(theta.device)
