"""Figures of scenes, arrays, directions and scores; drawn by Matplotlib, embedded by reports."""
