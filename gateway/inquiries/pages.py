"""All pages of the desk, and what the navigation counts of it."""

from collections.abc import Mapping

from gateway.actors import Actor
from gateway.inquiries import act_pages, counter_pages, queries, stream_pages
from gateway.inquiries.stream_pages import shown


async def count(actor: Actor) -> Mapping[str, int | str]:
    """For the navigation (`app[COUNTS]`): what waits for an answer."""
    return {"inquiries": shown(await queries.open_count(actor))}


ROUTES = (*counter_pages.ROUTES, *stream_pages.ROUTES, *act_pages.ROUTES)
