"""Questions put to language models, and their answers side by side."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zoo.models.predictors import Predictor
from zoo.scored.held_out import Study
from zoo.scored.scoring import corrected, loss, losses, lower, unknown
from zoo.scored.suggestions import Suggestions

Row = dict[str, Any]


def asked(
    kind: str,
    models: Mapping[str, Predictor],
    questions: Sequence[str],
    answer: Callable[[Predictor, str], Row],
) -> list[Row]:
    """What every model answers to every question, and what of it the model does not know; no answer
    if these are characters."""
    rows = []
    for question in questions:
        for about, model in models.items():
            strange = unknown(model.tokens, question)
            refused = strange and model.tokens.unit == "character"
            found = {} if refused else answer(model, question)
            rows.append({kind: question, "model": about} | found | {"unknown": strange})
    return rows


def said(models: Mapping[str, Predictor], sentences: Sequence[str]) -> list[Row]:
    """log P of sentences; of the first and second, third and fourth ... whether it is the likelier,
    if nothing or the same is not known in them."""
    other = {s: t for k, s in enumerate(sentences) for t in sentences[k ^ 1 : (k ^ 1) + 1]}

    def answer(model: Predictor, sentence: str) -> Row:
        each, rival = losses(model, sentence), other.get(sentence, "")
        total = math.fsum(each)
        row: Row = {"log P": -total, "per token": -total / len(each), "bits": total / math.log(2)}
        strange, others = (sorted(unknown(model.tokens, s)) for s in (sentence, rival))
        return row | {
            "likelier": total < loss(model, rival) if rival and strange == others else None
        }

    return asked("said", models, sentences, answer)


def suggested(models: Mapping[str, Predictor], prompts: Sequence[str], count: int) -> list[Row]:
    """The likeliest words after each prompt."""

    def answer(model: Predictor, prompt: str) -> Row:
        return {"words": Suggestions(model).after(prompt, count)}

    return asked("typed", models, prompts, answer)


def meant(study: Study, sentences: Sequence[str]) -> list[Row]:
    """What each model takes for the sentence that was meant."""
    known, lexicon = study.known, lower(study.known)

    def answer(model: Predictor, sentence: str) -> Row:
        return {"meant": corrected(model, sentence, known, lexicon)}

    return asked("observed", study.models, sentences, answer)


# As text


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns, the first to the left.

    >>> print(aligned(["model", "bits"], [["unigrams", "7.1"]]))
    model     bits
    unigrams   7.1
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = (
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in (head, *rows)
    )
    return "\n".join(lines)


def table(rows: Sequence[Row]) -> str:
    """The figures of one task."""
    head = [f"{rows[0]['task']}, {rows[0]['cases']} cases", *rows[0]["figures"]]
    cells = ([f"{v:.3f} ± {e:.3f}" for v, e in row["figures"].values()] for row in rows)
    return aligned(head, [[row["model"], *line] for row, line in zip(rows, cells, strict=True)])


def answers(rows: Sequence[Row]) -> str:
    """What was asked for, each sentence above what the models say of it."""
    kind, lines = next(iter(rows[0])), []
    heads = [key for key in max(rows, key=len) if key not in (kind, "model", "unknown")]
    for row in rows:
        cells = [shown_value(row.get(head)) for head in heads]
        lines.append([f"  {row['model']}", *cells, " ".join(row["unknown"])])
    table = aligned(["", *heads, "not known"], lines).split("\n")
    text = [table[0]]
    for line, row, before in zip(table[1:], rows, [None, *rows], strict=False):
        text += [row[kind]] * (before is None or before[kind] != row[kind]) + [line]
    return "\n".join(text)


def shown_value(value: Any) -> str:
    """A cell: `-` for None."""
    if isinstance(value, list):
        return " ".join(value) or "-"
    if isinstance(value, float):
        return f"{value:.2f}"
    return str({None: "-", True: "yes", False: "no"}.get(value, value))
