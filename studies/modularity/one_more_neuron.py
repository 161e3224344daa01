"""Assumption 2 and Lemma 1 on synthetic targets: whether each neuron more makes the best error smaller.

Question    Assumption 2 says that the best sup-norm error of a class falls strictly with every neuron added, Lemma 1
            shows it of networks of two layers in the L2 distance. Do trained networks show it, neuron by neuron?
Prediction  Yes, where training comes near the best network of every width; where it does not, a wider network may err
            more, which says nothing against either. Lemma 1's own argument needs no best network: a trained network
            is kept, one neuron a, b, beta is added, and the rmse falls (rmse_one_more), in every trial.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Assumption 2 and Lemma 1 with its proof. The
            inequality is printed with the same class on both sides. Lemma 1 is for ReLU on one input: networks
            fitted to y(., I) alone; and for tanh and sigmoid: one tanh network on (x, I). Chosen here: the widths, the
            targets (all scales of W(1, 2), and x^2 tilted by I), the best of the chains at each seed: CHAINS minimise
            the mean square, SUP_CHAINS the largest error.
Budget      640 trials, about 4 minutes on one CPU core. Larger: more LINE_WIDTHS and PLANE_WIDTHS, more chains.
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
    KnotBalance,
    Knots,
    LpContinuation,
    Monolithic,
    PerInstance,
    SobolevBall,
    Stages,
    Study,
    Tilted,
    TrainingGrid,
    VarPro,
)

LINE_WIDTHS = range(3, 17)
PLANE_WIDTHS = range(1, 9)
CHAINS = (
    Stages(Knots(jitter=0.25), VarPro(iterations=60)),
    Stages(Knots(jitter=1.0), VarPro(iterations=60)),
)
SUP_CHAINS = (
    Stages(Knots(jitter=0.25), LpContinuation(), KnotBalance()),
    Stages(Knots(placement="greedy"), KnotBalance()),
)

ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=5)

study = Study(
    name="one-more-neuron",
    settings=[
        *(
            BestApproximation(
                method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=3),
                target=target,
                optimizer=chain,
                grid=TrainingGrid(x_points=257),
                grid_points=513,
                one_more_neuron=True,
            )
            for width in LINE_WIDTHS
            for target in (ball, Tilted(x_dim=1, conditioning_dim=1))
            for chain in (*CHAINS, *SUP_CHAINS)
        ),
        *(
            BestApproximation(
                method=Monolithic(primary_widths=(width,), activation="tanh", bias="hidden"),
                target=ball,
                optimizer=chain,
                grid=TrainingGrid(x_points=33, instances=33),
                grid_points=65,
                one_more_neuron=True,
            )
            for width in PLANE_WIDTHS
            for chain in CHAINS
        ),
    ],
    seeds=range(5),
    metrics=("sup_error", "rmse", "rmse_one_more"),
    claims=(
        theorems.neuron_gain(method=PerInstance),
        theorems.shallow_neuron_gain(method=PerInstance),
        theorems.shallow_neuron_gain(method=Monolithic),
        theorems.added_neuron_ceiling(method=PerInstance),
        theorems.added_neuron_ceiling(method=Monolithic),
    ),
)
