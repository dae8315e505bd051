from tortoise import migrations
from tortoise.migrations import operations as ops
from gateway.database import InstantField, JsonField
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('gateway', '0003_leaner_indexes')]

    initial = False

    operations = [
        ops.CreateModel(
            name='Erasure',
            fields=[
                ('member_id', fields.BigIntField(generated=False, primary_key=True, unique=True, db_index=True)),
                ('at', InstantField()),
                ('under_way', JsonField(default=list, generated=False, null=False, unique=False)),
            ],
            options={'table': 'erasures', 'app': 'gateway', 'pk_attr': 'member_id', 'table_description': 'A member who was erased: the row in `members` is gone, this id is all that is'},
            bases=['Model'],
        ),
        ops.RunSQL(
            [
                # What was said outside of notices and inquiries, when somebody is
                # erased. Nearly all of it answers a message; in the order in which
                # messages come, an index costs those least.
                "CREATE INDEX outbox_reply ON outbox (inbound_id) "
                "WHERE inbound_id IS NOT NULL AND inquiry_id IS NULL",
                "CREATE INDEX outbox_single ON outbox (kind, value) "
                "WHERE broadcast_id IS NULL AND inquiry_id IS NULL "
                "AND inbound_id IS NULL",
            ]
        ),
    ]
