"""The processor: audio, speed, limits, options, and loading by the Auto classes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cm3p.audio_features import CM3PAudioFeatureExtractor
from cm3p.beatmap import Beatmap, FormatError, LimitExceeded, read_beatmap
from cm3p.call_options import with_defaults
from cm3p.events.parser import CM3PBeatmapParser
from cm3p.metadata import get_metadata, merge_metadata_dicts
from cm3p.processor import CM3PProcessor
from cm3p.tokens.beatmap import CM3PBeatmapTokenizer
from cm3p.tokens.metadata import CM3PMetadataTokenizer
from cm3p.windows import TooManyWindows, groups_in_windows, window_starts
from pentatonic.audio import save
from pentatonic.errors import EmptyAudio, InputError, UsageError

GOLDENS = Path(__file__).parent / "goldens"
OPTIONS = {
    "beatmap_kwargs": {"max_length": 600, "window_length_sec": 4.0, "window_stride_sec": 4.0},
    "audio_kwargs": {"pad_to_multiple_of": 64000, "max_source_positions": 400},
}


@pytest.fixture(scope="module")
def processor() -> CM3PProcessor:
    return make_processor()


def make_processor(**options: Any) -> CM3PProcessor:
    return CM3PProcessor(
        CM3PAudioFeatureExtractor(),
        CM3PBeatmapParser(add_snapping=False, add_distances=False),
        CM3PBeatmapTokenizer(max_time=4000, add_cls_token=True),
        CM3PMetadataTokenizer(
            modes={0: "osu"}, statuses={1: "ranked"}, mappers={2: "peppy"}, add_cls_token=True
        ),
        OPTIONS,
        **options,
    )


def osu(
    timing: str = "0,500,4,2,0,60,1,0", objects: str = "10,20,700,1,0\n30,40,9000,1,0", mode: int = 0
) -> str:
    return (
        f"osu file format v14\n[General]\nMode: {mode}\n[TimingPoints]\n{timing}\n[HitObjects]\n{objects}\n"
    )


@pytest.fixture
def map_file(tmp_path: Path) -> Path:
    path = tmp_path / "map.osu"
    path.write_text(osu(), encoding="utf-8")
    return path


def test_maps_by_path_open_file_and_object(map_file: Path, processor: CM3PProcessor) -> None:
    expected = processor(beatmap=read_beatmap(map_file))["input_ids"]
    assert expected.shape[0] == 3
    with map_file.open() as file:
        for beatmap in (map_file, str(map_file), file):
            assert torch.equal(processor(beatmap=beatmap)["input_ids"], expected)
    with pytest.raises(UsageError, match="of type int; allowed: a path"):
        processor(beatmap=3)
    with pytest.raises(FormatError, match=r"absent\.osu"):
        processor(beatmap=map_file.with_name("absent.osu"))


def test_audio_by_path_and_samples(map_file: Path, tmp_path: Path, processor: CM3PProcessor) -> None:
    song = (0.1 * np.random.RandomState(0).randn(2, 9 * 16000)).astype(np.float32)
    path = tmp_path / "song.wav"
    save(path, torch.from_numpy(song), 16000, subtype="FLOAT")
    by_path = processor(beatmap=map_file, audio=path)
    assert by_path["input_features"].shape == (2, 80, 400)
    tokenizer = processor.beatmap_tokenizer
    assert by_path["input_ids"][0, :52].tolist() == [
        tokenizer.audio_bos_token_id, *[tokenizer.audio_token_id] * 50, tokenizer.audio_eos_token_id
    ]  # fmt: skip
    for samples in (song.T, song.mean(axis=0), song.mean(axis=0).tolist(), torch.from_numpy(song.T.copy())):
        by_samples = processor(beatmap=map_file, audio=samples, audio_sampling_rate=16000)
        torch.testing.assert_close(by_samples["input_features"], by_path["input_features"], atol=1e-4, rtol=0)
        assert torch.equal(by_samples["input_ids"], by_path["input_ids"])


def test_samples_at_other_rates_are_resampled(
    map_file: Path, processor: CM3PProcessor, caplog: pytest.LogCaptureFixture
) -> None:
    song = np.sin(np.arange(9 * 32000) / 32000 * 2 * np.pi * 440).astype(np.float32)
    resampled = processor(beatmap=map_file, audio=song, audio_sampling_rate=32000)
    direct = processor(beatmap=map_file, audio=song[::2].copy())
    assert "audio_sampling_rate" in caplog.text
    difference = (resampled["input_features"] - direct["input_features"])[:, :, 5:100].abs().mean()
    assert resampled["input_features"].shape == (2, 80, 400)
    assert difference < 0.05


def test_audio_that_cannot_be_used(map_file: Path, processor: CM3PProcessor) -> None:
    with pytest.raises(EmptyAudio):
        processor(beatmap=map_file, audio=np.zeros(0), audio_sampling_rate=16000)
    with pytest.raises(UsageError, match=r"\(1, 2, 3\)"):
        processor(beatmap=map_file, audio=np.zeros((1, 2, 3)), audio_sampling_rate=16000)
    with pytest.raises(UsageError, match="1 songs for 2 beatmaps"):
        processor(beatmap=[map_file, map_file], audio=[np.zeros(9)], audio_sampling_rate=16000)
    with pytest.raises(UsageError, match="max_source_positions, 300"):
        processor(
            beatmap=map_file, audio=np.zeros(160000), audio_sampling_rate=16000, max_source_positions=300
        )


def test_no_windows(map_file: Path, processor: CM3PProcessor) -> None:
    audio = np.zeros(16000, dtype=np.float32)
    options: dict[str, Any] = {"populate_metadata": True, "multiply_metadata": True, "metadata_variations": 3}
    encoding = processor(
        beatmap=map_file, audio=audio, audio_sampling_rate=16000, min_window_length_sec=9, **options
    )
    shapes = {name: tuple(value.shape) for name, value in encoding.items()}
    assert shapes == {
        "input_ids": (0, 600),
        "attention_mask": (0, 600),
        "input_features": (0, 80, 400),
        "metadata_ids": (0, 3, 128),
        "metadata_attention_mask": (0, 3, 128),
        "metadata_variation_classes": (0, 3),
    }


def test_speed_changes_events_alone_unless_asked(map_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "song.wav"
    save(path, torch.from_numpy(np.sin(np.arange(12 * 16000) / 5).astype(np.float32)), 16000, subtype="FLOAT")
    original, consistent = make_processor(), make_processor(apply_speed_to_audio=True)
    assert original(beatmap=map_file, audio=path, speed=2.0)["input_features"].shape[0] == 3
    sped_up = consistent(beatmap=map_file, audio=path, speed=2.0)
    assert sped_up["input_features"].shape[0] == 2
    # The music is an octave higher, and beats go on up to the end of the song.
    slow = original(beatmap=map_file, audio=path)["input_features"][0, :, :100].mean(dim=1)
    assert sped_up["input_features"][0, :, :100].mean(dim=1).argmax() > slow.argmax()
    tokenizer = consistent.beatmap_tokenizer
    beats = [tokenizer.convert_tokens_to_ids(token) for token in ("[BEAT]", "[MEASURE]", "[TIMING_POINT]")]
    count = sum((sped_up["input_ids"] == beat).sum().item() for beat in beats)
    assert count == 1 + 6 / 0.25
    assert len(consistent(beatmap=map_file, speed=3.0)["input_ids"]) == 1
    assert len(original(beatmap=map_file, speed=3.0)["input_ids"]) == 3


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_speed_must_be_positive(speed: float, map_file: Path, processor: CM3PProcessor) -> None:
    with pytest.raises(UsageError, match=r"^speed is"):
        processor(beatmap=map_file, speed=speed)


def test_far_times_are_refused_before_windows_are_made(processor: CM3PProcessor) -> None:
    beatmap = read_beatmap(osu("0,60000,4,2,0,60,1,0", "10,20,700,1,0\n30,40,1151400000,1,0"))
    with pytest.raises(
        TooManyWindows, match=r"287850 windows 4 s apart; at most 4096 are made \(--max-windows\)"
    ):
        processor(beatmap=beatmap)
    assert len(processor(beatmap=beatmap, window_stride_sec=3e5, max_windows=4)["input_ids"]) == 4
    with pytest.raises(TooManyWindows, match="at most 2 "):
        processor(beatmap=read_beatmap(osu()), max_windows=2)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "timing",
    [
        "0,NaN,4,2,0,60,1,0",
        "0,Infinity,4,2,0,60,1,0",
        "0,1E-298,4,2,0,60,1,0",
        "0,0,4,2,0,60,1,0",
        "0,500,0,2,0,60,1,0",
    ],
)
@pytest.mark.parametrize(
    "inherited", ["500,NaN,4,2,0,60,0,0", "500,0,4,2,0,60,0,0", "500,-1E-320,4,2,0,60,0,0"]
)
def test_numbers_that_are_not_finite_reach_no_token(
    timing: str, inherited: str, mode: int, processor: CM3PProcessor
) -> None:
    objects = "10,20,700,1,0\n100,100,1000,2,0,L|140:60|180:100,2,90\n256,192,3000,12,0,4000"
    objects += "\n64,192,4300,128,0,4600:0:0:0:0:"
    points = f"-200000001,1E-298,4,2,0,60,1,0\n{timing}\n{inherited}\n1151400000,300,4,2,0,60,1,0"
    encoding = processor(beatmap=read_beatmap(osu(points, objects, mode)))
    tokens = processor.batch_decode(encoding["input_ids"])
    assert len(tokens) == 1
    assert "[CIRCLE]" in tokens[0]
    assert not any(word in tokens[0] for word in ("nan", "inf", "UNK"))


def test_more_beats_than_allowed_are_refused() -> None:
    beatmap = read_beatmap(osu("0,11,4,2,0,60,1,0", objects="10,20,5000000,1,0"))
    with pytest.raises(LimitExceeded, match=r"45454\d beats; at most 200000"):
        CM3PBeatmapParser().parse_beatmap(beatmap)
    # Those before the song are left out first, and do not change which beats start a measure.
    beatmap = read_beatmap(osu("-2000000000,11,4,2,0,60,1,0\n22,500,4,2,0,60,1,0", objects="10,20,700,1,0"))
    groups = CM3PBeatmapParser().parse_beatmap(beatmap)
    events = [(group.time, str(group.event_type)) for group in groups]
    assert events == [
        (-1999999999, "timing_point"), (2, "beat"), (22, "timing_point"), (522, "beat"), (700, "circle"),
    ]  # fmt: skip
    # Those after the end of the song are left out first.
    beatmap = read_beatmap(osu("0,500,4,2,0,60,1,0\n1151400000,300,4,2,0,60,1,0"))
    assert len(CM3PBeatmapParser().parse_beatmap(beatmap)) == 21


def test_objects_that_were_made_wrong_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    beatmap = read_beatmap(osu())
    beatmap.hit_objects[0].x = float("nan")
    times = [group.time for group in CM3PBeatmapParser(add_timing=False).parse_beatmap(beatmap)]
    assert times == [9000]
    assert "700 ms cannot be read" in caplog.text
    with pytest.raises(FormatError, match="700 ms cannot be read"):
        CM3PBeatmapParser().parse_beatmap(beatmap, strict=True)
    beatmap.timing_points[0].time_ms = float("inf")
    with pytest.raises(InputError, match="cannot be turned into events"):
        CM3PBeatmapParser().parse_beatmap(beatmap)


def test_distances_skip_what_is_left_out() -> None:
    beatmap = read_beatmap(osu(objects="10,20,700,2,0,L|90:80,1,100\n256,192,2000,1,0"))
    beatmap.hit_objects[0].points[1] = (float("inf"), 0.0)  # type: ignore[attr-defined]
    (circle,) = CM3PBeatmapParser(add_timing=False).parse_beatmap(beatmap)
    assert (circle.time, circle.distance) == (2000, 0)


def test_a_map_without_timing_points_has_beats_of_a_second() -> None:
    beatmap = Beatmap(hit_objects=read_beatmap(osu()).hit_objects)
    events = [str(group.event_type) for group in CM3PBeatmapParser().parse_beatmap(beatmap)]
    assert events.count("beat") + events.count("measure") == 9


@pytest.mark.parametrize("exact", [False, True])
def test_tempo_that_holds_longest(exact: bool) -> None:
    """300 ms per beat holds for 1000 ms in all; in whole seconds it holds for none."""
    timing = "0,500,4,2,0,60,1,0\n1000,300,4,2,0,60,1,0\n1900,400,4,2,0,60,1,0\n2800,300,4,2,0,60,1,0"
    beatmap = read_beatmap(osu(timing, "64,192,2900,1,0", mode=3))
    groups = CM3PBeatmapParser(exact_median_beat_length=exact).parse_beatmap(beatmap)
    speeds = [group.scroll_speed for group in groups if group.scroll_speed is not None]
    assert speeds[0] == pytest.approx(0.6 if exact else 0.8)


def test_windows() -> None:
    assert window_starts(16.0, 4.0, 1.0) == [0.0, 4.0, 8.0, 12.0]
    assert window_starts(13.0, 4.0, 1.0) == [0.0, 4.0, 8.0]
    assert window_starts(0.5, 4.0, 1.0) == []
    assert window_starts(-9e9, 4.0, 1.0) == []
    cases: list[tuple[type[Exception], Callable[[], object], str]] = [
        (InputError, lambda: window_starts(float("nan"), 4.0, 1.0), "length of the song"),
        (InputError, lambda: window_starts(float("inf"), 4.0, 1.0), "length of the song"),
        (UsageError, lambda: window_starts(9.0, 0.0, 1.0), "window_stride_sec"),
        (UsageError, lambda: window_starts(9.0, 1.0, float("nan")), "min_window_length_sec"),
        (UsageError, lambda: groups_in_windows([], [0.0], float("nan"), 1.0), "window_length_sec"),
    ]
    for error, call, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_options_of_a_call(map_file: Path, processor: CM3PProcessor) -> None:
    with pytest.warns(UserWarning, match="no option windows_length_sec"):
        processor(beatmap=map_file, windows_length_sec=3)
    with pytest.raises(UsageError, match="max_length is given in metadata_kwargs and on its own"):
        processor(beatmap=map_file, metadata={}, metadata_kwargs={"max_length": 3}, max_length=4)
    with pytest.raises(UsageError, match="return_tensors is 'np'"):
        processor(beatmap=map_file, return_tensors="np")
    with pytest.raises(UsageError, match="metadata_dropout_prob"):
        processor(metadata={}, metadata_dropout_prob=2.0)
    with pytest.raises(UsageError, match="metadata_variations"):
        processor(metadata={}, metadata_variations=0)
    with pytest.raises(UsageError, match="video_kwargs is not a group"):
        with_defaults({"video_kwargs": {}})
    lists = processor(metadata=[{}, {"year": 2015}], metadata_variations=2, return_tensors=None)
    assert [len(entry) for entry in lists["input_ids"]] == [2, 2]
    assert lists["metadata_variation_classes"] == [[0, -1], [0, 1]]


def test_every_window_has_dropout_of_its_own(map_file: Path, processor: CM3PProcessor) -> None:
    """In the original all windows share one dictionary, and lose what any of them lost."""
    metadata = {
        "difficulty": 5.0,
        "year": 2015,
        "cs": 4.0,
        "song_length": 90,
        "global_sv": 1.4,
        "mania_keycount": 4,
    }
    np.random.seed(0)
    encoding = processor(
        metadata=metadata, beatmap=map_file, multiply_metadata=True, metadata_dropout_prob=0.5
    )
    assert len({tuple(row) for row in encoding["metadata_ids"].tolist()}) == 3
    assert metadata["difficulty"] == 5.0


def test_merged_metadata() -> None:
    assert merge_metadata_dicts(None, {"year": 1}) == {"year": 1}
    assert merge_metadata_dicts({"year": 1}, None) == {"year": 1}
    merged = merge_metadata_dicts({"year": 1, "cs": None}, {"year": 2, "cs": 0.0})
    assert merged is not None
    assert (merged["year"], merged["cs"], merged["tags"]) == (1, 0.0, None)


class Null:
    """A null value as that of pandas: nothing about it is true or false."""

    def __ne__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise TypeError("boolean value of NA is ambiguous")

    __hash__ = None  # type: ignore[assignment]


def test_null_columns_are_unknown() -> None:
    columns = ("ModeInt", "Cs", "StarRating", "SubmittedDate", "Status", "UserId", "TopTagIds")
    for null in (None, float("nan"), Null()):
        metadata = get_metadata(dict.fromkeys(columns, null))
        assert {name for name, value in metadata.items() if value is not None} == {"song_length"}
    metadata = get_metadata(
        {"StarRating": [1.0] * 6 + [None], "TopTagIds": [3, None], "SubmittedDate": "soon"}, speed=2.0
    )
    assert tuple(map(metadata.get, ("difficulty", "tags", "year"))) == (None, [3], None)
    assert get_metadata({"SubmittedDate": np.datetime64("2016-01-02").item()}).get("year") == 2016


def test_the_auto_class_loads_a_downloaded_directory_without_its_code(tmp_path: Path) -> None:
    from transformers import AutoProcessor

    folder = tmp_path / "downloaded"
    shutil.copytree(GOLDENS / "saved_full", folder)
    (folder / "processing_cm3p.py").write_text("raise SystemExit('code of a model directory was executed')")
    assert type(AutoProcessor.from_pretrained(folder)) is CM3PProcessor


def test_options_of_ours_are_stored(tmp_path: Path) -> None:
    processor = make_processor(apply_speed_to_audio=True)
    processor.default_kwargs["beatmap_kwargs"]["max_windows"] = 7
    processor.beatmap_parser = CM3PBeatmapParser(mania_columns=True)
    processor.save_pretrained(tmp_path)
    loaded = CM3PProcessor.from_pretrained(tmp_path)
    assert loaded.apply_speed_to_audio
    assert loaded.default_kwargs == processor.default_kwargs
    assert loaded.beatmap_parser.options == processor.beatmap_parser.options
    assert loaded.metadata_tokenizer.numpy_integers
    assert loaded.metadata_tokenizer.get_vocab() == processor.metadata_tokenizer.get_vocab()


def test_names_of_the_original() -> None:
    import cm3p
    from cm3p import parsing_cm3p, processing_cm3p, tokenization_cm3p

    assert cm3p.CM3PProcessor is processing_cm3p.CM3PProcessor is CM3PProcessor
    assert parsing_cm3p.load_beatmap(Beatmap()) == Beatmap()
    assert tokenization_cm3p.CM3PMetadataTokenizer is CM3PMetadataTokenizer
