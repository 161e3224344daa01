"""r/m or 2r/m: which exponent deep ReLU networks show when they are trained, at two, three and four hidden layers.

Question    Weights that depend continuously on the target cannot give error below c N^(-r/m); deep ReLU networks with a
            discontinuous choice reach about N^(-2r/m). Which of the two do trained networks follow, for r = 1 and
            networks fitted to y(., I) alone (m = 1)?
Prediction  Nothing faster than r/m = 1 will be seen, and below that the gap of training decides. The faster rate needs
            more than a good optimiser: its networks have a depth proportional to N at fixed width and read the target's
            values off the digits of single weights (bit extraction), so neighbouring targets have far apart weights,
            and the error as a function of the weights is rough at the scale of the last digit. Descent moves weights
            continuously along a slope that such a digit does not have. At fixed depth the exponent is r/m in any case,
            up to logarithms. So "not attained: the optimisation gap is not controlled" is the expected verdict on 2r/m.
Source      Galanti & Wolf, "On the Modularity of Hypernetworks" (2020), Eq. 2; Yarotsky (COLT 2018); Yarotsky &
            Zhevnerchuk (NeurIPS 2020). Chosen here: the parameter counts, at which networks of two, three and four
            hidden layers of nearly even widths have exactly the same N. One depth at a time, HIDDEN_LAYERS: in one
            envelope the depths' trials are too unlike for its estimators to agree. Best of RESTARTS starts at each I.
Budget      24 trials for each depth, about 1 minute on one CPU core. Larger: more WIDTHS, RESTARTS and STEPS.
"""

from analysis import theorems
from hyperscale import (
    LBFGS,
    Adam,
    BestApproximation,
    Cosine,
    Descent,
    PerInstance,
    SobolevBall,
    Stages,
    Study,
    TrainingGrid,
)

HIDDEN_LAYERS = 2  # 2, 3 or 4: each depth is a study of its own
WIDTHS = (  # N = 38, 52, 76, 150, 251, 376
    ((4, 5), (3, 3, 4), (3, 2, 3, 3)),
    ((5, 6), (4, 4, 4), (3, 3, 4, 3)),
    ((6, 8), (6, 4, 6), (4, 5, 3, 5)),
    ((9, 12), (9, 6, 9), (6, 7, 5, 7)),
    ((13, 15), (11, 9, 11), (9, 8, 7, 10)),
    ((17, 18), (13, 12, 13), (9, 10, 12, 9)),
)
LEVELS = 7
TARGET_SEEDS = range(2)
RESTARTS = 3
STEPS = 1000

target = SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=LEVELS)

study = Study(
    name=f"depth-two-rates-{HIDDEN_LAYERS}",
    settings=[
        BestApproximation(
            method=PerInstance(primary_widths=widths, bias="hidden", num_instances=3, restarts=RESTARTS),
            target=SobolevBall(x_dim=1, conditioning_dim=1, smoothness=1, levels=LEVELS, seed=target_seed),
            optimizer=Stages(
                Descent(optimizer=Adam(lr=0.01, schedule=Cosine()), steps=STEPS),
                LBFGS(iterations=STEPS // 4),
                LBFGS(iterations=STEPS // 4, power=8),
            ),
            grid=TrainingGrid(x_points=4 * 2**LEVELS + 1),
            grid_points=8 * 2**LEVELS + 1,
        )
        for widths in (equal_size[HIDDEN_LAYERS - 2] for equal_size in WIDTHS)
        for target_seed in TARGET_SEEDS
    ],
    seeds=range(2),
    metrics=("sup_error", "rmse"),
    claims=(
        theorems.continuous_selection_rate(target, of_instance=True),
        theorems.deep_selection_rate(target, of_instance=True),
    ),
)
