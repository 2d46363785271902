"""The evaluator of a packed data set: a page that says, command by command, how predictions are scored."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evaluator:
    """What the page is made of.

    Attributes:
        name: of the data set.
        registry_file: name of its TOML file.
        scored: protocols of each eval and test volume that has labels, here or with the organisers.
        hidden: test volumes whose labels are kept back, and whether they have objects.
        organiser: the page of those who hold these labels.
    """

    name: str
    registry_file: str
    scored: dict[str, list[str]]
    hidden: dict[str, bool]
    organiser: bool = False


def evaluator(facts: Evaluator) -> str:
    """The page as Markdown."""
    return _for_organisers(facts) if facts.organiser else _for_all(facts)


_SCORES = """Scores follow from one table of true against predicted classes over all voxels of a volume
(`docs/evaluation.md` of densem): IoU = TP / (TP + FP + FN) for each class, not available for a class in
neither, 0 for one that is predicted but not there; MIoU is their mean. Voxels of value 255 are unlabelled and
not counted; a voxel without a prediction is wrong. Protocol `labelled` counts all labelled voxels. Protocol
`cells` counts only voxels whose truth is not background, and gives the mean over the organelles alone.
"""


def _for_all(facts: Evaluator) -> str:
    lines = [f"# How {facts.name} is scored", "", _SCORES]
    open_ones = {v: p for v, p in facts.scored.items() if v not in facts.hidden}
    lines += ["```", f"densem datasets get {facts.registry_file} study", "densem train study --name mine"]
    for volume in facts.scored:
        lines.append(f"densem predict study --model mine --volume {volume} --name mine-{volume}")
    lines += [_command("study", f"mine-{v}", p) for v, ps in open_ones.items() for p in ps]
    lines += ["```", ""]
    lines.append(
        "Labels of another program: save them as OME-Zarr of class ids on the grid of the volume, and compare"
    )
    lines.append("with `densem.contingency` and `densem.scores` from Python.")
    if facts.hidden:
        names = ", ".join(facts.hidden)
        lines += [
            "",
            f"The labels of {names} are kept back. Send the organisers the folder of your prediction,",
        ]
        lines.append(
            f"`study/predictions/mine-{next(iter(facts.hidden))}` and so on, with a description of the "
            "method."
        )
    return "\n".join(lines) + "\n"


def _for_organisers(facts: Evaluator) -> str:
    lines = [f"# Scoring what is sent in for {facts.name}", "", _SCORES]
    lines += ["Once, with this archive unpacked here:", "", "```"]
    lines.append(f"densem datasets get {facts.registry_file} organiser")
    for volume, objects in facts.hidden.items():
        more = f" --instances objects/{volume}.tif" if objects else ""
        lines.append(f"densem import organiser {volume} --labels labels/{volume}.tif{more}")
    lines += ["```", "", "For each prediction, copied to `organiser/predictions/NAME`:", "", "```"]
    lines += [_command("organiser", "NAME", p) for v in facts.hidden for p in facts.scored.get(v, [])]
    lines += ["```", ""]
    return "\n".join(lines)


def _command(study: str, prediction: str, protocol: str) -> str:
    return f"densem evaluate {study} --prediction {prediction} --protocol {protocol}"
