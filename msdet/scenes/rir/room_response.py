"""Room impulse responses: image sources, and on request ray tracing beyond them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from msdet.conventions import SPEED_OF_SOUND, Array
from msdet.errors import MsdetError
from msdet.scenes.rir.image_method import image_responses
from msdet.scenes.rir.reverberation import absorption_for_t60, audible_path_m, highpass, longest_t60_s, measured_t60_s
from msdet.scenes.scene import Point, T60Rule, Target, size_text

EARLY_S = 0.05  # the early part of a response ends this long after the direct path (SMS-WSJ)
DIRECT_TAIL_S = 0.03  # the high-pass of a direct path rings this long
TRACED_CALIBRATIONS = 2  # corrections of the absorption of rays, which lose more than images, being scattered
_TRACING = {"num_threads": 1, "rir_hpf_enable": False}  # for the filter see `highpass`
SCATTERING = 0.1  # share of energy that traced rays lose in diffuse reflection at a wall


@dataclass(frozen=True)
class RoomResponse:
    """Impulse responses ``(source, mic, tap)`` of one room, after a microphone's high-pass; time 0 is emission.

    `direct` is the direct path alone, with fewer taps; the T60 is extrapolated from T30 (Schroeder) of the first
    microphone, median over sources.
    """

    rirs: Array
    direct: Array
    t60_measured_s: float

    def target(self, kind: Target, microphone: int, sample_rate: int) -> Array:
        """The part ``(source, tap)`` of the responses at one microphone that a reference holds."""
        if kind == "direct":
            return self.direct[:, microphone]
        responses = self.rirs[:, microphone]
        if kind == "image":
            return responses
        arrival = np.abs(self.direct[:, microphone]).argmax(axis=-1)
        end = arrival + round(EARLY_S * sample_rate)
        return np.where(np.arange(responses.shape[-1]) < end[:, None], responses, np.float32(0.0))


def room_response(
    room_m: Point,
    t60_s: float,
    microphones_m: Array,
    sources_m: Array,
    sample_rate: int,
    speed_of_sound: float = SPEED_OF_SOUND,
    image_order: int | None = None,
    seed: int = 0,
    rule: T60Rule = "measured",
) -> RoomResponse:
    """Responses from every source ``(source, 3)`` to every microphone ``(mic, 3)`` in a shoebox room.

    A target T60 of 0 is anechoic; `rule` is what others mean (`absorption_for_t60`). Reflections beyond `image_order`
    come from ray tracing, of which `seed` is; None for image sources alone. An `MsdetError` says that the room cannot
    have that T60, or a microphone is outside it.
    """
    for number, position in enumerate(microphones_m):
        if not ((position > 0) & (position < np.asarray(room_m))).all():
            place = f"microphone {number} at {position.round(2).tolist()}"
            raise MsdetError(f"{place} is outside the room of {size_text(room_m)}")
    reach_m = np.linalg.norm(sources_m[:, None] - microphones_m, axis=-1).max()
    direct = image_responses(room_m, 1.0, reach_m, microphones_m, sources_m, sample_rate, speed_of_sound)
    ringing = np.zeros((*direct.shape[:-1], round(DIRECT_TAIL_S * sample_rate)), dtype=np.float32)
    direct = highpass(np.concatenate([direct, ringing], axis=-1), sample_rate)
    if t60_s == 0:
        return RoomResponse(direct, direct, 0.0)
    absorption = absorption_for_t60(room_m, t60_s, speed_of_sound, rule)
    if image_order is None:
        if t60_s > (longest_s := longest_t60_s(room_m, speed_of_sound)):
            limit = f"up to {longest_s:.2f} s can be rendered; set image_order to trace rays beyond"
            raise MsdetError(f"a T60 of {t60_s} s needs too many image sources, {limit}")
        longest_m = max(audible_path_m(room_m, absorption), reach_m)
        rirs = image_responses(room_m, absorption, longest_m, microphones_m, sources_m, sample_rate, speed_of_sound)
    else:
        how = (image_order, sample_rate, speed_of_sound, seed)
        for _ in range(TRACED_CALIBRATIONS if rule == "measured" else 0):
            probe = _traced_responses(room_m, absorption, microphones_m[:1], sources_m[:1], *how)
            ratio = measured_t60_s(highpass(probe, sample_rate)[:, 0], sample_rate) / t60_s
            absorption = -math.expm1(math.log1p(-absorption) * ratio)  # T60 goes as 1 / log(1 - absorption)
        rirs = _traced_responses(room_m, absorption, microphones_m, sources_m, *how)
    rirs = highpass(rirs, sample_rate)
    return RoomResponse(rirs, direct, measured_t60_s(rirs[:, 0], sample_rate))


def stack_padded(responses: Sequence[Array]) -> Array:
    """Responses ``(..., tap)`` of several lengths as ``(response, ..., tap)``, zeros at their ends."""
    taps = max(h.shape[-1] for h in responses)
    return np.stack([np.pad(h, [(0, 0)] * (h.ndim - 1) + [(0, taps - h.shape[-1])]) for h in responses])


def _traced_responses(
    room_m: Point, absorption: float, microphones_m: Array, sources_m: Array,
    image_order: int, sample_rate: int, speed_of_sound: float, seed: int,
) -> Array:  # fmt: skip
    """Responses ``(source, mic, tap)`` with image sources up to an order and ray tracing beyond."""
    import pyroomacoustics as pra

    before = {name: pra.constants.get(name) for name in _TRACING}
    for name, value in _TRACING.items():
        pra.constants.set(name, value)
    pra.random.seed(seed)
    kind = {"materials": pra.Material(absorption, SCATTERING), "max_order": image_order}
    room = pra.ShoeBox(list(room_m), fs=sample_rate, ray_tracing=True, **kind)
    room.set_sound_speed(speed_of_sound)
    room.add_microphone_array(np.ascontiguousarray(microphones_m.T))
    for position in sources_m:
        room.add_source(position)
    try:
        room.compute_rir()
    finally:
        for name, value in before.items():
            pra.constants.set(name, value)
    delay = pra.constants.get("frac_delay_length") // 2
    of_source = [[room.rir[m][s][delay:] for m in range(len(microphones_m))] for s in range(len(sources_m))]
    return stack_padded([*map(stack_padded, of_source)]).astype(np.float32)
