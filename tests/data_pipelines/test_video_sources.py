import os
import threading
from contextlib import suppress

import fsspec
import pytest

from data_pipelines.packing import pack_videos
from data_pipelines.video_sources import (
    VideoSource,
    exact,
    find_sources,
    find_videos,
    read_list,
    read_source,
    size_and_time,
    sizes_and_times,
)


def listed(tmp_path, text, name="list.csv"):
    (tmp_path / name).write_text(text)
    return read_list(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "path", "label"),
    [
        ("/data/abc.mp4 7", "/data/abc.mp4", "7"),
        ("/data/a b c.mp4 -1", "/data/a b c.mp4", "-1"),
        ("/data/a b.mp4", "/data/a b.mp4", None),
        ("/data/a b.mp4 brush hair", "/data/a b.mp4 brush hair", None),
        ("/data/a b.mp4 brush", "/data/a b.mp4", "brush"),
        ("/data/a b.mp4::brush hair", "/data/a b.mp4", "brush hair"),
        ("/data/a,b.mp4,3", "/data/a,b.mp4", "3"),
        ("/data/a,b.mp4", "/data/a,b.mp4", None),
    ],
)
def test_a_line_of_an_official_list_is_a_path_and_a_label(tmp_path, line, path, label):
    assert listed(tmp_path, f"{line}\n\n") == [VideoSource(path, label)]


def test_a_table_has_columns_in_any_order_and_others_are_left_alone(tmp_path):
    """Also with all in quotes, as R and csv.QUOTE_ALL write, and with semicolons."""
    quoted = '"path","label"\n"a, b.mp4","x ""y""\nz"\n\n"c.mp4",""\n'
    assert listed(tmp_path, quoted) == [VideoSource("a, b.mp4", 'x "y"\nz'), VideoSource("c.mp4")]
    assert listed(tmp_path, "path;label\na.mp4;3,5\n") == [VideoSource("a.mp4", "3,5")]
    assert listed(tmp_path, "path label\na b.mp4 3\n", "x.txt") == [VideoSource("a b.mp4", "3")]
    assert listed(tmp_path, '"a, b.mp4","3"\n') == [VideoSource("a, b.mp4", "3")]
    text = 'start,label,path,end,fps\n1.5,"brush, hair","a, b.mp4",,10\n,,c.mp4,2,10\n'
    assert listed(tmp_path, text) == [
        VideoSource("a, b.mp4", "brush, hair", 1.5, None),
        VideoSource("c.mp4", None, None, 2.0),
    ]
    assert listed(tmp_path, "label\tpath\n3\ta.mp4\n", "x.tsv") == [VideoSource("a.mp4", "3")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no video"),
        ("path,start\na.mp4,soon\n", r"row 1: 'soon' is no time in seconds"),
        ("path,start\na.mp4,-1\n", r"row 1: '-1' is no time in seconds"),
        ("path,label\n,x\n", "row 1: no path; columns are path, label"),
        ("Path,Label\na.mp4,3\n", r"no column 'path'; columns are Path, Label; name the"),
        ('"video_path","label"\n"a.mp4","3"\n', "no column 'path'; columns are video_path, label"),
        ("filename label\na.mp4 3\n", "no column 'path'; columns are filename, label"),
        ('path,label\n"a.mp4,3\n', "line 2: no CSV: unexpected end of data"),
    ],
)
def test_a_list_that_cannot_be_read_is_said_with_its_row(tmp_path, text, said):
    with pytest.raises(ValueError, match=said):
        listed(tmp_path, text)


def test_paths_are_relative_to_the_list_and_short(tmp_path):
    (tmp_path / "list.csv").write_text(f"v/one/b.mp4 1\n{tmp_path}/v/two/a.mp4 2\n")
    sources = find_sources(tmp_path / "list.csv")
    assert sources.root == str(tmp_path / "v")
    assert sources.videos == (VideoSource("one/b.mp4", "1"), VideoSource("two/a.mp4", "2"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.mp4 1\na.mp4 2\n", r"a\.mp4 is listed twice: label 1, group ''; label 2, group ''"),
        ("a.mp4 1\ns3://bucket/b.mp4 2\n", "names both files and URLs"),
    ],
)
def test_what_cannot_be_packed_together_is_refused(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ValueError, match=said):
        find_sources(tmp_path / "list.csv")


def test_a_place_that_is_no_source_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder and no list of videos at"):
        find_sources(tmp_path / "nowhere")
    (tmp_path / "a.mp4").write_text("x")
    with pytest.raises(ValueError, match=r"a\.mp4 is no list of videos"):
        find_sources(tmp_path / "a.mp4")
    with pytest.raises(ValueError, match="'nothing://' is not read here; known are http"):
        find_sources("nothing://bucket")


@pytest.mark.skipif(
    __import__("importlib.util").util.find_spec("s3fs") is not None, reason="s3fs is installed"
)
def test_a_bucket_whose_package_is_missing_is_one_line():
    with pytest.raises(ImportError, match=r"s3:// needs another package: .*s3fs") as caught:
        find_sources("s3://bucket/videos")
    assert "\n" not in str(caught.value)


def test_a_bucket_is_listed_and_packed_as_a_folder_is(video_folder, tmp_path):
    """A URL of local files goes the way of any bucket: fsspec lists, looks up and reads."""
    url = f"file://{video_folder}"
    sources = find_sources(url)
    assert sources.videos == find_sources(video_folder).videos
    size, modified = size_and_time(url, sources.videos[0].path)
    assert size == (video_folder / sources.videos[0].path).stat().st_size and modified
    of_bucket = pack_videos(url, tmp_path / "1").index
    of_folder = pack_videos(video_folder, tmp_path / "2").index
    assert [shard.sha256 for shard in of_bucket.shards] == [s.sha256 for s in of_folder.shards]
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/videos/a/.hidden.mp4", b"x")
    with pytest.raises(ValueError, match="no video in memory://videos"):
        find_sources("memory://videos")


