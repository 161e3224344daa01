"""Theorem 3 with m1 = m2 = 1: an embedding whose dimension grows with the width of q.

Question    Does an embedding method whose embedding grows with q escape the rate that Theorem 2 gives for a fixed one?
Prediction  Not where m2 <= m1: no faster than N_q^(-1/min(m, 2 m1)) = N_q^(-1/2) on the hardest targets, the exponent
            of Theorem 2. With E = width / 2 a shallow q has nearly free kinks in x for every I, so its error may fall
            like 1 / width; N_q grows like width^2 / 2, and that is N_q^(-1/2) again.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 3 (item TH-M3). Chosen here: ReLUs, an
            analogy; e a table without biases; E at most the width, since q sees no more than that of a longer embedding
            unless it is activated (`ActivatedEmbedding` is such a choice for METHOD); |W^1|_1 is not bounded, and for
            ReLUs a bound on it alone asks nothing. L-BFGS from torch's initialisation: other starts ended higher.
Budget      20 trials, about a minute on one CPU core.
"""

from analysis import theorems
from hyperscale import LBFGS, BestApproximation, Embedding, HatEncoder, SobolevBall, Stages, Study, TrainingGrid

WIDTHS = (4, 8, 16, 32, 64)
UNITS_PER_COORDINATE = 2
METHOD = Embedding
TARGET_SEEDS = (0, 1)
NUM_SEEDS = 2

targets = [SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=5, seed=seed) for seed in TARGET_SEEDS]

study = Study(
    name="rate-embedding-growing",
    settings=[
        BestApproximation(
            method=METHOD(
                primary_widths=(width,),
                encoder=HatEncoder(knots=33),
                bias="primary_only",
                embedding_dim=width // UNITS_PER_COORDINATE,
            ),
            target=target,
            optimizer=Stages(LBFGS(iterations=1000), LBFGS(iterations=300, power=8)),
            grid=TrainingGrid(x_points=65, instances=65),
        )
        for target in targets
        for width in WIDTHS
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse", "spectral_complexity_primary", "spectral_complexity_conditioning"),
    claims=(theorems.embedding_rate_growing(targets[0]),),
)
