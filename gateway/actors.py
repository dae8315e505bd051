"""Who acts, and what each role may do. Pure."""

from dataclasses import dataclass
from enum import StrEnum

from gateway.errors import RequestError


class Role(StrEnum):
    CLERK = "clerk"  # 办事员
    DIRECTOR = "director"  # 主任
    APPROVER = "approver"  # 审批人
    ADMINISTRATOR = "administrator"  # 管理员


class Action(StrEnum):
    """What a route or a service declares that it does."""

    READ = "read"
    WORK = "work"  # answer, register, transfer, close
    EXTEND = "extend"
    BROADCAST = "broadcast"  # draft, submit, start, pause, cancel
    APPROVE = "approve"
    MEMBERS = "members"  # import, edit
    ERASE = "erase"  # a member, for good
    ADMINISTER = "administer"  # staff, channels, organisations
    AUDIT = "audit"


_CLERK = frozenset(
    {Action.READ, Action.WORK, Action.EXTEND, Action.BROADCAST, Action.MEMBERS}
)
GRANTS: dict[Role, frozenset[Action]] = {
    Role.CLERK: _CLERK,
    Role.DIRECTOR: _CLERK | {Action.APPROVE, Action.AUDIT, Action.ERASE},
    Role.APPROVER: frozenset({Action.READ, Action.APPROVE}),
    Role.ADMINISTRATOR: frozenset(Action),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """A person, an API client or the gateway itself, with the subtree it may see."""

    name: str  # shown in timelines and the audit
    role: Role
    organisation_id: int
    path: str  # `/1/4/`: everything whose path starts so
    staff_id: int | None = None
    language: str = "zh"
    remote: str = ""

    def may(self, action: Action) -> bool:
        return action in GRANTS[self.role]

    def require(self, action: Action) -> None:
        if not self.may(action):
            raise RequestError(
                "forbidden", f"role {self.role} may not {action}", status=403
            )

    def sees(self, path: str) -> bool:
        return path.startswith(self.path)


GATEWAY = Actor(name="", role=Role.ADMINISTRATOR, organisation_id=0, path="/")
"""Acts of the gateway itself: receipts, routing, schedules."""
