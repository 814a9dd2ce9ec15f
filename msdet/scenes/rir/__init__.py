"""Room impulse responses: image method, calibrated reverberation time, banks, measured collections."""
