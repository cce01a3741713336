"""The text of the recommended levels, in sentences: no criterion tests it."""

from prunelake.recommend.recommendation import Recommendation
from prunelake.recommend.texts import TextChange

from ..wording import from_to, interval, label
from .answer import both_answers


def text_sentences(recommendation: Recommendation) -> list[str]:
    """How the text of each recommended level changed, or the command that measures it."""
    sentences = []
    for answer in both_answers(recommendation):
        if answer.level is None:
            continue
        where = answer.label or f"level {answer.level}"
        for task in dict.fromkeys(change.task for change in answer.texts.changes):
            own = [change for change in answer.texts.changes if change.task == task]
            sentences.append(
                f"The text of {where} on {task} ({own[0].n or 0:,} prompts), which no criterion "
                f"tests: {'; '.join(map(_change, own))}."
            )
        sentences += [
            f"The text of {where} was not measured; it may be worse although all criteria pass. "
            f"To measure it: {command}"
            for command in answer.texts.commands
        ]
        if not (answer.texts.changes or answer.texts.commands):
            sentences.append(f"The text of {where} was not measured.")
    return [*dict.fromkeys(sentences)]


def _change(change: TextChange) -> str:
    text = f"{label(change.metric)} {from_to(change.unpruned_value, change.value)}"
    if change.delta_low is None:
        return text
    return f"{text} (change {interval(change.delta_low, change.delta_high)})"
