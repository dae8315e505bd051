from tortoise import migrations
from tortoise.migrations import operations as ops
from gateway.database import InstantField, JsonField
from tortoise import fields
from tortoise.indexes import Index

class Migration(migrations.Migration):
    initial = True

    operations = [
        ops.CreateModel(
            name='Attendance',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('broadcast_id', fields.BigIntField()),
                ('member_id', fields.BigIntField(db_index=True)),
                ('at', InstantField()),
                ('staff_id', fields.IntField(null=True)),
            ],
            options={'table': 'attendance', 'app': 'broadcasts', 'unique_together': (('broadcast_id', 'member_id'),), 'pk_attr': 'id', 'table_description': 'A member took part in an activity.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='Broadcast',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('kind', fields.CharField(max_length=16)),
                ('title', fields.CharField(max_length=120)),
                ('organisation_id', fields.IntField(db_index=True)),
                ('state', fields.CharField(max_length=16)),
                ('texts', JsonField(default=dict, generated=False, null=False, unique=False)),
                ('audience', JsonField(default=dict, generated=False, null=False, unique=False)),
                ('rsvp', fields.BooleanField(default=False)),
                ('code', fields.CharField(default='', max_length=8)),
                ('event_at', InstantField(null=True)),
                ('place', fields.CharField(default='', max_length=120)),
                ('send_at', InstantField(null=True)),
                ('expires_at', InstantField(null=True)),
                ('revision', fields.IntField(default=1)),
                ('created_by', fields.CharField(max_length=80)),
                ('created_by_id', fields.IntField(null=True)),
                ('edited_by', fields.CharField(default='', max_length=80)),
                ('edited_by_id', fields.IntField(null=True)),
                ('submitted_by', fields.CharField(default='', max_length=80)),
                ('submitted_by_id', fields.IntField(null=True)),
                ('approved_by', fields.CharField(default='', max_length=80)),
                ('approved_by_id', fields.IntField(null=True)),
                ('approved_at', InstantField(null=True)),
                ('approved_hash', fields.CharField(default='', max_length=64)),
                ('approved_people', fields.IntField(default=0)),
                ('exclude_bad', fields.BooleanField(default=False)),
                ('content_id', fields.BigIntField(null=True)),
                ('entry_id', fields.BigIntField(null=True)),
                ('planned', fields.IntField(default=0)),
                ('left_out', JsonField(default=list, generated=False, null=False, unique=False)),
                ('note', fields.TextField(default='', unique=False)),
                ('created_at', InstantField()),
                ('changed_at', InstantField()),
                ('started_at', InstantField(null=True)),
                ('finished_at', InstantField(null=True)),
            ],
            options={'table': 'broadcasts', 'app': 'broadcasts', 'indexes': [Index(fields=['state', 'send_at'])], 'pk_attr': 'id', 'table_description': 'One approved content to one frozen audience in one run.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='DailyItem',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('entry_id', fields.BigIntField()),
                ('position', fields.BigIntField()),
                ('state', fields.CharField(default='queued', max_length=16)),
                ('pushed_on', fields.CharField(default='', max_length=10)),
                ('broadcast_id', fields.BigIntField(null=True)),
            ],
            options={'table': 'daily_items', 'app': 'broadcasts', 'indexes': [Index(fields=['state', 'position'])], 'pk_attr': 'id', 'table_description': 'An entry in the queue of the daily Q&A, and when it was pushed.'},
            bases=['Model'],
        ),
        ops.CreateModel(
            name='Instant',
            fields=[
                ('id', fields.BigIntField(generated=True, primary_key=True, unique=True, db_index=True)),
                ('schedule', fields.CharField(max_length=40)),
                ('instant', InstantField()),
                ('fired_at', InstantField()),
                ('result', fields.CharField(default='', max_length=40)),
            ],
            options={'table': 'instants', 'app': 'broadcasts', 'unique_together': (('schedule', 'instant'),), 'pk_attr': 'id', 'table_description': 'A scheduled instant that has fired: unique, so that it fires once.'},
            bases=['Model'],
        ),
    ]
