"""One clip's picture and sound: decoding by timestamps, the mel spectrogram, where speech is heard."""

FEATURE_VERSION = 2
"""Changes whenever the same video would give other frames, another mel or other bits of speech."""
