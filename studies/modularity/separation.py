"""Separation at m1 = m2 = 1: hypernetwork, embedding method, one network on (x, I), and a network for every I.

Question    On the same hard targets and near their best weights: does the hypernetwork's largest error fall like 1/N in
            the parameters N of its primary network, and those of the embedding method and of one network on (x, I) no
            faster than N^(-1/2)?
Prediction  Hypernetwork N^-1 (Theorem 4), within a factor 3 of what the best weights for every I alone reach (eq. 4);
            embedding of fixed dimension Ω(N^(-1/2)) (Theorem 2); one network on (x, I) Ω(N^(-1/2)) (Theorem 1).
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorems 1, 2 and 4 for m1 = m2 = r = 1, the
            smallest case in which the rates part. Targets: the all-scales family of the Sobolev ball, three draws.
            The hypernetwork is a table of weights, two knots of I per finest cell; its g has equispaced kinks, the same
            for all I, and the last layer fits every I by least squares. Networks for single I (24 values, off the
            dyadic grid) start from the exact free knots. The embedding is a table of one number. Calibration:
            y = c (exp(x) + x I), whose infimum is known exactly.
Budget      210 trials, about half an hour on two busy CPU cores; `--seeds 1` half of that.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Calibration,
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
    Tilted,
    TrainingGrid,
    VarPro,
)

LEVELS = 10  # bumps down to 2^-9 wide, so that no network of these sizes resolves them all
WIDTHS = (2, 4, 8, 16, 32, 64, 128, 256, 512)  # units of g, and of every g_I; N = 3 units, eight octaves
JOINT_WIDTHS = (2, 4, 8, 16, 32, 64, 128)  # units of q and h, which see x beside e(I) or I; N = 4 units
SEEDS = 2

fine = 2 ** (LEVELS + 1) + 1  # the ends and the middle of every finest cell
targets = [SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=LEVELS, seed=seed) for seed in range(3)]
target = targets[0]
known = Tilted(x_dim=1, conditioning_dim=1, profile="exponential")  # the calibration's
calibration = Calibration(where={"target": "Tilted"}, infimum_column="per_instance_reached")
table = HatEncoder(knots=fine)

study = Study(
    name="separation",
    settings=[
        BestApproximation(
            method=Hypernetwork(primary_widths=(width,), encoder=table, bias="hidden"),
            target=each,
            optimizer=Stages(Knots()),
            grid=TrainingGrid(x_points=fine, instances=fine),
            grid_points=fine,
        )
        for width in WIDTHS
        for each in (*targets, known)
    ]
    + [
        BestApproximation(
            method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=24),
            target=each,
            optimizer=Stages(Knots(placement="greedy")),
            grid=TrainingGrid(x_points=fine),
            grid_points=fine,
        )
        for width in WIDTHS
        for each in targets
    ]
    + [
        BestApproximation(
            method=method,
            target=each,
            optimizer=Stages(Knots(), VarPro(iterations=40), LpContinuation(powers=(2, 8, 32), iterations=15)),
            grid=TrainingGrid(x_points=129, instances=129),
            grid_points=fine,
        )
        for width in JOINT_WIDTHS
        for method in (
            Embedding(primary_widths=(width,), embedding_dim=1, encoder=HatEncoder(knots=65), bias="primary_only"),
            Monolithic(primary_widths=(width,), bias="hidden"),
        )
        for each in targets
    ],
    seeds=range(SEEDS),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(target, calibration=calibration),
        theorems.hypernetwork_match(target, calibration=calibration),
        theorems.infimum_factor(),
        theorems.embedding_rate_fixed(target),
        theorems.plain_rate(target),
        theorems.instance_rate(target),
        theorems.modularity_separation(target),
        theorems.modularity_ordering(target),
    ),
)
