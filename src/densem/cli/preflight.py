"""The preflight of a prediction on a terminal: one table of facts, one of times, then notes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import typer

from densem.errors import ResourceError

if TYPE_CHECKING:
    from densem.inference import Preflight


def show_preflight(found: Preflight, as_json: bool) -> None:
    """Print it.

    Raises:
        ResourceError: saying what does not fit, after all has been printed.
    """
    facts = found.to_dict()
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
    else:
        _print(facts)
    if found.refusals:
        raise ResourceError("does not fit: " + "; and ".join(found.refusals))


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for name, lines in _rows(facts).items():
        table.add_row(name, escape("\n".join(lines)))
    console.print(table)
    console.print(_fleets(facts))
    for note in facts["notes"]:
        console.print(f"[yellow]note[/]  {escape(note)}", soft_wrap=False)
    if not facts["refusals"]:
        console.print("It fits. Nothing was written; the same command without --dry-run does it.")


def _rows(facts: dict[str, Any]) -> dict[str, list[str]]:
    return {
        "volume": _volume(facts["volume"]),
        "models": [", ".join(facts["models"])],
        "tiles": _tiles(facts["tiles"]),
        "blocks": _blocks(facts["blocks"]),
        "disk": _disk(facts["disk"], facts["folder"]),
        "files": _files(facts["files"]),
        "memory": _memory(facts["memory"]),
        "measured": _measured(facts),
        "time": _time(facts),
        **({"job": _job(facts)} if facts["engine"]["job"] else {}),
    }


def _volume(row: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, sides_text

    lines = [
        f"{row['name']}: {sides_text(row['shape'])} voxels (z y x) of {sides_text(row['voxel_size_nm'])} nm, "
        f"{row['dtype']}: {count_text(row['voxels'])} voxels"
    ]
    if row["predicted_shape"] != row["shape"]:
        lines.append(
            f"predicted at {sides_text(row['predicted_voxel_size_nm'])} nm: "
            f"{sides_text(row['predicted_shape'])} voxels"
        )
    return lines


def _tiles(row: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, sides_text

    return [
        f"{count_text(row['count'])} windows of {sides_text(row['window'])}: core {sides_text(row['core'])}, "
        f"context {sides_text(row['context'])}",
        f"{row['voxels_run_per_voxel']:.2f} voxels run for each voxel of the volume "
        f"({row['context_share']:.0%} of what is run is context)",
    ]


def _blocks(row: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, sides_text

    lines = [
        f"{count_text(row['count'])} of {sides_text(row['shape'])} = {count_text(row['voxels'])} voxels, "
        f"{row['windows']} windows each; {row['voxels_read_per_voxel']:.2f} voxels read for each voxel"
    ]
    if row["done"]:
        lines.append(f"{row['done']} are done by the unfinished run there, {row['left']} are left")
    return lines


def _disk(row: dict[str, Any], folder: str) -> list[str]:
    from densem.inference.quantities import size_text

    ratios = ", ".join(f"{name} {ratio:.3g}" for name, ratio in row["ratio"].items())
    outputs = ", ".join(f"{name} {size_text(size)}" for name, size in row["outputs"].items())
    return [
        f"up to {size_text(row['largest_bytes'])} not compressed ({outputs})",
        f"about {size_text(row['expected_bytes'])} expected: compressed share of a labelled sample: {ratios}",
        f"{size_text(row['free_bytes'])} free for {folder}",
    ]


def _files(row: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, sides_text

    free = "no limit" if row["free_inodes"] is None else count_text(row["free_inodes"])
    return [
        f"up to {count_text(row['files'])} files in {count_text(row['folders'])} folders, all levels and "
        f"metadata; {row['journal_files']} more of the journal; room for {free}",
        f"shards of {sides_text(row['shard'])}, chunks of {sides_text(row['chunk'])}",
    ]


def _memory(row: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import size_text

    card = f"; on the card {size_text(row['card_bytes'])} (measured)" if row["card_bytes"] else ""
    return [
        f"{size_text(row['worker_bytes'])} a worker = process with networks "
        f"{size_text(row['process_bytes'])} + window {size_text(row['window_bytes'])} "
        f"(both measured) + block arrays {size_text(row['block_bytes'])} (calculated){card}",
        f"{size_text(row['free_bytes'])} free here",
    ]


def _measured(facts: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, time_text

    row = facts["measured"]
    threads = f", {row['threads']} threads" if row["device"].startswith("cpu") else ""
    lines = [f"on this machine: {row['device']}, {row['precision']}{threads}; at {row['box']}"]
    for timing in row["timed"]:
        rest = timing["of"] - timing["first_slices"]
        whole = f"{timing['slices']} of {timing['of']} slices"
        steps = f" + {rest} slices x {timing['steady']:.3g} s" if rest else ""
        lines.append(
            f"{whole}: {timing['first']:.3g} s to the first {timing['first_slices']}{steps} = "
            f"{time_text(timing['first'] + rest * timing['steady'])} for a window"
        )
    rate = row["window_voxels"] / row["window_seconds"]
    passes = f"{row['passes']} passes: " if row["passes"] > 1 else ""
    lines.append(
        f"{passes}{time_text(row['window_seconds'])} for a window of {count_text(row['window_voxels'])} "
        f"voxels: {count_text(rate)} voxels a second"
    )
    return lines


def _time(facts: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import count_text, time_text

    row, rate = facts["time"], facts["measured"]["window_voxels"] / facts["measured"]["window_seconds"]
    run = row["computing_seconds"] * rate
    return [
        f"networks {time_text(row['computing_seconds'])} = {count_text(run)} voxels run / "
        f"{count_text(rate)} a second",
        f"reading {time_text(row['reading_seconds'])}, compressing and checking "
        f"{time_text(row['writing_seconds'])} (in memory, without the disk)",
        f"{row['work_hours']:,.4g} {row['unit']}; {time_text(row['block_seconds'])} a block; at the end "
        f"{time_text(row['end_seconds'])} for coarser levels, by one worker",
    ]


def _job(facts: dict[str, Any]) -> list[str]:
    from densem.inference.quantities import size_text, time_text

    job, block = facts["engine"]["job"], facts["time"]["block_seconds"]
    limits = (
        f"slurm.toml: {job['jobs']} jobs of {job['cores']} cores, {job['gpus']} GPU, "
        f"{size_text(job['memory'])}, {time_text(job['seconds'])}"
    )
    return [limits, f"a job does {job['seconds'] / block:,.1f} blocks of {time_text(block)} in its time"]


def _fleets(facts: dict[str, Any]) -> Any:
    from rich import box
    from rich.table import Table

    from densem.inference.quantities import time_text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("workers", justify="right")
    table.add_column("time to the end", justify="right")
    table.add_column("of it blocks", justify="right")
    end = facts["time"]["end_seconds"]
    chosen = facts["engine"]["workers"]
    for row in facts["time"]["wall"]:
        seconds = row["hours"] * 3600
        mark = " <-" if row["workers"] == chosen else ""
        table.add_row(f"{row['workers']}{mark}", time_text(seconds), time_text(seconds - end))
    return table
