"""Which engine a command is to use, and when it is asked for."""

import logging
from contextlib import contextmanager

import pytest

from densem.blocks import EngineChoice, Grid, Journal, LocalCrew, RunOptions, engine_choice
from densem.errors import ConfigError, NotFoundError, ResourceError

GRID = Grid((5, 9, 14), (2, 4, 5))  # 27 blocks
TOML = 'time = "5:00"\nmemory = "1GB"\ncores = 2\njobs = 2\ngpus = 1\n'


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "work" / "journal")
    journal.begin({})
    return journal


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"engine": "slrum"}, "--engine slrum: expected one of local, slurm, dask"),
        (
            {"engine": "dask"},
            "--engine dask: expected --engine dask with --scheduler ADDRESS, such as tcp://10.0.0.1:8786, or "
            "neither",
        ),
        (
            {"scheduler": "tcp://1.2.3.4:5"},
            "--engine local --scheduler tcp://1.2.3.4:5: expected --engine dask with --scheduler ADDRESS, such "
            "as tcp://10.0.0.1:8786, or neither",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(given, message):
    with pytest.raises(ConfigError) as caught:
        EngineChoice(**given)
    assert str(caught.value) == message


def test_a_local_crew_has_the_workers_and_the_options(journal):
    options = RunOptions(retries=7, kept=False)
    with EngineChoice(workers=3).crew(journal, options) as crew:
        assert isinstance(crew, LocalCrew)
        assert (crew.options.workers, crew.options.retries, crew.options.kept) == (3, 7, False)
        assert crew.do(lambda i, box: {}, GRID, journal).done == 27


def test_jobs_get_the_card_only_where_it_is_wanted(tmp_path):
    (tmp_path / "slurm.toml").write_text(TOML)
    assert EngineChoice("slurm", settings=tmp_path).slurm().gpus == 0
    assert EngineChoice("slurm", settings=tmp_path, cards=True).slurm().gpus == 1


def test_no_slurm_settings_are_refused_before_anything_is_asked_for(journal, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    choice = EngineChoice("slurm", settings=tmp_path)
    with (
        pytest.raises(NotFoundError, match=r"--engine slurm: expected this cluster's settings in "),
        choice.crew(journal),
    ):
        raise AssertionError("not reached")


class _Client:
    dashboard_link = "http://127.0.0.1:1/status"


@pytest.fixture
def asked(monkeypatch):
    """How many blocks clusters were asked for, and what was done in the end."""
    calls = []

    @contextmanager
    def client(self, journal, blocks):
        calls.append(blocks)
        yield _Client()
        calls.append("closed")

    monkeypatch.setattr(EngineChoice, "client", client)
    monkeypatch.setattr(engine_choice, "settle", lambda client, home: calls.append(f"settled {home.name}"))
    monkeypatch.setattr(engine_choice, "ClusterCrew", lambda client, name, options: LocalCrew(options))
    return calls


def test_a_cluster_is_asked_for_once_with_the_first_block(journal, tmp_path, asked, caplog):
    caplog.set_level(logging.INFO, "densem")
    other = Journal(tmp_path / "other")
    other.begin({})
    LocalCrew(RunOptions(order=range(20))).do(lambda i, box: {}, GRID, journal)
    with EngineChoice("dask", scheduler="tcp://1.2.3.4:5").crew(journal) as crew:
        assert asked == []
        assert crew.do(lambda i, box: {}, GRID, journal).done == 7
        assert crew.do(lambda i, box: {}, GRID, other).done == 27
        assert asked == [7]
    assert asked == [7, "settled work", "closed"]
    assert caplog.messages == [
        "Working with engine dask; dashboard: http://127.0.0.1:1/status",
        f"How it is getting on:  densem status {tmp_path / 'work'}",
    ]


def test_a_cluster_is_not_asked_for_where_nothing_is_left(journal, asked):
    LocalCrew().do(lambda i, box: {}, GRID, journal)
    with EngineChoice("dask", scheduler="tcp://1.2.3.4:5").crew(journal) as crew:
        report = crew.do(lambda i, box: {}, GRID, journal)
    assert (report.planned, report.resumed, report.done) == (27, 27, 0)
    assert asked == []


def test_an_address_that_is_none_is_refused_with_the_first_block(journal):
    with (
        EngineChoice("dask", scheduler="nowhere").crew(journal) as crew,
        pytest.raises(ConfigError, match=r"--scheduler nowhere: expected an address such as tcp:"),
    ):
        crew.do(lambda i, box: {}, GRID, journal)


def test_no_scheduler_there_is_refused(journal, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("densem.blocks.cluster.CONNECT_SECONDS", 0.5)
    with (
        EngineChoice("dask", scheduler="tcp://127.0.0.1:9").crew(journal) as crew,
        pytest.raises(ResourceError, match="no Dask scheduler answered there within"),
    ):
        crew.do(lambda i, box: {}, GRID, journal)
