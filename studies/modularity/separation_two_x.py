"""Separation at m1 = 2, m2 = 1: two numbers x for one number of I, where the exponents differ by a sixth.

Question    With two numbers of x for one I, does the hypernetwork's largest error fall like N^(-1/2) in the parameters
            N of its primary network, and the embedding method's and one network's no faster than N^(-1/3)?
Prediction  Hypernetwork N^-1/2 (Theorem 4); embedding of one number Ω(N^(-1/3)) (Theorem 2); one network on (x, I)
            Ω(N^(-1/3)) (Theorem 1).
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorems 1, 2 and 4 for m1 = 2, m2 = r = 1. As
            in separation.py, on targets of five levels. The hypernetwork is a table of networks whose ridges are the
            same for all I and move by variable projection; the last layer of every I is fitted in L2, then up to L32.
            Networks for single I move ridges of their own. No exact infimum is known for two x. The hypernetwork's
            sizes start where it is well below predicting 0; the smallest joint networks are hardly below it.
Budget      88 trials, about twelve minutes of one CPU core; `--seeds 1` half of that.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Embedding,
    HatEncoder,
    Hypernetwork,
    Knots,
    LpContinuation,
    Monolithic,
    PerInstance,
    SobolevBall,
    Stages,
    Study,
    TrainingGrid,
    VarPro,
)

LEVELS = 5
WIDTHS = (8, 16, 32, 64, 128, 256)  # units of g; N = 4 units, five octaves
INSTANCE_WIDTHS = (4, 8, 16, 32, 64, 128)  # units of every g_I; N = 4 units
JOINT_WIDTHS = (4, 8, 16, 32, 64)  # units of q and h, which see x beside one number; N = 5 units
SEEDS = 2

fine = 2 ** (LEVELS + 1) + 1
targets = [SobolevBall(x_dim=2, conditioning_dim=1, smoothness=1, levels=LEVELS, seed=seed) for seed in range(2)]
target = targets[0]
last_layers = LpContinuation(powers=(4, 8, 32), iterations=8)

study = Study(
    name="separation-two-x",
    settings=[
        BestApproximation(
            method=Hypernetwork(primary_widths=(width,), encoder=HatEncoder(knots=fine), bias="hidden"),
            target=each,
            optimizer=Stages(Knots(), VarPro(iterations=15), last_layers),
            grid=TrainingGrid(x_points=fine, instances=fine),
            grid_points=fine,
        )
        for width in WIDTHS
        for each in targets
    ]
    + [
        BestApproximation(
            method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=6),
            target=each,
            optimizer=Stages(Knots(), VarPro(iterations=15), last_layers),
            grid=TrainingGrid(x_points=fine),
            grid_points=fine,
        )
        for width in INSTANCE_WIDTHS
        for each in targets
    ]
    + [
        BestApproximation(
            method=method,
            target=each,
            optimizer=Stages(Knots(), VarPro(iterations=20), LpContinuation(powers=(2, 8), iterations=8)),
            grid=TrainingGrid(x_points=33, instances=fine),
            grid_points=fine,
        )
        for width in JOINT_WIDTHS
        for method in (
            Embedding(primary_widths=(width,), embedding_dim=1, encoder=HatEncoder(knots=17), bias="primary_only"),
            Monolithic(primary_widths=(width,), bias="hidden"),
        )
        for each in targets
    ],
    seeds=range(SEEDS),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(target),
        theorems.embedding_rate_fixed(target),
        theorems.plain_rate(target),
        theorems.instance_rate(target),
        theorems.modularity_separation(target),
        theorems.modularity_ordering(target),
    ),
)
