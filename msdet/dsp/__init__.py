"""Signals: STFT, spatial kernels, beamforming, and what causal computations carry along."""
