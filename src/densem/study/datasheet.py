"""The datasheet of a packed data set: a page of questions; what is unknown stays visibly unanswered.

The sections follow Gebru et al., Datasheets for Datasets, Communications of the ACM 64 (12), 2021. What is
known to densem (shapes, classes, shares, origin) is filled in; the rest is for the authors, in a TOML file.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densem.errors import ConfigError, NotFoundError, nearest

NOT_STATED = "*not stated*"

QUESTIONS: dict[str, dict[str, str]] = {
    "motivation": {
        "purpose": "For what was the data set made?",
        "creators": "Who made it, for whom, and who paid for it?",
    },
    "composition": {
        "instances": "What do the volumes show: tissue, species, number of subjects?",
        "selection": "How were the regions chosen, and what was left out?",
        "errors": "Which errors, artefacts or doubtful labels are known?",
    },
    "collection": {
        "imaging": "With which microscope and settings were the images taken?",
        "preparation": "How was the specimen prepared and stained?",
        "preprocessing": "What was done to the images before labelling: alignment, filtering, contrast?",
        "ethics": "Was there an ethical review, and consent where people are concerned?",
    },
    "labelling": {
        "annotators": "Who labelled, with which tools, and how were they instructed?",
        "agreement": "How well do annotators agree, and who settled differences?",
        "automation": "Which labels began as the output of a program?",
    },
    "uses": {
        "used": "What has it been used for?",
        "unsuitable": "What should it not be used for?",
    },
    "maintenance": {
        "contact": "Who answers questions, and where are errors reported?",
        "updates": "Will it be updated, and how are versions told apart?",
    },
}
"""Section and key: the question, as the TOML file of answers names them."""


@dataclass(frozen=True)
class Sheet:
    """What the page is made of.

    Attributes:
        title: of the data set.
        facts: (what, value) rows for the head.
        volumes: a row for each volume, by column.
        classes: a row for each class, by column.
        origin: lines on what it was made from.
        answers: section and key to text.
    """

    title: str
    facts: tuple[tuple[str, str], ...]
    volumes: tuple[dict[str, str], ...]
    classes: tuple[dict[str, str], ...]
    origin: tuple[str, ...] = ()
    answers: dict[str, dict[str, str]] = field(default_factory=dict)


def read_answers(path: Path | None) -> dict[str, dict[str, str]]:
    """Answers by section and key.

    Raises:
        NotFoundError: no such file.
        ConfigError: it is not TOML, or answers a question that is not asked.
    """
    if path is None:
        return {}
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise NotFoundError(f"{path}: no file of answers there ({error.strerror})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    for section, rows in table.items():
        if section not in QUESTIONS:
            raise ConfigError(f"{path}: no section is called {section!r}.{nearest(section, list(QUESTIONS))}")
        _check_rows(path, section, rows)
    return table


def _check_rows(path: Path, section: str, rows: Any) -> None:
    known = QUESTIONS[section]
    if not isinstance(rows, dict) or not all(isinstance(text, str) for text in rows.values()):
        raise ConfigError(f'{path}: [{section}]: expected lines such as  {next(iter(known))} = "text"')
    for key in rows:
        if key not in known:
            raise ConfigError(f"{path}: [{section}] has no question {key!r}.{nearest(key, list(known))}")


def answers_template() -> str:
    """A TOML file of answers to fill in."""
    lines = ["# Answers for the datasheet of densem datasets pack; what stays away is shown as not stated."]
    for section, rows in QUESTIONS.items():
        lines += ["", f"[{section}]"]
        for key, question in rows.items():
            lines += [f"# {question}", f'# {key} = """..."""']
    return "\n".join(lines) + "\n"


def datasheet(sheet: Sheet) -> str:
    """The page as Markdown."""
    lines = [f"# {sheet.title}", "", "| | |", "|---|---|"]
    lines += [f"| {what} | {_cell(value)} |" for what, value in sheet.facts]
    for section, rows in QUESTIONS.items():
        lines += [*([] if lines[-1] == "" else [""]), f"## {section.capitalize()}", ""]
        if section == "composition":
            lines += [*_table(sheet.volumes), "", *_table(sheet.classes), ""]
        if section == "collection" and sheet.origin:
            lines += [*sheet.origin, ""]
        for key, question in rows.items():
            lines += [f"**{question}** {_answer(sheet.answers, section, key)}", ""]
    return "\n".join(lines).rstrip() + "\n"


def _answer(answers: dict[str, dict[str, str]], section: str, key: str) -> str:
    text = answers.get(section, {}).get(key, "").strip()
    return text or NOT_STATED


def _table(rows: tuple[dict[str, str], ...]) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    return head + [f"| {' | '.join(_cell(row.get(c, '')) for c in columns)} |" for row in rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ") or NOT_STATED
