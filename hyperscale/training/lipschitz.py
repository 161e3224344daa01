"""The largest quotient |f(x) - f(x')|_1 / |x - x'|_1 that a search finds: a lower bound of f's Lipschitz constant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from hyperscale.networks.activations import Activation, differentiate_
from hyperscale.networks.backprop import affine, forward
from hyperscale.networks.mlp import Layer, Shape
from hyperscale.seeding import step_keys, stream_keys, uniform_between

_CLOSEST = 1e-3
_FIRST_STEP, _LONGER, _SHORTER = 0.25, 1.3, 0.5
_FIRST_RADIUS, _LAST_RADIUS = 0.5, 1e-4


def jacobian(layers: Sequence[Layer], x: Tensor, activation: Activation) -> tuple[Tensor, Tensor]:
    """Return f(x) [networks, n, outputs] and df_o/dx_i [networks, n, inputs, outputs] at x [networks, n, inputs].

    Derivatives are carried forward through the layers. At a corner of ReLU and its like that from the left is taken;
    random points meet none.
    """
    values = forward(layers, x, activation)
    tangents = layers[0][0].unsqueeze(1).expand(-1, x.shape[1], -1, -1)
    for value, (weight, _) in zip(values[1:-1], layers[1:], strict=True):
        slope = torch.ones_like(value)
        differentiate_(slope, value, activation)
        moved = (tangents * slope.unsqueeze(2)).flatten(1, 2)
        tangents = affine(moved, (weight, None)).unflatten(1, (x.shape[1], -1))
    return values[-1], tangents


def induced_l1_norm(matrices: Tensor) -> Tensor:
    """Return the induced L1 norms of Jacobians [..., inputs, outputs]: the largest sum over outputs, by input."""
    return matrices.abs().sum(dim=-1).amax(dim=-1)


class LipschitzSearch:
    """A search for the steepest place of stacked networks on [-1, 1]^inputs, in rounds that can be saved between.

    It starts from ``pairs`` random pairs (x, x'). The first half of the rounds is gradient ascent on every pair's
    quotient, by steps of its own length, no closer than 1e-3. The second half goes on from both ends of every pair with
    the induced L1 norm of the Jacobian, the limit of quotients at a point and never below those of pairs around it:
    random moves whose reach shrinks from 0.5 to 1e-4, kept where the norm grows, since on ReLU networks it is piecewise
    constant and has no gradient. ``largest`` [networks] is the largest of all that was seen: attained (as a limit),
    so never above the Lipschitz constant but for rounding (some 1e-12 of it, from close pairs), and below it where
    the steepest place was missed.
    """

    def __init__(
        self, shape: Shape, activation: Activation, params: Tensor, seeds: Sequence[int], *, pairs: int, rounds: int
    ) -> None:
        self.layers = [(w.contiguous(), None if b is None else b.contiguous()) for w, b in shape.split(params)]
        self.activation, self.pairs, self.rounds, self.inputs = activation, pairs, rounds, shape.sizes[0]
        self.keys = stream_keys(seeds, "evaluation", "lipschitz").to(params.device)
        self.round = 0
        self.places = self._uniform(0, 2 * pairs)
        self.steps = torch.full((len(params), pairs), _FIRST_STEP, dtype=torch.float64, device=params.device)
        quotients, self._gradients = self._quotients(self.places)
        self.quotients, self.norms = quotients, self._norms(self.places)
        self.largest = torch.maximum(quotients.amax(dim=-1), self.norms.amax(dim=-1))

    def _uniform(self, number: int, count: int) -> Tensor:
        """Return points of the cube, [networks, count, inputs], from draw ``number`` of every network's stream."""
        keys = step_keys(self.keys, torch.tensor([number]))[:, 0]
        return uniform_between(keys, count * self.inputs, -1, 1, torch.float64).unflatten(-1, (count, self.inputs))

    def _norms(self, places: Tensor) -> Tensor:
        return induced_l1_norm(jacobian(self.layers, places, self.activation)[1])

    def _quotients(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return the quotients [networks, pairs] of the pairs (i, pairs + i), and their gradients in all places."""
        outputs, slopes = jacobian(self.layers, places, self.activation)
        apart, change = (part[:, : self.pairs] - part[:, self.pairs :] for part in (places, outputs))
        distance = apart.abs().sum(dim=-1)
        quotients = change.abs().sum(dim=-1) / distance
        signs = change.sign()[:, :, None]
        at_first, at_second = (
            ((half * signs).sum(dim=-1) - quotients[..., None] * apart.sign()) / distance[..., None]
            for half in (slopes[:, : self.pairs], slopes[:, self.pairs :])
        )
        quotients = torch.where(distance < _CLOSEST, 0.0, quotients)
        return quotients, torch.cat([at_first, -at_second], dim=1)

    def advance(self) -> bool:
        """Make one round; return True once all are made."""
        if self.round < self.rounds:
            self.round += 1
            if self.round <= self.rounds // 2:
                self._ascend()
            else:
                self._wander()
        return self.round == self.rounds

    def _ascend(self) -> None:
        """Move every pair along its quotient's gradient, the fastest coordinate by the step; keep what is steeper."""
        gradients = torch.cat(self._gradients.split(self.pairs, dim=1), dim=-1)
        moves = gradients / gradients.abs().amax(dim=-1, keepdim=True).clamp_min(1e-300) * self.steps[..., None]
        moved = (self.places + torch.cat(moves.split(self.inputs, dim=-1), dim=1)).clamp(-1, 1)
        quotients, gradients = self._quotients(moved)
        steeper = quotients > self.quotients
        both = torch.cat([steeper, steeper], dim=1)[..., None]
        self.places = torch.where(both, moved, self.places)
        self._gradients = torch.where(both, gradients, self._gradients)
        self.quotients = torch.where(steeper, quotients, self.quotients)
        self.steps = self.steps * torch.where(steeper, _LONGER, _SHORTER)
        self._note(self.quotients)
        if self.round == self.rounds // 2:
            self.norms = self._norms(self.places)
            self._note(self.norms)

    def _wander(self) -> None:
        """Move every place at random within the round's reach; keep where the Jacobian's norm is larger."""
        first = self.rounds // 2 + 1
        share = (self.round - first) / max(1, self.rounds - first)
        radius = _FIRST_RADIUS * (_LAST_RADIUS / _FIRST_RADIUS) ** share
        moved = (self.places + radius * self._uniform(self.round, 2 * self.pairs)).clamp(-1, 1)
        norms = self._norms(moved)
        steeper = norms > self.norms
        self.places = torch.where(steeper[..., None], moved, self.places)
        self.norms = torch.where(steeper, norms, self.norms)
        self._note(self.norms)

    def _note(self, seen: Tensor) -> None:
        self.largest = torch.maximum(self.largest, seen.amax(dim=-1))

    def state(self) -> dict[str, int | Tensor]:
        """Return what `restore` needs."""
        names = ("places", "steps", "quotients", "norms", "largest", "_gradients")
        return {"round": self.round, **{name: getattr(self, name).clone() for name in names}}

    def restore(self, state: Mapping[str, int | Tensor]) -> None:
        """Take up a saved state."""
        for name, value in state.items():
            setattr(self, name, value.to(self.keys.device, copy=True) if isinstance(value, Tensor) else int(value))


def largest_quotient(
    shape: Shape, activation: Activation, params: Tensor, seeds: Sequence[int], *, pairs: int = 256, rounds: int = 60
) -> Tensor:
    """Return the largest quotient found for each of the networks ``params`` [networks, num_params]: [networks].

    ``seeds``, one for each network, say where its search starts.
    """
    with torch.no_grad():
        search = LipschitzSearch(shape, activation, params, seeds, pairs=pairs, rounds=rounds)
        while not search.advance():
            pass
    return search.largest
