"""LiteRT.js in a browser: the protocol with a played browser, and the real one where it is."""

import os
import pathlib
import sys
import textwrap

import numpy as np
import pytest

import tfprune
from tfprune.benchmarking import BenchmarkFailure, MissingTool, litertjs
from tfprune.benchmarking.failures import FileFailure
from tfprune.benchmarking.inputs import seeded_inputs
from tfprune.benchmarking.model import read_model
from tfprune.benchmarking.wasm import PageRunner, _browser_version, find_browser

# Does what page.js does, with numpy for LiteRT.js: the ReLU of the inputs times a matrix.
BROWSER = """
    import json, sys, threading, time, urllib.request
    sys.path[:0] = {path!r}
    import numpy as np
    base = sys.argv[-1].rsplit("/", 1)[0]
    def call(path, body=None):
        return urllib.request.urlopen(base + "/" + path, body)
    assert b"importmap" in call("page.html").read()
    assert b"litert.js" in call("page.js").read()
    assert b"loadAndCompile" in call("litert.js").read()
    assert call("node_modules/@litertjs/core/dist/index.js").headers["Content-Type"]
    alive = call("alive")
    kernel = np.random.default_rng(0).standard_normal((256, 1024)).astype("float32")
    while True:
        ask = json.loads(call("next").read())
        if ask["do"] == "wait":
            continue
        reply = {{}}
        {special}
        if ask["do"] == "start":
            reply = {{"agent": "Mozilla/5.0 HeadlessChrome/143.0 Safari/5"}}
        elif ask["do"] == "load":
            assert call("model").read()[4:8] == b"TFL3"
            x = np.frombuffer(call("input/0").read(), "float32").reshape(1, 256)
            call("output/0", np.maximum(x @ kernel, 0).tobytes())
            [one] = ask["inputs"]
            assert (one["dtype"], one["shape"]) == ("float32", [1, 256])
            outputs = [{{"name": "y", "dtype": "float32"}}]
            reply = {{"load_ms": 5, "first_ms": 6, "outputs": outputs}}
        elif ask["do"] == "run":
            reply = {{"ms": [3.0] * ask["count"]}}
        elif ask["do"] == "memory":
            reply = {{"bytes": 4096}}
        call("answer", json.dumps(reply).encode())
"""


@pytest.fixture
def packages(tmp_path):
    """A folder that looks like an installation of LiteRT.js."""
    for name in (
        *("core/dist/index.js", "core/wasm/litert_wasm_internal.wasm"),
        "wasm-utils/dist/index.js",
    ):
        file = tmp_path / "litertjs" / "node_modules" / "@litertjs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("// empty")
    package = tmp_path / "litertjs" / "node_modules" / "@litertjs" / "core" / "package.json"
    package.write_text('{"version": "2.5.3"}')
    return tmp_path / "litertjs"


@pytest.fixture
def play(tmp_path):
    """Return a function that writes a browser with something special to do."""

    def write(special="pass"):
        script = tmp_path / "browser"
        code = textwrap.dedent(BROWSER).format(path=sys.path, special=special)
        script.write_text(f"#!{sys.executable} -S\n{code}")
        script.chmod(0o755)
        return script

    return write


def test_figures_of_the_browser(made, packages, play):
    done = tfprune.benchmark(
        [made["one"], made["one"]], "wasm", runs=20, litertjs=packages, browser=play()
    )
    for file in done.files:
        assert (file.median_ms, file.load_ms, file.first_ms) == (3, 5, 6)
        assert (file.peak_memory_bytes, file.speedup, file.runs) == (4096, 1, 20)
        assert file.max_rel_error < 5e-5
    assert done.versions["browser"] == "Chrome/143.0"
    assert done.versions["@litertjs/core"] == "2.5.3"
    assert "LiteRT.js 2.5.3 in browser: 20 runs, 1 thread" in str(done)


