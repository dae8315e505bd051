"""Every table of the core as a Tortoise model. No behaviour lives here.

Instants are microseconds (`InstantField`), states are words. Personal data stands in
`members`, `addresses`, `inbound`, `outbox` and the timeline, nowhere else.
"""

from tortoise import fields
from tortoise.indexes import Index

from gateway.database import InstantField, JsonField, Model


class Organisation(Model):
    """A node of the tree. `path` is `/1/4/9/`: a subtree is one prefix."""

    id = fields.IntField(primary_key=True)
    code = fields.CharField(32, unique=True)  # area code 区号
    name = fields.CharField(120)
    kind = fields.CharField(16)  # county, centre, branch, office
    parent: fields.ForeignKeyNullableRelation["Organisation"] = fields.ForeignKeyField(
        "gateway.Organisation", null=True, on_delete=fields.RESTRICT
    )
    path = fields.CharField(200, db_index=True, default="")
    contact = fields.CharField(80, default="")
    phone = fields.CharField(32, default="")

    parent_id: int | None

    class Meta:
        table = "organisations"


class Staff(Model):
    id = fields.IntField(primary_key=True)
    username = fields.CharField(64, unique=True)
    name = fields.CharField(64)
    role = fields.CharField(16)
    organisation: fields.ForeignKeyRelation[Organisation] = fields.ForeignKeyField(
        "gateway.Organisation", on_delete=fields.RESTRICT
    )
    password_hash = fields.CharField(200)
    must_change_password = fields.BooleanField(default=True)
    active = fields.BooleanField(default=True)
    language = fields.CharField(2, default="zh")
    email = fields.CharField(254, default="")  # told of what needs attention
    failures = fields.IntField(default=0)
    locked_until = InstantField(null=True)
    created_at = InstantField()
    seen_at = InstantField(null=True)

    organisation_id: int

    class Meta:
        table = "staff"


class Session(Model):
    """A signed-in browser. The cookie's value is stored only as its SHA-256."""

    id = fields.BigIntField(primary_key=True)
    token_hash = fields.CharField(64, unique=True)
    staff: fields.ForeignKeyRelation[Staff] = fields.ForeignKeyField(
        "gateway.Staff", on_delete=fields.CASCADE
    )
    csrf = fields.CharField(64)
    created_at = InstantField()
    seen_at = InstantField()
    remote = fields.CharField(64, default="")

    staff_id: int

    class Meta:
        table = "sessions"
        indexes = (Index(fields=("staff_id",)),)


class ApiToken(Model):
    id = fields.IntField(primary_key=True)
    name = fields.CharField(64, unique=True)
    token_hash = fields.CharField(64, unique=True)
    role = fields.CharField(16)
    organisation: fields.ForeignKeyRelation[Organisation] = fields.ForeignKeyField(
        "gateway.Organisation", on_delete=fields.RESTRICT
    )
    created_at = InstantField()
    revoked_at = InstantField(null=True)
    used_at = InstantField(null=True)

    organisation_id: int

    class Meta:
        table = "api_tokens"


class IdempotencyKey(Model):
    """The stored answer to a POST: the same key gets the same answer, for ever."""

    id = fields.BigIntField(primary_key=True)
    owner = fields.CharField(80)
    key = fields.CharField(200)
    request_hash = fields.CharField(64)
    status = fields.IntField(default=0)  # 0: the first request is still at work
    response = fields.TextField(default="")
    created_at = InstantField()

    class Meta:
        table = "idempotency_keys"
        unique_together = (("owner", "key"),)


class Member(Model):
    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(64)
    organisation: fields.ForeignKeyRelation[Organisation] = fields.ForeignKeyField(
        "gateway.Organisation", on_delete=fields.RESTRICT
    )
    joined_on = fields.CharField(10, default="")  # ISO date or year
    mobile_member = fields.BooleanField(default=False)  # 流动党员
    preferred_kind = fields.CharField(16, default="")
    note = fields.TextField(default="")
    created_at = InstantField()
    updated_at = InstantField(null=True)

    organisation_id: int
    addresses: fields.ReverseRelation["AddressRow"]
    tags: fields.ReverseRelation["MemberTag"]

    class Meta:
        table = "members"
        indexes = (
            Index(fields=("organisation_id", "name")),
            Index(fields=("name",)),
        )


