"""Settings of a joint model; sizes follow from the array, the sample rate and these."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from msdet.conventions import DOA_CLASSES


@dataclass(frozen=True)
class ModelConfig:
    """Settings of a joint model.

    Attributes:
        talkers: number of output slots.
        variable_num_speakers: slots may be empty, so one model serves 1 to `talkers` people; DoA has a class for that.
        doa_classes: azimuth classes over the full circle.
        window_s: length of an STFT frame, at most 1 s; the hop is half of it.
        front_end: ``steered`` (responses and beams from coordinates), ``stft`` (spectra with their phase) or
            ``real_imaginary`` (relative to the reference) of one array, ``tac`` (any array, learned), ``srp_map``
            (maps of steered responses, any array, lines too), or your own ``module:Class``.
        front_end_options: what the front end takes.
        encoder: ``ft_mingru``, ``ft_gru``, ``band_mingru``, ``band_gru``, ``ft_jnf``, ``dense_unet``, ``spatialnet``,
            ``tfgridnet``, ``conv_tasnet``, ``dprnn``, ``direction_cnn`` (with ``srp_map``), or your own
            ``module:Class``.
        encoder_options: what the encoder's constructor takes besides derived sizes.
        sharing: what localization and separation have in common: ``hard`` (one encoder), ``none``, ``soft``,
            ``cross_stitch``, ``hierarchical``, or your own ``module:Class``.
        sharing_options: what the scheme takes.
        doa_head: ``steered`` (mask-weighted SRP-PHAT), ``pooled`` (features pooled), ``map_peaks`` (with
            ``direction_cnn``), or your own ``module:Class``.
        doa_options: what the DoA head takes.
        separation_head: ``steered_beam`` (beams steered by the DoA posterior, refined), ``recording_filter``
            (beams through filters predicted from the whole recording, refined), ``directional_filter`` (the same
            for one talker at a time, with ``map_peaks``), ``reference_mask``,
            ``complex_mapping``, ``multi_frame_filter``, ``masked_mvdr``, or your own ``module:Class``.
        separation_options: what the separation head takes.
        tasks: auxiliary tasks, such as ``activity`` or your own ``module:Class``, each with the options of
            its head, for example ``{"activity": {}}``.
    """

    talkers: int = 2
    variable_num_speakers: bool = False
    doa_classes: int = DOA_CLASSES
    window_s: float = 0.064
    front_end: str = "steered"
    front_end_options: dict[str, Any] = field(default_factory=dict)
    encoder: str = "ft_mingru"
    encoder_options: dict[str, Any] = field(default_factory=dict)
    sharing: str = "hard"
    sharing_options: dict[str, Any] = field(default_factory=dict)
    doa_head: str = "steered"
    doa_options: dict[str, Any] = field(default_factory=dict)
    separation_head: str = "steered_beam"
    separation_options: dict[str, Any] = field(default_factory=dict)
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
