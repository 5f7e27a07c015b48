"""A folder of checkpoints of one run, at the end of epochs and within them; the last few are kept.

    runs/a/epoch-000011/  epoch-000012/  epoch-000012-step-000000340/        latest: the last whole one

A thread writes them while training goes on; a state passed to it no longer changes.
"""

from __future__ import annotations

import re
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from typing import Any

from dagtrain.arguments import whole
from dagtrain.checkpoint.files import Store, open_store
from dagtrain.checkpoint.schema import NAME, Manifest
from dagtrain.checkpoint.store import Checkpoint, read, refuse_not_finite, tidy, write
from dagtrain.errors import ArgumentError, CheckpointError
from dagtrain.report.table import plural
from dagtrain.step.state import State

__all__ = ["CheckpointDirectory", "latest"]

FOLDER = re.compile(r"epoch-(\d{6,18})(?:-step-(\d{9,18}))?")
Place = tuple[int, int]
"""Epochs done, and steps done of the next one."""


def folder_of(place: Place) -> str:
    """The name of the folder of a place.

    Examples
    --------
    >>> folder_of((12, 0)), folder_of((12, 340))
    ('epoch-000012', 'epoch-000012-step-000000340')
    """
    epochs, steps = place
    return f"epoch-{epochs:06d}" + (f"-step-{steps:09d}" if steps else "")


def places_in(store: Store) -> dict[Place, str]:
    """The places of all folders, in order, with the folders' names."""
    places = {(int(m[1]), int(m[2] or 0)): name for name in store.names() if (m := FOLDER.fullmatch(name))}
    return dict(sorted(places.items()))


def place_text(place: Place) -> str:
    """A place in words.

    Examples
    --------
    >>> place_text((1, 0)), place_text((2, 1)), place_text((0, 7))
    ('1 epoch', '2 epochs and 1 step', '7 steps')
    """
    parts = [plural(n, noun) for n, noun in zip(place, ("epoch", "step"), strict=True) if n]
    return " and ".join(parts) or "0 epochs"


def latest(store: Store) -> Checkpoint | None:
    """The last whole checkpoint of a run; warns of damaged ones after it.

    Raises
    ------
    CheckpointError
        If there are checkpoints and none is whole; says what is wrong with the last.
    """
    damaged: list[CheckpointError] = []
    for name in reversed(places_in(store).values()):
        try:
            checkpoint = read(store.inside(name))
        except CheckpointError as error:
            damaged.append(error)
            continue
        if checkpoint is not None:
            for damage in damaged:
                warnings.warn(f"{damage} Going on from {checkpoint.path}.", UserWarning, stacklevel=3)
            return checkpoint
    if damaged:
        raise damaged[0]
    return None


class CheckpointDirectory:
    """The checkpoints of one run.

    Parameters
    ----------
    path
        Folder or fsspec address; made if it does not exist.
    keep
        Number of checkpoints to keep; None keeps all.
    """

    def __init__(self, path: Any, keep: int | None) -> None:
        self.store = open_store(path)
        self.keep = None if keep is None else whole("keep", keep)
        self.store.prepare()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="dagtrain-checkpoint")
        self._writing: Future[None] | None = None

    @cached_property
    def first(self) -> Checkpoint | None:
        """The last whole checkpoint when it was first asked for, before any is written."""
        return latest(self.store)

    def begin(self, here: Manifest, resume: bool, exact: bool) -> Checkpoint | None:
        """The checkpoint to continue from; None to continue from the trainer's own state, which `here` describes.

        Raises
        ------
        ArgumentError
            If there are checkpoints and `resume` is False, or the run that wrote them had other settings.
        """
        checkpoint = self.first
        if checkpoint is None:
            return None
        there = checkpoint.manifest
        if there.place < here.place or (there.place == here.place and there.fingerprint == here.fingerprint):
            return None
        if not resume:
            raise ArgumentError(
                f"{self.store.path} already holds checkpoints of a run, up to epoch {there.epochs}"
                f"{f', step {there.place[1]} of the next' if there.begun else ''}. Continue them with resume=True (the command: "
                "--resume), or give another folder."
            )
        different = there.differences(here)
        if different:
            raise ArgumentError(
                f"{checkpoint.path} cannot be continued, since the settings differ: {'; '.join(different)}. "
                "Make them the same, or begin another run in another folder."
            )
        if there.place == here.place:
            raise ArgumentError(
                f"the trainer and {checkpoint.path} have each done {place_text(there.place)} and hold different weights: use one."
            )
        check_versions(there, here, checkpoint.path, exact)
        return checkpoint

    def save(self, manifest: Manifest, state: State) -> None:
        """Write the state in the thread; raises errors of the write before it."""
        refuse_not_finite(manifest, state)
        self._wait()
        self._writing = self._pool.submit(self._write, manifest, state)

    def _write(self, manifest: Manifest, state: State) -> None:
        write(self.store.inside(folder_of(manifest.place)), manifest, state)
        with suppress(CheckpointError):  # leftovers take space and do no harm
            self._prune(manifest.place)

    def after_epochs(self, epochs: int) -> State | None:
        """The state at the end of an epoch, if its checkpoint is still kept and whole."""
        self._wait()
        with suppress(CheckpointError):
            checkpoint = read(self.store.inside(folder_of((epochs, 0))))
            return None if checkpoint is None else checkpoint.state
        return None

    def _prune(self, last: Place) -> None:
        """Remove the oldest checkpoints, and leftovers of unfinished writes."""
        folders = [self.store.inside(name) for place, name in places_in(self.store).items() if place <= last]
        complete = [folder for folder in folders if NAME in folder.names()]
        newest = complete if self.keep is None else complete[-self.keep :]
        for folder in folders:
            if folder not in newest:
                folder.remove(NAME)  # first, so that a half removed checkpoint does not count
                tidy(folder, None)
                folder.remove_self()
        self.store.remove_parts()  # of a process killed while it tested the folder

    def _wait(self) -> None:
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def __enter__(self) -> CheckpointDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            self._wait()
        except CheckpointError as write_error:
            if error is None:
                raise
            error.add_note(f"Besides, the last checkpoint was not written: {write_error}")
        finally:
            self._pool.shutdown()


def check_versions(there: Manifest, here: Manifest, path: str, exact: bool) -> None:
    """Warn if the software differs from that of a checkpoint; with `exact`, raise CheckpointError."""
    other = there.other_versions(here)
    if other:
        message = f"{path} was made with other software ({'; '.join(other)}): the last bits may differ from those of an undisturbed run."
        if exact:
            raise CheckpointError(f"{message} Use the same versions, or leave out exact=True.")
        warnings.warn(message, UserWarning, stacklevel=4)
