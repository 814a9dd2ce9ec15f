"""Dry speech and noise of scenes, read from a corpus and a noise folder."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np

from msdet.conventions import Array
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.scenes.noise import MIN_SHIFT, NoiseExcerpt, babble, load_excerpt
from msdet.scenes.rir.reverberation import highpass
from msdet.scenes.scene import Noise, Source

MAX_SILENT_DRAWS = 20
BABBLE_TALKERS = 4  # talkers in each stream of a babble; fewer where there is too little speech


class SilentSpeechError(MsdetError):
    """A talker says nothing where the scene uses its speech: draw another one."""


class Sounds:
    """Reads speech of a corpus and recordings of a noise folder at one sample rate.

    The speech used last is kept in memory, at most `cache_samples` 16-bit samples.
    """

    def __init__(
        self, corpus: str | Path, sample_rate: int, noise: str | Path | None = None, cache_samples: int = 0
    ) -> None:
        self.corpus = Path(corpus)
        self.sample_rate = sample_rate
        self.noise_folder = None if noise is None else Path(noise)
        self.cache_samples = cache_samples
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._samples = 0

    def utterance(self, path: str) -> Array:
        """Speech ``(time,)`` float32 of a whole file, path relative to the corpus."""
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path].astype(np.float32) / 32767.0
        speech = audio.read_mono(self.corpus / path, self.sample_rate)
        quantized = np.clip(np.round(speech * 32767.0), -32768, 32767).astype(np.int16)
        if len(quantized) <= self.cache_samples:
            self._kept[path] = quantized
            self._samples += len(quantized)
            while self._samples > self.cache_samples:
                self._samples -= len(self._kept.popitem(last=False)[1])
        return quantized.astype(np.float32) / 32767.0

    def source(self, source: Source, samples: int) -> Array:
        """What a talker says ``(samples,)``, silent before and after; a `SilentSpeechError` if all of it is."""
        speech = np.zeros(samples, dtype=np.float32)
        times_s = (source.offset_s, source.onset_s, source.duration_s)
        offset, onset, length = (round(time_s * self.sample_rate) for time_s in times_s)
        piece = self.utterance(source.path)[offset : offset + min(length, samples - onset)]
        speech[onset : onset + len(piece)] = piece
        if not speech.any():
            raise SilentSpeechError(f"{self.corpus / source.path}: is silent from {source.offset_s:.2f} s on")
        return speech

    def noise(self, noise: Noise, streams: int, samples: int, rng: np.random.Generator) -> Array:
        """Independent signals ``(streams, samples)`` of a noise."""
        if noise.material == "babble":
            speech = [self.utterance(excerpt.path) for excerpt in noise.excerpts]
            uses = min(map(len, speech)) // MIN_SHIFT  # of an utterance, each at another shift
            talkers = max(1, min(BABBLE_TALKERS, uses * len(speech) // streams))
            return babble(speech, streams, samples, rng, talkers)
        return np.stack([self._recording(excerpt, samples) for excerpt in noise.excerpts])

    def _recording(self, excerpt: NoiseExcerpt, samples: int) -> Array:
        if self.noise_folder is None:
            raise MsdetError(f"scene uses the noise recording {excerpt.path}, but no noise folder was given")
        seconds = samples / self.sample_rate
        return highpass(load_excerpt(self.noise_folder, excerpt, seconds, self.sample_rate), self.sample_rate)
