from tortoise import migrations
from tortoise.migrations import operations as ops
from gateway.database import InstantField
from tortoise import fields

class Migration(migrations.Migration):
    dependencies = [('gateway', '0004_erasures')]

    initial = False

    operations = [
        ops.CreateModel(
            name='QueryRow',
            fields=[
                ('outbound_id', fields.BigIntField(generated=False, primary_key=True, unique=True, db_index=True)),
                ('attempt', fields.IntField()),
                ('asked', fields.IntField()),
                ('asked_at', InstantField(null=True)),
                ('next_at', InstantField()),
                ('answer', fields.CharField(default='', max_length=64)),
            ],
            options={'table': 'queries', 'app': 'gateway', 'pk_attr': 'outbound_id', 'table_description': 'How often a provider was asked what became of one attempt at a message of'},
            bases=['Model'],
        ),
    ]
