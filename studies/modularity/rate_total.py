"""Theorem 5: all parameters together, on targets whose selector of weights is known.

Question    With every parameter counted, does a hypernetwork err less, and fall faster, than q(x, e(I)) and than one
            network on (x, I), when the best weights of g depend on I through few features?
Prediction  For m1 = m2 = 1 and r = 1: hypernetwork O(N^-1), as a table of weights with a row per knot of I errs like
            1 / knots; on the hardest targets the two others no faster than N^(-1/2). These targets are no such worst
            case: as functions of x each slice has eight kinks, so the others may do better than that here.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorem 5 and section 4.2 (item TH-M5). Chosen
            here: effective dimensions w = 2 and 4; f a table on hat functions, growing, and g of the target's own
            width, so that g is exact and f alone limits the error; shallow ReLU networks throughout, an analogy.
Budget      60 trials, about five minutes on one CPU core.
"""

from analysis import theorems
from hyperscale import (
    LBFGS,
    BestApproximation,
    Embedding,
    HatEncoder,
    Hypernetwork,
    Knots,
    LpContinuation,
    Monolithic,
    Stages,
    Structured,
    Study,
    TrainingGrid,
    VarPro,
)

KNOTS = (3, 5, 9, 17, 33, 65)  # of the hypernetwork's table: N = 24 knots
WIDTHS = (4, 8, 16, 32, 64)  # of q: N = 7 width + 2
MONOLITHIC_WIDTHS = (16, 32, 64, 128)  # N = 4 width
EFFECTIVE_DIMS = (2, 4)
PRIMARY_WIDTH = 8
NUM_SEEDS = 2

targets = [
    Structured(
        x_dim=1,
        conditioning_dim=1,
        primary_width=PRIMARY_WIDTH,
        effective_dim=effective_dim,
        smoothness=1,
        levels=6,
        seed=effective_dim,  # a target of its own in tables
    )
    for effective_dim in EFFECTIVE_DIMS
]
grid = TrainingGrid(x_points=65, instances=129)  # two values of I in each cell of P's finest level
least_squares = (Knots(), VarPro(iterations=20))
methods = [
    *(
        (
            Hypernetwork(primary_widths=(PRIMARY_WIDTH,), encoder=HatEncoder(knots=knots), bias="hidden"),
            Stages(*least_squares, LBFGS(iterations=300), LBFGS(iterations=200, power=8)),
        )
        for knots in KNOTS
    ),
    *(
        (
            Embedding(
                primary_widths=(width,), encoder=HatEncoder(knots=width + 1), embedding_dim=2, bias="primary_only"
            ),
            Stages(*least_squares, LpContinuation(powers=(8, 32), iterations=10)),
        )
        for width in WIDTHS
    ),
    *(
        (
            Monolithic(primary_widths=(width,), bias="hidden"),
            Stages(*least_squares, LpContinuation(powers=(8, 32), iterations=10)),
        )
        for width in MONOLITHIC_WIDTHS
    ),
]

study = Study(
    name="rate-total",
    settings=[
        BestApproximation(method=method, target=target, optimizer=optimizer, grid=grid)
        for method, optimizer in methods
        for target in targets
    ],
    seeds=range(NUM_SEEDS),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.total_rate(targets[0]),
        theorems.total_plain_rate(targets[0]),
        theorems.total_plain_rate(targets[0], method=Monolithic),
        theorems.total_separation(targets[0]),
        theorems.total_ordering(),
        theorems.total_ordering(higher=Monolithic),
    ),
)
