"""What happens to files: they are cut short, bits flip, values change, keys go."""

import io
import json
import random
import zipfile

EXTREMES = (b"\x00" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00")
ODD = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 0.5, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "a", "0.5", "\x00", "é\ud800", [], [[]], {}, {"a": 1}),
    *([1, 2, 3], ["a"], "x" * 5000, "../../x", "[red]", "{}", "%s"),
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return bytes cut short, with flipped bits, or with a part lost, doubled or written over."""
    where = rng.randrange(len(content))
    match rng.randrange(8):
        case 0:
            return content[:where]
        case 1:
            return content[:where] + content[where + rng.choice((1, 4, 64)) :]
        case 2:
            return (
                content[:where] + content[where : where + rng.choice((1, 4, 64))] + content[where:]
            )
        case 3:
            where -= where % 4
            return content[:where] + rng.choice(EXTREMES) + content[where + 4 :]
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 32))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def changed_archive(content: bytes, rng: random.Random) -> bytes:
    """Return a `.keras` file with another member in it, whole as an archive; or any damage."""
    kind = rng.choice(("bytes", "config.json", "metadata.json", "model.weights.h5"))
    if kind == "bytes":
        return damaged(content, rng)
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as there, zipfile.ZipFile(written, "w") as here:
        for name in there.namelist():
            part = there.read(name)
            if name == kind:
                part = (damaged if name.endswith("h5") else changed_json)(part, rng)
            here.writestr(name, part)
    return written.getvalue()


def changed_json(content: bytes, rng: random.Random) -> bytes:
    """Return JSON in which values are others, or gone; now and then damaged as any bytes are."""
    if rng.random() < 0.2:
        return damaged(content, rng)
    root = [json.loads(content)]
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = [(root, 0), *_places(root[0])]
        holder, key = rng.choice(places)
        if holder is root or rng.random() < 0.7:
            holder[key] = _odd(rng)
        elif isinstance(holder, dict) and rng.random() < 0.3:
            holder[str(key) + "_"] = holder[key]
        else:
            del holder[key]
    return json.dumps(root[0]).encode()


def _places(value):
    """Yield (holder, key) of everything in lists and mappings."""
    if not isinstance(value, (dict, list)):
        return
    for key, part in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        yield from _places(part)


def _odd(rng):
    value = rng.choice(ODD)
    return json.loads(json.dumps(value)) if isinstance(value, (list, dict)) else value


def changed_text(content: bytes, rng: random.Random) -> bytes:
    """Return text in which words are others; now and then damaged as any bytes are."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    words = content.decode().split(" ")
    for _ in range(rng.choice((1, 1, 2, 4))):
        where = rng.randrange(len(words))
        odd = rng.choice(ODD)
        words[where] = rng.choice(
            (
                str(odd),
                json.dumps(odd),
                "",
                "&a",
                "*a",
                "!!python/name:os.system",
                "? ",
                "- ",
                "|",
                "\n",
            )
        )
    return " ".join(words).encode("utf-8", "replace")
