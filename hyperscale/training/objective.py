"""What a pack minimises: losses of all members at once, their gradient, and their metrics at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor


class Objective(ABC):
    """The losses of a pack's members; member i's depend on row i of the parameters only.

    `loss` says what is minimised. `differentiate` is what training calls: by default automatic differentiation of
    `loss`, in a subclass whatever is faster and equal to rounding.
    """

    params: Tensor
    gradient: Tensor

    @abstractmethod
    def loss(self, params: Tensor, step: int) -> Tensor:
        """Return the members' losses at 0-based ``step``, [members], for ``params`` [members, num_params]."""

    @abstractmethod
    def select(self, members: Sequence[int]) -> Objective:
        """Return the objective of some of the members, numbered within this one."""

    @abstractmethod
    def metrics(self, params: Tensor, members: Sequence[int]) -> dict[str, Tensor]:
        """Return ``members``' metrics by name, each [len(members)], given their rows of parameters.

        A non-finite entry means the metric is not defined.
        """

    def curves(self, params: Tensor, members: Sequence[int]) -> list[dict[str, list[list[float]]]]:  # noqa: ARG002
        """Return further curves of each of ``members``; none by default."""
        return [{} for _ in members]

    def bind(self, params: Tensor, gradient: Tensor) -> None:
        """Take the tensors that training changes in place, both [members, num_params]."""
        self.params, self.gradient = params, gradient

    def differentiate(self, step: int) -> Tensor:
        """Return the losses at ``step``, [members], and fill the gradient."""
        leaf = self.params.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.loss(leaf, step)
            (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        self.gradient.copy_(gradient)
        return loss.detach()
