"""Channels of recordings: which are the microphones of an array."""

from __future__ import annotations

import pytest

from msdet.arrays import MicrophoneArray, array_names, load_array
from msdet.arrays.recorded import ChannelCountError, choose, list_channels, parse_channels
from msdet.errors import MsdetError

USB = load_array("respeaker_usb_4mic_square")


@pytest.mark.parametrize(
    ("text", "numbers"), [("1-4", (1, 2, 3, 4)), ("0,2,5", (0, 2, 5)), ("[3, 1]", (3, 1)), ("0,2-4", (0, 2, 3, 4))]
)
def test_channels_are_numbers_and_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_channels(text) == numbers
    assert parse_channels(list_channels(numbers)) == numbers


@pytest.mark.parametrize("text", ["", "a", "4-1", "1-", "-1", "0,,1", "0-999999", "0,\u0661"])
def test_what_is_no_list_of_channels_is_refused(text: str) -> None:
    with pytest.raises(MsdetError, match="expected numbers from 0 on, for example 1-4 or 0,2,5"):
        parse_channels(text)
    with pytest.raises(MsdetError, match="names one twice"):
        parse_channels("0-2,2")


@pytest.mark.parametrize("name", [name for name in array_names() if load_array(name).recorded_as])
def test_files_of_a_device_are_known(name: str) -> None:
    array = load_array(name)
    for layout in array.recorded_as:
        chosen = choose("a.wav", len(layout), array)
        assert [layout[n] for n in chosen.numbers] == list(range(array.microphones))
        assert chosen.array is array and f" of {len(layout)} (" in chosen.words


def test_the_usb_array_is_channels_1_to_4_of_six() -> None:
    chosen = choose("a.wav", 6, USB)
    assert chosen.numbers == (1, 2, 3, 4)
    assert chosen.words == "channels 1-4 of 6 (0 processed, 5 playback)"
    stored = MicrophoneArray.from_dict(USB.to_dict())  # as models keep it, without its files
    assert not stored.recorded_as and choose("a.wav", 6, stored).numbers == (1, 2, 3, 4)
    assert choose("a.wav", 4, USB).words == ""


def test_fewer_channels_are_some_of_the_microphones() -> None:
    chosen = choose("a.wav", 6, USB, (2, 4))
    assert chosen.array.positions_m == (USB.positions_m[1], USB.positions_m[3])
    assert choose("a.wav", 4, USB, (3, 0)).array.reference == 1
    assert choose("a.wav", 9, USB, (8, 1, 0, 5)).array is USB  # as many as there are: in that order


@pytest.mark.parametrize(
    ("there", "wanted", "message"),
    [
        (6, (1, 2, 7, 8), "a.wav: has no channel 7: it has 6, counted from 0"),
        (6, (0, 1, 2), "a.wav: channels names 3, the array 'respeaker_usb_4mic_square' has 4"),  # 0 is processed
        (5, (0, 1), "channels names 2, the array"),
        (4, (1,), "one microphone has no directions"),
        (1, None, "has 1 channel, the array 'respeaker_usb_4mic_square' has 4: one microphone has no directions"),
        (2, None, "has 2 channels, .*; give the recording's own by --array as a TOML file$"),
        (8, None, "has 8 channels, .*--array: circular8_10cm, linear8_3cm, respeaker_6mic_ring, .*by --channels$"),
    ],
)
def test_channels_of_no_microphones_are_refused(there: int, wanted: tuple[int, ...] | None, message: str) -> None:
    with pytest.raises(MsdetError, match=message) as caught:
        choose("a.wav", there, USB, wanted)
    assert isinstance(caught.value, ChannelCountError) == (there == 8)


@pytest.mark.parametrize(
    "layouts",
    [[[0, 1, 2]], [["x", 0, 1, 1, 2, 3]], [[0, 1, 2, 3]], [0], "x", [[0, 1, 2, 3, 1.5]], [[0, 1, 2, True, "x"]]],
)
def test_a_file_of_a_device_names_each_microphone_once(layouts: object) -> None:
    with pytest.raises(MsdetError, match=r"my.toml: recorded_as: has .*expected lists with each of 0 to 3 once"):
        MicrophoneArray.from_dict(USB.to_dict() | {"recorded_as": layouts}, "my.toml")
