"""The bounds that Theorems 2 and 3 put on e and q, enforced by projection; and the numbers they bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from hyperscale.errors import StudyError, check_number
from hyperscale.methods.activated_embedding import ActivatedEmbedding
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import ConditionedMethod, Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance
from hyperscale.networks.activations import lipschitz_constant, vanishes_at_zero
from hyperscale.networks.encoders import HatEncoder
from hyperscale.networks.mlp import Layer, spectral_complexity
from hyperscale.networks.projections import project_network, project_rows, row_norms, slack

_WITHOUT_BIASES_OF_E = ("none", "primary_only")


@dataclass(frozen=True, kw_only=True, slots=True)
class Constraints:
    """What Theorems 2 and 3 of "On the Modularity of Hypernetworks" assume of q(x, e(I)), each bound optional.

    ``max_conditioning_complexity`` is l1 in C(e) <= l1, ``max_primary_complexity`` l2 in C(q) <= l2 (Thm. 2), with
    C(f) = L^(k-1) prod_i |W^i|_1 and induced L1 norms; ``max_first_layer`` is c in |W^1|_1 <= c for q's first layer
    (Thm. 3). Biases do not count. The theorems use C(e) as a bound of e's Lipschitz constant as a function of I, so
    that is what is bounded here (`conditioning_lipschitz`): with an encoder in front, its own constant counts as a
    layer's, and of a table on hat functions it is the exact constant. Such a table need not vanish at I = 0 as the
    theorem's e does; W_e e(0) is a bias of q's first layer, so with ``bias="primary_only"`` that adds nothing.

    How much that asks: on positively homogeneous activations the smallest C of all networks that are the same function
    by rescaling their units is the largest sum of abs(products of weights) over the paths from one input. For a ReLU q
    of two layers on one input this is at least the total variation of its slope, so under a fixed l2 no width follows
    N teeth of slope 1 for all N; and |W^1|_1 <= c alone asks nothing of a ReLU network. Choose l2 with the target.
    """

    max_conditioning_complexity: float | None = None
    max_primary_complexity: float | None = None
    max_first_layer: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds: positive numbers, at least one."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                check_number(f"Constraints.{field.name}", value, above=0)
                object.__setattr__(self, field.name, float(value))
        if all(getattr(self, field.name) is None for field in fields(self)):
            names = ", ".join(field.name for field in fields(self))
            raise StudyError(f"Constraints() bounds nothing; give at least one of {names}, or leave it out.")

    def check(self, method: Method, dims: Dims) -> None:  # noqa: ARG002
        """Raise `StudyError` unless the theorems' conditions make sense of ``method``: s(0) = 0, e without biases."""
        place = f"Constraints on {method.name}"
        if not isinstance(method, Embedding | Monolithic):
            raise StudyError(
                f"{place}: Theorems 2 and 3 bound the embedding method's e and q; allowed: Embedding, "
                "ActivatedEmbedding, and Monolithic as a q of its own. Leave the constraints out."
            )
        if isinstance(method, Monolithic) and self.max_conditioning_complexity is not None:
            raise StudyError(
                f"{place}: max_conditioning_complexity bounds e, and one network on [x, I] has none. Bound it by "
                "max_primary_complexity."
            )
        if not vanishes_at_zero(method.activation):
            raise StudyError(
                f"{place}: the theorems need an activation with s(0) = 0; given {method.activation!r}. Use 'tanh', "
                "'relu' or another one that vanishes at 0."
            )
        if isinstance(method, Embedding) and method.bias not in _WITHOUT_BIASES_OF_E:
            raise StudyError(
                f"{place}: in the theorems e has no biases; given bias={method.bias!r}. Use bias='primary_only' "
                "(hidden layers of q have them) or 'none'."
            )

    def project(self, method: Method, dims: Dims, params: Tensor) -> Tensor:
        """Return ``params`` [members, num_params] within the bounds, a new tensor; the method has passed `check`.

        Networks are projected by `project_network`. In a table on one coordinate the differences of neighbouring rows
        that are too long go to the nearest allowed ones and the rows' mean stays; on several coordinates the table
        shrinks towards its mean. Members within the bounds stay as they are, bit for bit, and so does what was
        projected before. Bounds hold to 1e-12 of their size. It is applied after every step of training.
        """
        result = params.detach().clone()
        if isinstance(method, Embedding):
            e_params, q_params = method.split_networks(dims, result)
            if self.max_conditioning_complexity is not None:
                _project_conditioning(
                    method, dims, method.e_shape(dims).split(e_params), self.max_conditioning_complexity
                )
        else:
            assert isinstance(method, Monolithic)
            q_params = result
        layers = method.primary_shape(dims).split(q_params)
        project_network(layers, method.activation, self.max_primary_complexity, self.max_first_layer)
        return result

    def columns(self) -> dict[str, str | int | float]:
        """Return the bounds that are set, for tables."""
        bounds = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: bound for name, bound in bounds.items() if bound is not None}


