"""Theorem 3 with m2 > m1: a growing embedding where Theorems 2 and 3 differ.

Question    For m1 = 1 and m2 = 2, how does the largest error fall with the size of q when the embedding grows with it?
Prediction  No faster than N_q^(-1/min(m, 2 m1)) = N_q^(-1/2) on the hardest targets: here a growing embedding may do
            better than the N_q^(-1/3) that Theorem 2 leaves to one of fixed dimension.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 3 (item TH-M3). Chosen here as in
            `rate_embedding_growing`: ReLUs, an analogy; e a table of 17 x 17 knots, one at every corner of the finest
            cells; E = width / 2; |W^1|_1 is not bounded; L-BFGS from torch's initialisation.
Budget      28 trials, about three minutes on one CPU core.
"""

from analysis import theorems
from hyperscale import LBFGS, BestApproximation, Embedding, HatEncoder, SobolevBall, Stages, Study, TrainingGrid

WIDTHS = (4, 6, 8, 12, 16, 24, 32)
UNITS_PER_COORDINATE = 2
METHOD = Embedding  # or ActivatedEmbedding
TARGET_SEEDS = (0, 1)
NUM_SEEDS = 2

targets = [SobolevBall(x_dim=1, conditioning_dim=2, smoothness=1, levels=4, seed=seed) for seed in TARGET_SEEDS]

study = Study(
    name="rate-embedding-growing-wide",
    settings=[
        BestApproximation(
            method=METHOD(
                primary_widths=(width,),
                encoder=HatEncoder(knots=17),
                bias="primary_only",
                embedding_dim=width // UNITS_PER_COORDINATE,
            ),
            target=target,
            optimizer=Stages(LBFGS(iterations=500), LBFGS(iterations=200, power=8)),
            grid=TrainingGrid(x_points=33, instances=33),
            grid_points=65,
        )
        for target in targets
        for width in WIDTHS
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse", "spectral_complexity_primary", "spectral_complexity_conditioning"),
    claims=(theorems.embedding_rate_growing(targets[0]),),
)
