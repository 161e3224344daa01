"""Theorem 1 for smoothness 2: one plain network on n inputs, n = 1 and n = 2, on targets of all scales.

Question    With two bounded derivatives, does the least error of a shallow ReLU network fall twice as fast as with
            one (rate_plain.py)?
Prediction  As N^(-2/n), from below (Theorem 1) and from above (Definition 1): N^-2 for networks fitted to y(., I) alone
            and N^-1 for one network on (x, I). For n = 1 the gap that training leaves is measured against the exact
            infimum; for n = 2 it is not known.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 1 and Definition 1, r = 2. Chosen here:
            plain ReLU, for which Theorem 1 is an analogy; piecewise linear functions gain from two derivatives and from
            no more, so r = 2 is the last that shallow ReLU networks of one input show. Slices and calibration as in
            rate_plain.py.
Budget      70 trials, about 3 minutes on one CPU core. Larger: as in rate_plain.py.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Calibration,
    Knots,
    LpContinuation,
    Monolithic,
    OuterLP,
    PerInstance,
    SobolevBall,
    Stages,
    Study,
    Tilted,
    TrainingGrid,
    VarPro,
)

LINE_WIDTHS, LINE_LEVELS = (16, 32, 64, 128, 256), 10
PLANE_WIDTHS, PLANE_LEVELS = (4, 8, 16, 32, 64), 5
TARGET_SEEDS = range(3)

line_target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=LINE_LEVELS)
plane_target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=PLANE_LEVELS)
gap = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")


def line_points(width: int) -> int:
    """Return the points of x: 2 in each of the finest bumps, 16 for each of the network's pieces."""
    return max(2 * 2**LINE_LEVELS, 16 * width) + 1


line = [
    BestApproximation(
        method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=3),
        target=target,
        optimizer=Stages(Knots(placement="greedy"), OuterLP()),
        grid=TrainingGrid(x_points=line_points(width)),
        grid_points=line_points(width),
    )
    for width in LINE_WIDTHS
    for target in (
        *(
            SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=LINE_LEVELS, seed=seed)
            for seed in TARGET_SEEDS
        ),
        Tilted(x_dim=1, conditioning_dim=1, smoothness=2),
    )
]
plane = [
    BestApproximation(
        method=Monolithic(primary_widths=(width,), bias="hidden"),
        target=SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=PLANE_LEVELS, seed=target_seed),
        optimizer=Stages(Knots(), VarPro(iterations=40), LpContinuation(iterations=15)),
        grid=TrainingGrid(x_points=65, instances=65),
        grid_points=257,
    )
    for width in PLANE_WIDTHS
    for target_seed in TARGET_SEEDS
]

study = Study(
    name="rate-plain-smooth",
    settings=[*line, *plane],
    seeds=range(2),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.instance_plain_rate(line_target, calibration=gap),
        theorems.instance_match(line_target, calibration=gap),
        theorems.plain_rate(plane_target),
        theorems.universal_rate(plane_target),
    ),
)