def conditioning_lipschitz(method: Embedding | Hypernetwork, dims: Dims, layers: Sequence[Layer]) -> Tensor:
    """Return a bound of e's (or f's) Lipschitz constant in I over the cube, L1 to L1, [members].

    It is C(e), times the encoder's constant, times that of the embedding's activation. Of a table on hat functions
    (a linear layer: widths=()) it is the exact constant, since between knots the derivative along a coordinate is a
    mean of neighbours' differences: the largest L1 difference of two neighbouring rows over the knots' spacing.
    """
    constant = _outer_constant(method)
    encoder = method.encoder
    if encoder is None:
        return constant * spectral_complexity(layers, method.activation)
    if isinstance(encoder, HatEncoder) and not method.widths:
        table = _table(encoder, dims, layers[0][0])
        steps = [
            table.diff(dim=axis).abs().sum(dim=-1).flatten(1).amax(dim=-1)
            for axis in range(1, dims.conditioning_dim + 1)
        ]
        return constant * encoder.lipschitz_bound(1) / 2 * torch.stack(steps).amax(dim=0)
    bound = encoder.lipschitz_bound(dims.conditioning_dim)
    return constant * bound * spectral_complexity(layers, method.activation)


def constraint_metric_names(method: Method) -> tuple[str, ...]:
    """Return the names of `constraint_metrics`."""
    first = () if isinstance(method, Hypernetwork) else ("first_layer_norm",)
    return (*first, "lipschitz_conditioning") if isinstance(method, ConditionedMethod) else first


def constraint_metrics(method: Method, dims: Dims, params: Tensor) -> dict[str, Tensor]:
    """Return what the constraints bound, beside the spectral complexities, each [members].

    ``first_layer_norm`` is |W^1|_1 of the primary network, the largest of all where every instance has its own; a
    hypernetwork's depends on I and is left out. ``lipschitz_conditioning`` is `conditioning_lipschitz`.
    """
    values: dict[str, Tensor] = {}
    if isinstance(method, Embedding):
        e_params, primary = method.split_networks(dims, params)
        values["lipschitz_conditioning"] = conditioning_lipschitz(method, dims, method.e_shape(dims).split(e_params))
        shape = method.primary_shape(dims)
    elif isinstance(method, Hypernetwork):
        return {"lipschitz_conditioning": conditioning_lipschitz(method, dims, method.f_shape(dims).split(params))}
    elif isinstance(method, PerInstance):
        shape = method.primary_shape(dims)
        primary = params.unflatten(-1, (-1, shape.num_params))
    else:
        assert isinstance(method, Monolithic)
        shape, primary = method.primary_shape(dims), params
    norms = row_norms(shape.split(primary)[0][0]).flatten(1).amax(dim=-1)
    return {"first_layer_norm": norms, **values}


def _outer_constant(method: Method) -> float:
    """Return the Lipschitz constant of the embedding's activation, 1 without one."""
    return lipschitz_constant(method.embedding_activation) if isinstance(method, ActivatedEmbedding) else 1.0


def _table(encoder: HatEncoder, dims: Dims, weight: Tensor) -> Tensor:
    """View a table's weight as [members, knots, ..., knots, outputs], an axis for each coordinate."""
    return weight.unflatten(1, (encoder.knots,) * dims.conditioning_dim)


def _project_conditioning(method: Embedding, dims: Dims, layers: Sequence[Layer], bound: float) -> None:
    """Bring e's Lipschitz constant down to the bound, in place."""
    encoder, constant = method.encoder, _outer_constant(method)
    if not (isinstance(encoder, HatEncoder) and not method.widths):
        if encoder is not None:
            constant *= encoder.lipschitz_bound(dims.conditioning_dim)
        project_network(layers, method.activation, bound / constant)
        return
    lipschitz = conditioning_lipschitz(method, dims, layers)
    weight = layers[0][0]
    radius = bound / constant * 2.0 / (encoder.knots - 1)
    # A difference of two rows is known to a few units in the last place of the rows.
    rounding = 4 * weight.shape[-1] * torch.finfo(weight.dtype).eps * weight.abs().amax(dim=(1, 2))
    excess = lipschitz / bound > 1 + slack(weight) + rounding / radius
    if not excess.any():
        return
    table = weight[excess]
    mean = table.mean(dim=1, keepdim=True)
    if dims.conditioning_dim == 1:
        steps = table.diff(dim=1)
        project_rows(steps, radius)
        table = torch.cat([torch.zeros_like(mean), steps.cumsum(dim=1)], dim=1)
        weight[excess] = table + (mean - table.mean(dim=1, keepdim=True))
    else:
        weight[excess] = mean + (table - mean) * (bound / lipschitz[excess])[:, None, None]
