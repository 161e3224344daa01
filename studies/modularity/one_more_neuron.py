"""Assumption 2 and Lemma 1 on synthetic targets: does each neuron more make the best error smaller?

Question    Assumption 2 says that the best sup-norm error of a class falls strictly with every neuron added, Lemma 1
            shows it of networks of two layers in the L2 distance. Do trained networks show it, neuron by neuron?
Prediction  Yes, where training comes near the best network of every width; where it does not, a wider network may err
            more, which says nothing against either. Lemma 1's own argument needs no best network: a trained network
            is kept, one neuron a, b, beta is added, and the rmse falls (rmse_one_more), in every trial.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Assumption 2 and Lemma 1 with its proof. The
            inequality is printed with the same class on both sides. Lemma 1 is for tanh and sigmoid, and for ReLU on
            one input: networks fitted to y(., I) alone with both, one network on (x, I) with tanh. Chosen here: the
            widths, the targets (all scales of W(1, 2), and x^2 tilted by I), the best of RESTARTS starts at each I.
Budget      BUDGET
"""

from analysis import theorems
from hyperscale import (
    BestApproximation,
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

LINE_WIDTHS = range(2, 17)
PLANE_WIDTHS = range(1, 9)
RESTARTS = 4

ball = SobolevBall(x_dim=1, conditioning_dim=1, levels=6)
squares = VarPro(iterations=60)

study = Study(
    name="one-more-neuron",
    settings=[
        *(
            BestApproximation(
                method=PerInstance(
                    primary_widths=(width,), activation=activation, bias="hidden", num_instances=3, restarts=RESTARTS
                ),
                target=target,
                optimizer=Stages(Knots(jitter=1.0), squares),
                grid=TrainingGrid(x_points=257),
                grid_points=1025,
                one_more_neuron=True,
            )
            for width in LINE_WIDTHS
            for activation in ("relu", "tanh")
            for target in (ball, Tilted(x_dim=1, conditioning_dim=1))
        ),
        *(
            BestApproximation(
                method=Monolithic(primary_widths=(width,), activation="tanh", bias="hidden"),
                target=ball,
                optimizer=Stages(Knots(), squares),
                grid=TrainingGrid(x_points=65, instances=65),
                grid_points=129,
                one_more_neuron=True,
            )
            for width in PLANE_WIDTHS
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
