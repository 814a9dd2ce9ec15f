"""``msdet score-meeting``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msdet.errors import MsdetError


def score_meeting(
    reference: list[Path],
    hypothesis: list[Path],
    collar_s: float = 0.0,
    word_collar_s: float = 5.0,
    normalizer: str | None = None,
    out: Path | None = None,
) -> None:
    """Score who speaks when, and what was said, in recordings: DER, or cpWER and tcpWER, by meeteval.

    RTTM files, as msdet separate and localize write them, are scored by the diarization error rate, which needs
    perl and NIST's md-eval-22.pl on the PATH; transcripts of any recognizer, as STM or SegLST files, by their words.
    The same as meeteval-der dscore and meeteval-wer cpwer and tcpwer. Needs meeteval (pip install msdet[wer]).

    Args:
        reference: .rttm, .stm or .json (SegLST) files; or the folder of a data set, whose scenes are recordings.
        hypothesis: files of the same kind, such as out/*/talkers.rttm.
        collar_s: of DER, seconds to each side of where a reference turn begins or ends that are not scored.
        word_collar_s: of tcpWER, seconds that are added to the times of words.
        normalizer: of words, one of meeteval's, such as "lower,rm(.?!,)" or chime8; words are compared as they are
            if not given.
        out: JSON file for the errors of each recording.
    """
    from msdet.io.files import write_json
    from msdet.scoring.meetings import diarization_errors, read_segments, transcript_errors

    if not min(collar_s, word_collar_s) >= 0.0:
        raise MsdetError(f"collar_s is {collar_s:g} and word_collar_s {word_collar_s:g}, expected 0 or more")
    spoken, found = read_segments(reference), read_segments(hypothesis)
    results: dict[str, dict[str, Any]] = {}  # DiarizationErrors or WordErrors
    if not all("words" in segment for segment in spoken + found):
        results["DER"] = diarization_errors(spoken, found, collar_s)
    else:
        results["cpWER"] = transcript_errors(spoken, found, None, normalizer)
        if all("start_time" in segment for segment in spoken + found):
            results["tcpWER"] = transcript_errors(spoken, found, word_collar_s, normalizer)
    values: dict[str, Any] = {}
    for name, by_recording in results.items():
        first, *_ = by_recording.values()
        total = first._make(map(sum, zip(*by_recording.values(), strict=True)))
        rate = "not defined" if total.rate is None else f"{100 * total.rate:.2f} %"
        print(f"{name} {rate} ({total})")
        recordings = {recording: errors._asdict() for recording, errors in by_recording.items()}
        values[name.lower()] = {"rate": total.rate, **total._asdict(), "recordings": recordings}
    if out is not None:
        write_json(out, values)
