"""A recording to look at and listen to: what `msdet separate` made of it, as one page that opens offline."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from msdet.arrays import MicrophoneArray
from msdet.conventions import Array
from msdet.errors import UndefinedMetricError
from msdet.io import audio
from msdet.plots.recording import MAX_POINTS, Overview, sound_figure, tracks_figure
from msdet.plots.theme import LIGHT, styles
from msdet.report.document import page_figure, playback_gain, render_page, sound_url
from msdet.scoring.separation_metrics import Dnsmos, dnsmos

LOW_CONFIDENCE = 0.5  # a direction below is drawn as doubtful
MAX_EXCERPT_S = 90.0  # of a recording's beginning that can be played on the page, and whose spectrogram is drawn
_PIECE_S = 4.0


def overview(pieces: Iterable[Array], samples: int, sample_rate: int) -> Overview:
    """The overview of a signal that comes in pieces ``(time,)``, of so many samples in all."""
    low, high = np.zeros(MAX_POINTS), np.zeros(MAX_POINTS)
    kept: list[Array] = []
    excerpt, done = round(MAX_EXCERPT_S * sample_rate), 0
    for piece in pieces:
        columns = (done + np.arange(piece.size)) * MAX_POINTS // max(samples, 1)
        columns = np.minimum(columns, MAX_POINTS - 1)
        np.minimum.at(low, columns, piece)
        np.maximum.at(high, columns, piece)
        if done < excerpt:
            kept.append(piece[: excerpt - done])
        done += piece.size
    return Overview(low, high, np.concatenate(kept), sample_rate, samples / sample_rate)


def estimate_overview(path: Path) -> Overview:
    """The overview of an estimate's file."""
    header = audio.info(path)
    pieces = (piece[0] for piece in audio.pieces(path, round(_PIECE_S * header.sample_rate)))
    return overview(pieces, header.frames, header.sample_rate)


def recording_page(
    heading: str, described: dict[str, Any], mixture: Overview, estimates: list[Overview], rated: bool = False
) -> str:
    """The page of a recording by its mixture at the reference microphone, and the content of ``doa.json``.

    Estimates are in the order of the talkers; there are none of a system that estimates directions alone. DNSMOS of
    what can be played is on the page if it is to be `rated`.
    """
    talkers = described["talkers"]
    by_name = styles(map(str, range(len(talkers))))
    looks = [by_name[str(n)] for n in range(len(talkers))]
    count = f"{len(talkers)} talker{'s' * (len(talkers) != 1)}"
    array = MicrophoneArray.from_dict(described["array"])
    names = ["Mixture", *(f"Talker {n + 1}" for n in range(len(estimates)))]
    signals = dict(zip(names, [mixture, *estimates], strict=True))
    sections = {"listen": "Listen", "sound": "Waveforms and spectrograms"}
    colors = [LIGHT["slate"], *(look.color for look in looks)]
    label = f"Waveforms and spectrograms of {', '.join(names)}"
    sound = page_figure(sound_figure(signals, colors), 1, label)
    directions = None
    if "track" in described:
        sections["directions"] = "Directions"
        columns = (described["track"]["time_s"], described["track"]["azimuth_deg"], described["activity"])
        times_s, azimuths_deg, activity = (np.array(column, dtype=np.float64) for column in columns)
        doubtful = [_is_low(talker.get("confidence")) for talker in talkers]
        axis_deg = MicrophoneArray.from_dict(described["array"]).mirror_axis_deg
        figure = tracks_figure(times_s, azimuths_deg, activity, mixture.seconds, looks, doubtful, axis_deg)
        directions = page_figure(figure, 2, "Azimuth over time, and seen from above")
    quality = {name: _quality(signal) for name, signal in signals.items() if rated}
    return render_page(
        "recording.html",
        title=f"{heading}: estimates and directions",
        heading=heading,
        about=[
            f"{count} in {mixture.seconds:.1f} s, estimated by {described['separated_by']}",
            f"Array {array.name}: {array.microphones} microphones, {100 * array.aperture_m:.1f} cm across",
        ],
        sections=sections,
        warnings=described["warnings"],
        excerpt_s=MAX_EXCERPT_S if mixture.seconds > MAX_EXCERPT_S else None,
        rows=_players(signals, talkers, quality),
        rated=rated,
        unrated=list(dict.fromkeys(reason for _, reason in quality.values() if reason)),
        sound=sound,
        directions=directions,
        source=f"Recording {described['recording']}",
    )


def _players(
    signals: dict[str, Overview], talkers: list[dict[str, Any]], quality: dict[str, tuple[Dnsmos | None, str]]
) -> list[dict[str, Any]]:
    """A row for the mixture and each talker: name, sound if there is any, and what is known."""
    gain = playback_gain(*(s.excerpt for s in signals.values()))
    rows = []
    for name, facts in {"Mixture": {}, **{f"Talker {n}": t for n, t in enumerate(talkers, 1)}}.items():
        signal = signals.get(name)
        sound = "" if signal is None else sound_url(gain * signal.excerpt, signal.sample_rate)
        known = {key: facts.get(key) for key in ("file", "azimuth_deg", "confidence", "active_s")}
        known |= {"doubtful": _is_low(facts.get("confidence")), "quality": quality.get(name, (None, ""))[0]}
        rows.append({"name": name, "sound": sound, **known})
    return rows


def _is_low(confidence: float | None) -> bool:
    return confidence is not None and confidence < LOW_CONFIDENCE


def _quality(signal: Overview) -> tuple[Dnsmos | None, str]:
    """DNSMOS of the excerpt of a signal; or None, and why."""
    try:
        return dnsmos(signal.excerpt, signal.sample_rate), ""
    except UndefinedMetricError as error:
        return None, str(error)
