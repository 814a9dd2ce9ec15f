"""A corpus of many synthetic talkers, spoken by eSpeak NG: made on the spot.

A talker is one of eSpeak's voice variants with its own vocal-tract length (formants), spectral tilt,
pitch, intonation range, rate and language or accent. Variants that are relatives of each other stay in
one split, so that no test talker's voice is built like a train talker's. Needs the extra ``demo``.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from msdet.conventions import Array
from msdet.corpora import CORPORA, Corpus, folder
from msdet.corpora.reading import MIN_SPEAKERS
from msdet.errors import MsdetError
from msdet.io import audio
from msdet.io.files import write_text
from msdet.io.jobs import begin_run_dir, finish_run_dir

HEADER = "corpus.json"  # written last: a folder with it is a finished corpus
SECONDS = (2.5, 8.0)  # shortest and longest utterance
MAX_UTTERANCES = 300  # of one talker: so few that all their clauses differ
_RATE_HZ = 22050  # of eSpeak's output
_LEVEL_DBFS, _PEAK = -26.0, 0.94  # RMS of an utterance, and largest sample where that would be too loud
_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1  # constants of eSpeak's interface, speak_lib.h
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)

# What eSpeak takes where a variant is silent: frequency, height and width of formants 1 to 8 in per cent
# of the phonemes' own, and points of the spectral slope (hertz, height up to 255).
_FORMANTS = "100 100 100|100 94 100|100 91 125|100 78 134|100 78 134|100 100 100|100 100 100|100 100 100"
_TONE = "600 170 1200 135 2000 110 3000 110"

# Relatives, most with equal formants, stand between bars. Left out: whispers, effects, robots, voices that
# clip or buzz, and those whose noise differs from run to run (Reed, caleb).
_FAMILIES = {
    "F": "Alicia|Andrea|Annie|anika|aunty f4|belinda linda|f1|f2 f5|f3|grandma|shelby|steph steph2 steph3",
    "M": """Alex|Andy AnxiousAndy|Denis|Diogo Henrique Hugo michel miguel|Gene Gene2|Jacky|Lee|Marco|Mario Michael
        gustave marcelo|Mike m3|Storm pedro victor|john Tweaky norbert|antonio|adam benjamin edward edward2 klatt3
        klatt4 klatt5 klatt6|boris|david|ed|fast grandpa max|ian|iven2 iven3 iven4|kaukovalta|m1|m2|m4|m5|m6|m7 m8
        Nguyen|mike2|pablo|paul|quincy|rob robert|sandro|travis""",
}

# The first two letters say which phrases are spoken.
_LANGUAGES = "en en-us en-us-nyc en-029 en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd de es es-419 fr it"

# Six phrases for each of the four places of a clause: who / does / what / where or when.
_PHRASES = {
    "en": """the old sailor, my younger sister, every tall farmer, our noisy neighbor, a clever fox, the village doctor
        / carries, has found, will measure, cannot forget, brought back, slowly opens / a heavy basket, seven yellow
        birds, the broken window, some fresh bread, a thousand questions, their favorite song / across the bridge, near
        the river, before sunrise, behind the church, without any help, at the end of July""",
    "de": """der alte Fischer, meine kleine Schwester, jede große Bäuerin, unser lauter Nachbar, das schnelle Pferd, ein
        kluger Fuchs / trägt, sucht, vergisst, zeichnet, öffnet, verkauft / einen schweren Korb, sieben gelbe Vögel, das
        zerbrochene Fenster, frisches Brot, tausend Fragen, ein schönes Lied / auf der Brücke, am breiten Fluss, vor
        Sonnenaufgang, hinter der Kirche, ohne jede Hilfe, gegen Ende Juli""",
    "es": """el viejo pescador, mi hermana pequeña, cada campesina alta, nuestro vecino ruidoso, el caballo rápido, un
        zorro astuto / lleva, busca, olvida, dibuja, abre, vende / una cesta pesada, siete pájaros amarillos, la ventana
        rota, pan recién hecho, mil preguntas, una canción alegre / sobre el puente, cerca del río, antes del amanecer,
        detrás de la iglesia, sin ninguna ayuda, a finales de julio""",
    "fr": """le vieux pêcheur, ma petite sœur, chaque grande fermière, notre voisin bruyant, le cheval rapide, un renard
        rusé / porte, cherche, oublie, dessine, achète, répare / un panier lourd, sept oiseaux jaunes, la fenêtre
        cassée, du pain frais, mille questions, une chanson joyeuse / sur le pont, près de la rivière, avant le lever du
        jour, derrière la grange, sans aucune aide, à la fin de juillet""",
    "it": """il vecchio pescatore, mia sorella minore, ogni alta contadina, il nostro vicino rumoroso, il cavallo
        veloce, una volpe astuta / porta, cerca, dimentica, disegna, apre, vende / un cesto pesante, sette uccelli
        gialli, la finestra rotta, pane fresco, mille domande, una canzone allegra / sul ponte, vicino al fiume, prima
        di sera, dietro la chiesa, senza alcun aiuto, alla fine di luglio""",
}


@dataclass(frozen=True)
class EspeakVoice:
    """How one talker sounds, in eSpeak's terms: a voice variant, a language or accent, and changes of these.

    The base pitch is from 0 to 99, 50 the variant's own; its range is the liveliness of the intonation, 0 (monotone)
    to 99. A shorter vocal tract has a larger scale of formant frequencies. Variants with a Klatt source ignore the
    change of spectral slope.
    """

    variant: str
    language: str
    pitch: int
    pitch_range: int
    rate_wpm: int
    formant_scale: float
    tilt_db_per_octave: float

    def variant_definition(self, base: str) -> str:
        """The text of this talker's own variant file, from that of the `base` variant but for its echo."""
        formants = {str(n): shape.split() for n, shape in enumerate(_FORMANTS.split("|"), start=1)}
        tone = _TONE.split()
        lines = ["language variant"]
        for line in base.splitlines():
            key, *values = line.split("//")[0].split("#")[0].split() or [""]
            if key == "formant" and values[0] in formants:  # 0, the voice bar, is none
                formants[values[0]] = values[1:]
            elif key == "tone":
                tone = values
            elif key not in ("", "language", "name", "gender", "echo"):
                lines.append(" ".join([key, *values]))
        for number, (frequency, *shape) in formants.items():
            lines.append(f"formant {number} {float(frequency) * self.formant_scale:.0f} {' '.join(shape)}")
        slope = []
        for frequency, height in zip(tone[::2], tone[1::2], strict=False):
            gain_db = self.tilt_db_per_octave * math.log2(max(float(frequency), 100.0) / 1000.0)
            slope += [frequency, f"{min(max(float(height) * 10 ** (gain_db / 20), 1.0), 255.0):.0f}"]
        return "\n".join([*lines, " ".join(["tone", *slope]), ""])


