"""Count talkers, utterances and hours of the splits of a corpus; says what is wrong with its tree."""

from __future__ import annotations

import sys
from pathlib import Path

from msdet.cli import run_command
from msdet.corpora import SPLITS, load_corpus


def check_corpus(speech: Path, corpus: str) -> None:
    """Read a corpus and print what it holds.

    Args:
        speech: its folder.
        corpus: its kind, a file name in msdet/corpora.
    """
    table = load_corpus(corpus, speech)
    for split in SPLITS:
        talkers = table.by_speaker(split)
        seconds = sum(u.seconds for utterances in talkers.values() for u in utterances)
        files = sum(map(len, talkers.values()))
        print(f"{split}: {len(talkers)} talkers, {files} utterances, {seconds / 3600:.2f} h")


if __name__ == "__main__":
    sys.exit(run_command(check_corpus, None, "check_corpus.py"))
