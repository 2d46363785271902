import contextlib
import errno
import os
import subprocess
import time
from importlib import metadata
from types import SimpleNamespace

import pytest
import torch

from densem.inference import disk, doctor
from densem.inference.disk import DiskSpeed
from densem.inference.doctor import Diagnosis, Finding
from densem.inference.machine import Cores, Memory

GB = 10**9


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Shell scripts that are all there is on PATH; `commands("sinfo", "echo main")` adds one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)

    def add(name, script="exit 0"):
        path = folder / name
        path.write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
        path.chmod(0o755)

    return add


@pytest.fixture
def installed(monkeypatch):
    """Packages that are there, with their versions."""

    def only(**versions):
        def version(name):
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        monkeypatch.setattr(doctor.metadata, "version", version)

    return only


def found(monkeypatch, name, value):
    """Let a fact of the machine be this."""
    monkeypatch.setattr(doctor, name, SimpleNamespace(look=lambda: value))


@pytest.mark.parametrize(("version", "state"), [("3.10.14", "problem"), ("3.11.0", "ok"), ("3.13.1", "ok")])
def test_python_must_be_new_enough(monkeypatch, version, state):
    monkeypatch.setattr(doctor.platform, "python_version", lambda: version)
    advice = "make a new environment with Python 3.11 or newer" if state == "problem" else ""
    assert doctor.python() == Finding(version, state, advice)


def test_densem_says_its_version_and_where_it_lies():
    import densem

    assert doctor.densem_itself().found.startswith(f"{densem.__version__}, in /")


@pytest.mark.parametrize(
    ("version", "amx", "state", "says"),
    [
        ("2.9.0+cu126", False, "problem", "about 4 times slower"),
        ("2.5.1", True, "problem", "older than 2.6"),
        ("2.13.0+cpu", True, "note", "is unsafe"),
        ("2.13.0+cpu", False, "ok", "2.13.0+cpu"),
        ("2.9.1", True, "ok", "2.9.1"),
        ("2.11.0a0+git1234", True, "ok", "2.11.0a0+git1234"),
    ],
)
def test_bad_releases_of_torch_are_known(monkeypatch, version, amx, state, says):
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(doctor, "has_amx", lambda: amx)
    finding = doctor.pytorch()
    assert finding.state == state
    assert says in finding.found
    if state == "problem":
        assert finding.advice == "pip install 'torch>=2.6,!=2.9.0'"


class TestCards:
    @pytest.fixture(autouse=True)
    def no_card(self, monkeypatch):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch, "__version__", "2.13.0")
        monkeypatch.setattr(torch.version, "cuda", None)
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    @pytest.fixture
    def card(self, commands):
        def add(cuda="13.0"):
            heading = f"| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: {cuda}  |"
            listed = "GPU 0: NVIDIA H100 (UUID: GPU-1)"
            commands("nvidia-smi", f'if [ "$1" = -L ]; then echo "{listed}"; else echo "{heading}"; fi')

        return add

    def test_usable_ones_are_named(self, monkeypatch):
        cards = [
            SimpleNamespace(name="NVIDIA H100", total_memory=85 * GB),
            SimpleNamespace(name="Tesla T4", total_memory=8 * GB),
        ]
        current = []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_properties", cards.__getitem__)
        monkeypatch.setattr(torch.cuda, "device", lambda i: contextlib.nullcontext(current.append(i)))
        monkeypatch.setattr(doctor, "has_bf16", lambda device: current[-1] == 0)
        assert doctor.cards() == Finding("NVIDIA H100, 85 GB, has bf16; Tesla T4, 8.0 GB, no bf16")

    def test_none_is_a_note(self, commands):
        assert doctor.cards() == Finding("none found", "note", "nothing; networks run on the processor")

    @pytest.mark.parametrize(
        ("driver", "advice"),
        [
            (
                "13.1",
                "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
            ),
            (
                "12.4",
                "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
            ),
            ("11.8", "update the NVIDIA driver to one for CUDA 12 or newer"),
        ],
    )
    def test_a_torch_without_cuda_is_a_problem(self, card, driver, advice):
        card(driver)
        text = "NVIDIA H100, not usable: torch 2.13.0 is a build without CUDA"
        assert doctor.cards() == Finding(f"{text}; the driver knows CUDA {driver}", "problem", advice)

    def test_a_torch_for_a_newer_driver_is_a_problem(self, card, monkeypatch):
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        card("12.4")
        finding = doctor.cards()
        assert "torch 2.13.0 was built for CUDA 13.0; the driver knows CUDA 12.4" in finding.found
        assert finding.advice.endswith("/cu126")

    def test_a_hidden_card_is_a_note(self, card, monkeypatch):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
        card()
        text = "NVIDIA H100: hidden by CUDA_VISIBLE_DEVICES=-1"
        assert doctor.cards() == Finding(text, "note", "unset CUDA_VISIBLE_DEVICES to use it")

    def test_a_driver_that_fails_is_a_note(self, commands):
        commands("nvidia-smi", "echo 'no driver is running' >&2; exit 9")
        advice = "if the machine has a card, repair its driver; else nothing"
        assert doctor.cards() == Finding("nvidia-smi: no driver is running", "note", advice)

    def test_a_driver_without_cards_is_a_note(self, commands):
        commands("nvidia-smi", "echo 'No devices found.'")
        assert doctor.cards().found == "nvidia-smi lists none"


