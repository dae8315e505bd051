"""Tables of broadcasts, attendance, the daily queue and the schedule's instants."""

from tortoise import fields
from tortoise.indexes import Index

from gateway.database import InstantField, JsonField, Model


class Broadcast(Model):
    """One approved content to one frozen audience in one run.

    Its recipients are the outbox rows that bear its id.
    """

    id = fields.BigIntField(primary_key=True)
    kind = fields.CharField(16)  # notice, daily, survey
    title = fields.CharField(120)
    organisation_id = fields.IntField(db_index=True)
    state = fields.CharField(16)
    texts = JsonField(default=dict)  # {"sms", "default", "subject"}: wordings
    audience = JsonField(default=dict)  # {"type": "organisation", "code": ...}
    rsvp = fields.BooleanField(default=False)
    code = fields.CharField(8, default="")  # short code of its prompt
    event_at = InstantField(null=True)
    place = fields.CharField(120, default="")
    send_at = InstantField(null=True)  # null: at once after approval and start
    expires_at = InstantField(null=True)
    revision = fields.IntField(default=1)
    created_by = fields.CharField(80)
    created_by_id = fields.IntField(null=True)
    edited_by = fields.CharField(80, default="")
    edited_by_id = fields.IntField(null=True)
    submitted_by = fields.CharField(80, default="")
    submitted_by_id = fields.IntField(null=True)
    approved_by = fields.CharField(80, default="")
    approved_by_id = fields.IntField(null=True)
    approved_at = InstantField(null=True)
    approved_hash = fields.CharField(64, default="")
    approved_people = fields.IntField(default=0)  # size of the audience at approval
    # "": none; waiting: the first recipients are on their way; passed; stopped
    canary = fields.CharField(16, default="")
    exclude_bad = fields.BooleanField(default=False)  # start without unsayable rows
    content_id = fields.BigIntField(null=True)
    entry_id = fields.BigIntField(null=True)
    planned = fields.IntField(default=0)  # rows in the outbox
    people = fields.IntField(default=0)  # rows there will be, while they are written
    plan_node = fields.BigIntField(null=True)  # the process that writes them
    plan_token = fields.BigIntField(default=0)  # each try's own: an older one stops
    left_out = JsonField(default=list)  # rows of the audience that can't be reached
    note = fields.TextField(default="")
    created_at = InstantField()
    changed_at = InstantField()
    started_at = InstantField(null=True)
    finished_at = InstantField(null=True)

    class Meta:
        table = "broadcasts"
        indexes = (Index(fields=("state", "send_at")),)


class Attendance(Model):
    """A member took part in an activity."""

    id = fields.BigIntField(primary_key=True)
    broadcast_id = fields.BigIntField()
    member_id = fields.BigIntField(db_index=True)
    at = InstantField()
    staff_id = fields.IntField(null=True)

    class Meta:
        table = "attendance"
        unique_together = (("broadcast_id", "member_id"),)


class DailyItem(Model):
    """An entry in the queue of the daily Q&A, and when it was pushed."""

    id = fields.BigIntField(primary_key=True)
    entry_id = fields.BigIntField()
    position = fields.BigIntField()
    state = fields.CharField(16, default="queued")  # queued, pushed, skipped
    pushed_on = fields.CharField(10, default="")
    broadcast_id = fields.BigIntField(null=True)

    class Meta:
        table = "daily_items"
        indexes = (Index(fields=("state", "position")),)


class Instant(Model):
    """A scheduled instant that has fired: unique, so that it fires once."""

    id = fields.BigIntField(primary_key=True)
    schedule = fields.CharField(40)
    instant = InstantField()
    fired_at = InstantField()
    result = fields.CharField(40, default="")

    class Meta:
        table = "instants"
        unique_together = (("schedule", "instant"),)
