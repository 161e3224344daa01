"""Theorem 2 on a target with structure at every scale: an embedding of fixed dimension, e as large as needed.

Question    How does the largest error of q(x, e(I)) fall with the size of q when the embedding has one or two
            dimensions and e, a table on hat functions of I, is not what limits the error?
Prediction  On the hardest targets no faster than N_q^(-1/2), for m1 = m2 = 1 and r = 1, while C(q) and C(e) stay
            bounded. Nothing here bounds them, so whether C(q) grows with the width is a claim of its own.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 2 (item TH-M2). Chosen here: a shallow
            q of ReLUs, an analogy, as plain ReLU's derivative is not integrable; e without biases; two targets of the
            all-scales family whose finest bumps (.0019) are below all errors; least squares, then powers 8 and 32.
Budget      40 trials, about two minutes on one CPU core.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    Embedding,
    HatEncoder,
    Knots,
    LpContinuation,
    Monotone,
    SobolevBall,
    Stages,
    Study,
    TrainingGrid,
    VarPro,
)

WIDTHS = (4, 8, 16, 32, 64)
EMBEDDING_DIMS = (1, 2)
TARGET_SEEDS = (0, 1)
NUM_SEEDS = 2

targets = [SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=5, seed=seed) for seed in TARGET_SEEDS]

study = Study(
    name="rate-embedding-fixed",
    settings=[
        BestApproximation(
            method=Embedding(
                primary_widths=(width,),
                encoder=HatEncoder(knots=33),  # a knot at every border of the finest cells, and q bends in between
                bias="primary_only",
                embedding_dim=embedding_dim,
            ),
            target=target,
            optimizer=Stages(Knots(), VarPro(iterations=20), LpContinuation(powers=(8, 32), iterations=10)),
            grid=TrainingGrid(x_points=65, instances=129),  # three I between two knots
        )
        for target in targets
        for width in WIDTHS
        for embedding_dim in EMBEDDING_DIMS
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse", "spectral_complexity_primary", "spectral_complexity_conditioning"),
    claims=(
        theorems.embedding_rate_fixed(targets[0]),
        Monotone(
            method=Embedding, metric="spectral_complexity_primary", along="primary_width", direction="increasing",
            statement="Without constraints C(q) grows with the width, and Theorem 2's condition C(q) = O(1) fails.",
        ),
    ),
)  # fmt: skip
