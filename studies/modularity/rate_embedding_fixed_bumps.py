"""Theorem 2 on the hard family of its proof: one bump per cell, the number of cells growing with the size of q.

Question    How does the largest error of q(x, e(I)) fall with the size of q when every size has a target of its own,
            with as many signed bumps as a constant share of its parameters?
Prediction  No faster than N_q^(-1/2), for m1 = m2 = 1 and r = 1: the height of N bumps is of that order, and a q of N
            parameters with bounded C(q) and C(e) cannot follow all signs.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 2 (item TH-M2); the bumps are those of
            Theorem 1's proof. Chosen here: a shallow q of ReLUs, an analogy, of 2 cells^2 units, so that errors stay
            clearly below those of predicting 0; an embedding of one dimension, e a table without biases (two
            dimensions ended higher from these starts); the better of two starts counts; two draws of the signs.
Budget      20 trials, about two minutes on one CPU core.
"""

from dataclasses import replace

from analysis import theorems
from hyperscale import (
    BestApproximation,
    BumpFamily,
    Embedding,
    HatEncoder,
    Knots,
    LpContinuation,
    Stages,
    Study,
    TrainingGrid,
    VarPro,
)

CELLS = (2, 3, 4, 5, 6)  # per dimension
UNITS_PER_CELL = 2
EMBEDDING_DIM = 1
TARGET_SEEDS = (0, 1)
NUM_SEEDS = 2

largest = BumpFamily(x_dim=1, conditioning_dim=1, smoothness=1, cells=CELLS[-1])

study = Study(
    name="rate-embedding-fixed-bumps",
    settings=[
        BestApproximation(
            method=Embedding(
                primary_widths=(UNITS_PER_CELL * cells**2,),
                encoder=HatEncoder(knots=33),
                bias="primary_only",
                embedding_dim=EMBEDDING_DIM,
            ),
            target=BumpFamily(x_dim=1, conditioning_dim=1, smoothness=1, cells=cells, seed=seed),
            optimizer=Stages(Knots(), VarPro(iterations=20), LpContinuation(powers=(8, 32), iterations=10)),
            grid=TrainingGrid(x_points=65, instances=129),
        )
        for seed in TARGET_SEEDS
        for cells in CELLS
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse", "spectral_complexity_primary", "spectral_complexity_conditioning"),
    # Any error below that of predicting 0 is below the bumps' height, so that height does not end the window here.
    claims=(replace(theorems.embedding_rate_fixed(largest), resolution=None),),
)
