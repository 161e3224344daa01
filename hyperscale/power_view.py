"""What `plan --power` tells: each claim's chance of a decisive verdict, and what would make it 90 %."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from analysis.exponents.calibration import without_calibration
from analysis.power.noise import pilot_envelopes
from analysis.power.replicates import REPLICATES
from analysis.power.study_power import TARGET, study_power
from analysis.table import build_table
from hyperscale.console import duration, standard_output
from hyperscale.packing import Pack, Speed, make_packs
from hyperscale.trial import Trial

if TYPE_CHECKING:
    from hyperscale.dispatch.launch import Launch

_BAR = 20
_COSTS = "Costs are those of the claim's own methods, times those of one core; the cheapest change comes first."
_CAUTION = (
    "Simulated without an optimisation gap that drifts with N, a target that is used up, or diverged trials, which can "
    "block a verdict or spoil it; estimators that disagree block about one in a hundred."
)


def power_data(launch: Launch) -> dict[str, Any]:
    """Return the power of the study's claims as plain JSON data, at the seeds that the launch takes."""
    study = launch.study_file.study
    records = launch.journal.records([trial.digest for trial in launch.trials])
    table = without_calibration(build_table(records), study.claims) if records else None
    claims = study_power(
        study,
        num_seeds=len({trial.seed for trial in launch.trials}),
        pilot=[[] if table is None else pilot_envelopes(claim, table) for claim in study.claims],
        setting_seconds=setting_seconds(launch.trials, launch.packs),
    )
    return {"target": TARGET, "replicates": REPLICATES, "claims": [claim.to_json() for claim in claims]}


def setting_seconds(trials: Sequence[Trial], packs: Iterable[Pack]) -> dict[str, float]:
    """Return one trial's expected seconds on one core by its setting's digest, as packs would train it.

    ``packs`` are those of the launch, whose programs may have been measured; the rest is by the fixed model.
    """
    speeds: dict[str, Speed] = {}
    for pack in packs:
        if pack.speed is not None:
            speeds.setdefault(pack.trials[0].setting.program_key(), pack.speed)
    found: dict[str, list[float]] = defaultdict(list)
    for pack in make_packs(trials, speeds=speeds):
        each = pack.estimated_seconds / len(pack.trials)
        for trial in pack.trials:
            found[trial.setting.digest()].append(each)
    return {digest: sum(values) / len(values) for digest, values in found.items()}


def percent(share: float) -> str:
    """Return a chance for reading: ``45 %``, ``<1 %``, ``>99 %``."""
    if 0 < share < 0.005 or share > 0.995:
        return "<1 %" if share < 0.5 else ">99 %"
    return f"{100 * share:.0f} %"


def print_power(data: Mapping[str, Any]) -> None:
    """Print the table of claims, and what it rests on."""
    console = standard_output()
    console.print()
    if not data["claims"]:
        console.print("[bold]Power[/bold]: the study makes no claims, so there is no verdict whose chance to tell.")
        return
    console.print(
        f"[bold]Power[/bold]: the chance of a decisive verdict, {data['replicates']:,} simulated studies",
        highlight=False,
    )
    for claim in data["claims"]:
        console.print()
        for line in power_lines(claim, data["target"]):
            console.print(line, soft_wrap=False)
    console.print()
    for note in _basis(data["claims"]):
        console.print(Text(note, style="dim"), soft_wrap=False)


def power_lines(claim: Mapping[str, Any], target: float) -> list[Text | Table]:
    """Return one claim: what it is and what the study spends on it; then chance, truths, what would reach the target.

    The claim has a line of its own, so that the three columns below keep their places in a narrow terminal.
    """
    title = Text(str(claim["claim"]), style="bold", overflow="fold")
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True, padding=(0, 2, 0, 0))
    table.add_column(Text(_spent(claim)), width=_BAR + 1, no_wrap=False)
    table.add_column("if", ratio=4)
    table.add_column(f"what would reach {percent(target)}", ratio=5)
    table.add_row(_chance(claim, target), _truths(claim), _changes(claim))
    return [title, table]


def _spent(claim: Mapping[str, Any]) -> str:
    """Return the sizes and seeds of the study as it is."""
    if not claim["sizes"]:
        return "not simulated"
    seeds = f"{claim['seeds']} seed{'' if claim['seeds'] == 1 else 's'}"
    if claim["octaves"] is None:
        return f"{claim['sizes']} values, {seeds}"
    return f"{claim['octaves']:.3g} octaves, {seeds}"


def _chance(claim: Mapping[str, Any], target: float) -> Text:
    if claim["obstacle"] or claim["chance"] is None:
        return Text("–", style="dim")
    chance = claim["chance"]
    colour = "green" if chance >= target else "yellow" if chance >= 0.5 else "red"
    full = round(_BAR * chance)
    text = Text(percent(chance), style=f"bold {colour}")
    text.append(f" ± {max(0.1, 100 * claim['standard_error']):.1f}", style="not bold dim")
    return text.append("\n" + "━" * full, style=colour).append("─" * (_BAR - full), style="not bold dim")


def _truths(claim: Mapping[str, Any]) -> Text:
    text = Text()
    for entry in claim["under"]:
        text.append(f"{percent(entry['decisive'])}".rjust(5), style="bold").append(f" {entry['truth']}\n")
    if claim["wrong"]:
        text.append(f"{percent(claim['wrong']).rjust(5)} wrong verdicts", style="dim")
    text.rstrip()
    return text


def _changes(claim: Mapping[str, Any]) -> Text:
    if not claim["changes"]:
        return Text(claim["advice"], style="green" if claim["enough"] else "yellow")
    text = Text()
    for number, change in enumerate(claim["changes"]):
        text.append("\nor " if number else "").append(change["words"], style="bold")
        seconds = change["added_seconds"]
        cost = "" if seconds is None else f", +{duration(seconds)}"
        text.append(f"\n   +{change['added_trials']:,} trials{cost}", style="dim")
    return text


def _basis(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the chances rest on: noise levels, where they come from, and what is left out."""
    levels: dict[str, None] = {}
    for claim in claims:
        noise = claim["noise"]
        if noise is not None:
            text = f"excess of a seed {noise['excess']:.2f}, lack of fit {noise['lack_of_fit']:.2f}: {noise['source']}"
            levels[text] = None
    lines = [f"Noise in log units: {'; '.join(levels)}."] if levels else []
    notes = dict.fromkeys(note for claim in claims for note in claim["notes"])
    lines += [f"{note[0].upper()}{note[1:]}." for note in notes]
    if any(claim["changes"] for claim in claims):
        lines.append(_COSTS)
    return [*lines, _CAUTION]
