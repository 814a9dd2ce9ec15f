"""Make a corpus of synthetic talkers with eSpeak NG, to simulate with when no recordings are at hand."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from msdet.corpora import espeak
from msdet.errors import MsdetError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code, 2 for bad input."""
    parser = argparse.ArgumentParser(
        description="Write a corpus of synthetic talkers: OUT/<speaker>/<number>.flac, mono, -26 dBFS, "
        "2.5 to 8 s each, and speakers.tsv with their splits (80/10/10). The same arguments give the same "
        "files; a run that was stopped goes on where it was. Needs: pip install 'msdet[demo]'.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the corpus; read it with corpus kind 'espeak'"
    )
    parser.add_argument("--speakers", type=int, default=100, help="number of talkers, at least 6")
    parser.add_argument("--utterances", type=int, default=12, help="number of utterances of each talker")
    parser.add_argument("--sample-rate", type=int, default=16000, metavar="HZ", help="at least 8000")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other talkers and sentences")
    options = parser.parse_args(arguments)
    columns = (TextColumn("utterances"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("utterances", total=None)
            espeak.synthesize(
                options.out,
                options.speakers,
                options.utterances,
                options.sample_rate,
                options.seed,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
        corpus = espeak.read_espeak(options.out)
    except MsdetError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    hours = sum(utterance.seconds for utterance in corpus.utterances) / 3600
    print(f"{options.out}: {len(corpus.utterances)} utterances, {hours:.2f} h")
    return 0


if __name__ == "__main__":
    sys.exit(main())
