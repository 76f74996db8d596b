"""The page on which two files run side by side: what is refused, what it serves, how it judges."""

import json
import socket
import urllib.error
import urllib.request

import numpy as np
import pytest

import tfprune


@pytest.fixture
def packages(tmp_path):
    """A folder that looks like an installation of LiteRT.js."""
    for name in (
        *("core/dist/index.js", "core/wasm/litert_wasm_internal.wasm"),
        *("wasm-utils/dist/index.js", "core/package.json"),
    ):
        file = tmp_path / "node_modules" / "@litertjs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"version": "2.5.3"}')
    return tmp_path


def kernel(seed):
    """Return the matrix of the files "one" (seed 0) and "other" (seed 1)."""
    return np.random.default_rng(seed).standard_normal((256, 1024)).astype("float32")


def test_the_page_hears_whether_each_file_is_right_and_both_agree(made, packages):
    with tfprune.demo_page(made["one"], made["other"], litertjs=packages) as page:
        base = page.url.removesuffix("demo.html")

        def call(path, body=None):
            with urllib.request.urlopen(base + path, body) as reply:
                return reply.read()

        assert b"demo.js" in call("demo.html")
        about = json.loads(call("about"))
        assert [file["name"] for file in about["files"]] == ["one.tflite", "other.tflite"]
        assert about["runs"] == 100
        x = np.frombuffer(call("files/0/input/0"), "float32")
        assert call("files/1/input/0") == x.tobytes()  # the same for both
        answers = [np.maximum(x @ kernel(seed), 0) for seed in (0, 1)]
        found = json.dumps([[{"name": "y", "dtype": "float32"}]] * 2).encode()

        def judge(*outputs):
            for index, values in enumerate(outputs):
                call(f"files/{index}/output/0", values.tobytes())
            return json.loads(call("agreement", found))

        judged = judge(*answers)
        assert [one["agrees"] for one in judged["files"]] == [True, True]
        assert judged["between"]["agrees"] is False  # other weights
        largest = np.abs(answers[0] - answers[1]).max() / np.abs(answers[0]).max()
        assert judged["between"]["error"] == pytest.approx(largest, rel=1e-5)
        judged = judge(answers[0], answers[0])
        assert [one["agrees"] for one in judged["files"]] == [True, False]
        assert (judged["between"]["agrees"], judged["between"]["error"]) == (True, 0)
        judged = judge(answers[0], answers[0] * np.float32("nan"))
        assert judged["between"] == {"error": None, "agrees": False, "limit": 5e-5}
        for path in ("files/2/model", "files/0/input/1", "files/0/../../secret", "demo.py"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                call(path)
    with pytest.raises(urllib.error.URLError):
        call("about")


@pytest.mark.parametrize(
    ("names", "options", "error", "said"),
    [
        (("one", "tokens"), {}, ValueError, "free axes"),
        (("one", "int8"), {}, ValueError, "same inputs.*Received: float32 1x256 and int8 1x256"),
        (("int8", "int8"), {}, ValueError, "cannot run in a browser.*of int8"),
        (("one", "cut"), {}, ValueError, "damaged or cut short"),
        (("one", "one"), {"runs": 0}, ValueError, "`runs` must be 1 or more. Received: runs=0"),
        (("one", "one"), {"threads": 1.5}, TypeError, "`threads` must be a whole number"),
        (("one", "one"), {"port": 65536}, ValueError, "`port` must be 65535 or less"),
    ],
)
def test_what_is_refused(made, packages, names, options, error, said):
    with pytest.raises(error, match=said):
        tfprune.demo_page(*(made[name] for name in names), litertjs=packages, **options)


def test_a_port_that_is_taken(made, packages):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            tfprune.demo_page(made["one"], made["one"], litertjs=packages, port=port)
