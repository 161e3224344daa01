"""Theorem 1 on the targets of its proof: one bump per cell, as many cells as the network has parameters for.

Question    A member of the bump family has structure at one scale only, which a large network resolves. If the cells
            grow with N, does any network err less than the bound allows?
Prediction  No: at least c N^-1 for networks fitted to y(., I) alone and c N^(-1/2) for one network on (x, I), whatever
            the signs of the bumps. The bumps' own height falls at this rate, so the question is whether the errors stay
            a fixed share of it; that they stay below predicting 0 shows that the networks fit the bumps at all.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 1, r = 1; DeVore, Howard & Micchelli
            (1989) for the family. Chosen here: plain ReLU, for which Theorem 1 is an analogy; w = 2 cells for n = 1 and
            w = 4 cells^2 for n = 2, random signs and signs searched for (adversarial).
Budget      50 trials, about 2 minutes on one CPU core. Larger: more LINE_CELLS (powers of 2) and PLANE_CELLS.
"""

from dataclasses import replace

from analysis import theorems
from hyperscale import (
    BestApproximation,
    BumpFamily,
    Calibration,
    Knots,
    LpContinuation,
    Monolithic,
    OuterLP,
    PerInstance,
    Stages,
    Study,
    Tilted,
    TrainingGrid,
    VarPro,
)

LINE_CELLS = (8, 16, 32, 64, 128)
PLANE_CELLS = (1, 2, 3, 4, 5)
SIGNS = ("random", "adversarial")

gap = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")


def bumps(cells: int, signs: str) -> BumpFamily:
    """Return the family's member with ``cells`` cells per dimension."""
    return BumpFamily(x_dim=1, conditioning_dim=1, cells=cells, signs=signs)


line = [
    BestApproximation(
        method=PerInstance(primary_widths=(2 * cells,), bias="hidden", num_instances=3),
        target=target,
        optimizer=Stages(Knots(placement="greedy"), OuterLP()),
        grid=TrainingGrid(x_points=32 * cells + 1),
        grid_points=32 * cells + 1,
    )
    for cells in LINE_CELLS
    for target in (*(bumps(cells, signs) for signs in SIGNS), Tilted(x_dim=1, conditioning_dim=1))
]
plane = [
    BestApproximation(
        method=Monolithic(primary_widths=(4 * cells**2,), bias="hidden"),
        target=bumps(cells, signs),
        optimizer=Stages(Knots(), VarPro(iterations=40), LpContinuation(iterations=15)),
        grid=TrainingGrid(x_points=12 * cells + 1, instances=12 * cells + 1),
        grid_points=257,
    )
    for cells in PLANE_CELLS
    for signs in SIGNS
]

study = Study(
    name="rate-plain-bumps",
    settings=[*line, *plane],
    seeds=range(2),
    metrics=("sup_error", "rmse"),
    claims=(
        # No resolution: the errors lie below the bumps' height by design, and every size has bumps of its own.
        replace(theorems.instance_plain_rate(bumps(LINE_CELLS[-1], "random"), calibration=gap), resolution=None),
        replace(theorems.plain_rate(bumps(PLANE_CELLS[-1], "random")), resolution=None),
    ),
)
