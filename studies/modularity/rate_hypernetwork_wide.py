"""Theorem 4 on smooth targets with two numbers of I: the rate of rate_hypernetwork.py, which m2 should not change.

Question    With m2 = 2 for one x, does the hypernetwork's largest error still fall like N_g^-2, and stay within a
            factor 3 of what the best weights of every I alone reach?
Prediction  N_g^-2 for m1 = 1 and r = 2, with f as large as needed (Theorem 4), where one network on (x, I) has
            Ω(N^(-2/3)) (Theorem 1). At most 3 times the largest infimum of a single I (eq. 4).
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 4 and eq. 4. Targets: the all-scales
            family of W(2, 3), two draws. As in rate_hypernetwork.py, but for the linear programs, one for each of the
            4,225 rows of the table. Five levels are what two cores resolve in three dimensions; the sizes end where
            errors come near the finest bumps. Calibration: y = c (exp(x) + x mean(I)), whose infimum is known exactly.
Budget      42 trials, about four minutes of one CPU core and 2 GB; `--seeds 1` half the time.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Calibration,
    HatEncoder,
    Hypernetwork,
    Knots,
    LpContinuation,
    SobolevBall,
    Stages,
    Study,
    Tilted,
    TrainingGrid,
)

LEVELS = 5
WIDTHS = (4, 6, 8, 12, 16, 24, 32)  # units of g; N = 3 units
SEEDS = 2

fine = 2 ** (LEVELS + 1) + 1
targets = [SobolevBall(x_dim=1, conditioning_dim=2, smoothness=2, levels=LEVELS, seed=seed) for seed in range(2)]
known = Tilted(x_dim=1, conditioning_dim=2, profile="exponential", smoothness=2)
calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")

study = Study(
    name="rate-hypernetwork-wide",
    settings=[
        BestApproximation(
            method=Hypernetwork(primary_widths=(width,), encoder=HatEncoder(knots=fine), bias="hidden"),
            target=target,
            optimizer=Stages(Knots(placement="equidistributed"), LpContinuation(powers=(2, 8), iterations=4)),
            grid=TrainingGrid(x_points=4 * (fine - 1) + 1, instances=fine),
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
