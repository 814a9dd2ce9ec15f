"""``msdet wer-lists``."""

from __future__ import annotations

from pathlib import Path


def wer_lists(data: Path, estimates: Path, scores: Path, text: Path, speech: Path, out: Path) -> None:
    """Write lists of a system's estimates for a speech recognizer of your own: wav.scp, text and utt2spk.

    Let the recognizer write a line "<utterance> <words>" for each line of wav.scp, for msdet wer to read.
    Only whole utterances can be scored so: make scenes long enough for them (--scenes.duration_s).

    Args:
        data: rendered data set.
        estimates: folder of estimates.
        scores: their scores.jsonl, or its folder; says which estimate is whose.
        text: file of lines "<utterance> <words>", an utterance being a speech file's path or name without
            suffix.
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
