"""Separation heads, one file each: class ``Head`` (`msdet.models.heads`)."""
