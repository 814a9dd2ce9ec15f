"""Files: audio, JSON and text written atomically, and many small jobs into one folder."""
