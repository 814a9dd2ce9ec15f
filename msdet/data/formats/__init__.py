"""Data sets in the formats of Kaldi, SMS-WSJ and lhotse."""