class Synthesizer(AbstractContextManager["Synthesizer"]):
    """Renders text with eSpeak NG; a context manager. Use one at a time, from one thread.

    eSpeak keeps state between utterances (jitter, noise, phase of the oscillators) that its interface cannot
    reset, so each utterance gets a freshly loaded library, which costs two milliseconds.
    """

    def __init__(self) -> None:
        """Find eSpeak NG; an `MsdetError` says how to install it."""
        if sys.platform == "win32":
            raise MsdetError("synthetic speech needs Linux or macOS (eSpeak NG's data is linked, not copied)")
        try:
            import espeakng_loader
        except ImportError as error:
            raise MsdetError("synthetic speech needs eSpeak NG: pip install 'msdet[demo]'") from error
        self._shipped = Path(espeakng_loader.get_data_path())
        self._temporary = tempfile.TemporaryDirectory(prefix="msdet-")
        self._data = Path(self._temporary.name) / "espeak-ng-data"
        # A private copy: another user of the shared library in this process would keep it loaded.
        self._library_path = str(shutil.copy(espeakng_loader.get_library_path(), self._temporary.name))
        self._samples: list[bytes] = []
        self._callback = _CALLBACK(self._receive)
        # a data folder of our own: eSpeak's, linked, plus a place for the talkers' variant files
        (self._data / "voices" / "!v").mkdir(parents=True)
        for entry in self._shipped.iterdir():
            if entry.name != "voices":
                (self._data / entry.name).symlink_to(entry)
        self.version = ""
        _unload(self._load())

    def __exit__(self, *error: object) -> None:
        """Delete its temporary files."""
        self._temporary.cleanup()

    def render(self, voice: EspeakVoice, text: str, seed: int) -> Array:
        """Speech ``(time,)`` float32 at 22050 Hz, full scale 1, as eSpeak puts it out."""
        base = self._shipped / "voices" / "!v" / voice.variant
        if not base.is_file():
            raise MsdetError(f"eSpeak NG {self.version} has no voice variant '{voice.variant}'")
        definition = voice.variant_definition(base.read_text(encoding="utf-8", errors="replace"))
        (self._data / "voices" / "!v" / "talker").write_text(definition, encoding="utf-8")
        self._samples.clear()
        library = self._load()
        try:
            library.espeak_SetSynthCallback(self._callback)
            library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
            if library.espeak_SetVoiceByName(f"{voice.language}+talker".encode()) != 0:
                raise MsdetError(f"eSpeak NG {self.version} has no language '{voice.language}'")
            # at a volume of 100 a limiter acts on the loud variants
            parameters = {_RATE: voice.rate_wpm, _VOLUME: 25, _PITCH: voice.pitch, _RANGE: voice.pitch_range}
            for parameter, value in parameters.items():
                library.espeak_SetParameter(parameter, value, 0)
            encoded = text.encode()
            status = library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
            if status != 0 or not self._samples:
                raise MsdetError(f"eSpeak NG {self.version} did not speak (status {status}): {text}")
        finally:
            _unload(library)
        return np.frombuffer(b"".join(self._samples), dtype=np.int16).astype(np.float32) / 32768

    def _receive(self, samples: int | None, count: int, events: int | None) -> int:
        if samples and count > 0:
            self._samples.append(ctypes.string_at(samples, 2 * count))
        return 0  # go on

    def _load(self) -> ctypes.CDLL:
        library = ctypes.CDLL(self._library_path)
        rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(self._data).encode(), _DONT_EXIT)
        if rate != _RATE_HZ:
            _unload(library)
            raise MsdetError(f"eSpeak NG cannot start with the data in {self._data} (path too long?)")
        library.espeak_Info.restype = ctypes.c_char_p
        self.version = library.espeak_Info(None).decode().split()[0]
        return library


