"""Theorem 2 with its conditions kept: an admissible activation, C(e) and C(q) bounded by projection at every step.

Question    How does the largest error of q(x, e(I)) fall with the size of q when the theorem's bounds are enforced?
Prediction  No faster than N_q^(-1/2) on the hardest targets, for m1 = m2 = 1 and r = 1. With a fixed bound on C(q) no
            width follows all the teeth of such a target, so the error may stop falling altogether.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 2 (item TH-M2). Chosen here: a shallow
            q of clipped ReLUs (tanh is admissible too), e a table without biases. C(e) <= 1 is what e(I) = I needs,
            C(q) <= 8 is twice what unbounded fits of moderate width took; L-BFGS with projection.
Budget      20 trials, about a minute on one CPU core.
"""

from analysis import theorems
from hyperscale import (
    LBFGS,
    BestApproximation,
    Ceiling,
    Constraints,
    Embedding,
    HatEncoder,
    SobolevBall,
    Stages,
    Study,
    TrainingGrid,
)

WIDTHS = (4, 8, 16, 32, 64)
ACTIVATIONS = ("clipped_relu",)
MAX_CONDITIONING_COMPLEXITY = 1.0
MAX_PRIMARY_COMPLEXITY = 8.0
TARGET_SEEDS = (0, 1)
NUM_SEEDS = 2

targets = [SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=5, seed=seed) for seed in TARGET_SEEDS]

study = Study(
    name="rate-embedding-constrained",
    settings=[
        BestApproximation(
            method=Embedding(
                primary_widths=(width,),
                encoder=HatEncoder(knots=33),
                bias="primary_only",
                embedding_dim=1,
                activation=activation,
            ),
            target=target,
            optimizer=Stages(LBFGS(iterations=400), LBFGS(iterations=200, power=8)),
            grid=TrainingGrid(x_points=65, instances=129),
            constraints=Constraints(
                max_conditioning_complexity=MAX_CONDITIONING_COMPLEXITY, max_primary_complexity=MAX_PRIMARY_COMPLEXITY
            ),
        )
        for target in targets
        for width in WIDTHS
        for activation in ACTIVATIONS
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse", "spectral_complexity_primary", "lipschitz_conditioning"),
    claims=(
        theorems.embedding_rate_fixed(targets[0]),
        Ceiling(
            method=Embedding, metric="spectral_complexity_primary", ceiling=MAX_PRIMARY_COMPLEXITY,
            statement="Theorem 2's condition on q holds in every trial.",
        ),
        Ceiling(
            method=Embedding, metric="lipschitz_conditioning", ceiling=MAX_CONDITIONING_COMPLEXITY,
            statement="Theorem 2's condition on e holds in every trial.",
        ),
    ),
)  # fmt: skip
