"""Fits whose last layer is linear in parameters of its own, in the general case: dense designs and Jacobians.

h = Phi(theta) c with the last hidden layer's values (and ones, where the last layer has a bias) as columns of Phi. The
derivative of Phi c by every parameter below is written out layer by layer: for a layer with input a and the derivative
delta of the output by its own output, point by point, it is the outer product of a and delta.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import activate_, differentiate_
from hyperscale.networks.backprop import affine, affine_input_gradient, forward
from hyperscale.networks.mlp import Layer, Shape
from hyperscale.training.grid_fit import GridFit

_RIDGE = 1e-8


class Separable:
    """The fits of a `PerInstance`, `Monolithic` or `Embedding` as separate problems.

    ``y`` [problems, rows], with the points of one I after those of another; parameters ``theta`` [problems, num_params]
    are split into those below the last layer and the last layer's c.
    """

    def __init__(self, fit: GridFit) -> None:
        method, dims = fit.method, fit.dims
        assert isinstance(method, PerInstance | Monolithic | Embedding)
        self.fit, self.activation = fit, method.activation
        self.q: Shape = method.primary_shape(dims)
        self.e: Shape | None = method.e_shape(dims) if isinstance(method, Embedding) else None
        self.num_instances, self.num_points = fit.x.shape[:2]
        if isinstance(method, PerInstance):
            self.y = fit.y.flatten(0, 1)
            self.inputs = fit.x_grid
        else:
            self.y = fit.y.flatten(1, 2)
            beside = fit.conditioning.unsqueeze(-2).expand(*fit.x.shape[:2], -1)
            own = fit.x if self.e is not None else torch.cat((fit.x, beside), dim=-1)
            self.inputs = own.flatten(0, 1)
        self.num_linear = self.q.sizes[-2] + self.q.biases[-1]

    @property
    def num_problems(self) -> int:
        """The number of separate fits."""
        return len(self.y)

    def read(self) -> Tensor:
        """Return theta [problems, num_params]."""
        return self.fit.params.reshape(self.num_problems, -1).clone()

    def write(self, theta: Tensor, better: Tensor) -> None:
        """Put the parameters of the problems that are ``better`` into the fit's."""
        old = self.fit.params.reshape(self.num_problems, -1)
        self.fit.params.copy_(torch.where(better[:, None], theta, old).view_as(self.fit.params))

    def _layers(self, theta: Tensor) -> tuple[list[Layer], list[Layer]]:
        """Return e's layers (none without e) and q's."""
        if self.e is None:
            return [], self.q.split(theta)
        own = theta[:, : self.e.num_params], theta[:, self.e.num_params :]
        return self.e.split(own[0]), self.q.split(own[1])

    def evaluate(self, theta: Tensor) -> Values:
        """Return the values of all layers below the last one."""
        problems = len(theta)
        e_layers, q_layers = self._layers(theta)
        first = self.inputs.expand(problems, *self.inputs.shape)
        embedded: list[Tensor] = []
        if self.e is not None:
            features = self.fit.features.expand(problems, *self.fit.features.shape).contiguous()
            embedded = forward(e_layers, features, self.activation)
            first = torch.cat((first, self.spread(embedded[-1])), dim=-1)
        hidden = [first.contiguous()]
        for layer in q_layers[:-1]:
            hidden.append(activate_(affine(hidden[-1], layer), self.activation))
        return Values(embedded=embedded, hidden=hidden)

    def spread(self, rows: Tensor) -> Tensor:
        """Repeat numbers per I [problems, instances, size] for every point, [problems, instances * points, size]."""
        return rows.repeat_interleave(self.num_points, dim=1)

    def design(self, values: Values) -> Tensor:
        """Return Phi [problems, rows, num_linear]."""
        last = values.hidden[-1]
        return torch.cat((last, torch.ones_like(last[..., :1])), dim=-1) if self.q.biases[-1] else last

    def jacobian(self, theta: Tensor, values: Values) -> Tensor:
        """Return d(Phi c) / d(theta below the last layer), [problems, rows, num_params - num_linear]."""
        e_layers, q_layers = self._layers(theta)
        parts: list[Tensor] = []
        last = q_layers[-1][0].mT
        delta = last.expand(len(theta), self.y.shape[1], -1).contiguous()
        for index in range(len(q_layers) - 2, -1, -1):
            differentiate_(delta, values.hidden[index + 1], self.activation)
            parts = _outer(values.hidden[index], delta, has_bias=q_layers[index][1] is not None) + parts
            if index > 0 or self.e is not None:
                delta = affine_input_gradient(delta, q_layers[index]).contiguous()
        if self.e is not None:
            delta = delta[..., self.fit.dims.x_dim :].contiguous()
            for index in range(len(e_layers) - 1, -1, -1):
                if index < len(e_layers) - 1:
                    differentiate_(delta, self.spread(values.embedded[index + 1]), self.activation)
                before = self.spread(values.embedded[index])
                parts = _outer(before, delta, has_bias=e_layers[index][1] is not None) + parts
                if index > 0:
                    delta = affine_input_gradient(delta, e_layers[index]).contiguous()
        return torch.cat(parts, dim=-1)


