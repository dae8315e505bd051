"""A trivial aiohttp handler: reads the body, answers a constant. The limit of HTTP."""

import argparse
import asyncio
import sys

import uvloop
from aiohttp import web

REPLY = b'{"result":0,"errmsg":"OK"}'


async def answer(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(body=REPLY, content_type="application/json")


async def serve() -> None:
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    sys.stdout.write(f"listening on {host}:{port}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(serve())


if __name__ == "__main__":
    main()
