"""Interval enclosures of a network's values and slopes over many boxes at once, in float64.

Over a box of the inputs u an `Enclosure` holds three things: the value at the box's centre, the range of the value,
and the range of each derivative (of the generalised gradient, where the function has corners). An affine layer maps
all three; its range is then cut down by the mean-value theorem, f(u) in f(centre) +- sum_d half_d sup abs(df/du_d),
which knows how the inputs of a deep layer depend on each other, as plain interval arithmetic does not. All activations
are monotone, so that theirs are exact.

Rounding: every product of n terms widens its radius by (n + 4) 2^-52 times the sum of the absolute terms, twice the
classical bound n 2^-53 (Higham, "Accuracy and Stability of Numerical Algorithms", section 3.1), so that ranges hold
for the function in exact arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation, activation_function

EPS = 2.0**-52


@dataclass(frozen=True, kw_only=True, slots=True)
class Enclosure:
    """What is known of n functions of u on each of many boxes.

    ``point_lower`` and ``point_upper`` [cells, n] hold the values at the centre, ``lower`` and ``upper`` [cells, n]
    the values over the box, ``slope_lower`` and ``slope_upper`` [cells, k, n] the derivatives by the last k of the
    box's coordinates; by the others the functions are constant.
    """

    point_lower: Tensor
    point_upper: Tensor
    lower: Tensor
    upper: Tensor
    slope_lower: Tensor
    slope_upper: Tensor

    @property
    def steepness(self) -> Tensor:
        """The largest absolute slopes, [cells, k, n]."""
        return torch.maximum(self.slope_lower.neg(), self.slope_upper)

    def columns(self, start: int, stop: int) -> Enclosure:
        """Return functions ``start`` to ``stop``."""
        return self._map(lambda part: part[..., start:stop])

    def matrix(self, fan_in: int, fan_out: int) -> Enclosure:
        """Return the functions as a matrix, row after row: [cells, (k,) fan_in, fan_out]."""
        return self._map(lambda part: part.unflatten(-1, (fan_in, fan_out)))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Enclosure:
        return Enclosure(
            point_lower=change(self.point_lower),
            point_upper=change(self.point_upper),
            lower=change(self.lower),
            upper=change(self.upper),
            slope_lower=change(self.slope_lower),
            slope_upper=change(self.slope_upper),
        )

    def widened(self, num_variables: int) -> Enclosure:
        """Return the same functions with slopes by the last ``num_variables`` coordinates: the new ones are zero."""
        lower, upper = (_lead(part, num_variables) for part in (self.slope_lower, self.slope_upper))
        return Enclosure(
            point_lower=self.point_lower,
            point_upper=self.point_upper,
            lower=self.lower,
            upper=self.upper,
            slope_lower=lower,
            slope_upper=upper,
        )


def _lead(slopes: Tensor, num_variables: int) -> Tensor:
    missing = num_variables - slopes.shape[1]
    return torch.cat([slopes.new_zeros(slopes.shape[0], missing, *slopes.shape[2:]), slopes], dim=1)


def coordinates(lower: Tensor, upper: Tensor, centre: Tensor, first: int) -> Enclosure:
    """Return the box's coordinates from number ``first`` on, as functions of these coordinates: slopes 1 and 0."""
    count = lower.shape[1] - first
    identity = torch.eye(count, dtype=lower.dtype, device=lower.device).expand(len(lower), count, count)
    return Enclosure(
        point_lower=centre[:, first:],
        point_upper=centre[:, first:],
        lower=lower[:, first:],
        upper=upper[:, first:],
        slope_lower=identity,
        slope_upper=identity,
    )


def constants(values: Tensor) -> Enclosure:
    """Return functions that are constant on each box, ``values`` [cells, n]; no slopes are kept."""
    none = values.new_zeros(len(values), 0, values.shape[1])
    return Enclosure(
        point_lower=values, point_upper=values, lower=values, upper=values, slope_lower=none, slope_upper=none
    )


def joined(first: Enclosure, second: Enclosure) -> Enclosure:
    """Return the functions of both, one list after the other; both have slopes by the same coordinates."""
    names = ("point_lower", "point_upper", "lower", "upper", "slope_lower", "slope_upper")
    return Enclosure(**{name: torch.cat([getattr(first, name), getattr(second, name)], dim=-1) for name in names})


def affine(inputs: Enclosure, weight: Tensor, bias: Tensor | None, half: Tensor) -> Enclosure:
    """Enclose ``a W + b`` for one exact weight [fan_in, fan_out]; ``half`` [cells, m] are the box's half widths."""
    size = weight.abs()

    def image(low: Tensor, high: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor]:
        middle, radius = _middle(low, high)
        radius = radius + (len(weight) + 4) * EPS * (middle.abs() + radius)
        return _shifted(middle @ weight, radius @ size, shift, shift)

    point = image(inputs.point_lower, inputs.point_upper, bias)
    values = image(inputs.lower, inputs.upper, bias)
    slopes = image(inputs.slope_lower, inputs.slope_upper)
    return _tightened(point, values, slopes, half)