def test_bf16_of_the_processor(monkeypatch):
    monkeypatch.setattr(doctor, "processor", lambda: "cpu amx_bf16+avx2")
    monkeypatch.setattr(doctor, "has_bf16", lambda device: True)
    assert doctor.bf16() == Finding("the processor has it (amx_bf16, avx2)")
    monkeypatch.setattr(doctor, "processor", lambda: "cpu avx2")
    monkeypatch.setattr(doctor, "has_bf16", lambda device: False)
    assert doctor.bf16() == Finding("the processor lacks it (avx2)", "note", "nothing; float32 is used")


def test_openvino(installed):
    installed(openvino="2026.4.1")
    assert doctor.openvino() == Finding("2026.4.1")
    installed()
    advice = "for predicting with it: pip install 'densem[openvino]'"
    assert doctor.openvino() == Finding("not installed", "note", advice)


def test_cores(monkeypatch):
    found(monkeypatch, "Cores", Cores(8, 8))
    assert doctor.cores() == Finding("8")
    found(monkeypatch, "Cores", Cores(2, 8))
    advice = "for more, ask the scheduler (Slurm: --cpus-per-task) or raise the container's limit"
    assert doctor.cores() == Finding("2 usable of 8", "note", advice)


@pytest.mark.parametrize(
    ("count", "setting", "state", "advice"),
    [
        (8, None, "ok", ""),
        (4, None, "ok", ""),  # one for each pair of cores
        (16, None, "note", "export OMP_NUM_THREADS=8"),
        (4, "4", "note", "unset OMP_NUM_THREADS (it is 4)"),
        (8, "8", "ok", ""),
        (1, None, "note", "export OMP_NUM_THREADS=8"),
    ],
)
def test_threads(monkeypatch, count, setting, state, advice):
    found(monkeypatch, "Cores", Cores(8, 8))
    monkeypatch.setattr(torch, "get_num_threads", lambda: count)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if setting:
        monkeypatch.setenv("OMP_NUM_THREADS", setting)
    finding = doctor.threads()
    assert (finding.state, finding.advice) == (state, advice)
    assert finding.found.startswith(f"torch uses {count} for 8 usable cores")