@pytest.mark.parametrize(
    ("special", "said"),
    [
        ("sys.exit('no display')", r"the browser ended \(exit code 1\): no display"),
        ("alive.close(); time.sleep(60)", "the page crashed"),
        ("call('answer', b'{\"error\": \"no kernel\"}'); continue", "failed: no kernel"),
    ],
)
def test_a_browser_that_breaks(made, packages, play, special, said):
    browser = play(f"if ask['do'] == 'run': {special}")
    with pytest.raises(BenchmarkFailure, match=said):
        tfprune.benchmark(made["one"], "wasm", runs=5, litertjs=packages, browser=browser)


def test_a_page_that_hangs_is_given_up(made, packages, play):
    model = read_model(made["one"])
    browser = find_browser(packages, play("if ask['do'] == 'run': time.sleep(60)"), print)
    runner = PageRunner(browser, model, seeded_inputs(model), 1, 2.0)
    try:
        runner.load()
        with pytest.raises(FileFailure, match="did not end within 2 seconds"):
            runner.run(1)
        assert runner._process.returncode == -9
    finally:
        runner.close()


def test_the_server_gives_nothing_else_away(made, packages, play, tmp_path):
    import urllib.error
    import urllib.request

    from tfprune.benchmarking.server import PageServer

    (tmp_path / "secret.js").write_text("secret")
    (packages / "node_modules" / "link.js").symlink_to(tmp_path / "secret.js")
    server = PageServer(packages / "node_modules", b"model", [b"input"])
    try:
        base = server.url.rsplit("/", 1)[0]
        assert urllib.request.urlopen(f"{base}/model").read() == b"model"
        reply = urllib.request.urlopen(f"{base}/page.js")
        assert reply.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert reply.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        root = base.rsplit("/", 1)[0]
        for path in (
            *(f"{root}/model", f"{root}/wrong/model", f"{base}/worker.py", f"{base}/none.js"),
            *(f"{base}/node_modules/link.js", f"{base}/node_modules/../../secret.js", f"{base}/"),
            f"{base}/node_modules/%2e%2e/%2e%2e/secret.js",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(path)
    finally:
        server.close()


def test_no_browser(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(litertjs, "_APPLICATIONS", ())
    monkeypatch.delenv("TFPRUNE_CHROMIUM", raising=False)
    with pytest.raises(MissingTool, match=r"apt install chromium.*TFPRUNE_CHROMIUM.*Received: "):
        tfprune.benchmark(made["one"], "wasm")
    monkeypatch.setenv("TFPRUNE_CHROMIUM", str(tmp_path / "chrome"))
    with pytest.raises(MissingTool, match="cannot be run"):
        tfprune.benchmark(made["one"], "wasm")


@pytest.fixture
def no_package(tmp_path, monkeypatch):
    """An empty cache, and only the programs that the test puts into a folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TFPRUNE_LITERTJS", raising=False)
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def write(name, code):
        script = programs / name
        script.write_text(f"#!{sys.executable} -S\n{textwrap.dedent(code)}")
        script.chmod(0o755)

    return write


NPM = """
    import pathlib, sys
    words = sys.argv[1:]
    folder = pathlib.Path(words[words.index("--prefix") + 1])
    assert words[-1] == "@litertjs/core@2.5.3" and "--ignore-scripts" in words
    for name in ("core/package.json", "core/dist/index.js", "core/wasm/litert_wasm_internal.wasm",
                 "wasm-utils/dist/index.js"):
        file = folder / "node_modules" / "@litertjs" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text('{"version": "2.5.3"}')
"""


def test_neither_node_nor_npm(no_package):
    with pytest.raises(MissingTool, match=r"`npm` was not found.*apt install nodejs npm.*TFPRUNE"):
        litertjs.find_packages(None, print)
    no_package("npm", "")
    with pytest.raises(MissingTool, match="`node` was not found"):
        litertjs.find_packages(None, print)


def test_npm_installs_once(no_package, tmp_path):
    no_package("npm", NPM)
    no_package("node", "")
    told = []
    home = tmp_path / "cache" / "tfprune" / "litertjs-2.5.3"
    assert litertjs.find_packages(None, told.append) == home / "node_modules"
    assert litertjs.package_version(home / "node_modules") == "2.5.3"
    assert [path.name for path in home.parent.iterdir()] == ["litertjs-2.5.3"]
    no_package("npm", "raise SystemExit('called again')")
    assert litertjs.find_packages(None, told.append) == home / "node_modules"
    assert len(told) == 1


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise SystemExit('npm error network ENOTFOUND')", "Received: npm error network"),
        ("", "Received: exit code 0"),  # and no package
    ],
)
def test_npm_fails_and_leaves_nothing(no_package, tmp_path, code, said):
    no_package("npm", code)
    no_package("node", "")
    with pytest.raises(MissingTool, match=said):
        litertjs.find_packages(None, print)
    assert list((tmp_path / "cache" / "tfprune").iterdir()) == []


def test_half_an_installation_is_done_again(no_package, tmp_path):
    no_package("npm", NPM)
    no_package("node", "")
    half = tmp_path / "cache" / "tfprune" / "litertjs-2.5.3" / "node_modules" / "@litertjs"
    half.mkdir(parents=True)
    assert litertjs.find_packages(None, print) == half.parent
    assert (half / "core" / "package.json").is_file()


def test_a_folder_of_ones_own(packages, monkeypatch, tmp_path):
    assert litertjs.find_packages(packages, print) == packages / "node_modules"
    assert litertjs.find_packages(packages / "node_modules", print) == packages / "node_modules"
    monkeypatch.setenv("TFPRUNE_LITERTJS", str(packages))
    assert litertjs.find_packages(None, print) == packages / "node_modules"
    with pytest.raises(FileNotFoundError, match=r"npm install @litertjs/core.*Received: "):
        litertjs.find_packages(tmp_path / "none", print)


def test_browser_versions():
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 HeadlessChrome/143.0.0.0 Safari/5"
    assert _browser_version(agent) == "Chrome/143.0.0.0"


@pytest.fixture(scope="session")
def real():
    """The real browser of this machine."""
    try:
        return find_browser(None, None, print)
    except MissingTool as error:
        pytest.skip(f"LITERT.JS IS NOT TESTED HERE: {error}")


@pytest.mark.slow
def test_litertjs_itself(real, made):
    del real
    names = ("one", "free_batch", "int8", "one")
    done = tfprune.benchmark([made[name] for name in names], "wasm", runs=10)
    one, free, int8, again = done.files
    assert "float32, int32, uint8 only" in int8.failure
    for file in (one, free, again):
        assert file.failure is None
        assert file.max_rel_error <= 5e-5
        assert file.runs == 10
        assert 0 < file.median_ms < 1000
        # a matrix of 1 MiB, which is loaded and may be packed once more
        assert 2**20 <= file.peak_memory_bytes < 16 * 2**20
    assert done.versions["browser"].startswith("Chrome/")


@pytest.mark.slow
def test_litertjs_with_a_signature_a_shape_it_cannot_take_and_threads(real, made):
    del real
    done = tfprune.benchmark(made["two"], "wasm", runs=5, signature="triple", threads=2)
    assert done.files[0].max_rel_error <= 5e-5
    with pytest.raises(BenchmarkFailure, match="cannot resize inputs: 'x'"):
        tfprune.benchmark(made["free_batch"], "wasm", runs=5, shapes={"x": (3, 256)})


@pytest.mark.slow
@pytest.mark.skipif(not pathlib.Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_page_that_dies_is_noticed(real, made):
    model = read_model(made["one"])
    runner = PageRunner(real, model, seeded_inputs(model), 1, 60.0)
    try:
        [output] = runner.load().outputs
        assert np.isfinite(output).all()
        for pid in _renderers(runner._process.pid):
            os.kill(pid, 9)
        with pytest.raises(FileFailure, match=r"the page crashed|did not end"):
            runner.run(1)
    finally:
        runner.close()


def _renderers(session):
    """Return the processes that show pages, of the browser that leads this session."""
    found = []
    for folder in pathlib.Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                same = os.getsid(int(folder.name)) == session
                command = (folder / "cmdline").read_bytes()
            except OSError:  # it has ended
                continue
            if same and b"--type=renderer" in command:
                found.append(int(folder.name))
    return found
