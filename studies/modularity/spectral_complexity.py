"""Spectral complexity: how near random networks come to the bound that C(f) puts on their Lipschitz constant.

Question    Theorems 2 and 3 bound e and q by C(f) = L^(k-1) prod_i |W^i|_1 because it bounds the Lipschitz constant.
            Is it ever exceeded, and how much of it does a network's steepest place take up?
Prediction  Never exceeded. A product of norms supposes that one path through the network is the largest in every
            layer and that all signs agree, so the part that is used falls with every layer.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), section 2.1; item TH-LIP. Widths, depths and
            activations are chosen here: 2 inputs, 1 output, k = 2 to 5 weight layers, biases in the hidden ones,
            torch's default initialisation, no training. The search covers [-1, 1]^2 with 512 places and 60 rounds.
Budget      960 trials, about a minute on two CPU cores.
"""

from analysis import theorems
from hyperscale import LipschitzQuotient, Monolithic, Monotone, Study

study = Study(
    name="spectral-complexity",
    settings=[
        LipschitzQuotient(
            method=Monolithic(primary_widths=(width,) * (depth - 1), activation=activation, bias="hidden")
        )
        for depth in range(2, 6)
        for width in (8, 16, 32, 64)
        for activation in ("relu", "tanh", "clipped_relu")
    ],
    seeds=range(20),
    metrics=("lipschitz_ratio", "lipschitz_quotient"),
    claims=(
        theorems.lipschitz_ceiling(method=Monolithic),
        Monotone(
            method=Monolithic, metric="lipschitz_ratio", along="primary_depth", direction="decreasing", each_step=True,
            statement="The part of C(f) that the steepest place takes up falls with every layer.",
        ),
    ),
)  # fmt: skip