def _unload(library: ctypes.CDLL) -> None:
    from _ctypes import dlclose

    library.espeak_Terminate()
    dlclose(library._handle)


@dataclass(frozen=True)
class EspeakTalker:
    """A talker of the corpus: name, gender (``F`` or ``M``, of the variant), split and voice."""

    name: str
    gender: str
    split: str
    voice: EspeakVoice


def draw_talkers(speakers: int, seed: int) -> list[EspeakTalker]:
    """Talkers of alternating gender, 80/10/10 over the splits; no family of variants is in two splits."""
    rng = random.Random(seed)
    variants = {gender: _split_variants(_FAMILIES[gender], rng) for gender in _FAMILIES}
    held_out = max(2, round(speakers / 10))
    talkers = []
    for number in range(speakers):
        gender = "FM"[number % 2]
        split = "test" if number < held_out else "dev" if number < 2 * held_out else "train"
        voice = EspeakVoice(
            variant=next(variants[gender][split]),
            language=rng.choice(_LANGUAGES.split()),
            pitch=rng.randint(32, 68),
            pitch_range=rng.randint(30, 75),
            rate_wpm=rng.randint(140, 195),
            formant_scale=round(rng.uniform(0.93, 1.07), 3),
            tilt_db_per_octave=round(rng.uniform(-2.0, 2.0), 2),
        )
        talkers.append(EspeakTalker(f"espeak{number:04d}", gender, split, voice))
    return talkers


def _split_variants(families: str, rng: random.Random) -> dict[str, Iterator[str]]:
    """Variants of each split, over and over, families in turn; dev and test get a fifth of these each."""
    shuffled = [family.split() for family in families.split("|")]
    rng.shuffle(shuffled)
    fifth = round(len(shuffled) / 5)
    parts = {"test": shuffled[:fifth], "dev": shuffled[fifth : 2 * fifth], "train": shuffled[2 * fifth :]}
    return {
        split: itertools.cycle(filter(None, itertools.chain.from_iterable(itertools.zip_longest(*part))))
        for split, part in parts.items()
    }


