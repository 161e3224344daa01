"""Hypernetwork, embedding and per-instance networks: error against the size of the primary network.

Question    How does the largest error fall with the number of primary parameters N, for a hypernetwork
            g(x; f(I)) and an embedding method q(x, e(I)) that may make f and e as large as they like?
Prediction  The best hypernetwork reaches error O(1/N_g), as if it fitted every y_I alone (Theorem 4); no embedding
            method with a fixed embedding size does better than Ω(N_q^(-1/2)) on the hardest targets (Theorem 2);
            so at equal N the hypernetwork errs less.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Theorems 2 and 4, for m1 = m2 = r = 1.
Budget      162 trials, about a minute on two CPU cores.
"""

from analysis import theorems
from hyperscale import (
    Adam,
    Approximation,
    Cosine,
    Embedding,
    FreshPoints,
    HatEncoder,
    Hypernetwork,
    PerInstance,
    SobolevBall,
    Study,
)

target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=5)
encoder = HatEncoder(knots=65)  # f and e are linear on 65 hat functions of I: their size is not what limits the error

study = Study(
    name="quickstart",
    settings=[
        Approximation(
            method=method,
            target=target,
            optimizer=Adam(lr=lr, schedule=Cosine()),
            points=FreshPoints(instances=64, points=16),
            steps=8000,
        )
        for width in (4, 8, 16, 32, 64, 128)
        for method in (
            Hypernetwork(primary_widths=(width,), encoder=encoder, bias="hidden", initialization="shared_primary"),
            Embedding(primary_widths=(width,), encoder=encoder, bias="hidden", embedding_dim=2),
            PerInstance(primary_widths=(width,), bias="hidden", num_instances=32, restarts=2),
        )
        for lr in (0.001, 0.003, 0.01)
    ],
    seeds=range(3),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.hypernetwork_rate(target),
        theorems.embedding_rate_fixed(target),
        theorems.modularity_ordering(),
    ),
)