@pytest.mark.parametrize(
    ("seen", "finding"),
    [
        (Memory(32 * GB, 20 * GB, limited=False), Finding("20 GB free of 32 GB")),
        (
            Memory(32 * GB, 2 * GB, limited=False),
            Finding(
                "2.0 GB free of 32 GB", "note", "close other programs, or take smaller patches and blocks"
            ),
        ),
        (
            Memory(4 * GB, GB // 2, limited=True),
            Finding(
                "0.5 GB free of 4.0 GB, a limit set for this process",
                "problem",
                "raise the limit (Slurm: --mem), or take smaller patches and blocks",
            ),
        ),
    ],
)
def test_memory(monkeypatch, seen, finding):
    found(monkeypatch, "Memory", seen)
    assert doctor.memory() == finding


class TestDisk:
    @pytest.fixture
    def free(self, monkeypatch):
        def be(size):
            monkeypatch.setattr(doctor.psutil, "disk_usage", lambda path: SimpleNamespace(free=size))

        be(50 * GB)
        return be

    @pytest.fixture
    def speed(self, monkeypatch):
        """Of a disk; what was asked of it is returned."""
        asked = []

        def be(write, read):
            speed = DiskSpeed(write * 1e6, read * 1e6)
            monkeypatch.setattr(
                DiskSpeed, "measure", lambda folder, size: asked.append((folder, size)) or speed
            )
            return asked

        return be

    def test_a_fast_one(self, tmp_path, free, speed):
        asked = speed(400, 900)
        finding = doctor.disk(tmp_path)
        assert finding == Finding(f"50 GB free in {tmp_path}; writes 400 MB/s, reads 900 MB/s")
        assert asked == [(tmp_path, 128_000_000)]

    def test_at_most_a_tenth_of_what_is_free_is_written(self, tmp_path, free, speed):
        free(GB + 70)
        asked = speed(400, 900)
        doctor.disk(tmp_path)
        assert asked == [(tmp_path, 100_000_007)]

    def test_a_slow_one_is_a_note(self, tmp_path, free, speed):
        speed(400, 12)
        finding = doctor.disk(tmp_path)
        assert finding.state == "note"
        assert finding.advice == "slow: keep studies on a local disk while working on them"

    def test_a_full_one_is_a_problem_and_not_written(self, tmp_path, free, speed):
        free(GB // 2)
        asked = speed(400, 900)
        text = f"0.5 GB free in {tmp_path}"
        assert doctor.disk(tmp_path) == Finding(text, "problem", "make room, or take another disk")
        assert asked == []

    def test_a_file_or_nothing_is_not_a_folder(self, tmp_path):
        path = tmp_path / "thing"
        text, advice = f"{path}: expected a folder, ", "give a folder that is there"
        assert doctor.disk(path) == Finding(f"{text}nothing is there", "problem", advice)
        assert doctor.file_locks(path) == Finding("not checked", "note", advice)
        path.touch()
        assert doctor.disk(path) == Finding(f"{text}a file", "problem", advice)

    @pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.EROFS])
    def test_a_folder_that_may_not_be_written(self, tmp_path, free, monkeypatch, code):
        def refuse(*arguments, **options):
            raise OSError(code, os.strerror(code), str(tmp_path))

        monkeypatch.setattr(disk.tempfile, "TemporaryFile", refuse)
        monkeypatch.setattr(disk.tempfile, "mkstemp", refuse)
        text = f"{tmp_path}: cannot be written: {os.strerror(code)}"
        expected = Finding(text, "problem", "give a folder that you may write to")
        assert doctor.disk(tmp_path) == expected
        assert doctor.file_locks(tmp_path) == expected

    def test_a_full_disk_while_writing_is_no_traceback(self, tmp_path, free, monkeypatch):
        def refuse(*arguments):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

        monkeypatch.setattr(DiskSpeed, "measure", refuse)
        assert doctor.disk(tmp_path).found == f"{tmp_path}: cannot be written: Disk quota exceeded"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (False, "a lock does not keep others out here"),
        (None, "this system has no file locks"),
        (OSError(errno.ENOLCK, "No locks available"), "files cannot be locked: No locks available"),
    ],
)
def test_a_disk_without_locks_is_a_problem(tmp_path, monkeypatch, answer, says):
    def locks_hold(folder):
        if isinstance(answer, OSError):
            raise answer
        return answer

    monkeypatch.setattr(doctor, "locks_hold", locks_hold)
    advice = "keep studies on another disk, or never start two runs on one"
    assert doctor.file_locks(tmp_path) == Finding(says, "problem", advice)


def test_a_disk_with_locks(tmp_path):
    assert doctor.file_locks(tmp_path) == Finding("files can be locked")


