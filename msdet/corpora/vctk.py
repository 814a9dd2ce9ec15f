"""VCTK (Yamagishi, Veaux, MacDonald, University of Edinburgh), versions 0.92 and 0.80: 48 kHz, ~110 talkers.

Files are ``wav48_silence_trimmed/p225/p225_001_mic1.flac`` (0.92, two microphones, of which one is read) or
``wav48/p225/p225_001.wav`` (0.80, one microphone). ``speaker-info.txt`` tells the talkers' gender. Talkers
read many of the same sentences.

VCTK has no official splits. As in `msdet.corpora.folder`, the hash of a talker's name decides: 86 talkers of
0.92 train, 10 are dev and 14 test; those of 0.80 (without s5) are in the same splits.
"""

from __future__ import annotations

from pathlib import Path

from msdet.corpora import CORPORA, Corpus, reading
from msdet.corpora.reading import is_audio
from msdet.errors import MsdetError, check_known

LAYOUT = "a folder wav48_silence_trimmed or wav48 with files like p225/p225_001_mic1.flac or p225/p225_001.wav"
SPEECH_FOLDERS = ("wav48_silence_trimmed", "wav48")  # of versions 0.92 and 0.80; the first that is there is read
MICROPHONES = ("mic1", "mic2")  # of version 0.92: an omnidirectional DPA 4035 and a Sennheiser MKH 800


def recognizes(root: Path) -> bool:
    """Whether `root`, or a folder in it, has a folder of speech named as VCTK's."""
    return bool(reading.homes_in(root, _speech_folders))


@CORPORA.register("vctk", recognizes=recognizes)
def read_vctk(root: Path, microphone: str = "mic1") -> Corpus:
    """Read the folder that holds ``wav48_silence_trimmed`` or ``wav48``, or the one it lies in.

    Opens headers only. The microphone is ``mic1`` or ``mic2``; version 0.80 has but one, which is read for either.
    A sentence that the microphone lacks is left out (mic2 lacks p280, for one).
    """
    check_known("microphone", MICROPHONES, microphone)
    home = reading.find_home(root, _speech_folders, "vctk", LAYOUT)
    speech = _speech_folders(home)[0]
    files: dict[tuple[str, str], Path] = {}  # by talker and sentence
    for path in sorted(filter(is_audio, speech.glob("*/*"))):
        sentence, separator, other = path.stem.rpartition("_mic")
        if not separator:
            files.setdefault((path.parent.name, path.stem), path)
        elif f"mic{other}" == microphone:
            files.setdefault((path.parent.name, sentence), path)
    if not files:
        raise MsdetError(f"{speech}: no audio of {microphone}, expected files like p225/p225_001_mic1.flac")
    split_of = reading.split_by_name(root, {speaker for speaker, _ in files})
    rows = [(speaker, split_of[speaker], path) for (speaker, _), path in files.items()]
    return reading.tabulate(root, rows, _read_genders(home / "speaker-info.txt"))


def _speech_folders(home: Path) -> list[Path]:
    """Folders of speech in `home`, of the newest version first."""
    names = {folder.name for folder in reading.folders(home)}
    return [home / name for name in SPEECH_FOLDERS if name in names]


def _read_genders(table: Path) -> dict[str, str]:
    """Gender of each talker, from lines like ``p225  23  F    English``; version 0.80 writes ``225``."""
    rows = [line.split() for line in reading.lines_of(table)] if table.is_file() else []
    known = [row for row in rows if len(row) > 2]
    return {f"p{row[0]}" if row[0].isdigit() else row[0]: reading.parse_gender(row[2]) for row in known}
