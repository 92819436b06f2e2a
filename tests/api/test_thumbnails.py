"""The thumbnails that a process remembers."""

from api.thumbnails import Thumbnails


def test_those_that_were_sent_the_longest_ago_are_forgotten():
    thumbnails = Thumbnails(kept=2)
    for key in ("a", "b"):
        thumbnails.keep(key, key.encode())
    assert thumbnails.get("a") == b"a"
    thumbnails.keep("c", b"c")
    assert [thumbnails.get(key) for key in "abc"] == [b"a", None, b"c"]
