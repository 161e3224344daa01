"""The papers' theorems as claims: one function for each statement that has a rate, an ordering or a limit.

"On the Modularity of Hypernetworks" (Galanti & Wolf, 2020; `modularity`, `selection`, `comparisons`, `neurons`) and
"On Infinite-Width Hypernetworks" (Littwin, Galanti, Wolf & Yang, 2020; `infinite_width`, `taylor_terms`). A claim
carries the statement, its source, the conditions and where they fail, and what the paper prints wrongly where it
touches the statement. No verdict on a claim decides a theorem: the theorems speak of best weights, worst targets and
infinite widths.

======================== ============================= ===============
statement                function                      claim
======================== ============================= ===============
Def. 1                   universal_rate                ScalingRate
Sec. 4.1, Def. 1         instance_rate                 ScalingRate
Eq. 2, Lemmas 18, 19     continuous_selection_rate     ScalingRate
COLT 2018                deep_selection_rate           ScalingRate
TH-M1 = Thm. 1           plain_rate                    ScalingRate
TH-M1, n = m1            instance_plain_rate           ScalingRate
Def. 1, TH-M1            instance_match                ScalingRate
TH-M2 = Thm. 2           embedding_rate_fixed          ScalingRate
TH-M3 = Thm. 3           embedding_rate_growing        ScalingRate
TH-M4 = Thm. 4           hypernetwork_rate             ScalingRate
TH-M4, TH-M1             hypernetwork_match            ScalingRate
TH-M5 = Thm. 5           total_rate                    ScalingRate
Sec. 4.2, TH-M1          total_plain_rate              ScalingRate
TH-M2, TH-M4             modularity_ordering           Ordering
TH-M2 or M3, TH-M4       modularity_separation         Separation
TH-M1, TH-M5             total_separation              Separation
Sec. 4.2                 total_ordering                Ordering
TH-M4, eq. 4             instance_factor               Factor
TH-M4, eq. 4             infimum_factor                Factor
Lemma 17                 selector_factor               Factor
Sec. 4.1                 emulation_factor              Factor
Assumption 1             unique_approximator           Ceiling
Assumption 2             neuron_gain                   Monotone
Lemma 1                  shallow_neuron_gain           Monotone
Lemma 1, proof           added_neuron_ceiling          Ceiling
TH-LIP = Lemma 3         lipschitz_ceiling             Ceiling
TH-I1 = Thm. 1, eq. 6    taylor_exponent               WidthExponent
TH-I1 = Thm. 1, eq. 6    taylor_spacing                WidthExponent
TH-I1b = Remark 1        taylor_term_decay             WidthExponent
TH-I2 = Thm. 2           process_limit                 Convergence
TH-I3, eqs. 13, 14       hyperkernel_limit             Convergence
TH-I3, eq. 15            meta_kernel_limit             Convergence
TH-I3, eq. 15            primary_kernel_limit          Convergence
TH-I3, Fig. 1a           variance_decay                WidthExponent
Fig. 1a                  variance_plateau              WidthExponent
TH-I3, eq. 16            kernel_derivative_decay       WidthExponent
Cor. 1                   rotation_invariance           Ceiling
Remarks 2, 3             feature_invariance            WidthExponent
Sec. 3, Fig. 2           depth_penalty                 Monotone
Sec. 5.2, Fig. 2         width_benefit                 Monotone
======================== ============================= ===============

"COLT 2018" is Yarotsky's answer to what `continuous_selection_rate` leaves open: r/m or 2r/m on deep networks.
Lemmas 17 to 24 of the first paper are in its appendix. Lemma 18 (N-width at least the Bernstein width) and Lemmas 20
to 24 are steps of the proofs of the rates above and have no claim of their own; Lemma 20 relaxes the membership
condition of `plain_rate` and leaves its rate.
"""

from __future__ import annotations

from analysis.theorems.comparisons import (
    emulation_factor,
    infimum_factor,
    instance_factor,
    lipschitz_ceiling,
    modularity_ordering,
    modularity_separation,
    selector_factor,
    total_ordering,
    total_separation,
    unique_approximator,
)
from analysis.theorems.infinite_width import (
    depth_penalty,
    feature_invariance,
    hyperkernel_limit,
    kernel_derivative_decay,
    meta_kernel_limit,
    primary_kernel_limit,
    process_limit,
    rotation_invariance,
    variance_decay,
    variance_plateau,
    width_benefit,
)
from analysis.theorems.modularity import (
    TheoremTarget,
    embedding_rate_fixed,
    embedding_rate_growing,
    hypernetwork_rate,
    instance_rate,
    plain_rate,
    total_rate,
    universal_rate,
)
from analysis.theorems.neurons import added_neuron_ceiling, neuron_gain, shallow_neuron_gain
from analysis.theorems.selection import (
    continuous_selection_rate,
    deep_selection_rate,
    hypernetwork_match,
    instance_match,
    instance_plain_rate,
    total_plain_rate,
)
from analysis.theorems.taylor_terms import taylor_exponent, taylor_spacing, taylor_term_decay

__all__ = [
    "TheoremTarget",
    "added_neuron_ceiling",
    "continuous_selection_rate",
    "deep_selection_rate",
    "depth_penalty",
    "embedding_rate_fixed",
    "embedding_rate_growing",
    "emulation_factor",
    "feature_invariance",
    "hyperkernel_limit",
    "hypernetwork_match",
    "hypernetwork_rate",
    "infimum_factor",
    "instance_factor",
    "instance_match",
    "instance_plain_rate",
    "instance_rate",
    "kernel_derivative_decay",
    "lipschitz_ceiling",
    "meta_kernel_limit",
    "modularity_ordering",
    "modularity_separation",
    "neuron_gain",
    "plain_rate",
    "primary_kernel_limit",
    "process_limit",
    "rotation_invariance",
    "selector_factor",
    "shallow_neuron_gain",
    "taylor_exponent",
    "taylor_spacing",
    "taylor_term_decay",
    "total_ordering",
    "total_plain_rate",
    "total_rate",
    "total_separation",
    "unique_approximator",
    "universal_rate",
    "variance_decay",
    "variance_plateau",
    "width_benefit",
]
