"""Scoring estimates against a rendered set, and summarizing the scores; needs no model."""
