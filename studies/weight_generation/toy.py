"""A generator of points on a mixture: accuracy against diversity as λ grows.

Question    A generator turns noise z in [-1, 1] into points of the plane. How does the weight λ of accuracy move it
            from spread out to concentrated, and where does one curve pass through every peak of the mixture?
Prediction  The mean value of the mixture rises with λ and the entropy falls. In between the curve visits the peaks
            and is sparser where the mixture is low: the rank correlation between value and nearest-neighbour
            distance is negative.
Source      Deutsch, "Generating Neural Networks with Neural Networks" (2018), Fig. 2; Deutsch, Nijkamp & Yang,
            "A Generative Model for Sampling High-Performance and Diverse Weights for Neural Networks" (2019),
            Fig. 1. The published code's loss, -value - 2.2 entropy + 0.05 abs(y)^2, is λ = 1/2.2.
Budget      45 trials in 3 packs, about 1 minute on two CPU cores.
"""

from hyperscale import Generation, Monotone, Study

study = Study(
    name="toy",
    settings=[Generation(accuracy_weight=weight) for weight in (0.03, 0.1, 0.3, 1 / 2.2, 1.0, 3.0, 10.0, 30.0, 100.0)],
    seeds=range(5),
    metrics=("mean_value", "entropy", "peaks_reached", "rank_correlation"),
    claims=(
        Monotone(
            method="WeightGenerator", metric="mean_value", along="accuracy_weight", direction="increasing",
            statement="More weight on accuracy gives more of it.",
        ),
        Monotone(
            method="WeightGenerator", metric="entropy", along="accuracy_weight", direction="decreasing",
            statement="More weight on accuracy leaves less diversity.",
        ),
    ),
)  # fmt: skip
