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
                # What was said outside of notices and inquiries is found by its
                # address when somebody is erased; neither of those pays for it.
                "CREATE INDEX outbox_single ON outbox (kind, value) "
                "WHERE broadcast_id IS NULL AND inquiry_id IS NULL",
            ]
        ),
    ]
