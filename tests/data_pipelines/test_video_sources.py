import fsspec
import pytest

from data_pipelines.packing import pack_videos
from data_pipelines.video_sources import (
    VideoSource,
    find_sources,
    read_list,
    read_source,
    size_and_time,
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
        ("a.mp4 1\na.mp4 2\n", r"a\.mp4 is listed twice"),
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
