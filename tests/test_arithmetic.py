"""Tests of the arithmetic that costs are made of, against the products that torch actually does."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Dims, Method
from hyperscale.methods.monolithic import Monolithic
from hyperscale.methods.per_instance import PerInstance

SMALL, LONG = Dims(x_dim=5, conditioning_dim=6), Dims(x_dim=64, conditioning_dim=6)


class Products(TorchDispatchMode):
    """Counts the multiply-adds of matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = str(function)
        if "bmm" in name:
            first, second = args[1:3] if "baddbmm" in name else args[:2]
            self.count += first.shape[0] * first.shape[1] * first.shape[2] * second.shape[2]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("method", "dims", "batch"),
    [
        (Monolithic(primary_widths=(7, 9, 8)), SMALL, (40, 3)),
        (PerInstance(primary_widths=(7, 9, 8), num_instances=2), Dims(x_dim=5, conditioning_dim=2), (4, 40)),
        (Hypernetwork(primary_widths=(7, 9), widths=(11, 13)), SMALL, (40, 6)),
        (Hypernetwork(primary_widths=(7, 9), widths=(11, 13)), LONG, (40, 1)),
        (Hypernetwork(primary_widths=(7, 9)), LONG, (40, 1)),
        (Embedding(primary_widths=(7, 9), widths=(11, 13), embedding_dim=8), SMALL, (40, 3)),
        (Embedding(primary_widths=(7, 9), widths=(11, 13), embedding_dim=400), SMALL, (90, 3)),
        (Embedding(primary_widths=(7, 9), embedding_dim=400), SMALL, (90, 3)),
    ],
)
def test_a_steps_arithmetic_is_what_is_done(method: Method, dims: Dims, batch: tuple[int, int]) -> None:
    """step_multiply_adds equals the products of both passes, those with one output column (summed by hand) apart."""
    instances, points = batch
    params = method.initialize(dims, [0])
    model = method.packed(dims, params, torch.empty_like(params), batch)
    x = torch.rand(1, instances, points, dims.x_dim, dtype=torch.float64)
    conditioning = torch.rand(1, instances, dims.conditioning_dim, dtype=torch.float64)
    products = Products()
    with products:
        model.backward(torch.ones_like(model.forward(x, conditioning)))
    last = 3 * instances * points * method.primary_widths[-1]
    assert products.count + last == pytest.approx(method.step_multiply_adds(dims, instances, points), rel=0.02)
