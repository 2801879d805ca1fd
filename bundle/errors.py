"""The errors of the package, and how a program that runs a config ends with one.

    MonaiSamError(ValueError)
      VolumeError
        SeriesError
      LimitError
      BusyError
      PromptError
      SessionError
        JournalError
      FrameError
      ContractError
      EmptyMaskError
      OptionError
      CaseError
      LayoutError
      SplitError
      PrepareError
      FamilyError
      CheckpointError
      TuningError
      EngineError
      DownloadError
      ProcessesError
      TrainingError
      NonFiniteLossError
      RunStateError
      EvaluationError
      ProtocolError
      MetricError
      StatisticsError

Each message is for a person: what was expected, what was given, what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType


class MonaiSamError(ValueError):
    """Something given to the package cannot be used; the message says what would be right.

    A program ends with the message and exit code 1, the server answers with a status of 400 to 499.
    """


class VolumeError(MonaiSamError):
    """A file is missing, damaged, of an unknown format, or does not hold what is asked of it."""


class SeriesError(VolumeError):
    """One of several DICOM series, or of the scans in one, must be chosen.

    Attributes:
        what: sentence without the choice.
        choices: value of the option `series` -> what it stands for.
    """

    _MOST_LISTED = 8

    def __init__(self, what: str, choices: Mapping[str, str]) -> None:
        self.what, self.choices = what, dict(choices)
        super().__init__(self.asked_with("series="))

    def __reduce__(self) -> tuple[type, tuple]:
        """Let it pass from process to process: an exception is otherwise made again from its message."""
        return type(self), (self.what, self.choices)

    def asked_with(self, option: str) -> str:
        """The message for a person who chooses by ``option``, as ``--series``."""
        listed = [f"{value} is {about}" for value, about in self.choices.items()][: self._MOST_LISTED]
        more = ["..."] * (len(listed) < len(self.choices))
        values = ", ".join([*list(self.choices)[: self._MOST_LISTED], *more])
        return f"{self.what}, choose one with {option}: {values} ({'; '.join([*listed, *more])})"


class BusyError(MonaiSamError):
    """Too much of the same is going on; the same request can succeed a little later."""


class LimitError(MonaiSamError):
    """A limit that is no whole number above 0."""


class PromptError(MonaiSamError):
    """A prompt that cannot be used; the message says what to change."""


class SessionError(MonaiSamError):
    """Something that cannot be done to a session as it is: an object that is locked or absent, a name taken twice."""


class JournalError(SessionError):
    """The record of a session on disk cannot be used or continued."""


class FrameError(MonaiSamError):
    """A plane, slice index or array does not fit the volume."""


class ContractError(MonaiSamError):
    """A contract that says something we cannot do."""


class EmptyMaskError(MonaiSamError):
    """A prompt was asked of a mask that has no object."""


class OptionError(MonaiSamError):
    """An option of a command that does not exist, or whose value cannot be used."""


class CaseError(MonaiSamError):
    """Images, prompts and labels that do not belong together; the message says what to change."""


class LayoutError(MonaiSamError):
    """A folder does not have the layout it is read as."""


class SplitError(MonaiSamError):
    """Items cannot be split that way."""


class PrepareError(MonaiSamError):
    """The options or items of a preparation do not fit."""


class FamilyError(MonaiSamError):
    """A family that does not exist or whose file is wrong."""


class CheckpointError(MonaiSamError):
    """A file that is not a checkpoint, or not one of this network."""


class TuningError(MonaiSamError):
    """A tuning that does not exist or does not fit the network."""


class EngineError(MonaiSamError):
    """An engine that is unknown, not installed, or cannot run a network where it is asked to."""


class DownloadError(MonaiSamError):
    """Weights that could not be fetched, or are not what was published."""


class ProcessesError(MonaiSamError):
    """A number of processes that a batch cannot be shared out to."""


class TrainingError(MonaiSamError):
    """Material, network and settings of a training that do not fit each other."""


class NonFiniteLossError(MonaiSamError):
    """Too many steps in a row gave a loss that is not a number."""


class RunStateError(MonaiSamError):
    """A state that another run left."""


class EvaluationError(MonaiSamError):
    """An evaluation that cannot be started or continued as asked."""


class ProtocolError(MonaiSamError):
    """A protocol that does not exist or makes no sense."""


class MetricError(MonaiSamError):
    """Prediction, truth or spacing cannot be compared."""


class StatisticsError(MonaiSamError):
    """Records that cannot be summarised or compared."""


def explain_errors(*, resume: str = "") -> None:
    """Let an uncaught error that is the user's to mend end the program with its sentence alone.

    MONAI's parser wraps what a component raises in a RuntimeError about its keywords, so that the sentence that says
    what to change would stand in the middle of two tracebacks. Such errors are ours, and those of the system about a
    file; others are shown as ever, because they are mistakes of the program.

    Args:
        resume: what to do after Ctrl-C.
    """
    sys.excepthook = partial(_explain, resume)


def _explain(resume: str, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sentences = [sentence for link in _chain(error) if (sentence := _sentence(link))]
    if isinstance(error, KeyboardInterrupt):
        print(f"stopped; {resume or 'run the same command again'}", file=sys.stderr)
    elif sentences:
        print(f"error: {sentences[0]}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _sentence(error: BaseException) -> str | None:
    """What an error says to a person; None where only its traceback helps."""
    if isinstance(error, MonaiSamError):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror or type(error).__name__}: {error.filename}"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
