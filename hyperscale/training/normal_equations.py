"""Normal equations of separable fits, summed over slices of the rows, and least squares by them.

The Jacobian is never kept whole: what is summed are products of its columns over slices that stay in the cache. All
points of an I share the embedding's derivative by e's weights, so for these the products are summed over x first and
multiplied with that derivative once per I: sum_I E_I^T (sum_x delta delta^T) E_I, and likewise with other columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.training.separable import (
    Separable,
    apply,
    apply_transposed,
    factorise,
    multiply,
    solve_damped,
    squares,
)

_ROWS_AT_ONCE = 2048
_RIDGE = 1e-12  # relative to the diagonal; its square root bounds the condition number to about 1e6
_REFINEMENTS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class NormalEquations:
    """J^T W J [problems, n, n] and J^T W r [problems, n]; the last ``linear`` columns of J are the design's."""

    matrix: Tensor
    right: Tensor
    linear: int

    def projected_step(self, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Return the damped step of variable projection with Kaufman's Jacobian, and which could be solved.

        With the design's columns S and the others J: A = J^T J - (S^T J)^T (S^T S)^-1 (S^T J).
        """
        split = self.matrix.shape[-1] - self.linear
        factor, definite = factorise(with_ridge(self.matrix[:, split:, split:]))
        both = torch.cat((self.matrix[:, split:, :split], self.right[:, split:, None]), dim=-1)
        half = torch.linalg.solve_triangular(factor, both, upper=False)
        own = half[..., :split]
        matrix = self.matrix[:, :split, :split] - squares(own)
        right = self.right[:, :split] - apply_transposed(own, half[..., -1])
        step, solved = solve_damped(matrix, right, damping)
        return step, solved & definite

    def joint_step(self, design_squares: Tensor, damping: Tensor) -> tuple[Tensor, Tensor]:
        """Return the damped step in all parameters and which could be solved.

        The last layer is damped in an orthonormal basis of the design's columns, S L^-T with S^T S = L L^T given
        (unweighted) as ``design_squares``: where units are nearly collinear, damping them singly would stop them.
        """
        split = self.matrix.shape[-1] - self.linear
        factor, definite = factorise(with_ridge(design_squares))
        rows = torch.linalg.solve_triangular(
            factor, torch.cat((self.matrix[:, split:], self.right[:, split:, None]), dim=-1), upper=False
        )
        corner = torch.linalg.solve_triangular(factor, rows[..., split:-1].mT, upper=False)
        matrix = self.matrix.clone()
        matrix[:, split:, :split] = rows[..., :split]
        matrix[:, :split, split:] = rows[..., :split].mT
        matrix[:, split:, split:] = 0.5 * (corner + corner.mT)
        right = torch.cat((self.right[:, :split], rows[..., -1]), dim=-1)
        step, solved = solve_damped(matrix, right, damping)
        last = torch.linalg.solve_triangular(factor.mT, step[:, split:, None], upper=True).squeeze(-1)
        return torch.cat((step[:, :split], last), dim=-1), solved & definite


def with_ridge(matrix: Tensor) -> Tensor:
    """Return the matrices plus 1e-12 of their diagonals, of the largest entry for dead units."""
    diagonal = matrix.diagonal(dim1=-2, dim2=-1)
    largest = diagonal.amax(dim=-1, keepdim=True).clamp_min(1e-300)
    return matrix + torch.diag_embed(_RIDGE * torch.where(diagonal > 1e-16 * largest, diagonal, largest))


def normal_equations(
    fits: Separable, theta: Tensor, residual: Tensor, roots: Tensor | None = None
) -> tuple[NormalEquations, Tensor]:
    """Return the normal equations at ``theta`` [problems, n] and the unweighted squares of the design.

    ``residual`` [problems, rows] is y - h there, ``roots`` the square roots of weights, one where not given.
    """
    embedded = fits.embed(theta)
    total: Tensor | None = None
    per_instance, design_squares = [], []
    for instances in _slices(fits):
        rows = fits.rows(instances)
        hidden = fits.hidden(theta, embedded, instances)
        parts, delta = fits.q_jacobian(theta, hidden)
        design = fits.design_of(hidden)
        columns = torch.cat([*parts, design, residual[:, rows, None]], dim=-1)
        if roots is not None:
            design_squares.append(squares(design))
            columns *= roots[:, rows, None]
            delta = None if delta is None else delta * roots[:, rows, None]
        found = squares(columns)
        total = found if total is None else total.add_(found)
        if delta is not None:
            per_instance.append(_summed_over_x(fits, columns, delta))
    assert total is not None
    if per_instance:
        total = _with_embedding(fits, theta, embedded, total, torch.cat(per_instance, dim=1))
    linear = fits.num_linear
    equations = NormalEquations(matrix=total[:, :-1, :-1], right=total[:, :-1, -1], linear=linear)
    unweighted = equations.matrix[:, -linear:, -linear:] if roots is None else torch.stack(design_squares).sum(dim=0)
    return equations, unweighted


def _slices(fits: Separable) -> list[slice]:
    """Return slices of the values of I with about 2048 rows each, however many problems there are."""
    instances = fits.y.shape[1] // fits.num_points
    if instances == 1:
        return [slice(None)]
    step = max(1, _ROWS_AT_ONCE // fits.num_points)
    return [slice(start, min(start + step, instances)) for start in range(0, instances, step)]


def _summed_over_x(fits: Separable, columns: Tensor, delta: Tensor) -> Tensor:
    """Return sum_x of delta times (delta, columns), [problems, instances, e's outputs, e's outputs + columns]."""
    problems, rows = delta.shape[:2]
    shape = (problems * (rows // fits.num_points), fits.num_points, -1)
    left = delta.reshape(shape).mT
    found = torch.cat((multiply(left, delta.reshape(shape)), multiply(left, columns.reshape(shape))), dim=-1)
    return found.unflatten(0, (problems, -1))


def _with_embedding(fits: Separable, theta: Tensor, embedded: list[Tensor], rest: Tensor, sums: Tensor) -> Tensor:
    """Return the products with e's columns put before those of all other columns, ``rest``."""
    problems, instances, outputs = sums.shape[:3]
    unit = torch.eye(outputs, dtype=theta.dtype, device=theta.device).expand(problems, instances, -1, -1)
    parts = fits.e_jacobian(theta, embedded, unit.reshape(problems, -1, outputs).contiguous(), outputs)
    derivative = torch.cat(parts, dim=-1)  # [problems, instances * outputs, e's weights]
    own = derivative.unflatten(1, (instances, outputs))
    inner = (sums[..., :outputs].unsqueeze(-1) * own.unsqueeze(2)).sum(dim=3).flatten(1, 2)
    corner = multiply(derivative.mT, inner)
    across = multiply(derivative.mT, sums[..., outputs:].flatten(1, 2))
    top = torch.cat((0.5 * (corner + corner.mT), across), dim=-1)
    return torch.cat((top, torch.cat((across.mT, rest), dim=-1)), dim=-2)


def fit_last_layer(design: Tensor, y: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return least-squares coefficients, their residuals, and which could be solved.

    Normal equations with a ridge, from ``start`` and refined twice: each pass takes what the ridge left over, where
    the design's squared singular values are above 1e-12 of the largest.
    """
    factor, definite = factorise(with_ridge(squares(design)))
    coefficients = start
    residual = y - apply(design, coefficients)
    for _ in range(1 + _REFINEMENTS):
        pull = apply_transposed(design, residual)
        coefficients = coefficients + torch.cholesky_solve(pull.unsqueeze(-1), factor).squeeze(-1)
        residual = y - apply(design, coefficients)
    return coefficients, residual, definite & residual.isfinite().all(dim=-1)
