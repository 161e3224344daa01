"""Synthetic Type I, growing depth of f and e: hypernetwork against embedding method.

Question    With small fixed primary networks g and q, does a deeper f help the hypernetwork, and a deeper e the
            embedding method, on y(x, I) = <x, h(I)>?
Prediction  The paper's Fig. 1(a): the hypernetwork errs less from k = 3 on and improves with k; the embedding
            method does not improve. With plain SGD as specified, a probe of this project did NOT reproduce that
            ordering, so nothing here counts on it. Read the errors beside the two baselines: predicting 0
            (zero_loss), and the best linear map of x that ignores I (linear_loss), which leaves about 1 % of y.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), section 5 and appendix; item MOD-S1.
            d_x = d_I = 1000; g: 1000-10-1, q: 11000-10-1, f and e: k layers of width 100; no biases. 30,000
            training pairs, batches of 200, SGD at 0.01, 100 repeats. Not reported, and chosen here: ten passes
            (as in the paper's other experiments), 10,000 test pairs, torch's default initialisation.
Budget      1,600 trials: more than half a day on two CPU cores; `hyperscale plan` prints the estimate. `--seeds 1`
            runs 16 trials in about 10 minutes.
"""

from hyperscale import SGD, Approximation, Embedding, FixedSample, Hypernetwork, InnerProduct, Monotone, Ordering, Study

EPOCHS = 10
sample = FixedSample(size=30_000, test_size=10_000, batch_size=200)

study = Study(
    name="synthetic-depth",
    settings=[
        Approximation(
            method=method,
            target=InnerProduct(x_dim=1000, conditioning_dim=1000),
            optimizer=SGD(lr=0.01),
            points=sample,
            steps=EPOCHS * sample.size // sample.batch_size,
        )
        for depth in range(2, 10)
        for method in (
            Hypernetwork(primary_widths=(10,), widths=(100,) * (depth - 1)),
            Embedding(primary_widths=(10,), widths=(100,) * (depth - 1), embedding_dim=10_000),
        )
    ],
    seeds=range(100),
    metrics=("test_loss",),  # the report draws the baselines zero_loss and linear_loss beside it
    claims=(
        Ordering(
            metric="test_loss", lower=Hypernetwork, higher=Embedding, at_each="depth",
            theorem="Fig. 1(a)", statement="The hypernetwork errs less at equal depth.",
        ),
        Monotone(
            method=Hypernetwork, metric="test_loss", along="depth", direction="decreasing",
            theorem="Fig. 1(a)", statement="A deeper f lowers the hypernetwork's error.",
        ),
    ),
)  # fmt: skip
