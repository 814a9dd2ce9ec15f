"""Speech corpora: each module reads one kind of corpus into a table of utterances.

A reader is a function ``(root: Path) -> Corpus``, registered as ``@CORPORA.register("name")``; adding one is
one new file here. With ``recognizes=...``, a function of a folder, other readers can offer it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from msdet.components import Registry
from msdet.errors import MsdetError
from msdet.io.files import plain_name, relative_path

SPLITS = ("train", "dev", "test")
CORPORA = Registry("corpus kind", __name__)


@dataclass(frozen=True)
class Utterance:
    """One recording of one talker.

    `path` is relative to the corpus' root; all of a `speaker` is in one `split` (``train``, ``dev`` or
    ``test``); `gender` is ``f``, ``m``, or empty where the corpus does not say.
    """

    speaker: str
    path: str
    seconds: float
    split: str
    gender: str = ""


@dataclass(frozen=True)
class Corpus:
    """A table of utterances below one folder."""

    root: Path
    utterances: tuple[Utterance, ...]

    def __post_init__(self) -> None:
        split_of: dict[str, str] = {}
        for utterance in self.utterances:
            relative_path(utterance.path, "path of an utterance", self.root)
            if split_of.setdefault(utterance.speaker, utterance.split) != utterance.split:
                splits = f"'{split_of[utterance.speaker]}' and '{utterance.split}'"
                raise MsdetError(f"{self.root}: talker '{utterance.speaker}' is in the splits {splits}")
        for speaker in split_of:
            plain_name(speaker, "speaker", self.root)

    def by_speaker(self, split: str) -> dict[str, list[Utterance]]:
        """Utterances of each of the talkers of a split, at least two, talkers and files in sorted order."""
        table: dict[str, list[Utterance]] = defaultdict(list)
        for utterance in sorted(self.utterances, key=lambda u: (u.speaker, u.path)):
            if utterance.split == split:
                table[utterance.speaker].append(utterance)
        if len(table) < 2:
            raise MsdetError(f"{self.root}: split '{split}' has {len(table)} talker(s), expected at least 2")
        return dict(table)


def load_corpus(kind: str, root: str | Path) -> Corpus:
    """Read the corpus of the given kind (a module of this package, or ``module:function``)."""
    root = Path(root)
    if not root.is_dir():
        raise MsdetError(f"{root}: corpus folder does not exist")
    reader = CORPORA.find(kind)
    try:
        corpus = reader(root)
    except TypeError as error:
        raise MsdetError(f"corpus kind '{kind}' is no reader of corpora ({error})") from error
    if not isinstance(corpus, Corpus):
        raise MsdetError(f"corpus kind '{kind}' is no reader of corpora: it gives {type(corpus).__name__}, not Corpus")
    if not corpus.utterances:
        raise MsdetError(f"{root}: corpus has no utterances")
    return corpus
