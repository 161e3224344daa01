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
_LARGE = 2**16  # numbers of a matrix from which on problems are done one by one


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
        embedded = self.embed(theta)
        return Values(embedded=embedded, hidden=self.hidden(theta, embedded))

    def embed(self, theta: Tensor) -> list[Tensor]:
        """Return the values of e's layers per I; none without e."""
        if self.e is None:
            return []
        features = self.fit.features.expand(len(theta), *self.fit.features.shape).contiguous()
        return forward(self._layers(theta)[0], features, self.activation)

    def hidden(self, theta: Tensor, embedded: list[Tensor], instances: slice = slice(None)) -> list[Tensor]:
        """Return the inputs of q's layers at all rows, or at those of some values of I."""
        rows = self.rows(instances)
        first = self.inputs[rows]
        first = first.expand(len(theta), *first.shape)
        if self.e is not None:
            first = torch.cat((first, self.spread(embedded[-1][:, instances])), dim=-1)
        hidden = [first.contiguous()]
        for layer in self._layers(theta)[1][:-1]:
            hidden.append(activate_(affine(hidden[-1], layer), self.activation))
        return hidden

    def rows(self, instances: slice) -> slice:
        """Return the rows of some values of I."""
        if instances == slice(None):
            return instances
        return slice(instances.start * self.num_points, instances.stop * self.num_points)

    def spread(self, rows: Tensor) -> Tensor:
        """Repeat numbers per I [problems, instances, size] for every point, [problems, instances * points, size]."""
        return rows.repeat_interleave(self.num_points, dim=1)

    def design(self, values: Values) -> Tensor:
        """Return Phi [problems, rows, num_linear]."""
        return self.design_of(values.hidden)

    def design_of(self, hidden: list[Tensor]) -> Tensor:
        """Return Phi given the inputs of q's layers."""
        last = hidden[-1]
        return torch.cat((last, torch.ones_like(last[..., :1])), dim=-1) if self.q.biases[-1] else last

    def jacobian(self, theta: Tensor, values: Values) -> Tensor:
        """Return d(Phi c) / d(theta below the last layer), [problems, rows, num_params - num_linear]."""
        parts, delta = self.q_jacobian(theta, values.hidden)
        if delta is not None:
            parts = self.e_jacobian(theta, values.embedded, delta, self.num_points) + parts
        return torch.cat(parts, dim=-1)

    def q_jacobian(self, theta: Tensor, hidden: list[Tensor]) -> tuple[list[Tensor], Tensor | None]:
        """Return d(Phi c) / d(q's weights below the last layer), in parts, and by the embedding where there is one."""
        layers = self._layers(theta)[1]
        parts: list[Tensor] = []
        delta = layers[-1][0].mT.expand(len(theta), hidden[0].shape[1], -1).contiguous()
        for index in range(len(layers) - 2, -1, -1):
            differentiate_(delta, hidden[index + 1], self.activation)
            parts = _outer(hidden[index], delta, has_bias=layers[index][1] is not None) + parts
            if index > 0 or self.e is not None:
                delta = affine_input_gradient(delta, layers[index]).contiguous()
        return parts, None if self.e is None else delta[..., self.fit.dims.x_dim :].contiguous()

    def e_jacobian(self, theta: Tensor, embedded: list[Tensor], delta: Tensor, repeats: int) -> list[Tensor]:
        """Return, in parts, the derivative by e's weights, ``delta`` [problems, instances * repeats, e's outputs].

        ``delta`` is the derivative by e's output, of ``repeats`` numbers for each I.
        """
        layers = self._layers(theta)[0]
        parts: list[Tensor] = []
        for index in range(len(layers) - 1, -1, -1):
            if index < len(layers) - 1:
                differentiate_(delta, embedded[index + 1].repeat_interleave(repeats, dim=1), self.activation)
            before = embedded[index].repeat_interleave(repeats, dim=1)
            parts = _outer(before, delta, has_bias=layers[index][1] is not None) + parts
            if index > 0:
                delta = affine_input_gradient(delta, layers[index]).contiguous()
        return parts


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
    """Return matrix [problems, rows, columns] times vector [problems, columns], each problem for itself."""
    if matrix[0].numel() < _LARGE:
        return (matrix * vector.unsqueeze(-2)).sum(dim=-1)
    return torch.stack([torch.mv(own, one) for own, one in zip(matrix, vector, strict=True)])


def apply_transposed(matrix: Tensor, vector: Tensor) -> Tensor:
    """Return matrix^T [problems, columns, rows] times vector [problems, rows], each problem for itself."""
    if matrix[0].numel() < _LARGE:
        return (matrix * vector.unsqueeze(-1)).sum(dim=-2)
    return torch.stack([torch.mv(own.T, one) for own, one in zip(matrix, vector, strict=True)])


def squares(matrix: Tensor) -> Tensor:
    """Return matrix^T matrix of every problem; large ones one by one, by a product with no copies.

    On the CPU NumPy's product is taken, which sees that both factors are one matrix and does half the work (BLAS syrk).
    """
    if matrix[0].numel() < _LARGE:
        return multiply(matrix.mT, matrix)
    if matrix.device.type != "cpu":
        return torch.stack([torch.mm(own.T, own) for own in matrix])
    return torch.stack([torch.from_numpy(own.T @ own) for own in matrix.numpy()])


def damped_step(jacobian: Tensor, residual: Tensor, damping: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return d of (J^T W J + damping diag) d = J^T W r, [problems, n]; zeros where the matrix is not definite."""
    weighted = jacobian if weights is None else jacobian * weights.unsqueeze(-1)
    return solve_damped(multiply(weighted.mT, jacobian), apply_transposed(weighted, residual), damping)[0]


def solve_damped(matrix: Tensor, right: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
    """Return d of (A + damping diag) d = b, [problems, n], and which A were definite; d is zero where not."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    floor = 1e-8 * diagonal.amax(dim=-1, keepdim=True) + 1e-300
    matrix = matrix + torch.diag_embed((damping[:, None] + 1e-13) * (diagonal + floor))
    factor, definite = factorise(matrix)
    step = torch.cholesky_solve(right.unsqueeze(-1), factor).squeeze(-1)
    definite = definite & step.isfinite().all(dim=-1)
    return torch.where(definite[:, None], step, 0.0), definite


def factorise(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower Cholesky factors [problems, n, n] and which exist; the identity where one does not."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return torch.where((failed != 0)[:, None, None], identity, factor), failed == 0
