"""Scoring estimates against a rendered set, and summarising the scores; needs no model."""
