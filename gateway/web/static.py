"""Style sheets, scripts and pictures: read once at start, named one by one.

Only files known at start can be asked for, so no path leads anywhere else.
"""

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

from aiohttp import hdrs, web

from gateway.errors import NotFound
from gateway.web.routes import Route, public

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".webmanifest": "application/manifest+json",
}
_FROM_HTMX = {"htmx.min.js": "htmx.min.js", "sse.js": "ext/sse.js"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    content: bytes
    packed: bytes  # the same, gzipped
    etag: str
    content_type: str


def load() -> Mapping[str, Asset]:
    """Every asset by its name in `/static/`."""
    assets = dict(_folder(files("templates") / "static"))
    htmx = files("js_lib_htmx") / "static" / "htmx"
    for name, path in _FROM_HTMX.items():
        assets[name] = _asset(name, htmx.joinpath(*path.split("/")).read_bytes())
    return assets


def _folder(folder: Traversable) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        if entry.is_file() and _suffix(entry.name) in TYPES:
            yield entry.name, _asset(entry.name, entry.read_bytes())


def _suffix(name: str) -> str:
    return name[name.rfind(".") :]


def _asset(name: str, content: bytes) -> Asset:
    return Asset(
        content=content,
        packed=gzip.compress(content, mtime=0),
        etag=f'"{hashlib.sha256(content).hexdigest()[:20]}"',
        content_type=TYPES[_suffix(name)],
    )


def routes(assets: Mapping[str, Asset]) -> tuple[Route, ...]:
    async def serve(request: web.Request) -> web.Response:
        asset = assets.get(request.match_info["name"])
        if asset is None:
            raise NotFound
        # Pages name files without a version, so each use is checked: a 304 mostly.
        headers = {
            hdrs.CACHE_CONTROL: "no-cache",
            hdrs.ETAG: asset.etag,
            hdrs.CONTENT_TYPE: asset.content_type,
            hdrs.VARY: hdrs.ACCEPT_ENCODING,
        }
        if asset.etag in request.headers.get(hdrs.IF_NONE_MATCH, ""):
            return web.Response(status=304, headers=headers)
        if "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, ""):
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            return web.Response(body=asset.packed, headers=headers)
        return web.Response(body=asset.content, headers=headers)

    return (public("GET", "/static/{name}", serve),)
