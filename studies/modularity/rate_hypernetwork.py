"""Theorem 4 on smooth targets: how the hypernetwork's error falls with the size of its primary network.

Question    Does the hypernetwork's largest error fall like N_g^(-r/m1), and stay within a factor 3 of what the best
            weights of every I alone reach?
Prediction  N_g^-2 for m1 = 1 and r = 2, with f as large as needed (Theorem 4); at most 3 times the largest infimum of
            a single I (eq. 4).
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 4 and eq. 4. Targets: the all-scales
            family of W(2, 2), three draws; r = 1 is in separation.py, m2 = 2 in rate_hypernetwork_wide.py. f is a table
            of weights, one row for every knot of I, with one first layer for all I: kinks spaced by the largest second
            derivative over I, moved together with the table, whose rows are then the best in the largest error for
            those kinks. Calibration: y = c (exp(x) + x I), whose infimum is known exactly and whose slices all have
            the same best kinks: it measures what the optimiser leaves, not what sharing the kinks costs.
Budget      72 trials, about five minutes of one CPU core; `--seeds 1` half of that.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Calibration,
    HatEncoder,
    Hypernetwork,
    Knots,
    LpContinuation,
    OuterLP,
    SobolevBall,
    Stages,
    Study,
    Tilted,
    TrainingGrid,
)

LEVELS = 7
WIDTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64)  # units of g; N = 3 units
SEEDS = 2

fine = 2 ** (LEVELS + 1) + 1
targets = [SobolevBall(x_dim=1, conditioning_dim=1, smoothness=2, levels=LEVELS, seed=seed) for seed in range(3)]
known = Tilted(x_dim=1, conditioning_dim=1, profile="exponential", smoothness=2)
calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")

study = Study(
    name="rate-hypernetwork",
    settings=[
        BestApproximation(
            method=Hypernetwork(primary_widths=(width,), encoder=HatEncoder(knots=fine), bias="hidden"),
            target=target,
            optimizer=Stages(
                Knots(placement="equidistributed"), LpContinuation(powers=(2, 8), iterations=4), OuterLP()
            ),
            grid=TrainingGrid(x_points=2 * fine - 1, instances=fine),
            grid_points=2 * fine - 1,
        )
        for width in WIDTHS
        for target in (*targets, known)
    ],
    seeds=range(SEEDS),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(targets[0], calibration=calibration),
        theorems.hypernetwork_match(targets[0], calibration=calibration),
        theorems.infimum_factor(),
    ),
)