class MemberTag(Model):
    id = fields.BigIntField(primary_key=True)
    member: fields.ForeignKeyRelation[Member] = fields.ForeignKeyField(
        "gateway.Member", related_name="tags", on_delete=fields.CASCADE
    )
    tag = fields.CharField(32, db_index=True)

    member_id: int

    class Meta:
        table = "member_tags"
        unique_together = (("member_id", "tag"),)


class AddressRow(Model):
    """One way to reach somebody, which belongs to at most one member."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    member: fields.ForeignKeyNullableRelation[Member] = fields.ForeignKeyField(
        "gateway.Member", null=True, related_name="addresses", on_delete=fields.SET_NULL
    )
    verified_at = InstantField(null=True)
    verified_how = fields.CharField(32, default="")
    display_name = fields.CharField(128, default="")
    last_inbound_at = InstantField(null=True)
    created_at = InstantField()

    member_id: int | None

    class Meta:
        table = "addresses"
        unique_together = (("kind", "value"),)
        indexes = (Index(fields=("member_id",)),)


class Erasure(Model):
    """A member who was erased: the row in `members` is gone, this id is all that is
    left, and never another's. Nothing leaves for it any more.

    `under_way` are messages that had left then (ids of the outbox): they keep their
    address until they are settled.
    """

    member_id = fields.BigIntField(primary_key=True, generated=False)
    at = InstantField()
    under_way = JsonField(default=list)

    class Meta:
        table = "erasures"


class OptOutRow(Model):
    """A person's refusal with its proof. In force while `ended_at` is empty.

    A refusal from an address that belongs to a member holds on all addresses of that
    member, bound now or later.
    """

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    member_id = fields.BigIntField(null=True, db_index=True)
    how = fields.CharField(16)  # word, page, staff, provider
    evidence = fields.TextField(default="")  # the very words
    inbound_id = fields.BigIntField(null=True)
    staff_id = fields.IntField(null=True)
    at = InstantField()
    ended_at = InstantField(null=True)
    ended_how = fields.CharField(64, default="")

    class Meta:
        table = "opt_outs"
        indexes = (Index(fields=("kind", "value")),)


class Subscription(Model):
    """A wish to get the daily Q&A at one address. In force while not ended."""

    id = fields.BigIntField(primary_key=True)
    topic = fields.CharField(16, default="daily")
    kind = fields.CharField(16)
    value = fields.CharField(254)
    member_id = fields.BigIntField(null=True, db_index=True)
    how = fields.CharField(16)
    at = InstantField()
    ended_at = InstantField(null=True)

    class Meta:
        table = "subscriptions"
        unique_together = (("topic", "kind", "value"),)


class Inbound(Model):
    """A message that came in, with its raw payload, before anybody decided on it."""

    id = fields.BigIntField(primary_key=True)
    channel = fields.CharField(32)
    key = fields.CharField(255)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    conversation_kind = fields.CharField(16, default="")
    conversation_value = fields.CharField(254, default="")
    text = fields.TextField()
    subject = fields.TextField(default="")
    quoted = fields.TextField(default="")
    provider_id = fields.CharField(998, default="")
    answers_to = JsonField(default=list)
    reply_token = fields.CharField(128, default="")
    display_name = fields.CharField(254, default="")
    automatic = fields.BooleanField(default=False)
    notes = JsonField(default=list)
    payload = fields.BinaryField()
    sent_at = InstantField(null=True)
    received_at = InstantField()
    member_id = fields.BigIntField(null=True)
    inquiry_id = fields.BigIntField(null=True)
    # stored -> filed | review | handled | ignored
    state = fields.CharField(16, default="stored")
    route = fields.CharField(32, default="")  # which rule of the router decided
    route_detail = fields.TextField(default="")
    tries = fields.IntField(default=0)

    class Meta:
        table = "inbound"
        unique_together = (("channel", "key"),)
        # And partial ones: migrations/0002, 0003
        indexes = (Index(fields=("kind", "value", "received_at")),)


class AttachmentRow(Model):
    id = fields.BigIntField(primary_key=True)
    inbound_id = fields.BigIntField(db_index=True)
    name = fields.CharField(254)
    content_type = fields.CharField(127)
    size = fields.IntField()  # bytes
    content = fields.BinaryField()

    class Meta:
        table = "attachments"


class Inquiry(Model):
    """咨询单: one matter of one member."""

    id = fields.BigIntField(primary_key=True)
    number = fields.CharField(24, unique=True)
    organisation: fields.ForeignKeyRelation[Organisation] = fields.ForeignKeyField(
        "gateway.Organisation", related_name="inquiries", on_delete=fields.RESTRICT
    )
    member: fields.ForeignKeyNullableRelation[Member] = fields.ForeignKeyField(
        "gateway.Member",
        null=True,
        related_name="inquiries",
        on_delete=fields.SET_NULL,
    )
    owner: fields.ForeignKeyNullableRelation[Staff] = fields.ForeignKeyField(
        "gateway.Staff", null=True, related_name="owned", on_delete=fields.SET_NULL
    )
    first_organisation_id = fields.IntField()  # who received it first (B10, C2)
    source = fields.CharField(16)  # message, counter, phone, api
    channel = fields.CharField(32, default="")
    kind = fields.CharField(16, default="")
    value = fields.CharField(254, default="")
    conversation_kind = fields.CharField(16, default="")
    conversation_value = fields.CharField(254, default="")
    contact_name = fields.CharField(64, default="")
    text = fields.TextField()
    matter = fields.CharField(16)
    urgency = fields.CharField(16, default="normal")
    state = fields.CharField(16)
    outcome = fields.TextField(default="")
    rating = fields.IntField(null=True)
    attention = fields.CharField(16, default="")  # "director": must be looked at
    reopened = fields.IntField(default=0)
    received_at = InstantField()
    deadline_at = InstantField()
    deadline_provisional = fields.BooleanField(default=False)
    first_response_at = InstantField(null=True)
    closed_at = InstantField(null=True)
    changed_at = InstantField()
    last_inbound_at = InstantField(null=True)
    worked_at = InstantField(null=True)  # by staff, last

    organisation_id: int
    member_id: int | None
    owner_id: int | None

    class Meta:
        table = "inquiries"
        indexes = (
            Index(fields=("member_id",)),
            Index(fields=("organisation_id", "state", "deadline_at")),
            Index(fields=("kind", "value")),
            Index(fields=("changed_at",)),
        )  # and partial ones: migrations/0002


class InquiryEvent(Model):
    """One line of an inquiry's timeline. Appended, never changed."""

    id = fields.BigIntField(primary_key=True)
    inquiry: fields.ForeignKeyRelation[Inquiry] = fields.ForeignKeyField(
        "gateway.Inquiry", related_name="events", on_delete=fields.CASCADE
    )
    at = InstantField()
    kind = fields.CharField(24)
    actor = fields.CharField(80, default="")  # name shown; empty: the gateway itself
    staff_id = fields.IntField(null=True)
    inbound_id = fields.BigIntField(null=True)
    outbound_id = fields.BigIntField(null=True)
    text = fields.TextField(default="")
    data = JsonField(default=dict)

    inquiry_id: int

    class Meta:
        table = "inquiry_events"
        indexes = (Index(fields=("inquiry_id", "id")),)