def test_a_video_of_a_web_server_is_read_in_spite_of_faults(video_folder, web_store):
    store, path = web_store(video_folder), "odd/video03.mp4"
    store.faults = ["500", None, "cut"]
    assert read_source(store.url, path) == (video_folder / path).read_bytes()
    assert size_and_time(store.url, path)[0] == (video_folder / path).stat().st_size
    assert size_and_time(store.url, "none.mp4") == (None, None)
    store.fault_of = lambda request: "403"
    assert size_and_time(store.url, path) == (None, None)


def test_what_cannot_be_looked_up_now_is_not_taken_for_missing(
    video_folder, web_store, monkeypatch
):
    monkeypatch.setattr("data_pipelines.remote_files.time.sleep", lambda seconds: None)
    store = web_store(video_folder)
    store.fault_of = lambda request: "503"
    with pytest.raises(OSError, match=r"status 503 .*given up after 8 attempts"):
        size_and_time(store.url, "odd/video03.mp4")


def test_a_store_is_asked_for_several_sizes_at_a_time_and_once_for_each(video_folder, web_store):
    store = web_store(video_folder)
    paths = sorted(
        path.relative_to(video_folder).as_posix() for path in video_folder.rglob("*.mp4")
    )
    meeting = threading.Barrier(4)  # passes if four requests are there at one time

    def meet(request):
        if request.name != paths[0]:
            with suppress(threading.BrokenBarrierError):
                meeting.wait(10)

    store.fault_of = meet
    found = sizes_and_times(store.url, [*paths[:5], *paths[:5]])
    assert {path: size for path, (size, _) in found.items()} == {
        path: (video_folder / path).stat().st_size for path in paths[:5]
    }
    assert len(store.requests) == 5 and not meeting.broken


def test_a_line_that_comes_again_is_named_and_taken_once(tmp_path):
    (tmp_path / "list.csv").write_text(f"a.mp4 1\nb.mp4 2\n{tmp_path}/a.mp4 1\n")
    sources = find_sources(tmp_path / "list.csv")
    assert [video.path for video in sources.videos] == ["a.mp4", "b.mp4"]
    assert sources.remarks == ("listed twice, taken once: 1 lines, first a.mp4",)


def test_parts_of_a_long_video_have_exact_names(tmp_path):
    """Six digits do not tell 12345.61 from 12345.63."""
    text = "path,start,end\na.mp4,12345.61,12347.02\na.mp4,12345.63,12347.04\na.mp4,0.00001,2\n"
    (tmp_path / "list.csv").write_text(text)
    names = [video.name for video in find_sources(tmp_path / "list.csv").videos]
    assert names == ["a.mp4[0.00001-2]", "a.mp4[12345.61-12347.02]", "a.mp4[12345.63-12347.04]"]


@pytest.mark.parametrize("seconds", [0.0, 10.0, 0.1, 1e-7, 123456789.125, 1e22, 100.0])
def test_exact_numbers_are_read_back_as_they_were(seconds):
    assert float(exact(seconds)) == seconds and "e" not in exact(seconds)
    assert exact(100.0) == "100"


def test_gaps_of_a_parquet_table_are_none_and_whole_floats_are_whole(tmp_path):
    """pandas makes floats of a column of whole numbers with gaps."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    nan = float("nan")
    table = {
        "path": ["a.mp4", "b.mp4", "c.mp4"],
        "label": [1.0, nan, 2.5],
        "start": [0.5, nan, None],
        "group": [7.0, nan, None],
    }
    pq.write_table(pa.table(table), tmp_path / "list.parquet")
    assert read_list(tmp_path / "list.parquet") == [
        VideoSource("a.mp4", "1", 0.5, None, "7"),
        VideoSource("b.mp4"),
        VideoSource("c.mp4", "2.5"),
    ]


needs_links = pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")


@needs_links
def test_linked_folders_are_searched_once_and_rings_are_left(tmp_path):
    far = tmp_path / "disk/cats"
    far.mkdir(parents=True)
    root = tmp_path / "videos"
    (root / "own").mkdir(parents=True)
    for path in (far / "tom.mp4", root / "own/rex.mp4"):
        path.write_bytes(b"x")
    (root / "a_link").symlink_to(far)
    (root / "b_link").symlink_to(far)  # the same videos again
    (root / "a_ring").symlink_to(root)
    (far / "up").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "0_own").symlink_to(root / "own")  # sorts before the real folder, which has the name
    (root / "one.mp4").symlink_to(far / "tom.mp4")
    assert find_videos(root) == ["a_link/tom.mp4", "one.mp4", "own/rex.mp4"]
    assert [video.label for video in find_sources(root).videos] == ["a_link", None, "own"]


def test_files_of_other_types_are_counted(tmp_path, capsys):
    for name in ("a.mp4", "b.MPG", "c.txt", "d.json", "e.JSON", "README", ".hidden.txt"):
        (tmp_path / name).write_bytes(b"x")
    said = "left out: 4 files of other types (.json 2, .txt 1, no extension 1)"
    for place in (tmp_path, f"file://{tmp_path}"):
        sources = find_sources(place)
        assert [video.path for video in sources.videos] == ["a.mp4", "b.MPG"]
        assert sources.remarks == (said,)
    (tmp_path / "a.mp4").unlink()
    (tmp_path / "b.MPG").unlink()
    with pytest.raises(ValueError, match=r"no video in .*; left out: 4 files of other types"):
        find_sources(tmp_path)
