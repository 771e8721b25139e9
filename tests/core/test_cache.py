"""The persistent JSON cache."""

import subprocess
import sys

import pytest

from neva_tl.core.cache import JsonCache, content_key
from neva_tl.core.errors import InputError


def test_what_was_put_is_found_again_after_reopening(tmp_path):
    cache = JsonCache(tmp_path / "deep" / "kept.sqlite")
    cache.put_many({"a": {"x": [1, None, "é"]}, "b": 2.5})
    cache.put("a", "newer")
    cache.close()
    again = JsonCache(tmp_path / "deep" / "kept.sqlite")
    assert again.get_many(["a", "b", "c", "a"]) == {"a": "newer", "b": 2.5}
    assert again.get("c") is None and len(again) == 2


def test_more_keys_than_one_query_takes(tmp_path):
    cache = JsonCache(None)
    cache.put_many({str(i): i for i in range(3000)})
    assert cache.get_many(str(i) for i in range(3000)) == {str(i): i for i in range(3000)}


def test_what_was_put_survives_a_killed_process(tmp_path):
    code = (
        "import os, signal, sys\nfrom neva_tl.core.cache import JsonCache\n"
        "cache = JsonCache(sys.argv[1])\ncache.put('a', 1)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "k")])
    assert done.returncode == -9
    assert JsonCache(tmp_path / "k").get("a") == 1


def test_a_file_that_is_no_cache_is_refused(tmp_path):
    (tmp_path / "x").write_text("not a database, and long enough to be read as a header" * 9)
    with pytest.raises(InputError, match="cannot be used as a cache"):
        JsonCache(tmp_path / "x")


def test_nan_is_not_kept_in_silence():
    with pytest.raises(ValueError, match="not JSON compliant"):
        JsonCache(None).put("a", float("nan"))


def test_keys_depend_on_content_alone():
    assert content_key({"a": 1, "b": 2}, "t") == content_key({"b": 2, "a": 1}, "t")
    assert content_key("ab", "c") != content_key("a", "bc")