class PromptRow(Model):
    """A question put to one address: what replies it accepts, until when."""

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    prompt = fields.CharField(16)  # rsvp, rating, binding
    code = fields.CharField(8, default="")
    options = JsonField(default=list)
    inquiry_id = fields.BigIntField(null=True)
    broadcast_id = fields.BigIntField(null=True)
    member_id = fields.BigIntField(null=True)
    data = JsonField(default=dict)
    opened_at = InstantField()
    expires_at = InstantField()
    closed_at = InstantField(null=True)
    answer = fields.CharField(32, default="")
    inbound_id = fields.BigIntField(null=True)

    class Meta:
        table = "prompts"
        # And partial ones: migrations/0003
        indexes = (Index(fields=("kind", "value", "closed_at")),)


class Content(Model):
    """Texts frozen for many recipients: one wording per address kind."""

    id = fields.BigIntField(primary_key=True)
    texts = JsonField()  # {"sms": ..., "default": ..., "subject": ...}
    hash = fields.CharField(64)
    created_at = InstantField()

    class Meta:
        table = "contents"


class Outbound(Model):
    """The outbox: one row per message to one person, broadcasts' recipients too."""

    id = fields.BigIntField(primary_key=True)
    message_kind = fields.CharField(16)
    priority = fields.IntField()  # smaller leaves first
    dedupe_key = fields.CharField(320, null=True, unique=True)
    broadcast_id = fields.BigIntField(null=True)
    inquiry_id = fields.BigIntField(null=True)
    inbound_id = fields.BigIntField(null=True)
    member_id = fields.BigIntField(null=True)
    channel = fields.CharField(32)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    text = fields.TextField(null=True)  # null: from `content_id` and `variables`
    content_id = fields.BigIntField(null=True)
    variables = JsonField(default=dict)  # values of the placeholders
    extras = JsonField(default=dict)  # subject, in_reply_to, references, mention, ...
    state = fields.CharField(16)
    reason = fields.CharField(64, default="")
    detail = fields.TextField(default="")
    due_at = InstantField()
    expires_at = InstantField(null=True)
    attempts = fields.IntField(default=0)
    throttled = fields.IntField(default=0)  # attempts that don't count against it
    node_id = fields.BigIntField(null=True)
    provider_id = fields.CharField(254, default="")
    created_at = InstantField()
    changed_at = InstantField()

    class Meta:
        table = "outbox"  # its indexes are partial: migrations/0002, 0003


