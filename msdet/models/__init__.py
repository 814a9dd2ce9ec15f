"""Joint models: a front end, one shared encoder, a separation head and a DoA head."""

from __future__ import annotations
