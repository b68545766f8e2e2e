"""Audio files and signals: probe, load, stream, save, find and resample.

libsndfile reads WAV (also WAVEX, RF64 and W64), AIFF, AU, CAF, FLAC, Ogg Vorbis, Opus, MP3 (also MP1, MP2 and MP3 in
WAV), VOC, NIST, IRCAM and others. With the extra ``pentatonic[ffmpeg]``, FFmpeg reads MP4/M4A, AAC, WebM/Matroska, WMA,
WavPack, Monkey's Audio, TTA, AC-3, AMR, DSF, AVI, MPEG-TS and others, and encodings that libsndfile does not know. The
format is detected from the content, never from the suffix. Every fault of a file is an
:class:`~pentatonic.errors.AudioError` that names it.

Names are loaded when they are first used: a decoding process needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pentatonic.lazy import lazy_names

if TYPE_CHECKING:
    from pentatonic.audio.files import AUDIO_SUFFIXES, find_files, save
    from pentatonic.audio.isolation import DecodingProcess
    from pentatonic.audio.limits import AudioLimits
    from pentatonic.audio.reading import Audio, AudioInfo, info, load, stream
    from pentatonic.audio.resampling import StreamResampler, resample

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "AUDIO_SUFFIXES": "pentatonic.audio.files",
        "Audio": "pentatonic.audio.reading",
        "AudioInfo": "pentatonic.audio.reading",
        "AudioLimits": "pentatonic.audio.limits",
        "DecodingProcess": "pentatonic.audio.isolation",
        "StreamResampler": "pentatonic.audio.resampling",
        "find_files": "pentatonic.audio.files",
        "info": "pentatonic.audio.reading",
        "load": "pentatonic.audio.reading",
        "resample": "pentatonic.audio.resampling",
        "save": "pentatonic.audio.files",
        "stream": "pentatonic.audio.reading",
    },
)
