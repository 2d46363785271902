"""Array: the runs of a benchmark as Slurm job arrays, with the settings of the study's or user's slurm.toml.

1. What is to be done is written to files, a run a line; task i of an array does line i.
2. Networks are one array, ensembles a second that waits for it, networks distilled from these a third.
3. The jobs are noted, so that the same command finds them again: it waits for them and submits nothing twice.
4. Runs that a time limit cut short left a checkpoint and are submitted again, as long as they get further.

A task writes the record of its run itself; nothing has to be collected.
"""

from __future__ import annotations

import math
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from densem.blocks import Journal
from densem.blocks.slurm import Jobs, SlurmSettings, check_slurm, submit, try_job
from densem.errors import ResourceError
from densem.experiments.benchmark import Say, fail, outcome
from densem.experiments.child import command
from densem.experiments.record import FILE
from densem.experiments.setting import Run, Setting
from densem.inference.job_limits import memory_bytes

FOLDER = "slurm"
LARGEST = 1000
"""Tasks of an array: Slurm's own default limit is 1001."""
POLL_SECONDS = 2.0
WARNING_SECONDS = 120
"""Before the end of its time a job is told, and writes a checkpoint."""


def jobs_of(setting: Setting) -> Jobs:
    """The jobs of a benchmark."""
    return Jobs(Journal(setting.folder.path / FOLDER))


def refuse_queued(setting: Setting) -> None:
    """Refuse to run here what Slurm jobs are doing.

    Raises:
        ResourceError: naming the jobs.
    """
    if not (setting.folder.path / FOLDER).is_dir():
        return
    found = jobs_of(setting).queued()
    if found:
        raise ResourceError(
            f"benchmark {setting.folder.name}: its Slurm jobs {', '.join(found)} are in the queue; "
            f"wait for them with --engine slurm, or cancel them with  scancel {' '.join(found)}"
        )


def run_on_slurm(setting: Setting, left: Callable[[], list[Run]], detach: bool, say: Say) -> None:
    """Do runs as Slurm jobs.

    Args:
        setting: the benchmark.
        left: says which runs are to be done now.
        detach: whether to return once the jobs are submitted.
        say: told in a sentence what happens.

    Raises:
        NotFoundError, ConfigError: without a slurm.toml that fits.
        ResourceError: if there is no Slurm here, or it refuses such a job.
        KeyboardInterrupt: when asked to stop, once all jobs are cancelled.
    """
    settings = SlurmSettings.find(setting.study.folder)
    check_slurm()
    jobs = jobs_of(setting)
    queued = jobs.queued()
    if queued:
        say(f"The Slurm jobs {', '.join(queued)} of this benchmark are in the queue.")
    if detach:
        if not queued:
            _submit(setting, settings, jobs, left(), say)
        say("Detached; the same command without --detach waits for the jobs.")
        return
    try:
        if queued:
            _wait(setting, jobs, left(), say)
        _work_off(setting, settings, jobs, left, say)
    except BaseException:
        cancelled = jobs.cancel()
        if cancelled:
            say(f"Cancelled the Slurm jobs {', '.join(cancelled)}.")
        raise


def _work_off(
    setting: Setting, settings: SlurmSettings, jobs: Jobs, left: Callable[[], list[Run]], say: Say
) -> None:
    """Submit and wait until nothing is left, or what is left gets no further."""
    runs = left()
    while runs:
        before = {run.name: _mark(setting, run) for run in runs}
        _submit(setting, settings, jobs, runs, say)
        _wait(setting, jobs, runs, say)
        for run in (r for r in runs if setting.record(r) is None and _mark(setting, r) == before[r.name]):
            logs = setting.folder.path / FOLDER
            fail(setting, run, f"its Slurm job ended without a record; its last words are in {logs}")
        runs = [r for r in runs if setting.record(r) is None]


def _mark(setting: Setting, run: Run) -> tuple[float, ...]:
    """Changes whenever a run gets further: times of its checkpoint, model and predictions."""
    place = setting.place(run)
    seen = [
        place / "training" / "checkpoint.pt",
        place / "model",
        *sorted(place.glob("predictions/*/journal/*")),
    ]
    return tuple(p.stat().st_mtime for p in seen if p.exists())


# ---- submitting ------------------------------------------------------------------------------


def _submit(setting: Setting, settings: SlurmSettings, jobs: Jobs, runs: Sequence[Run], say: Say) -> None:
    folder = setting.folder.path / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    after = ""
    for part in _phases(runs):
        number = len(list(folder.glob("runs-*.txt")))
        listed = folder / f"runs-{number}.txt"
        listed.write_text("".join(f"{run.name}\n" for run in part))
        script = job_script(setting, settings, jobs.name, listed, len(part), after)
        if not after:
            try_job(script)
        after = submit(script, jobs)
        say(f"Submitted {len(part)} run{'s' if len(part) > 1 else ''} as Slurm job array {after}.")


def _phases(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs that can be done at the same time, in order."""
    found = []
    for kinds in (("network", "annotators"), ("ensemble",), ("distilled",)):
        some = [r for r in runs if r.row.kind in kinds]
        found += [some[i : i + LARGEST] for i in range(0, len(some), LARGEST)]
    return found


def job_script(
    setting: Setting, settings: SlurmSettings, name: str, listed: Path, tasks: int, after: str = ""
) -> str:
    """The script of an array.

    Args:
        setting: the benchmark.
        settings: of the cluster.
        name: of the jobs.
        listed: file with a run a line.
        tasks: number of lines.
        after: a job that has to end first; empty for none.
    """
    options = [
        f"--job-name={name}",
        f"--array=0-{tasks - 1}%{settings.jobs}",
        f"--time={settings.time}",
        f"--mem={math.ceil(memory_bytes(settings.memory) / 2**20)}M",
        f"--cpus-per-task={settings.cores}",
        "--ntasks=1",
        f"--output={shlex.quote(str(setting.folder.path.resolve() / FOLDER / 'array-%A-%a.txt'))}",
        "--open-mode=append",
        f"--signal=B:TERM@{WARNING_SECONDS}",
        *([f"--partition={settings.partition}"] if settings.partition else []),
        *([f"--account={settings.account}"] if settings.account else []),
        *([f"--gres=gpu:{settings.gpus}"] if settings.gpus else []),
        *([f"--dependency=afterany:{after}"] if after else []),
        *settings.directives,
    ]
    words = command(setting, "", settings.python or sys.executable)[:-1]
    place = shlex.quote(str(listed.resolve()))
    return "\n".join(
        [
            "#!/bin/bash",
            *(f"#SBATCH {option}" for option in options),
            *settings.prologue,
            f'RUN=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {place})',
            f"export OMP_NUM_THREADS={settings.cores}",
            f'exec {shlex.join(words)} "$RUN"',
            "",
        ]
    )


# ---- waiting ---------------------------------------------------------------------------------


def _wait(setting: Setting, jobs: Jobs, runs: Sequence[Run], say: Say) -> None:
    """Wait until the jobs have left the queue; says how runs end meanwhile."""
    open_runs = {run.name: run for run in runs}
    known = {name: setting.record(run) for name, run in open_runs.items()}
    while True:
        queued = jobs.queued()
        for name, run in list(open_runs.items()):
            record = setting.record(run) if (setting.place(run) / FILE).is_file() else None
            if record is not None and record != known[name]:
                del open_runs[name]
                done = len(runs) - len(open_runs)
                say(f"[{done}/{len(runs)}] {run.name}: {outcome(setting, record)}")
        if not queued:
            return
        time.sleep(POLL_SECONDS)
