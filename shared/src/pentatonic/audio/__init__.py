"""Audio files and signals: probe, load, stream, save, find and resample.

libsndfile reads WAV (also WAVEX, RF64 and W64), AIFF, AU, CAF, FLAC, Ogg Vorbis, Opus, MP3 (also MP1, MP2 and MP3 in
WAV), VOC, NIST, IRCAM and others. With the extra ``pentatonic[ffmpeg]``, FFmpeg reads MP4/M4A, AAC, WebM/Matroska, WMA,
WavPack, Monkey's Audio, TTA, AC-3, AMR, DSF, AVI, MPEG-TS and others, and encodings that libsndfile does not know. The
format is detected from the content, never from the suffix. Every fault of a file is an
:class:`~pentatonic.errors.AudioError` that names it.
"""

from __future__ import annotations

from pentatonic.audio.files import AUDIO_SUFFIXES, find_files, save
from pentatonic.audio.isolation import DecodingProcess
from pentatonic.audio.limits import AudioLimits
from pentatonic.audio.reading import Audio, AudioInfo, info, load, stream
from pentatonic.audio.resample import StreamResampler, resample

__all__ = [
    "AUDIO_SUFFIXES",
    "Audio",
    "AudioInfo",
    "AudioLimits",
    "DecodingProcess",
    "StreamResampler",
    "find_files",
    "info",
    "load",
    "resample",
    "save",
    "stream",
]
