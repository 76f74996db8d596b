"""Where LiteRT.js and a browser are on this machine, or how to get them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from tfprune.benchmarking.failures import MissingTool

VERSION = "2.5.3"
"""Of `@litertjs/core`: a fixed one, so that figures of two days can be compared."""
PACKAGE_VARIABLE = "TFPRUNE_LITERTJS"
BROWSER_VARIABLE = "TFPRUNE_CHROMIUM"
_BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"),
    *("microsoft-edge", "msedge"),
)
_APPLICATIONS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
_INSTALL_SECONDS = 600


def find_packages(folder: str | os.PathLike | None, tell: Callable[[str], None]) -> pathlib.Path:
    """Return the `node_modules` folder with `@litertjs/core`; npm installs it if need be.

    Args:
        folder: where it was installed; None for the environment variable TFPRUNE_LITERTJS, or the
            cache of this user, which is filled on first use.
        tell: called before something is downloaded.

    Raises:
        MissingTool: npm is not there, or fails.
        FileNotFoundError: the given folder does not hold the package.
    """
    given = folder if folder is not None else os.environ.get(PACKAGE_VARIABLE)
    if given:
        for modules in (pathlib.Path(given, "node_modules"), pathlib.Path(given)):
            if _is_whole(modules):
                return modules
        raise FileNotFoundError(
            f"There is no LiteRT.js in {str(given)!r}: a folder is expected in which "
            f"`npm install @litertjs/core@{VERSION}` was run. Received: "
            + (f"litertjs={str(folder)!r}" if folder is not None else f"{PACKAGE_VARIABLE}={given}")
        )
    home = cache() / f"litertjs-{VERSION}"
    if not _is_whole(home / "node_modules"):
        tell(f"installing LiteRT.js {VERSION} into {home} with npm, once")
        _install(home)
    return home / "node_modules"


def cache() -> pathlib.Path:
    """Return the folder in which tfprune keeps what it downloads for this user."""
    root = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(root, "tfprune")


def find_browser_program(path: str | os.PathLike | None) -> str:
    """Return the path of Chromium, or of a browser made from it.

    Args:
        path: given by the user; None for the variable TFPRUNE_CHROMIUM, or the usual names.

    Raises:
        MissingTool: there is none.
    """
    given = path if path is not None else os.environ.get(BROWSER_VARIABLE)
    if given:
        found = shutil.which(os.fspath(given))
        if found is None:
            raise MissingTool(
                f"The browser {os.fspath(given)!r} cannot be run: give the path of Chromium or "
                f"Chrome, or none to search for it. {_BROWSER_HELP} "
                f"Received: {os.fspath(given)!r}"
            )
        return found
    for name in (*_BROWSERS, *_APPLICATIONS):
        found = shutil.which(name)
        if found is not None:
            return found
    raise MissingTool(
        "`runtime='wasm'` needs Chromium or Chrome, and none was found. "
        f"{_BROWSER_HELP} Received: none of {', '.join(_BROWSERS)} on PATH"
    )


_BROWSER_HELP = (
    "On Debian and Ubuntu: `sudo apt install chromium`; elsewhere: https://www.chromium.org or "
    f"https://www.google.com/chrome. One in another place is named by {BROWSER_VARIABLE} or "
    "`browser=`."
)
_NODE_HELP = (
    "On Debian and Ubuntu: `sudo apt install nodejs npm`; elsewhere: https://nodejs.org. Without "
    f"a network, run `npm install @litertjs/core@{VERSION}` on another machine, copy that folder, "
    f"and name it in {PACKAGE_VARIABLE} or `litertjs=`."
)


def _is_whole(modules: pathlib.Path) -> bool:
    package = modules / "@litertjs" / "core"
    wanted = (
        package / "package.json",
        package / "dist" / "index.js",
        package / "wasm" / "litert_wasm_internal.wasm",
        modules / "@litertjs" / "wasm-utils" / "dist" / "index.js",
    )
    return all(file.is_file() for file in wanted)


def package_version(modules: pathlib.Path) -> str:
    """Return the version of the installed `@litertjs/core`."""
    text = (modules / "@litertjs" / "core" / "package.json").read_text("utf-8")
    return str(json.loads(text)["version"])


def _install(home: pathlib.Path) -> None:
    """Install beside the final place and rename, so that half an installation is never seen."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        missing = "npm" if npm is None else "node"
        raise MissingTool(
            "`runtime='wasm'` needs LiteRT.js, which npm installs once, and "
            f"`{missing}` was not found. {_NODE_HELP} Received: no `{missing}` on PATH"
        )
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent, prefix=".litertjs-") as folder:
        command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        command += ["--prefix", folder, f"@litertjs/core@{VERSION}"]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                cwd=folder,
                timeout=_INSTALL_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MissingTool(
                f"npm did not install @litertjs/core within {_INSTALL_SECONDS} seconds. "
                f"{_NODE_HELP} Received: `{' '.join(command)}`"
            ) from None
        modules = pathlib.Path(folder, "node_modules")
        if done.returncode or not _is_whole(modules):
            lines = [line for line in done.stderr.splitlines() if "npm warn" not in line.lower()]
            raise MissingTool(
                f"npm could not install @litertjs/core@{VERSION}. {_NODE_HELP} "
                f"Received: {' '.join(lines[:3]) or f'exit code {done.returncode}'}"
            )
        home.mkdir(exist_ok=True)
        if not _is_whole(home / "node_modules"):
            shutil.rmtree(home / "node_modules", ignore_errors=True)
            os.replace(modules, home / "node_modules")


def needs_no_sandbox() -> bool:
    """Tell whether Chromium must run without its sandbox: as root, and in most containers.

    It only ever loads the page that tfprune serves on this machine.
    """
    return sys.platform == "linux"
