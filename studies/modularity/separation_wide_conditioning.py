"""Separation at m1 = 1, m2 = 2: where the embedding method's exponent should be a third of the hypernetwork's.

Question    With two numbers of I for one x, does the hypernetwork's largest error still fall like 1/N in the parameters
            N of its primary network, and the embedding method's and one network's no faster than N^(-1/3)?
Prediction  Hypernetwork N^-1, whatever m2 is (Theorem 4); embedding of two numbers Ω(N^(-1/3)) (Theorem 2); one
            network on (x, I) Ω(N^(-1/3)) (Theorem 1).
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorems 1, 2 and 4 for m1 = r = 1, m2 = 2. As
            in separation.py; five levels are what two cores resolve in three dimensions, so the hypernetwork's sizes
            end where its errors come near the finest bumps.
Budget      88 trials, about five minutes on two CPU cores.
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
WIDTHS = (2, 4, 8, 16, 32)  # units of g and of every g_I; N = 3 units
JOINT_WIDTHS = (2, 4, 8, 16, 32, 64)  # units of q and h, which see x beside two numbers; N = 5 units
SEEDS = 2

fine = 2 ** (LEVELS + 1) + 1
targets = [SobolevBall(x_dim=1, conditioning_dim=2, smoothness=1, levels=LEVELS, seed=seed) for seed in range(2)]
target = targets[0]

study = Study(
    name="separation-wide-conditioning",
    settings=[
        BestApproximation(
            method=Hypernetwork(primary_widths=(width,), encoder=HatEncoder(knots=fine), bias="hidden"),
            target=each,
            optimizer=Stages(Knots()),
            grid=TrainingGrid(x_points=4 * fine - 3, instances=fine),
            grid_points=fine,
        )
        for width in WIDTHS
        for each in targets
    ]
    + [
        BestApproximation(
            method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=6),
            target=each,
            optimizer=Stages(Knots(placement="greedy")),
            grid=TrainingGrid(x_points=4 * fine - 3),
            grid_points=4 * fine - 3,
        )
        for width in WIDTHS
        for each in targets
    ]
    + [
        BestApproximation(
            method=method,
            target=each,
            optimizer=Stages(Knots(), VarPro(iterations=20), LpContinuation(powers=(2, 8), iterations=8)),
            grid=TrainingGrid(x_points=33, instances=33),
            grid_points=fine,
        )
        for width in JOINT_WIDTHS
        for method in (
            Embedding(primary_widths=(width,), embedding_dim=2, encoder=HatEncoder(knots=17), bias="primary_only"),
            Monolithic(primary_widths=(width,), bias="hidden"),
        )
        for each in targets
    ],
    seeds=range(SEEDS),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(target),
        theorems.infimum_factor(),
        theorems.embedding_rate_fixed(target),
        theorems.plain_rate(target),
        theorems.instance_rate(target),
        theorems.modularity_separation(target),
        theorems.modularity_ordering(target),
    ),
)