class TestSlurm:
    def test_none_is_a_note(self, commands):
        advice = "only needed for clusters: there, type this on the login node"
        assert doctor.slurm() == Finding("not found", "note", advice)

    def test_half_of_it_is_a_problem(self, commands):
        commands("sinfo")
        advice = "load the cluster's Slurm module"
        assert doctor.slurm() == Finding("sbatch is missing", "problem", advice)

    def test_partitions_are_listed_once(self, commands):
        commands("sbatch")
        commands("sinfo", "echo gpu; echo long; echo gpu")
        assert doctor.slurm() == Finding("partitions: gpu, long")

    def test_a_cluster_without_partitions_is_a_problem(self, commands):
        commands("sbatch")
        commands("sinfo")
        assert doctor.slurm().found == "found, no partitions"
        assert doctor.slurm().state == "problem"

    def test_a_failure_is_told_by_its_last_line(self, commands):
        commands("sbatch")
        commands("sinfo", "echo 'sinfo: trying' >&2; echo 'Unable to contact slurm controller' >&2; exit 1")
        advice = "try `scontrol ping`; ask who runs the cluster"
        assert doctor.slurm() == Finding("sinfo: Unable to contact slurm controller", "problem", advice)

    def test_a_failure_without_a_word_is_told_by_its_code(self, commands):
        commands("sbatch")
        commands("sinfo", "exit 3")
        assert doctor.slurm().found == "sinfo: exit code 3"

    def test_a_hanging_command_is_ended_with_its_children(self, commands, tmp_path, monkeypatch):
        monkeypatch.setattr(doctor, "COMMAND_SECONDS", 0.4)
        commands("sbatch")
        commands("sinfo", f"sleep 60 & echo $! > {tmp_path}/child; wait")
        start = time.monotonic()
        assert doctor.slurm().found == "sinfo: no answer within 0 s"
        assert time.monotonic() - start < 10
        child = (tmp_path / "child").read_text().strip()
        while _state(child) not in ("", "Z"):
            assert time.monotonic() - start < 30
            time.sleep(0.05)


def _state(process):
    """The letter of a process's state; empty where there is none."""
    status = subprocess.run(["/bin/ps", "-o", "stat=", "-p", process], capture_output=True, text=True)
    return status.stdout.strip()[:1]


def test_dask(installed):
    installed(dask="2026.8.0", distributed="2026.8.0", **{"dask-jobqueue": "0.9.0"})
    assert doctor.dask() == Finding("dask 2026.8.0, distributed 2026.8.0, dask-jobqueue 0.9.0")
    installed(dask="2026.8.0")
    advice = "to work on a cluster: pip install 'densem[cluster]'"
    assert doctor.dask() == Finding("distributed, dask-jobqueue not installed", "note", advice)


def test_a_compiler_is_only_a_note(commands, tmp_path):
    advice = "only torch.compile needs one: install g++ or clang"
    assert doctor.compiler() == Finding("no C++ compiler found", "note", advice)
    commands("clang++")
    assert doctor.compiler() == Finding(str(tmp_path / "bin/clang++"))


def test_a_check_that_fails_or_hangs_is_a_finding(tmp_path, monkeypatch):
    def crash():
        raise ZeroDivisionError("by\nzero")

    made = {"crash": crash, "hang": lambda: time.sleep(3), "good": lambda: Finding("fine")}
    monkeypatch.setattr(doctor, "checks", lambda folder: made)
    monkeypatch.setattr(doctor, "CHECK_SECONDS", 0.3)
    start = time.monotonic()
    findings = doctor.examine(tmp_path).findings
    assert time.monotonic() - start < 2
    assert list(findings) == ["crash", "hang", "good"]
    assert findings["crash"].state == "note"
    assert findings["crash"].found == "could not be checked: ZeroDivisionError: by zero"
    assert findings["hang"].state == "problem"
    assert findings["hang"].found == "no answer within 0 s"
    assert findings["good"] == Finding("fine")


@pytest.mark.parametrize(
    ("states", "healthy", "summary"),
    [
        (("ok", "ok"), True, "2 checks: all is well."),
        (("ok", "note"), True, "2 checks: 1 note."),
        (("note", "problem", "note"), False, "3 checks: 1 problem, 2 notes."),
    ],
)
def test_only_a_problem_is_unhealthy(states, healthy, summary):
    diagnosis = Diagnosis({str(n): Finding("x", state) for n, state in enumerate(states)})
    assert diagnosis.healthy is healthy
    assert diagnosis.summary() == summary


def test_plain_values():
    diagnosis = Diagnosis({"disk": Finding("full", "problem", "make room")})
    row = {"check": "disk", "found": "full", "state": "problem", "advice": "make room"}
    assert diagnosis.to_dict() == {"healthy": False, "checks": [row]}


def test_this_machine_is_examined_in_time_and_left_clean(tmp_path):
    start = time.monotonic()
    findings = doctor.examine(tmp_path).findings
    assert time.monotonic() - start < 9
    assert not [name for name, f in findings.items() if f.found.startswith("could not be checked")]
    assert list(tmp_path.iterdir()) == []
