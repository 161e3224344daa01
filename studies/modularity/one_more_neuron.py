"""Assumption 2 and Lemma 1 on synthetic targets: whether each neuron more makes the best error smaller.

Question    Assumption 2 says that the best sup-norm error of a class falls strictly with every neuron added, Lemma 1
            shows it of networks of two layers in the L2 distance. Do trained networks show it, neuron by neuron?
Prediction  Yes, where training comes near the best network of every width; where it does not, a wider network may err
            more, which says nothing against either. Lemma 1's own argument needs no best network: a trained network
            is kept, one neuron a, b, beta is added, and the rmse falls (rmse_one_more), in every trial.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Assumption 2 and Lemma 1 with its proof. The
            inequality is printed with the same class on both sides. Lemma 1 is for ReLU on one input: networks
            fitted to y(., I) alone; and for tanh and sigmoid: one tanh network on (x, I). Chosen here: the widths, the
            targets (all scales of W(1, 2), and x^2 tilted by I), the best over STARTS of each seed, half of the chains
            minimising the mean square and half the largest error.
Budget      BUDGET
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
STARTS = (Knots(jitter=0.25), Knots(jitter=1.0), Knots(placement="greedy"))

ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=5)

study = Study(
    name="one-more-neuron",
    settings=[
        *(
            BestApproximation(
                method=PerInstance(primary_widths=(width,), bias="hidden", num_instances=3),
                target=target,
                optimizer=Stages(start, *stages),
                grid=TrainingGrid(x_points=257),
                grid_points=513,
                one_more_neuron=True,
            )
            for width in LINE_WIDTHS
            for target in (ball, Tilted(x_dim=1, conditioning_dim=1))
            for start in STARTS
            for stages in ((VarPro(iterations=60),), (LpContinuation(), KnotBalance()))  # rmse, sup_error
        ),
        *(
            BestApproximation(
                method=Monolithic(primary_widths=(width,), activation="tanh", bias="hidden"),
                target=ball,
                optimizer=Stages(start, VarPro(iterations=60)),
                grid=TrainingGrid(x_points=65, instances=65),
                grid_points=129,
                one_more_neuron=True,
            )
            for width in PLANE_WIDTHS
            for start in STARTS[:2]
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
