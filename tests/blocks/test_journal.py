import json
import os
import tracemalloc

import pytest

from densem.blocks import Journal
from densem.blocks import journal as journal_module
from densem.errors import IntegrityError

PLAN = {"model": ["a1"], "core": (2, 4, 6)}


def started(folder):
    journal = Journal(folder / "journal")
    journal.begin(PLAN)
    return journal


def note(journal, worker, *blocks):
    with journal.worker(worker) as pen:
        for block in blocks:
            pen.append(block, {"digest": f"d{block}"})


def test_records_of_several_workers_are_merged(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 4, 1)
    note(journal, "worker-1", 0)
    assert journal.done() == {0, 1, 4}
    assert journal.records()[4] == {"block": 4, "digest": "d4"}


def test_torn_last_line_is_ignored_and_the_next_record_survives(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 3, 5)
    path = journal.folder / "worker-0.jsonl"
    os.truncate(path, path.stat().st_size - 4)
    assert journal.done() == {3}
    note(journal, "worker-0", 7)
    assert journal.done() == {3, 7}


@pytest.mark.parametrize("cut", range(1, 28))
def test_any_cut_leaves_whole_records_only(tmp_path, cut):
    journal = started(tmp_path)
    note(journal, "worker-0", 3)
    path = journal.folder / "worker-0.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:cut])
    expected = {3}
    assert journal.done() == expected
    assert journal.records()[3]["digest"] == "d3"


def test_the_same_plan_is_taken_up_again(tmp_path):
    journal = Journal(tmp_path / "journal")
    assert journal.begin(PLAN) is False
    note(journal, "worker-0", 2)
    assert journal.begin(dict(PLAN)) is True
    assert journal.done() == {2}


def test_another_plan_is_refused_by_name(tmp_path):
    journal = started(tmp_path / "first-eval")
    with pytest.raises(IntegrityError) as caught:
        journal.begin({**PLAN, "model": ["b2"]})
    assert str(caught.value) == (
        f"{tmp_path / 'first-eval'}: an unfinished run lies there that was begun with another model "
        "(then ['a1'], now ['b2']); run it with the same again to finish it, "
        "or give --overwrite to start anew"
    )


def test_a_plan_is_compared_as_it_is_kept(tmp_path):
    journal = started(tmp_path)
    assert journal.begun_with(PLAN)  # tuples are lists in the file
    assert not journal.begun_with({**PLAN, "core": (2, 6, 4)})
    assert not Journal(tmp_path / "none").begun_with(PLAN)
    (journal.folder / "plan.json").write_text("{")
    assert not journal.begun_with(PLAN)


def test_an_unreadable_plan_is_refused(tmp_path):
    journal = started(tmp_path)
    (journal.folder / "plan.json").write_text("{")
    with pytest.raises(IntegrityError, match=r"plan\.json: not a readable plan; give --overwrite"):
        journal.begin(PLAN)


def test_keep_forgets_the_others(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 0, 1, 2)
    note(journal, "worker-1", 3)
    journal.keep({1, 3})
    assert journal.done() == {1, 3}
    assert journal.records()[3]["digest"] == "d3"
    note(journal, "worker-0", 2)
    assert journal.done() == {1, 2, 3}


def test_forget_leaves_nothing(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 0)
    journal.forget()
    assert journal.plan() is None
    assert journal.done() == set()


def test_a_second_run_on_the_same_journal_is_refused(tmp_path):
    first, second = started(tmp_path / "p"), Journal(tmp_path / "p" / "journal")
    refused = pytest.raises(IntegrityError, match="another process is working on it; wait for it or stop it")
    with first.lock(), refused, second.lock():
        pass
    with second.lock():
        pass


def test_a_line_is_plain_json(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 9)
    line = (journal.folder / "worker-0.jsonl").read_text()
    assert json.loads(line) == {"block": 9, "digest": "d9"}


# ---- many blocks -----------------------------------------------------------------------------


def test_asked_again_only_what_came_since_is_read(tmp_path, monkeypatch):
    journal = started(tmp_path)
    note(journal, "worker-0", *range(500))
    assert len(journal.done()) == 500
    parsed = []
    original = journal_module._parse
    monkeypatch.setattr(journal_module, "_parse", lambda line: parsed.append(line) or original(line))
    assert len(journal.done()) == 500
    assert parsed == []
    note(journal, "worker-1", 500)
    assert journal.done() == set(range(501))
    assert len(parsed) == 1


def test_a_line_seen_while_it_was_written_counts_once_it_is_whole(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 3, 5)
    path = journal.folder / "worker-0.jsonl"
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])  # growing, in the same file
        assert journal.done() == set(Journal(journal.folder).records())
    assert journal.done() == {3, 5}


def test_what_others_forgot_or_replaced_is_forgotten(tmp_path):
    journal, other = started(tmp_path), Journal(tmp_path / "journal")
    note(journal, "worker-0", *range(9))
    note(journal, "worker-1", 9, 10)
    assert len(journal.done()) == 11
    other.keep({1, 10})
    assert journal.done() == {1, 10}
    other.keep({10})
    assert journal.done() == {10}
    other.forget()
    assert journal.done() == set()


def test_a_block_done_twice_is_given_once(tmp_path):
    journal = started(tmp_path)
    note(journal, "worker-0", 4, 1, 4)
    note(journal, "worker-1", 1, 2)
    assert [r["block"] for r in journal.scan()] == [4, 1, 2]


def test_many_records_are_read_in_little_memory(tmp_path):
    journal, blocks = started(tmp_path), 20_000
    line = '{{"block":{},"digests":{{"classes":["0123456789abcdef"],"confidence":["0123456789abcdef"]}}}}\n'
    (journal.folder / "worker-0.jsonl").write_text("".join(map(line.format, range(blocks))))
    tracemalloc.start()
    assert journal.done() == set(range(blocks))
    journal.keep(set(range(1, blocks)))
    assert sum(1 for _ in journal.scan()) == blocks - 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak / blocks < 600  # bytes; a record in memory takes over 1500
