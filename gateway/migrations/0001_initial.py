from tortoise import fields, migrations
from tortoise.fields.base import OnDelete
from tortoise.indexes import Index
from tortoise.migrations import operations as ops

from gateway.database import InstantField, JsonField


class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name="AttachmentRow",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("inbound_id", fields.BigIntField(db_index=True)),
                ("name", fields.CharField(max_length=254)),
                ("content_type", fields.CharField(max_length=127)),
                ("size", fields.IntField()),
                ("content", fields.BinaryField()),
            ],
            options={"table": "attachments", "app": "gateway", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Attempt",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("outbound_id", fields.BigIntField(db_index=True)),
                ("number", fields.IntField()),
                ("channel", fields.CharField(max_length=32)),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("node_id", fields.BigIntField()),
                ("journalled_at", InstantField()),
                ("outcome", fields.CharField(default="", max_length=16)),
                ("code", fields.CharField(default="", max_length=64)),
                ("detail", fields.TextField(default="", unique=False)),
                ("provider_ids", JsonField(default=list, unique=False)),
                ("answered_at", InstantField(null=True)),
            ],
            options={
                "table": "attempts",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "One try to send, written before the first byte leaves. Outcome appended.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Audit",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("at", InstantField()),
                ("actor", fields.CharField(max_length=80)),
                ("staff_id", fields.IntField(null=True)),
                ("action", fields.CharField(db_index=True, max_length=48)),
                ("object", fields.CharField(db_index=True, max_length=80)),
                ("organisation_path", fields.CharField(default="", max_length=200)),
                ("detail", JsonField(default=dict, unique=False)),
                ("previous", fields.CharField(default="", max_length=64)),
                ("hash", fields.CharField(default="", max_length=64)),
            ],
            options={
                "table": "audit",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "Who did what to what, when. Appended in the transaction of the act itself.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Canned",
            fields=[
                (
                    "id",
                    fields.IntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("title", fields.CharField(max_length=80)),
                ("text", fields.TextField(unique=False)),
                ("position", fields.IntField(default=0)),
            ],
            options={"table": "canned_answers", "app": "gateway", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ChannelEvent",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("channel", fields.CharField(max_length=32)),
                ("key", fields.CharField(max_length=255)),
                ("code", fields.CharField(max_length=64)),
                ("detail", fields.TextField(default="", unique=False)),
                ("payload", fields.BinaryField(null=True)),
                ("at", InstantField()),
            ],
            options={
                "table": "channel_events",
                "app": "gateway",
                "unique_together": (("channel", "key"),),
                "pk_attr": "id",
                "table_description": "What an account reported of itself, and our own failures on it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Content",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("texts", JsonField(unique=False)),
                ("hash", fields.CharField(max_length=64)),
                ("created_at", InstantField()),
            ],
            options={
                "table": "contents",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "Texts frozen for many recipients: one wording per address kind.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Counter",
            fields=[
                (
                    "name",
                    fields.CharField(
                        primary_key=True, unique=True, db_index=True, max_length=40
                    ),
                ),
                ("value", fields.BigIntField()),
            ],
            options={"table": "counters", "app": "gateway", "pk_attr": "name"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Entry",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("question", fields.CharField(max_length=200)),
                ("answer", fields.TextField(unique=False)),
                ("basis", fields.CharField(default="", max_length=200)),
                ("matter", fields.CharField(max_length=16)),
                ("keywords", JsonField(default=list, unique=False)),
                ("sample", fields.BooleanField(default=False)),
                ("active", fields.BooleanField(default=True)),
                ("created_at", InstantField()),
                ("updated_at", InstantField(null=True)),
            ],
            options={
                "table": "entries",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "A knowledge entry: a question, its answer, and the regulation it rests on.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Hold",
            fields=[
                (
                    "broadcast_id",
                    fields.BigIntField(primary_key=True, unique=True, db_index=True),
                ),
                ("at", InstantField()),
            ],
            options={
                "table": "holds",
                "app": "gateway",
                "pk_attr": "broadcast_id",
                "table_description": "Rows of this broadcast don't leave: it is paused or was cancelled.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Holiday",
            fields=[
                (
                    "day",
                    fields.CharField(
                        primary_key=True, unique=True, db_index=True, max_length=10
                    ),
                ),
                ("working", fields.BooleanField()),
                ("note", fields.CharField(default="", max_length=80)),
            ],
            options={
                "table": "calendar_days",
                "app": "gateway",
                "pk_attr": "day",
                "table_description": "A day on which the published calendar is corrected by staff.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="IdempotencyKey",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("owner", fields.CharField(max_length=80)),
                ("key", fields.CharField(max_length=200)),
                ("request_hash", fields.CharField(max_length=64)),
                ("status", fields.IntField(default=0)),
                ("response", fields.TextField(default="", unique=False)),
                ("created_at", InstantField()),
            ],
            options={
                "table": "idempotency_keys",
                "app": "gateway",
                "unique_together": (("owner", "key"),),
                "pk_attr": "id",
                "table_description": "The stored answer to a POST: the same key gets the same answer, for ever.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Inbound",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("channel", fields.CharField(max_length=32)),
                ("key", fields.CharField(max_length=255)),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("conversation_kind", fields.CharField(default="", max_length=16)),
                ("conversation_value", fields.CharField(default="", max_length=254)),
                ("text", fields.TextField(unique=False)),
                ("subject", fields.TextField(default="", unique=False)),
                ("quoted", fields.TextField(default="", unique=False)),
                ("provider_id", fields.CharField(default="", max_length=998)),
                ("answers_to", JsonField(default=list, unique=False)),
                ("reply_token", fields.CharField(default="", max_length=128)),
                ("display_name", fields.CharField(default="", max_length=254)),
                ("automatic", fields.BooleanField(default=False)),
                ("notes", JsonField(default=list, unique=False)),
                ("payload", fields.BinaryField()),
                ("sent_at", InstantField(null=True)),
                ("received_at", InstantField()),
                ("member_id", fields.BigIntField(null=True)),
                ("inquiry_id", fields.BigIntField(null=True, db_index=True)),
                ("state", fields.CharField(default="stored", max_length=16)),
                ("route", fields.CharField(default="", max_length=32)),
                ("route_detail", fields.TextField(default="", unique=False)),
                ("tries", fields.IntField(default=0)),
            ],
            options={
                "table": "inbound",
                "app": "gateway",
                "unique_together": (("channel", "key"),),
                "indexes": [
                    Index(fields=["state"]),
                    Index(fields=["kind", "value", "received_at"]),
                ],
                "pk_attr": "id",
                "table_description": "A message that came in, with its raw payload, before anybody decided on it.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Node",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("started_at", InstantField()),
                ("seen_at", InstantField()),
                ("stopped_at", InstantField(null=True)),
            ],
            options={
                "table": "nodes",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "A running process. One whose `seen_at` is old is dead, its sends unknown.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="OptOutRow",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("member_id", fields.BigIntField(null=True, db_index=True)),
                ("how", fields.CharField(max_length=16)),
                ("evidence", fields.TextField(default="", unique=False)),
                ("inbound_id", fields.BigIntField(null=True)),
                ("staff_id", fields.IntField(null=True)),
                ("at", InstantField()),
                ("ended_at", InstantField(null=True)),
                ("ended_how", fields.CharField(default="", max_length=64)),
            ],
            options={
                "table": "opt_outs",
                "app": "gateway",
                "indexes": [Index(fields=["kind", "value"])],
                "pk_attr": "id",
                "table_description": "A person's refusal with its proof. In force while `ended_at` is empty.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Organisation",
            fields=[
                (
                    "id",
                    fields.IntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("code", fields.CharField(unique=True, max_length=32)),
                ("name", fields.CharField(max_length=120)),
                ("kind", fields.CharField(max_length=16)),
                (
                    "parent",
                    fields.ForeignKeyField(
                        "gateway.Organisation",
                        source_field="parent_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("path", fields.CharField(default="", db_index=True, max_length=200)),
                ("contact", fields.CharField(default="", max_length=80)),
                ("phone", fields.CharField(default="", max_length=32)),
            ],
            options={
                "table": "organisations",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "A node of the tree. `path` is `/1/4/9/`: a subtree is one prefix.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="ApiToken",
            fields=[
                (
                    "id",
                    fields.IntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("name", fields.CharField(unique=True, max_length=64)),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                ("role", fields.CharField(max_length=16)),
                (
                    "organisation",
                    fields.ForeignKeyField(
                        "gateway.Organisation",
                        source_field="organisation_id",
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("created_at", InstantField()),
                ("revoked_at", InstantField(null=True)),
                ("used_at", InstantField(null=True)),
            ],
            options={"table": "api_tokens", "app": "gateway", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Member",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("name", fields.CharField(max_length=64)),
                (
                    "organisation",
                    fields.ForeignKeyField(
                        "gateway.Organisation",
                        source_field="organisation_id",
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("joined_on", fields.CharField(default="", max_length=10)),
                ("mobile_member", fields.BooleanField(default=False)),
                ("preferred_kind", fields.CharField(default="", max_length=16)),
                ("note", fields.TextField(default="", unique=False)),
                ("created_at", InstantField()),
                ("updated_at", InstantField(null=True)),
            ],
            options={"table": "members", "app": "gateway", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="AddressRow",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                (
                    "member",
                    fields.ForeignKeyField(
                        "gateway.Member",
                        source_field="member_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="addresses",
                        on_delete=OnDelete.SET_NULL,
                    ),
                ),
                ("verified_at", InstantField(null=True)),
                ("verified_how", fields.CharField(default="", max_length=32)),
                ("display_name", fields.CharField(default="", max_length=128)),
                ("last_inbound_at", InstantField(null=True)),
                ("created_at", InstantField()),
            ],
            options={
                "table": "addresses",
                "app": "gateway",
                "unique_together": (("kind", "value"),),
                "pk_attr": "id",
                "table_description": "One way to reach somebody, which belongs to at most one member.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="MemberTag",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "member",
                    fields.ForeignKeyField(
                        "gateway.Member",
                        source_field="member_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="tags",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("tag", fields.CharField(db_index=True, max_length=32)),
            ],
            options={
                "table": "member_tags",
                "app": "gateway",
                "unique_together": (("member_id", "tag"),),
                "pk_attr": "id",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Outbound",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("message_kind", fields.CharField(max_length=16)),
                ("priority", fields.IntField()),
                (
                    "dedupe_key",
                    fields.CharField(null=True, unique=True, max_length=120),
                ),
                ("broadcast_id", fields.BigIntField(null=True)),
                ("inquiry_id", fields.BigIntField(null=True, db_index=True)),
                ("inbound_id", fields.BigIntField(null=True)),
                ("member_id", fields.BigIntField(null=True)),
                ("channel", fields.CharField(max_length=32)),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("text", fields.TextField(null=True, unique=False)),
                ("content_id", fields.BigIntField(null=True)),
                ("variables", JsonField(default=dict, unique=False)),
                ("extras", JsonField(default=dict, unique=False)),
                ("state", fields.CharField(max_length=16)),
                ("reason", fields.CharField(default="", max_length=64)),
                ("detail", fields.TextField(default="", unique=False)),
                ("due_at", InstantField()),
                ("expires_at", InstantField(null=True)),
                ("attempts", fields.IntField(default=0)),
                ("node_id", fields.BigIntField(null=True)),
                ("provider_id", fields.CharField(default="", max_length=254)),
                ("created_at", InstantField()),
                ("changed_at", InstantField()),
            ],
            options={
                "table": "outbox",
                "app": "gateway",
                "indexes": [
                    Index(fields=["channel", "state", "due_at"]),
                    Index(fields=["broadcast_id", "state"]),
                    Index(fields=["channel", "provider_id"]),
                ],
                "pk_attr": "id",
                "table_description": "The outbox: one row per message to one person, broadcasts' recipients too.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="PromptRow",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("prompt", fields.CharField(max_length=16)),
                ("code", fields.CharField(default="", max_length=8)),
                ("options", JsonField(default=list, unique=False)),
                ("inquiry_id", fields.BigIntField(null=True, db_index=True)),
                ("broadcast_id", fields.BigIntField(null=True, db_index=True)),
                ("member_id", fields.BigIntField(null=True)),
                ("data", JsonField(default=dict, unique=False)),
                ("opened_at", InstantField()),
                ("expires_at", InstantField()),
                ("closed_at", InstantField(null=True)),
                ("answer", fields.CharField(default="", max_length=32)),
                ("inbound_id", fields.BigIntField(null=True)),
            ],
            options={
                "table": "prompts",
                "app": "gateway",
                "indexes": [Index(fields=["kind", "value", "closed_at"])],
                "pk_attr": "id",
                "table_description": "A question put to one address: what replies it accepts, until when.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Receipt",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("channel", fields.CharField(max_length=32)),
                ("key", fields.CharField(max_length=255)),
                ("provider_id", fields.CharField(default="", max_length=254)),
                ("reference", fields.CharField(default="", max_length=64)),
                ("state", fields.CharField(max_length=16)),
                ("code", fields.CharField(default="", max_length=64)),
                ("opted_out", fields.BooleanField(default=False)),
                ("at", InstantField(null=True)),
                ("received_at", InstantField()),
                ("payload", fields.BinaryField()),
                ("outbound_id", fields.BigIntField(null=True, db_index=True)),
                ("effect", fields.CharField(default="", max_length=16)),
            ],
            options={
                "table": "receipts",
                "app": "gateway",
                "unique_together": (("channel", "key"),),
                "indexes": [Index(fields=["channel", "provider_id"])],
                "pk_attr": "id",
                "table_description": "A delivery receipt as it came. `outbound_id` is empty until it is matched.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Staff",
            fields=[
                (
                    "id",
                    fields.IntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("username", fields.CharField(unique=True, max_length=64)),
                ("name", fields.CharField(max_length=64)),
                ("role", fields.CharField(max_length=16)),
                (
                    "organisation",
                    fields.ForeignKeyField(
                        "gateway.Organisation",
                        source_field="organisation_id",
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                ("password_hash", fields.CharField(max_length=200)),
                ("must_change_password", fields.BooleanField(default=True)),
                ("active", fields.BooleanField(default=True)),
                ("language", fields.CharField(default="zh", max_length=2)),
                ("failures", fields.IntField(default=0)),
                ("locked_until", InstantField(null=True)),
                ("created_at", InstantField()),
                ("seen_at", InstantField(null=True)),
            ],
            options={"table": "staff", "app": "gateway", "pk_attr": "id"},
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Inquiry",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("number", fields.CharField(unique=True, max_length=24)),
                (
                    "organisation",
                    fields.ForeignKeyField(
                        "gateway.Organisation",
                        source_field="organisation_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="inquiries",
                        on_delete=OnDelete.RESTRICT,
                    ),
                ),
                (
                    "member",
                    fields.ForeignKeyField(
                        "gateway.Member",
                        source_field="member_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="inquiries",
                        on_delete=OnDelete.SET_NULL,
                    ),
                ),
                (
                    "owner",
                    fields.ForeignKeyField(
                        "gateway.Staff",
                        source_field="owner_id",
                        null=True,
                        db_constraint=True,
                        to_field="id",
                        related_name="owned",
                        on_delete=OnDelete.SET_NULL,
                    ),
                ),
                ("first_organisation_id", fields.IntField()),
                ("source", fields.CharField(max_length=16)),
                ("channel", fields.CharField(default="", max_length=32)),
                ("kind", fields.CharField(default="", max_length=16)),
                ("value", fields.CharField(default="", max_length=254)),
                ("conversation_kind", fields.CharField(default="", max_length=16)),
                ("conversation_value", fields.CharField(default="", max_length=254)),
                ("contact_name", fields.CharField(default="", max_length=64)),
                ("text", fields.TextField(unique=False)),
                ("matter", fields.CharField(max_length=16)),
                ("urgency", fields.CharField(default="normal", max_length=16)),
                ("state", fields.CharField(max_length=16)),
                ("outcome", fields.TextField(default="", unique=False)),
                ("rating", fields.IntField(null=True)),
                ("reopened", fields.IntField(default=0)),
                ("received_at", InstantField()),
                ("deadline_at", InstantField()),
                ("deadline_provisional", fields.BooleanField(default=False)),
                ("first_response_at", InstantField(null=True)),
                ("closed_at", InstantField(null=True)),
                ("changed_at", InstantField()),
                ("last_inbound_at", InstantField(null=True)),
            ],
            options={
                "table": "inquiries",
                "app": "gateway",
                "indexes": [
                    Index(fields=["state", "deadline_at"]),
                    Index(fields=["kind", "value"]),
                    Index(fields=["changed_at"]),
                ],
                "pk_attr": "id",
                "table_description": "咨询单: one matter of one member.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="InquiryEvent",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                (
                    "inquiry",
                    fields.ForeignKeyField(
                        "gateway.Inquiry",
                        source_field="inquiry_id",
                        db_constraint=True,
                        to_field="id",
                        related_name="events",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("at", InstantField()),
                ("kind", fields.CharField(max_length=24)),
                ("actor", fields.CharField(default="", max_length=80)),
                ("staff_id", fields.IntField(null=True)),
                ("inbound_id", fields.BigIntField(null=True)),
                ("outbound_id", fields.BigIntField(null=True)),
                ("text", fields.TextField(default="", unique=False)),
                ("data", JsonField(default=dict, unique=False)),
            ],
            options={
                "table": "inquiry_events",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "One line of an inquiry's timeline. Appended, never changed.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Session",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("token_hash", fields.CharField(unique=True, max_length=64)),
                (
                    "staff",
                    fields.ForeignKeyField(
                        "gateway.Staff",
                        source_field="staff_id",
                        db_constraint=True,
                        to_field="id",
                        on_delete=OnDelete.CASCADE,
                    ),
                ),
                ("csrf", fields.CharField(max_length=64)),
                ("created_at", InstantField()),
                ("seen_at", InstantField()),
                ("remote", fields.CharField(default="", max_length=64)),
            ],
            options={
                "table": "sessions",
                "app": "gateway",
                "pk_attr": "id",
                "table_description": "A signed-in browser. The cookie's value is stored only as its SHA-256.",
            },
            bases=["Model"],
        ),
        ops.CreateModel(
            name="Subscription",
            fields=[
                (
                    "id",
                    fields.BigIntField(
                        generated=True, primary_key=True, unique=True, db_index=True
                    ),
                ),
                ("topic", fields.CharField(default="daily", max_length=16)),
                ("kind", fields.CharField(max_length=16)),
                ("value", fields.CharField(max_length=254)),
                ("member_id", fields.BigIntField(null=True, db_index=True)),
                ("how", fields.CharField(max_length=16)),
                ("at", InstantField()),
                ("ended_at", InstantField(null=True)),
            ],
            options={
                "table": "subscriptions",
                "app": "gateway",
                "unique_together": (("topic", "kind", "value"),),
                "pk_attr": "id",
                "table_description": "A wish to get the daily Q&A at one address. In force while not ended.",
            },
            bases=["Model"],
        ),
    ]
