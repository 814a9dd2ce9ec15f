"""``msdet wer``."""

from __future__ import annotations

from pathlib import Path

EXIT_NOT_ALL_SCORED = 1


def wer(lists: Path, hypotheses: Path, scores: Path | None = None, out: Path | None = None) -> int:
    """Count the word errors of a recognizer's hypotheses for the lists of msdet wer-lists.

    Exit code 1 if an utterance has no hypothesis.

    Args:
        lists: folder that msdet wer-lists wrote.
        hypotheses: file of lines "<utterance> <words>", parted by spaces or a tab; of nothing heard, the
            utterance alone.
        scores: scores.jsonl of the same scenes, or its folder, to which the word errors are added, for
            summaries and compare; scenes that are not in the lists keep what they have.
        out: JSON file for the word errors of each utterance.
    """
    from msdet.commands._scoring import SCORES
    from msdet.commands.compare import read_scores
    from msdet.errors import MsdetError
    from msdet.io.files import write_json, write_jsonl
    from msdet.scoring.provenance import read_provenance
    from msdet.scoring.words import TEXT, add_word_errors, check_lists, count_word_errors, read_table

    rows = None if scores is None else read_scores(scores)
    if not (lists / TEXT).is_file():
        raise MsdetError(f"{lists}: holds no {TEXT}, expected the folder that msdet wer-lists wrote")
    said = read_table(lists / TEXT)
    if rows is not None and scores is not None:
        check_lists(rows, lists, said, read_provenance(scores if scores.is_dir() else scores.parent).data)
    counted = count_word_errors(said, read_table(hypotheses))
    found = {name: errors for name, errors in counted.items() if errors is not None}
    words = sum(f.words for f in found.values())
    if not words:
        raise MsdetError(f"{hypotheses}: has a hypothesis of none of the {len(counted)} utterances")
    errors = sum(f.errors for f in found.values())
    missing = [name for name in counted if name not in found]
    if rows is not None and scores is not None:
        add_word_errors(rows, counted)
        write_jsonl(scores / SCORES if scores.is_dir() else scores, rows)
    if out is not None:
        each = {name: None if f is None else f._asdict() for name, f in counted.items()}
        totals = {"wer": round(errors / words, 6), "errors": errors, "words": words}
        write_json(out, {**totals, "no_hypothesis": len(missing), "utterances": each})
    print(f"WER {100 * errors / words:.2f} % ({errors} errors in {words} words, {len(found)} utterances)")
    for name in missing[:5]:
        print(f"no hypothesis: {name}")
    if len(missing) > 5:
        print(f"no hypothesis: {len(missing) - 5} more")
    return EXIT_NOT_ALL_SCORED if missing else 0
