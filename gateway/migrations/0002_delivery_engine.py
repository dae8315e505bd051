from tortoise import migrations
from tortoise.migrations import operations as ops
from gateway.database import InstantField, JsonField
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    dependencies = [('gateway', '0001_initial')]

    initial = False

    operations = [
        ops.CreateModel(
            name='ChannelReport',
            fields=[
                ('channel', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=32)),
                ('node_id', fields.BigIntField()),
                ('at', InstantField()),
                ('data', JsonField(default=dict, generated=False, null=False, unique=False)),
                ('lost', fields.IntField(default=0)),
            ],
            options={'table': 'channel_reports', 'app': 'gateway', 'pk_attr': 'channel', 'table_description': "What a channel's owner last said of its connections, for every process's page."},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='Chunk',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('broadcast_id', fields.BigIntField(db_index=True)),
                ('channel', fields.CharField(max_length=32)),
                ('priority', fields.IntField()),
                ('first_id', fields.BigIntField()),
                ('last_id', fields.BigIntField()),
                ('people', fields.IntField()),
                ('canary', fields.BooleanField(default=False)),
                ('state', fields.CharField(max_length=16)),
                ('due_at', InstantField()),
                ('journalled_to', fields.BigIntField()),
                ('journalled_at', InstantField(null=True)),
                ('node_id', fields.BigIntField(null=True)),
                ('epoch', fields.BigIntField(default=0)),
            ],
            options={'table': 'chunks', 'app': 'gateway', 'indexes': [Index(fields=['channel', 'state', 'priority', 'id'])], 'pk_attr': 'id', 'table_description': 'Recipients of one broadcast on one channel, `first_id` to `last_id`, leased and'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='LeaseRow',
            fields=[
                ('name', fields.CharField(primary_key=True, unique=True, db_index=True, max_length=64)),
                ('node_id', fields.BigIntField(null=True)),
                ('epoch', fields.BigIntField(default=0)),
                ('taken_at', InstantField(null=True)),
                ('until', InstantField(null=True)),
            ],
            options={'table': 'leases', 'app': 'gateway', 'pk_attr': 'name', 'table_description': "Who owns what only one process may do: a channel's account, the scheduler."},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='Part',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('channel', fields.CharField(max_length=32)),
                ('provider_id', fields.CharField(max_length=254)),
                ('outbound_id', fields.BigIntField(db_index=True)),
                ('number', fields.IntField()),
                ('of_all', fields.IntField()),
                ('state', fields.CharField(default='accepted', max_length=16)),
                ('code', fields.CharField(default='', max_length=64)),
            ],
            options={'table': 'parts', 'app': 'gateway', 'indexes': [Index(fields=['channel', 'provider_id'])], 'pk_attr': 'id', 'table_description': 'One part of a long message, as its provider knows it.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='Tally',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('broadcast_id', fields.BigIntField()),
                ('slot', fields.BigIntField()),
                ('state', fields.CharField(max_length=16)),
                ('n', fields.BigIntField()),
            ],
            options={'table': 'tallies', 'app': 'gateway', 'indexes': [Index(fields=['broadcast_id', 'slot'])], 'pk_attr': 'id', 'table_description': 'How many recipients of a broadcast came into a state (`n` > 0) or left it in one'},
            bases=['Model'],
        ),
        ops.AddField(
            model_name='Node',
            name='name',
            field=fields.CharField(default='', max_length=80),
        ),
        ops.AddField(
            model_name='Node',
            name='roles',
            field=fields.CharField(default='', max_length=80),
        ),
        ops.AddField(
            model_name='Node',
            name='version',
            field=fields.CharField(default='', max_length=20),
        ),
        ops.AddField(
            model_name='Node',
            name='report',
            field=JsonField(generated=False, null=True, unique=False),
        ),
        ops.RemoveIndex(
            model_name='Outbound',
            name=None,
            fields=['channel', 'state', 'due_at'],
        ),
        ops.RemoveIndex(
            model_name='Outbound',
            name=None,
            fields=['broadcast_id', 'state'],
        ),
        ops.RemoveIndex(
            model_name='Outbound',
            name=None,
            fields=['channel', 'provider_id'],
        ),
        ops.AlterField(
            model_name='Outbound',
            name='inquiry_id',
            field=fields.BigIntField(null=True),
        ),
        ops.RemoveIndex(
            model_name='Receipt',
            name=None,
            fields=['channel', 'provider_id'],
        ),
        ops.RemoveIndex(
            model_name='Receipt',
            name=None,
            fields=['channel', 'reference'],
        ),
        ops.AddField(
            model_name='Receipt',
            name='kind',
            field=fields.CharField(default='', max_length=16),
        ),
        ops.AddField(
            model_name='Receipt',
            name='value',
            field=fields.CharField(default='', max_length=254),
        ),
        ops.AddField(
            model_name='Inquiry',
            name='worked_at',
            field=InstantField(null=True),
        ),
        ops.RemoveIndex(model_name='Inquiry', name=None, fields=['organisation_id']),
        ops.RemoveIndex(model_name='Inquiry', name=None, fields=['owner_id']),
        ops.RemoveIndex(
            model_name='Inquiry', name=None, fields=['state', 'deadline_at']
        ),
        ops.AddIndex(
            model_name='Inquiry',
            index=Index(fields=['organisation_id', 'state', 'deadline_at']),
        ),
        ops.AddIndex(model_name='Member', index=Index(fields=['name'])),
        ops.RemoveIndex(model_name='Inbound', name=None, fields=['state']),
        # What waits, and what is open, is little of all that ever came.
        ops.RunSQL(
            [
                "CREATE INDEX inbound_stored ON inbound (id) WHERE state = 'stored'",
                "CREATE INDEX inbound_review ON inbound (id) WHERE state = 'review'",
                "UPDATE inquiries SET worked_at = (SELECT MAX(e.at) FROM "
                "inquiry_events e WHERE e.inquiry_id = inquiries.id "
                "AND e.staff_id IS NOT NULL)",
                "CREATE INDEX inquiries_unread ON inquiries (changed_at, id) WHERE "
                "(attention <> '' OR (state IN ('new', 'open') AND "
                "COALESCE(worked_at, 0) < COALESCE(last_inbound_at, received_at)))",
                "CREATE INDEX inquiries_due ON inquiries (deadline_at, id DESC, state) "
                "WHERE state <> 'closed'",
                "CREATE INDEX inquiries_owner ON inquiries (owner_id, state, "
                "deadline_at) WHERE state <> 'closed'",
                "CREATE INDEX inquiries_attention ON inquiries (changed_at) "
                "WHERE attention <> ''",
                "CREATE INDEX inquiries_handed_on ON inquiries (first_organisation_id) "
                "WHERE first_organisation_id <> organisation_id",
            ]
        ),
        # Every index costs each of 2.5 million rows, and one on a column that all rows
        # change costs twice. So each holds only the rows that its query looks for.
        ops.RunSQL(
            [
                "CREATE INDEX outbox_queued ON outbox (channel, priority, due_at) "
                "WHERE state = 'queued'",
                "CREATE INDEX outbox_open_address ON outbox (kind, value) "
                "WHERE state IN ('queued', 'sending')",
                "CREATE UNIQUE INDEX outbox_recipient ON outbox "
                "(broadcast_id, value, kind) WHERE broadcast_id IS NOT NULL",
                "CREATE INDEX outbox_noteworthy ON outbox (broadcast_id, state) "
                "WHERE broadcast_id IS NOT NULL AND state IN ('queued', 'sending', "
                "'failed', 'dead', 'unknown', 'suppressed', 'expired')",
                "CREATE INDEX outbox_unknown ON outbox (channel, value) "
                "WHERE state = 'unknown'",
                "CREATE INDEX outbox_sending ON outbox (channel) "
                "WHERE state = 'sending'",
                "CREATE INDEX outbox_provider ON outbox (channel, provider_id) "
                "WHERE provider_id <> ''",
                "CREATE INDEX outbox_inquiry ON outbox (inquiry_id) "
                "WHERE inquiry_id IS NOT NULL",
                "CREATE INDEX receipts_waiting ON receipts (channel, provider_id) "
                "WHERE effect = ''",
                "CREATE INDEX receipts_waiting_reference ON receipts "
                "(channel, reference) WHERE effect = '' AND reference <> ''",
                "CREATE INDEX receipts_waiting_address ON receipts (channel, value) "
                "WHERE effect = '' AND value <> ''",
                "INSERT INTO tallies (broadcast_id, slot, state, n) "
                "SELECT broadcast_id, 0, state, COUNT(*) FROM outbox "
                "WHERE broadcast_id IS NOT NULL GROUP BY broadcast_id, state",
            ]
        ),
    ]
