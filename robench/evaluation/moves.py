"""Moved classes: a network whose answers are right but for another order of the classes."""

from collections import Counter
from collections.abc import Mapping, Sequence

from robench.core.names import shown
from robench.core.record import Flag, Verdicts
from robench.core.statistics import wilson

LEAST_IMAGES = 5
"""Of a class, among those on which moves are looked for."""
GAIN_POINTS = 10
"""Percent points of clean accuracy on the other images from which on moves forbid the number."""
_MOST_NAMED = 4

_Answer = tuple[int, int]  # label, clean prediction


def moved_classes(verdicts: Verdicts, class_names: Sequence[str] = ()) -> Flag | None:
    """The flag of classes that are answered as another one, or None.

    Moves are looked for on every second image of each class in the order of the ids, and tried on
    the others. class_names: of the image set, one per label; labels are said by number without.
    """
    looked_at, others = _halves(verdicts)
    moves = _moves(looked_at)
    if not moves:
        return None
    before = sum(label == answer for label, answer in others)
    after = sum(moves.get(label, label) == answer for label, answer in others)
    fails = 100 * (after - before) >= GAIN_POINTS * len(others)
    message = (
        f"classes are answered as others ({_named(moves, class_names)}): clean accuracy "
        f"{before / len(others):.1%} would be {after / len(others):.1%}; check the order of the "
        "classes (of an image folder: classes.txt in it, or --class-order FILE)"
    )
    return Flag(
        name="moved_classes", level="fail" if fails else "warn", message=message, value=len(moves)
    )


def _halves(verdicts: Verdicts) -> tuple[list[_Answer], list[_Answer]]:
    """Every second image of each class, and the others.

    Each class is divided by itself: where labels alternate from image to image, every second one of
    all would leave whole classes out.
    """
    halves: tuple[list[_Answer], list[_Answer]] = ([], [])
    seen: Counter[int] = Counter()
    columns = zip(verdicts.id, verdicts.label, verdicts.clean_prediction, strict=True)
    for _, label, answer in sorted(columns):
        halves[seen[label] % 2].append((label, answer))
        seen[label] += 1
    return halves


def _moves(answers: Sequence[_Answer]) -> dict[int, int]:
    """Label -> the class that most of its images are answered as, one to one.

    A class that two are answered as tells of a weak network, not of another order: neither has
    moved. So does one that has mostly kept its own answers.
    """
    images = Counter(label for label, _ in answers)
    counts = Counter(answers)
    claims = {
        label: answer
        for (label, answer), count in counts.items()
        if label != answer
        and images[label] >= LEAST_IMAGES
        and wilson(count, images[label]).low > 0.5
    }
    claimed = Counter(claims.values())
    stay = {label for label in images if _stays(label, counts)}
    return {
        label: answer
        for label, answer in sorted(claims.items())
        if claimed[answer] == 1 and answer not in stay
    }


def _stays(label: int, counts: Mapping[_Answer, int]) -> bool:
    """Whether no other answer is as frequent as the class itself."""
    others = (count for (own, answer), count in counts.items() if own == label != answer)
    return counts.get((label, label), 0) > max(others, default=0)


def _named(moves: Mapping[int, int], class_names: Sequence[str]) -> str:
    def name(label: int) -> str:
        return shown(class_names[label]) if label < len(class_names) else f"class {label}"

    listed = [f"{name(label)} as {name(answer)}" for label, answer in moves.items()]
    return ", ".join(listed[:_MOST_NAMED] + (["..."] if len(listed) > _MOST_NAMED else []))
