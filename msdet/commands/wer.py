"""``msdet wer-lists`` and ``msdet wer``: word errors by a recognizer of the user's own."""

from __future__ import annotations

from pathlib import Path

from msdet.commands._results import EXIT_NOT_ALL_SCORED


def wer(lists: Path, hypotheses: Path, scores: Path | None = None, out: Path | None = None) -> int:
    """Count the word errors of a recognizer's hypotheses for the lists of msdet wer-lists.

    WER is under the permutation of the scores, cpWER under the one of each scene with the fewest errors.
    Needs meeteval (pip install msdet[wer]). Exit code 1 if an utterance has no hypothesis.

    Args:
        lists: folder that msdet wer-lists wrote.
        hypotheses: file of lines "<utterance> <words>", separated by spaces or a tab; without words, the
            utterance alone.
        scores: scores.jsonl of the same scenes, or its folder, to which the word errors are added, for
            summaries and compare; scenes that are not in the lists keep what they have.
        out: JSON file for the word errors of each utterance.
    """
    from msdet.commands._scoring import SCORES
    from msdet.commands.compare import read_scores
    from msdet.errors import MsdetError
    from msdet.io.files import write_json, write_jsonl
    from msdet.scoring import words
    from msdet.scoring.provenance import read_provenance

    rows = [] if scores is None else read_scores(scores)
    if not (lists / words.TEXT).is_file():
        raise MsdetError(f"{lists}: holds no {words.TEXT}, expected the folder that msdet wer-lists wrote")
    references = words.read_table(lists / words.TEXT)
    if scores is not None:
        data = read_provenance(scores if scores.is_dir() else scores.parent).data
        words.check_lists(rows, lists, references, data)
    recognized = words.read_table(hypotheses)
    counted = words.count_word_errors(references, recognized)
    scored = [errors for errors in counted.values() if errors is not None]
    total = words.WordErrors(sum(e.errors for e in scored), sum(e.words for e in scored))
    if not total.words:
        raise MsdetError(f"{hypotheses}: has a hypothesis of none of the {len(counted)} utterances")
    cp_total = words.count_cp_errors(references, recognized)
    missing = [name for name, errors in counted.items() if errors is None]
    if scores is not None:
        words.add_word_errors(rows, counted)
        write_jsonl(scores / SCORES if scores.is_dir() else scores, rows)
    if out is not None:
        each = {name: None if e is None else e._asdict() for name, e in counted.items()}
        totals = {"wer": total.rate, "cpwer": cp_total.rate, **total._asdict()}
        write_json(out, {**totals, "no_hypothesis": len(missing), "utterances": each})
    print(f"WER {100 * total.errors / total.words:.2f} % ({total}, {len(scored)} utterances)")
    if cp_total.words:
        print(f"cpWER {100 * cp_total.errors / cp_total.words:.2f} % ({cp_total})")
    for name in missing[:5]:
        print(f"no hypothesis: {name}")
    if len(missing) > 5:
        print(f"no hypothesis: {len(missing) - 5} more")
    return EXIT_NOT_ALL_SCORED if missing else 0


def wer_lists(data: Path, estimates: Path, scores: Path, text: Path, speech: Path, out: Path) -> None:
    """Write lists of a system's estimates for a speech recognizer of your own: wav.scp, text and utt2spk.

    Let the recognizer write a line "<utterance> <words>" for each line of wav.scp, for msdet wer to read.
    Only whole utterances can be scored so: make scenes long enough for them (--scenes.duration_s).

    Args:
        data: rendered data set.
        estimates: folder of estimates.
        scores: their scores.jsonl, or its folder; says which estimate is whose.
        text: file of lines "<utterance> <words>", an utterance being a speech file's path or name without suffix.
        speech: root of the corpus that the set was made from.
        out: folder for the lists.
    """
    from msdet.commands.compare import read_scores
    from msdet.data.scene_set import SceneSet
    from msdet.scoring.words import write_lists

    scene_set = SceneSet.open(data)
    left_out = write_lists(scene_set, read_scores(scores), estimates, text, speech, out)
    talkers = sum(len(scene.sources) for scene in scene_set.scenes)
    print(f"{out}: {talkers - sum(left_out.values())} of {talkers} talkers")
    for reason, count in left_out.items():
        print(f"left out: {count} x {reason}")