def synthesize(
    root: str | Path,
    speakers: int,
    utterances: int,
    sample_rate: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a corpus ``speaker/000.flac`` with ``speakers.tsv``: mono, 16 bit, -26 dBFS, 2.5 to 8 s each.

    A killed run, started again, ends with the same bytes; a finished corpus is left alone. `progress` is called with
    utterances done and in all. An `MsdetError` says that an argument is out of range, that eSpeak NG is missing, or
    that `root` holds anything else.
    """
    root = Path(root)
    for name, value, least, most in (
        ("speakers", speakers, MIN_SPEAKERS, 10_000),
        ("utterances", utterances, 1, MAX_UTTERANCES),
        ("sample_rate", sample_rate, 8000, 192_000),
    ):
        if not least <= value <= most:
            raise MsdetError(f"{name} is {value}, expected {least} to {most}")
    with Synthesizer() as synthesizer:
        settings = {"schema": 1, "eSpeak NG": synthesizer.version, "speakers": speakers}
        settings |= {"utterances": utterances, "sample_rate": sample_rate, "seed": seed}
        if not begin_run_dir(root, settings, HEADER):
            return
        rows = [["speaker", "gender", "source", "seconds", "utterances", "split"]]
        for done, talker in enumerate(draw_talkers(speakers, seed)):
            seconds = 0.0
            for number, clauses in enumerate(_draw_clauses(talker, utterances, seed)):
                path = root / talker.name / f"{number:03d}.flac"
                if not path.exists():
                    spoken = _speak(synthesizer, talker, clauses, f"{seed}/{talker.name}/{number}")
                    samples = audio.resample(spoken, _RATE_HZ, sample_rate)
                    rms = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
                    gain = np.float32(min(10 ** (_LEVEL_DBFS / 20) / rms, _PEAK / np.abs(samples).max()))
                    audio.write(path, samples * gain, sample_rate)
                seconds += audio.info(path).seconds
                if progress is not None:
                    progress(done * utterances + number + 1, speakers * utterances)
            source = f"eSpeak NG {synthesizer.version}, {talker.voice}"
            rows.append([talker.name, talker.gender, source, f"{seconds:.2f}", str(utterances), talker.split])
    write_text(root / folder.TABLE, "".join("\t".join(row) + "\n" for row in rows))
    finish_run_dir(root, settings, HEADER, {"kind": "espeak"})


def _draw_clauses(talker: EspeakTalker, utterances: int, seed: int) -> list[list[str]]:
    """Four clauses for each utterance of a talker, all different."""
    places = [
        [" ".join(phrase.split()) for phrase in place.split(",")]
        for place in _PHRASES[talker.voice.language[:2]].split("/")
    ]
    possible = list(itertools.product(*places))
    clauses = random.Random(f"{seed}/{talker.name}").sample(possible, 4 * utterances)
    return [[" ".join(clause) for clause in clauses[i : i + 4]] for i in range(0, len(clauses), 4)]


def _speak(synthesizer: Synthesizer, talker: EspeakTalker, clauses: list[str], seed: str) -> Array:
    """An utterance ``(time,)`` of as many of the clauses as fit, at eSpeak's rate and level."""
    rng = random.Random(seed)
    wanted, noise_seed = rng.choice((1, 2, 2)), rng.getrandbits(31)
    for count in sorted(range(1, len(clauses) + 1), key=lambda n: abs(n - wanted)):
        text = ". ".join(clauses[:count]) + "."
        samples = _trim_silence(synthesizer.render(talker.voice, text, noise_seed))
        if SECONDS[0] <= len(samples) / _RATE_HZ <= SECONDS[1]:
            return samples
    raise MsdetError(f"{talker.name}: no clauses fill {SECONDS[0]} to {SECONDS[1]} s with {talker.voice}")


def _trim_silence(samples: Array) -> Array:
    """All but 50 ms before the first and 100 ms after the last sample above -45 dB of the peak."""
    loud = np.flatnonzero(np.abs(samples) > 10 ** (-45 / 20) * np.abs(samples).max(initial=0.0))
    return samples[max(loud[0] - _RATE_HZ // 20, 0) : loud[-1] + _RATE_HZ // 10] if loud.size else samples[:0]


@CORPORA.register("espeak")
def read_espeak(root: Path) -> Corpus:
    """Read a corpus that `synthesize` finished, as `msdet.corpora.folder` does."""
    if not (root / HEADER).is_file():
        raise MsdetError(f"{root}: no finished synthetic corpus, {HEADER} is missing")
    return folder.read_folder(root)