def generated_affine(inputs: Enclosure, weight: Enclosure, bias: Enclosure | None, half: Tensor) -> Enclosure:
    """Enclose ``a W + b`` where W [fan_in, fan_out] and b are functions of the box, each box having its own."""

    def image(a: tuple[Tensor, Tensor], w: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        (middle, radius), (weight_middle, weight_radius) = _middle(*a), _middle(*w)
        size = middle.abs()
        radius = radius + (weight_middle.shape[-2] + 4) * EPS * (size + radius)
        spread = _product(radius, weight_middle.abs()) + _product(size + radius, weight_radius)
        return _product(middle, weight_middle), spread * (1 + 64 * EPS)

    def at(part: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        w = getattr(weight, f"{part}lower"), getattr(weight, f"{part}upper")
        middle, radius = image((a.unsqueeze(-2), b.unsqueeze(-2)), w)
        shift = (None, None) if bias is None else (getattr(bias, f"{part}lower"), getattr(bias, f"{part}upper"))
        return _shifted(middle.squeeze(-2), radius.squeeze(-2), *shift)

    point = at("point_", inputs.point_lower, inputs.point_upper)
    values = at("", inputs.lower, inputs.upper)
    low, high = _shifted(*image((inputs.slope_lower, inputs.slope_upper), (weight.lower, weight.upper)), None, None)
    num_own = weight.slope_lower.shape[1]
    if num_own:
        whole = (inputs.lower[:, None, None], inputs.upper[:, None, None])
        middle, radius = image(whole, (weight.slope_lower, weight.slope_upper))
        shift = (None, None) if bias is None else (bias.slope_lower, bias.slope_upper)
        own = _shifted(middle.squeeze(-2), radius.squeeze(-2), *shift)
        low, high = (a + _lead(b, a.shape[1]) for a, b in zip((low, high), own, strict=True))
    return _tightened(point, values, _outward(low, high), half)


def activated(inputs: Enclosure, activation: Activation) -> Enclosure:
    """Enclose s(z): s is monotone, and its derivative over a range is known for every activation."""
    if activation == "identity":
        return inputs
    function = activation_function(activation)
    low, high = _derivative_range(activation, inputs.lower, inputs.upper)
    low, high = low.unsqueeze(1), high.unsqueeze(1)
    corners = (low * inputs.slope_lower, high * inputs.slope_lower, low * inputs.slope_upper, high * inputs.slope_upper)
    slopes = _outward(torch.minimum(*corners[:2]), torch.maximum(*corners[2:]))
    exact = activation in ("relu", "clipped_relu")
    parts = [function(part) for part in (inputs.point_lower, inputs.point_upper, inputs.lower, inputs.upper)]
    if not exact:  # library functions are good to a few units in the last place of the result or of 1
        ends = (*_outward(*parts[:2]), *_outward(*parts[2:]))
        parts = [ends[0] - EPS, ends[1] + EPS, ends[2] - EPS, ends[3] + EPS]
    return Enclosure(
        point_lower=parts[0],
        point_upper=parts[1],
        lower=parts[2],
        upper=parts[3],
        slope_lower=slopes[0],
        slope_upper=slopes[1],
    )


def _derivative_range(activation: Activation, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Return the range of s' over [lower, upper]; between two pieces it is that of both."""
    if activation == "relu":
        return (lower >= 0).to(lower), (upper > 0).to(lower)
    if activation == "leaky_relu":
        one = torch.ones_like(lower)
        leak = -activation_function(activation)(-one)
        return torch.where(lower >= 0, one, leak), torch.where(upper > 0, one, leak)
    if activation == "clipped_relu":
        return ((lower >= 0) & (upper <= 1)).to(lower), ((upper > 0) & (lower < 1)).to(lower)
    if activation == "elu":
        return _outward(lower.clamp_max(0).exp(), upper.clamp_max(0).exp())
    derivative = _tanh_slope if activation == "tanh" else _sigmoid_slope
    nearest = torch.zeros_like(lower).clamp(lower, upper)
    return _outward(torch.minimum(derivative(lower), derivative(upper)), derivative(nearest))


def _tanh_slope(z: Tensor) -> Tensor:
    return z.cosh().square().reciprocal()


def _sigmoid_slope(z: Tensor) -> Tensor:
    return (z / 2).cosh().square().reciprocal() / 4


def _tightened(
    point: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], slopes: tuple[Tensor, Tensor], half: Tensor
) -> Enclosure:
    """Cut the range down to what the mean-value theorem allows."""
    steepness = torch.maximum(-slopes[0], slopes[1])
    reach = (half[:, -steepness.shape[1] :, None] * steepness).sum(dim=1) * (1 + 16 * EPS)
    low, high = _outward(point[0] - reach, point[1] + reach)
    return Enclosure(
        point_lower=point[0],
        point_upper=point[1],
        lower=torch.maximum(values[0], low),
        upper=torch.minimum(values[1], high),
        slope_lower=slopes[0],
        slope_upper=slopes[1],
    )


def _product(a: Tensor, weight: Tensor) -> Tensor:
    """Return a W for stacks of small matrices; those with one row or column are quicker by hand."""
    if weight.shape[-2] == 1:
        return a * weight
    if weight.shape[-1] == 1:
        return (a * weight.mT).sum(dim=-1, keepdim=True)
    return a @ weight


def _middle(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the midpoint and a radius that covers both ends whatever was rounded."""
    if low is high:
        return low, torch.zeros_like(low)
    middle = (low + high) / 2
    return middle, torch.maximum(high - middle, middle - low) * (1 + 4 * EPS)


def _shifted(middle: Tensor, radius: Tensor, low: Tensor | None, high: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the ends of middle +- radius, plus a shift's ends, rounded outward."""
    ends = (middle - radius, middle + radius)
    size = middle.abs() + radius
    if low is not None and high is not None:
        ends = (ends[0] + low, ends[1] + high)
        size = size + torch.maximum(low.abs(), high.abs())
    slack = 4 * EPS * size
    return ends[0] - slack, ends[1] + slack


def _outward(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends widened by a few units in the last place."""
    return low - 8 * EPS * low.abs(), high + 8 * EPS * high.abs()
