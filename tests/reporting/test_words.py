import pytest

from pipeline.reporting import words


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (words.whole(12300000), "12,300,000"),
        (words.about(999_499), "999,499"),
        (words.about(12_345_678), "12.3 million"),
        (words.about(999_600_000), "1 billion"),
        (words.about(2.5e12), "2.5 trillion"),
        (words.size(0), "0 B"),
        (words.size(999), "999 B"),
        (words.size(7_654_321), "7.3 MiB"),
        (words.size(1023 << 20), "1.0 GiB"),
        (words.size(3 << 50), "3.0 PiB"),
        (words.size(4096 << 50), "4096 PiB"),
        (words.duration(0), "0.0 s"),
        (words.duration(0.01), "under 0.1 s"),
        (words.duration(9.94), "9.9 s"),
        (words.duration(42.4), "42 s"),
        (words.duration(725), "12 min 05 s"),
        (words.duration(12_000), "3 h 20 min"),
        (words.percent(0), "0 %"),
        (words.percent(0.0731), "7.3 %"),
        (words.percent(0.915), "92 %"),
        (words.percent(1), "100 %"),
        (words.ratio(None), "–"),
        (words.ratio(0.98765), "0.988"),
        (words.date("2026-05-03T14:05:00+02:00"), "3 May 2026, 12:05 UTC"),
        (words.date("soon"), "soon"),
        (words.date(None), "–"),
        (words.seconds_between("2026-05-03T14:05:00+00:00", "2026-05-03T15:05:00+00:00"), 3600.0),
        (words.seconds_between("2026-05-03T14:05:00+00:00", None), None),
        (words.symbol("micrometer"), "µm"),
        (words.symbol("parsec"), "parsec"),
        (words.symbol(None), "voxels"),
        (words.by([3000, 4100]), "3,000 × 4,100"),
        (words.by((0.5, 4.0)), "0.5 × 4"),
    ],
)
def test_numbers_as_people_read_them(found, expected):
    assert (found.replace(words.NO_BREAK, " ") if isinstance(found, str) else found) == expected


@pytest.mark.parametrize(
    ("most", "length"), [(1, 1), (1.9, 1), (2, 2), (4.99, 2), (5, 5), (730, 500), (0.03, 0.02)]
)
def test_round_lengths(most, length):
    assert words.round_length(most) == pytest.approx(length)