class Attempt(Model):
    """One try to send, written before the first byte leaves. Outcome appended."""

    id = fields.BigIntField(primary_key=True)
    outbound_id = fields.BigIntField(db_index=True)
    number = fields.IntField()
    channel = fields.CharField(32)
    kind = fields.CharField(16)
    value = fields.CharField(254)
    node_id = fields.BigIntField()
    journalled_at = InstantField()
    outcome = fields.CharField(16, default="")
    code = fields.CharField(64, default="")
    detail = fields.TextField(default="")
    provider_ids = JsonField(default=list)
    answered_at = InstantField(null=True)

    class Meta:
        table = "attempts"


class Chunk(Model):
    """Recipients of one broadcast on one channel, `first_id` to `last_id`, leased and
    sent as one. `journalled_to` is the journal: the intent of every row up to it that
    is still `planned` was committed before its bytes left.
    """

    id = fields.BigIntField(primary_key=True)
    broadcast_id = fields.BigIntField(db_index=True)
    channel = fields.CharField(32)
    priority = fields.IntField()
    first_id = fields.BigIntField()
    last_id = fields.BigIntField()
    people = fields.IntField()
    canary = fields.BooleanField(default=False)  # goes ahead of all others
    # held (until the canary came through) -> ready -> leased -> done; cancelled
    state = fields.CharField(16)
    due_at = InstantField()
    journalled_to = fields.BigIntField()
    journalled_at = InstantField(null=True)
    node_id = fields.BigIntField(null=True)
    epoch = fields.BigIntField(default=0)  # of the channel's lease

    class Meta:
        table = "chunks"
        indexes = (Index(fields=("channel", "state", "priority", "id")),)


class Part(Model):
    """One part of a long message, as its provider knows it."""

    id = fields.BigIntField(primary_key=True)
    channel = fields.CharField(32)
    provider_id = fields.CharField(254)
    outbound_id = fields.BigIntField(db_index=True)
    number = fields.IntField()  # from 1
    of_all = fields.IntField()
    state = fields.CharField(16, default="accepted")
    code = fields.CharField(64, default="")

    class Meta:
        table = "parts"
        indexes = (Index(fields=("channel", "provider_id")),)


class Tally(Model):
    """How many recipients of a broadcast came into a state (`n` > 0) or left it in one
    transaction of a slot of ten seconds. Their sum is the count now, slot by slot they
    are the plot. Rows of a slot are put together later: nobody waits for a counter.
    """

    id = fields.BigIntField(primary_key=True)
    broadcast_id = fields.BigIntField()
    slot = fields.BigIntField()  # seconds since 1970, a multiple of ten
    state = fields.CharField(16)
    n = fields.BigIntField()

    class Meta:
        table = "tallies"
        indexes = (Index(fields=("broadcast_id", "slot")),)


class QueryRow(Model):
    """How often a provider was asked what became of one attempt at a message of
    unknown outcome, and what it said last.
    """

    outbound_id = fields.BigIntField(primary_key=True, generated=False)
    attempt = fields.IntField()
    asked = fields.IntField()  # times
    asked_at = InstantField(null=True)
    next_at = InstantField()
    # ended, taken, denied, silent; a code: no answer came
    answer = fields.CharField(64, default="")

    class Meta:
        table = "queries"


