"""Which artifact a command goes on from, where its key is not given in full."""

from cache.artifact import Artifact
from cache.store import Store
from hvd.errors import InputError, UsageError
from hvd.models.config import StudentKind, kind_of, require_kind
from stages.inputs import WORLD_ORIGIN


def by_key(store: Store, stage: str, prefix: str, student: StudentKind | None = None) -> Artifact:
    """The artifact of `stage` whose key begins with `prefix`.

    Raises:
        NotFound, Ambiguous: no, or several such keys.
        InputError: of another kind of student.
        UsageError: an artifact of another stage.
    """
    found = store.resolve(prefix)
    if found.stage != stage:
        raise UsageError(f"{prefix} is of stage {found.stage}", hint=f"name one of stage {stage}: hvd ls {stage}")
    require_kind(_student_kind(found), student, found.path)
    return found


def newest(
    store: Store,
    stage: str,
    recipe: str,
    dataset: str | None = None,
    student: StudentKind | None = None,
    real: bool | None = None,
) -> Artifact | None:
    """The newest artifact of `stage` and `recipe`, or None.

    Args:
        dataset, student: that it must be of; None for any.
        real: whether it must come from real data, or from the built-in world; None for any. If there is none of the
            one, the newest of the other: `refuse_mixing` says so.
    """

    def fits(item: Artifact) -> bool:
        data = item.key_inputs["config"].get("dataset")
        same = item.details["recipe"] == recipe and dataset in (None, data)
        return same and student in (None, _student_kind(item))

    def fits_origin(item: Artifact) -> bool:
        return fits(item) and real in (None, bool(_real_places(item)))

    return store.newest(stage, fits_origin) or store.newest(stage, fits)


def other_recipes(store: Store, stage: str, recipe: str, student: StudentKind | None = None) -> list[str]:
    """The recipes beside `recipe` of which the store has an artifact of `stage`, with such a student."""
    fitting = [item for item in store.artifacts(stage) if student in (None, _student_kind(item))]
    return sorted({item.details["recipe"] for item in fitting} - {recipe})


def refuse_mixing(found: Artifact, origin: str | None, hint: str) -> None:
    """Real data and the built-in world are never mixed in silently; `hint` says how to make what is not mixed.

    Raises:
        InputError: `found` comes from one and `origin` (a data root, or None for the world) is the other.
    """
    real = _real_places(found)
    if real and origin is None:
        raise InputError(
            f"{found.stage} {found.key[:8]} comes from {real[0]}, and this data set from the built-in world",
            hint=f"{hint}; or pass --root, or name the artifact with --from",
        )
    if not real and origin is not None:
        raise InputError(
            f"{found.stage} {found.key[:8]} comes from the built-in world, and this data set from {origin}",
            hint=f"{hint}; or name the artifact with --from to mix them",
        )


def _real_places(item: Artifact) -> list[str]:
    """The roots of the data sets that an artifact was made from, the built-in world not among them."""
    return sorted(place for place in item.details["data"].values() if place != WORLD_ORIGIN)


def _student_kind(item: Artifact) -> StudentKind:
    return kind_of(item.key_inputs["config"].get("student"))