class Values:
    """What `Separable.evaluate` keeps: e's layer values per I, q's layer inputs per point."""

    __slots__ = ("embedded", "hidden")

    def __init__(self, *, embedded: list[Tensor], hidden: list[Tensor]) -> None:
        self.embedded, self.hidden = embedded, hidden


def _outer(before: Tensor, delta: Tensor, *, has_bias: bool) -> list[Tensor]:
    """Return the Jacobian by a layer's weight and, where there is one, its bias."""
    weight = (before.unsqueeze(-1) * delta.unsqueeze(-2)).flatten(-2)
    return [weight, delta.clone()] if has_bias else [weight]


class Basis:
    """An orthonormal basis of the columns of designs [problems, rows, columns]: QR with a tiny ridge.

    Below the design stand 1e-8 times its columns' norms (of the largest norm for dead units), so that dead and
    collinear units, which ReLU layers have, get small weights instead of none: least squares with a condition number
    of at most 1e8 after scaling, and without normal equations.
    """

    def __init__(self, design: Tensor) -> None:
        norms = design.square().sum(dim=1).sqrt()
        floor = norms.amax(dim=1, keepdim=True).clamp_min(1e-150)
        below = torch.diag_embed(_RIDGE * torch.where(norms > 1e-8 * floor, norms, floor))
        orthonormal, self.triangle = torch.linalg.qr(torch.cat((design, below), dim=1))
        self.columns = orthonormal[:, : design.shape[1]].contiguous()

    def coordinates(self, y: Tensor) -> Tensor:
        """Return Q^T y, [problems, columns], for y [problems, rows]."""
        return (self.columns * y.unsqueeze(-1)).sum(dim=1)

    def coefficients(self, coordinates: Tensor) -> Tensor:
        """Return the c with Phi c = Q coordinates, [problems, columns]."""
        return torch.linalg.solve_triangular(self.triangle, coordinates.unsqueeze(-1), upper=True).squeeze(-1)

    def project_off(self, jacobian: Tensor) -> Tensor:
        """Return (1 - Q Q^T) J."""
        return jacobian - multiply(self.columns, multiply(self.columns.mT.contiguous(), jacobian))


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """Return the batched product; a batch of one is done as two, so that it takes the same kernel as any other."""
    if len(left) == 1:
        return torch.bmm(left.expand(2, -1, -1).contiguous(), right.expand(2, -1, -1).contiguous())[:1]
    return torch.bmm(left.contiguous(), right.contiguous())


def apply(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return matrix [problems, rows, columns] times vector [problems, columns], summed by hand."""
    return (matrix * vector.unsqueeze(-2)).sum(dim=-1)


def damped_step(jacobian: Tensor, residual: Tensor, damping: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return d of (J^T W J + damping diag) d = J^T W r, [problems, n]; zeros where the matrix is not definite."""
    weighted = jacobian if weights is None else jacobian * weights.unsqueeze(-1)
    matrix = multiply(weighted.mT, jacobian)
    right = (weighted * residual.unsqueeze(-1)).sum(dim=1)
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    floor = 1e-8 * diagonal.amax(dim=-1, keepdim=True) + 1e-300
    matrix = matrix + torch.diag_embed((damping[:, None] + 1e-13) * (diagonal + floor))
    factor, failed = torch.linalg.cholesky_ex(matrix)
    factor = torch.where((failed != 0)[:, None, None], torch.eye(matrix.shape[-1], dtype=matrix.dtype), factor)
    step = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    return torch.where((failed != 0)[:, None] | ~step.isfinite().all(dim=-1, keepdim=True), 0.0, step)