class LeaseRow(Model):
    """Who owns what only one process may do: a channel's account, the scheduler.

    Every change of owner raises `epoch`; whoever writes under an older one is refused.
    """

    name = fields.CharField(64, primary_key=True)  # channel:NAME, scheduler
    node_id = fields.BigIntField(null=True)
    epoch = fields.BigIntField(default=0)
    taken_at = InstantField(null=True)
    until = InstantField(null=True)

    class Meta:
        table = "leases"


class ChannelReport(Model):
    """What a channel's owner last said of its connections, for every process's page."""

    channel = fields.CharField(32, primary_key=True)
    node_id = fields.BigIntField()
    at = InstantField()
    data = JsonField(default=dict)
    lost = fields.IntField(default=0)  # points of its share that others have meanwhile

    class Meta:
        table = "channel_reports"


class Receipt(Model):
    """A delivery receipt as it came. `outbound_id` is empty until it is matched."""

    id = fields.BigIntField(primary_key=True)
    channel = fields.CharField(32)
    key = fields.CharField(255)
    provider_id = fields.CharField(254, default="")
    reference = fields.CharField(64, default="")
    state = fields.CharField(16)
    code = fields.CharField(64, default="")
    opted_out = fields.BooleanField(default=False)
    at = InstantField(null=True)
    received_at = InstantField()
    payload = fields.BinaryField()
    # Whom it is about, where no message was found by its ids.
    kind = fields.CharField(16, default="")
    value = fields.CharField(254, default="")
    outbound_id = fields.BigIntField(null=True, db_index=True)
    effect = fields.CharField(16, default="")  # applied, late, conflict; "": waiting

    class Meta:
        table = "receipts"
        unique_together = (("channel", "key"),)


class ChannelEvent(Model):
    """What an account reported of itself, and our own failures on it."""

    id = fields.BigIntField(primary_key=True)
    channel = fields.CharField(32)
    key = fields.CharField(255)
    code = fields.CharField(64)
    detail = fields.TextField(default="")
    payload = fields.BinaryField(null=True)
    at = InstantField()

    class Meta:
        table = "channel_events"
        unique_together = (("channel", "key"),)


class Hold(Model):
    """Rows of this broadcast don't leave: it is paused or was cancelled."""

    id = fields.BigIntField(primary_key=True)
    broadcast_id = fields.BigIntField(unique=True)
    at = InstantField()

    class Meta:
        table = "holds"


class Node(Model):
    """A running process. One whose `seen_at` is old is dead, its sends unknown."""

    id = fields.BigIntField(primary_key=True)
    name = fields.CharField(80, default="")  # host and process number
    roles = fields.CharField(80, default="")
    version = fields.CharField(20, default="")
    report = JsonField(null=True)  # how its parts are; at its end, why it ended
    started_at = InstantField()
    seen_at = InstantField()
    stopped_at = InstantField(null=True)

    class Meta:
        table = "nodes"


class Counter(Model):
    name = fields.CharField(40, primary_key=True)
    value = fields.BigIntField()

    class Meta:
        table = "counters"


class Entry(Model):
    """A knowledge entry: a question, its answer, and the regulation it rests on."""

    id = fields.BigIntField(primary_key=True)
    question = fields.CharField(200)
    answer = fields.TextField()
    basis = fields.CharField(200, default="")
    matter = fields.CharField(16)
    keywords = JsonField(default=list)
    sample = fields.BooleanField(default=False)  # to be checked by the centre
    active = fields.BooleanField(default=True)
    created_at = InstantField()
    updated_at = InstantField(null=True)

    class Meta:
        table = "entries"


class Canned(Model):
    id = fields.IntField(primary_key=True)
    title = fields.CharField(80)
    text = fields.TextField()
    position = fields.IntField(default=0)

    class Meta:
        table = "canned_answers"


class Holiday(Model):
    """A day on which the published calendar is corrected by staff."""

    day = fields.CharField(10, primary_key=True)
    working = fields.BooleanField()
    note = fields.CharField(80, default="")

    class Meta:
        table = "calendar_days"


class Audit(Model):
    """Who did what to what, when. Appended in the transaction of the act itself."""

    id = fields.BigIntField(primary_key=True)
    at = InstantField()
    actor = fields.CharField(80)
    staff_id = fields.IntField(null=True)
    action = fields.CharField(48, db_index=True)
    object = fields.CharField(80, db_index=True)
    organisation_path = fields.CharField(200, default="")
    detail = JsonField(default=dict)
    previous = fields.CharField(64, default="")
    hash = fields.CharField(64, default="")

    class Meta:
        table = "audit"
