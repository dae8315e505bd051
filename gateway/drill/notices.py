"""A notice to everybody, as two people bring it on its way over the API."""

from gateway.drill.site import Api, Site

TEXT = "{{name}}同志，明天上午九点在镇政府三楼会议室开会，请带笔记本，勿迟到。"


async def approved(site: Site, api: Api, name: str) -> int:
    """Written by one, approved by another; its id. `name` is another each time."""
    notice = {
        "kind": "notice",
        "title": f"演练 {name}",
        "texts": {"default": TEXT},
        "audience": {"type": "organisation", "code": "0"},
        "confirmed": True,
    }
    made = await api.call("POST", "/broadcasts", site.writer, notice, name)
    approval = {"hash": made["hash"], "confirmed": True}
    path = f"/broadcasts/{made['id']}"
    await api.call("POST", f"{path}/approve", site.approver, approval, f"ok-{name}")
    return int(made["id"])


async def press_start(site: Site, api: Api, id: int) -> None:
    """Again until it is answered: a second press starts no second run."""
    await api.call("POST", f"/broadcasts/{id}/start", site.writer, {})
