"""What is timed: rows of one method at one size, each to be trained in packs of several sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hyperscale.dispatch.probe import measure
from hyperscale.methods.embedding import Embedding
from hyperscale.methods.hypernetwork import Hypernetwork
from hyperscale.methods.method import Method
from hyperscale.packing import make_packs
from hyperscale.settings.approximation import Approximation
from hyperscale.targets.inner_product import InnerProduct
from hyperscale.targets.sobolev_ball import SobolevBall
from hyperscale.targets.target import FixedSample, FreshPoints
from hyperscale.training.optimizers import SGD, Adam
from hyperscale.trial import Trial

Size = Literal["scaling", "synthetic"]
METHODS = ("Hypernetwork", "Embedding")
WIDTHS = (8, 32, 128, 512)
PACKS = (1, 4, 16, 64, 256)
PLANNED_TRIALS = 256  # the planner is asked to pack this many trials of a row
_STEPS = 1_000_000  # longer than any run here, so that a step is timed away from a run's end


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one size: the setting whose optimiser step is timed, and its name in the tables."""

    size: Size
    width: int
    batch: int
    setting: Approximation

    @property
    def name(self) -> str:
        """The row's name in tables."""
        return f"{self.setting.method_name}, w = {self.width}, batch {self.batch}"

    @property
    def num_params(self) -> int:
        """The number of trained parameters of one member."""
        return self.setting.method.num_params_total(self.setting.target.dims)

    @property
    def flops_per_step(self) -> float:
        """The arithmetic of one member's step, by the setting's own cost model."""
        cost = self.setting.cost()
        return cost.flops / cost.num_steps

    def memory_bytes(self, members: int) -> int:
        """The estimated memory of a pack, by the setting's own cost model."""
        return members * self.setting.cost().memory_bytes

    def planned_members(self, device: str, memory_bytes: int) -> int:
        """The size of the packs that the planner makes of many trials of this setting, as it measures them."""
        trials = [Trial(setting=self.setting, seed=seed) for seed in range(PLANNED_TRIALS)]
        speed = measure([(self.setting, seed) for seed in range(PLANNED_TRIALS)], device, memory_bytes)
        packs = make_packs(trials, memory_bytes=memory_bytes, speeds={self.setting.program_key(): speed})
        return max(len(pack.trials) for pack in packs)


def scaling_row(name: str, width: int, batch: int = 64) -> Row:
    """Return a row of the scaling studies' size: y on [-1, 1]^2, one x per I, f and e of width 32, Adam."""
    method: Method
    if name == "Hypernetwork":
        method = Hypernetwork(primary_widths=(width,), widths=(32,), bias="hidden")
    else:
        method = Embedding(primary_widths=(width,), widths=(32,), bias="hidden", embedding_dim=2)
    setting = Approximation(
        method=method,
        target=SobolevBall(x_dim=1, conditioning_dim=1),
        points=FreshPoints(instances=batch, points=1),
        optimizer=Adam(lr=1e-3),
        steps=_STEPS,
    )
    return Row(size="scaling", width=width, batch=batch, setting=setting)


def synthetic_row(name: str, width: int) -> Row:
    """Return a row of the synthetic experiment's size: x and I of 1000 numbers, f and e of the given width, SGD.

    The paper's g: 1000-10-1, q: 11,000-10-1 without biases, f and e with one hidden layer (100 in the paper), batch
    200. The sample is cut from 30,000 pairs to 1,000: a step costs the same, and more members fit. The paper's rate of
    0.01 makes the hypernetwork diverge within four steps, which nothing could be checked on; the rate here is 0.0001.
    """
    method: Method
    if name == "Hypernetwork":
        method = Hypernetwork(primary_widths=(10,), widths=(width,))
    else:
        method = Embedding(primary_widths=(10,), widths=(width,), embedding_dim=10_000)
    setting = Approximation(
        method=method,
        target=InnerProduct(x_dim=1000, conditioning_dim=1000),
        points=FixedSample(size=1_000, test_size=1, batch_size=200),
        optimizer=SGD(lr=1e-4),
        steps=_STEPS,
    )
    return Row(size="synthetic", width=width, batch=200, setting=setting)


def scaling_rows() -> list[Row]:
    """Return every width at batch 64, and width 8 at batch 256, for both methods."""
    named = [(width, 64) for width in WIDTHS]
    named.insert(1, (8, 256))
    return [scaling_row(method, width, batch) for method in METHODS for width, batch in named]


def synthetic_rows() -> list[Row]:
    """Return every width for both methods."""
    return [synthetic_row(method, width) for method in METHODS for width in WIDTHS]
