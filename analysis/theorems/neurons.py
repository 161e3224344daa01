"""Assumption 2 and Lemma 1 of "On the Modularity of Hypernetworks" (Galanti & Wolf, 2020): one neuron more errs less.

Both compare the best networks of two sizes. Lemma 1's proof needs less: keep a network as it is, add one neuron, and
the error falls; `added_neuron_ceiling` is that step, in which no optimiser has to find the best network.
"""

from __future__ import annotations

from analysis.theorems.modularity import BEST_WEIGHTS, PAPER
from hyperscale.claims import Ceiling, Monotone


def neuron_gain(*, method: str | type, metric: str = "sup_error", along: str = "primary_width") -> Monotone:
    """Assumption 2: one more neuron gives a strictly smaller best error, unless the class holds the target.

    As printed both sides of the inequality have the same class; the right one is meant to have the neuron more.
    """
    return Monotone(
        method=method,
        metric=metric,
        along=along,
        direction="decreasing",
        each_step=True,
        theorem=f"Assumption 2, {PAPER}",
        statement=(
            "Each neuron more makes the best error strictly smaller. (As printed both sides of the inequality have the "
            "same class.)"
        ),
        conditions=(
            "The target is not in the class; for a target that is a network of the class the error stays 0.",
            "A test error adds generalisation to approximation, which need not fall.",
            BEST_WEIGHTS,
        ),
    )


def shallow_neuron_gain(*, method: str | type, metric: str = "rmse", along: str = "primary_width") -> Monotone:
    """Lemma 1: Assumption 2 holds for networks of two layers in the L2 distance.

    For tanh and sigmoid in any dimension, for ReLU when m = 1. The inequality is misprinted as in Assumption 2.
    """
    return Monotone(
        method=method,
        metric=metric,
        along=along,
        direction="decreasing",
        each_step=True,
        theorem=f"Lemma 1, {PAPER}",
        statement=(
            "In two-layer networks each hidden neuron more makes the best L2 error strictly smaller. (As printed both "
            "sides of the inequality have the same class.)"
        ),
        conditions=(
            "Two weight layers; tanh or sigmoid, or ReLU on one input. ReLU on more inputs and deeper networks are not "
            "covered.",
            "The distance is L2, not the sup norm of Assumption 2.",
            BEST_WEIGHTS,
        ),
    )


def added_neuron_ceiling(*, method: str | type, metric: str = "rmse_one_more", ceiling: str = "rmse") -> Ceiling:
    """Lemma 1's own argument: with the network kept and one neuron added the L2 error is smaller, in every trial.

    ``metric`` is the error with the neuron, ``ceiling`` that without, metrics of the same trial. A network that is a
    critical point in every added neuron's direction would keep its error; the proof shows that there is none.
    """
    return Ceiling(
        method=method,
        metric=metric,
        ceiling=ceiling,
        theorem=f"Lemma 1 and its proof, {PAPER}",
        statement="A trained two-layer network with one neuron added has no larger L2 error than it had.",
        conditions=(
            "Two weight layers; tanh or sigmoid, or ReLU on one input. Other networks are not covered.",
            "The weight of the new neuron is the best one for the rest kept, so that the error cannot rise: how far it "
            "falls is what a study learns, and Lemma 1 says that it does not stay.",
        ),
    )
