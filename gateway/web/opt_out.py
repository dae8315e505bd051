"""`/o/{token}`: where a member stops notices without any account.

A GET only shows the page, since mail scanners open links; the POST acts, also the
one-click POST of mail programs (RFC 8058), which carries no cookie and no form token.
"""

from aiohttp import web

from gateway import addresses, tokens
from gateway.contract import Address
from gateway.database import transaction
from gateway.members import consent
from gateway.tables import AddressRow, OptOutRow
from gateway.web.keys import CORE
from gateway.web.pages import render
from gateway.web.routes import public, secret


async def _address(request: web.Request) -> Address | None:
    key = request.app[CORE].keys.derive("opt-out")
    id = tokens.verify(key, "opt-out", request.match_info["token"])
    row = None if id is None else await AddressRow.get_or_none(id=id)
    return None if row is None else consent.address_of(row)


async def show(request: web.Request) -> web.StreamResponse:
    return await _page(request, await _address(request))


async def _page(
    request: web.Request, address: Address | None, *, resumed: bool = False
) -> web.Response:
    if address is None:
        return await _dead_end(request)
    stopped = await OptOutRow.filter(
        kind=address.kind, value=address.value, ended_at__isnull=True
    ).exists()
    return await render(
        request,
        "opt_out.html",
        path=f"/o/{request.match_info['token']}",
        address=addresses.mask(address),
        stopped=stopped,
        resumed=resumed,
        centre=request.app[CORE].settings.centre.name,
    )


async def _dead_end(request: web.Request) -> web.Response:
    """A mangled link, or an address that is erased: a member has no console to go
    back to, and still wants to opt out."""
    centre = request.app[CORE].settings.centre.name
    return await render(request, "opt_out.html", status=404, address="", centre=centre)


async def stop(request: web.Request) -> web.StreamResponse:
    address = await _address(request)
    if address is not None:
        async with transaction():
            await consent.opt_out(
                request.app[CORE], address, how="page", evidence="/o/ POST"
            )
    return await _page(request, address)


async def resume(request: web.Request) -> web.StreamResponse:
    address = await _address(request)
    if address is not None:
        async with transaction():
            await consent.resume(request.app[CORE], address, how="page")
    return await _page(request, address, resumed=True)


ROUTES = (
    public("GET", "/o/{token}", show),
    secret("POST", "/o/{token}", stop),
    secret("POST", "/o/{token}/resume", resume),
)
